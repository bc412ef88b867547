//! The host's end of a join without the agent's good manners: it can say what no agent would.

use agent::ceremony::channel::Channel;
use agent::ceremony::connection::Connection;
use agent::ceremony::route::Route;
use agent::tpm::attester::{Attester, KeysToMake, KnownEk};
use agent::tpm::inventory::EkChoice;
use agent::tpm::passwords::Passwords;
use anyhow::{Context, Result, bail};
use host::exit::Failure;
use p256::ecdsa::Signature;
use prost::Message;
use proto::transcript::Transcript;
use proto::v1::join_init::Ek;
use proto::v1::join_request::Step as Request;
use proto::v1::join_response::Step as Response;
use proto::v1::join_service_client::JoinServiceClient;
use proto::v1::{JoinAnswer, JoinChallenge, JoinInit, JoinRequest, JoinResponse};
use testkit::swtpm::Swtpm;
use tls::ServerTrust;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tpm2::Tpm;

use crate::tpm::{Way, client};
use crate::world::{TIMEOUT, World};

/// A connection to the authority.
pub struct Wire {
    client: JoinServiceClient<Channel>,
    /// What only its two ends know.
    pub exporter: [u8; 32],
}

impl Wire {
    /// Connects.
    pub async fn open(world: &World) -> Result<Self> {
        let trust = ServerTrust::Pins(vec![world.pin().parse()?]);
        let route = Route::to_authority(&trust, None)?;
        let Connection { channel, exporter, .. } =
            Connection::open(world.address(), &route).await.map_err(Failure::from)?;
        Ok(Self { client: JoinServiceClient::with_origin(channel, Channel::origin()), exporter })
    }

    /// Begins a join.
    pub async fn call(&self) -> Result<Call, Status> {
        let (requests, outgoing) = mpsc::channel(8);
        let replies = self.client.clone().join(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Call { requests, replies })
    }

    /// A join up to its challenge.
    pub async fn challenged(&self, init: &[u8]) -> Result<(Call, JoinChallenge)> {
        let mut call = self.call().await?;
        call.send(Request::Init(init.to_vec())).await;
        let challenge = call.challenge().await?;
        Ok((call, challenge))
    }

    /// What an answer on this connection has to cover.
    pub fn transcript(&self, init: &[u8], challenge: &JoinChallenge) -> Transcript {
        let JoinChallenge { credential_blob, encrypted_seed } = challenge;
        Transcript::new(&self.exporter, init, credential_blob, encrypted_seed)
    }
}

/// A join under way.
pub struct Call {
    requests: mpsc::Sender<JoinRequest>,
    replies: Streaming<JoinResponse>,
}

impl Call {
    /// Sends a step. The authority may have ended the call already.
    pub async fn send(&self, step: Request) {
        self.send_raw(JoinRequest { step: Some(step) }).await;
    }

    /// Sends any message.
    pub async fn send_raw(&self, request: JoinRequest) {
        let _ = self.requests.send(request).await;
    }

    async fn reply(&mut self) -> Result<Response, Status> {
        let reply = tokio::time::timeout(TIMEOUT, self.replies.message()).await;
        let reply = reply.map_err(|_| Status::unknown("no reply"))??;
        reply.and_then(|reply| reply.step).ok_or_else(|| Status::unknown("nothing"))
    }

    /// The authority's challenge.
    pub async fn challenge(&mut self) -> Result<JoinChallenge, Status> {
        match self.reply().await? {
            Response::Challenge(challenge) => Ok(challenge),
            Response::Result(_) => Err(Status::unknown("a result instead of a challenge")),
        }
    }

    /// Waits for what a join ends with.
    pub async fn granted(&mut self) -> Result<(), Status> {
        match self.reply().await? {
            Response::Result(_) => Ok(()),
            Response::Challenge(_) => Err(Status::unknown("another challenge")),
        }
    }

    /// The refusal that the join ends with.
    pub async fn refusal(&mut self) -> Result<Status> {
        match self.reply().await {
            Err(status) if status.message() == "nothing" => bail!("an end without a word"),
            Err(status) => Ok(status),
            Ok(reply) => bail!("not refused: {reply:?}"),
        }
    }
}

/// A host whose TPM is real and whose agent is ours to misuse.
pub struct Host {
    /// Its TPM.
    pub tpm: Tpm<Way>,
    /// What it has there.
    pub attester: Attester,
}

impl Host {
    /// Makes session and join key in the TPM.
    pub fn new(swtpm: &Swtpm, unique: &[u8; 32]) -> Result<Self> {
        let mut tpm = client(swtpm)?;
        let attester = Attester::prepare(
            &mut tpm,
            EkChoice::Auto,
            None,
            &Passwords::default(),
            KeysToMake::only(unique),
        )?;
        Ok(Self { tpm, attester })
    }

    /// The claim of an honest agent.
    pub fn init(&self, token: &str) -> JoinInit {
        JoinInit {
            token: token.into(),
            ek: Some(claim(self.attester.ek())),
            join_key: self.attester.join_key().public().to_vec(),
            hostname: "host-1".into(),
            agent_version: "tests".into(),
            ..JoinInit::default()
        }
    }

    /// The answer of an honest agent.
    pub fn answer(
        &mut self,
        transcript: &Transcript,
        challenge: &JoinChallenge,
    ) -> Result<JoinAnswer> {
        let secret = self.activate(challenge)?;
        Ok(JoinAnswer { mac: transcript.mac(&secret).to_vec(), signature: self.sign(transcript)? })
    }

    /// Opens a challenge.
    pub fn activate(&mut self, challenge: &JoinChallenge) -> Result<Vec<u8>> {
        let JoinChallenge { credential_blob, encrypted_seed } = challenge;
        let secret = self.attester.activate(&mut self.tpm, credential_blob, encrypted_seed)?;
        Ok(secret.expose().to_vec())
    }

    /// Signs with the join key.
    pub fn sign(&mut self, transcript: &Transcript) -> Result<Vec<u8>> {
        let digest = transcript.signing_digest();
        let [r, s] = self.attester.join_key().sign(&mut self.tpm, &digest)?;
        let signature = Signature::from_scalars(r, s).ok().context("a signature")?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

/// An endorsement key as an honest agent shows it.
pub fn claim(ek: &KnownEk) -> Ek {
    match &ek.certificate {
        Some(certificate) => Ek::EkCertificate(certificate.der().to_vec()),
        None => Ek::EkPublic(ek.key.spki_der()),
    }
}

/// An encoded claim.
pub fn encoded(init: &JoinInit) -> Vec<u8> {
    init.encode_to_vec()
}
