//! What the agent asks of the authority, and the connection that it asks on.

mod chain;
pub mod channel;
pub mod client;
pub mod connection;
pub mod endorse_v1;
mod handshake;
mod tls_failure;

use std::time::Duration;

use host::exit::Failure;
use p256::ecdsa::VerifyingKey;
use proto::v1::IssuedCredentials;

use crate::ceremony::chain::StoredChain;
use crate::ceremony::connection::Connection;
use crate::tpm::attester::KnownEk;
use crate::tpm::inventory::EkChoice;
use crate::tpm::passwords::Passwords;
use crate::tpm::thread::TpmThread;

/// What a host wants to join with.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Name of the token.
    pub token: String,
    /// Which endorsement key, if none is known.
    pub choice: EkChoice,
    /// The endorsement key that it has to be.
    pub known: Option<KnownEk>,
    /// The passwords of the TPM's hierarchies.
    pub passwords: Passwords,
    /// How long the certificates are to live; the authority may grant less.
    pub ttl: Duration,
}

/// A way to join: what is proven of the TPM, and in which messages. A value is one attempt.
trait Ceremony: Sized {
    /// Makes in the TPM what is going to be proven. That can take longer than an authority waits on an idle connection.
    fn prepare(
        tpm: &TpmThread,
        wanted: Wanted,
    ) -> impl Future<Output = Result<Self, Failure>> + Send;

    /// Proves it to the authority at the other end of this connection.
    fn join(
        self,
        connection: Connection,
        tpm: &TpmThread,
        stored: &StoredChain,
    ) -> impl Future<Output = Result<Granted, Failure>> + Send;
}

/// What the authority gave for a proof, and what the host must keep to renew it.
struct Granted {
    /// Not verified yet.
    issued: IssuedCredentials,
    /// The key that the certificates have to be for.
    key: VerifyingKey,
    /// The endorsement key, with all that was shown of it.
    ek: KnownEk,
    /// What makes the join key.
    unique: [u8; 32],
    /// The join key, TPMT_PUBLIC.
    join_key: Vec<u8>,
}
