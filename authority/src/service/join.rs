//! The steps of a join: claim, challenge, answer, certificates, as docs/protocol.md describes them.
//!
//! Before the answer has shown that the TPM holds both keys, a host's claims decide only whether the join continues. Each end
//! of a join is one line in the audit log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use time::OffsetDateTime;
use tpm2::types::SecretBuf;
use tracing::info;
use verifier::chain::ChainPolicy;
use verifier::{
    AkClaim, Appraisal, AppraisalError, AppraisedKey, Attestation, CaCertificate, Challenge, Claim,
    Demand, Effort, EkClaim, EkFacts, Endorsement, KeyClaim, KnownSignatures, UnixTime,
};

use super::allowance::Allowance;
use super::caller::{Caller, key_hash};
use super::checks::store_failed;
use super::chosen_id::ChosenId;
use super::evidence::{Decided, Gathered, Received};
use super::grant::{CheckedBot, Grant, MAX_RETRIES, PendingGrant, overtaken};
use super::refusal::{Code, Refusal};
use super::rejoin::rejoin;
use super::request::{HostInfo, Parsed};
use super::token_cache::OpenToken;
use super::{Authority, Peer};
use crate::audit::{Action, Attempt, Event, bounded};
use crate::evidence::{Answer, End};
use crate::issue::{Profile, SubjectKey, Ttl, Validity};
use crate::resource::{BotInstance, JoinId, KeyLocation, ProvenEk, Timestamp};
use crate::store::{Basis, Recorded};

/// The longest SubjectPublicKeyInfo of an EK, in bytes: RSA of 4096 bits has 550.
const MAX_EK_PUBLIC: usize = 1024;

/// One join, from a host's claim to its credentials. A protocol calls [`Join::begin`], [`Join::describe`],
/// [`Join::open_token`], [`Join::appraise`], [`Join::check`] and [`Join::grant`] in this order, and [`Join::end`]
/// whatever the end is.
pub(crate) struct Join {
    authority: Arc<Authority>,
    peer: Peer,
    id: JoinId,
    attempt: Attempt,
    /// What is kept of its evidence; `None` before its claim is appraised.
    gathered: Option<Gathered>,
    /// The instance that the host already is, if its join renews.
    caller: Option<Caller>,
    /// What the host calls this join.
    chosen: Option<ChosenId>,
}

/// What a host claims about its TPM. Nothing in it is trusted.
pub(crate) struct Evidence {
    pub(crate) ek: Parsed<Ek>,
    /// Certificates that may help to verify the EK certificate, DER each.
    pub(crate) ek_chain: Vec<Vec<u8>>,
    /// The EK's name algorithm, a TPM_ALG_ID; 0 if the host does not say it.
    pub(crate) ek_name_alg: u32,
    /// The key that shall be proven to be in the TPM.
    pub(crate) key: KeyEvidence,
}

/// A key that shall be proven to be in the TPM.
pub(crate) enum KeyEvidence {
    /// TPMT_PUBLIC of the key to certify.
    JoinKey(Vec<u8>),
    /// An attestation key. The key to certify is another one.
    AttestationKey(AkEvidence),
}

/// An attestation key with what it certifies about its own creation.
pub(crate) struct AkEvidence {
    /// TPMT_PUBLIC.
    pub(crate) public: Vec<u8>,
    /// TPMS_CREATION_DATA.
    pub(crate) creation_data: Vec<u8>,
    /// TPMS_ATTEST.
    pub(crate) attest: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub(crate) signature: Vec<u8>,
}

impl KeyEvidence {
    fn claim(&self) -> KeyClaim<'_> {
        match self {
            Self::JoinKey(public) => KeyClaim::JoinKey(public),
            Self::AttestationKey(AkEvidence { public, creation_data, attest, signature }) => {
                let attestation = Attestation { attest, signature };
                KeyClaim::AttestationKey(AkClaim { public, creation_data, attestation })
            }
        }
    }
}

/// A key to certify, and what is known of where it is.
pub(crate) struct KeyToCertify {
    key: SubjectKey,
    location: KeyLocation,
}

impl KeyToCertify {
    /// A key that a host with a proven TPM asks for. Neither that it is in the TPM nor that the host has it is proven.
    pub(crate) fn unproven(key: SubjectKey) -> Self {
        Self { key, location: KeyLocation::Unproven }
    }
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
    /// The join key as the key to certify. Checks its signature of `message`, which is different in each join.
    pub(crate) fn join_key(
        &self,
        message: &[u8],
        signature: &[u8],
    ) -> Result<KeyToCertify, Refusal> {
        let AppraisedKey::JoinKey(key) = self.appraisal.key() else {
            return Err(Refusal::new(Code::Internal, "the TPM was proven by another key"));
        };
        key.verify(message, signature).map_err(|_| {
            Refusal::new(Code::SignatureWrong, "the join key has not signed this join")
        })?;
        let key = SubjectKey::from(key.verifying_key());
        Ok(KeyToCertify { key, location: KeyLocation::Tpm })
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
        let id = JoinId::at(authority.clock.now());
        let attempt = Attempt { join_id: Some(id), ..Attempt::from(peer.remote) };
        Self { authority, peer, id, attempt, gathered: None, caller: None, chosen: None }
    }

