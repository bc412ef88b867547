//! Objects made outside of a TPM, or exported by one, for a parent in another: `TPM2_Duplicate` without a TPM. Part 1 §23.3.

use core::fmt;

use super::cfb::Aes;
use super::protection::protect;
#[cfg(feature = "getrandom")]
use super::random;
use super::{
    HashAlg, Label, NameError, NoRandomness, SharingError, object_name, share_secret_with,
};
use crate::types::{
    Digest, EncryptedSecret, Id, ObjectAttributes, Owned, Private, Public, Sensitive, SymDefObject,
};
use crate::wire::{TooLarge, Tpm2b, Writer};

/// An object that only the TPM which holds a given parent can import: two parameters of
/// [`Import`](crate::commands::Import). There is no inner wrap.
#[derive(Clone, Debug)]
pub struct Duplicate {
    private: Owned<{ Private::MAX }>,
    seed: Owned<512>,
}

impl Duplicate {
    /// The protected sensitive area.
    ///
    /// # Panics
    /// Never: it was made to fit.
    #[must_use]
    pub fn private(&self) -> Private<'_> {
        Private::new(self.private.octets()).expect("no longer than the longest")
    }

    /// The seed, encrypted to the parent.
    ///
    /// # Panics
    /// Never: it was made to fit.
    #[must_use]
    pub fn seed(&self) -> EncryptedSecret<'_> {
        EncryptedSecret::new(self.seed.octets()).expect("512 octets fit")
    }
}

/// Why an object cannot be duplicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DuplicateError {
    /// No seed can be shared through the parent.
    Sharing(SharingError),
    /// The parent does not protect with AES in CFB mode: it is no storage key.
    Cipher(SymDefObject),
    /// No parent would take an object with these attributes: it says that it never left its TPM or its parent, or that it
    /// has an inner wrap.
    Attributes(ObjectAttributes),
    /// The public area can have no Name.
    Name(NameError),
    /// The sensitive area is of another type than the public one.
    Type,
    /// The sensitive area is larger than any.
    TooLarge,
}

impl fmt::Display for DuplicateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sharing(error) => error.fmt(f),
            Self::Cipher(cipher) => {
                write!(f, "the parent's cipher {cipher:?} cannot protect an object")
            }
            Self::Attributes(attributes) => {
                write!(f, "an object with attributes {attributes:?} cannot be imported")
            }
            Self::Name(error) => error.fmt(f),
            Self::Type => f.write_str("the sensitive area is of another type than the public one"),
            Self::TooLarge => f.write_str("the sensitive area is larger than any"),
        }
    }
}

impl core::error::Error for DuplicateError {}

impl From<SharingError> for DuplicateError {
    fn from(error: SharingError) -> Self {
        Self::Sharing(error)
    }
}

impl From<TooLarge> for DuplicateError {
    fn from(_: TooLarge) -> Self {
        Self::TooLarge
    }
}

/// Protects an object so that only the TPM that holds `parent` can import it.
///
/// # Errors
/// See [`DuplicateError`].
#[doc(alias = "TPM2_Duplicate")]
#[cfg(feature = "getrandom")]
pub fn duplicate(
    parent: &Public<'_>,
    public: &Public<'_>,
    sensitive: &Sensitive<'_>,
) -> Result<Duplicate, DuplicateError> {
    duplicate_with(parent, public, sensitive, &mut random)
}

/// Protects an object with the randomness of [`share_secret_with`], so that only the TPM that holds `parent` can import it.
///
/// # Errors
/// See [`DuplicateError`].
pub fn duplicate_with(
    parent: &Public<'_>,
    public: &Public<'_>,
    sensitive: &Sensitive<'_>,
    random: &mut dyn FnMut(&mut [u8]) -> Result<(), NoRandomness>,
) -> Result<Duplicate, DuplicateError> {
    let stays = [
        ObjectAttributes::FIXED_TPM,
        ObjectAttributes::FIXED_PARENT,
        ObjectAttributes::ENCRYPTED_DUPLICATION,
    ];
    if stays.into_iter().any(|attribute| public.attributes.contains(attribute)) {
        return Err(DuplicateError::Attributes(public.attributes));
    }
    if sensitive.secret.selector() != public.id.selector() {
        return Err(DuplicateError::Type);
    }
    let cipher = match parent.id {
        Id::Rsa(rsa) => rsa.symmetric,
        Id::Ecc(ecc) => ecc.symmetric,
        _ => Err(SharingError::KeyType)?,
    };
    let aes = Aes::try_from(cipher).map_err(|_| DuplicateError::Cipher(cipher))?;
    let hash =
        HashAlg::try_from(parent.name_alg).map_err(|_| SharingError::NameAlg(parent.name_alg))?;
    let name = object_name(public).map_err(DuplicateError::Name)?;
    let shared = share_secret_with(parent, Label::Duplicate, random)?;

    // The HMAC stands in front, and is as long as it will be before it is known.
    let zeros = Owned::<64>::zeroed(hash.digest_len()).ok_or(DuplicateError::TooLarge)?;
    let mut octets = [0; Private::MAX];
    let mut writer = Writer::new(&mut octets);
    writer.write(&Digest::from(&zeros))?;
    let body_at = writer.len();
    let written = writer.write(&Tpm2b(*sensitive));
    let private = writer.into_written();
    let body = private.get_mut(body_at..).unwrap_or_default();
    // Encrypted, or wiped: it is the secret until then.
    let integrity = match written {
        Ok(()) => protect(hash, aes, &shared.secret, &name, body).map_err(|_| TooLarge)?,
        Err(too_large) => {
            zeroize::Zeroize::zeroize(body);
            return Err(too_large.into());
        }
    };
    let hole = private.get_mut(2..body_at).ok_or(DuplicateError::TooLarge)?;
    hole.copy_from_slice(integrity.octets());
    Ok(Duplicate {
        private: Owned::new(private).ok_or(DuplicateError::TooLarge)?,
        seed: Owned::new(shared.encrypted().octets()).ok_or(DuplicateError::TooLarge)?,
    })
}
