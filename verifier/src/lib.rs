//! Appraises the evidence of a TPM 2.0: bytes, time and policy in, verdict out.
//!
//! Nothing here does I/O, waits, or reads a clock. All input is treated as hostile: it is bounded, then parsed, then used. An
//! error names the part and its offset, and has a [`Fault`] class.
//!
//! - [`EkCertificate`] and [`EkPublicKey`]: the identity that the TPM claims. EK certificates are never renewed, and many are not
//!   valid DER; the reader accepts the known defects of existing TPMs, and no others.
//! - [`CaCertificate`], [`pem`] and [`chain`]: whether a trusted CA has issued the EK certificate.
//! - [`JoinKey`], [`ServiceKey`]: whether the key to certify never leaves a TPM.
//! - [`Challenge`]: what only the TPM with both keys can answer.
//! - [`AttestationKey`]: verifies a TPM's statements: quotes, certified keys and their creation.
//! - [`event_log`]: what a machine booted, as far as its PCRs prove it.
//! - [`appraise`]: the whole appraisal of a join.
//!
//! Whether a machine booted with Secure Boot, by a quote and its event log. That the key is in a TPM is another question, which a
//! [`Challenge`] answers.
//!
//! ```no_run
//! use std::fs;
//! use tpm2::crypto::HashAlg;
//! use verifier::event_log::EventLog;
//! use verifier::{Attestation, AttestationKey, PcrValues};
//!
//! let (public, attest, signature) = (fs::read("public")?, fs::read("attest")?, fs::read("signature")?);
//! let nonce = [0x5a; 32]; // sent to the host before
//! let key = AttestationKey::appraise(&public)?;
//!
//! let log = fs::read("binary_bios_measurements")?;
//! let log = EventLog::parse(&log)?;
//! let claimed = PcrValues::new().with_bank(&log.replay(HashAlg::Sha256)?);
//! let evidence = Attestation { attest: &attest, signature: &signature };
//! let quote = key.quote(evidence, &nonce, &claimed)?;
//! let measured = log.measured(&quote.pcrs, HashAlg::Sha256)?;
//! println!("secure boot: {:?}", measured.secure_boot()?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! | feature | content |
//! |---|---|
//! | `p256` | join keys and services' keys as those of the crate `p256` |
//! | `precomputed-tables` | challenges for EKs on P-521 in two thirds of the time |

#![forbid(unsafe_code)]
// Tests may count and index as they please: a panic is how they fail.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod appraisal;
mod attestation;
mod attestation_key;
mod ca;
pub mod chain;
mod challenge;
mod der;
mod effort;
mod ek;
mod error;
pub mod event_log;
mod extensions;
mod join_key;
mod key;
mod name;
mod oid;
mod pcr;
pub mod pem;
mod resident_key;
mod roca;
mod self_certified;
mod service_key;
mod signature;
#[cfg(test)]
mod tests;
pub mod text;
mod time;
mod tpm_model;
mod x509;

pub use appraisal::{
    Appraisal, AppraisalError, AppraisedKey, Cause, Claim, Demand, EkClaim, EkFacts, Endorsement,
    KeyClaim, appraise,
};
pub use attestation::{
    Attestation, AttestationError, Certified, Created, MIN_NONCE, Quote, Report,
};
pub use attestation_key::{AttestationKey, AttestationKeyError};
pub use ca::CaCertificate;
pub use challenge::{Challenge, ChallengeError};
pub use der::DerError;
pub use der::MAX_CERTIFICATE;
pub use effort::{Effort, KnownSignatures};
pub use ek::EkCertificate;
pub use error::{CertificateError, Fault, KeyError};
pub use join_key::{JOIN_KEY_ATTRIBUTES, JoinKey};
pub use key::{Curve, EccKey, EkPublicKey, Exponents, RsaKey};
pub use pcr::{PCRS, PcrValues, QuotedPcrs};
pub use resident_key::KeyTemplateError;
pub use self_certified::{AkClaim, AkError};
pub use service_key::ServiceKey;
pub use signature::{Hash, SignatureAlgorithm, SignatureWrong};
pub use time::UnixTime;
pub use tpm_model::TpmModel;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
