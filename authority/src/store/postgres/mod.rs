//! The store in PostgreSQL: a table for each table, and one connection that writes.
//!
//! The writer commits all waiting batches in one transaction (group commit), which is SERIALIZABLE: several authorities may write to
//! one database. Conditions are evaluated here, by the same code as for the other stores, on the records that the transaction has read.
//! Keys are `bytea`, so that the order is that of their bytes, whatever the collation of the database.

mod alone;
mod connection;
mod fault;
mod reader;
mod schema;
mod snapshot;
#[cfg(test)]
mod tests;
mod tls;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use self::connection::{Limits, Link, Server};
use self::fault::Fault;
use self::reader::Readers;
use self::writer::{GROUP, Request, Writer};
use super::{Change, Keyed, Pending, Range, Snapshot, Store, StoreError, Table};
use crate::config::PostgresSettings;

/// Batches that wait for the writer: those of the next transaction.
const QUEUE: usize = GROUP;

/// A database, in use.
pub struct PostgresStore {
    readers: Readers,
    queue: mpsc::Sender<Request>,
    /// For a write: longer than two transactions, that which is under way and that of the batch.
    write_limit: Duration,
    /// For a place in the queue: what comes while it is full is refused soon, since it would be too late in the end.
    queue_limit: Duration,
}

impl PostgresStore {
    /// Connects, and starts a writer with this ID, which no other process may use.
    ///
    /// # Errors
    /// The database cannot be reached, refuses the login, or has no tables that this version can use.
    pub async fn open(settings: &PostgresSettings, id: &str) -> Result<Self, StoreError> {
        Self::open_within(settings, id, Limits::default()).await
    }

    /// As [`Self::open`], for a command that must be alone: no authority may be connected, and none that is hidden, for example by a
    /// pooler, can write any more.
    ///
    /// # Errors
    /// As [`Self::open`]; an authority uses the database.
    pub async fn open_alone(settings: &PostgresSettings, id: &str) -> Result<Self, StoreError> {
        let server = Arc::new(Server::new(settings, Limits::default()));
        let link = server.first_link().await?;
        schema::check(&link).await?;
        alone::wait_for_sessions_to_end(&link).await?;
        alone::stop_writers(&link).await?;
        Self::with(server, link, id).await
    }

    async fn open_within(
        settings: &PostgresSettings,
        id: &str,
        limits: Limits,
    ) -> Result<Self, StoreError> {
        let server = Arc::new(Server::new(settings, limits));
        let link = server.first_link().await?;
        schema::check(&link).await?;
        Self::with(server, link, id).await
    }

    async fn with(server: Arc<Server>, link: Link, id: &str) -> Result<Self, StoreError> {
        let limits = server.limits;
        let writer = Writer::claim(Arc::clone(&server), link, id).await?;
        let (queue, requests) = mpsc::channel(QUEUE);
        tokio::spawn(writer.run(requests));
        let write_limit = limits.group * 2 + Duration::from_secs(1);
        Ok(Self { readers: Readers::new(server), queue, write_limit, queue_limit: limits.queue })
    }

    /// Makes the tables, or upgrades those of an older version, as the user of the settings; `runtime_role` may use them then.
    ///
    /// # Errors
    /// As [`Self::open`]; the user may not make tables.
    pub async fn migrate(
        settings: &PostgresSettings,
        runtime_role: Option<&str>,
    ) -> Result<(), StoreError> {
        let link = Server::new(settings, Limits::default()).first_link().await?;
        Ok(schema::migrate(&link, runtime_role).await?)
    }

    /// What the settings of the server mean for acknowledged writes.
    ///
    /// # Errors
    /// The database cannot be reached, or refuses the login.
    pub async fn durability(settings: &PostgresSettings) -> Result<Durability, StoreError> {
        let link = Server::new(settings, Limits::default()).connect().await?;
        let ask = "SELECT current_setting('synchronous_commit'), current_setting('fsync'), \
                   current_setting('full_page_writes'), current_setting('synchronous_standby_names')";
        let rows = link.rows(ask, &[]).await?;
        let row = rows.first().ok_or_else(|| StoreError::Failed("no settings".into()))?;
        let text = |index: usize| row.try_get::<_, String>(index).map_err(Fault::from);
        Ok(Durability {
            synchronous_commit: text(0)?,
            fsync: text(1)?,
            full_page_writes: text(2)?,
            synchronous_standby_names: text(3)?,
        })
    }
}

/// The settings of a server that decide what survives what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durability {
    synchronous_commit: String,
    fsync: String,
    full_page_writes: String,
    synchronous_standby_names: String,
}

