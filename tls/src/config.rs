//! rustls configurations, ready to use: TLS 1.3, HTTP/2, every connection a full handshake.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption, VerifierBuilderError};
use rustls::pki_types::{CertificateDer, DnsName, ServerName};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::time_provider::DefaultTimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ConnectionCommon, RootCertStore, ServerConfig};

use crate::direct::DirectClientVerifier;
use crate::provider::provider;
use crate::trust::ServerTrust;

/// The DNS name in the authority's own certificate, and in nobody else's.
///
/// Clients verify this name whatever address they dialled. So an IP address will do, and a bot's
/// certificate, though of the same CA, never passes for the authority's.
pub const AUTHORITY_NAME: &str = "authority.endorse.internal";

/// [`AUTHORITY_NAME`] as rustls wants it.
#[expect(clippy::expect_used, reason = "of a constant")]
pub fn authority_name() -> ServerName<'static> {
    ServerName::DnsName(DnsName::try_from_str(AUTHORITY_NAME).expect("a DNS name"))
}

/// RFC 9113 section 3.2.
const ALPN_HTTP2: &[u8] = b"h2";

/// A certificate chain, leaf first, with its key: an identity for either configuration.
///
/// Refuses a key that is not the leaf's.
pub fn identity(
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
) -> Result<Arc<SingleCertAndKey>, rustls::Error> {
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match()?;
    Ok(Arc::new(SingleCertAndKey::from(certified)))
}

/// A client of the authority; with an identity it authenticates itself when asked to.
pub fn client_config(
    trust: &ServerTrust,
    identity: Option<Arc<dyn ResolvesClientCert>>,
) -> Result<Arc<ClientConfig>, ConfigError> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(DefaultTimeProvider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(trust.verifier()?);
    let mut config = match identity {
        Some(resolver) => builder.with_client_cert_resolver(resolver),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The authority's side.
///
/// Clients need no certificate, but one that is presented must come from `client_cas`: a host that
/// joins has none yet. No session tickets, so that whoever is locked out stays out.
pub fn server_config(
    resolver: Arc<dyn ResolvesServerCert>,
    client_cas: &[CertificateDer<'_>],
) -> Result<Arc<ServerConfig>, ConfigError> {
    let roots = Arc::new(roots(client_cas)?);
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(DefaultTimeProvider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(DirectClientVerifier(clients)))
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

pub(crate) fn roots(certificates: &[CertificateDer<'_>]) -> Result<RootCertStore, ConfigError> {
    if certificates.is_empty() {
        return Err(ConfigError::NoTrust);
    }
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates.iter().enumerate() {
        roots
            .add(certificate.clone())
            .map_err(|error| ConfigError::Certificate { index, error })?;
    }
    Ok(roots)
}

/// The label of the exporter that binds a join to its connection, RFC 8446 section 7.5.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-endorse-join-v1";

/// What both ends of this connection, and nobody else, can compute about it.
///
/// Fails until the handshake is complete.
pub fn join_exporter<Side>(connection: &ConnectionCommon<Side>) -> Result<[u8; 32], rustls::Error> {
    connection.export_keying_material([0; 32], EXPORTER_LABEL, None)
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// Neither a CA certificate nor a pin was given: nobody would be trusted.
    NoTrust,
    /// A CA certificate cannot be read.
    Certificate {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        error: rustls::Error,
    },
    /// rustls does not accept the CA certificates.
    Verifier(VerifierBuilderError),
    /// rustls does not accept the rest.
    Tls(rustls::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTrust => f.write_str("no CA certificate and no CA pin: nobody to trust"),
            Self::Certificate { index, .. } => {
                write!(f, "CA certificate {} cannot be read", index + 1)
            }
            Self::Verifier(_) => f.write_str("the CA certificates cannot be used"),
            Self::Tls(_) => f.write_str("the TLS configuration cannot be used"),
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoTrust => None,
            Self::Certificate { error, .. } | Self::Tls(error) => Some(error),
            Self::Verifier(error) => Some(error),
        }
    }
}

impl From<VerifierBuilderError> for ConfigError {
    fn from(error: VerifierBuilderError) -> Self {
        Self::Verifier(error)
    }
}

impl From<rustls::Error> for ConfigError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}
