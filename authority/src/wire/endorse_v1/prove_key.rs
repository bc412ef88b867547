//! The messages by which a host proves that a service's key is in its TPM.

use std::sync::Arc;

use prost::Message;
use proto::transcript::Transcript;
use proto::v1::prove_key_request::Step as Request;
use proto::v1::prove_key_response::Step as Response;
use proto::v1::{JoinAnswer, KeyProven, ProveKeyInit, ProveKeyRequest, ProveKeyResponse};
use tonic::Streaming;
use verifier::Challenge;

use super::messages;
use crate::service::refusal::{Code, Refusal};
use crate::service::residency::{KeyClaim, KeyProof, ProvenClaim};
use crate::service::{Authority, Peer};
use crate::wire::conversation::{Conversation, Replies};

/// The host at the other end of a proof.
struct Host {
    exporter: [u8; 32],
    messages: Conversation<ProveKeyRequest, ProveKeyResponse>,
}

/// Runs one proof in a task of its own, so that a host that hangs up does not leave it half done.
pub(super) fn run(
    authority: Arc<Authority>,
    peer: Peer,
    requests: Streaming<ProveKeyRequest>,
) -> Replies<ProveKeyResponse> {
    let exporter = peer.exporter;
    let (messages, replies) = Conversation::new(requests, authority.join_timeout);
    let mut host = Host { exporter, messages };
    tokio::spawn(async move {
        let mut proof = KeyProof::new(authority, peer);
        let proven = prove(&mut proof, &mut host).await;
        let ended = proof.end(proven).await;
        let proven = |()| ProveKeyResponse { step: Some(Response::Proven(KeyProven {})) };
        host.messages.end(ended.map(proven).map_err(Into::into)).await;
    });
    replies
}

/// Claim, challenge, answer; `None` if the proof is on record.
async fn prove(proof: &mut KeyProof, host: &mut Host) -> Result<Option<ProvenClaim>, Refusal> {
    let init = host.init().await?;
    let _under_way = proof.begin()?;
    let claim = ProveKeyInit::decode(init.as_slice()).map_err(Refusal::because(Code::Malformed))?;
    let Some(candidate) = proof.appraise(claim.into()).await? else { return Ok(None) };
    host.challenge(candidate.challenge()).await?;
    let JoinAnswer { mac, signature } = host.answer().await?;
    let transcript = host.transcript(&init, candidate.challenge());
    let verify = |challenge: &Challenge| {
        let verified = transcript.verify_mac(challenge.secret().expose(), &mac);
        verified.map_err(|_| "the MAC was not computed with the credential's secret")
    };
    candidate.check(verify, &transcript.signed_message(), &signature).map(Some)
}

impl Host {
    /// The claim, as the bytes that the proof covers.
    async fn init(&mut self) -> Result<Vec<u8>, Refusal> {
        match self.next().await? {
            Request::Init(init) => Ok(init),
            Request::Answer(_) => {
                Err(Refusal::new(Code::Malformed, "an answer before the init message"))
            }
        }
    }

    async fn answer(&mut self) -> Result<JoinAnswer, Refusal> {
        match self.next().await? {
            Request::Answer(answer) => Ok(answer),
            Request::Init(_) => Err(Refusal::new(Code::Malformed, "a second init")),
        }
    }

    async fn next(&mut self) -> Result<Request, Refusal> {
        let unknown = || Refusal::new(Code::Malformed, "a request with an unknown step");
        self.messages.next().await?.step.ok_or_else(unknown)
    }

    async fn challenge(&self, challenge: &Challenge) -> Result<(), Refusal> {
        let challenge = Response::Challenge(messages::challenge(challenge));
        self.messages.reply(ProveKeyResponse { step: Some(challenge) }).await
    }

    fn transcript(&self, init: &[u8], challenge: &Challenge) -> Transcript {
        let (blob, seed) = (challenge.blob(), challenge.encrypted_seed());
        Transcript::of_service_key(&self.exporter, init, blob, seed)
    }
}

impl From<ProveKeyInit> for KeyClaim {
    fn from(init: ProveKeyInit) -> Self {
        let ProveKeyInit { ek_public, ek_name_alg, key, service } = init;
        Self { ek_public, ek_name_alg, key, service }
    }
}
