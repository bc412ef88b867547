//! The writer: one transaction for all batches that wait, and an answer to whether it was committed.
//!
//! The first statement of a transaction raises the round of this writer in `writers`, if it is the one that the writer knows. So a
//! process with the same ID that has started since is noticed. If the connection is lost at the commit, the round says
//! whether the transaction was committed: reading it with a lock waits for a server process that still commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::Type;
use tracing::{error, warn};

use super::connection::{Link, Parameter, Server};
use super::fault::{Fault, Kind};
use super::{pause, schema};
use crate::store::batch::Outcome;
use crate::store::{Change, StoreError, Table};

/// Batches in one transaction.
pub(super) const GROUP: usize = 256;

/// A batch, and who waits for it.
pub(super) struct Request {
    pub(super) batch: Vec<Change>,
    pub(super) answer: oneshot::Sender<Verdict>,
}

/// Whether a batch was written; if not, which condition was not met.
pub(super) type Verdict = Result<(), StoreError>;

/// Stored records by table and key.
type Stored = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// What the database knows this process by, and how far it has written.
pub(super) struct Writer {
    server: Arc<Server>,
    id: String,
    /// The round of the last transaction that is known to be committed.
    round: i64,
    /// Whether the next round may be committed already: its commit was not answered.
    is_unanswered: bool,
    link: Option<Link>,
}

impl Writer {
    /// Begins to write under an ID; whoever wrote under it before can no longer.
    pub(super) async fn claim(server: Arc<Server>, link: Link, id: &str) -> Result<Self, Fault> {
        let claim = "INSERT INTO endorse.writers (id, round) VALUES ($1, 0) \
                     ON CONFLICT (id) DO UPDATE SET round = endorse.writers.round + 1 RETURNING round";
        let rows = link.rows(claim, &[(&id, Type::TEXT)]).await?;
        let row = rows.first().ok_or_else(replaced)?;
        let round = row.try_get(0)?;
        Ok(Self { server, id: id.to_owned(), round, is_unanswered: false, link: Some(link) })
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.recv().await {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = requests.try_recv()
            {
                group.push(next);
            }
            // Whoever no longer waits has been told that nothing was written.
            group.retain(|request| !request.answer.is_closed());
            let verdicts = self.write(&group).await.unwrap_or_else(|failure| {
                error!(cause = %failure, batches = group.len(), "cannot write to the database");
                vec![Err(failure); group.len()]
            });
            for (request, verdict) in group.into_iter().zip(verdicts) {
                // The caller has gone; drop the result.
                let _ = request.answer.send(verdict);
            }
        }
    }

