//! How a server is reached: the name that it has to prove, the protocols that it is offered, and the identity that it is shown.

use std::sync::Arc;

use host::exit::{Exit, Failure};
use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::ServerName;
use tls::{Roots, ServerTrust};

/// A way to a server, whatever its address.
#[derive(Clone, Debug)]
pub struct Route {
    /// The name of the server: requested by SNI, and required in its certificate.
    pub(super) name: ServerName<'static>,
    pub(super) naming: Naming,
    /// What the server is verified with, the client's identity, and the protocols of ALPN.
    pub(super) config: Arc<ClientConfig>,
}

/// Whose name a server has to prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// One that all servers of a cluster have, and only they.
    Internal,
    /// That of its address.
    Public,
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
        Ok(Self { name: tls::authority_name(), naming: Naming::Internal, config })
    }

    /// To a server under the name or the IP address in HOST:PORT, verified by public CAs.
    ///
    /// # Errors
    /// There is no such name.
    pub fn to_public_name(address: &str, roots: &Roots) -> Result<Self, Failure> {
        let config = tls::client_config(&ServerTrust::PublicCas(roots.clone()), None);
        let config = config.map_err(Failure::bug)?;
        Ok(Self { name: public_name(address)?, naming: Naming::Public, config })
    }
}

/// The name that a certificate of the server at HOST:PORT has: without the dot at the end, RFC 6066 section 3.
fn public_name(address: &str) -> Result<ServerName<'static>, Failure> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|_| {
        Failure::new(
            Exit::Config,
            format!("no certificate can have the name {host:?}"),
            "write the name in the server's certificate, or configure `ca_pins`",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_name_is_the_host_of_the_address() {
        for (address, name) in [
            ("endorse.example.com:443", "endorse.example.com"),
            ("endorse.example.com.:443", "endorse.example.com"),
            ("192.0.2.1:3080", "192.0.2.1"),
            ("[2001:db8::1]:3080", "2001:db8::1"),
        ] {
            assert_eq!(public_name(address).unwrap().to_str(), name);
        }
        assert_eq!(public_name("a..b:443").unwrap_err().exit, Exit::Config);
    }
}
