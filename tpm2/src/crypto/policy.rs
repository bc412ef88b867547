//! Policy digests, computed without a TPM. Part 3 §23, "extend" of each command.

use super::HashAlg;
use crate::types::DigestBuf;

/// The digest of a policy that is `PolicySecret` of an entity, with no reference. Part 3 §23.4.
#[must_use]
pub fn policy_secret(hash: HashAlg, policy: &DigestBuf, entity_name: &[u8]) -> DigestBuf {
    let extended = hash.digest(&[policy.octets(), &0x151_u32.to_be_bytes(), entity_name]);
    hash.digest(&[extended.octets()])
}

/// The digest of `PolicyOR` of branches: it forgets what was there before. Part 3 §23.6.
#[must_use]
pub fn policy_or(hash: HashAlg, branches: &[&[u8]]) -> Option<DigestBuf> {
    let mut octets = crate::types::Owned::<{ 8 * 64 }>::EMPTY;
    for branch in branches {
        octets = crate::types::Owned::concat(&[octets.octets(), branch])?;
    }
    let zeros = DigestBuf::zeroed(hash.digest_len())?;
    Some(hash.digest(&[zeros.octets(), &0x171_u32.to_be_bytes(), octets.octets()]))
}