    /// Takes the certificate of the connection, if there is one, as that of the instance to renew: for protocols in which hosts
    /// renew by joining again.
    pub(crate) fn identify(&mut self) -> Result<(), Refusal> {
        if self.peer.certificate.is_some() {
            self.caller = Some(Caller::of(&self.peer, &self.authority)?);
        }
        Ok(())
    }

    /// Makes this join the same as others with this ID and the same keys.
    pub(crate) fn set_chosen_id(&mut self, id: Option<ChosenId>) {
        self.chosen = id;
    }

    /// Counts this join as in progress until the value is dropped.
    pub(crate) fn begin(&self) -> Result<Box<dyn Send>, Refusal> {
        let busy = || Refusal::new(Code::Busy, "too many joins are in progress");
        self.peer.join_slots.begin_join().ok_or_else(busy)
    }

    /// Counts the end of the join, and records a refusal. A grant is on record already.
    pub(crate) fn end<T>(self, result: Result<T, Refusal>) -> Result<T, Refusal> {
        self.authority.count(Action::Join, &result);
        self.authority.note_generation(&self.attempt);
        result.inspect_err(|refusal| {
            let Self { authority, peer, id, attempt, gathered, .. } = self;
            let is_recorded =
                authority.record_refusal(Action::Join, &peer, attempt.clone(), refusal);
            if let Some(gathered) = gathered.filter(|_| is_recorded) {
                authority.note_refused_evidence(id, &gathered, &peer, &attempt, refusal);
            }
        })
    }

    /// The lifetime of certificates that the host wants to end at this time, in seconds since 1970.
    pub(crate) fn ttl_until(&self, end: i64) -> Parsed<Ttl> {
        let now = self.authority.clock.now();
        Ttl::until([end], now).map_err(Refusal::because(Code::Malformed))
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
        received: Received,
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
        let gathered = self.gathered.insert(Gathered::new(received, Arc::clone(&token), policy));
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
                let challenge = challenge.map_err(Refusal::because(Code::Internal))?;
                gathered.challenged(&challenge);
                self.record_ek(appraisal.ek())?;
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
        self.attempt.ek_pub_hash = Some(ek.public_hash.clone());
        self.attempt.ek_cert_serial.clone_from(&ek.certificate_serial);
        self.attempt.ek_cert_verified = ek.verified_by.is_some();
        if let Some(gathered) = &mut self.gathered {
            gathered.verified(&ek);
        }
        Ok(())
    }

    /// Checks that the TPM with this EK holds the appraised key: the answer was computed with the credential's secret. The
    /// protocol's adapter verifies it and gives the reason of a failure.
    pub(crate) fn check(
        &mut self,
        candidate: Candidate,
        answer: Answer,
        verify: impl FnOnce(&SecretBuf) -> Result<(), &'static str>,
    ) -> Result<Proven, Refusal> {
        let Candidate { snapshot, appraisal, challenge } = candidate;
        if let Some(gathered) = &mut self.gathered {
            gathered.answered(answer);
        }
        verify(challenge.secret()).map_err(Refusal::because(Code::AnswerWrong))?;
        self.attempt.ek_proven = true;
        Ok(Proven { snapshot, appraisal })
    }

    /// Issues certificates for this key, records them, and returns them. A host that has certificates is always recorded.
    pub(crate) async fn grant(
        &mut self,
        host: &Proven,
        key: &Parsed<KeyToCertify>,
        ttl: &Parsed<Ttl>,
    ) -> Result<Grant, Refusal> {
        let authority = Arc::clone(&self.authority);
        let ek = proven_ek(host.appraisal.ek())?;
        let mut tries = MAX_RETRIES;
        let grant = loop {
            let decision = self.decide(&host.snapshot, ek.clone(), key, ttl).await?;
            if let Some(grant) = authority.record(decision).await? {
                break grant;
            }
            tries = tries.checked_sub(1).ok_or_else(overtaken)?;
        };
        let Grant { issued, instance, .. } = &grant;
        self.peer.renewed.store(instance.status.generation, Ordering::Relaxed);
        info!(
            token = %host.snapshot.token.name, instance = instance.path(),
            generation = instance.status.generation, remote = %self.peer.remote, ek = %instance.status.ek.public_hash,
            serial = issued.serial, "join granted"
        );
        Ok(grant)
    }

