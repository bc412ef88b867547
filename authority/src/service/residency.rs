//! The proof that a service's key is in the TPM with which its host joined: claim, challenge, answer.
//!
//! The caller is a bot instance, which its certificate says and the handshake has proven. The EK is the one that its join proved,
//! by the hash on record. The key that is proven is remembered in the record of the instance, so that certificates for it are
//! issued without a further proof.

use std::sync::Arc;

use verifier::{
    AppraisedKey, Challenge, Claim, Demand, EkClaim, KeyClaim as AppraisedClaim, ServiceKey,
};

use super::allowance::Allowance;
use super::call::{Call, CallRequest, Issued, JudgedCall};
use super::caller::{Caller, CallerRecords, key_hash};
use super::refusal::{Code, Refusal};
use super::{Authority, Peer};
use crate::audit::{Action, Attempt, bounded};
use crate::resource::{BotInstance, EkHash, KeyLocation, ProvenKey, Timestamp};

/// What a host claims about a key. Nothing in it is trusted.
pub(crate) struct KeyClaim {
    /// The EK with which it joined: SubjectPublicKeyInfo, DER.
    pub(crate) ek_public: Vec<u8>,
    /// Its name algorithm, a TPM_ALG_ID; 0 if the host does not say it.
    pub(crate) ek_name_alg: u32,
    /// TPMT_PUBLIC.
    pub(crate) key: Vec<u8>,
    /// What the agent calls the service that the key is for. For the record only.
    pub(crate) service: String,
}

/// One proof. A protocol calls [`KeyProof::begin`], [`KeyProof::appraise`] and [`Candidate::check`] in this order, and
/// [`KeyProof::end`] whatever the end is.
pub(crate) struct KeyProof {
    authority: Arc<Authority>,
    peer: Peer,
    attempt: Attempt,
}

/// A key that was appraised, with its challenge.
pub(crate) struct Candidate {
    key: ServiceKey,
    challenge: Challenge,
    ek: EkHash,
    service: String,
}

/// A key that is in the TPM with this EK.
pub(crate) struct ProvenClaim {
    public_key_hash: String,
    ek: EkHash,
    service: String,
}

/// A key is on record as one in the TPM.
pub(crate) struct Recorded;

impl KeyProof {
    pub(crate) fn new(authority: Arc<Authority>, peer: Peer) -> Self {
        let attempt = Attempt::from(peer.remote);
        Self { authority, peer, attempt }
    }

    /// Counts this proof as a join in progress until the value is dropped.
    pub(crate) fn begin(&self) -> Result<Box<dyn Send>, Refusal> {
        let busy = || Refusal::new(Code::Busy, "too many joins and proofs are in progress");
        self.peer.join_slots.begin_join().ok_or_else(busy)
    }

    /// Appraises a claim and computes a challenge; `None` if the proof of this key is on record.
    pub(crate) async fn appraise(&mut self, claim: KeyClaim) -> Result<Option<Candidate>, Refusal> {
        self.attempt.service = bounded(&claim.service);
        let instance = self.instance().await?;
        check_ek(&instance, &key_hash(&claim.ek_public))?;
        let public_key_hash = |key: &ServiceKey| key_hash(&key.spki_der());
        if let Ok(key) = ServiceKey::appraise(&claim.key)
            && instance.has_in_tpm(&public_key_hash(&key))
        {
            return Ok(None);
        }
        let (ek, service) = (instance.status.ek.public_hash, claim.service.clone());
        let computed = self.authority.workers.run(self.peer.source(), move || appraise(&claim));
        let (key, challenge) = computed.await??;
        Ok(Some(Candidate { key, challenge, ek, service }))
    }

    /// The caller, which must be an instance that could renew.
    async fn instance(&mut self) -> Result<BotInstance, Refusal> {
        let authority = Arc::clone(&self.authority);
        let now = authority.clock.now();
        let caller = Caller::of(&self.peer, &authority)?;
        self.attempt.bot_name = Some(caller.subject.bot.clone());
        self.attempt.bot_instance_id = Some(caller.subject.instance.to_string());
        let records = authority.caller_records(&caller, now).await?;
        self.attempt.ek_pub_hash = Some(records.recorded.instance.status.ek.public_hash.clone());
        records.check_is_instance(&caller)?;
        records.check_key_in_tpm()?;
        let CallerRecords { recorded, .. } = records;
        authority.check_token(&recorded.instance, now).await?;
        Ok(recorded.instance)
    }

