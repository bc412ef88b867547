//! The evidence of joins. That of a granted join is kept in its transaction, and for as long as its instance at least; of refused
//! joins each authority keeps some.
//!
//! An EK certificate is kept once for all joins of its TPM, and a CA that verified one is kept for good: operators name the CAs.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::format::{decode, encode};
use super::{Change, Pages, Range, Records, StoreError, Table};
use crate::evidence::{Bytes, End, JoinEvidence, fingerprint, joined};
use crate::resource::{EkHash, JoinId};

/// What the keys of refused joins begin with. No ID of a join does.
const REFUSED: &str = "refused/";

/// Evidence of granted joins that is looked at in one step of its removal.
const PAGE: usize = 256;

/// The certificates that are kept for one TPM, in bytes: those of its latest joins.
const MAX_CERTIFICATES: usize = 16 * 1024;

/// How long certificates are kept after the day of the last join that is known of, in days, if no instance has their EK.
const KEPT_DAYS: i64 = 40;

/// How long evidence is kept if its join made no instance that is there.
pub(crate) const KEPT: time::Duration = time::Duration::days(30);

/// Certificates that are kept apart from the evidence that refers to them.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Certificates {
    /// The day of the latest join that is known of, since 1970.
    #[serde(default)]
    day: i64,
    certificates: Vec<Bytes>,
}

/// What keeps the evidence of a granted join, as a part of its batch.
#[derive(Debug)]
pub struct EvidenceToKeep {
    pub(super) changes: Vec<Change>,
    /// SHA-256 of the evidence, hexadecimal, for the log.
    pub(crate) sha256: String,
}

/// Evidence that was found, and what is kept apart from it.
#[derive(Debug)]
pub struct KeptEvidence {
    /// The evidence.
    pub evidence: JoinEvidence,
    /// SHA-256 of the record, as the log has it.
    pub sha256: String,
    /// The claim, or why it is no longer whole.
    pub claim: Result<Vec<u8>, String>,
    /// The CA that verified the EK certificate, DER.
    pub ca: Option<Vec<u8>>,
}

fn ca_key(sha256: &str) -> String {
    format!("ca/{sha256}")
}

fn day(at: OffsetDateTime) -> i64 {
    at.unix_timestamp().div_euclid(86_400)
}

impl Records {
    /// What keeps this evidence, its certificates (DER, in the order in which they are in the claim), and the CA that verified them.
    /// Evidence of the instance's join before is removed.
    pub(crate) async fn evidence_to_keep(
        &self,
        evidence: &JoinEvidence,
        certificates: &[Vec<u8>],
        ca: Option<&[u8]>,
        before: Option<JoinId>,
    ) -> Result<EvidenceToKeep, StoreError> {
        let record = encode(evidence)?;
        let sha256 = fingerprint(&record);
        let mut changes = vec![Change::Put(Table::Evidence, evidence.join_id.to_string(), record)];
        let before = before.map(|id| Change::RemoveIfExists(Table::Evidence, id.to_string()));
        changes.extend(before);
        if let Some(ek) = evidence.ek.as_ref().filter(|_| !certificates.is_empty()) {
            changes.push(self.certificates_to_keep(ek, certificates, evidence.time.0).await?);
        }
        if let Some(ca) = ca {
            let key = ca_key(&fingerprint(ca));
            if self.0.read(Table::EkCertificates, &key).await?.is_none() {
                let ca = Certificates { day: 0, certificates: vec![Bytes(ca.to_vec())] };
                changes.push(Change::Put(Table::EkCertificates, key, encode(&ca)?));
            }
        }
        Ok(EvidenceToKeep { changes, sha256 })
    }

    /// The row of an EK's certificates with these in it. It is written again once a day at most if it has them; otherwise the batch
    /// requires it as it is, so that it is not removed at the same time.
    async fn certificates_to_keep(
        &self,
        ek: &EkHash,
        certificates: &[Vec<u8>],
        now: OffsetDateTime,
    ) -> Result<Change, StoreError> {
        let (table, key) = (Table::EkCertificates, ek.to_string());
        let was = self.0.read(table, &key).await?;
        // One that cannot be read is replaced.
        let read = was.as_deref().and_then(|was| decode::<Certificates>(table, &key, was).ok());
        let kept = read.unwrap_or_default();
        let is_kept = |der: &Vec<u8>| kept.certificates.iter().any(|known| known.0 == *der);
        if kept.day >= day(now) && certificates.iter().all(is_kept) {
            return Ok(Change::Expect(table, key, was));
        }
        let mut new: Vec<Bytes> = certificates.iter().cloned().map(Bytes).collect();
        new.extend(kept.certificates.into_iter().filter(|known| !certificates.contains(&known.0)));
        let mut bytes = 0_usize;
        new.retain(|der| {
            bytes = bytes.saturating_add(der.0.len());
            bytes <= MAX_CERTIFICATES
        });
        let record = encode(&Certificates { day: day(now), certificates: new })?;
        Ok(match was {
            Some(was) => Change::Replace(table, key, was, record),
            None => Change::Put(table, key, record),
        })
    }

