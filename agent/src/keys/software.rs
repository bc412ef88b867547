//! A key in memory.

use std::fmt;

use host::exit::Failure;
use p256::SecretKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::{DecodePrivateKey, EncodePrivateKey, LineEnding};
use zeroize::Zeroizing;

use super::{Key, Signing};

/// A service's own P-256 key: in software, wiped when it goes.
pub struct SoftwareKey(SecretKey);

impl SoftwareKey {
    /// A new key, from the operating system's randomness.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn generate() -> Result<Self, Failure> {
        SecretKey::try_generate().map(Self).map_err(Failure::bug)
    }

    /// A key as a service's files hold it, PEM; `None` if they hold another kind of key.
    #[must_use]
    pub fn from_pem(pem: &[u8]) -> Option<Self> {
        SecretKey::from_pkcs8_pem(std::str::from_utf8(pem).ok()?).ok().map(Self)
    }

    /// The private key: PKCS #8, RFC 5958, DER.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let document = self.0.to_pkcs8_der().map_err(Failure::bug)?;
        Ok(Zeroizing::new(document.as_bytes().to_vec()))
    }
}

impl Key for SoftwareKey {
    fn public(&self) -> VerifyingKey {
        self.0.public_key().into()
    }

    fn sign<'k>(&'k self, digest: &'k [u8; 32]) -> Signing<'k> {
        Box::pin(async {
            let signer = SigningKey::from(&self.0);
            let signature: Signature = signer.sign_prehash(digest).map_err(Failure::bug)?;
            Ok(signature.to_der().as_bytes().to_vec())
        })
    }

    fn is_in_tpm(&self) -> bool {
        false
    }

    fn scalar(&self) -> Option<Zeroizing<[u8; 32]>> {
        Some(Zeroizing::new(self.0.to_bytes().into()))
    }

    /// PKCS #8, RFC 5958.
    fn to_pem(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut text = self.0.to_pkcs8_pem(LineEnding::LF).map_err(Failure::bug)?;
        Ok(Zeroizing::new(std::mem::take(&mut *text).into_bytes()))
    }
}

impl fmt::Debug for SoftwareKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SoftwareKey")
    }
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::signature::hazmat::PrehashVerifier;

    use super::*;

    #[tokio::test]
    async fn signature_verifies_and_the_key_is_not_shown() {
        let key = SoftwareKey::generate().unwrap();
        let signature = Signature::from_der(&key.sign(&[7; 32]).await.unwrap()).unwrap();
        key.public().verify_prehash(&[7; 32], &signature).unwrap();
        key.public().verify_prehash(&[8; 32], &signature).unwrap_err();
        assert_eq!(format!("{key:?}"), "SoftwareKey");
        let read = SoftwareKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(read.public(), key.public());
        let other = b"-----BEGIN TSS2 PRIVATE KEY-----\nMAA=\n-----END TSS2 PRIVATE KEY-----\n";
        assert!(SoftwareKey::from_pem(other).is_none() && SoftwareKey::from_pem(b"\xff").is_none());
    }
}
