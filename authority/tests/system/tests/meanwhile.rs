//! A store in which something happens between a decision and its write.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use authority::store::{Change, Keyed, Pages, Pending, Range, Records, Snapshot, Store, Table};

/// What happens.
pub(crate) type Event = Box<dyn FnOnce(Records) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// The store of a cluster. What was set here happens before a write, once.
pub(crate) struct Meanwhile {
    store: Arc<dyn Store>,
    event: Mutex<Option<(Table, Event)>>,
    /// Batches with an instance or an entry of the log.
    writes: AtomicUsize,
}

impl Meanwhile {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, event: Mutex::new(None), writes: AtomicUsize::new(0) }
    }

    /// Before the next write of an instance, this happens.
    pub(crate) fn set(&self, event: Event) {
        self.set_before(Table::Instances, event);
    }

    /// Before the next write that changes this table, this happens.
    pub(crate) fn set_before(&self, table: Table, event: Event) {
        *self.event.lock().unwrap() = Some((table, event));
    }

    /// How many batches with an instance or an entry of the log were written.
    pub(crate) fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    /// How many records a table has.
    pub(crate) async fn count(&self, table: Table) -> usize {
        Pages::new(&*self.store, table, "").all().await.unwrap().len()
    }

    /// Whether what was set has happened.
    pub(crate) fn happened(&self) -> bool {
        self.event.lock().unwrap().is_none()
    }
}

impl Store for Meanwhile {
    fn read<'a>(&'a self, table: Table, key: &'a str) -> Pending<'a, Option<Vec<u8>>> {
        self.store.read(table, key)
    }

    fn list<'a>(&'a self, range: Range<'a>) -> Pending<'a, Vec<Keyed>> {
        self.store.list(range)
    }

    fn write(&self, batch: Vec<Change>) -> Pending<'_, ()> {
        Box::pin(async move {
            let has = |table| batch.iter().any(|change| change.table() == table);
            let is_entry = |change: &Change| matches!(change, Change::Append(..));
            if has(Table::Instances) || batch.iter().any(is_entry) {
                self.writes.fetch_add(1, Ordering::SeqCst);
            }
            let event = self.event.lock().unwrap().take_if(|(table, _)| has(*table));
            if let Some((_, event)) = event {
                event(Records::new(Arc::clone(&self.store))).await;
            }
            self.store.write(batch).await
        })
    }

    fn snapshot(&self) -> Pending<'_, Box<dyn Snapshot>> {
        self.store.snapshot()
    }
}
