//! `endorse.v1` for hosts: joins, renewals, certificates for services. docs/protocol.md has the
//! messages.

mod messages;
mod prove_key;

use std::sync::Arc;

use prost::Message;
use proto::transcript::Transcript;
use proto::v1::identity_service_server::IdentityService;
use proto::v1::join_request::Step as Request;
use proto::v1::join_response::Step as Response;
use proto::v1::join_service_server::JoinService;
use proto::v1::{
    IssueRequest, IssuedCredentials, JoinAnswer, JoinInit, JoinRequest, JoinResponse,
    ProveKeyRequest, ProveKeyResponse, RenewRequest, WhoAmIRequest, WhoAmIResponse,
};
use tonic::{Status, Streaming};
use verifier::Challenge;

use self::messages::Claim;
use super::conversation::{Conversation, Replies};
use super::{grant, peer};
use crate::evidence::{Answer, Bytes, Protocol};
use crate::issue::Ttl;
use crate::service::Authority;
use crate::service::evidence::{Answered, Format, Received};
use crate::service::join::{Candidate, Join};
use crate::service::refusal::{Code, Refusal};

/// The services for hosts.
pub(crate) struct Hosts(pub(crate) Arc<Authority>);

#[tonic::async_trait]
impl JoinService for Hosts {
    type JoinStream = Replies<JoinResponse>;

    async fn join(
        &self,
        request: tonic::Request<Streaming<JoinRequest>>,
    ) -> Result<tonic::Response<Self::JoinStream>, Status> {
        let peer = peer(&request)?;
        let (exporter, authority) = (peer.exporter, Arc::clone(&self.0));
        let (messages, replies) = Conversation::new(request.into_inner(), authority.join_timeout);
        let mut host = Host { exporter, messages };
        tokio::spawn(async move {
            let mut join = Join::new(authority, peer);
            let joined = ceremony(&mut join, &mut host).await;
            host.messages.end(join.end(joined).map_err(Status::from)).await;
        });
        Ok(tonic::Response::new(replies))
    }
}

/// Claim, challenge, answer, credentials.
async fn ceremony(join: &mut Join, host: &mut Host) -> Result<JoinResponse, Refusal> {
    let bytes: Arc<[u8]> = host.init().await?.into();
    let _under_way = join.begin()?;
    let (candidate, ttl) = appraise(join, &bytes).await?;
    host.challenge(candidate.challenge()).await?;
    let answer = host.answer().await?;
    let transcript = host.transcript(&bytes, candidate.challenge());
    let kept = Answer::Mac {
        mac: Bytes(beginning(&answer.mac)),
        signature: Bytes(beginning(&answer.signature)),
    };
    let proven = join.check(candidate, kept, |secret| {
        let mac = transcript.verify_mac(secret.expose(), &answer.mac);
        mac.map_err(|_| "the MAC was not computed with the credential's secret")
    })?;
    let key = proven.join_key(&transcript.signed_message(), &answer.signature)?;
    let grant = join.grant(&proven, &Ok(key), &Ok(ttl)).await?;
    Ok(JoinResponse { step: Some(Response::Result(grant.into())) })
}

/// The host as a candidate, and the lifetime that it asks for. Of its claim nothing else is kept while it answers.
async fn appraise(join: &mut Join, bytes: &Arc<[u8]>) -> Result<(Candidate, Ttl), Refusal> {
    let init = JoinInit::decode(&**bytes).map_err(Refusal::because(Code::Malformed))?;
    let claim = Claim::from(init);
    join.describe(&claim.token, &claim.host);
    let ttl = claim.ttl?;
    join.set_chosen_id(claim.id?);
    let snapshot = join.open_token(&claim.token).await?;
    let received = Received { format: &FORMAT, bytes: Arc::clone(bytes) };
    Ok((join.appraise(snapshot, claim.evidence, received).await?, ttl))
}

/// Claims and answers of this protocol, for evidence that is appraised again.
pub(crate) static FORMAT: Format = Format {
    protocol: Protocol::EndorseV1,
    read: |bytes| JoinInit::decode(bytes).ok().map(|init| Claim::from(init).evidence),
    check: |Answered { claim, exporter, challenge, answer }| {
        let (Answer::Mac { mac, .. }, Ok(exporter)) = (answer, <&[u8; 32]>::try_from(*exporter))
        else {
            return Err("the answer or the value of the connection is not of this protocol");
        };
        let (blob, seed) = (challenge.blob(), challenge.encrypted_seed());
        let transcript = Transcript::new(exporter, claim, blob, seed);
        let right = transcript.verify_mac(challenge.secret().expose(), &mac.0);
        right.map_err(|_| "the MAC was not computed with the credential's secret")?;
        Ok(Some(transcript.signed_message()))
    },
};

/// A MAC or a signature as it is kept: of a longer one than ECDSA with P-256 has, the beginning shows that it is wrong.
fn beginning(bytes: &[u8]) -> Vec<u8> {
    const MAX: usize = 80;
    bytes.get(..MAX).unwrap_or(bytes).to_vec()
}

/// The host at the other end of a join.
struct Host {
    /// A value that only the two ends of this connection can compute.
    exporter: [u8; 32],
    messages: Conversation<JoinRequest, JoinResponse>,
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
        let challenge = messages::challenge(challenge);
        self.messages.reply(JoinResponse { step: Some(Response::Challenge(challenge)) }).await
    }

    /// What the proof covers.
    fn transcript(&self, init: &[u8], challenge: &Challenge) -> Transcript {
        Transcript::new(&self.exporter, init, challenge.blob(), challenge.encrypted_seed())
    }
}

#[tonic::async_trait]
impl IdentityService for Hosts {
    async fn who_am_i(
        &self,
        request: tonic::Request<WhoAmIRequest>,
    ) -> Result<tonic::Response<WhoAmIResponse>, Status> {
        let caller = self.0.who_am_i(&peer(&request)?).await?;
        Ok(tonic::Response::new(caller.into()))
    }

    async fn renew(
        &self,
        request: tonic::Request<RenewRequest>,
    ) -> Result<tonic::Response<IssuedCredentials>, Status> {
        let peer = peer(&request)?;
        let renewal = messages::renewal(request.into_inner());
        Ok(tonic::Response::new(grant(&self.0, peer, renewal).await?.into()))
    }

    async fn issue(
        &self,
        request: tonic::Request<IssueRequest>,
    ) -> Result<tonic::Response<IssuedCredentials>, Status> {
        let peer = peer(&request)?;
        let issue = messages::issue(request.into_inner(), &peer.exporter);
        Ok(tonic::Response::new(grant(&self.0, peer, issue).await?.into()))
    }

    type ProveKeyStream = Replies<ProveKeyResponse>;

    async fn prove_key(
        &self,
        request: tonic::Request<Streaming<ProveKeyRequest>>,
    ) -> Result<tonic::Response<Self::ProveKeyStream>, Status> {
        let peer = peer(&request)?;
        let replies = prove_key::run(Arc::clone(&self.0), peer, request.into_inner());
        Ok(tonic::Response::new(replies))
    }
}
