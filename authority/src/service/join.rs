//! The ceremony of a join: claims, challenge, answer, certificates. docs/protocol.md tells it step
//! by step.
//!
//! Nothing that a host says decides anything before the answer has shown that its TPM holds both
//! keys, except whether the ceremony goes on. Every end of it is one line in the audit log.

use std::pin::Pin;
use std::sync::Arc;

use p256::PublicKey;
use prost::Message;
use proto::transcript::Transcript;
use proto::v1::join_init::Ek;
use proto::v1::join_request::Step as Request;
use proto::v1::join_response::Step as Response;
use proto::v1::join_service_server::JoinService;
use proto::v1::{
    IssuedCredentials, JoinAnswer, JoinChallenge, JoinInit, JoinRequest, JoinResponse,
};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::{error, info, warn};
use uuid::Uuid;
use verifier::chain::ChainPolicy;
use verifier::{
    Appraisal, CaCertificate, Challenge, Claim, Demand, EkClaim, EkFacts, Endorsement, UnixTime,
};

use super::Authority;
use super::refusal::{Code, Refusal};
use crate::audit::{Attempt, JoinEvent, bounded};
use crate::issue::Credentials;
use crate::resource::{Bot, EkHash, Name, Rule, Serial, SystemRole, Timestamp, TpmSpec};
use crate::server::Connection;
use crate::status::stream_ended;
use crate::store::{Instance, StoreError};

/// The join service of an authority.
pub struct Join(pub Arc<Authority>);

#[tonic::async_trait]
impl JoinService for Join {
    type JoinStream = ReceiverStream<Result<JoinResponse, Status>>;

    async fn join(
        &self,
        request: tonic::Request<Streaming<JoinRequest>>,
    ) -> Result<tonic::Response<Self::JoinStream>, Status> {
        let connection = request.extensions().get::<Connection>().cloned();
        let connection = connection
            .ok_or_else(|| Refusal::new(Code::Internal, "a call without its connection"))?;
        // Challenge and result: neither waits for room.
        let (replies, stream) = mpsc::channel(2);
        let authority = Arc::clone(&self.0);
        let requests = request.into_inner();
        tokio::spawn(async move {
            let mut ceremony = Ceremony {
                deadline: Box::pin(tokio::time::sleep(authority.join_timeout)),
                attempt: Attempt {
                    remote: Some(connection.remote.to_string()),
                    ..Attempt::default()
                },
                authority,
                connection,
                requests,
                replies: replies.clone(),
            };
            let reply = ceremony.run().await.map_err(Status::from);
            // Who went away learns nothing more.
            let _ = replies.send(reply).await;
        });
        Ok(tonic::Response::new(ReceiverStream::new(stream)))
    }
}

/// One join on its way.
struct Ceremony {
    authority: Arc<Authority>,
    connection: Connection,
    requests: Streaming<JoinRequest>,
    replies: mpsc::Sender<Result<JoinResponse, Status>>,
    deadline: Pin<Box<Sleep>>,
    attempt: Attempt,
}

/// Who wants to join, found fit to be challenged.
struct Candidate {
    token: Name,
    bot: Bot,
    tpm: TpmSpec,
    hostname: String,
    appraisal: Appraisal,
}

impl Ceremony {
    /// The ceremony, and its line in the audit log whatever its end.
    async fn run(&mut self) -> Result<JoinResponse, Refusal> {
        let joins = Arc::clone(&self.authority.joins);
        let joined = match joins.try_acquire() {
            Ok(_permit) => self.join().await,
            Err(_) => Err(Refusal::new(Code::Busy, "too many joins are under way")),
        };
        joined.inspect_err(|refusal| self.record_refusal(refusal))
    }

    async fn join(&mut self) -> Result<JoinResponse, Refusal> {
        let init = match self.next().await? {
            Request::Init(init) => init,
            Request::Answer(_) => {
                return Err(Refusal::new(Code::Malformed, "an answer without a question"));
            }
        };
        let candidate = self.admit(&init).await?;
        let challenge =
            candidate.appraisal.challenge().map_err(Refusal::because(Code::Internal))?;
        self.challenge(&challenge).await?;
        let answer = match self.next().await? {
            Request::Answer(answer) => answer,
            Request::Init(_) => return Err(Refusal::new(Code::Malformed, "a second init")),
        };
        self.check(&candidate, &challenge, &init, &answer)?;
        candidate.tpm.admits(candidate.appraisal.ek())?;
        self.grant(candidate).await
    }

    /// The next step of the host, if it comes in time.
    async fn next(&mut self) -> Result<Request, Refusal> {
        let message = tokio::select! {
            biased;
            () = &mut self.deadline => {
                return Err(Refusal::new(Code::AnswerLate, "the time of the join is over"));
            }
            message = self.requests.message() => message,
        };
        match message {
            Ok(Some(JoinRequest { step: Some(step) })) => Ok(step),
            Ok(Some(JoinRequest { step: None })) => {
                Err(Refusal::new(Code::Malformed, "a request without a step that is known"))
            }
            Ok(None) => Err(Refusal::new(Code::Abandoned, "the host has ended the stream")),
            Err(status) => Err(stream_ended(&status)),
        }
    }

