//! A simulated host: its TPM is in software, its connections, its list of addresses, its judgement of failures and its back-off are
//! those of the agent.

use std::sync::Arc;

use agent::ceremony::channel::Channel;
use agent::ceremony::connection::Connection;
use agent::ceremony::endorse_v1::refused;
use agent::ceremony::route::Route;
use host::exit::{Exit, Failure};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::elliptic_curve::Generate;
use p256::pkcs8::EncodePublicKey;
use prost::Message;
use proto::transcript::issue_digest;
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::join_request::Step;
use proto::v1::join_response::Step as Reply;
use proto::v1::join_service_client::JoinServiceClient;
use proto::v1::{IssueRequest, IssuedCredentials, JoinRequest, JoinResponse, RenewRequest};
use rustls_pki_types::CertificateDer;
use testkit::simulated::SoftwareTpm;
use tls::{CaPin, ServerTrust};
use tokio::sync::mpsc;
use tokio::time::{Duration, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::cluster::TOKEN;

/// The agent's limit of the time for a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What a host asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Join,
    Renew,
    Issue,
}

pub(crate) struct Host {
    pub(crate) tpm: SoftwareTpm,
    addresses: Arc<[String]>,
    /// The index of the address to begin with.
    pub(crate) first: usize,
    /// What it trusts until it has joined.
    trust: ServerTrust,
    pub(crate) held: Option<IssuedCredentials>,
}

impl Host {
    pub(crate) fn new(addresses: Arc<[String]>, first: usize, trust: ServerTrust) -> Self {
        Self { tpm: SoftwareTpm::generate(), addresses, first, trust, held: None }
    }

    /// A call, at the next address if it is unavailable, as `agent::ceremony::client::Client` does it.
    pub(crate) async fn call(&mut self, call: Call) -> Result<IssuedCredentials, Failure> {
        let mut others = self.addresses.len();
        loop {
            let answer = self.call_once(call).await;
            others -= 1;
            match answer {
                Err(failure) if is_transient(&failure) => {
                    self.first = (self.first + 1) % self.addresses.len();
                    if others == 0 {
                        return Err(failure);
                    }
                }
                answer => return answer,
            }
        }
    }

    async fn call_once(&mut self, call: Call) -> Result<IssuedCredentials, Failure> {
        let identity = match (call, &self.held) {
            (Call::Join, _) => None,
            (_, held) => {
                let held = held.as_ref().ok_or_else(|| Failure::bug("it has not joined"))?;
                Some(self.tpm.identity(held))
            }
        };
        let route = Route::to_authority(&self.trusted()?, identity)?;
        let connection = Connection::open(&self.addresses[self.first], &route).await?;
        let issued = timeout(CALL_TIMEOUT, self.ask(call, connection)).await;
        let issued = issued.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")));
        let issued = issued.map_err(|status| refused(&status))?;
        let now = host::clock::now().unix_timestamp();
        if now < issued.not_before || issued.not_after <= now {
            let what = "by this host's clock the certificate is not valid";
            return Err(Failure::new(Exit::Data, what, "compare the clocks of both machines"));
        }
        if call != Call::Issue {
            self.held = Some(issued.clone());
        }
        Ok(issued)
    }

    /// The CAs of the trust bundle, or those of the configuration.
    fn trusted(&self) -> Result<ServerTrust, Failure> {
        let Some(held) = &self.held else { return Ok(self.trust.clone()) };
        let pin = |der: &Vec<u8>| CaPin::of_certificate(&CertificateDer::from(der.clone()));
        let pins = held.x509_authorities.iter().map(pin).collect::<Result<Vec<_>, _>>();
        Ok(ServerTrust::Pins(pins.map_err(Failure::bug)?))
    }

    async fn ask(&self, call: Call, connection: Connection) -> Result<IssuedCredentials, Status> {
        let Connection { channel, exporter, .. } = connection;
        if call == Call::Join {
            return self.join(channel, &exporter).await;
        }
        let mut client = IdentityServiceClient::with_origin(channel, Channel::origin());
        let trust_version = self.held.as_ref().map_or(0, |held| held.trust_version);
        let answer = match call {
            Call::Issue => client.issue(issue_request(&exporter)).await?,
            _ => client.renew(RenewRequest { trust_version, ..RenewRequest::default() }).await?,
        };
        Ok(answer.into_inner())
    }

    async fn join(
        &self,
        channel: Channel,
        exporter: &[u8; 32],
    ) -> Result<IssuedCredentials, Status> {
        let mut client = JoinServiceClient::with_origin(channel, Channel::origin());
        let (requests, outgoing) = mpsc::channel(2);
        let init = self.tpm.init(TOKEN).encode_to_vec();
        let ended = |_| Status::unavailable("the call has ended");
        let step = |step| JoinRequest { step: Some(step) };
        requests.send(step(Step::Init(init.clone()))).await.map_err(ended)?;
        let mut replies = client.join(ReceiverStream::new(outgoing)).await?.into_inner();
        let Reply::Challenge(challenge) = next(&mut replies).await? else {
            return Err(Status::internal("a result before the answer"));
        };
        let answer = self.tpm.answer(exporter, &init, &challenge);
        requests.send(step(Step::Answer(answer))).await.map_err(ended)?;
        match next(&mut replies).await? {
            Reply::Result(issued) => Ok(issued),
            Reply::Challenge(_) => Err(Status::internal("a second challenge")),
        }
    }
}

async fn next(replies: &mut Streaming<JoinResponse>) -> Result<Reply, Status> {
    let reply = replies.message().await?.and_then(|reply| reply.step);
    reply.ok_or_else(|| Status::internal("the call has ended without a result"))
}

fn issue_request(exporter: &[u8; 32]) -> IssueRequest {
    let key = SigningKey::generate();
    let public_key = key.verifying_key().to_public_key_der().expect("a key").into_vec();
    let signature: DerSignature =
        key.sign_prehash(&issue_digest(exporter, &public_key)).expect("a signature");
    let signature = signature.as_bytes().to_vec();
    IssueRequest { public_key, signature, service: "web".into(), ..IssueRequest::default() }
}

/// Whether the agent tries again soon, and first at another address; all else is for an operator.
pub(crate) fn is_transient(failure: &Failure) -> bool {
    matches!(failure.exit, Exit::Unavailable | Exit::Busy)
}
