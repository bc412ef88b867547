//! Keys outside of this process, for example in a TPM, as rustls keys.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use p256::ecdsa::{DerSignature, VerifyingKey};
use p256::pkcs8::DecodePublicKey;
use rustls::pki_types::{SubjectPublicKeyInfoDer, alg_id};
use rustls::sign::{Signer, SigningKey, public_key_to_spki};
use rustls::{OtherError, SignatureAlgorithm, SignatureScheme};
use sha2::{Digest, Sha256};
use signature::hazmat::PrehashVerifier;

/// Something that signs digests with an ECDSA P-256 key which this process does not hold.
///
/// `sign` may block, and does for as long as a TPM takes: the handshake that asks for it runs on
/// the caller's thread. In an asynchronous program hand the handshake to a thread that may block,
/// or make sure that nothing else waits for the thread that does.
pub trait DigestSigner: fmt::Debug + Send + Sync {
    /// The public key, as a SubjectPublicKeyInfo in DER.
    fn public_key(&self) -> SubjectPublicKeyInfoDer<'static>;

    /// Signs a SHA-256 digest: an Ecdsa-Sig-Value in DER, RFC 3279 section 2.2.3.
    fn sign(&self, digest: &[u8; 32]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>>;
}

/// A [`DigestSigner`] as the key of a `rustls::sign::CertifiedKey`, for clients and servers.
///
/// Each signature is verified before it is sent. One that does not verify indicates a fault, or an attacker on the bus to the
/// TPM, and faulty ECDSA signatures can reveal the private key.
#[derive(Clone)]
pub struct RemoteKey(Arc<Inner>);

struct Inner {
    signer: Arc<dyn DigestSigner>,
    public: VerifyingKey,
}

impl RemoteKey {
    /// Takes the public key from the signer once; it must be on P-256.
    pub fn new(signer: Arc<dyn DigestSigner>) -> Result<Self, RemoteKeyError> {
        let public = VerifyingKey::from_public_key_der(&signer.public_key())
            .map_err(|_| RemoteKeyError::NotP256)?;
        Ok(Self(Arc::new(Inner { signer, public })))
    }
}

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(public_key_to_spki(&alg_id::ECDSA_P256, self.0.public.to_sec1_point(false)))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for RemoteKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.0.sign(message).map_err(|error| rustls::Error::Other(OtherError(Arc::new(error))))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

impl Inner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, RemoteKeyError> {
        let digest: [u8; 32] = Sha256::digest(message).into();
        let der = self.signer.sign(&digest).map_err(RemoteKeyError::Signer)?;
        let signature =
            DerSignature::try_from(der.as_slice()).map_err(|_| RemoteKeyError::NotASignature)?;
        self.public
            .verify_prehash(&digest, &signature)
            .map_err(|_| RemoteKeyError::WrongSignature)?;
        Ok(der)
    }
}

impl fmt::Debug for RemoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RemoteKey").field(&self.0.signer).finish()
    }
}

/// Why a remote key cannot be used, or did not sign.
#[derive(Debug)]
pub enum RemoteKeyError {
    /// The public key is not a SubjectPublicKeyInfo of a point on P-256.
    NotP256,
    /// The signer failed.
    Signer(Box<dyn Error + Send + Sync>),
    /// The signer's answer is not an Ecdsa-Sig-Value in DER.
    NotASignature,
    /// The signer's answer does not verify with its public key, and was not sent.
    WrongSignature,
}

impl fmt::Display for RemoteKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotP256 => "the remote key is not an ECDSA key on P-256",
            Self::Signer(_) => "the remote key did not sign",
            Self::NotASignature => "the remote key returned a malformed signature",
            Self::WrongSignature => {
                "the remote key returned a signature that its public key does not verify: the \
                 TPM is faulty, or its bus is tampered with"
            }
        })
    }
}

impl Error for RemoteKeyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Signer(error) => Some(error.as_ref()),
            _ => None,
        }
    }
}
