//! What the store says of backups: when the last one was made, and which one the records are from.

use serde::{Deserialize, Serialize};

use super::format::{decode, encode};
use super::{Change, Records, StoreError, Table};
use crate::audit::Author;
use crate::resource::Timestamp;

/// The key in [`Table::Format`] of the last backup.
const BACKUP: &str = "backup";

/// The key in [`Table::Format`] of the backup that the records are from.
pub(super) const RESTORED: &str = "restored";

/// The last backup.
#[derive(Serialize, Deserialize)]
struct LastBackup {
    made: Timestamp,
}

/// The backup that the records are from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// When the backup was made.
    pub made: Timestamp,
    /// When it was restored.
    pub restored: Timestamp,
    /// How often records were restored: what an instance has missed is excused once for each time.
    pub epoch: u64,
    /// When an operator has accepted that later changes are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Timestamp>,
}

impl Restored {
    /// The batch that says so of records which are restored now: those of a backup that was made at `made`, and whose store has
    /// said this of itself ([`super::Contents::format`]).
    ///
    /// # Errors
    /// The backup has a malformed record.
    pub fn changes(
        format: &[(String, String)],
        made: Timestamp,
        log: &str,
        author: Author,
    ) -> Result<Vec<Change>, StoreError> {
        let before = format.iter().find(|(key, _)| key == RESTORED);
        let before = before.map(|(key, record)| decode(Table::Format, key, record.as_bytes()));
        let before: Option<Self> = before.transpose()?;
        let epoch = before.map_or(0, |before| before.epoch).saturating_add(1);
        let restored = Self { made, restored: author.time(), epoch, accepted: None };
        let event = author.restoration().entry();
        let event = event.map_err(|cause| StoreError::Unreadable(cause.to_string()))?;
        Ok(vec![restored.change()?, Change::Append(log.to_owned(), event)])
    }

    fn change(&self) -> Result<Change, StoreError> {
        Ok(Change::Put(Table::Format, RESTORED.to_owned(), encode(self)?))
    }
}

impl Records {
    /// When the last backup was made, if there was one.
    ///
    /// # Errors
    /// The store fails.
    pub async fn last_backup(&self) -> Result<Option<Timestamp>, StoreError> {
        let Some(record) = self.0.read(Table::Format, BACKUP).await? else { return Ok(None) };
        decode(Table::Format, BACKUP, &record).map(|LastBackup { made }| Some(made))
    }

    /// Notes that a backup was made.
    ///
    /// # Errors
    /// The store fails.
    pub async fn backed_up(&self, made: Timestamp, author: Author) -> Result<(), StoreError> {
        let record = encode(&LastBackup { made })?;
        let note = Change::Put(Table::Format, BACKUP.to_owned(), record);
        self.write(vec![note, self.event(&author.backup())?]).await
    }

    /// The backup that the records are from, if they are.
    ///
    /// # Errors
    /// The store fails.
    pub async fn restored(&self) -> Result<Option<Restored>, StoreError> {
        let record = self.0.read(Table::Format, RESTORED).await?;
        record.map(|record| decode(Table::Format, RESTORED, &record)).transpose()
    }

    /// Notes that an operator accepts that what was changed after the backup is lost.
    ///
    /// # Errors
    /// The store fails.
    pub async fn accept(&self, restored: Restored, author: Author) -> Result<(), StoreError> {
        let accepted = Restored { accepted: Some(author.time()), ..restored };
        self.write(vec![accepted.change()?, self.event(&author.acceptance())?]).await
    }
}
