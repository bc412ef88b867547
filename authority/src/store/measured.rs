//! Measures a store's times, and remembers whether its last write succeeded.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::{Change, Keyed, Pending, Range, Snapshot, Store, StoreError, Table};
use crate::metrics::{Access, Metrics};

/// As long as a large record.
const TRIAL: usize = 4096;

/// A store whose times are counted, and whose last write is remembered.
pub(crate) struct Measured {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    /// Why the last write failed, if it did.
    failure: Mutex<Option<StoreError>>,
}

impl Measured {
    pub(crate) fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics, failure: Mutex::new(None) }
    }

    /// Whether the store accepts writes. After a failure, possibly no further call
    /// writes, so it is tried again with a record of no meaning, always the same one.
    pub(crate) async fn writable(&self) -> Result<(), StoreError> {
        match self.failure() {
            None => Ok(()),
            Some(_) => {
                self.write(vec![Change::Put(Table::Trial, String::new(), vec![0; TRIAL])]).await
            }
        }
    }

    /// Why the last write failed, if it did.
    pub(crate) fn failure(&self) -> Option<StoreError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A condition that was not met is no failure: the store has looked, and committed.
    fn remember(&self, result: &Result<(), StoreError>) {
        let failed = |one: &StoreError| {
            use StoreError::{Damaged, Failed, Overloaded, Unusable};
            matches!(one, Failed(_) | Overloaded(_) | Damaged(_) | Unusable(_))
        };
        let failure = result.clone().err().filter(failed);
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    fn measure<'a, T: 'a>(&'a self, access: Access, pending: Pending<'a, T>) -> Pending<'a, T> {
        Box::pin(async move {
            let begin = Instant::now();
            let result = pending.await;
            self.metrics.took(access, begin.elapsed());
            result
        })
    }
}

impl Store for Measured {
    fn read<'a>(&'a self, table: Table, key: &'a str) -> Pending<'a, Option<Vec<u8>>> {
        self.measure(Access::Read, self.store.read(table, key))
    }

    fn list<'a>(&'a self, range: Range<'a>) -> Pending<'a, Vec<Keyed>> {
        self.measure(Access::Read, self.store.list(range))
    }

    fn write(&self, batch: Vec<Change>) -> Pending<'_, ()> {
        Box::pin(async move {
            let result = self.measure(Access::Write, self.store.write(batch)).await;
            self.remember(&result);
            result
        })
    }

    fn snapshot(&self) -> Pending<'_, Box<dyn Snapshot>> {
        self.store.snapshot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    #[derive(Default)]
    struct Disk {
        full: AtomicBool,
        writes: AtomicUsize,
    }

    impl Store for Disk {
        fn read<'a>(&'a self, _: Table, _: &'a str) -> Pending<'a, Option<Vec<u8>>> {
            Box::pin(async { Ok(None) })
        }

        fn list<'a>(&'a self, _: Range<'a>) -> Pending<'a, Vec<Keyed>> {
            Box::pin(async { Ok(vec![]) })
        }

        fn write(&self, batch: Vec<Change>) -> Pending<'_, ()> {
            self.writes.fetch_add(1, Ordering::SeqCst);
            let unmet = batch.first().is_some_and(|change| matches!(change, Change::Insert(..)));
            let full = self.full.load(Ordering::SeqCst);
            Box::pin(async move {
                match (full, unmet) {
                    (true, _) => Err(StoreError::Failed("no space".into())),
                    (false, true) => Err(StoreError::Exists(Table::Bots, "a".into())),
                    (false, false) => Ok(()),
                }
            })
        }

        fn snapshot(&self) -> Pending<'_, Box<dyn Snapshot>> {
            Box::pin(async { Err(StoreError::Failed("no snapshots".into())) })
        }
    }

    #[tokio::test]
    async fn a_write_that_failed_is_remembered_until_one_succeeds() {
        let disk = Arc::new(Disk::default());
        let store = Measured::new(Arc::<Disk>::clone(&disk), Arc::default());
        store.writable().await.unwrap();
        assert_eq!(disk.writes.load(Ordering::SeqCst), 0, "healthy, so nothing is tried");

        let insert = || vec![Change::Insert(Table::Bots, "a".into(), vec![])];
        disk.full.store(true, Ordering::SeqCst);
        let failure = store.write(insert()).await.unwrap_err();
        assert_eq!(store.writable().await, Err(failure));
        disk.full.store(false, Ordering::SeqCst);
        store.writable().await.unwrap();
        assert_eq!(disk.writes.load(Ordering::SeqCst), 3);

        // A condition that was not met is no failure, and ends one.
        disk.full.store(true, Ordering::SeqCst);
        store.write(insert()).await.unwrap_err();
        disk.full.store(false, Ordering::SeqCst);
        assert!(matches!(store.write(insert()).await, Err(StoreError::Exists(..))));
        assert_eq!(store.failure(), None);
    }
}
