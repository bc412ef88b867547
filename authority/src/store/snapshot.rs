//! All records of a store as they were at one moment.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Keyed, Pending, Range, Store, StoreError, Table, migrate};

/// A store as it was at one moment; it does not delay those who write.
pub trait Snapshot: Send {
    /// The records of a range, as [`Store::list`] returns them.
    fn list<'a>(&'a mut self, range: Range<'a>) -> Pending<'a, Vec<Keyed>>;
}

/// Whether a table has state of the authorities. What the store says of itself belongs to the store.
fn is_state(table: Table) -> bool {
    !matches!(table, Table::Format | Table::Trial)
}

/// Small records in a page: some hundred kilobytes to two megabytes.
const PAGE: usize = 1024;

/// The records of all tables, page by page, in the order of tables and keys.
pub struct Contents {
    snapshot: Box<dyn Snapshot>,
    tables: std::vec::IntoIter<Table>,
    current: Option<Table>,
    after: Option<String>,
}

impl Contents {
    /// What the store contains now.
    ///
    /// # Errors
    /// The store failed.
    pub async fn of(store: &dyn Store) -> Result<Self, StoreError> {
        Ok(Self::of_snapshot(store.snapshot().await?))
    }

    /// What a snapshot shows.
    pub fn of_snapshot(snapshot: Box<dyn Snapshot>) -> Self {
        let tables: Vec<_> = Table::ALL.into_iter().filter(|table| is_state(*table)).collect();
        let mut tables = tables.into_iter();
        let current = tables.next();
        Self { snapshot, tables, current, after: None }
    }

    /// What the store says of itself and belongs to its records, by key.
    ///
    /// # Errors
    /// The store is incomplete, or may have tables that this version does not know.
    pub async fn format(&mut self) -> Result<Vec<(String, String)>, StoreError> {
        let range = Range { table: Table::Format, prefix: "", after: None, limit: PAGE };
        migrate::exported(self.snapshot.list(range).await?)
    }

    /// The next page; `None` after the last one. No page is empty.
    ///
    /// # Errors
    /// The store failed.
    pub async fn next(&mut self) -> Result<Option<(Table, Vec<Keyed>)>, StoreError> {
        while let Some(table) = self.current {
            let (limit, after) = (page_size(table), self.after.as_deref());
            let page = self.snapshot.list(Range { table, prefix: "", after, limit }).await?;
            self.after = page.last().map(|(key, _)| key.clone());
            if page.len() < limit {
                self.current = self.tables.next();
                self.after = None;
            }
            if !page.is_empty() {
                return Ok(Some((table, page)));
            }
        }
        Ok(None)
    }
}

/// What people write can be long: a token may have a rule for each of many hosts.
fn page_size(table: Table) -> usize {
    match table {
        Table::Tokens => 1,
        Table::Bots
        | Table::WorkloadIdentities
        | Table::Locks
        | Table::LockTargets
        | Table::EkCertificates => 64,
        _ => PAGE,
    }
}

/// How many records there are, and a digest of all of them.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    counts: BTreeMap<Table, u64>,
    digest: Sha256,
}

/// What a [`Tally`] has counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Records by table.
    pub records: BTreeMap<String, u64>,
    /// SHA-256 over table, key and record of each, hexadecimal.
    pub sha256: String,
}

impl Tally {
    /// Adds records, in the order of [`Contents`].
    pub fn add(&mut self, table: Table, page: &[Keyed]) {
        for (key, record) in page {
            for part in [table.name().as_bytes(), key.as_bytes(), record] {
                self.digest.update((part.len() as u64).to_be_bytes());
                self.digest.update(part);
            }
        }
        *self.counts.entry(table).or_default() += page.len() as u64;
    }

    /// How many records were added.
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The counts and the digest.
    pub fn summary(self) -> Summary {
        let records = self.counts.into_iter();
        let records = records
            .map(|(table, count)| (table.name().replace(' ', "_").to_ascii_lowercase(), count));
        Summary {
            records: records.collect(),
            sha256: base16ct::lower::encode_string(&self.digest.finalize()),
        }
    }
}

impl Summary {
    /// That of all records of a store.
    ///
    /// # Errors
    /// The store failed.
    pub async fn of(store: &dyn Store) -> Result<Self, StoreError> {
        let (mut contents, mut tally) = (Contents::of(store).await?, Tally::default());
        while let Some((table, page)) = contents.next().await? {
            tally.add(table, &page);
        }
        Ok(tally.summary())
    }
}

/// The resources, which people know, then the digest; a line each.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |table: &str| self.records.get(table).copied().unwrap_or_default();
        let shown = ["bots", "tokens", "locks", "workload_identities", "instances"];
        for table in shown {
            writeln!(f, "{:<21}{}", table.replace('_', " "), count(table))?;
        }
        let others: u64 = self.records.values().sum::<u64>()
            - shown.iter().map(|table| count(table)).sum::<u64>();
        writeln!(f, "{:<21}{others}", "other records")?;
        writeln!(f, "{:<21}{}", "SHA-256", self.sha256)
    }
}
