//! The ceremony of a join: claims, challenge, answer, certificates. docs/protocol.md tells it step
//! by step.
//!
//! Nothing that a host says decides anything before the answer has shown that its TPM holds both
//! keys, except whether the ceremony goes on. Every end of it is one line in the audit log.

use std::sync::Arc;

use proto::transcript::Transcript;
use proto::v1::join_init::Ek;
use proto::v1::{IssuedCredentials, JoinAnswer, JoinInit};
use time::OffsetDateTime;
use tracing::info;
use verifier::chain::ChainPolicy;
use verifier::{
    Appraisal, AppraisalError, CaCertificate, Challenge, Claim, Demand, Effort, EkClaim, EkFacts,
    Endorsement, KnownSignatures, UnixTime,
};

use super::admission::store_failed;
use super::allowance::Allowance;
use super::caller::key_hash;
use super::grant::{Decision, Granted, Judged, MAX_RETRIES, overtaken};
use super::refusal::{Code, Refusal};
use super::token_cache::OpenToken;
use super::{Authority, Peer};
use crate::audit::{Action, Attempt, Event, bounded};
use crate::issue::{Profile, SubjectKey, Ttl, Validity};
use crate::resource::{BotInstance, ProvenEk, Timestamp};
use crate::store::Basis;

/// The longest SubjectPublicKeyInfo of an EK, in bytes: RSA of 4096 bits has 550.
const MAX_EK_PUBLIC: usize = 1024;

/// One join, from a host's claim to its credentials. A protocol calls [`Join::begin`], [`Join::admit`],
/// [`Join::check`] and [`Join::grant`] in this order, and [`Join::end`] whatever the end is.
pub(crate) struct Join {
    authority: Arc<Authority>,
    peer: Peer,
    attempt: Attempt,
}

/// A host that is fit to be challenged.
pub(crate) struct Candidate {
    token: Arc<OpenToken>,
    /// Bot and token when the join began.
    basis: Basis,
    ttl: Ttl,
    appraisal: Appraisal,
    challenge: Challenge,
}

impl Candidate {
    /// What only a TPM with both keys can answer.
    pub(crate) fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// Whether bot and token are those that the join began with, and not others of the same names.
    fn is_of(&self, basis: &Basis) -> Result<(), Refusal> {
        if basis.bot != self.basis.bot {
            let reason = format!("the bot {} was replaced during the join", self.token.bot);
            return Err(Refusal::new(Code::BotUnknown, reason));
        }
        if basis.token != self.basis.token {
            let reason = format!("the token {} was replaced during the join", self.token.name);
            return Err(Refusal::new(Code::TokenUnknown, reason));
        }
        Ok(())
    }
}

impl Join {
    pub(crate) fn new(authority: Arc<Authority>, peer: Peer) -> Self {
        let attempt = Attempt::from(peer.remote);
        Self { authority, peer, attempt }
    }

    /// Counts this join as under way while the value is there.
    pub(crate) fn begin(&self) -> Result<Box<dyn Send>, Refusal> {
        let busy = || Refusal::new(Code::Busy, "too many joins are in progress");
        self.peer.places.begin_join().ok_or_else(busy)
    }

    /// Counts the end of the join, and records a refusal. A grant is on record already.
    pub(crate) fn end<T>(self, result: Result<T, Refusal>) -> Result<T, Refusal> {
        self.authority.count(Action::Join, &result);
        result.inspect_err(|refusal| {
            self.authority.record_refusal(Action::Join, &self.peer, self.attempt, refusal);
        })
    }

    /// Whether the token lets this host try, and whether what it shows of its TPM is fit to be
    /// challenged.
    pub(crate) async fn admit(&mut self, init: JoinInit) -> Result<Candidate, Refusal> {
        self.attempt.token_name = bounded(&init.token);
        self.attempt.hostname = bounded(&init.hostname);
        self.attempt.agent_version = bounded(&init.agent_version);
        let now = self.authority.clock.now();

        let ttl = Ttl::try_from(init.ttl_seconds).map_err(Refusal::because(Code::Malformed))?;
        let token = self.authority.open_token(&init.token, now).await?;
        self.attempt.bot_name = Some(token.bot.clone());
        let basis = self.authority.records.basis(&token.bot, &token.name, &[]).await;
        let basis = basis.map_err(store_failed)?;
        self.authority.bot(&token.bot, now).await?;

        let (appraisal, challenge) = self.appraise(init, Arc::clone(&token), now).await?;
        Ok(Candidate { token, basis, ttl, appraisal, challenge })
    }

