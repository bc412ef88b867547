//! TPM 2.0, from the wire format up.
//!
//! Every § in this crate refers to version 185 (March 2026) of the Trusted Computing Group's *Trusted Platform Module
//! Library*, unless it says otherwise.
//!
//! * [`wire`] reads and writes octets; [`types`] has the structures of Part 2, [`commands`] the commands of Part 3. They
//!   borrow, allocate nothing and need no operating system: with [`template`] they are all that is left without features.
#![cfg_attr(
    feature = "crypto",
    doc = "* [`crypto`] computes what the peer of a TPM must: Names, key derivation, policies, credentials."
)]
#![cfg_attr(
    feature = "client",
    doc = "* [`session`] protects commands and checks answers; [`Tpm`] runs commands over a [`transport`].
* [`object`], [`pcr`], [`attest`], [`policy`], [`seal`], [`nv`], [`capability`] and [`context`] are what a TPM is for, in a call each:
  keys created, loaded and imported, PCRs read, quotes, policies, sealed data, NV indices, what the TPM has, objects put away. Each
  command by itself is there too."
)]
#![cfg_attr(
    feature = "key-file",
    doc = "* [`key_file`] reads and writes keys as OpenSSL's TPM providers do."
)]
#![cfg_attr(
    all(feature = "client", feature = "alloc"),
    doc = "* [`tools`] reads and writes the files of tpm2-tools.
* [`endorsement`] finds, creates and uses the keys that the EK credential profile describes."
)]
#![cfg_attr(
    feature = "signature",
    doc = "* [`signer`] lets a key in the TPM sign for the crate `signature`, such as a certificate request."
)]
//! * With features, keys and signatures are those of the crates `p256`, `p384`, `p521` and `rsa` too, and public keys have an
//!   encoding as `spki`.
//!
//! A search finds things by their names in the specification, such as `TPM_ALG_SHA256`, `TPMA_OBJECT_SIGN_ENCRYPT`,
//! `TPMT_PUBLIC`, `TPM_RC_LOCKOUT` or `TPM_CC_NV_Write`.
//!
//! # Features
//!
//! | feature | content | needs |
//! |---|---|---|
//! | none | `wire`, `types`, `commands`, `template`: `no_std`, no allocation, no dependency | |
//! | `crypto` | `crypto`: what the peer of a TPM computes, such as Names, policies, credentials; `no_std`, no allocation | RustCrypto |
//! | `client` | sessions, the client `Tpm`, and what a TPM is for; `no_std`, no allocation, randomness from the caller | `crypto` |
//! | `alloc` | what gives or keeps as much as there is, such as lists; with `client` also endorsement keys | |
//! | `getrandom` | randomness from the operating system, or what the crate `getrandom` is configured for | |
//! | `std` (default) | errors of the operating system, addresses of TPMs, layers over transports | `client`, `alloc`, `getrandom` |
//! | `device` (default) | a transport to a character device, such as the kernel's `/dev/tpmrm0` | `std` |
//! | `swtpm` (default) | a transport to the software TPM swtpm | `std` |
//! | `mssim` | a transport to the simulator of the reference code | `std` |
//! | `cmd` | a transport to the standard input and output of a program, which it runs | `std` |
//! | `tbs` | a transport to the TPM Base Services of Windows; compiled, not yet run there | `std` |
//! | `key-file` (default) | `key_file`: key files of OpenSSL's TPM providers | `client`, `alloc` |
//! | `p256` | keys and signatures convert to those of the crate `p256`; secrets are shared with keys on P-256 without it | `crypto` |
//! | `p384` (default) | secrets are shared with keys on P-384, and conversions as for `p256` | `crypto` |
//! | `p521` (default) | secrets are shared with keys on P-521, and conversions as for `p256` | `crypto` |
//! | `rsa` (default) | secrets are shared with RSA keys, and public keys convert to those of the crate `rsa` | `crypto` |
//! | `spki` | public keys as `SubjectPublicKeyInfo` | `crypto`, `alloc` |
//! | `signature` | `signer`: a key in the TPM signs for the crate `signature`, such as a certificate request | `client`, `spki`, `p256` |
//!
//! # Example
//!
//! A quote, and data that are given back only as long as a PCR holds what it holds now:
//!
//! ```no_run
//! # #[cfg(feature = "std")]
//! # fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use tpm2::attest::{Signer, quote};
//! use tpm2::crypto::HashAlg;
//! use tpm2::object::create_primary;
//! use tpm2::policy::{Policy, Step};
//! use tpm2::seal::{seal, unseal};
//! use tpm2::session::Auth;
//! use tpm2::template::{AK_P256, SRK_P256};
//! use tpm2::types::{Alg, Digest, Hierarchy, PcrBits, SensitiveCreate};
//! use tpm2::{Tpm, pcr, wire::List};
//!
//! let mut tpm = Tpm::open("device:/dev/tpmrm0")?;
//! let (owner, nothing) = (Hierarchy::Owner, SensitiveCreate::EMPTY);
//! let selected = PcrBits::of(&[7]).ok_or("a PCR")?;
//! let pcrs = [selected.bank(Alg::SHA256)];
//!
//! let (ak, _) = create_primary(&mut tpm, owner, Auth::password(b""), &AK_P256, nothing)?;
//! let signer = Signer { key: ak.object(), auth: Auth::password(b"") };
//! let nonce = [0x5a; 32]; // from the verifier
//! let quoted = quote(&mut tpm, signer, &nonce, &pcrs)?;
//! tpm.flush(ak.handle())?;
//!
//! let (srk, _) = create_primary(&mut tpm, owner, Auth::password(b""), &SRK_P256, nothing)?;
//! let now = pcr::digest(&mut tpm, HashAlg::Sha256, &pcrs)?;
//! let steps = [Step::Pcr { pcrs: List::new(&pcrs), digest: Digest::from(&now) }];
//! let policy = Policy::new(&steps);
//! let digest = policy.digest(HashAlg::Sha256)?;
//! let sealed = seal(&mut tpm, &srk, Auth::EMPTY, b"secret", &digest, b"")?;
//! let data = unseal(&mut tpm, &srk, Auth::EMPTY, &sealed, &policy, b"")?;
//! assert_eq!(data.expose(), b"secret");
//! # let _ = quoted;
//! # Ok(())
//! # }
//! ```
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(all(windows, feature = "tbs")), forbid(unsafe_code))]
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