    /// Whether the token lets this host try, and whether what it shows of its TPM is fit to be
    /// challenged.
    async fn admit(&mut self, init: &[u8]) -> Result<Candidate, Refusal> {
        let init = JoinInit::decode(init).map_err(Refusal::because(Code::Malformed))?;
        self.attempt.token_name = bounded(&init.token);
        self.attempt.hostname = bounded(&init.hostname);
        self.attempt.agent_version = bounded(&init.agent_version);
        let now = self.authority.clock.now();

        let unknown = |cause: &dyn std::fmt::Display| Refusal::new(Code::TokenUnknown, cause);
        let name: Name = init.token.parse().map_err(|cause| unknown(&cause))?;
        let token = self.authority.records.token(&name).await.map_err(store_failed)?;
        let token = token.ok_or_else(|| unknown(&format!("there is no token {name}")))?;
        if token.metadata.expired(now) {
            return Err(Refusal::new(Code::TokenExpired, format!("the token {name} has expired")));
        }
        let role = || Refusal::new(Code::TokenRole, "the token does not let bots join by TPM");
        if !token.spec.roles.contains(&SystemRole::Bot) {
            return Err(role());
        }
        let (Some(bot_name), Some(tpm)) = (token.spec.bot_name, token.spec.tpm) else {
            return Err(role());
        };
        self.attempt.bot_name = Some(bot_name.clone());
        let bot = self.authority.records.bot(&bot_name).await.map_err(store_failed)?;
        let bot = bot.filter(|bot| !bot.metadata.expired(now)).ok_or_else(|| {
            Refusal::new(Code::BotUnknown, format!("there is no bot {bot_name}, or it has expired"))
        })?;

        let anchors = tpm.allowed_cas().map_err(Refusal::because(Code::Internal))?;
        let appraisal = self.appraise(&init, &anchors, now)?;
        let hostname = bounded(&init.hostname).unwrap_or_default();
        Ok(Candidate { token: name, bot, tpm, hostname, appraisal })
    }

    fn appraise(
        &mut self,
        init: &JoinInit,
        anchors: &[CaCertificate],
        now: OffsetDateTime,
    ) -> Result<Appraisal, Refusal> {
        let ek = match &init.ek {
            Some(Ek::EkCertificate(der)) => EkClaim::Certificate(der),
            Some(Ek::EkPublic(spki)) => EkClaim::PublicKey(spki),
            None => {
                return Err(Refusal::new(
                    Code::Malformed,
                    "neither EK certificate nor EK public key",
                ));
            }
        };
        let demand = if anchors.is_empty() {
            Demand::Key
        } else {
            let at = UnixTime::from_seconds(now.unix_timestamp());
            Demand::Certificate { anchors, policy: ChainPolicy::default(), at }
        };
        let claim = Claim { ek, ek_chain: &init.ek_chain, join_key: &init.join_key };
        let appraised = verifier::appraise(&claim, demand);
        let facts = match &appraised {
            Ok(appraisal) => Some(appraisal.ek()),
            Err(error) => error.ek(),
        };
        if let Some(facts) = facts {
            self.note(facts)?;
        }
        appraised.map_err(|error| Refusal::new(Code::Evidence(error.code()), error))
    }

    fn note(&mut self, facts: &EkFacts) -> Result<(), Refusal> {
        let internal = |cause| Refusal::new(Code::Internal, cause);
        self.attempt.ek_pub_hash = Some(facts.hash.parse::<EkHash>().map_err(internal)?);
        let serial = facts.serial.as_deref().map(str::parse::<Serial>).transpose();
        self.attempt.ek_cert_serial = serial.map_err(internal)?;
        self.attempt.ek_cert_verified = matches!(facts.endorsement, Endorsement::Verified { .. });
        Ok(())
    }

    async fn challenge(&self, challenge: &Challenge) -> Result<(), Refusal> {
        let challenge = JoinChallenge {
            credential_blob: challenge.blob().to_vec(),
            encrypted_seed: challenge.encrypted_seed().to_vec(),
        };
        let reply = JoinResponse { step: Some(Response::Challenge(challenge)) };
        let gone = |_| Refusal::new(Code::Abandoned, "the host went away before the challenge");
        self.replies.send(Ok(reply)).await.map_err(gone)
    }

    /// Whether the TPM with this EK holds the join key, and the join key's holder wants this join.
    fn check(
        &mut self,
        candidate: &Candidate,
        challenge: &Challenge,
        init: &[u8],
        answer: &JoinAnswer,
    ) -> Result<(), Refusal> {
        let transcript = Transcript::new(
            &self.connection.exporter,
            init,
            challenge.blob(),
            challenge.encrypted_seed(),
        );
        transcript.verify_mac(challenge.secret().expose(), &answer.mac).map_err(|_| {
            Refusal::new(Code::AnswerWrong, "the MAC is not made with the credential's secret")
        })?;
        self.attempt.ek_proven = true;
        candidate
            .appraisal
            .join_key()
            .verify(&transcript.signing_digest(), &answer.signature)
            .map_err(|_| {
                Refusal::new(Code::SignatureWrong, "the join key has not signed this join")
            })
    }