    /// The host's keys, and the challenge for them. Computed by workers: neither costs little, and
    /// nothing is proven yet.
    async fn appraise(
        &mut self,
        init: JoinInit,
        token: Arc<OpenToken>,
        now: OffsetDateTime,
    ) -> Result<(Appraisal, Challenge), Refusal> {
        // A claim without the certificate that the token demands is refused unparsed. Its hash tells
        // the operator all the same which TPM it was.
        self.attempt.ek_pub_hash = match &init.ek {
            Some(Ek::EkPublic(spki)) if spki.len() <= MAX_EK_PUBLIC => key_hash(spki).parse().ok(),
            _ => None,
        };
        let without_purpose = token.without_purpose;
        let policy = ChainPolicy { without_purpose, ..self.authority.ek_policy };
        let known = Arc::clone(&self.authority.known_signatures);
        let allowance = match self.peer.certificate {
            Some(_) => Allowance::unlimited(),
            None => self.peer.allowance.clone(),
        };
        let appraise = move || {
            let appraised = allowance
                .compute(|effort| appraise(&init, &token.anchors, policy, now, &known, effort))?;
            Ok(appraised.map(|appraisal| (appraisal.challenge(), appraisal)))
        };
        match self.authority.workers.run(self.peer.source(), appraise).await?? {
            Ok((challenge, appraisal)) => {
                self.note(appraisal.ek())?;
                Ok((appraisal, challenge.map_err(Refusal::because(Code::Internal))?))
            }
            Err(error) => {
                if let Some(facts) = error.ek() {
                    self.note(facts)?;
                }
                Err(Refusal::new(Code::Evidence(error.code()), error.explain()))
            }
        }
    }

    fn note(&mut self, facts: &EkFacts) -> Result<(), Refusal> {
        let ek = remembered(facts)?;
        self.attempt.ek_pub_hash = Some(ek.public_hash);
        self.attempt.ek_cert_serial = ek.certificate_serial;
        self.attempt.ek_cert_verified = ek.verified_by.is_some();
        Ok(())
    }

