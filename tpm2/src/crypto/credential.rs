//! Credentials: what only the TPM that holds both a given key and a given object can open. Part 1 §24.

use core::fmt;

use super::cfb::Aes;
use super::protection::protect;
#[cfg(feature = "getrandom")]
use super::random;
use super::{HashAlg, Label, NoRandomness, Shared, SharingError, share_secret_with};
use crate::types::{Digest, EncryptedSecret, Id, IdObject, NameBuf, Owned, Public, SymDefObject};
use crate::wire::{TooLong, Writer};

/// A credential for one object in one TPM: the two parameters of
/// [`ActivateCredential`](crate::commands::ActivateCredential).
#[derive(Clone, Debug)]
pub struct Credential {
    blob: Owned<132>,
    secret: Owned<512>,
}

impl Credential {
    /// A credential that its maker has sent, over a network for example.
    ///
    /// # Errors
    /// The secret has more than 512 octets, as for no key of the kinds that this crate knows.
    pub fn new(blob: IdObject<'_>, secret: EncryptedSecret<'_>) -> Result<Self, TooLong> {
        let (what, given, limit) = ("Credential.secret", secret.octets().len(), 512);
        let secret = Owned::new(secret.octets()).ok_or(TooLong { what, given, limit })?;
        Ok(Self { blob: blob.into(), secret })
    }

    /// The protected secret: a `TPMS_ID_OBJECT`.
    ///
    /// # Panics
    /// Never: it was made to fit.
    #[must_use]
    pub fn blob(&self) -> IdObject<'_> {
        IdObject::new(self.blob.octets()).expect("132 octets fit")
    }

    /// The seed, encrypted to the key.
    ///
    /// # Panics
    /// Never: it was made to fit.
    #[must_use]
    pub fn secret(&self) -> EncryptedSecret<'_> {
        EncryptedSecret::new(self.secret.octets()).expect("512 octets fit")
    }
}

/// Why no credential can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialError {
    /// No seed can be shared through the key.
    Sharing(SharingError),
    /// The key does not protect with AES in CFB mode: it is no storage key.
    Cipher(SymDefObject),
    /// The secret is longer than a digest of the key's name algorithm, which is the most that every TPM opens.
    TooLong,
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sharing(error) => error.fmt(f),
            Self::Cipher(cipher) => {
                write!(f, "the key's cipher {cipher:?} cannot protect a credential")
            }
            Self::TooLong => {
                f.write_str("the secret is longer than a digest of the key's name algorithm")
            }
        }
    }
}

impl core::error::Error for CredentialError {}

impl From<SharingError> for CredentialError {
    fn from(error: SharingError) -> Self {
        Self::Sharing(error)
    }
}

/// Protects `secret` so that only the TPM that holds `key` opens it, and only while the object with the Name `object` is
/// loaded: `TPM2_MakeCredential` without a TPM. Every hash is the key's name algorithm, whatever the object's is.
///
/// # Errors
/// See [`CredentialError`].
#[doc(alias = "TPM2_MakeCredential")]
#[cfg(feature = "getrandom")]
pub fn make_credential(
    key: &Public<'_>,
    object: &NameBuf,
    secret: &[u8],
) -> Result<Credential, CredentialError> {
    make_credential_with(key, object, secret, &mut random)
}

/// What `TPM2_MakeCredential` does, without a TPM, with the randomness of [`share_secret_with`]: only the TPM that holds `key` opens
/// `secret`, and only while the object with the Name `object` is loaded.
///
/// # Errors
/// See [`CredentialError`].
pub fn make_credential_with(
    key: &Public<'_>,
    object: &NameBuf,
    secret: &[u8],
    random: &mut dyn FnMut(&mut [u8]) -> Result<(), NoRandomness>,
) -> Result<Credential, CredentialError> {
    // A key that cannot protect a credential is refused before anything is computed.
    cipher(key)?;
    make_credential_by(key, object, secret, &share_secret_with(key, Label::Identity, random)?)
}

/// What `TPM2_MakeCredential` does, without a TPM, with a seed that is shared already: by [`share_secret_with`] or
/// [`share_secret_by_ecdh`] with this key and [`Label::Identity`]. A seed is for one credential.
///
/// [`share_secret_by_ecdh`]: super::share_secret_by_ecdh
///
/// # Errors
/// See [`CredentialError`].
pub fn make_credential_by(
    key: &Public<'_>,
    object: &NameBuf,
    secret: &[u8],
    shared: &Shared,
) -> Result<Credential, CredentialError> {
    let aes = cipher(key)?;
    let hash = HashAlg::try_from(key.name_alg).map_err(|_| SharingError::NameAlg(key.name_alg))?;
    if secret.len() > hash.digest_len() {
        return Err(CredentialError::TooLong);
    }
    let mut identity = [0; 66];
    let mut writer = Writer::new(&mut identity);
    let sized = Digest::new(secret).map_err(|_| CredentialError::TooLong)?;
    writer.write(&sized).map_err(|_| CredentialError::TooLong)?;
    let identity = writer.into_written();
    let integrity = protect(hash, aes, &shared.secret, object, identity)
        .map_err(|_| CredentialError::TooLong)?;

    let mut blob = [0; IdObject::MAX];
    let mut writer = Writer::new(&mut blob);
    let integrity = Digest::from(&integrity);
    writer.write(&integrity).map_err(|_| CredentialError::TooLong)?;
    writer.put(identity).map_err(|_| CredentialError::TooLong)?;
    let blob = IdObject::new(writer.into_written()).map_err(|_| CredentialError::TooLong)?;
    Credential::new(blob, shared.encrypted()).map_err(|_| CredentialError::TooLong)
}

/// The cipher of a key.
fn cipher(key: &Public<'_>) -> Result<Aes, CredentialError> {
    let cipher = match key.id {
        Id::Rsa(rsa) => rsa.symmetric,
        Id::Ecc(ecc) => ecc.symmetric,
        _ => Err(SharingError::KeyType)?,
    };
    Aes::try_from(cipher).map_err(|_| CredentialError::Cipher(cipher))
}