    /// Issues, records, tells, in this order: a host that has its certificates is on record.
    async fn grant(&mut self, candidate: Candidate) -> Result<JoinResponse, Refusal> {
        let authority = Arc::clone(&self.authority);
        let now = authority.clock.now();
        let key = PublicKey::from(candidate.appraisal.join_key().verifying_key());
        let issued = authority
            .issuer
            .credentials(&candidate.bot, &key, now)
            .map_err(Refusal::because(Code::Internal))?;
        let bot = candidate.bot.metadata.name.clone();
        let result = self.result(&bot, &issued)?;
        let instance = self.instance(candidate, result.instance.clone(), &issued, now)?;
        authority.records.record(&instance).await.map_err(store_failed)?;

        let attempt = Attempt {
            bot_instance_id: Some(instance.id.clone()),
            certificate_serial: Some(issued.serial),
            certificate_expires: Some(Timestamp(issued.not_after)),
            ..self.attempt.clone()
        };
        if let Err(cause) = authority.audit.write(&JoinEvent::granted(Timestamp(now), attempt)) {
            if let Err(kept) = authority.records.forget(&instance).await {
                error!(instance = instance.id, %kept, "a join not granted stays on record");
            }
            return Err(Refusal::new(Code::Internal, format!("the audit log: {cause}")));
        }
        info!(
            token = %instance.token, %bot, instance = instance.id, remote = %self.connection.remote,
            ek = %instance.ek_pub_hash, serial = instance.certificate_serial, "join granted"
        );
        Ok(JoinResponse { step: Some(Response::Result(result)) })
    }

    fn result(&self, bot: &Name, issued: &Credentials) -> Result<IssuedCredentials, Refusal> {
        let issuer = &self.authority.issuer;
        let ssh = issuer.ssh().public_key().map_err(Refusal::because(Code::Internal))?;
        Ok(IssuedCredentials {
            certificates: vec![issued.x509.to_vec()],
            x509_authorities: vec![issuer.x509().certificate().to_vec()],
            ssh_certificate: issued.ssh.clone(),
            ssh_authorities: vec![ssh],
            cluster: issuer.cluster().to_string(),
            bot: bot.to_string(),
            instance: Uuid::new_v4().to_string(),
            not_after: issued.not_after.unix_timestamp(),
            not_before: issued.not_before.unix_timestamp(),
            generation: 1,
        })
    }

    fn instance(
        &self,
        candidate: Candidate,
        id: String,
        issued: &Credentials,
        now: OffsetDateTime,
    ) -> Result<Instance, Refusal> {
        let hash = self.attempt.ek_pub_hash.clone();
        Ok(Instance {
            id,
            bot: candidate.bot.metadata.name,
            token: candidate.token,
            ek_pub_hash: hash
                .ok_or_else(|| Refusal::new(Code::Internal, "an EK without a hash"))?,
            ek_cert_serial: self.attempt.ek_cert_serial.clone(),
            ek_cert_verified: self.attempt.ek_cert_verified,
            hostname: candidate.hostname,
            certificate_serial: issued.serial.clone(),
            joined: Timestamp(now),
            expires: Timestamp(issued.not_after),
        })
    }

    fn record_refusal(&self, refusal: &Refusal) {
        let (code, reason) = (refusal.code.as_str(), refusal.reason.as_str());
        let token = self.attempt.token_name.as_deref().unwrap_or_default();
        warn!(code, reason, token, remote = %self.connection.remote, "join refused");
        let time = Timestamp(self.authority.clock.now());
        let event = JoinEvent::refused(time, self.attempt.clone(), code, reason);
        if let Err(cause) = self.authority.audit.write(&event) {
            error!(%cause, "the audit log cannot be written");
        }
    }
}

impl TpmSpec {
    /// Whether a rule matches: one of which everything that it sets is equal.
    fn admits(&self, ek: &EkFacts) -> Result<(), Refusal> {
        if self.allow.iter().any(|rule| rule.matches(ek)) {
            return Ok(());
        }
        let reason = format!("no rule of the token allows the EK {}", ek.hash);
        Err(Refusal::new(Code::EkNotAllowed, reason))
    }
}

impl Rule {
    fn matches(&self, ek: &EkFacts) -> bool {
        let hash = self.ek_public_hash.as_ref().map(|hash| hash.as_str() == ek.hash);
        let serial = self
            .ek_certificate_serial
            .as_ref()
            .map(|serial| ek.serial.as_deref() == Some(serial.as_str()));
        match (hash, serial) {
            // A rule that sets nothing is refused when it is made; here it would match everybody.
            (None, None) => false,
            (hash, serial) => hash.unwrap_or(true) && serial.unwrap_or(true),
        }
    }
}

fn store_failed(cause: StoreError) -> Refusal {
    Refusal::new(Code::Internal, cause)
}
