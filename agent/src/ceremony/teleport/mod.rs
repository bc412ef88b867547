//! A join by Teleport's protocols. Both of its services take the same evidence: an attestation key that certified its own
//! creation, and the activation of a credential for it. Nothing ties the key that is certified to that TPM, nor the proof to
//! the connection, so a host that can join by `endorse.v1` does.

mod attempt;
mod issued;
mod join;
mod legacy;
mod server;

use std::time::Duration;

use host::clock;
use host::exit::{Exit, Failure};
use p256::ecdsa::VerifyingKey;
use tonic::{Code, Status};
use verifier::JoinKey as AppraisedKey;

pub(super) use self::attempt::{Attempt, Service};
pub use self::server::ClaimedCas;
pub(super) use self::server::{fetch_cas, ping};
use crate::ceremony::connection::Connection;
use crate::ceremony::wording::TELEPORT;
use crate::ceremony::{Granted, JoinParameters, endorse_v1};
use crate::credential::Unverified;
use crate::ssh;
use crate::tpm::attester::{
    AkAlgorithm, AkEvidence, Attester, JoinKey, KeysToMake, KnownEk, KnownJoinKey,
};
use crate::tpm::thread::{Tpm, TpmThread};

/// The name of the join method.
const METHOD: &str = "tpm";

/// The system role of a bot.
const ROLE: &str = "Bot";

/// A join whose keys are in the TPM. It serves several attempts, until one gets a challenge.
pub(super) struct Teleport {
    attester: Option<Attester>,
    algorithm: AkAlgorithm,
    join_key: JoinKey,
    claim: Claim,
    key: VerifyingKey,
}

/// What a host tells either service.
#[derive(Clone)]
struct Claim {
    token: String,
    ek: KnownEk,
    evidence: AkEvidence,
    /// The key to be certified, SubjectPublicKeyInfo.
    spki: Vec<u8>,
    /// The same in SSH's wire format.
    ssh: Vec<u8>,
    /// The end of the lifetime that is asked for, seconds since 1970.
    expires: i64,
}

/// An encrypted credential, without the lengths that Teleport puts before its parts.
pub struct Challenge {
    /// The contents of TPM2B_ID_OBJECT.
    pub credential_blob: Vec<u8>,
    /// The contents of TPM2B_ENCRYPTED_SECRET.
    pub encrypted_seed: Vec<u8>,
}

/// Why an attempt failed, and which attempt may succeed.
pub(super) struct Unjoined {
    pub(super) failure: Failure,
    pub(super) next: Option<Attempt>,
    /// The server has answered, so the connection can be used for it.
    pub(super) is_answered: bool,
    /// The server refused the certificate that was shown to it, or this host's join with it.
    pub(super) is_denied: bool,
}

impl From<Failure> for Unjoined {
    fn from(failure: Failure) -> Self {
        Self { failure, next: None, is_answered: false, is_denied: false }
    }
}

impl Teleport {
    /// Creates the keys to prove in the TPM; `join_key` is created again, if it is known.
    pub(super) async fn prepare(
        tpm: &TpmThread,
        wanted: JoinParameters,
        algorithm: AkAlgorithm,
        join_key: Option<KnownJoinKey>,
    ) -> Result<Self, Failure> {
        let JoinParameters { token, choice, known, passwords, ttl, .. } = wanted;
        let (mut fresh, mut ak) = ([0; 32], [0; 256]);
        tpm2::crypto::random(&mut fresh).map_err(Failure::bug)?;
        tpm2::crypto::random(&mut ak).map_err(Failure::bug)?;
        let unique = join_key.as_ref().map_or(fresh, |known| known.unique);
        let prepare = move |tpm: &mut Tpm| {
            let keys = KeysToMake { join_key: &unique, attestation_key: Some((algorithm, &ak)) };
            Attester::prepare(tpm, choice, known, &passwords, keys)
        };
        let attester = tpm.call(prepare).await?;
        if let Some(known) = &join_key {
            attester.join_key().check(known)?;
        }
        let evidence = attester.attestation_key().map(|key| key.evidence().clone());
        let evidence = evidence.ok_or_else(|| Failure::bug("no attestation key"))?;
        evidence.check()?;
        let appraised = AppraisedKey::appraise(attester.join_key().public()).map_err(|error| {
            let message =
                format!("the TPM created a key that does not match the template: {error}");
            Failure::new(
                Exit::Data,
                message,
                "update the driver and the firmware of the TPM: one of them is faulty",
            )
        })?;
        let key = *appraised.verifying_key();
        let claim = Claim {
            token,
            ek: attester.ek().clone(),
            evidence,
            spki: appraised.spki_der(),
            ssh: ssh::key::blob(&key),
            expires: clock::now().unix_timestamp().saturating_add(seconds(ttl)),
        };
        let join_key = attester.join_key().clone();
        Ok(Self { attester: Some(attester), algorithm, join_key, claim, key })
    }

