//! The agent's calls to the authority, and their connection.

mod chain;
pub mod channel;
pub mod client;
pub mod connection;
pub mod endorse_v1;
mod handshake;
#[cfg(test)]
mod proxy_tests;
pub mod route;
mod tls_failure;
pub mod upgrade;

use std::time::Duration;

use host::exit::Failure;
use p256::ecdsa::VerifyingKey;

use crate::ceremony::chain::StoredChain;
use crate::ceremony::connection::Connection;
use crate::credential::Unverified;
use crate::tpm::attester::{KnownEk, KnownJoinKey};
use crate::tpm::inventory::EkChoice;
use crate::tpm::passwords::Passwords;
use crate::tpm::thread::TpmThread;

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
}

/// A way to join: what the TPM proves, and the messages. A value is one attempt.
trait Ceremony: Sized {
    /// Creates the keys to prove in the TPM. This can take longer than an authority keeps an idle connection.
    fn prepare(
        tpm: &TpmThread,
        wanted: JoinParameters,
    ) -> impl Future<Output = Result<Self, Failure>> + Send;

    /// Proves it to the authority at the other end of this connection.
    fn join(
        self,
        connection: Connection,
        tpm: &TpmThread,
        stored: &StoredChain,
    ) -> impl Future<Output = Result<Granted, Failure>> + Send;
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
}

/// The form of a certificate's subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectForm {
    /// With the attributes that Teleport's software reads.
    Full,
    /// With a common name only, which any software can read.
    Plain,
}
