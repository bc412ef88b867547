//! The steps of a join: claim, challenge, answer, certificates, as docs/protocol.md describes them.
//!
//! Before the answer has shown that the TPM holds both keys, a host's claims decide only whether the join continues. Each end
//! of a join is one line in the audit log.

use std::sync::Arc;

use time::OffsetDateTime;
use tracing::info;
use verifier::chain::ChainPolicy;
use verifier::{
    Appraisal, AppraisalError, CaCertificate, Challenge, Claim, Demand, Effort, EkClaim, EkFacts,
    Endorsement, KnownSignatures, UnixTime,
};

use super::allowance::Allowance;
use super::caller::key_hash;
use super::checks::store_failed;
use super::grant::{CheckedBot, Grant, MAX_RETRIES, PendingGrant, overtaken};
use super::refusal::{Code, Refusal};
use super::request::{HostInfo, Parsed};
use super::token_cache::OpenToken;
use super::{Authority, Peer};
use crate::audit::{Action, Attempt, Event, bounded};
use crate::issue::{Profile, SubjectKey, Ttl, Validity};
use crate::resource::{BotInstance, ProvenEk, Timestamp};
use crate::store::Basis;

/// The longest SubjectPublicKeyInfo of an EK, in bytes: RSA of 4096 bits has 550.
const MAX_EK_PUBLIC: usize = 1024;

/// One join, from a host's claim to its credentials. A protocol calls [`Join::begin`], [`Join::describe`],
/// [`Join::open_token`], [`Join::appraise`], [`Join::check`] and [`Join::grant`] in this order, and [`Join::end`]
/// whatever the end is.
pub(crate) struct Join {
    authority: Arc<Authority>,
    peer: Peer,
    attempt: Attempt,
}

/// What a host claims about its TPM. Nothing in it is trusted.
pub(crate) struct Evidence {
    pub(crate) ek: Parsed<Ek>,
    /// Certificates that may help to verify the EK certificate, DER each.
    pub(crate) ek_chain: Vec<Vec<u8>>,
    /// The EK's name algorithm, a TPM_ALG_ID; 0 if the host does not say it.
    pub(crate) ek_name_alg: u32,
    /// TPMT_PUBLIC of the key to certify.
    pub(crate) join_key: Vec<u8>,
}

/// An endorsement key.
pub(crate) enum Ek {
    /// Its certificate, X.509, DER.
    Certificate(Vec<u8>),
    /// Its SubjectPublicKeyInfo, DER.
    PublicKey(Vec<u8>),
}

/// The token of a join, and which records the join began with.
pub(crate) struct JoinSnapshot {
    token: Arc<OpenToken>,
    /// Bot and token when the join began.
    basis: Basis,
}

/// A host whose claim was appraised, with its challenge.
pub(crate) struct Candidate {
    snapshot: JoinSnapshot,
    appraisal: Appraisal,
    challenge: Challenge,
}

/// A host whose TPM has both keys that were appraised.
pub(crate) struct Proven {
    snapshot: JoinSnapshot,
    appraisal: Appraisal,
}

impl Candidate {
    /// The challenge, which only a TPM with both keys can answer.
    pub(crate) fn challenge(&self) -> &Challenge {
        &self.challenge
    }
}

impl Proven {
    /// The join key as the key to certify. Checks its signature of `digest`, which is different in each join.
    pub(crate) fn join_key(
        &self,
        digest: &[u8; 32],
        signature: &[u8],
    ) -> Result<SubjectKey, Refusal> {
        let key = self.appraisal.join_key();
        key.verify(digest, signature).map_err(|_| {
            Refusal::new(Code::SignatureWrong, "the join key has not signed this join")
        })?;
        Ok(SubjectKey::from(key.verifying_key()))
    }
}