    /// The evidence of a join.
    ///
    /// # Errors
    /// The store fails, or a record is damaged.
    pub async fn evidence(&self, id: JoinId) -> Result<Option<KeptEvidence>, StoreError> {
        let granted = id.to_string();
        let refused = format!("{REFUSED}{granted}");
        for key in [granted, refused] {
            let Some(record) = self.0.read(Table::Evidence, &key).await? else { continue };
            let evidence: JoinEvidence = decode(Table::Evidence, &key, &record)?;
            let certificates = match &evidence.ek {
                Some(ek) => self.certificates(ek.as_str()).await?,
                None => Vec::new(),
            };
            let find = |sha256: &str| {
                let found = certificates.iter().find(|der| fingerprint(&der.0) == sha256);
                found.map(|der| der.0.clone())
            };
            let claim = joined(&evidence.claim, find);
            let ca = match &evidence.verified_by {
                Some(sha256) => self.certificates(&ca_key(sha256)).await?.pop(),
                None => None,
            };
            let sha256 = fingerprint(&record);
            return Ok(Some(KeptEvidence { evidence, sha256, claim, ca: ca.map(|ca| ca.0) }));
        }
        Ok(None)
    }

    async fn certificates(&self, key: &str) -> Result<Vec<Bytes>, StoreError> {
        let Some(record) = self.0.read(Table::EkCertificates, key).await? else {
            return Ok(Vec::new());
        };
        Ok(decode::<Certificates>(Table::EkCertificates, key, &record)?.certificates)
    }

    /// The refused joins whose evidence this authority keeps, the oldest first.
    pub(crate) async fn refused_evidence(&self) -> Result<VecDeque<JoinId>, StoreError> {
        let mut pages = Pages::new(&*self.0, Table::Evidence, REFUSED).of(PAGE);
        let mut own = VecDeque::new();
        while let Some(page) = pages.next().await? {
            for (key, record) in page {
                let evidence = decode::<JoinEvidence>(Table::Evidence, &key, &record);
                if let Ok(evidence) = evidence
                    && evidence.authority == self.log_id()
                {
                    own.push_back(evidence.join_id);
                }
            }
        }
        Ok(own)
    }

    /// Keeps the evidence of refused joins, in place of that of older ones.
    pub(crate) async fn keep_refused_evidence(
        &self,
        new: &[JoinEvidence],
        old: &[JoinId],
    ) -> Result<(), StoreError> {
        let key = |id: &JoinId| format!("{REFUSED}{id}");
        let remove = old.iter().map(|id| Ok(Change::RemoveIfExists(Table::Evidence, key(id))));
        let put =
            new.iter().map(|one| Ok(Change::Put(Table::Evidence, key(&one.join_id), encode(one)?)));
        self.write(remove.chain(put).collect::<Result<_, StoreError>>()?).await
    }

    /// Removes some of the evidence of joins before `then` that led to no instance that is there: of those after `after`, which is
    /// the second value of the call before; none at the end.
    pub(crate) async fn prune_evidence(
        &self,
        then: OffsetDateTime,
        after: Option<&str>,
    ) -> Result<(usize, Option<String>), StoreError> {
        let range = Range { table: Table::Evidence, prefix: "", after, limit: PAGE };
        let mut page = self.0.list(range).await?;
        let is_full = page.len() == PAGE;
        let end = JoinId::first_at(then);
        let refused_end = format!("{REFUSED}{end}");
        let is_young = |key: &str| match key.starts_with(REFUSED) {
            true => key >= refused_end.as_str(),
            false => key >= end.as_str(),
        };
        let mut next = page.last().filter(|_| is_full).map(|(key, _)| key.clone());
        if next.as_deref().is_some_and(|key| !key.starts_with(REFUSED) && is_young(key)) {
            // All others of granted joins are younger.
            next = Some(REFUSED.to_owned());
        }
        page.retain(|(key, _)| !is_young(key));
        let mut batch = Vec::new();
        for (key, record) in page {
            if !self.has_instance_of(&key, &record).await? {
                batch.push(Change::RemoveIfExists(Table::Evidence, key));
            }
        }
        let count = batch.len();
        if count > 0 {
            self.write(batch).await?;
        }
        Ok((count, next))
    }

    /// Whether the instance is there that this join made or renewed.
    async fn has_instance_of(&self, key: &str, record: &[u8]) -> Result<bool, StoreError> {
        match decode::<JoinEvidence>(Table::Evidence, key, record) {
            Ok(JoinEvidence { end: End::Granted { instance, .. }, .. }) => {
                Ok(self.0.read(Table::Instances, &instance).await?.is_some())
            }
            Ok(_) | Err(StoreError::Unreadable(_)) => Ok(false),
            // A newer authority removes it.
            Err(_) => Ok(true),
        }
    }

    /// Removes some of the certificates of EKs with which no host has joined for long, and which no instance has.
    pub(crate) async fn prune_certificates(
        &self,
        now: OffsetDateTime,
        after: Option<&str>,
    ) -> Result<(usize, Option<String>), StoreError> {
        let table = Table::EkCertificates;
        let page = self.0.list(Range { table, prefix: "", after, limit: PAGE / 4 }).await?;
        let next = page.last().filter(|_| page.len() == PAGE / 4).map(|(key, _)| key.clone());
        let mut count = 0_usize;
        for (key, record) in page {
            let Ok(ek) = key.parse::<EkHash>() else { continue };
            let kept = decode::<Certificates>(table, &key, &record).unwrap_or_default();
            let is_old = kept.day.saturating_add(KEPT_DAYS) < day(now);
            if !is_old || self.has_instance_of_ek(&ek).await? {
                continue;
            }
            let expect = Change::Expect(table, key.clone(), Some(record));
            match self.write(vec![expect, Change::Remove(table, key)]).await {
                Ok(()) => count = count.saturating_add(1),
                // Its host joins at this moment.
                Err(StoreError::Changed(..) | StoreError::Missing(..)) => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok((count, next))
    }
}
