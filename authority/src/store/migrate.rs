//! Converts the store of an older version.

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::backups::RESTORED;
use super::format::{decode, encode};
use super::{Change, Keyed, Pages, Records, Store, StoreError, Table, index};
use crate::audit::Author;
use crate::resource::{BotInstance, Lock, Timestamp};

/// The format of the store that this version makes: what tables there are, and what they say of
/// each other. Version 0.1.0 has none; 1 has the indexes; in 2 entries of a log bind all records, in 3 also those of the keyring.
const FORMAT: u32 = 3;

/// The lowest format that a program must know to use the store as well.
const OLDEST: u32 = 1;

/// The key in [`Table::Format`] of where the records were copied to.
const MOVED: &str = "moved";

/// Records whose rows are written in one batch.
const BATCH: usize = 256;

/// How many records are said in one line of the log.
const PROGRESS: usize = 100_000;

/// The one record of [`Table::Format`].
#[derive(Debug, Serialize, Deserialize)]
struct FormatRecord {
    format: u32,
    /// The lowest format that a program must know to use the store as well.
    oldest: u32,
    /// The command that is filling the store, or was interrupted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incomplete: Option<String>,
}

/// Where the records were copied to, so that this store is used no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// For people.
    pub to: String,
    /// When.
    pub at: Timestamp,
}

/// What a store says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing, or that it is whole.
    Complete,
    /// That records are missing.
    Incomplete,
}

/// Says in a store without records that those to come have the present format.
///
/// # Errors
/// The record cannot be encoded.
pub(crate) fn present_format() -> Result<Change, StoreError> {
    let record = FormatRecord { format: FORMAT, oldest: OLDEST, incomplete: None };
    Ok(Change::Put(Table::Format, String::new(), encode(&record)?))
}

/// Whether the store is whole.
///
/// # Errors
/// [`StoreError::Newer`] if this version must not use the store.
pub(super) async fn state(store: &dyn Store) -> Result<State, StoreError> {
    match format(store).await? {
        Some(FormatRecord { incomplete: Some(_), .. }) => Ok(State::Incomplete),
        Some(found) if found.oldest > FORMAT => Err(newer(&found)),
        Some(_) | None => Ok(State::Complete),
    }
}

/// Marks a store as incomplete. Versions that do not know the mark refuse it as that of a newer one.
pub(super) fn incomplete(what: &str) -> Result<Change, StoreError> {
    let record = FormatRecord { format: FORMAT, oldest: u32::MAX, incomplete: Some(what.into()) };
    Ok(Change::Put(Table::Format, String::new(), encode(&record)?))
}

/// Of what a store says of itself, what belongs to its records wherever they are.
///
/// # Errors
/// The store is incomplete, or may have tables that this version does not know.
pub(super) fn exported(records: Vec<Keyed>) -> Result<Vec<(String, String)>, StoreError> {
    let mut exported = Vec::new();
    for (key, record) in records {
        if key.is_empty() {
            match decode(Table::Format, "", &record)? {
                FormatRecord { incomplete: Some(what), .. } => return Err(unfinished(&what)),
                found if found.format > FORMAT => return Err(newer(&found)),
                _ => {}
            }
        }
        if key != MOVED {
            let unreadable = |_| StoreError::Unreadable(format!("format {key:?}"));
            exported.push((key.clone(), String::from_utf8(record).map_err(unreadable)?));
        }
    }
    Ok(exported)
}

/// Replaces what a store says of itself by what belongs to other records.
pub(super) fn imported(exported: Vec<(String, String)>) -> Vec<Change> {
    let removed = |key: &str| Change::RemoveIfExists(Table::Format, key.to_owned());
    let mut changes = vec![removed(""), removed(MOVED), removed(RESTORED)];
    let put =
        |(key, record): (String, String)| Change::Put(Table::Format, key, record.into_bytes());
    changes.extend(exported.into_iter().map(put));
    changes
}

