//! `endorse.v1` for hosts: joins, renewals, certificates for services. docs/protocol.md has the
//! messages.

use std::pin::Pin;
use std::sync::Arc;

use prost::Message;
use proto::v1::identity_service_server::IdentityService;
use proto::v1::join_request::Step as Request;
use proto::v1::join_response::Step as Response;
use proto::v1::join_service_server::JoinService;
use proto::v1::{
    IssueRequest, IssuedCredentials, JoinAnswer, JoinChallenge, JoinInit, JoinRequest,
    JoinResponse, RenewRequest, WhoAmIRequest, WhoAmIResponse,
};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use verifier::Challenge;

use super::status::stream_ended;
use crate::service::join::Join;
use crate::service::refusal::{Code, Refusal};
use crate::service::reissue::{Call, Wish};
use crate::service::{Authority, Peer};

/// The services for hosts.
pub(crate) struct Hosts(pub(crate) Arc<Authority>);

#[tonic::async_trait]
impl JoinService for Hosts {
    type JoinStream = ReceiverStream<Result<JoinResponse, Status>>;

    async fn join(
        &self,
        request: tonic::Request<Streaming<JoinRequest>>,
    ) -> Result<tonic::Response<Self::JoinStream>, Status> {
        let peer = peer(&request)?;
        // Challenge and result: neither waits for room.
        let (replies, stream) = mpsc::channel(2);
        let authority = Arc::clone(&self.0);
        let mut host = Host {
            deadline: Box::pin(tokio::time::sleep(authority.join_timeout)),
            requests: request.into_inner(),
            replies: replies.clone(),
        };
        tokio::spawn(async move {
            let mut join = Join::new(authority, peer);
            let joined = ceremony(&mut join, &mut host).await;
            let reply = join.end(joined).map_err(Status::from);
            // A host that has gone gets no reply.
            let _ = replies.send(reply).await;
        });
        Ok(tonic::Response::new(ReceiverStream::new(stream)))
    }
}

/// Claim, challenge, answer, credentials.
async fn ceremony(join: &mut Join, host: &mut Host) -> Result<JoinResponse, Refusal> {
    let bytes = host.init().await?;
    let _under_way = join.begin()?;
    let init = JoinInit::decode(&*bytes).map_err(Refusal::because(Code::Malformed))?;
    let candidate = join.admit(init).await?;
    host.challenge(candidate.challenge()).await?;
    let answer = host.answer().await?;
    join.check(&candidate, &bytes, &answer)?;
    let credentials = join.grant(&candidate).await?;
    Ok(JoinResponse { step: Some(Response::Result(credentials)) })
}

/// The host at the other end of a join.
struct Host {
    requests: Streaming<JoinRequest>,
    replies: mpsc::Sender<Result<JoinResponse, Status>>,
    deadline: Pin<Box<Sleep>>,
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

    /// The next step, if it comes in time.
    async fn next(&mut self) -> Result<Request, Refusal> {
        let message = tokio::select! {
            biased;
            () = &mut self.deadline => {
                return Err(Refusal::new(Code::AnswerLate, "the join timed out"));
            }
            message = self.requests.message() => message,
        };
        match message {
            Ok(Some(JoinRequest { step: Some(step) })) => Ok(step),
            Ok(Some(JoinRequest { step: None })) => {
                Err(Refusal::new(Code::Malformed, "a request with an unknown step"))
            }
            Ok(None) => Err(Refusal::new(Code::Abandoned, "the host closed the stream")),
            Err(status) => Err(stream_ended(&status)),
        }
    }

    async fn challenge(&self, challenge: &Challenge) -> Result<(), Refusal> {
        let challenge = JoinChallenge {
            credential_blob: challenge.blob().to_vec(),
            encrypted_seed: challenge.encrypted_seed().to_vec(),
        };
        let reply = JoinResponse { step: Some(Response::Challenge(challenge)) };
        let gone =
            |_| Refusal::new(Code::Abandoned, "the host closed the stream before the challenge");
        self.replies.send(Ok(reply)).await.map_err(gone)
    }
}

#[tonic::async_trait]
impl IdentityService for Hosts {
    async fn who_am_i(
        &self,
        request: tonic::Request<WhoAmIRequest>,
    ) -> Result<tonic::Response<WhoAmIResponse>, Status> {
        Ok(tonic::Response::new(self.0.who_am_i(&peer(&request)?).await?))
    }

    async fn renew(
        &self,
        request: tonic::Request<RenewRequest>,
    ) -> Result<tonic::Response<IssuedCredentials>, Status> {
        let peer = peer(&request)?;
        self.reissue(peer, Wish::Renew(request.into_inner())).await
    }

    async fn issue(
        &self,
        request: tonic::Request<IssueRequest>,
    ) -> Result<tonic::Response<IssuedCredentials>, Status> {
        let peer = peer(&request)?;
        self.reissue(peer, Wish::Issue(request.into_inner())).await
    }
}

impl Hosts {
    /// In a task of its own, so that a caller who hangs up does not leave it half done.
    async fn reissue(
        &self,
        peer: Peer,
        wish: Wish,
    ) -> Result<tonic::Response<IssuedCredentials>, Status> {
        let call = Call::new(Arc::clone(&self.0), peer, wish);
        let done = tokio::spawn(call.run()).await;
        let done = done.map_err(|cause| Refusal::new(Code::Internal, cause))?;
        Ok(tonic::Response::new(done?))
    }
}

fn peer<T>(request: &tonic::Request<T>) -> Result<Peer, Refusal> {
    let peer = request.extensions().get::<Peer>().cloned();
    peer.ok_or_else(|| Refusal::new(Code::Internal, "a call without connection information"))
}