    /// Decides by the current records: they may have changed while the join waited.
    async fn decide(
        &mut self,
        snapshot: &JoinSnapshot,
        ek: ProvenEk,
        key: &Parsed<KeyToCertify>,
        ttl: &Parsed<Ttl>,
    ) -> Result<PendingGrant, Refusal> {
        let authority = Arc::clone(&self.authority);
        let now = authority.clock.now();
        let (mut instance, before) = self.instance(&snapshot.token, ek, key, now).await?;
        let CheckedBot { bot, basis } = authority.check_bot_and_locks(&instance, now).await?;
        let token = authority.check_token(&instance, now).await?;
        snapshot.check_unchanged(&basis)?;
        let KeyToCertify { key, location } = key.as_ref().map_err(Clone::clone)?;
        let public_key = key.to_spki().map_err(Refusal::because(Code::Internal))?;
        instance.status.public_key_hash = key_hash(&public_key);
        instance.status.key_location = *location;
        let profile = Profile::identity(instance.status.generation).of_key(*location);
        let validity = Validity { now, ttl: ttl.clone()? };
        // Read before: a CA that is tainted meanwhile may have signed it.
        let version = authority.issuer.keyring().keys().chain.version();
        let issued = authority.issuer.credentials(&bot, &instance, profile, key, validity);
        let issued = issued.map_err(Refusal::because(Code::Internal))?;
        instance.status.certificate_serial.clone_from(&issued.serial);
        // The answer has at least these CAs.
        instance.status.trust_version = version;
        instance.status.issued_version = version;
        instance.set_expires(Timestamp(issued.not_after));
        let before_id = instance.status.join_id.replace(self.id);
        let evidence = match &self.gathered {
            None => None,
            Some(gathered) => {
                let end = End::Granted {
                    instance: instance.path(),
                    generation: instance.status.generation,
                    certificate_serial: issued.serial.clone(),
                    certificate_expires: Timestamp(issued.not_after),
                };
                let (time, ek) = (Timestamp(now), &instance.status.ek);
                let decided = Decided { time, ek, token: &token, end, before: before_id };
                let kept = gathered.keep(self.id, &authority, &self.peer, decided).await;
                Some(kept.map_err(store_failed)?)
            }
        };
        let attempt = Attempt {
            bot_instance_id: Some(instance.spec.instance_id.to_string()),
            generation: Some(instance.status.generation),
            certificate_serial: Some(issued.serial.clone()),
            certificate_expires: Some(Timestamp(issued.not_after)),
            evidence_sha256: evidence.as_ref().map(|evidence| evidence.sha256.clone()),
            ..self.attempt.clone()
        };
        let event = Event::granted(Action::Join, Timestamp(now), attempt);
        Ok(PendingGrant { issued, event, instance, basis, evidence, before })
    }

    /// The instance that the host becomes, without its new certificate: a new one, or the one that it already is, as recorded.
    async fn instance(
        &mut self,
        token: &OpenToken,
        ek: ProvenEk,
        key: &Parsed<KeyToCertify>,
        now: OffsetDateTime,
    ) -> Result<(BotInstance, Option<Recorded>), Refusal> {
        let (mut instance, before) = match &self.caller {
            Some(caller) if caller.subject.bot == token.bot => {
                let again = rejoin(&self.authority, caller, &token.name, ek, now).await?;
                self.attempt.bot_instance_id = Some(again.instance.spec.instance_id.to_string());
                self.attempt.presented_generation = again.presented_generation;
                (again.instance, Some(again.before))
            }
            _ => {
                let (bot, name) = (token.bot.clone(), token.name.clone());
                let mut instance = BotInstance::joining(bot, name, ek, String::new(), now);
                instance.status.epoch = self.authority.epoch();
                match (self.chosen, key) {
                    (Some(id), Ok(key)) => self.repeated(id, instance, key).await?,
                    _ => (instance, None),
                }
            }
        };
        let reported = |text: &Option<String>| text.clone().unwrap_or_default();
        instance.status.hostname = reported(&self.attempt.hostname);
        instance.status.agent_version = reported(&self.attempt.agent_version);
        Ok((instance, before))
    }

    /// The instance of the join with this ID: `new`, unless the join was granted before.
    async fn repeated(
        &self,
        id: ChosenId,
        new: BotInstance,
        key: &KeyToCertify,
    ) -> Result<(BotInstance, Option<Recorded>), Refusal> {
        let spki = key.key.to_spki().map_err(Refusal::because(Code::Internal))?;
        let BotInstance { spec, status, .. } = &new;
        let (bot, ek) = (&spec.bot_name, &status.ek.public_hash);
        let id = id.instance(bot, &status.join_token, ek, &key_hash(&spki));
        let recorded = self.authority.records.instance(bot, &id).await.map_err(store_failed)?;
        let Some(recorded) = recorded else { return Ok((new.with_id(id), None)) };
        let mut again = recorded.instance.clone();
        again.status.generation = again.status.generation.saturating_add(1);
        (again.status.ek, again.status.epoch) = (new.status.ek, new.status.epoch);
        Ok((again, Some(recorded)))
    }
}

pub(super) fn appraise(
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
        ek_name_alg: evidence.ek_name_alg,
        key: evidence.key.claim(),
    };
    Ok(verifier::appraise(&claim, demand, effort))
}

/// What the record of an instance keeps of its EK.
pub(super) fn proven_ek(ek: &EkFacts) -> Result<ProvenEk, Refusal> {
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
