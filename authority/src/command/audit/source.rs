//! Where the log is read from: the authority that runs, by its admin socket, or the store of one that does not.

use host::exit::{Exit, Failure};
use host::unix_socket;
use proto::v1::ReadTableRequest;

use super::super::client::{Operator, connect};
use crate::cli::DataDir;
use crate::cluster;
use crate::data_directory::{DataDirectory, Lock};
use crate::store::{Change, Keyed, Pending, Range, Records, Snapshot, Store, StoreError, Table};

/// The records, and what must be kept while they are read.
pub(super) struct Source {
    pub(super) records: Records,
    _lock: Option<Lock>,
}

impl Source {
    /// Opens the records of a data directory.
    pub(super) async fn open(data: &DataDir) -> Result<Self, Failure> {
        let missing = || {
            Failure::new(
                Exit::Config,
                format!("no authority at {}", data.data_dir.display()),
                "give its --data-dir (or AUTHORITY_DATA_DIR)",
            )
        };
        Self::find(data).await?.ok_or_else(missing)
    }

    /// The same; `None` if there are no records.
    pub(super) async fn find(data: &DataDir) -> Result<Option<Self>, Failure> {
        let directory = DataDirectory::new(&data.data_dir);
        if unix_socket::connect(&directory.socket()).await.is_ok() {
            let running = Running(connect(data).await?);
            let records = Records::new(std::sync::Arc::new(running));
            return Ok(Some(Self { records, _lock: None }));
        }
        if !directory.cluster().is_dir() {
            return Ok(None);
        }
        let lock = directory.lock()?;
        let store = cluster::stopped_store(&directory, &lock)?;
        let records = Records::new(std::sync::Arc::new(store));
        Ok(Some(Self { records, _lock: Some(lock) }))
    }
}

/// The store of a running authority, which can only be read.
struct Running(Operator);

impl Store for Running {
    fn read<'a>(&'a self, table: Table, key: &'a str) -> Pending<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let page = self.list(Range { table, prefix: key, after: None, limit: 1 }).await?;
            Ok(page.into_iter().find(|(found, _)| found == key).map(|(_, record)| record))
        })
    }

    fn list<'a>(&'a self, range: Range<'a>) -> Pending<'a, Vec<Keyed>> {
        Box::pin(async move {
            let mut rows: Vec<Keyed> = Vec::new();
            while rows.len() < range.limit {
                let last = rows.last().map(|(key, _)| key.clone());
                let request = ReadTableRequest {
                    table: range.table.in_events(),
                    prefix: range.prefix.to_owned(),
                    after: last.or_else(|| range.after.map(str::to_owned)),
                    limit: u32::try_from(range.limit - rows.len()).unwrap_or(u32::MAX),
                };
                let answer = self.0.clone().read_table(request).await;
                let answer = answer.map_err(|cause| StoreError::Failed(cause.message().into()))?;
                let answer = answer.into_inner();
                let is_last = !answer.more || answer.rows.is_empty();
                rows.extend(answer.rows.into_iter().map(|row| (row.key, row.value)));
                if is_last {
                    break;
                }
            }
            Ok(rows)
        })
    }

    fn write(&self, _: Vec<Change>) -> Pending<'_, ()> {
        Box::pin(async { Err(StoreError::Unusable("it is only read here".into())) })
    }

    fn snapshot(&self) -> Pending<'_, Box<dyn Snapshot>> {
        Box::pin(async { Err(StoreError::Unusable("it is only listed here".into())) })
    }
}

/// Why the log cannot be read.
pub(super) fn unreadable(cause: &StoreError) -> Failure {
    Failure::new(Exit::Data, format!("cannot read the log: {cause}"), "check the authority's log")
}
