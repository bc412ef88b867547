//! Removal of what has ended.

use time::OffsetDateTime;

use super::format::decode;
use super::index::{self, Expiry};
use super::records::{lock_changed, table};
use super::{Change, Pages, Records, StoreError, Table};
use crate::audit::{Author, Deed};
use crate::resource::{BotInstance, Kind, Lock};

/// Removals in one batch, so that joins do not wait long behind it.
const BATCH: usize = 128;

/// The result of [`Records::prune`].
#[derive(Debug, Default)]
pub struct Pruned {
    /// How many records were removed.
    pub removed: usize,
    /// Why records were passed over that cannot be read.
    pub unreadable: Vec<StoreError>,
    /// The key after which the next call continues; none at the end.
    pub next: Option<String>,
}

/// The removal of one record that has ended and is still as it was read.
#[derive(Clone)]
struct Removal {
    changes: Vec<Change>,
    /// Whether it is one, and has an event; otherwise only an index is put right.
    is_event: bool,
}

impl Records {
    /// Removes some of the instances whose last certificate had ended by `then`, and of the locks
    /// whose time was over, with an entry of the log for each: the first of those after `next` of
    /// the call before.
    ///
    /// It reads no record that ends later than in the hour of `then`.
    pub async fn prune(
        &self,
        then: OffsetDateTime,
        author: Author,
        after: Option<String>,
    ) -> Result<Pruned, StoreError> {
        let mut pages = Pages::new(&*self.0, Table::Expiry, "").after(after).of(BATCH);
        let (mut page, end) = (pages.next().await?.unwrap_or_default(), index::hour(then));
        // Some of this hour have not ended yet.
        page.retain(|(key, _)| key.as_str() < end.as_str() || key.starts_with(&end));
        let next = page.last().filter(|_| page.len() == BATCH).map(|(key, _)| key.clone());
        let mut pruned = Pruned { next, ..Pruned::default() };
        let mut removals = Vec::with_capacity(page.len());
        for (key, content) in page {
            match self.removal(Expiry::read(key, content), then, author).await {
                Ok(removal) => removals.extend(removal),
                Err(cause @ (StoreError::Unreadable(_) | StoreError::Newer(_))) => {
                    pruned.unreadable.push(cause);
                }
                Err(cause) => return Err(cause),
            }
        }
        pruned.removed = self.remove_unchanged(&removals).await?;
        Ok(pruned)
    }

    /// Removes all that are still as they were read; returns how many records that were.
    async fn remove_unchanged(&self, removals: &[Removal]) -> Result<usize, StoreError> {
        let changes = removals.iter().flat_map(|one| one.changes.clone()).collect();
        match (self.write(changes).await, removals) {
            (Ok(()), _) => Ok(removals.iter().filter(|one| one.is_event).count()),
            (Err(StoreError::Missing(..) | StoreError::Changed(..)), [] | [_]) => Ok(0),
            // One of them has changed. The others go by themselves.
            (Err(StoreError::Missing(..) | StoreError::Changed(..)), _) => {
                let mut removed = 0_usize;
                for one in removals {
                    let one = Box::pin(self.remove_unchanged(std::slice::from_ref(one))).await?;
                    removed = removed.saturating_add(one);
                }
                Ok(removed)
            }
            (Err(cause), _) => Err(cause),
        }
    }

    /// What removes the record that a row leads to, if it has ended. Where the row is not the
    /// record's, because that is gone or ends in a later hour, it is put right.
    async fn removal(
        &self,
        expiry: Result<Expiry, StoreError>,
        then: OffsetDateTime,
        author: Author,
    ) -> Result<Option<Removal>, StoreError> {
        let expiry = expiry?;
        let (table, key) = (table(expiry.kind), expiry.key.clone());
        let was = self.0.read(table, &key).await?;
        let mut changes = vec![Change::Expect(table, key.clone(), was.clone())];
        let mut event = None;
        let mut rows = Vec::new();
        match (expiry.kind, was) {
            (Kind::BotInstance, Some(was)) => {
                let instance: BotInstance = decode(table, &key, &was)?;
                if instance.metadata.expired(then) {
                    event = Some(self.event(&author.event(Deed::Removed, expiry.kind, &key))?);
                } else {
                    rows = index::of_instance(&instance);
                }
            }
            (Kind::Lock, Some(was)) => {
                let lock: Lock = decode(table, &key, &was)?;
                if lock.in_force(then) {
                    rows = index::of_lock(&lock);
                } else {
                    event = Some(self.event(&author.lock_event(Deed::Removed, &lock))?);
                    changes.extend(lock_changed(&lock, was)?);
                }
            }
            (Kind::Bot | Kind::Token | Kind::WorkloadIdentity, _) | (_, None) => {}
        }
        changes.extend(index::changes(&expiry.rows(), rows));
        let is_event = event.is_some();
        if let Some(event) = event {
            changes.extend([Change::Remove(table, key), event]);
        }
        // Beside the expectation.
        Ok((changes.len() > 1).then_some(Removal { changes, is_event }))
    }
}
