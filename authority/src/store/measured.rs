//! Tells how long a store takes.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Change, Pending, Store, Table};
use crate::metrics::{Access, Metrics};

/// A store whose times are counted.
pub(crate) struct Measured {
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
}

impl Measured {
    pub(crate) fn new(store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Self {
        Self { store, metrics }
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

    fn list<'a>(&'a self, table: Table, prefix: &'a str) -> Pending<'a, Vec<(String, Vec<u8>)>> {
        self.measure(Access::Read, self.store.list(table, prefix))
    }

    fn write(&self, batch: Vec<Change>) -> Pending<'_, ()> {
        self.measure(Access::Write, self.store.write(batch))
    }
}
