//! Verification of the logs in a store, and of its records by what the logs say of them.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::{Page, Pages, Records, StoreError, Table};
use crate::audit::replay::{Finding, Place, Replay};
use crate::audit::tree::Head;

/// Entries that are read at once.
const PAGE: usize = 512;

/// Findings that are kept; more are counted.
const MAX_FINDINGS: usize = 100;

/// How often records that differ are compared again, because an authority that runs may just be changing them.
const ROUNDS: usize = 3;

/// What a verification has seen.
#[derive(Debug, Default)]
pub struct Verified {
    /// The logs by the IDs of their authorities, as far as they were read.
    pub logs: Vec<(String, Head)>,
    /// The logs whose entries before a number were removed.
    pub kept_from: Vec<(String, u64)>,
    /// How many records were compared.
    pub records: u64,
    /// What is wrong: with which log, and what.
    pub findings: Vec<(Option<String>, Finding)>,
    /// How many more findings there are.
    pub more: u64,
}

/// A head that was kept elsewhere, and of which log it is.
pub type KeptHead = (String, Head);

impl Verified {
    fn add(&mut self, log: Option<&str>, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            match self.findings.len() < MAX_FINDINGS {
                true => self.findings.push((log.map(str::to_owned), finding)),
                false => self.more = self.more.saturating_add(1),
            }
        }
    }
}

impl Records {
    /// Reads all logs from their first entries, compares their trees with the heads in the store and with heads that were kept
    /// elsewhere, and the records with what the logs say of them. An authority may run meanwhile.
    ///
    /// # Errors
    /// The store fails, or a head in it is damaged.
    pub async fn verify(&self, kept: &[KeptHead]) -> Result<Verified, StoreError> {
        let mut verified = Verified::default();
        let mut names: BTreeSet<_> = self.logs().await?.into_iter().collect();
        names.extend(kept.iter().map(|(log, _)| log.clone()));
        let mut logs = Vec::new();
        for log in names {
            let tree = self.log_head(&log).await?;
            let stored = Head { size: tree.size(), root: tree.root() };
            let heads = kept.iter().filter(|(of, _)| *of == log).map(|(_, head)| *head);
            let mut replay = Replay::that_had(heads.chain([stored]));
            self.replay(&log, &mut replay, &mut verified).await?;
            verified.add(Some(&log), replay.end());
            // An entry and the head that has it are written together.
            let appended = self.log_head(&log).await?.size();
            verified.add(Some(&log), (appended..replay.next()).map(Finding::Misplaced).take(1));
            logs.push((log, replay));
        }
        self.compare(&mut logs, &mut verified).await?;
        let cut = logs.iter().map(|(log, replay)| (log.clone(), replay.kept_from()));
        verified.kept_from = cut.filter(|(_, first)| *first > 0).collect();
        verified.logs = logs.into_iter().map(|(log, replay)| (log, replay.head())).collect();
        Ok(verified)
    }

    /// Reads what a log has more. Returns whether there was anything.
    async fn replay(
        &self,
        log: &str,
        replay: &mut Replay,
        verified: &mut Verified,
    ) -> Result<bool, StoreError> {
        let first = replay.next();
        loop {
            match self.log_page(log, replay.next()).await? {
                Page::Entries(entries) if entries.is_empty() => return Ok(replay.next() > first),
                Page::Entries(entries) => {
                    for entry in &entries {
                        verified.add(Some(log), replay.read(entry));
                    }
                }
                Page::Hashes(hashes) => verified.add(Some(log), replay.skip(&hashes)),
            }
        }
    }

    /// Compares all records with what the logs say.
    async fn compare(
        &self,
        logs: &mut [(String, Replay)],
        verified: &mut Verified,
    ) -> Result<(), StoreError> {
        let mut differing = Vec::new();
        for table in Table::STATE {
            let mut found = BTreeSet::new();
            let mut pages = Pages::new(&*self.0, table, "").of(PAGE);
            while let Some(page) = pages.next().await? {
                for (key, record) in page {
                    verified.records = verified.records.saturating_add(1);
                    let place = (table.in_events(), key);
                    if difference(logs, &place, Some(&record)).is_some() {
                        differing.push((table, place.1.clone()));
                    }
                    found.insert(place.1);
                }
            }
            let missing: BTreeSet<_> = logs
                .iter()
                .flat_map(|(_, replay)| replay.present())
                .filter(|(of, key)| *of == table.in_events() && !found.contains(key))
                .map(|(_, key)| (table, key.clone()))
                .collect();
            differing.extend(missing);
        }
        for round in 1.. {
            let mut is_new = false;
            if !differing.is_empty() {
                for (log, replay) in logs.iter_mut() {
                    is_new |= self.replay(log, replay, verified).await?;
                }
            }
            let mut still = Vec::new();
            let mut findings = Vec::new();
            for (table, key) in differing {
                let record = self.0.read(table, &key).await?;
                let place = (table.in_events(), key.clone());
                if let Some(finding) = difference(logs, &place, record.as_deref()) {
                    still.push((table, key));
                    findings.push(finding);
                }
            }
            if !is_new || round == ROUNDS {
                verified.add(None, findings);
                break;
            }
            differing = still;
        }
        self.compare_lock_targets(verified).await
    }

    /// Compares the rows by which locks are found with the locks.
    async fn compare_lock_targets(&self, verified: &mut Verified) -> Result<(), StoreError> {
        let mut differing = self.differing_lock_targets().await?;
        if !differing.is_empty() {
            // The two tables are not read at the same moment.
            let again = self.differing_lock_targets().await?;
            differing.retain(|name| again.contains(name));
        }
        let place = |name| (Table::LockTargets.in_events(), name);
        verified.add(None, differing.into_iter().map(|name| Finding::Record(place(name))));
        Ok(())
    }

    /// The names of the locks that are in one table and not in the other, or not the same.
    async fn differing_lock_targets(&self) -> Result<BTreeSet<String>, StoreError> {
        let locks: BTreeSet<_> =
            Pages::new(&*self.0, Table::Locks, "").all().await?.into_iter().collect();
        let rows = Pages::new(&*self.0, Table::LockTargets, "").all().await?.into_iter();
        let name = |key: String| key.rsplit_once('/').map_or(key.clone(), |(_, name)| name.into());
        let rows: BTreeSet<_> = rows.map(|(key, record)| (name(key), record)).collect();
        Ok(rows.symmetric_difference(&locks).map(|(name, _)| name.clone()).collect())
    }
}

/// How a record differs from what the logs say. Where several authorities have written it, the last word of any of them is accepted.
fn difference(logs: &[(String, Replay)], place: &Place, record: Option<&[u8]>) -> Option<Finding> {
    let hash = record.map(|record| base16ct::lower::encode_string(&Sha256::digest(record)));
    let known: Vec<_> = logs.iter().filter_map(|(_, replay)| replay.record(place)).collect();
    if known.contains(&&hash) {
        return None;
    }
    match hash {
        Some(_) if known.iter().all(|known| known.is_none()) => {
            Some(Finding::RecordUnknown(place.clone()))
        }
        Some(_) => Some(Finding::Record(place.clone())),
        None if logs.iter().any(|(_, replay)| replay.may_have_removed(place)) => None,
        None => Some(Finding::RecordMissing(place.clone())),
    }
}

#[cfg(test)]
mod tests;