    async fn write(&mut self, group: &[Request]) -> Result<Vec<Verdict>, StoreError> {
        // The verdicts of this group, while its commit is not answered.
        let mut decided = None;
        let mut last = None;
        let limit = self.server.limits.group;
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match timeout(left, self.attempt(group, &mut decided)).await {
                Ok(Ok(verdicts)) => return Ok(verdicts),
                Ok(Err(fault)) => match fault.kind {
                    Kind::Repeat | Kind::Lost => last = Some(fault),
                    Kind::Unavailable if !self.is_unanswered => return Err(fault.into()),
                    Kind::Unavailable => last = Some(fault),
                    Kind::Fatal | Kind::Newer => return Err(fault.into()),
                },
                Err(_) => {
                    let known = if decided.is_some() { "; it may be written" } else { "" };
                    let last = last.map(|fault| format!(": {fault}")).unwrap_or_default();
                    let late = format!("the database took no write within {limit:?}");
                    return Err(StoreError::Failed(format!("{late}{known}{last}")));
                }
            }
            sleep(pause().min(until.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// One transaction for the group, unless an earlier attempt turns out to be committed. It keeps the connection only if that
    /// can be used again: one that is dropped rolls back.
    async fn attempt(
        &mut self,
        group: &[Request],
        decided: &mut Option<Vec<Verdict>>,
    ) -> Result<Vec<Verdict>, Fault> {
        let link = match self.link.take().filter(|link| !link.is_closed()) {
            Some(link) => link,
            None => {
                let link = self.server.connect().await?;
                schema::check(&link).await?;
                link
            }
        };
        if self.is_unanswered {
            let is_committed = self.resolve(&link).await?;
            if let Some(verdicts) = decided.take().filter(|_| is_committed) {
                self.link = Some(link);
                return Ok(verdicts);
            }
        }
        match self.transact(&link, group, decided).await {
            Ok(()) => {}
            Err(fault) if fault.kind == Kind::Repeat => {
                link.batch("ROLLBACK").await?;
                self.link = Some(link);
                return Err(fault);
            }
            Err(fault) => return Err(fault),
        }
        self.link = Some(link);
        Ok(decided.take().unwrap_or_default())
    }

    /// Whether the transaction whose commit was not answered is committed.
    async fn resolve(&mut self, link: &Link) -> Result<bool, Fault> {
        let ask = "SELECT round FROM endorse.writers WHERE id = $1 FOR UPDATE";
        let rows = link.rows(ask, &[(&self.id, Type::TEXT)]).await?;
        let round: i64 = rows.first().ok_or_else(replaced)?.try_get(0)?;
        let is_committed = match round - self.round {
            0 => false,
            1 => true,
            _ => return Err(replaced()),
        };
        warn!(
            is_committed,
            "a connection was lost at a commit; the database says what became of it"
        );
        self.round = round;
        self.is_unanswered = false;
        Ok(is_committed)
    }

    /// Carries out the group in a transaction, and leaves its verdicts in `decided`.
    async fn transact(
        &mut self,
        link: &Link,
        group: &[Request],
        decided: &mut Option<Vec<Verdict>>,
    ) -> Result<(), Fault> {
        let next = self.round + 1;
        let round = "UPDATE endorse.writers SET round = $3 WHERE id = $1 AND round = $2";
        let parameters: [Parameter<'_>; 3] =
            [(&self.id, Type::TEXT), (&self.round, Type::INT8), (&next, Type::INT8)];
        // Sent in this order without waiting for the answers.
        let (begun, raised, may_write, stored) = tokio::join!(
            biased;
            link.batch("BEGIN ISOLATION LEVEL SERIALIZABLE"),
            link.change(round, &parameters),
            schema::may_write(link),
            stored(link, group),
        );
        begun?;
        if raised? != 1 {
            return Err(replaced());
        }
        if !may_write? {
            let text = "the database was upgraded for newer authorities: upgrade this one";
            return Err(Fault::new(Kind::Fatal, text));
        }
        let stored = stored?;
        let mut outcome = Outcome::default();
        let mut verdicts = Vec::with_capacity(group.len());
        for request in group {
            let stored = |table, key: &str| {
                Ok::<_, Fault>(stored.get(&(table, key.as_bytes().to_vec())).cloned())
            };
            verdicts.push(outcome.add(&request.batch, stored)?);
        }
        remove_all(link, &outcome).await?;
        put(link, &outcome).await?;
        self.commit(link, verdicts, decided).await
    }

    /// Commits. All statements before have succeeded: after one that has not, the server would answer COMMIT with ROLLBACK, which
    /// the client library does not tell apart.
    async fn commit(
        &mut self,
        link: &Link,
        verdicts: Vec<Verdict>,
        decided: &mut Option<Vec<Verdict>>,
    ) -> Result<(), Fault> {
        *decided = Some(verdicts);
        self.is_unanswered = true;
        match link.batch("COMMIT").await {
            Ok(()) => {
                self.round += 1;
                self.is_unanswered = false;
                Ok(())
            }
            Err(fault) => {
                if fault.kind == Kind::Repeat {
                    self.is_unanswered = false;
                    *decided = None;
                }
                Err(fault)
            }
        }
    }
}

fn replaced() -> Fault {
    let text = "another process writes with the ID of this authority: its data directory was copied, or restored from a backup while it \
                ran; stop one of them, remove `store-id` from its data directory, and start it again";
    Fault::new(Kind::Fatal, text)
}

/// The records that conditions are about: one statement for all tables.
async fn stored(link: &Link, group: &[Request]) -> Result<Stored, Fault> {
    let mut wanted: BTreeMap<Table, BTreeSet<&[u8]>> = BTreeMap::new();
    let conditions = group.iter().flat_map(|request| &request.batch);
    for change in conditions.filter(|change| change.is_condition()) {
        let (table, key) = change.address();
        wanted.entry(table).or_default().insert(key.as_bytes());
    }
    if wanted.is_empty() {
        return Ok(Stored::new());
    }
    let tables: Vec<Table> = wanted.keys().copied().collect();
    let keys: Vec<Vec<&[u8]>> =
        wanted.into_values().map(|keys| keys.into_iter().collect()).collect();
    let selects = tables.iter().enumerate().map(|(index, table)| {
        let (table, parameter) = (schema::name(*table), index + 1);
        format!("SELECT {index}, key, value FROM {table} WHERE key = ANY(${parameter})")
    });
    let statement = selects.collect::<Vec<_>>().join(" UNION ALL ");
    let parameters: Vec<Parameter<'_>> =
        keys.iter().map(|keys| (keys as _, Type::BYTEA_ARRAY)).collect();
    let mut stored = Stored::new();
    for row in link.rows(&statement, &parameters).await? {
        let index: i32 = row.try_get(0)?;
        let table = usize::try_from(index).ok().and_then(|index| tables.get(index));
        let table = table.ok_or_else(|| Fault::new(Kind::Lost, "an answer to another question"))?;
        stored.insert((*table, row.try_get(1)?), row.try_get(2)?);
    }
    Ok(stored)
}

/// Removes all records whose keys begin as the outcome says.
async fn remove_all(link: &Link, outcome: &Outcome<'_>) -> Result<(), Fault> {
    for (table, prefix) in outcome.removed() {
        let table = schema::name(*table);
        let statement = format!("DELETE FROM {table} WHERE key >= $1 AND key < $2");
        let (first, end) = (prefix.as_bytes(), super::end_of(prefix));
        link.change(&statement, &[(&first, Type::BYTEA), (&end, Type::BYTEA)]).await?;
    }
    Ok(())
}

/// What is left of a table: the keys and records to write, and the keys to remove.
#[derive(Default)]
struct Rows<'b> {
    keys: Vec<&'b [u8]>,
    records: Vec<&'b [u8]>,
    removed: Vec<&'b [u8]>,
}

/// Writes and removes records: one statement for all tables.
async fn put(link: &Link, outcome: &Outcome<'_>) -> Result<(), Fault> {
    let mut tables: BTreeMap<Table, Rows<'_>> = BTreeMap::new();
    for (table, key, record) in outcome.records() {
        let rows = tables.entry(table).or_default();
        match record {
            Some(record) => {
                rows.keys.push(key.as_bytes());
                rows.records.push(record);
            }
            None => rows.removed.push(key.as_bytes()),
        }
    }
    let mut parts = Vec::new();
    let mut parameters: Vec<Parameter<'_>> = Vec::new();
    for (table, rows) in &tables {
        let (table, number) = (schema::name(*table), parts.len());
        if !rows.keys.is_empty() {
            let (keys, records) = (parameters.len() + 1, parameters.len() + 2);
            parts.push(format!(
                "p{number} AS (INSERT INTO {table} (key, value) SELECT * FROM unnest(${keys}::bytea[], ${records}::bytea[]) \
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value)"
            ));
            parameters.push((&rows.keys, Type::BYTEA_ARRAY));
            parameters.push((&rows.records, Type::BYTEA_ARRAY));
        }
        if !rows.removed.is_empty() {
            let keys = parameters.len() + 1;
            parts.push(format!("r{number} AS (DELETE FROM {table} WHERE key = ANY(${keys}))"));
            parameters.push((&rows.removed, Type::BYTEA_ARRAY));
        }
    }
    if !parts.is_empty() {
        link.rows(&format!("WITH {} SELECT 1", parts.join(", ")), &parameters).await?;
    }
    Ok(())
}
