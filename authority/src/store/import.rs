//! Fills an empty store with the records of another one.
//!
//! The first write marks the store as incomplete, so that no authority opens it, and the last one removes the mark. An interrupted
//! import is begun again: what it has left is removed.

use tracing::info;

use super::log;
use super::migrate::{self, Moved, State};
use super::{Change, Contents, Keyed, Range, Store, StoreError, Summary, Table, Tally};

/// How many records are said in one line of the log.
const PROGRESS: u64 = 100_000;

/// Records that are removed in one batch.
const REMOVED_AT_ONCE: usize = 1024;

/// A store that is being filled.
pub struct Import<'s> {
    store: &'s dyn Store,
    tally: Tally,
    said: u64,
}

impl<'s> Import<'s> {
    /// Marks the store; `what` says which command does this.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if the store is not empty.
    pub async fn begin(store: &'s dyn Store, what: &str) -> Result<Self, StoreError> {
        if migrate::state(store).await? == State::Incomplete {
            clear(store).await?;
        } else if let Some((table, key)) = first(store).await? {
            return Err(StoreError::Exists(table, key));
        }
        let mark = migrate::incomplete(what)?;
        // An authority that has used the empty store has left its time there.
        let time = Change::RemoveIfExists(Table::Clock, String::new());
        store.write(vec![mark, time]).await?;
        Ok(Self { store, tally: Tally::default(), said: 0 })
    }

    /// Adds records, in the order of [`Contents`].
    ///
    /// # Errors
    /// The store failed.
    pub async fn add(&mut self, table: Table, page: Vec<Keyed>) -> Result<(), StoreError> {
        self.tally.add(table, &page);
        let puts = page.into_iter().map(|(key, record)| Change::Put(table, key, record));
        self.store.write(puts.collect()).await?;
        if self.tally.count() - self.said >= PROGRESS {
            self.said = self.tally.count();
            info!(records = self.said, "records are being copied");
        }
        Ok(())
    }

    /// Reads all records again and compares them with those that were added. The store remains incomplete.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the store has other records.
    pub async fn verify(&self) -> Result<Summary, StoreError> {
        let (added, found) = (self.tally.clone().summary(), Summary::of(self.store).await?);
        if found != added {
            let text = format!(
                "it has {} records (SHA-256 {}), not the {} that were written (SHA-256 {})",
                found.records.values().sum::<u64>(),
                found.sha256,
                self.tally.count(),
                added.sha256
            );
            return Err(StoreError::Damaged(text));
        }
        Ok(found)
    }

    /// Removes the mark; `format` is what the store of the records has said of itself ([`Contents::format`]), and `also` is written with
    /// it.
    ///
    /// # Errors
    /// The store failed.
    pub async fn complete(
        self,
        format: Vec<(String, String)>,
        also: Vec<Change>,
    ) -> Result<(), StoreError> {
        let mut batch = migrate::imported(format);
        batch.extend(also);
        log::bind(&mut batch)?;
        self.store.write(batch).await
    }
}

/// Copies all records of a store that nothing writes to into an empty one, and says in the store where they are now.
///
/// # Errors
/// [`StoreError::Exists`] if the target is not empty.
pub async fn copy(from: &dyn Store, to: &dyn Store, moved: &Moved) -> Result<Summary, CopyError> {
    let mut contents = Contents::of(from).await.map_err(CopyError::Source)?;
    let summary = fill(&mut contents, to).await?;
    let mark = migrate::moved(moved).map_err(CopyError::Source)?;
    from.write(vec![mark]).await.map_err(CopyError::Source)?;
    Ok(summary)
}

async fn fill(contents: &mut Contents, to: &dyn Store) -> Result<Summary, CopyError> {
    let target = CopyError::Target;
    let format = contents.format().await.map_err(CopyError::Source)?;
    let mut import = Import::begin(to, "authority store copy").await.map_err(target)?;
    while let Some((table, page)) = contents.next().await.map_err(CopyError::Source)? {
        import.add(table, page).await.map_err(target)?;
    }
    info!(records = import.tally.count(), "all records are copied; comparing");
    let summary = import.verify().await.map_err(target)?;
    import.complete(format, Vec::new()).await.map_err(target)?;
    Ok(summary)
}

