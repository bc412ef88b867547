//! The agent's calls to the authority, and their connection.

mod approach;
pub mod authenticated;
mod chain;
pub mod channel;
pub mod client;
#[cfg(feature = "teleport")]
mod confirm;
pub mod connection;
pub mod endorse_v1;
mod handshake;
mod prove_key;
#[cfg(test)]
mod proxy_tests;
pub mod reissue;
#[cfg(feature = "teleport")]
mod rejoin;
pub mod route;
mod ssh_host;
#[cfg(feature = "teleport")]
pub mod teleport;
mod tls_failure;
mod trust_chain;
pub mod upgrade;
#[cfg(not(feature = "teleport"))]
mod without_teleport;
mod wording;
pub mod workloads;

use std::time::Duration;

use host::exit::Failure;
use p256::ecdsa::VerifyingKey;
use serde::{Deserialize, Serialize};

use crate::config::Protocol;
use crate::credential::Unverified;
use crate::tpm::attester::{AkAlgorithm, KnownEk, KnownJoinKey};
use crate::tpm::inventory::EkChoice;
use crate::tpm::passwords::Passwords;

/// What a host wants to join with.
#[derive(Clone, Debug)]
pub struct JoinParameters {
    /// Name of the token.
    pub token: String,
    /// Which endorsement key, if none is known.
    pub choice: EkChoice,
    /// The endorsement key that it has to be.
    pub known: Option<KnownEk>,
    /// The passwords of the TPM's hierarchies.
    pub passwords: Passwords,
    /// The requested lifetime of the certificates; the authority may grant less.
    pub ttl: Duration,
    /// The protocol to join by; without, the server decides it.
    pub protocol: Option<Protocol>,
    /// The attestation key to begin with, if the protocol has one.
    pub attestation_key: AkAlgorithm,
    /// What makes a repeated join the same, if the protocol has that.
    pub attempt: JoinAttempt,
}

/// A join, however often it is repeated because its result was lost: the authority makes one bot instance of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinAttempt {
    /// What the authority knows it by.
    pub id: [u8; 16],
    /// The unique field of the join key's template.
    pub unique: [u8; 32],
}

impl JoinAttempt {
    /// A new one.
    ///
    /// # Errors
    /// The operating system has no random numbers.
    pub fn new() -> Result<Self, Failure> {
        let mut attempt = Self { id: [0; 16], unique: [0; 32] };
        tpm2::crypto::random(&mut attempt.id).map_err(Failure::bug)?;
        tpm2::crypto::random(&mut attempt.unique).map_err(Failure::bug)?;
        Ok(attempt)
    }
}

/// Issued credentials, and what the host must store to renew them.
struct Granted {
    issued: Unverified,
    /// The key that the certificates have to be for.
    key: VerifyingKey,
    /// The endorsement key, with the certificates that were sent.
    ek: KnownEk,
    /// The join key.
    join_key: KnownJoinKey,
    /// The algorithm of the attestation key, if the protocol has one.
    attestation_key: Option<AkAlgorithm>,
}

/// The form of a certificate's subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectForm {
    /// With the attributes that Teleport's software reads.
    Full,
    /// With a common name only, which any software can read.
    Plain,
}
