//! TPM 2.0, from the wire format up.
//!
//! Every § in this crate refers to version 185 (March 2026) of the Trusted Computing Group's *Trusted Platform Module
//! Library*, unless it says otherwise.
//!
//! * [`wire`] reads and writes octets; [`types`] has the structures of Part 2, [`commands`] the commands of Part 3. They
//!   borrow, allocate nothing and need no operating system: they are all that is left without features.
//! * [`crypto`] computes what the peer of a TPM must: Names, key derivation, credentials.
//! * [`session`] protects commands and checks answers; [`Tpm`] runs commands over a [`transport`].
//! * [`object`], [`attest`], [`seal`], [`nv`] and [`context`] are what a TPM is for, in a call each: keys created, loaded and
//!   imported, quotes, sealed data, NV indices, objects put away. Each command by itself is there too.
//! * [`key_file`] reads and writes keys as OpenSSL's TPM providers do.
//! * [`template`] and [`endorsement`] know the keys that the EK credential profile describes.
#![no_std]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

#[cfg(any(feature = "std", test))]
extern crate std;

#[cfg(feature = "std")]
pub mod attest;
#[cfg(feature = "std")]
mod client;
pub mod commands;
#[cfg(feature = "std")]
pub mod context;
#[cfg(feature = "crypto")]
pub mod crypto;
#[cfg(feature = "std")]
pub mod endorsement;
#[cfg(feature = "std")]
mod error;
#[cfg(feature = "std")]
pub mod key_file;
#[cfg(feature = "std")]
pub mod nv;
#[cfg(feature = "std")]
pub mod object;
#[cfg(feature = "std")]
pub mod seal;
#[cfg(feature = "std")]
pub mod session;
pub mod template;
#[cfg(test)]
#[cfg(feature = "std")]
mod tests;
#[cfg(feature = "std")]
pub mod transport;
pub mod types;
pub mod wire;

#[cfg(feature = "std")]
pub use client::{Secured, Tpm};
#[cfg(feature = "std")]
pub use error::{Error, Fault};
