//! How a client authenticates a server: by CA certificates, by pins of their keys, or by the public CAs for a public name.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name,
};
use rustls::pki_types::{
    CertificateDer, ServerName, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};
use webpki::RawPublicKeyEntity;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use crate::direct::{DirectServerVerifier, check_count, tls13_signatures, within_count};
use crate::error::ConfigError;
use crate::pin::CaPin;
use crate::provider::{ALGORITHMS, provider};
use crate::public::{PublicName, Roots};

/// How a server's certificate is verified.
///
/// In all cases but the last the leaf must be valid now, for server authentication, and have the requested name:
/// [`AUTHORITY_NAME`](crate::AUTHORITY_NAME), or the one that was connected to if the CAs are public.
#[derive(Clone, Debug)]
pub enum ServerTrust {
    /// It was issued by one of these CA certificates.
    Certificates(Vec<CertificateDer<'static>>),
    /// It was issued by a self-signed CA certificate with one of these keys, which the server presents.
    Pins(Vec<CaPin>),
    /// It was issued under one of these CAs, which issue to anybody who has a name.
    PublicCas(Roots),
    /// It has this name and is valid now, whoever issued it. For a connection inside of another one that is authenticated:
    /// this distinguishes the wanted server from others behind the same load balancer, and authenticates none.
    InsideTls(ServerName<'static>),
    /// It is not: the server has its key, and nothing else is known of it. For answers that are authenticated otherwise, as CA
    /// certificates are by their pins.
    Unverified,
}

impl ServerTrust {
    pub(crate) fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, ConfigError> {
        match self {
            Self::Certificates(certificates) => {
                let roots = Arc::new(roots(certificates)?);
                let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider());
                Ok(Arc::new(DirectServerVerifier(verifier.build()?)))
            }
            Self::Pins(pins) if pins.is_empty() => Err(ConfigError::NoTrust),
            Self::Pins(pins) => Ok(Arc::new(PinnedCa { pins: pins.clone() })),
            Self::PublicCas(roots) if roots.is_empty() => Err(ConfigError::NoTrust),
            Self::PublicCas(roots) => Ok(Arc::new(PublicName(roots.clone()))),
            Self::InsideTls(name) => Ok(Arc::new(Inside { name: name.clone() })),
            Self::Unverified => Ok(Arc::new(AnyServer)),
        }
    }
}

#[derive(Debug)]
struct PinnedCa {
    pins: Vec<CaPin>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = ParsedCertificate::try_from(end_entity)?;
        // The error names the CAs of another server, even if it presents too many.
        let ca = self.pinned(within_count(intermediates))?;
        check_count(intermediates)?;
        check_root(ca, now)?;
        let mut anchor = RootCertStore::empty();
        anchor.add(ca.clone().into_owned())?;
        verify_server_cert_signed_by_trust_anchor(&leaf, &anchor, &[], now, ALGORITHMS.all)?;
        verify_server_name(&leaf, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    tls13_signatures!();
}

/// Verifies no issuer.
#[derive(Debug)]
struct Inside {
    name: ServerName<'static>,
}

impl ServerCertVerifier for Inside {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let certificate =
            Certificate::from_der(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        check_dates(&certificate, now)?;
        verify_server_name(&leaf, &self.name)?;
        Ok(ServerCertVerified::assertion())
    }

    tls13_signatures!();
}

/// A server with any certificate whose key it has.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    tls13_signatures!();
}

impl PinnedCa {
    /// The first certificate above the leaf with a pinned key. If it has another fault, the search does not continue.
    fn pinned<'c, 'd>(
        &self,
        presented: &'c [CertificateDer<'d>],
    ) -> Result<&'c CertificateDer<'d>, Error> {
        let mut found = Vec::new();
        for certificate in presented {
            match CaPin::of_certificate(certificate) {
                Ok(pin) if self.pins.contains(&pin) => return Ok(certificate),
                Ok(pin) => found.push(pin),
                Err(_) => return Err(CertificateError::BadEncoding.into()),
            }
        }
        Err(refusal(PinError::NotPinned { presented: found }))
    }
}

