//! rustls configurations, ready to use: TLS 1.3, HTTP/2, every connection a full handshake.

use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, DnsName, ServerName};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::time_provider::DefaultTimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ConnectionCommon, NamedGroup, ServerConfig};

use crate::application::Application;
use crate::direct::DirectClientVerifier;
use crate::error::ConfigError;
use crate::provider::provider;
use crate::trust::{ServerTrust, roots};

/// The DNS name that only the authority's own certificate has.
///
/// Clients verify this name, whatever address they connect to. So addresses may be IP addresses, and a bot's certificate, though
/// issued by the same CA, is not accepted as the authority's.
pub const AUTHORITY_NAME: &str = "authority.endorse.internal";

/// [`AUTHORITY_NAME`] as rustls wants it.
#[expect(clippy::expect_used, reason = "of a constant")]
pub fn authority_name() -> ServerName<'static> {
    ServerName::DnsName(DnsName::try_from_str(AUTHORITY_NAME).expect("a DNS name"))
}

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
    config.alpn_protocols = vec![Application::HTTP2_ID.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// The authority's side.
///
/// It agrees on any [`Application`]. Clients need no certificate, but one that is presented must come from `client_cas`: a host that
/// joins has none yet. No session tickets, so that a locked host cannot resume.
pub fn server_config(
    resolver: Arc<dyn ResolvesServerCert>,
    client_cas: &[CertificateDer<'_>],
) -> Result<Arc<ServerConfig>, ConfigError> {
    let (roots, provider) = (Arc::new(roots(client_cas)?), server_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(DefaultTimeProvider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(DirectClientVerifier(clients)))
        .with_cert_resolver(resolver);
    config.alpn_protocols = Application::served();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// The side of a server that answers anyone over HTTP/1.1, and asks for no certificate.
pub fn web_server_config(
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, ConfigError> {
    let time = Arc::new(DefaultTimeProvider);
    let mut config = ServerConfig::builder_with_details(server_provider(), time)
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![Application::HTTP1_ID.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// The cryptography of the authority's side: without key exchange on P-384, which costs five times as much as on the other
/// curves and would be computed for any peer.
fn server_provider() -> Arc<CryptoProvider> {
    let mut provider = CryptoProvider::clone(&provider());
    provider.kx_groups.retain(|group| group.name() != NamedGroup::secp384r1);
    Arc::new(provider)
}

/// What CAs sign of a document of the trust chain.
#[must_use]
pub fn trust_document_message(document: &[u8]) -> Vec<u8> {
    [b"endorse.v1 trust document", document].concat()
}

/// The label of the exporter that binds a join to its connection, RFC 8446 section 7.5.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-endorse-join-v1";

/// The TLS exporter of this connection, which only its two ends can compute.
///
/// Fails until the handshake is complete.
pub fn join_exporter<Side>(connection: &ConnectionCommon<Side>) -> Result<[u8; 32], rustls::Error> {
    connection.export_keying_material([0; 32], EXPORTER_LABEL, None)
}
