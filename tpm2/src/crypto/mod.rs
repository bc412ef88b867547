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
#[cfg(feature = "getrandom")]
pub use credential::make_credential;
pub use credential::{Credential, CredentialError, make_credential_by, make_credential_with};
#[cfg(feature = "getrandom")]
pub use duplicate::duplicate;
pub use duplicate::{Duplicate, DuplicateError, duplicate_with};
pub use hash::{HashAlg, UnknownHash};
#[cfg(feature = "client")]
pub(crate) use kdf::xor;
pub use kdf::{KdfTooLong, kdfa, kdfe};
pub use name::{NameError, nv_name, object_name, qualified_name};
pub use policy::{PolicyDigest, PolicyError, policy_approval, signed_authorization};
#[cfg(feature = "getrandom")]
pub use sharing::share_secret;
pub use sharing::{Label, Shared, SharingError, share_secret_by_ecdh, share_secret_with};

/// Fills `octets` from the operating system.
///
/// # Errors
/// The operating system has no randomness to give.
#[cfg(feature = "getrandom")]
pub fn random(octets: &mut [u8]) -> Result<(), NoRandomness> {
    getrandom::fill(octets).map_err(|_| NoRandomness)
}

/// The source of randomness has none to give, or there is no source: see `Transport::random`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandomness;

impl core::fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no randomness is available")
    }
}

impl core::error::Error for NoRandomness {}

#[cfg(test)]
pub(crate) mod tests;
