//! Persistent records: resources, bot instances and locks.
//!
//! [`Store`] is the interface of a database: keyed records, and atomic batches of changes. [`Records`] adds the types of the
//! records.

mod backups;
mod basis;
mod batch;
mod clock;
#[cfg(test)]
mod conformance;
mod evidence;
mod format;
mod import;
mod index;
mod log;
mod measured;
mod memory;
mod migrate;
mod pages;
mod postgres;
mod prune;
mod records;
mod redb;
mod retention;
mod snapshot;
mod verify;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

pub use self::backups::Restored;
pub use self::basis::{Basis, Incarnation};
pub(crate) use self::clock::ClockRecord;
pub(crate) use self::evidence::KEPT;
pub use self::evidence::{EvidenceToKeep, KeptEvidence};
pub(crate) use self::format::{decode, encode};
pub use self::import::{CopyError, Import, copy, has_records};
pub(crate) use self::log::logged;
pub(crate) use self::measured::Measured;
pub use self::memory::MemoryStore;
pub use self::migrate::Moved;
pub(crate) use self::migrate::present_format;
pub use self::pages::Pages;
pub use self::postgres::{Durability, PostgresStore};
pub use self::prune::Pruned;
pub use self::redb::RedbStore;
pub use self::retention::Page;
pub(crate) use self::retention::TOGETHER;
pub use self::snapshot::{Contents, Snapshot, Summary, Tally};
pub use self::verify::{KeptHead, Verified};
pub use records::{IfExists, Put, Recorded, Records};

/// The answer of a store, some time later.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A set of records. Keys are unique within it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Bots by name.
    Bots,
    /// Tokens by name.
    Tokens,
    /// Bot instances by bot and ID: `BOT/UUID`.
    Instances,
    /// Workload identities by name.
    WorkloadIdentities,
    /// Locks by name.
    Locks,
    /// Locks once more, by what they keep out and name: `TARGET/NAME`.
    LockTargets,
    /// The bot of an instance by the instance's ID.
    InstanceIds,
    /// Instances by the EK that they joined with: `EK/BOT/UUID`.
    InstanceEks,
    /// What ends, by the hour in which it does: `HOUR/KIND/KEY`.
    Expiry,
    /// Revisions, which change with each write of a record: by table for the tokens and the workload identities as a whole, by `TABLE/NAME` for a bot or
    /// token, by `lock targets/TARGET` for the locks on a target.
    Revisions,
    /// Events of an older version, by time and ID, until they are in the log.
    AuditRows,
    /// Entries of the authorities' logs: `AUTHORITY/SEQUENCE`.
    Log,
    /// The hashes of entries that were removed from a log, 256 in a row: `AUTHORITY/SEQUENCE`, without the last two digits.
    LogHashes,
    /// The tree over the entries of a log, as far as it is needed to append to it, by authority.
    LogHeads,
    /// How far a log is on disk somewhere else: `AUTHORITY/WHERE`.
    LogCursors,
    /// One record: what is known of the clock.
    Clock,
    /// Authorities by ID.
    Authorities,
    /// When an authority was last seen, by its ID.
    Heartbeats,
    /// One record: the CAs, without their private keys.
    Keyring,
    /// The private key of a CA, wrapped: `KEY/AUTHORITY`, or `KEY/recovery`.
    KeySlots,
    /// The evidence of joins by the join's ID; of refused ones by `refused/ID`.
    Evidence,
    /// The certificates in kept evidence by the EK's hash; the CAs that verified them by `ca/SHA-256`.
    EkCertificates,
    /// One record: which tables there are, and what they say of each other.
    Format,
    /// One record, written to test whether the store accepts writes.
    Trial,
}

/// A change, or a condition of the whole batch. A batch is carried out in order: each condition is
/// compared with what the changes before it in the batch leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Creates a record; the batch fails if it exists.
    Insert(Table, String, Vec<u8>),
    /// Creates or replaces a record.
    Put(Table, String, Vec<u8>),
    /// Replaces a record: expected value, new value. The batch fails if the record has another value.
    Replace(Table, String, Vec<u8>, Vec<u8>),
    /// Removes a record; the batch fails if it does not exist.
    Remove(Table, String),
    /// Removes a record if it exists.
    RemoveIfExists(Table, String),
    /// Removes all records whose keys begin so.
    RemoveAll(Table, String),
    /// Changes nothing; the batch fails unless the record has this value (`None`: is absent).
    Expect(Table, String, Option<Vec<u8>>),
    /// Appends an entry, a JSON object or a brief one, to the log of this authority. The store puts the entry's number into it, `seq`:
    /// entries of a log are numbered from 0 without gaps, in the order in which their batches are carried out.
    Append(String, Vec<u8>),
}

impl Change {
    /// The table of the record.
    pub fn table(&self) -> Table {
        self.address().0
    }

    /// Where it is: table and key, or the beginning of keys; of an entry, the head of its log.
    fn address(&self) -> (Table, &str) {
        match self {
            Self::Insert(table, key, _)
            | Self::Put(table, key, _)
            | Self::Replace(table, key, ..)
            | Self::Remove(table, key)
            | Self::RemoveIfExists(table, key)
            | Self::RemoveAll(table, key)
            | Self::Expect(table, key, _) => (*table, key),
            Self::Append(log, _) => (Table::LogHeads, log),
        }
    }
}

/// A record with its key.
pub type Keyed = (String, Vec<u8>);