    /// Records the proof, in one write with its audit event, or the refusal. `None` stands for a proof that is on record.
    pub(crate) async fn end(
        self,
        result: Result<Option<ProvenClaim>, Refusal>,
    ) -> Result<(), Refusal> {
        let Self { authority, peer, attempt } = self;
        match result {
            Ok(Some(proven)) => Call::new(authority, peer, proven).run().await.map(drop),
            Ok(None) => {
                authority.count(Action::ProveKey, &Ok::<_, Refusal>(()));
                Ok(())
            }
            Err(refusal) => {
                authority.count(Action::ProveKey, &Err::<(), _>(refusal.clone()));
                authority.record_refusal(Action::ProveKey, &peer, attempt, &refusal);
                Err(refusal)
            }
        }
    }
}

/// On a worker thread. The caller has joined, so only its connection limits what it may cost.
fn appraise(claim: &KeyClaim) -> Result<(ServiceKey, Challenge), Refusal> {
    let (ek, key) = (EkClaim::PublicKey(&claim.ek_public), AppraisedClaim::ServiceKey(&claim.key));
    let claim = Claim { ek, ek_chain: &[], ek_name_alg: claim.ek_name_alg, key };
    let appraised =
        Allowance::unlimited().compute(|effort| verifier::appraise(&claim, Demand::Key, effort));
    let appraisal =
        appraised.map_err(|error| Refusal::new(Code::Evidence(error.code()), error.explain()))?;
    let AppraisedKey::ServiceKey(key) = appraisal.key() else {
        return Err(Refusal::new(Code::Internal, "another key than a service's was appraised"));
    };
    let challenge = appraisal.challenge().map_err(Refusal::because(Code::Internal))?;
    Ok((key.clone(), challenge))
}

fn check_ek(instance: &BotInstance, public_hash: &str) -> Result<(), Refusal> {
    let joined = &instance.status.ek.public_hash;
    if joined.as_str() == public_hash {
        return Ok(());
    }
    let id = &instance.spec.instance_id;
    Err(Refusal::new(Code::EkOfOther, format!("the instance {id} joined with the EK {joined}")))
}

impl Candidate {
    /// The challenge, which only a TPM with both keys can answer.
    pub(crate) fn challenge(&self) -> &Challenge {
        &self.challenge
    }

    /// Checks that the TPM with this EK holds the key, by `verify`, and that the key has signed `message`, which is different for
    /// each proof.
    pub(crate) fn check(
        self,
        verify: impl FnOnce(&Challenge) -> Result<(), &'static str>,
        message: &[u8],
        signature: &[u8],
    ) -> Result<ProvenClaim, Refusal> {
        let Self { key, challenge, ek, service } = self;
        verify(&challenge).map_err(Refusal::because(Code::AnswerWrong))?;
        key.verify(message, signature).map_err(|_| {
            Refusal::new(Code::SignatureWrong, "the service's key has not signed this proof")
        })?;
        Ok(ProvenClaim { public_key_hash: key_hash(&key.spki_der()), ek, service })
    }
}

impl CallRequest for ProvenClaim {
    type Issued = Recorded;

    fn action(&self) -> Action {
        Action::ProveKey
    }

    fn describe(&self, attempt: &mut Attempt) {
        attempt.service = bounded(&self.service);
    }

    async fn decide(&self, call: &mut JudgedCall<'_>) -> Result<Recorded, Refusal> {
        check_ek(&call.instance, self.ek.as_str())?;
        let service = bounded(&self.service).unwrap_or_default();
        let public_key_hash = self.public_key_hash.clone();
        let key = ProvenKey { public_key_hash, proven: Timestamp(call.now) };
        call.instance.record_key_in_tpm(service, key);
        Ok(Recorded)
    }
}

impl Issued for Recorded {
    fn describe(&self, attempt: &mut Attempt) {
        attempt.ek_proven = true;
        attempt.key_location = Some(KeyLocation::Tpm);
    }
}

/// What is known of where a key to certify is. A key that is claimed to be in the TPM must have been proven.
pub(super) fn location(
    instance: &BotInstance,
    public_key: &[u8],
    is_claimed_in_tpm: bool,
) -> Result<KeyLocation, Refusal> {
    if !is_claimed_in_tpm {
        return Ok(KeyLocation::Unproven);
    }
    if instance.has_in_tpm(&key_hash(public_key)) {
        return Ok(KeyLocation::Tpm);
    }
    Err(Refusal::new(
        Code::KeyResidencyUnproven,
        "the key is claimed to be in the TPM, and was not proven for this instance",
    ))
}
