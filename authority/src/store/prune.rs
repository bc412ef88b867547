//! Removal of what has ended.

use time::OffsetDateTime;

use super::format::decode;
use super::records::{inserted, lock_changed, row};
use super::{Audited, Change, Pages, Records, StoreError, Table};
use crate::audit::{Author, Deed, Row};
use crate::resource::{BotInstance, Kind, Lock};

/// Removals in one batch, so that joins do not wait long behind it.
const BATCH: usize = 128;

/// The removal of one record that has ended and is still as it was read, and the row that tells of
/// it, which is in the changes too.
struct Removal {
    changes: Vec<Change>,
    row: Row,
}

impl Records {
    /// Removes instances whose last certificate had ended by then and locks whose time was over,
    /// with a row of the audit log for each. What was removed before an error has its rows.
    pub async fn prune(
        &self,
        then: OffsetDateTime,
        author: Author,
    ) -> Audited<Result<(), StoreError>> {
        let mut rows = Vec::new();
        let value = self.remove_ended(then, author, &mut rows).await;
        Audited { value, rows }
    }

    async fn remove_ended(
        &self,
        then: OffsetDateTime,
        author: Author,
        rows: &mut Vec<Row>,
    ) -> Result<(), StoreError> {
        let ended = self.ended(then, author).await?;
        for batch in ended.chunks(BATCH) {
            match self.remove_all(batch).await {
                Ok(()) => rows.extend(batch.iter().map(|one| one.row.clone())),
                // One of them has changed. The others go by themselves.
                Err(StoreError::Missing(..) | StoreError::Changed(..)) => {
                    for one in batch {
                        match self.remove_all(std::slice::from_ref(one)).await {
                            Ok(()) => rows.push(one.row.clone()),
                            Err(StoreError::Missing(..) | StoreError::Changed(..)) => {}
                            Err(cause) => return Err(cause),
                        }
                    }
                }
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
    }

    async fn remove_all(&self, removals: &[Removal]) -> Result<(), StoreError> {
        self.write(removals.iter().flat_map(|one| one.changes.clone()).collect()).await
    }

    async fn ended(
        &self,
        then: OffsetDateTime,
        author: Author,
    ) -> Result<Vec<Removal>, StoreError> {
        let mut ended = Vec::new();
        for (key, was) in Pages::new(&*self.0, Table::Instances, "").all().await? {
            let instance: BotInstance = decode(Table::Instances, &key, &was)?;
            if instance.metadata.expired(then) {
                let row = row(&author.event(Deed::Removed, Kind::BotInstance, &key))?;
                // It may be renewed meanwhile.
                let expected = Change::Expect(Table::Instances, key.clone(), Some(was));
                let changes = vec![expected, Change::Remove(Table::Instances, key), inserted(&row)];
                ended.push(Removal { changes, row });
            }
        }
        for (name, was) in Pages::new(&*self.0, Table::Locks, "").all().await? {
            let lock: Lock = decode(Table::Locks, &name, &was)?;
            if !lock.in_force(then) {
                let row = row(&author.lock_event(Deed::Removed, &lock))?;
                let mut changes = lock_changed(&lock, was)?.to_vec();
                changes.extend([Change::Remove(Table::Locks, name), inserted(&row)]);
                ended.push(Removal { changes, row });
            }
        }
        Ok(ended)
    }
}
