//! The private key of a CA.

use std::fmt;

use ecc::SigningKey;
use p256::elliptic_curve::Generate;
use p256::{PublicKey, SecretKey};
use pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::IssueError;

/// A P-256 key that signs certificates. It is wiped when it goes, and never shown.
pub struct CaKey {
    public: PublicKey,
    /// None of a retired key, which signs nothing any more.
    private: Option<Private>,
}

struct Private {
    secret: SecretKey,
    /// Kept because making it multiplies a point, which costs as much as a signature.
    signer: SigningKey,
}

impl CaKey {
    /// A new key, from the operating system's randomness.
    pub fn generate() -> Result<Self, IssueError> {
        SecretKey::try_generate().map(Self::new).map_err(|cause| IssueError(cause.to_string()))
    }

    /// Reads PKCS #8 PEM (RFC 5958, RFC 7468).
    pub fn from_pem(pem: &str) -> Result<Self, IssueError> {
        SecretKey::from_pkcs8_pem(pem).map(Self::new).map_err(|cause| IssueError(cause.to_string()))
    }

    /// A key whose private part is gone.
    pub(super) fn without_private(public: PublicKey) -> Self {
        Self { public, private: None }
    }

    /// Writes PKCS #8 PEM.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, IssueError> {
        let pem = self.secret()?.to_pkcs8_pem(LineEnding::LF);
        pem.map_err(|cause| IssueError(cause.to_string()))
    }

    /// The ID of the key: SHA-256 of its SubjectPublicKeyInfo, in hexadecimal.
    pub fn key_id(&self) -> Result<String, IssueError> {
        key_id(&self.public)
    }

    pub(super) fn signer(&self) -> Result<&SigningKey, IssueError> {
        self.private.as_ref().map(|private| &private.signer).ok_or_else(retired)
    }

    pub(super) fn secret(&self) -> Result<&SecretKey, IssueError> {
        self.private.as_ref().map(|private| &private.secret).ok_or_else(retired)
    }

    /// The public key, without computing it again.
    pub(super) fn public(&self) -> PublicKey {
        self.public
    }

    fn new(secret: SecretKey) -> Self {
        let signer = SigningKey::from(secret.clone());
        let public = signer.public_key();
        Self { public, private: Some(Private { secret, signer }) }
    }
}

fn retired() -> IssueError {
    IssueError("the CA is retired: it has no private key any more".to_owned())
}

/// The ID of a key: SHA-256 of its SubjectPublicKeyInfo, in hexadecimal.
pub(super) fn key_id(key: &PublicKey) -> Result<String, IssueError> {
    let spki = key.to_public_key_der().map_err(|cause| IssueError(cause.to_string()))?;
    Ok(base16ct::lower::encode_string(&Sha256::digest(spki.as_bytes())))
}

impl fmt::Debug for CaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaKey")
    }
}
