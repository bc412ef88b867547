//! RSA keys. Part 1 annex B.10.

use rsa::traits::PaddingScheme;
use rsa::{BoxedUint, Oaep, RsaPublicKey};

use super::{Label, Shared, SharingError};
use crate::crypto::{HashAlg, NoRandomness};
use crate::types::{AsymScheme, Owned, RsaPublic, SecretBuf};

/// RSAES-OAEP with one hash for digest and mask; the label's terminating zero octet is part of it. The hash is the key's
/// name algorithm, unless the key has an OAEP scheme of its own, by which the TPM then decrypts. Part 1 annex B.4 and
/// B.10.2.
pub(super) fn share(
    key: &RsaPublic<'_>,
    name_alg: HashAlg,
    label: Label,
    random: &mut dyn FnMut(&mut [u8]) -> Result<(), NoRandomness>,
) -> Result<Shared, SharingError> {
    let hash = match key.scheme {
        AsymScheme::Null => name_alg,
        AsymScheme::Oaep(own) => {
            HashAlg::try_from(own.hash).map_err(|_| SharingError::Scheme(key.scheme))?
        }
        other => return Err(SharingError::Scheme(other)),
    };
    // A modulus has as many bits as it says, in whole octets: no TPM takes another.
    let octets = key.unique.octets();
    if octets.len().checked_mul(8) != Some(usize::from(key.key_bits))
        || octets.first().is_none_or(|first| *first < 0x80)
    {
        return Err(SharingError::Key);
    }
    let exponent = if key.exponent == 0 { 65537 } else { key.exponent };
    let modulus = BoxedUint::from_be_slice_vartime(octets);
    let public =
        RsaPublicKey::new(modulus, BoxedUint::from(exponent)).map_err(|_| SharingError::Key)?;

    let mut secret = SecretBuf::zeroed(hash.digest_len()).ok_or(SharingError::KeyType)?;
    random(secret.expose_mut())?;
    let mut seed = Owned::<64>::zeroed(hash.digest_len()).ok_or(SharingError::KeyType)?;
    random(seed.octets_mut())?;

    let label = Owned::<16>::concat(&[label.octets(), &[0]]).ok_or(SharingError::KeyType)?;
    let (seed, message) = (&mut Drawn(seed.octets()), secret.expose());
    let label = label.octets();
    let encrypted = match hash {
        HashAlg::Sha1 => Oaep::<sha1::Sha1>::new_with_label(label).encrypt(seed, &public, message),
        HashAlg::Sha256 => {
            Oaep::<sha2::Sha256>::new_with_label(label).encrypt(seed, &public, message)
        }
        HashAlg::Sha384 => {
            Oaep::<sha2::Sha384>::new_with_label(label).encrypt(seed, &public, message)
        }
        HashAlg::Sha512 => {
            Oaep::<sha2::Sha512>::new_with_label(label).encrypt(seed, &public, message)
        }
    }
    .map_err(|_| SharingError::Key)?;
    let encrypted = Owned::new(&encrypted).ok_or(SharingError::Key)?;
    Ok(Shared { secret, encrypted })
}

/// Randomness drawn before, for an interface that wants a generator. It gives each octet once and then fails.
struct Drawn<'a>(&'a [u8]);

impl rand_core::TryRng for Drawn<'_> {
    type Error = NoRandomness;

    fn try_next_u32(&mut self) -> Result<u32, NoRandomness> {
        rand_core::utils::next_word_via_fill(self)
    }

    fn try_next_u64(&mut self) -> Result<u64, NoRandomness> {
        rand_core::utils::next_word_via_fill(self)
    }

    fn try_fill_bytes(&mut self, octets: &mut [u8]) -> Result<(), NoRandomness> {
        let (drawn, rest) = self.0.split_at_checked(octets.len()).ok_or(NoRandomness)?;
        octets.copy_from_slice(drawn);
        self.0 = rest;
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Drawn<'_> {}