    /// Whether the TPM with this EK holds the join key, and the join key's holder wants this join.
    pub(crate) fn check(
        &mut self,
        candidate: &Candidate,
        init: &[u8],
        answer: &JoinAnswer,
    ) -> Result<(), Refusal> {
        let challenge = &candidate.challenge;
        let transcript = Transcript::new(
            &self.peer.exporter,
            init,
            challenge.blob(),
            challenge.encrypted_seed(),
        );
        transcript.verify_mac(challenge.secret().expose(), &answer.mac).map_err(|_| {
            Refusal::new(Code::AnswerWrong, "the MAC was not computed with the credential's secret")
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

    /// Issues, records, answers, in this order: a host that has its certificates is on record.
    pub(crate) async fn grant(
        &mut self,
        candidate: &Candidate,
    ) -> Result<IssuedCredentials, Refusal> {
        let authority = Arc::clone(&self.authority);
        let ek = remembered(candidate.appraisal.ek())?;
        let key = SubjectKey::from(candidate.appraisal.join_key().verifying_key());
        let mut tries = MAX_RETRIES;
        let Granted { issued, instance } = loop {
            let now = authority.clock.now();
            let decision = self.decide(candidate, ek.clone(), &key, now).await?;
            if let Some(granted) = authority.record(decision).await? {
                break granted;
            }
            tries = tries.checked_sub(1).ok_or_else(overtaken)?;
        };
        info!(
            token = %candidate.token.name, instance = instance.path(),
            remote = %self.peer.remote, ek = %instance.status.ek.public_hash,
            serial = issued.serial, "join granted"
        );
        authority.issued(&instance, &issued)
    }

    /// Judges the host by what is on record now: its join may have waited for long.
    async fn decide(
        &self,
        candidate: &Candidate,
        ek: ProvenEk,
        key: &SubjectKey,
        now: OffsetDateTime,
    ) -> Result<Decision, Refusal> {
        let authority = &self.authority;
        let mut instance = self.instance(candidate, ek, key, now)?;
        let Judged { bot, basis } = authority.admissible(&instance, now).await?;
        authority.entitled(&instance, now).await?;
        candidate.is_of(&basis)?;
        let validity = Validity { now, ttl: candidate.ttl };
        let profile = Profile::identity(instance.status.generation);
        let issued = authority.issuer.credentials(&bot, &instance, profile, key, validity);
        let issued = issued.map_err(Refusal::because(Code::Internal))?;
        instance.status.certificate_serial.clone_from(&issued.serial);
        instance.lives_until(Timestamp(issued.not_after));
        let attempt = Attempt {
            bot_instance_id: Some(instance.spec.instance_id.to_string()),
            generation: Some(instance.status.generation),
            certificate_serial: Some(issued.serial.clone()),
            certificate_expires: Some(Timestamp(issued.not_after)),
            ..self.attempt.clone()
        };
        let event = Event::granted(Action::Join, Timestamp(now), attempt);
        Ok(Decision { issued, event, instance, basis, before: None })
    }

    /// What a host becomes that joins. It has no certificate yet.
    fn instance(
        &self,
        candidate: &Candidate,
        ek: ProvenEk,
        key: &SubjectKey,
        now: OffsetDateTime,
    ) -> Result<BotInstance, Refusal> {
        let public_key = key.to_spki().map_err(Refusal::because(Code::Internal))?;
        let (bot, token) = (candidate.token.bot.clone(), candidate.token.name.clone());
        let key = key_hash(&public_key);
        let mut instance = BotInstance::joining(bot, token, ek, key, now);
        let said = |text: &Option<String>| text.clone().unwrap_or_default();
        instance.status.hostname = said(&self.attempt.hostname);
        instance.status.agent_version = said(&self.attempt.agent_version);
        Ok(instance)
    }
}

fn appraise(
    init: &JoinInit,
    anchors: &[CaCertificate],
    policy: ChainPolicy,
    now: OffsetDateTime,
    known: &KnownSignatures,
    effort: &mut Effort,
) -> Result<Result<Appraisal, Box<AppraisalError>>, Refusal> {
    let ek = match &init.ek {
        Some(Ek::EkCertificate(der)) => EkClaim::Certificate(der),
        Some(Ek::EkPublic(spki)) => EkClaim::PublicKey(spki),
        None => {
            let reason = "neither EK certificate nor EK public key";
            return Err(Refusal::new(Code::Malformed, reason));
        }
    };
    let demand = if anchors.is_empty() {
        Demand::Key
    } else {
        let at = UnixTime::from_seconds(now.unix_timestamp());
        Demand::Certificate { anchors, policy, at, known }
    };
    let claim = Claim {
        ek,
        ek_chain: &init.ek_chain,
        join_key: &init.join_key,
        ek_name_alg: init.ek_name_alg,
    };
    Ok(verifier::appraise(&claim, demand, effort))
}

/// What is remembered of an EK.
fn remembered(ek: &EkFacts) -> Result<ProvenEk, Refusal> {
    let internal = |cause| Refusal::new(Code::Internal, cause);
    Ok(ProvenEk {
        public_hash: ek.hash.parse().map_err(internal)?,
        certificate_serial: ek.serial.as_deref().map(str::parse).transpose().map_err(internal)?,
        certificate_issuer: ek.issuer.as_deref().and_then(|issuer| issuer.parse().ok()),
        verified_by: match &ek.endorsement {
            Endorsement::Verified { anchor } => Some(anchor.clone()),
            Endorsement::Absent | Endorsement::Unverified => None,
        },
    })
}
