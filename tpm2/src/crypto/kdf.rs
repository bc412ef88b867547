//! The two key derivation functions. Part 1 §11.4.10.

use core::fmt;

use super::HashAlg;
use crate::types::SecretBuf;

/// More bits were asked for than a [`SecretBuf`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KdfTooLong;

impl fmt::Display for KdfTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more than 512 bits asked of a key derivation")
    }
}

impl core::error::Error for KdfTooLong {}

/// KDFa: SP 800-108 in counter mode with HMAC. Part 1 §11.4.10.2.
///
/// `label` is given without its terminating zero octet.
///
/// # Errors
/// `bits` is more than 512.
pub fn kdfa(
    hash: HashAlg,
    key: &[&[u8]],
    label: &[u8],
    context_u: &[u8],
    context_v: &[u8],
    bits: u16,
) -> Result<SecretBuf, KdfTooLong> {
    let length = u32::from(bits).to_be_bytes();
    fill(bits, |counter| hash.hmac(key, &[&counter, label, &[0], context_u, context_v, &length]))
}

/// Obfuscates `data`, or undoes it: XOR with what KDFa gives for as many bits. Part 1 §11.4.7.3.
///
/// # Errors
/// `data` has more than 8191 octets.
#[cfg(feature = "client")]
pub(crate) fn xor(
    hash: HashAlg,
    key: &[&[u8]],
    context_u: &[u8],
    context_v: &[u8],
    data: &mut [u8],
) -> Result<(), KdfTooLong> {
    let bits = u16::try_from(data.len()).ok().and_then(|len| len.checked_mul(8));
    let length = u32::from(bits.ok_or(KdfTooLong)?).to_be_bytes();
    for (index, chunk) in data.chunks_mut(hash.digest_len()).enumerate() {
        let counter = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1).to_be_bytes();
        let mut mask = hash.hmac(key, &[&counter, b"XOR", &[0], context_u, context_v, &length]);
        chunk.iter_mut().zip(mask.octets()).for_each(|(octet, mask)| *octet ^= mask);
        zeroize::Zeroize::zeroize(mask.octets_mut());
    }
    Ok(())
}

/// KDFe: SP 800-56A with a hash, for shared secrets of ECDH. Part 1 §11.4.10.3.
///
/// `z` and both parties' coordinates are padded to the size of the field; `label` is given without its terminating zero
/// octet.
///
/// # Errors
/// `bits` is more than 512.
pub fn kdfe(
    hash: HashAlg,
    z: &[u8],
    label: &[u8],
    party_u: &[u8],
    party_v: &[u8],
    bits: u16,
) -> Result<SecretBuf, KdfTooLong> {
    fill(bits, |counter| hash.digest(&[&counter, z, label, &[0], party_u, party_v]))
}

/// Concatenates blocks 1, 2, .. and cuts them to `bits`: if that is no whole number of octets, the unused bits of the
/// first octet are zero.
fn fill(
    bits: u16,
    block: impl Fn([u8; 4]) -> crate::types::DigestBuf,
) -> Result<SecretBuf, KdfTooLong> {
    let mut derived = SecretBuf::zeroed(usize::from(bits.div_ceil(8))).ok_or(KdfTooLong)?;
    let mut counter = 0_u32;
    let mut rest = derived.expose_mut();
    while !rest.is_empty() {
        counter = counter.saturating_add(1);
        let mut block = block(counter.to_be_bytes());
        let octets = block.octets_mut();
        let (now, later) = rest.split_at_mut(rest.len().min(octets.len()));
        now.iter_mut().zip(octets.iter()).for_each(|(to, from)| *to = *from);
        zeroize::Zeroize::zeroize(octets);
        rest = later;
    }
    if let Some(first) = derived.expose_mut().first_mut() {
        *first &= 0xff >> (bits.wrapping_neg() % 8);
    }
    Ok(derived)
}