/// A pin identifies a key, not the certificate that contains it. So the certificate must be self-signed; otherwise a peer could
/// remove its name constraints and extend its lifetime.
fn check_root(der: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    // Refuses critical extensions that it does not know.
    let public_key = ParsedCertificate::try_from(der)?.subject_public_key_info();
    let certificate = Certificate::from_der(der).map_err(|_| CertificateError::BadEncoding)?;
    if !is_ca(&certificate).map_err(|_| CertificateError::BadEncoding)? {
        return Err(refusal(PinError::NotCa));
    }
    if !is_self_signed(&certificate, &public_key) {
        return Err(refusal(PinError::NotSelfSigned));
    }
    check_dates(&certificate, now)
}

fn check_dates(certificate: &Certificate, now: UnixTime) -> Result<(), Error> {
    let validity = certificate.tbs_certificate().validity();
    if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// RFC 5280 sections 4.2.1.9 and 4.2.1.3.
fn is_ca(certificate: &Certificate) -> Result<bool, x509_cert::der::Error> {
    let tbs = certificate.tbs_certificate();
    let basic = tbs.get_extension::<BasicConstraints>()?;
    let usage = tbs.get_extension::<KeyUsage>()?;
    Ok(basic.is_some_and(|(_, basic)| basic.ca)
        && usage.is_none_or(|(_, usage)| usage.key_cert_sign()))
}

fn is_self_signed(certificate: &Certificate, public_key: &SubjectPublicKeyInfoDer<'_>) -> bool {
    let (Ok(key), Ok(message), Some(signature)) = (
        RawPublicKeyEntity::try_from(public_key),
        certificate.tbs_certificate().to_der(),
        certificate.signature().as_bytes(),
    ) else {
        return false;
    };
    candidates(certificate)
        .any(|algorithm| key.verify_signature(algorithm, &message, signature).is_ok())
}

/// The algorithms whose identifier is the certificate's; they differ in the kind of key.
fn candidates(
    certificate: &Certificate,
) -> impl Iterator<Item = &'static dyn SignatureVerificationAlgorithm> {
    let identifier = certificate.signature_algorithm().to_der().unwrap_or_default();
    ALGORITHMS.all.iter().copied().filter(move |algorithm| {
        // An `alg_id` is the SEQUENCE without its header, which is short for all of these.
        let value = algorithm.signature_alg_id();
        identifier.strip_suffix(value.as_ref()).is_some_and(|header| header.len() == 2)
    })
}

fn refusal(error: PinError) -> Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// Why a server that does present certificates is not the pinned authority.
#[derive(Debug, PartialEq, Eq)]
pub enum PinError {
    /// No certificate above the leaf has a pinned key.
    NotPinned {
        /// The pins of those that were presented.
        presented: Vec<CaPin>,
    },
    /// The certificate with the pinned key is not that of a CA.
    NotCa,
    /// The certificate with the pinned key is not signed with that key.
    NotSelfSigned,
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPinned { presented } if presented.is_empty() => {
                f.write_str("the server presented no CA certificate to compare with the CA pin")?;
            }
            Self::NotPinned { presented } => {
                f.write_str("the server presented another CA than the pinned one: ")?;
                for (index, pin) in presented.iter().enumerate() {
                    write!(f, "{}{pin}", if index == 0 { "" } else { ", " })?;
                }
            }
            Self::NotCa => {
                f.write_str("the certificate with the pinned key is not a CA certificate")?
            }
            Self::NotSelfSigned => {
                f.write_str("the CA certificate with the pinned key is not signed with that key")?;
            }
        }
        f.write_str("; compare the pin with `authority status` on the authority's host")
    }
}

impl StdError for PinError {}

/// CA certificates as rustls trusts them.
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
