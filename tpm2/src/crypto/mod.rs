//! What the peer of a TPM computes: hashes, Names, key derivation, secret sharing, credentials,
//! policies. Part 1 §11.4 and §19.7, annexes B and C.

pub(crate) mod cfb;
mod convert;
mod credential;
mod duplicate;
mod hash;
mod kdf;
mod name;
mod policy;
mod protection;
mod sharing;
#[cfg(feature = "spki")]
mod spki;

pub use convert::ConversionError;
pub use credential::{Credential, CredentialError, make_credential, make_credential_with};
pub use duplicate::{Duplicate, DuplicateError, duplicate, duplicate_with};
pub use hash::{HashAlg, UnknownHash};
#[cfg(feature = "std")]
pub(crate) use kdf::xor;
pub use kdf::{KdfTooLong, kdfa, kdfe};
pub use name::{NameError, nv_name, object_name, qualified_name};
pub use policy::{PolicyDigest, PolicyError, policy_approval, signed_authorization};
pub use sharing::{Label, Shared, SharingError, share_secret, share_secret_with};

/// Fills `octets` from the operating system.
///
/// # Errors
/// The operating system has no randomness to give.
pub fn random(octets: &mut [u8]) -> Result<(), NoRandomness> {
    getrandom::fill(octets).map_err(|_| NoRandomness)
}

/// The operating system gave no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandomness;

impl core::fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the operating system provided no randomness")
    }
}

impl core::error::Error for NoRandomness {}

#[cfg(test)]
pub(crate) mod tests;
