//! What every [`Store`] must do: each rule by its name, checked from outside, on any store.
//!
//! `broken` shows that each rule fails for a store that breaks it.

mod broken;
mod concurrent;
mod rules;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::audit::tree::{Frontier, leaf_hash};

use super::{
    Change, Keyed, MemoryStore, Pages, Pending, Range, RedbStore, Snapshot, Store, StoreError,
    Table,
};

/// A store to check. It is empty, and is used by nothing else meanwhile.
pub(in crate::store) struct Subject {
    pub(in crate::store) store: Arc<dyn Store>,
    /// The store as the next process would find it, for one that outlives its process.
    pub(in crate::store) reopened: Option<Reopen>,
}

pub(in crate::store) type Reopen = Box<dyn Fn() -> Arc<dyn Store> + Send + Sync>;

/// A rule that a store breaks, and what was seen of it.
#[derive(Debug)]
pub(in crate::store) struct Broken {
    rule: &'static str,
    seen: String,
}

/// How long the check of one rule may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What was seen of a check that took longer.
const TOO_LONG: &str = "it did not end in time";

/// Checks all rules; fails with those that are broken.
pub(in crate::store) async fn conforms(subject: Subject) -> Result<(), Vec<Broken>> {
    let subject = Arc::new(subject);
    let mut broken = Vec::new();
    for (rule, check) in rules::RULES.iter().chain(concurrent::RULES) {
        let space = Space { subject: Arc::clone(&subject), rule };
        let checked = tokio::time::timeout(TIMEOUT, check(space)).await;
        if let Err(Seen(seen)) = checked.unwrap_or_else(|_| Err(Seen(TOO_LONG.into()))) {
            broken.push(Broken { rule, seen });
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(broken) }
}

type Check = fn(Space) -> Pin<Box<dyn Future<Output = Result<(), Seen>> + Send>>;

/// Rules by the names of the functions that check them.
macro_rules! by_name {
    ($($rule:ident),* $(,)?) => {
        &[$((stringify!($rule), |space| Box::pin($rule(space)))),*]
    };
}
use by_name;

/// What a store did that no rule allows.
#[derive(Debug)]
struct Seen(String);

impl From<StoreError> for Seen {
    fn from(cause: StoreError) -> Self {
        Self(format!("it fails: {cause:?}"))
    }
}

/// Where a rule is checked: keys that begin with its name.
#[derive(Clone)]
struct Space {
    subject: Arc<Subject>,
    rule: &'static str,
}

/// The table that most rules are checked in.
const TABLE: Table = Table::Bots;

impl Space {
    fn store(&self) -> &dyn Store {
        &*self.subject.store
    }

    fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.rule)
    }

    fn insert(&self, key: &str, record: impl Into<Vec<u8>>) -> Change {
        Change::Insert(TABLE, self.key(key), record.into())
    }

    fn put(&self, key: &str, record: impl Into<Vec<u8>>) -> Change {
        Change::Put(TABLE, self.key(key), record.into())
    }

    fn replace(&self, key: &str, was: &str, record: &str) -> Change {
        Change::Replace(TABLE, self.key(key), was.into(), record.into())
    }

    fn remove(&self, key: &str) -> Change {
        Change::Remove(TABLE, self.key(key))
    }

    fn remove_if_exists(&self, key: &str) -> Change {
        Change::RemoveIfExists(TABLE, self.key(key))
    }

    fn remove_all(&self, prefix: &str) -> Change {
        Change::RemoveAll(TABLE, self.key(prefix))
    }

    fn expect(&self, key: &str, was: Option<&str>) -> Change {
        Change::Expect(TABLE, self.key(key), was.map(Into::into))
    }

    fn append(&self, log: &str, entry: &str) -> Change {
        Change::Append(self.key(log), entry.into())
    }

    /// The entries of a log must be these, in this order, and its head that of their tree.
    async fn log_is(&self, log: &str, entries: &[&str]) -> Result<(), Seen> {
        let prefix = format!("{}/", self.key(log));
        let found = Pages::new(self.store(), Table::Log, prefix.as_str()).all().await?;
        let must = (0_u64..).zip(entries).map(|(sequence, entry)| {
            (format!("{prefix}{sequence:016x}"), entry.as_bytes().to_vec())
        });
        equal(&format!("log {log:?}"), &found, &must.collect())?;
        let mut tree = Frontier::default();
        entries.iter().for_each(|entry| tree.push(leaf_hash(entry.as_bytes())).unwrap_or_default());
        let head = self.store().read(Table::LogHeads, &self.key(log)).await?;
        let must = (!entries.is_empty()).then(|| tree.to_bytes());
        equal(&format!("head of log {log:?}"), &head, &must)
    }

    /// A batch that must succeed.
    async fn write(&self, batch: impl Into<Vec<Change>>) -> Result<(), Seen> {
        let batch = batch.into();
        let shown = short(&batch);
        let written = self.store().write(batch).await;
        written.map_err(|cause| Seen(format!("{shown} fails: {cause:?}")))
    }

    /// A batch that must fail like this.
    async fn refused(
        &self,
        batch: impl Into<Vec<Change>>,
        error: impl Fn(Table, String) -> StoreError,
        key: &str,
    ) -> Result<(), Seen> {
        let batch = batch.into();
        let shown = short(&batch);
        let result = self.store().write(batch).await;
        equal(&shown, &result, &Err(error(TABLE, self.key(key))))
    }

    /// The record with this key must be so.
    async fn is(&self, key: &str, record: Option<&str>) -> Result<(), Seen> {
        let found = self.store().read(TABLE, &self.key(key)).await?;
        let found = found.as_deref().map(String::from_utf8_lossy);
        equal(&format!("record {key:?}"), &found.as_deref(), &record)
    }

    /// The keys in this table that begin so must be these, in this order.
    async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Keyed>, StoreError> {
        let (prefix, after) = (self.key(prefix), after.map(|after| self.key(after)));
        let range = Range { table: TABLE, prefix: &prefix, after: after.as_deref(), limit };
        self.store().list(range).await
    }

    async fn keys_are(&self, prefix: &str, keys: &[&str]) -> Result<(), Seen> {
        let found = Pages::new(self.store(), TABLE, self.key(prefix)).all().await?;
        let found: Vec<_> = found.into_iter().map(|(key, _)| key).collect();
        let keys: Vec<_> = keys.iter().map(|key| self.key(key)).collect();
        equal(&format!("keys that begin with {prefix:?}"), &found, &keys)
    }
}

