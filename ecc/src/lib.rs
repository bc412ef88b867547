//! Elliptic curves for programs that compute much: ECDSA on P-256 and P-384 (FIPS 186-5), ECDH on P-256 (SP 800-56A) and X25519
//! (RFC 7748).
//!
//! graviola computes them if the program is built with it (feature `graviola`) and the processor has the instructions that it
//! needs; it takes about a third of the time. RustCrypto computes them everywhere else. Which of them it is is decided once, at the
//! first use; see [`implementation`].

#![forbid(unsafe_code)]

mod agreement;
mod choice;
mod signing;
mod types;
mod verification;

#[cfg(all(feature = "graviola", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod fast;
#[cfg(not(all(feature = "graviola", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[path = "none.rs"]
mod fast;

pub use agreement::{P256Ephemeral, X25519Ephemeral};
pub use choice::{Decided, Implementation, implementation, refuse_graviola};
pub use signing::SigningKey;
pub use types::{Curve, Hash, P256_POINT, Shared, VerifyingKey};
pub use verification::verify_digest;

#[cfg(test)]
mod tests;
