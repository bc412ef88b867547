//! Verifies a server's public name, by a certificate of a public CA: RFC 5280 section 6, RFC 9525.
//!
//! Such a chain has intermediates, and nothing in it is trusted before the last signature. webpki parses every certificate at
//! every node of its path search, and checks a signature at each node whose issuer has the name of a root, which are known. So
//! number and bytes of the certificates are limited before anything is parsed, and the signature checks of a search are counted.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, ServerName,
    SignatureVerificationAlgorithm, UnixTime,
};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
};

use crate::direct::tls13_signatures;
use crate::provider::ALGORITHMS;

/// Certificates that a server may present: a leaf, its issuer, and two for cross-signing.
const MAX_PRESENTED: usize = 4;

/// Bytes of all certificates together. Those of public CAs have 1 to 2 KiB each.
const MAX_PRESENTED_BYTES: usize = 16 * 1024;

/// Signature checks of a path search. The longest path of [`MAX_PRESENTED`] certificates takes four.
const MAX_SIGNATURE_CHECKS: usize = 8;

/// The CAs that public names are verified with.
#[derive(Clone, Debug)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// The CAs of these certificates; those that cannot be read are left out. Trust stores have some.
    pub fn new<'d>(certificates: impl IntoIterator<Item = CertificateDer<'d>>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates);
        Self(Arc::new(roots))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Verifies servers by [`Roots`].
#[derive(Debug)]
pub(crate) struct PublicName(pub(crate) Roots);

impl ServerCertVerifier for PublicName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_size(end_entity, intermediates)?;
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let checks = AtomicUsize::new(0);
        let counted: Vec<_> =
            ALGORITHMS.all.iter().map(|&inner| Counted { inner, checks: &checks }).collect();
        let counted: Vec<&dyn SignatureVerificationAlgorithm> =
            counted.iter().map(|algorithm| algorithm as _).collect();
        verify_server_cert_signed_by_trust_anchor(&leaf, &self.0.0, intermediates, now, &counted)
            .map_err(|error| match checks.load(Ordering::Relaxed) > MAX_SIGNATURE_CHECKS {
            true => refusal(PublicNameError::TooManySignatures),
            false => error,
        })?;
        verify_server_name(&leaf, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    tls13_signatures!();
}

/// Refuses a chain that is longer than those of public CAs, before anything of it is parsed.
fn check_size(leaf: &CertificateDer<'_>, above: &[CertificateDer<'_>]) -> Result<(), Error> {
    if above.len() >= MAX_PRESENTED {
        return Err(refusal(PublicNameError::TooManyCertificates));
    }
    let bytes = above.iter().fold(leaf.len(), |sum, der| sum.saturating_add(der.len()));
    match bytes > MAX_PRESENTED_BYTES {
        true => Err(refusal(PublicNameError::TooManyBytes)),
        false => Ok(()),
    }
}

/// An algorithm that counts its signature checks together with others, and makes no more than [`MAX_SIGNATURE_CHECKS`].
struct Counted<'a> {
    inner: &'static dyn SignatureVerificationAlgorithm,
    checks: &'a AtomicUsize,
}

impl SignatureVerificationAlgorithm for Counted<'_> {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        match self.checks.fetch_add(1, Ordering::Relaxed) < MAX_SIGNATURE_CHECKS {
            true => self.inner.verify_signature(public_key, message, signature),
            false => Err(InvalidSignature),
        }
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.inner.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.inner.signature_alg_id()
    }
}

impl fmt::Debug for Counted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

fn refusal(error: PublicNameError) -> Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// Why a server's certificates are not even examined to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicNameError {
    /// The server presented more certificates than a chain of a public CA has.
    TooManyCertificates,
    /// They are longer than those of public CAs.
    TooManyBytes,
    /// Finding a path to a root took too many signature checks.
    TooManySignatures,
}

impl fmt::Display for PublicNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyCertificates => {
                write!(f, "the server presented more than {MAX_PRESENTED} certificates")
            }
            Self::TooManyBytes => write!(
                f,
                "the certificates that the server presented are longer than {MAX_PRESENTED_BYTES} bytes"
            ),
            Self::TooManySignatures => write!(
                f,
                "no path to a trusted CA was found within {MAX_SIGNATURE_CHECKS} signature checks"
            ),
        }
    }
}

impl StdError for PublicNameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct AlwaysValid;

    impl SignatureVerificationAlgorithm for AlwaysValid {
        fn verify_signature(&self, _: &[u8], _: &[u8], _: &[u8]) -> Result<(), InvalidSignature> {
            Ok(())
        }

        fn public_key_alg_id(&self) -> AlgorithmIdentifier {
            AlgorithmIdentifier::from_slice(&[])
        }

        fn signature_alg_id(&self) -> AlgorithmIdentifier {
            AlgorithmIdentifier::from_slice(&[])
        }
    }

    #[test]
    fn algorithms_share_one_limit_of_signature_checks() {
        let checks = AtomicUsize::new(0);
        let [one, other] = [(); 2].map(|()| Counted { inner: &AlwaysValid, checks: &checks });
        for number in 0..MAX_SIGNATURE_CHECKS {
            let algorithm = if number % 2 == 0 { &one } else { &other };
            algorithm.verify_signature(&[], &[], &[]).unwrap();
        }
        one.verify_signature(&[], &[], &[]).unwrap_err();
        other.verify_signature(&[], &[], &[]).unwrap_err();
    }
}
