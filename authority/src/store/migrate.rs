//! Converts the store of an older version.

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::format::{decode, encode};
use super::{Change, Pages, Records, StoreError, Table, index};
use crate::resource::{BotInstance, Lock};

/// The format of the store that this version makes: what tables there are, and what they say of
/// each other. Version 0.1.0 has none; 1 has the indexes.
const FORMAT: u32 = 1;

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
}

impl Records {
    /// Converts a store of an older version to the present format, before anything else uses it. An interrupted conversion starts
    /// again; the new format is recorded at the end.
    ///
    /// # Errors
    /// [`StoreError::Newer`] if this version must not use the store.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let found: Option<FormatRecord> = match self.0.read(Table::Format, "").await? {
            Some(record) => Some(decode(Table::Format, "", &record)?),
            None => None,
        };
        match found {
            Some(found) if found.oldest > FORMAT => {
                return Err(StoreError::Newer(format!("the store (format {})", found.format)));
            }
            Some(found) if found.format >= FORMAT => return Ok(()),
            Some(_) | None => self.build_indexes().await?,
        }
        let record = encode(&FormatRecord { format: FORMAT, oldest: FORMAT })?;
        self.write(vec![Change::Put(Table::Format, String::new(), record)]).await
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
