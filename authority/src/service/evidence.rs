//! What a join keeps of its evidence while it lasts, and what becomes of that in the end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tpm2::types::SecretBuf;
use tracing::warn;
use verifier::Challenge;
use verifier::chain::{ChainPolicy, DatePolicy, PurposePolicy, Sha1Policy};

use super::join::{Ek, Evidence};
use super::refusal::{Code, Refusal};
use super::token_cache::OpenToken;
use super::{Authority, Peer};
use crate::audit::Attempt;
use crate::evidence::{
    Answer, Bytes, End, JoinEvidence, Policy, Protocol, whole, without_certificates,
};
use crate::resource::{JoinId, ProvenEk, Timestamp};
use crate::store::{EvidenceToKeep, KEPT, StoreError};

/// Refused joins whose evidence one authority keeps.
const MAX_REFUSED: usize = 500;

/// Refused joins whose evidence waits in memory to be stored: some 16 KB each at most.
const MAX_WAITING: usize = 64;

/// What only the adapter of a protocol knows of a claim.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Format {
    pub(crate) protocol: Protocol,
    /// The evidence in the bytes of a claim; `None` if they are malformed.
    pub(crate) read: fn(&[u8]) -> Option<Evidence>,
    /// Checks an answer again. Returns the message that the key to certify must have signed, if the protocol has one.
    pub(crate) check: fn(&Answered<'_>) -> Result<Option<Vec<u8>>, &'static str>,
}

/// A challenge with its answer, and what both are about.
pub(crate) struct Answered<'a> {
    pub(crate) claim: &'a [u8],
    pub(crate) exporter: &'a [u8],
    pub(crate) challenge: &'a Challenge,
    pub(crate) answer: &'a Answer,
}

/// A claim as it is kept.
pub(crate) struct Received {
    pub(crate) format: &'static Format,
    pub(crate) bytes: Arc<[u8]>,
}

/// The evidence of a join so far.
pub(super) struct Gathered {
    received: Received,
    token: Arc<OpenToken>,
    policy: ChainPolicy,
    origin: Option<SecretBuf>,
    answer: Option<Answer>,
    /// The CA that verified the EK certificate.
    verified_by: Option<String>,
}

/// What a grant is about, as far as its evidence says it.
pub(super) struct Decided<'a> {
    pub(super) time: Timestamp,
    pub(super) ek: &'a ProvenEk,
    /// The token as it is now.
    pub(super) token: &'a OpenToken,
    pub(super) end: End,
    /// The join of the instance before this one.
    pub(super) before: Option<JoinId>,
}

impl Gathered {
    pub(super) fn new(received: Received, token: Arc<OpenToken>, policy: ChainPolicy) -> Self {
        Self { received, token, policy, origin: None, answer: None, verified_by: None }
    }

    pub(super) fn challenged(&mut self, challenge: &Challenge) {
        self.origin = Some(challenge.origin().clone());
    }

    pub(super) fn verified(&mut self, ek: &ProvenEk) {
        self.verified_by.clone_from(&ek.verified_by);
    }

    pub(super) fn answered(&mut self, answer: Answer) {
        self.answer = Some(answer);
    }

    /// The evidence, without its claim and what a grant adds.
    fn evidence(
        &self,
        id: JoinId,
        time: Timestamp,
        log: &str,
        peer: &Peer,
        end: End,
    ) -> JoinEvidence {
        let protocol = self.received.format.protocol;
        let ChainPolicy { dates, sha1, purpose } = self.policy;
        JoinEvidence {
            join_id: id,
            time,
            authority: log.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            remote: peer.remote.to_string(),
            protocol,
            claim: Vec::new(),
            exporter: (protocol == Protocol::EndorseV1).then(|| Bytes(peer.exporter.to_vec())),
            challenge: self.origin.as_ref().map(|origin| Bytes(origin.expose().to_vec())),
            answer: self.answer.clone(),
            ek: None,
            token: self.token.name.clone(),
            token_sha256: Some(self.token.sha256.clone()),
            certificate_demanded: !self.token.anchors.is_empty(),
            bot: self.token.bot.clone(),
            policy: Policy {
                expired_accepted: dates == DatePolicy::AtIssuance,
                sha1_accepted: sha1 == Sha1Policy::Accepted,
                without_purpose_accepted: purpose == PurposePolicy::Accepted,
            },
            verified_by: self.verified_by.clone(),
            rule: None,
            end,
        }
    }

