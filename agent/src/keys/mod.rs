//! The keys that services' credentials are for.

mod software;
mod tpm;

use std::fmt::Debug;
use std::pin::Pin;

use host::exit::Failure;
use p256::ecdsa::VerifyingKey;
use p256::pkcs8::EncodePublicKey;
use zeroize::Zeroizing;

pub use self::software::SoftwareKey;
pub use self::tpm::TpmKey;

/// A signature that is being made: an Ecdsa-Sig-Value, RFC 3279 2.2.3.
pub type Signing<'k> = Pin<Box<dyn Future<Output = Result<Vec<u8>, Failure>> + Send + 'k>>;

/// A P-256 key that a service's credentials are for, wherever its private part is stored.
pub trait Key: Debug + Send + Sync {
    /// The public key.
    fn public(&self) -> VerifyingKey;

    /// Signs the SHA-256 digest of a message. A future, since a TPM may take its time.
    fn sign<'k>(&'k self, digest: &'k [u8; 32]) -> Signing<'k>;

    /// Whether the TPM has it, so that it cannot be copied.
    fn is_in_tpm(&self) -> bool;

    /// The private scalar, unless only the TPM has it.
    fn scalar(&self) -> Option<Zeroizing<[u8; 32]>>;

    /// The private key as a service's files hold it, PEM.
    ///
    /// # Errors
    /// It cannot be encoded.
    fn to_pem(&self) -> Result<Zeroizing<Vec<u8>>, Failure>;
}

/// A public key as certificates have it, a SubjectPublicKeyInfo.
///
/// # Errors
/// None that a P-256 key can have.
pub fn spki_der(public: &VerifyingKey) -> Result<Vec<u8>, Failure> {
    Ok(public.to_public_key_der().map_err(Failure::bug)?.into_vec())
}
