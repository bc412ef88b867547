//! How a server is reached: the name that it has to prove, the protocols that it is offered, and the identity that it is shown.

use std::sync::Arc;

use host::exit::Failure;
use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use tls::ServerTrust;

/// A way to a server, whatever its address.
#[derive(Clone, Debug)]
pub struct Route {
    /// The name of the server: requested by SNI, and required in its certificate.
    pub(super) name: ServerName<'static>,
    /// What the server is verified with, the client's identity, and the protocols of ALPN.
    pub(super) config: Arc<ClientConfig>,
}

impl Route {
    /// To an authority under its internal name, whatever its address is. With an identity, the host authenticates itself.
    ///
    /// # Errors
    /// Nothing to trust.
    pub fn to_authority(
        trust: &ServerTrust,
        identity: Option<Arc<dyn ResolvesClientCert>>,
    ) -> Result<Self, Failure> {
        let config = tls::client_config(trust, identity).map_err(Failure::bug)?;
        Ok(Self { name: tls::authority_name(), config })
    }
}