    /// What keeps the evidence of a grant.
    pub(super) async fn keep(
        &self,
        id: JoinId,
        authority: &Authority,
        peer: &Peer,
        decided: Decided<'_>,
    ) -> Result<EvidenceToKeep, StoreError> {
        let Decided { time, ek, token, end, before } = decided;
        let Received { format, bytes } = &self.received;
        let certificates = (format.read)(bytes).map(certificates).unwrap_or_default();
        let ca = ek.verified_by.as_ref().and_then(|by| token.ca(by));
        let records = &authority.records;
        let evidence = JoinEvidence {
            claim: without_certificates(bytes, &certificates),
            ek: Some(ek.public_hash.clone()),
            token_sha256: Some(token.sha256.clone()),
            verified_by: ek.verified_by.clone(),
            rule: token.rule(ek).cloned(),
            ..self.evidence(id, time, records.log_id(), peer, end)
        };
        records.evidence_to_keep(&evidence, &certificates, ca, before).await
    }
}

/// The certificates in a claim, in the order in which messages have them.
fn certificates(evidence: Evidence) -> Vec<Vec<u8>> {
    let ek = match evidence.ek {
        Ok(Ek::Certificate(der)) => Some(der),
        Ok(Ek::PublicKey(_)) | Err(_) => None,
    };
    ek.into_iter().chain(evidence.ek_chain).collect()
}

/// The evidence of refused joins of this authority.
#[derive(Debug, Default)]
pub(super) struct RefusedEvidence {
    waiting: Mutex<VecDeque<JoinEvidence>>,
    /// Those that are stored, the oldest first; `None` before the first is.
    stored: tokio::sync::Mutex<Option<VecDeque<JoinId>>>,
}

/// Where the removal of old evidence goes on.
#[derive(Debug, Default)]
pub(super) struct EvidencePruning {
    evidence: Option<String>,
    certificates: Option<String>,
}

impl Authority {
    /// Keeps the evidence of a refused join. To be called for few of them: those that are recorded in full.
    pub(super) fn note_refused_evidence(
        &self,
        id: JoinId,
        gathered: &Gathered,
        peer: &Peer,
        attempt: &Attempt,
        refusal: &Refusal,
    ) {
        if let Code::Busy | Code::Internal = refusal.code {
            return;
        }
        let end = End::Refused {
            refusal: refusal.code.as_str().to_owned(),
            reason: crate::audit::bounded(&refusal.reason).unwrap_or_default(),
        };
        let time = Timestamp(self.clock.now());
        let evidence = JoinEvidence {
            claim: whole(&gathered.received.bytes),
            ek: attempt.ek_pub_hash.clone(),
            ..gathered.evidence(id, time, self.records.log_id(), peer, end)
        };
        let mut waiting =
            self.refused_evidence.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_WAITING {
            waiting.pop_front();
        }
        waiting.push_back(evidence);
    }

    /// Stores the evidence of refused joins that waits for it, in place of that of older ones.
    pub(super) async fn store_refused_evidence(&self) {
        let mut stored = self.refused_evidence.stored.lock().await;
        let new: Vec<_> = {
            let mut waiting =
                self.refused_evidence.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.drain(..).collect()
        };
        if new.is_empty() {
            return;
        }
        let kept = async {
            let mut ids = match stored.take() {
                Some(ids) => ids,
                None => self.records.refused_evidence().await?,
            };
            ids.extend(new.iter().map(|one| one.join_id));
            let excess = ids.len().saturating_sub(MAX_REFUSED);
            let old: Vec<_> = ids.drain(..excess).collect();
            self.records.keep_refused_evidence(&new, &old).await?;
            Ok::<_, StoreError>(ids)
        };
        match kept.await {
            Ok(ids) => *stored = Some(ids),
            Err(cause) => warn!(%cause, "the evidence of refused joins cannot be stored"),
        }
    }

    /// Removes some of the evidence that need not be kept any longer, and goes on with the rest next time.
    pub(super) async fn prune_evidence(&self) -> Result<usize, StoreError> {
        /// Steps at once: some thousand records.
        const STEPS: usize = 16;
        let mut pruning = self.evidence_pruning.lock().await;
        let (now, mut count) = (self.clock.now(), 0_usize);
        for _ in 0..STEPS {
            let after = pruning.evidence.take();
            let (removed, next) = self.records.prune_evidence(now - KEPT, after.as_deref()).await?;
            count = count.saturating_add(removed);
            pruning.evidence = next;
            if pruning.evidence.is_none() {
                break;
            }
        }
        for _ in 0..STEPS {
            let after = pruning.certificates.take();
            let (removed, next) = self.records.prune_certificates(now, after.as_deref()).await?;
            count = count.saturating_add(removed);
            pruning.certificates = next;
            if pruning.certificates.is_none() {
                break;
            }
        }
        Ok(count)
    }
}