/// The first records of a table whose keys begin with a prefix and come after a key.
#[derive(Debug, Clone, Copy)]
pub struct Range<'a> {
    /// The table.
    pub table: Table,
    /// What the keys begin with.
    pub prefix: &'a str,
    /// The key that they come after; there need not be a record with it.
    pub after: Option<&'a str>,
    /// How many records at most.
    pub limit: usize,
}

/// Keyed records that outlive the process.
pub trait Store: Send + Sync {
    /// The record with this key.
    fn read<'a>(&'a self, table: Table, key: &'a str) -> Pending<'a, Option<Vec<u8>>>;

    /// The records of a range, in the order of the keys' bytes. Fewer than its limit only if there
    /// are no more.
    fn list<'a>(&'a self, range: Range<'a>) -> Pending<'a, Vec<Keyed>>;

    /// All of the changes or none. Once it has returned `Ok`, they survive a crash or a loss of
    /// power.
    fn write(&self, batch: Vec<Change>) -> Pending<'_, ()>;

    /// All records as they are now, whatever is written later.
    fn snapshot(&self) -> Pending<'_, Box<dyn Snapshot>>;
}

/// Why a store operation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// A record to create already exists.
    Exists(Table, String),
    /// A record to remove does not exist.
    Missing(Table, String),
    /// A record to replace, or an expected one, has changed or does not exist.
    Changed(Table, String),
    /// A record is damaged.
    Unreadable(String),
    /// A record, or the whole store, was written by a newer version, and this one must not read it.
    Newer(String),
    /// The database is missing or damaged, and must be restored from a backup.
    Damaged(String),
    /// The database must not be used until an operator has changed something.
    Unusable(String),
    /// More is written than the database takes at present. The batch was not written.
    Overloaded(String),
    /// The database or its disk failed. The batch was not written, as far as the store can tell.
    Failed(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists(table, key) => write!(f, "{} {key:?} already exists", table.singular()),
            Self::Missing(table, key) => write!(f, "{} {key:?} not found", table.singular()),
            Self::Changed(table, key) => {
                write!(f, "{} {key:?} was changed at the same time", table.singular())
            }
            Self::Unreadable(what) => write!(f, "unreadable record: {what}"),
            Self::Newer(what) => {
                write!(f, "{what} was written by a newer authority: upgrade this one")
            }
            Self::Damaged(cause) => write!(f, "the store is damaged: {cause}"),
            Self::Unusable(cause) => write!(f, "the store cannot be used: {cause}"),
            Self::Overloaded(cause) => write!(f, "the store is too slow: {cause}"),
            Self::Failed(cause) => write!(f, "the store failed: {cause}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl Table {
    pub(in crate::store) const ALL: [Self; 24] = [
        Self::Bots,
        Self::Tokens,
        Self::Instances,
        Self::WorkloadIdentities,
        Self::Locks,
        Self::LockTargets,
        Self::InstanceIds,
        Self::InstanceEks,
        Self::Expiry,
        Self::Revisions,
        Self::AuditRows,
        Self::Log,
        Self::LogHashes,
        Self::LogHeads,
        Self::LogCursors,
        Self::Clock,
        Self::Authorities,
        Self::Heartbeats,
        Self::Keyring,
        Self::KeySlots,
        Self::Evidence,
        Self::EkCertificates,
        Self::Format,
        Self::Trial,
    ];

    /// The tables that the log consists of, and those of which it tells.
    pub(crate) fn of_the_log() -> impl Iterator<Item = Self> {
        [Self::Log, Self::LogHashes, Self::LogHeads, Self::LockTargets]
            .into_iter()
            .chain(Self::STATE)
    }

    /// The table of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bots => "bots",
            Self::Tokens => "tokens",
            Self::Instances => "instances",
            Self::Locks => "locks",
            Self::WorkloadIdentities => "workload identities",
            Self::LockTargets => "lock targets",
            Self::InstanceIds => "instance IDs",
            Self::InstanceEks => "instance EKs",
            Self::Expiry => "expiry",
            Self::Revisions => "revisions",
            Self::AuditRows => "audit rows",
            Self::Log => "log",
            Self::LogHashes => "log hashes",
            Self::LogHeads => "log heads",
            Self::LogCursors => "log cursors",
            Self::Clock => "clock",
            Self::Authorities => "authorities",
            Self::Heartbeats => "heartbeats",
            Self::Keyring => "keyring",
            Self::KeySlots => "key slots",
            Self::Evidence => "evidence",
            Self::EkCertificates => "ek certificates",
            Self::Format => "format",
            Self::Trial => "trial",
        }
    }

    fn singular(self) -> &'static str {
        match self {
            Self::Bots => "bot",
            Self::Tokens => "token",
            Self::Instances => "bot_instance",
            Self::Locks | Self::LockTargets => "lock",
            Self::WorkloadIdentities => "workload_identity",
            Self::InstanceIds | Self::InstanceEks | Self::Expiry => "index row",
            Self::Revisions => "revision",
            Self::AuditRows => "audit row",
            Self::Log => "log entry",
            Self::LogHashes => "log hashes",
            Self::LogHeads => "log head",
            Self::LogCursors => "log cursor",
            Self::Clock => "clock",
            Self::Authorities => "authority",
            Self::Heartbeats => "heartbeat",
            Self::Keyring => "keyring",
            Self::KeySlots => "key slot",
            Self::Evidence => "evidence",
            Self::EkCertificates => "EK certificates",
            Self::Format => "format",
            Self::Trial => "trial",
        }
    }
}

#[cfg(test)]
mod tests;
