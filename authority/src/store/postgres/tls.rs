//! TLS for the connection to PostgreSQL, and what binds a password to it.

use std::error::Error;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use const_oid::ObjectIdentifier;
use const_oid::db::{rfc5912, rfc8410};
use der::asn1::{AnyRef, ContextSpecific};
use der::{Decode, SliceReader, TagNumber};
use host::bounded;
use rustls::ClientConfig;
use rustls::client::ResolvesClientCert;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sha2::{Digest, Sha256, Sha384, Sha512};
use spki::AlgorithmIdentifierRef;
use tls::{Roots, ServerTrust};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{self as hook, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use x509_cert::Certificate;
use zeroize::Zeroizing;

use crate::config::{ChannelBinding, PostgresIdentity, PostgresTls};

/// Bytes of a file with certificates, or a key.
const MAX_FILE: u64 = 256 * 1024;

/// Permissions that the file of a secret must not have: a group may read it.
const FORBIDDEN_MODE: u32 = 0o026;

type BoxedError = Box<dyn Error + Send + Sync>;

/// Why a server is not spoken to, however often that is tried.
#[derive(Debug)]
pub(super) struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Refused {}

impl Refused {
    fn boxed(cause: impl fmt::Display) -> BoxedError {
        Box::new(Self(cause.to_string()))
    }
}

/// The server's fault if it is one of TLS, or else the connection's.
fn handshake_failed(error: io::Error) -> BoxedError {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(cause) => Refused::boxed(cause),
        None => Box::new(error),
    }
}

/// Makes TLS connections to servers that prove the name they are reached by.
#[derive(Clone)]
pub(super) struct Connector {
    config: Arc<ClientConfig>,
    binding: ChannelBinding,
}

impl Connector {
    /// Reads the files, which may be others than at the last connection.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub(super) fn new(settings: &PostgresTls) -> Result<Self, String> {
        let ca_file = settings.ca_file.display();
        let cas = certificates(&settings.ca_file)?;
        let roots = Roots::new(cas);
        if roots.is_empty() {
            return Err(format!("{ca_file} has no CA certificate"));
        }
        let identity = settings.identity.as_ref().map(identity).transpose()?;
        let config = tls::client_config(&ServerTrust::PublicCas(roots), identity);
        let mut config = ClientConfig::clone(&*config.map_err(|cause| cause.to_string())?);
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self { config: Arc::new(config), binding: settings.channel_binding })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unusable = |cause: &dyn fmt::Display| format!("{}: {cause}", path.display());
    let file = bounded::open_regular(path).map_err(|cause| unusable(&cause))?;
    let pem = bounded::read(file, MAX_FILE).map_err(|cause| unusable(&cause))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    all.map_err(|cause| unusable(&cause))
}

fn identity(files: &PostgresIdentity) -> Result<Arc<dyn ResolvesClientCert>, String> {
    let path = &files.key_file;
    let unusable = |cause: &dyn fmt::Display| format!("{}: {cause}", path.display());
    let chain = certificates(&files.certificate_file)?;
    if chain.is_empty() {
        return Err(format!("{} has no certificate", files.certificate_file.display()));
    }
    let pem = secret(path)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|cause| unusable(&cause))?;
    let key = tls::software_key(key).map_err(|cause| unusable(&cause))?;
    let identity = tls::identity(chain, key).map_err(|_| {
        unusable(&format_args!("it is not the key of {}", files.certificate_file.display()))
    })?;
    Ok(identity)
}

/// Reads a file with a secret; refuses one that all users can read.
pub(super) fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let unusable = |cause: io::Error| format!("{}: {cause}", path.display());
    let file = bounded::open_regular(path).map_err(unusable)?;
    let mode = file.metadata().map_err(unusable)?.mode();
    if mode & FORBIDDEN_MODE != 0 {
        let mode = mode & 0o7777;
        return Err(format!(
            "other users may read or change {} (mode {mode:o}): chmod it to 0600",
            path.display()
        ));
    }
    bounded::read(file, MAX_FILE).map(Zeroizing::new).map_err(unusable)
}

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = BoxedError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, BoxedError> {
        let name = ServerName::try_from(host.to_owned()).map_err(Refused::boxed)?;
        Ok(Handshake { connector: self.clone(), name })
    }
}