    /// The key that is certified.
    pub(super) const fn join_key(&self) -> &JoinKey {
        &self.join_key
    }

    /// The endorsement key.
    pub(super) const fn ek(&self) -> &KnownEk {
        &self.claim.ek
    }

    /// Proves the attestation key to a service at the other end of this connection.
    pub(super) async fn join(
        &mut self,
        connection: &Connection,
        tpm: &TpmThread,
        service: Service,
    ) -> Result<Granted, Unjoined> {
        let attempt = Attempt { service, algorithm: self.algorithm };
        let claim = self.claim.clone();
        let solver = Solver { tpm, attester: &mut self.attester };
        let issued: Unverified = match service {
            Service::Join => join::run(connection, claim, solver, attempt).await?,
            Service::Legacy => legacy::run(connection, claim, solver, attempt).await?,
        };
        Ok(Granted {
            issued,
            key: self.key,
            ek: self.claim.ek.clone(),
            join_key: self.join_key.known().clone(),
            attestation_key: Some(self.algorithm),
        })
    }

    /// Removes the keys from the TPM, which has room for few.
    pub(super) async fn discard(self, tpm: &TpmThread) -> Result<(), Failure> {
        let Some(attester) = self.attester else { return Ok(()) };
        tpm.call(move |tpm| attester.discard(tpm)).await
    }
}

/// What opens the challenge.
struct Solver<'a> {
    tpm: &'a TpmThread,
    attester: &'a mut Option<Attester>,
}

impl Solver<'_> {
    async fn open(self, challenge: Challenge) -> Result<Vec<u8>, Failure> {
        let again = || Failure::bug("the challenge of a join was already answered");
        let mut attester = self.attester.take().ok_or_else(again)?;
        let open = move |tpm: &mut Tpm| {
            let Challenge { credential_blob, encrypted_seed } = challenge;
            attester.activate(tpm, &credential_blob, &encrypted_seed)
        };
        Ok(self.tpm.call(open).await?.expose().to_vec())
    }
}

impl Challenge {
    /// Reads a credential as both services send it: each part with its length before it.
    ///
    /// # Errors
    /// A length is not that of its part.
    pub fn new(credential_blob: &[u8], secret: &[u8]) -> Result<Self, Failure> {
        let inner = |sized: &[u8]| {
            let (length, inner) = sized.split_first_chunk()?;
            let is_whole = usize::from(u16::from_be_bytes(*length)) == inner.len();
            is_whole.then(|| inner.to_vec())
        };
        match (inner(credential_blob), inner(secret)) {
            (Some(credential_blob), Some(encrypted_seed)) => {
                Ok(Self { credential_blob, encrypted_seed })
            }
            _ => Err(disorder("a malformed challenge")),
        }
    }
}

/// A failure at this step, of this attempt.
fn failed(status: &Status, connection: &Connection, next: Option<Attempt>) -> Unjoined {
    if let Some(failure) = connection.end.rejection() {
        return Unjoined { is_denied: true, ..failure.into() };
    }
    let is_denied = matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated);
    let is_answered = status.code() == Code::Unimplemented;
    Unjoined { failure: refused(status), next, is_answered, is_denied }
}

/// What a status of a Teleport service means, with advice for what is known.
pub fn refused(status: &Status) -> Failure {
    let failure = endorse_v1::refused_by(&TELEPORT, status);
    let advice = match status.message() {
        said if said.contains("requires Teleport Enterprise") => {
            "ask the cluster's operator: a host can join by its TPM only with Teleport Enterprise"
        }
        said if said.contains("did not match any allow rules") => {
            "add the rule that `agent identify --format rule` prints to the token"
        }
        said if said.contains("expired or not found") => {
            "check the name of the token; it may have expired (`tctl tokens ls`)"
        }
        said if said.contains("is not for `tpm` method")
            || said.contains("only supports method") =>
        {
            "use a token whose `join_method` is tpm"
        }
        said if said.contains("does not allow") && said.contains("role") => {
            "use a token whose `roles` are [Bot]"
        }
        said if said.contains("is in force") || said.contains("has been locked") => {
            "ask the cluster's operator to remove the lock (`tctl get locks`)"
        }
        said if said.contains("legacy join service has been disabled") => {
            "ask the cluster's operator: the server has no join service that this agent knows"
        }
        _ if status.code() == Code::Unimplemented => {
            return Failure::new(
                Exit::Data,
                "the server has none of Teleport's join services",
                "check that the address is that of a Teleport Auth Service or Proxy",
            );
        }
        _ => return failure,
    };
    Failure { advice: advice.into(), ..failure }
}

/// The server violates the protocol.
fn disorder(sent: &str) -> Failure {
    Failure::new(
        Exit::Data,
        format!("the server sent {sent}"),
        "check that this version of Teleport is supported",
    )
}

fn hung_up() -> Failure {
    Failure::new(Exit::Unavailable, "the server closed the connection", "try again")
}

fn seconds(ttl: Duration) -> i64 {
    endorse_v1::seconds(ttl)
}