/// Which of two stores failed, and how.
#[derive(Debug)]
pub enum CopyError {
    /// The one that is read.
    Source(StoreError),
    /// The one that is filled.
    Target(StoreError),
}

/// Whether a store has records that were not copied to another one.
///
/// # Errors
/// The store failed.
pub async fn has_records(store: &dyn Store) -> Result<bool, StoreError> {
    Ok(first(store).await?.is_some() && migrate::moved_to(store).await?.is_none())
}

/// A record that people or hosts have made, if there is one.
async fn first(store: &dyn Store) -> Result<Option<(Table, String)>, StoreError> {
    for table in Table::ALL {
        if matches!(table, Table::Clock | Table::Format | Table::Trial) {
            continue;
        }
        let page = store.list(Range { table, prefix: "", after: None, limit: 1 }).await?;
        if let Some((key, _)) = page.into_iter().next() {
            return Ok(Some((table, key)));
        }
    }
    Ok(None)
}

/// Removes all records but what the store says of itself.
async fn clear(store: &dyn Store) -> Result<(), StoreError> {
    for table in Table::ALL.into_iter().filter(|table| *table != Table::Format) {
        loop {
            let range = Range { table, prefix: "", after: None, limit: REMOVED_AT_ONCE };
            let page = store.list(range).await?;
            let is_last = page.len() < REMOVED_AT_ONCE;
            let removals = page.into_iter().map(|(key, _)| Change::RemoveIfExists(table, key));
            store.write(removals.collect()).await?;
            if is_last {
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::audit::Author;
    use time::macros::datetime;

    use super::*;
    use crate::resource::Timestamp;
    use crate::store::{MemoryStore, Records};
    use std::sync::Arc;

    fn moved() -> Moved {
        Moved { to: "elsewhere".into(), at: Timestamp(datetime!(2026-06-01 12:30 UTC)) }
    }

    fn author() -> Author {
        Author::system(datetime!(2026-06-01 12:30 UTC))
    }

    /// Some records in each table, in more than a page.
    async fn filled() -> Arc<MemoryStore> {
        let store = Arc::new(MemoryStore::default());
        Records::new(Arc::<MemoryStore>::clone(&store)).migrate(author()).await.unwrap();
        for table in Table::ALL.into_iter().filter(|table| *table != Table::Format) {
            let put = |number| {
                Change::Put(table, format!("{number:05}"), vec![table as u8, number as u8])
            };
            store.write((0..1500).map(put).collect()).await.unwrap();
        }
        store
    }

    async fn migrated(store: &Arc<MemoryStore>) -> Result<(), StoreError> {
        Records::new(Arc::<MemoryStore>::clone(store)).migrate(author()).await
    }

    #[tokio::test]
    async fn copy_has_all_records_and_the_source_says_where_they_are() {
        let (from, to) = (filled().await, Arc::new(MemoryStore::default()));
        assert!(has_records(&*from).await.unwrap());
        let summary = copy(&*from, &*to, &moved()).await.unwrap();
        assert_eq!(summary.records.len(), Table::ALL.len() - 2, "{summary:?}");
        assert!(summary.records.values().all(|count| *count == 1500), "{summary:?}");
        for table in Table::ALL.into_iter().filter(|table| *table != Table::Trial) {
            let range = Range { table, prefix: "", after: None, limit: 2000 };
            let (mut was, is) = (from.list(range).await.unwrap(), to.list(range).await.unwrap());
            was.retain(|(key, _)| key != "moved");
            assert_eq!(was, is, "{table:?}");
        }
        assert_eq!(Summary::of(&*to).await.unwrap(), summary);
        migrated(&to).await.unwrap();
        assert!(!has_records(&*from).await.unwrap() && has_records(&*to).await.unwrap());
        assert_eq!(migrate::moved_to(&*from).await.unwrap(), Some(moved()));
        // And back, into a third one, where they are used from then on.
        let back = Arc::new(MemoryStore::default());
        assert_eq!(copy(&*to, &*back, &moved()).await.unwrap(), summary);
        assert_eq!(migrate::moved_to(&*back).await.unwrap(), None);
    }

    #[tokio::test]
    async fn store_with_records_is_not_overwritten_but_one_without_may_have_been_started() {
        let (from, to) = (filled().await, Arc::new(MemoryStore::default()));
        to.write(vec![Change::Put(Table::Locks, "l".into(), b"x".into())]).await.unwrap();
        let refused = copy(&*from, &*to, &moved()).await.unwrap_err();
        assert!(matches!(refused, CopyError::Target(StoreError::Exists(Table::Locks, _))));
        assert_eq!(to.read(Table::Bots, "00001").await.unwrap(), None);
        assert_eq!(to.read(Table::Format, "").await.unwrap(), None);
        assert_eq!(migrate::moved_to(&*from).await.unwrap(), None);

        let to = Arc::new(MemoryStore::default());
        migrated(&to).await.unwrap();
        let time = Change::Put(Table::Clock, String::new(), b"time".into());
        to.write(vec![time, Change::Put(Table::Trial, String::new(), vec![0])]).await.unwrap();
        copy(&*from, &*to, &moved()).await.unwrap();
    }

    #[tokio::test]
    async fn incomplete_store_is_opened_by_no_version_and_filled_again() {
        let (from, to) = (filled().await, Arc::new(MemoryStore::default()));
        let mut import = Import::begin(&*to, "some command").await.unwrap();
        import.add(Table::Bots, vec![("left".into(), b"over".into())]).await.unwrap();
        drop(import);
        let refused = migrated(&to).await.unwrap_err();
        assert!(matches!(&refused, StoreError::Unusable(text) if text.contains("`some command`")));
        // What a version reads that does not know the mark.
        let record = to.read(Table::Format, "").await.unwrap().unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(record["oldest"], u32::MAX);
        let unread = copy(&*to, &MemoryStore::default(), &moved()).await.unwrap_err();
        assert!(matches!(unread, CopyError::Source(StoreError::Unusable(_))));
        copy(&*from, &*to, &moved()).await.unwrap();
        assert_eq!(to.read(Table::Bots, "left").await.unwrap(), None);
        migrated(&to).await.unwrap();
    }

    #[tokio::test]
    async fn records_that_are_not_as_they_were_written_are_noticed() {
        let to = MemoryStore::default();
        let mut import = Import::begin(&to, "some command").await.unwrap();
        import.add(Table::Bots, vec![("a".into(), b"1".into())]).await.unwrap();
        import.verify().await.unwrap();
        for damage in [
            Change::Put(Table::Bots, "a".into(), b"2".into()),
            Change::Put(Table::Tokens, "a".into(), b"1".into()),
            Change::Remove(Table::Bots, "a".into()),
        ] {
            to.write(vec![damage]).await.unwrap();
            assert!(matches!(import.verify().await, Err(StoreError::Damaged(_))));
            to.write(vec![
                Change::RemoveIfExists(Table::Tokens, "a".into()),
                Change::Put(Table::Bots, "a".into(), b"1".into()),
            ])
            .await
            .unwrap();
        }
    }

    #[tokio::test]
    async fn store_of_a_newer_version_is_not_copied() {
        let from = filled().await;
        let newer = br#"{"v":1,"format":4,"oldest":1}"#.to_vec();
        from.write(vec![Change::Put(Table::Format, String::new(), newer)]).await.unwrap();
        migrated(&from).await.unwrap();
        let refused = copy(&*from, &MemoryStore::default(), &moved()).await.unwrap_err();
        assert!(matches!(refused, CopyError::Source(StoreError::Newer(_))), "{refused:?}");
    }
}