impl Durability {
    /// What a crash of the server may do to writes that the authority has acknowledged.
    pub fn dangers(&self) -> Vec<&'static str> {
        let settings = [
            (
                self.synchronous_commit == "off",
                "`synchronous_commit` of the database is off: a crash loses the joins of the last second",
            ),
            (self.fsync == "off", "`fsync` of the database is off: a loss of power can destroy it"),
            (
                self.full_page_writes == "off",
                "`full_page_writes` of the database is off: a loss of power can damage it",
            ),
        ];
        settings.into_iter().filter(|(is_set, _)| *is_set).map(|(_, danger)| danger).collect()
    }

    /// What a failover to another server does to them.
    pub fn failover(&self) -> &'static str {
        let is_local = ["off", "local"].contains(&self.synchronous_commit.as_str());
        match self.synchronous_standby_names.is_empty() || is_local {
            true => "no synchronous standby: a failover can lose the last joins",
            false => "a synchronous standby has what was acknowledged",
        }
    }
}

impl Store for PostgresStore {
    fn read<'a>(&'a self, table: Table, key: &'a str) -> Pending<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let statement = format!("SELECT value FROM {} WHERE key = $1", schema::name(table));
            let key = key.as_bytes();
            let rows = self.readers.rows(&statement, &[(&key, Type::BYTEA)]).await?;
            Ok(rows.first().map(|row| row.try_get(0)).transpose().map_err(Fault::from)?)
        })
    }

    fn list<'a>(&'a self, range: Range<'a>) -> Pending<'a, Vec<Keyed>> {
        Box::pin(async move {
            let page = Page::of(range);
            page.records(&self.readers.rows(&page.statement, &page.parameters()).await?)
        })
    }

    fn write(&self, batch: Vec<Change>) -> Pending<'_, ()> {
        Box::pin(async move {
            let limit = self.write_limit;
            let deadline = Instant::now() + limit;
            let stopped = || StoreError::Failed("the writer has stopped".into());
            let slow = |why: &str| {
                StoreError::Failed(format!("the database is too slow: {why} for {limit:?}"))
            };
            let (answer, done) = oneshot::channel();
            let queued =
                timeout(self.queue_limit, self.queue.send(Request { batch, answer })).await;
            let full = |_| {
                let text =
                    format!("{QUEUE} writes wait, and none began within {:?}", self.queue_limit);
                StoreError::Overloaded(text)
            };
            queued.map_err(full)?.map_err(|_| stopped())?;
            let verdict = timeout_at(deadline, done).await;
            verdict.map_err(|_| slow("a write was not answered"))?.map_err(|_| stopped())?
        })
    }

    fn snapshot(&self) -> Pending<'_, Box<dyn Snapshot>> {
        Box::pin(async move {
            let snapshot = snapshot::PostgresSnapshot::begin(self.readers.server()).await?;
            Ok(Box::new(snapshot) as Box<dyn Snapshot>)
        })
    }
}

/// The statement for a range.
struct Page {
    table: String,
    statement: String,
    first: Vec<u8>,
    end: Vec<u8>,
    limit: i64,
}

impl Page {
    fn of(Range { table, prefix, after, limit }: Range<'_>) -> Self {
        let table = schema::name(table);
        let statement = format!(
            "SELECT key, value FROM {table} WHERE key >= $1 AND key < $2 ORDER BY key LIMIT $3"
        );
        // The first key after another one is that with a zero behind it.
        let first = match after.filter(|after| *after >= prefix) {
            Some(after) => [after.as_bytes(), &[0]].concat(),
            None => prefix.as_bytes().to_vec(),
        };
        let (end, limit) = (end_of(prefix), i64::try_from(limit).unwrap_or(i64::MAX));
        Self { table, statement, first, end, limit }
    }

    fn parameters(&self) -> [connection::Parameter<'_>; 3] {
        [(&self.first, Type::BYTEA), (&self.end, Type::BYTEA), (&self.limit, Type::INT8)]
    }

    fn records(&self, rows: &[Row]) -> Result<Vec<Keyed>, StoreError> {
        let record = |row: &Row| {
            let key = String::from_utf8(row.try_get(0).map_err(Fault::from)?);
            let unreadable = |_| format!("{}: a key is not UTF-8", self.table);
            let key = key.map_err(unreadable).map_err(StoreError::Unreadable)?;
            Ok((key, row.try_get(1).map_err(Fault::from)?))
        };
        rows.iter().map(record).collect()
    }
}

/// The first bytes after all keys that begin so. Keys are UTF-8, in which 0xff does not occur.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0xff),
    }
    end
}

/// Before something is repeated: a random time, so that authorities which conflict do not conflict again.
fn pause() -> Duration {
    const SHORTEST: u64 = 5;
    const SPREAD: u64 = 50;
    let random = getrandom::u64().unwrap_or_default();
    Duration::from_millis(SHORTEST + random % SPREAD)
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresStore")
    }
}