/// Says in a store where its records were copied to.
pub(super) fn moved(moved: &Moved) -> Result<Change, StoreError> {
    Ok(Change::Put(Table::Format, MOVED.to_owned(), encode(moved)?))
}

/// Where the records of a store were copied to.
pub(super) async fn moved_to(store: &dyn Store) -> Result<Option<Moved>, StoreError> {
    let record = store.read(Table::Format, MOVED).await?;
    record.map(|record| decode(Table::Format, MOVED, &record)).transpose()
}

async fn format(store: &dyn Store) -> Result<Option<FormatRecord>, StoreError> {
    let record = store.read(Table::Format, "").await?;
    record.map(|record| decode(Table::Format, "", &record)).transpose()
}

fn newer(found: &FormatRecord) -> StoreError {
    StoreError::Newer(format!("the store (format {})", found.format))
}

fn unfinished(what: &str) -> StoreError {
    let text = format!("`{what}` has not filled it completely; run that command again");
    StoreError::Unusable(text)
}

impl Records {
    /// Refuses a store that is not whole.
    ///
    /// # Errors
    /// Records are missing, or [`StoreError::Newer`] if this version must not use the store.
    pub(crate) async fn check_usable(&self) -> Result<(), StoreError> {
        self.usable_format().await.map(|_| ())
    }

    async fn usable_format(&self) -> Result<Option<FormatRecord>, StoreError> {
        match format(&*self.0).await? {
            Some(FormatRecord { incomplete: Some(what), .. }) => Err(unfinished(&what)),
            Some(found) if found.oldest > FORMAT => Err(newer(&found)),
            found => Ok(found),
        }
    }

    /// Converts a store of an older version to the present format, before anything else uses it. An interrupted conversion starts
    /// again; the new format is recorded at the end.
    ///
    /// # Errors
    /// [`StoreError::Newer`] if this version must not use the store.
    pub async fn migrate(&self, author: Author) -> Result<(), StoreError> {
        let unbound: &[Table] = match self.usable_format().await? {
            Some(found) if found.format >= FORMAT => return Ok(()),
            Some(FormatRecord { format: 2, .. }) => &Table::KEYS,
            Some(_) => &Table::STATE,
            None => {
                self.build_indexes().await?;
                &Table::STATE
            }
        };
        self.adopt(unbound, author).await?;
        self.write(vec![present_format()?]).await
    }

    /// Writes the rows of the indexes for all records.
    async fn build_indexes(&self) -> Result<(), StoreError> {
        let instances = |key: &str, record: &[u8]| {
            decode::<BotInstance>(Table::Instances, key, record)
                .map(|instance| index::of_instance(&instance))
        };
        let locks = |key: &str, record: &[u8]| {
            decode::<Lock>(Table::Locks, key, record).map(|lock| index::of_lock(&lock))
        };
        self.build_index(Table::Instances, instances).await?;
        self.build_index(Table::Locks, locks).await
    }

    async fn build_index(
        &self,
        table: Table,
        rows: impl Fn(&str, &[u8]) -> Result<Vec<(Table, String, Vec<u8>)>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut pages = Pages::new(&*self.0, table, "").of(BATCH);
        let (mut done, mut said) = (0_usize, 0);
        while let Some(page) = pages.next().await? {
            let mut batch = Vec::new();
            for (key, record) in &page {
                match rows(key, record) {
                    Ok(rows) => batch.extend(index::changes(&[], rows)),
                    // It could not be found by its key either.
                    Err(cause) => warn!(%cause, "a record is not in the indexes"),
                }
            }
            self.write(batch).await?;
            done = done.saturating_add(page.len());
            if done - said >= PROGRESS {
                said = done;
                info!(table = table.name(), records = done, "indexes are being built");
            }
        }
        if done > 0 {
            info!(table = table.name(), records = done, "indexes are built");
        }
        Ok(())
    }
}
