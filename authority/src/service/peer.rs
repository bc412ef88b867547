//! The peer of a connection, as the transport knows it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use rustls_pki_types::CertificateDer;

use super::Source;
use super::allowance::Allowance;

/// The limits of the transport on joins.
pub(crate) trait JoinSlots: Send + Sync {
    /// Counts a join as in progress until the value is dropped; `None` if there are too many.
    fn begin_join(&self) -> Option<Box<dyn Send>>;
}

/// The other end of a connection.
#[derive(Clone)]
pub struct Peer {
    /// Its address.
    pub(crate) remote: SocketAddr,
    /// The certificate that it proved in the TLS handshake.
    pub(crate) certificate: Option<Arc<CertificateDer<'static>>>,
    /// Certificates that it presented above that one. They were not verified.
    pub(crate) above_leaf: usize,
    /// A value that only the two ends of this connection can compute.
    pub(crate) exporter: [u8; 32],
    /// The generation of the last renewal that was granted on this connection; 0 before any.
    pub(crate) renewed: Arc<AtomicU64>,
    /// What this connection may still cost, unless the peer has proven a certificate.
    pub(crate) allowance: Allowance,
    pub(crate) join_slots: Arc<dyn JoinSlots>,
}

impl Peer {
    /// A peer of no connection, with the certificate that it is to have proven.
    pub fn unlimited(remote: SocketAddr, certificate: Option<CertificateDer<'static>>) -> Self {
        Self {
            remote,
            certificate: certificate.map(Arc::new),
            above_leaf: 0,
            exporter: [0; 32],
            renewed: Arc::default(),
            allowance: Allowance::unlimited(),
            join_slots: Arc::new(Unlimited),
        }
    }

    /// The source that limits and counts refer to.
    pub(crate) fn source(&self) -> Source {
        Source::of(self.remote.ip())
    }
}

/// The limits of a transport that has none.
struct Unlimited;

impl JoinSlots for Unlimited {
    fn begin_join(&self) -> Option<Box<dyn Send>> {
        Some(Box::new(()))
    }
}
