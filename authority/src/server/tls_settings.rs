//! TLS settings of the public socket, for the CAs that are trusted now.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use tracing::error;

use super::leaf::{Leaf, Server};
use crate::issue::Keys;
use crate::service::{Authority, Workers};

/// The settings of TLS, created again when the CAs change.
pub struct TlsSettings {
    authority: Arc<Authority>,
    leaf: Arc<Leaf>,
    current: Mutex<(Arc<Keys>, Arc<ServerConfig>)>,
}

impl TlsSettings {
    /// Those of this authority.
    ///
    /// # Errors
    /// Its own certificate cannot be issued, or one of its CAs cannot be trusted.
    pub fn new(authority: Arc<Authority>) -> Result<Arc<Self>, rustls::Error> {
        let leaf = Leaf::new(Arc::clone(&authority), Server::Hosts)?;
        let keys = authority.issuer.keyring().keys();
        let current = Mutex::new((Arc::clone(&keys), config(&leaf, &keys)?));
        Ok(Arc::new(Self { authority, leaf, current }))
    }

    /// The threads for computing handshakes.
    pub(super) fn workers(&self) -> Workers {
        self.authority.workers.clone()
    }

    /// The settings for a new connection.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        let keys = self.authority.issuer.keyring().keys();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current.0, &keys) {
            match config(&self.leaf, &keys) {
                Ok(config) => *current = (keys, config),
                Err(cause) => {
                    error!(%cause, "cannot apply the changed CA keys to TLS: the previous ones stay in use")
                }
            }
        }
        Arc::clone(&current.1)
    }
}

fn config(leaf: &Arc<Leaf>, keys: &Keys) -> Result<Arc<ServerConfig>, rustls::Error> {
    let trusted: Vec<_> = keys.x509.trusted().map(|ca| ca.certificate().clone()).collect();
    let leaf = Arc::<Leaf>::clone(leaf);
    tls::server_config(leaf, &trusted).map_err(|cause| rustls::Error::General(cause.to_string()))
}
