//! Private keys that are software: PKCS #8 (RFC 5958) and SEC 1 (RFC 5915) to rustls signers.

use std::fmt;
use std::sync::Arc;

use p256::elliptic_curve::sec1::ToSec1Point;
use p256::pkcs8::DecodePrivateKey;
use rustls::crypto::KeyProvider;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer, alg_id};
use rustls::sign::{Signer, SigningKey, public_key_to_spki};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};
use signature::Signer as _;
use zeroize::Zeroize;

/// Turns DER into a signing key; which curve, the key itself says.
///
/// # Errors
/// It is damaged, or no key on P-256, P-384 or Ed25519.
pub fn software_key(mut der: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
    let private = match &der {
        PrivateKeyDer::Pkcs8(der) => Private::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Sec1(der) => Private::from_sec1(der.secret_sec1_der()),
        PrivateKeyDer::Pkcs1(_) => Err(refused("it is an RSA key")),
        _ => Err(refused("its format is unknown")),
    };
    der.zeroize();
    Ok(Arc::new(SoftwareKey(Arc::new(private?))))
}

/// Loads no key: callers with a key in software use [`software_key`], and the others need not
/// carry the code.
#[derive(Debug)]
pub(super) struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(
        &self,
        mut der: PrivateKeyDer<'static>,
    ) -> Result<Arc<dyn SigningKey>, Error> {
        der.zeroize();
        Err(Error::General("keys do not come to rustls as DER here; see tls::software_key".into()))
    }
}

fn refused(why: &str) -> Error {
    Error::General(format!(
        "private key refused: {why}; use a P-256, P-384 or Ed25519 key in PKCS #8 or SEC 1"
    ))
}

/// Each variant wipes itself when dropped.
enum Private {
    P256(ecc::SigningKey),
    P384(p384::ecdsa::SigningKey),
    Ed25519(ed25519_dalek::SigningKey),
}

impl Private {
    /// Each decoder accepts its own algorithm identifier only, so the order does not matter.
    fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        p256::SecretKey::from_pkcs8_der(der)
            .map(|key| Self::P256(key.into()))
            .or_else(|_| p384::SecretKey::from_pkcs8_der(der).map(|key| Self::P384(key.into())))
            .or_else(|_| ed25519_dalek::SigningKey::from_pkcs8_der(der).map(Self::Ed25519))
            .map_err(|_| refused("it is PKCS #8, but of another algorithm, or damaged"))
    }

    fn from_sec1(der: &[u8]) -> Result<Self, Error> {
        p256::SecretKey::from_sec1_der(der)
            .map(|key| Self::P256(key.into()))
            .or_else(|_| p384::SecretKey::from_sec1_der(der).map(|key| Self::P384(key.into())))
            .map_err(|_| refused("it is SEC 1, but of another curve, or damaged"))
    }

    fn scheme(&self) -> SignatureScheme {
        match self {
            Self::P256(_) => SignatureScheme::ECDSA_NISTP256_SHA256,
            Self::P384(_) => SignatureScheme::ECDSA_NISTP384_SHA384,
            Self::Ed25519(_) => SignatureScheme::ED25519,
        }
    }

    fn public_key(&self) -> SubjectPublicKeyInfoDer<'static> {
        match self {
            Self::P256(key) => {
                public_key_to_spki(&alg_id::ECDSA_P256, key.public_key().to_sec1_point(false))
            }
            Self::P384(key) => {
                public_key_to_spki(&alg_id::ECDSA_P384, key.verifying_key().to_sec1_point(false))
            }
            Self::Ed25519(key) => public_key_to_spki(&alg_id::ED25519, key.verifying_key()),
        }
    }

    /// ECDSA with the nonce of RFC 6979, so that no signature depends on randomness alone.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::DerSignature = key.try_sign(message)?;
                signature.as_bytes().to_vec()
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::DerSignature = key.try_sign(message)?;
                signature.as_bytes().to_vec()
            }
            Self::Ed25519(key) => key.try_sign(message)?.to_bytes().to_vec(),
        })
    }
}

/// A private key, and the only scheme that TLS 1.3 has for it; key and signer in one.
#[derive(Clone)]
struct SoftwareKey(Arc<Private>);

impl SigningKey for SoftwareKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.0.scheme()).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(self.0.public_key())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match *self.0 {
            Private::P256(_) | Private::P384(_) => SignatureAlgorithm::ECDSA,
            Private::Ed25519(_) => SignatureAlgorithm::ED25519,
        }
    }
}

impl Signer for SoftwareKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign(message).map_err(|_| Error::General("signing failed".into()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.0.scheme()
    }
}

impl fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SoftwareKey").field(&self.0.scheme()).finish()
    }
}
