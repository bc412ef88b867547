//! What a seed protects on its way into a TPM: encrypted with one key that is derived from it, and under an HMAC with
//! another. Credentials and duplicates have it in common. Part 1 §23.3 and §24.

use super::cfb::Aes;
use super::{HashAlg, KdfTooLong, kdfa};
use crate::types::{DigestBuf, NameBuf, SecretBuf};

/// Encrypts `body` in place and returns the HMAC over it and the Name of the object that it belongs to. `hash` is the name
/// algorithm of the key that the seed was shared through, `aes` the cipher of that key.
pub(super) fn protect(
    hash: HashAlg,
    aes: Aes,
    seed: &SecretBuf,
    object: &NameBuf,
    body: &mut [u8],
) -> Result<DigestBuf, KdfTooLong> {
    let seed = [seed.expose()];
    let key = kdfa(hash, &seed, b"STORAGE", object.octets(), &[], aes.key_bits())?;
    aes.encrypt(key.expose(), &[0; Aes::IV_LEN], body)
        .expect("the key was derived at the cipher's length");
    let key = kdfa(hash, &seed, b"INTEGRITY", &[], &[], hash.bits())?;
    Ok(hash.hmac(&[key.expose()], &[body, object.octets()]))
}