/// A handshake to come, with the server of this name.
pub(super) struct Handshake {
    connector: Connector,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = BoxedError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxedError>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        let Self { connector: Connector { config, binding }, name } = self;
        Box::pin(async move {
            let stream = TlsConnector::from(config).connect(name, stream).await;
            let stream = stream.map_err(handshake_failed)?;
            let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let end_point = match (binding, leaf.map(|leaf| server_end_point(leaf))) {
                (ChannelBinding::Disable, _) => None,
                (ChannelBinding::Prefer, end_point) => end_point.and_then(Result::ok),
                (ChannelBinding::Require, end_point) => {
                    let end_point = end_point.ok_or("the server has no certificate")?;
                    Some(end_point.map_err(Refused::boxed)?)
                }
            };
            Ok(Stream { stream, end_point })
        })
    }
}

/// The channel binding `tls-server-end-point` of a server's certificate, RFC 5929 section 4.1: its hash, by the hash function of the
/// certificate's signature.
///
/// # Errors
/// The signature has no such hash function.
fn server_end_point(leaf: &[u8]) -> Result<Vec<u8>, String> {
    let certificate = Certificate::from_der(leaf).map_err(|cause| cause.to_string())?;
    let algorithm = certificate.signature_algorithm();
    let parameters = algorithm.parameters.as_ref().map(AnyRef::from);
    let hash = match algorithm.oid {
        rfc5912::ID_RSASSA_PSS => pss_hash(parameters).map_err(|cause| cause.to_string())?,
        oid => oid,
    };
    match hash {
        // SHA-256 would also stand for MD5 and SHA-1, which the chain was refused for.
        rfc5912::SHA_256_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_256
        | rfc5912::ID_SHA_256 => Ok(Sha256::digest(leaf).to_vec()),
        rfc5912::SHA_384_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_384
        | rfc5912::ID_SHA_384 => Ok(Sha384::digest(leaf).to_vec()),
        rfc5912::SHA_512_WITH_RSA_ENCRYPTION
        | rfc5912::ECDSA_WITH_SHA_512
        | rfc5912::ID_SHA_512 => Ok(Sha512::digest(leaf).to_vec()),
        rfc8410::ID_ED_25519 => Err("channel binding is not defined for the server's certificate, which has an Ed25519 signature: give \
             the server one that is signed with ECDSA or RSA, or set `store.channel_binding: prefer`"
            .to_owned()),
        other => Err(format!("channel binding is not defined for the signature {other} of the server's certificate")),
    }
}

/// The `hashAlgorithm` of RSASSA-PSS-params, RFC 4055 section 3.1.
fn pss_hash(parameters: Option<AnyRef<'_>>) -> der::Result<ObjectIdentifier> {
    let Some(parameters) = parameters else { return Ok(rfc5912::ID_SHA_1) };
    let mut fields = SliceReader::new(parameters.value())?;
    let hash: Option<ContextSpecific<AlgorithmIdentifierRef<'_>>> =
        ContextSpecific::decode_explicit(&mut fields, TagNumber(0))?;
    Ok(hash.map_or(rfc5912::ID_SHA_1, |hash| hash.value.oid))
}

/// A connection to a server that has proven its name.
pub(super) struct Stream {
    stream: tokio_rustls::client::TlsStream<Socket>,
    end_point: Option<Vec<u8>>,
}

impl TlsStream for Stream {
    fn channel_binding(&self) -> hook::ChannelBinding {
        match &self.end_point {
            Some(hash) => hook::ChannelBinding::tls_server_end_point(hash.clone()),
            None => hook::ChannelBinding::none(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
