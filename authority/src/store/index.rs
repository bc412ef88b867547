//! Indexes, by which records are found without their keys. The rows of an index are written in the batch of their record.
//!
//! A bot is removed with all its instances at once, however many there are, without their rows.
//! A reader of a row checks that its record exists, and [`Records::prune`] removes the row when the instance would have
//! expired.

use time::OffsetDateTime;

use super::{Change, Pages, Records, StoreError, Table};
use crate::resource::{BotInstance, EkHash, InstanceId, Kind, Lock, Name, Timestamp};

/// A row: its table, key and content.
type Row = (Table, String, Vec<u8>);

/// The rows of an instance.
pub(super) fn of_instance(instance: &BotInstance) -> Vec<Row> {
    let (path, ek) = (instance.path(), instance.status.ek.public_hash.as_str());
    let mut rows = of_path(&path, ek);
    if let Some(expires) = instance.metadata.expires {
        let key = expiry_key(expires, Kind::BotInstance, &path);
        rows.push((Table::Expiry, key, ek.into()));
    }
    rows
}

/// Those that lead to an instance from its ID and from its EK.
fn of_path(path: &str, ek: &str) -> Vec<Row> {
    let (bot, id) = path.split_once('/').unwrap_or_default();
    vec![
        (Table::InstanceIds, id.to_owned(), bot.into()),
        (Table::InstanceEks, format!("{ek}/{path}"), Vec::new()),
    ]
}

/// The row of a lock that ends.
pub(super) fn of_lock(lock: &Lock) -> Vec<Row> {
    let row = |end| {
        let key = expiry_key(end, Kind::Lock, lock.metadata.name.as_str());
        (Table::Expiry, key, Vec::new())
    };
    lock.ends().map(row).into_iter().collect()
}

/// What makes the rows of a record as it was into those of the record as it becomes.
pub(super) fn changes(before: &[Row], after: Vec<Row>) -> Vec<Change> {
    let gone = before.iter().filter(|row| !after.contains(row));
    let mut all: Vec<_> =
        gone.map(|(table, key, _)| Change::RemoveIfExists(*table, key.clone())).collect();
    let new = after.into_iter().filter(|row| !before.contains(row));
    all.extend(new.map(|(table, key, content)| Change::Put(table, key, content)));
    all
}

/// A row of [`Table::Expiry`], apart.
pub(super) struct Expiry {
    pub(super) kind: Kind,
    /// Of the record.
    pub(super) key: String,
    row: Row,
}

impl Expiry {
    pub(super) fn read(key: String, content: Vec<u8>) -> Result<Self, StoreError> {
        let mut parts = key.splitn(3, '/').skip(1);
        let kind = parts.next().and_then(Kind::from_word);
        match (kind, parts.next()) {
            (Some(kind), Some(of)) => {
                Ok(Self { kind, key: of.to_owned(), row: (Table::Expiry, key, content) })
            }
            _ => Err(StoreError::Unreadable(format!("expiry {key:?}"))),
        }
    }

    /// All rows of the record that this one leads to, if it is as it was when this was written.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows = match self.kind {
            Kind::BotInstance => of_path(&self.key, &String::from_utf8_lossy(&self.row.2)),
            Kind::Lock | Kind::Bot | Kind::Token | Kind::WorkloadIdentity => Vec::new(),
        };
        rows.push(self.row.clone());
        rows
    }
}

/// Rows are in order of the hour in which their records end. No finer, so that the row of a host that
/// renews often seldom changes.
fn expiry_key(end: Timestamp, kind: Kind, key: &str) -> String {
    format!("{}/{kind}/{key}", hour(end.0))
}

/// The hour of a time, so that hours are ordered as their texts. Before 1970 there is one.
pub(super) fn hour(at: OffsetDateTime) -> String {
    format!("{:010}", at.unix_timestamp().max(0) / 3600)
}

impl Records {
    /// The instance with this ID, whichever its bot.
    pub async fn instance_by_id(&self, id: &InstanceId) -> Result<Option<BotInstance>, StoreError> {
        let Some(bot) = self.0.read(Table::InstanceIds, &id.to_string()).await? else {
            return Ok(None);
        };
        let bot = String::from_utf8_lossy(&bot).parse::<Name>();
        let bot =
            bot.map_err(|cause| StoreError::Unreadable(format!("instance ID {id}: {cause}")))?;
        Ok(self.instance(&bot, id).await?.map(|recorded| recorded.instance))
    }

    /// Whether an instance has this EK.
    pub async fn has_instance_of_ek(&self, ek: &EkHash) -> Result<bool, StoreError> {
        let prefix = format!("{ek}/");
        let mut rows = Pages::new(&*self.0, Table::InstanceEks, prefix.as_str()).of(16);
        while let Some(page) = rows.next().await? {
            for path in page.iter().filter_map(|(key, _)| key.strip_prefix(&prefix)) {
                if self.0.read(Table::Instances, path).await?.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
