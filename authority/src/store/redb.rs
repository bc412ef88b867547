//! The store in a file of its own: redb, one thread that writes.
//!
//! The writer commits all waiting batches together (group commit), so that many joins share one flush to the disk.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;

use redb::backends::FileBackend;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use tokio::sync::{mpsc, oneshot};

use super::batch::Outcome;
use super::{Change, Keyed, Pending, Range, Snapshot, Store, StoreError, Table};
use crate::data_directory::{open_own, private};

/// Batches that wait for the writer; who comes later waits before the queue.
const QUEUE: usize = 256;

/// Batches in one commit.
const GROUP: usize = 256;

/// Records that are in memory while all that begin so are removed.
const REMOVED_AT_ONCE: usize = 1024;

/// Memory for pages. A record has some hundred bytes.
const CACHE: usize = 32 * 1024 * 1024;

/// A database file, open.
pub struct RedbStore {
    file: Arc<DatabaseFile>,
    queue: mpsc::Sender<Request>,
}

struct Request {
    batch: Vec<Change>,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

impl RedbStore {
    /// Makes an empty database, in a file that only its owner can read.
    pub fn create(path: &Path) -> Result<(), StoreError> {
        let file = open_own(path, private().create_new(true)).map_err(failed)?;
        let database = builder().create_with_backend(FileBackend::new(file).map_err(failed)?);
        tables(&database.map_err(failed)?)
    }

    /// The same, with the records of a batch in it.
    pub(crate) fn create_with(path: &Path, batch: &[Change]) -> Result<(), StoreError> {
        Self::create(path)?;
        let file = open_own(path, &mut private()).map_err(failed)?;
        let database = builder().create_with_backend(FileBackend::new(file).map_err(failed)?);
        let database = database.map_err(failed)?;
        let transaction = durable(&database)?;
        let mut outcome = Outcome::default();
        // It is empty.
        outcome.add(batch, |_, _| Ok::<_, StoreError>(None))??;
        apply(&transaction, &outcome)?;
        transaction.commit().map_err(failed)
    }

    /// Opens a database, whole again after a crash, and starts its writer.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = Arc::new(DatabaseFile::of(path));
        // An older version may have made it, with fewer tables.
        file.with(tables)?;
        let (queue, requests) = mpsc::channel(QUEUE);
        let writer = Arc::clone(&file);
        thread::Builder::new()
            .name("store".into())
            .spawn(move || write_all(&writer, requests))
            .map_err(failed)?;
        Ok(Self { file, queue })
    }
}

impl Store for RedbStore {
    fn read<'a>(&'a self, table: Table, key: &'a str) -> Pending<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            self.file.with(|database| {
                let transaction = database.begin_read().map_err(failed)?;
                let records = transaction.open_table(definition(table)).map_err(failed)?;
                let record = records.get(key).map_err(failed)?;
                Ok(record.map(|record| record.value().to_vec()))
            })
        })
    }

    fn list<'a>(&'a self, range: Range<'a>) -> Pending<'a, Vec<Keyed>> {
        Box::pin(async move {
            self.file.with(|database| {
                let transaction = database.begin_read().map_err(failed)?;
                listed(&transaction, range)
            })
        })
    }

    fn write(&self, batch: Vec<Change>) -> Pending<'_, ()> {
        Box::pin(async move {
            let (answer, done) = oneshot::channel();
            let stopped = || StoreError::Failed("the writer has stopped".into());
            self.queue.send(Request { batch, answer }).await.map_err(|_| stopped())?;
            done.await.map_err(|_| stopped())?
        })
    }

    fn snapshot(&self) -> Pending<'_, Box<dyn Snapshot>> {
        Box::pin(async move {
            let closings = self.file.closings();
            let transaction = self.file.with(|database| database.begin_read().map_err(failed))?;
            let snapshot = RedbSnapshot { file: Arc::clone(&self.file), closings, transaction };
            Ok(Box::new(snapshot) as Box<dyn Snapshot>)
        })
    }
}

/// The records at one moment, whose pages are not used again meanwhile.
struct RedbSnapshot {
    file: Arc<DatabaseFile>,
    /// How often the file had been closed before.
    closings: u64,
    transaction: ReadTransaction,
}

impl Snapshot for RedbSnapshot {
    fn list<'a>(&'a mut self, range: Range<'a>) -> Pending<'a, Vec<Keyed>> {
        Box::pin(async move {
            // As long as a transaction reads the file, it cannot be opened again.
            if self.file.closings() != self.closings {
                return Err(StoreError::Failed("the file failed while it was read".into()));
            }
            listed(&self.transaction, range)
        })
    }
}

fn listed(transaction: &ReadTransaction, range: Range<'_>) -> Result<Vec<Keyed>, StoreError> {
    page(&transaction.open_table(definition(range.table)).map_err(failed)?, range)
}