#[cfg(any(feature = "alloc", test))]
extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

#[cfg(feature = "client")]
pub mod attest;
#[cfg(feature = "client")]
pub mod capability;
#[cfg(feature = "client")]
mod client;
pub mod commands;
#[cfg(feature = "client")]
pub mod context;
#[cfg(feature = "crypto")]
pub mod crypto;
#[cfg(all(feature = "client", feature = "alloc"))]
pub mod endorsement;
#[cfg(feature = "client")]
mod error;
#[cfg(feature = "key-file")]
pub mod key_file;
#[cfg(feature = "client")]
pub mod nv;
#[cfg(feature = "client")]
pub mod object;
#[cfg(feature = "client")]
pub mod pcr;
#[cfg(feature = "client")]
pub mod policy;
#[cfg(feature = "client")]
pub mod seal;
#[cfg(feature = "client")]
pub mod session;
#[cfg(feature = "signature")]
pub mod signer;
pub mod template;
#[cfg(test)]
mod testdata;
#[cfg(test)]
#[cfg(feature = "default")]
mod tests;
#[cfg(all(feature = "client", feature = "alloc"))]
pub mod tools;
#[cfg(feature = "client")]
pub mod transport;
pub mod types;
pub mod wire;

#[cfg(feature = "std")]
pub use client::AnyTpm;
#[cfg(feature = "client")]
pub use client::{Secured, Tpm};
#[cfg(feature = "client")]
pub use error::{Error, Fault, Protection};

#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;