fn equal<T: PartialEq + fmt::Debug>(what: &str, found: &T, must: &T) -> Result<(), Seen> {
    if found == must {
        return Ok(());
    }
    Err(Seen(format!("{what}: {}, must be {}", short(found), short(must))))
}

/// The beginning of a value for messages; it may have megabytes.
fn short(value: &impl fmt::Debug) -> String {
    struct Beginning(String);

    impl fmt::Write for Beginning {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.push_str(text);
            if self.0.len() > 400 { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut beginning = Beginning(String::new());
    match fmt::write(&mut beginning, format_args!("{value:?}")) {
        Ok(()) => beginning.0,
        Err(fmt::Error) => beginning.0 + "..",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_store_conforms() {
    let subject = Subject { store: Arc::new(MemoryStore::default()), reopened: None };
    conforms(subject).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redb_store_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    RedbStore::create(&path).unwrap();
    let store = Arc::new(RedbStore::open(&path).unwrap());
    // A copy of the file, as it is when the process is killed.
    let reopened = move || -> Arc<dyn Store> {
        let copy = path.with_extension("copy");
        std::fs::copy(&path, &copy).unwrap();
        Arc::new(RedbStore::open(&copy).unwrap())
    };
    conforms(Subject { store, reopened: Some(Box::new(reopened)) }).await.unwrap();
}