/// The writer: a commit for all that waits, then their answers.
fn write_all(file: &DatabaseFile, mut requests: mpsc::Receiver<Request>) {
    while let Some(first) = requests.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = requests.try_recv()
        {
            group.push(next);
        }
        let results = file.with(|database| commit(database, &group)).unwrap_or_else(|failure| {
            file.close();
            vec![Err(failure); group.len()]
        });
        for (request, result) in group.into_iter().zip(results) {
            // The caller has gone; drop the result.
            let _ = request.answer.send(result);
        }
    }
}

/// One transaction for all batches. A batch whose conditions fail is left out, the others happen.
fn commit(
    database: &Database,
    group: &[Request],
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let transaction = durable(database)?;
    let stored = |table, key: &str| {
        let records = transaction.open_table(definition(table)).map_err(failed)?;
        let record = records.get(key).map_err(failed)?;
        Ok(record.map(|record| record.value().to_vec()))
    };
    let mut outcome = Outcome::default();
    let results = group.iter().map(|request| outcome.add(&request.batch, stored));
    let results = results.collect::<Result<Vec<_>, StoreError>>()?;
    apply(&transaction, &outcome)?;
    transaction.commit().map_err(failed)?;
    Ok(results)
}

fn apply(transaction: &WriteTransaction, outcome: &Outcome<'_>) -> Result<(), StoreError> {
    for (table, prefix) in outcome.removed() {
        let mut records = transaction.open_table(definition(*table)).map_err(failed)?;
        loop {
            let range = Range { table: *table, prefix, after: None, limit: REMOVED_AT_ONCE };
            let page = page(&records, range)?;
            for (key, _) in &page {
                records.remove(key.as_str()).map_err(failed)?;
            }
            if page.len() < REMOVED_AT_ONCE {
                break;
            }
        }
    }
    for (table, key, record) in outcome.records() {
        let mut records = transaction.open_table(definition(table)).map_err(failed)?;
        match record {
            Some(record) => drop(records.insert(key, record).map_err(failed)?),
            None => drop(records.remove(key).map_err(failed)?),
        }
    }
    Ok(())
}

/// The first records whose keys begin with `prefix` and come after `after`.
fn page(
    records: &impl ReadableTable<&'static str, &'static [u8]>,
    Range { prefix, after, limit, .. }: Range<'_>,
) -> Result<Vec<Keyed>, StoreError> {
    let first = match after.filter(|after| *after >= prefix) {
        Some(after) => Bound::Excluded(after),
        None => Bound::Included(prefix),
    };
    let mut found = Vec::new();
    for entry in records.range::<&str>((first, Bound::Unbounded)).map_err(failed)?.take(limit) {
        let (key, record) = entry.map_err(failed)?;
        if !key.value().starts_with(prefix) {
            break;
        }
        found.push((key.value().to_owned(), record.value().to_vec()));
    }
    Ok(found)
}

/// A database that is opened again after a failure: redb serves nothing more once its file has
/// failed.
struct DatabaseFile {
    path: PathBuf,
    open: RwLock<Option<Database>>,
    closings: AtomicU64,
}

impl DatabaseFile {
    fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), open: RwLock::new(None), closings: AtomicU64::new(0) }
    }

    /// How often it was closed after a failure.
    fn closings(&self) -> u64 {
        self.closings.load(Ordering::Acquire)
    }

    fn with<T>(&self, f: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(database) = open.as_ref() {
                return f(database);
            }
        }
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let database = match open.take() {
            Some(database) => database,
            None => {
                let damaged =
                    |how: &str| StoreError::Damaged(format!("{} {how}", self.path.display()));
                let file = open_own(&self.path, &mut private());
                let file = file.map_err(|cause| match cause.kind() {
                    std::io::ErrorKind::NotFound => damaged("is missing"),
                    _ => StoreError::Failed(format!("{}: {cause}", self.path.display())),
                })?;
                // An empty file would become a new database, without the records.
                if file.metadata().map_err(failed)?.len() == 0 {
                    return Err(damaged("is empty"));
                }
                let backend = FileBackend::new(file).map_err(failed)?;
                builder().create_with_backend(backend).map_err(failed)?
            }
        };
        f(open.insert(database))
    }

    fn close(&self) {
        self.closings.fetch_add(1, Ordering::AcqRel);
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    builder
}

/// A transaction that is on disk once it is committed, in a file that opens at once after a crash.
fn durable(database: &Database) -> Result<WriteTransaction, StoreError> {
    let mut transaction = database.begin_write().map_err(failed)?;
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn tables(database: &Database) -> Result<(), StoreError> {
    let transaction = durable(database)?;
    for table in Table::ALL {
        transaction.open_table(definition(table)).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(table.name())
}

fn failed(cause: impl Into<redb::Error>) -> StoreError {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    let cause = cause.into();
    match &cause {
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) => {
            StoreError::Damaged(cause.to_string())
        }
        redb::Error::Io(io) if matches!(io.kind(), InvalidData | UnexpectedEof) => {
            StoreError::Damaged(cause.to_string())
        }
        _ => StoreError::Failed(cause.to_string()),
    }
}