impl JoinSnapshot {
    /// Checks that bot and token are those that the join began with, and not new ones of the same names.
    fn check_unchanged(&self, basis: &Basis) -> Result<(), Refusal> {
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

    /// Counts this join as in progress until the value is dropped.
    pub(crate) fn begin(&self) -> Result<Box<dyn Send>, Refusal> {
        let busy = || Refusal::new(Code::Busy, "too many joins are in progress");
        self.peer.join_slots.begin_join().ok_or_else(busy)
    }

    /// Counts the end of the join, and records a refusal. A grant is on record already.
    pub(crate) fn end<T>(self, result: Result<T, Refusal>) -> Result<T, Refusal> {
        self.authority.count(Action::Join, &result);
        result.inspect_err(|refusal| {
            self.authority.record_refusal(Action::Join, &self.peer, self.attempt, refusal);
        })
    }

    /// Notes what the host says about itself, for the audit log.
    pub(crate) fn describe(&mut self, token: &str, host: &HostInfo) {
        self.attempt.token_name = bounded(token);
        self.attempt.hostname = bounded(&host.hostname);
        self.attempt.agent_version = bounded(&host.agent_version);
    }

    /// Opens the token of this name and checks that its bot exists.
    pub(crate) async fn open_token(&mut self, token: &str) -> Result<JoinSnapshot, Refusal> {
        let now = self.authority.clock.now();
        let token = self.authority.open_token(token, now).await?;
        self.attempt.bot_name = Some(token.bot.clone());
        let basis = self.authority.records.basis(&token.bot, &token.name, &[]).await;
        let basis = basis.map_err(store_failed)?;
        self.authority.bot(&token.bot, now).await?;
        Ok(JoinSnapshot { token, basis })
    }

    /// Appraises the host's claims and computes a challenge, on worker threads: both are expensive, and nothing is proven yet.
    pub(crate) async fn appraise(
        &mut self,
        snapshot: JoinSnapshot,
        evidence: Evidence,
    ) -> Result<Candidate, Refusal> {
        let now = self.authority.clock.now();
        // A claim without the certificate that the token requires is refused unparsed. The hash of the key still identifies
        // the TPM for the operator.
        self.attempt.ek_pub_hash = match &evidence.ek {
            Ok(Ek::PublicKey(spki)) if spki.len() <= MAX_EK_PUBLIC => key_hash(spki).parse().ok(),
            _ => None,
        };
        let token = Arc::clone(&snapshot.token);
        let purpose = token.without_purpose;
        let policy = ChainPolicy { purpose, ..self.authority.ek_policy };
        let known = Arc::clone(&self.authority.known_signatures);
        let allowance = match self.peer.certificate {
            Some(_) => Allowance::unlimited(),
            None => self.peer.allowance.clone(),
        };
        let appraise = move || {
            let appraised = allowance.compute(|effort| {
                appraise(&evidence, &token.anchors, policy, now, &known, effort)
            })?;
            Ok(appraised.map(|appraisal| (appraisal.challenge(), appraisal)))
        };
        match self.authority.workers.run(self.peer.source(), appraise).await?? {
            Ok((challenge, appraisal)) => {
                self.record_ek(appraisal.ek())?;
                let challenge = challenge.map_err(Refusal::because(Code::Internal))?;
                Ok(Candidate { snapshot, appraisal, challenge })
            }
            Err(error) => {
                if let Some(facts) = error.ek() {
                    self.record_ek(facts)?;
                }
                Err(Refusal::new(Code::Evidence(error.code()), error.explain()))
            }
        }
    }

    fn record_ek(&mut self, facts: &EkFacts) -> Result<(), Refusal> {
        let ek = proven_ek(facts)?;
        self.attempt.ek_pub_hash = Some(ek.public_hash);
        self.attempt.ek_cert_serial = ek.certificate_serial;
        self.attempt.ek_cert_verified = ek.verified_by.is_some();
        Ok(())
    }

    /// Checks that the TPM with this EK holds the join key: the answer was computed with the credential's secret. The
    /// protocol's adapter verifies it and gives the reason of a failure.
    pub(crate) fn check(
        &mut self,
        candidate: Candidate,
        verify: impl FnOnce(&[u8]) -> Result<(), &'static str>,
    ) -> Result<Proven, Refusal> {
        let Candidate { snapshot, appraisal, challenge } = candidate;
        verify(challenge.secret().expose()).map_err(Refusal::because(Code::AnswerWrong))?;
        self.attempt.ek_proven = true;
        Ok(Proven { snapshot, appraisal })
    }

    /// Issues certificates for this key, records them, and returns them. A host that has certificates is always recorded.
    pub(crate) async fn grant(
        &mut self,
        host: &Proven,
        key: &SubjectKey,
        ttl: Ttl,
    ) -> Result<Grant, Refusal> {
        let authority = Arc::clone(&self.authority);
        let ek = proven_ek(host.appraisal.ek())?;
        let mut tries = MAX_RETRIES;
        let grant = loop {
            let validity = Validity { now: authority.clock.now(), ttl };
            let decision = self.decide(&host.snapshot, ek.clone(), key, validity).await?;
            if let Some(grant) = authority.record(decision).await? {
                break grant;
            }
            tries = tries.checked_sub(1).ok_or_else(overtaken)?;
        };
        let Grant { issued, instance, .. } = &grant;
        info!(
            token = %host.snapshot.token.name, instance = instance.path(),
            remote = %self.peer.remote, ek = %instance.status.ek.public_hash,
            serial = issued.serial, "join granted"
        );
        Ok(grant)
    }

    /// Decides by the current records: they may have changed while the join waited.
    async fn decide(
        &self,
        snapshot: &JoinSnapshot,
        ek: ProvenEk,
        key: &SubjectKey,
        validity: Validity,
    ) -> Result<PendingGrant, Refusal> {
        let (authority, now) = (&self.authority, validity.now);
        let mut instance = self.instance(&snapshot.token, ek, key, now)?;
        let CheckedBot { bot, basis } = authority.check_bot_and_locks(&instance, now).await?;
        authority.check_token(&instance, now).await?;
        snapshot.check_unchanged(&basis)?;
        let profile = Profile::identity(instance.status.generation);
        let issued = authority.issuer.credentials(&bot, &instance, profile, key, validity);
        let issued = issued.map_err(Refusal::because(Code::Internal))?;
        instance.status.certificate_serial.clone_from(&issued.serial);
        instance.set_expires(Timestamp(issued.not_after));
        let attempt = Attempt {
            bot_instance_id: Some(instance.spec.instance_id.to_string()),
            generation: Some(instance.status.generation),
            certificate_serial: Some(issued.serial.clone()),
            certificate_expires: Some(Timestamp(issued.not_after)),
            ..self.attempt.clone()
        };
        let event = Event::granted(Action::Join, Timestamp(now), attempt);
        Ok(PendingGrant { issued, event, instance, basis, before: None })
    }

    /// The new instance of a joining host. It has no certificate yet.
    fn instance(
        &self,
        token: &OpenToken,
        ek: ProvenEk,
        key: &SubjectKey,
        now: OffsetDateTime,
    ) -> Result<BotInstance, Refusal> {
        let public_key = key.to_spki().map_err(Refusal::because(Code::Internal))?;
        let (bot, token) = (token.bot.clone(), token.name.clone());
        let key = key_hash(&public_key);
        let mut instance = BotInstance::joining(bot, token, ek, key, now);
        let reported = |text: &Option<String>| text.clone().unwrap_or_default();
        instance.status.hostname = reported(&self.attempt.hostname);
        instance.status.agent_version = reported(&self.attempt.agent_version);
        Ok(instance)
    }
}

fn appraise(
    evidence: &Evidence,
    anchors: &[CaCertificate],
    policy: ChainPolicy,
    now: OffsetDateTime,
    known: &KnownSignatures,
    effort: &mut Effort,
) -> Result<Result<Appraisal, Box<AppraisalError>>, Refusal> {
    let ek = match evidence.ek.as_ref().map_err(Clone::clone)? {
        Ek::Certificate(der) => EkClaim::Certificate(der),
        Ek::PublicKey(spki) => EkClaim::PublicKey(spki),
    };
    let demand = if anchors.is_empty() {
        Demand::Key
    } else {
        let at = UnixTime::from_seconds(now.unix_timestamp());
        Demand::Certificate { anchors, policy, at, known }
    };
    let claim = Claim {
        ek,
        ek_chain: &evidence.ek_chain,
        join_key: &evidence.join_key,
        ek_name_alg: evidence.ek_name_alg,
    };
    Ok(verifier::appraise(&claim, demand, effort))
}

/// What the record of an instance keeps of its EK.
fn proven_ek(ek: &EkFacts) -> Result<ProvenEk, Refusal> {
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
