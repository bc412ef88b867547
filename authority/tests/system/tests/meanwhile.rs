//! A store in which something happens between a decision and its write.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use authority::store::{Change, Pending, Records, RedbStore, Store, Table};

/// What happens.
pub(crate) type Event = Box<dyn FnOnce(Records) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// The store of a cluster. Before it writes an instance, what was set here happens, once.
pub(crate) struct Meanwhile {
    store: Arc<RedbStore>,
    event: Mutex<Option<Event>>,
}

impl Meanwhile {
    pub(crate) fn new(store: RedbStore) -> Self {
        Self { store: Arc::new(store), event: Mutex::new(None) }
    }

    /// Before the next write of an instance, this happens.
    pub(crate) fn set(&self, event: Event) {
        *self.event.lock().unwrap() = Some(event);
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

    fn list<'a>(&'a self, table: Table, prefix: &'a str) -> Pending<'a, Vec<(String, Vec<u8>)>> {
        self.store.list(table, prefix)
    }

    fn write(&self, batch: Vec<Change>) -> Pending<'_, ()> {
        Box::pin(async move {
            if batch.iter().any(|change| change.table() == Table::Instances) {
                let event = self.event.lock().unwrap().take();
                if let Some(event) = event {
                    event(Records::new(Arc::<RedbStore>::clone(&self.store))).await;
                }
            }
            self.store.write(batch).await
        })
    }
}
