//! The log of an authority. An event is appended in the batch of the changes that it tells of, and binds the records as these leave
//! them.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use tracing::info;

use super::batch::entry_key;
use super::{Change, Keyed, Pages, Range, Records, StoreError, Table};
use crate::audit::tree::Frontier;
use crate::audit::{Author, BoundRecord, ChangeEvent, Row, binding};

/// The cursor of the file of the audit log.
const FILE: &str = "file";

/// The cursor of the events that summarize brief entries.
const SUMMARY: &str = "summary";

/// Rows of an older version in one batch.
const ROWS: usize = 128;

/// Records in one entry that adopts them: with long names an entry remains below 64 KiB.
pub(super) const ADOPTED: usize = 200;

/// How many adopted records are said in one line of the program's log.
const PROGRESS: usize = 100_000;

impl Table {
    /// The tables whose records are what the authority decides by. The others are derived from them, or describe the store.
    pub(crate) const STATE: [Self; 8] = [
        Self::Bots,
        Self::Tokens,
        Self::Instances,
        Self::WorkloadIdentities,
        Self::Locks,
        Self::Authorities,
        Self::Keyring,
        Self::KeySlots,
    ];

    /// Those of the CAs and their private keys.
    pub(super) const KEYS: [Self; 3] = [Self::Authorities, Self::Keyring, Self::KeySlots];

    /// What it is called in events.
    pub(crate) fn in_events(self) -> String {
        self.name().replace(' ', "_")
    }
}

impl Records {
    /// The change that appends an event to the log of this authority.
    pub(super) fn appended(&self, event: Vec<u8>) -> Change {
        Change::Append(self.1.to_string(), event)
    }

    /// The same for a change of a resource.
    pub(super) fn event(&self, event: &ChangeEvent<'_>) -> Result<Change, StoreError> {
        event.entry().map(|event| self.appended(event)).map_err(unreadable)
    }

    /// The ID of this authority, which is that of its log.
    pub fn log_id(&self) -> &str {
        &self.1
    }

    /// The IDs of the authorities that have a log in this store.
    ///
    /// # Errors
    /// The store fails.
    pub async fn logs(&self) -> Result<Vec<String>, StoreError> {
        let heads = Pages::new(&*self.0, Table::LogHeads, "").all().await?;
        Ok(heads.into_iter().map(|(log, _)| log).collect())
    }

    /// The tree over the entries of a log.
    ///
    /// # Errors
    /// The store fails, or the head is damaged.
    pub async fn log_head(&self, log: &str) -> Result<Frontier, StoreError> {
        let Some(head) = self.0.read(Table::LogHeads, log).await? else {
            return Ok(Frontier::default());
        };
        Frontier::from_bytes(&head)
            .ok_or_else(|| StoreError::Unreadable(format!("log head {log:?}: it is damaged")))
    }

    /// Entries of a log in their order, the first of them with this number or the next higher one that is there. Fewer than the limit
    /// only if there are no more.
    ///
    /// # Errors
    /// The store fails, or a key is damaged.
    pub async fn log_entries(
        &self,
        log: &str,
        first: u64,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let prefix = format!("{log}/");
        let after = first.checked_sub(1).map(|before| entry_key(log, before));
        let range = Range { table: Table::Log, prefix: &prefix, after: after.as_deref(), limit };
        let entries = self.0.list(range).await?.into_iter().map(|(key, line)| {
            let number = key.strip_prefix(&prefix);
            let number = number.and_then(|number| u64::from_str_radix(number, 16).ok());
            let number = number.filter(|number| entry_key(log, *number) == key);
            let damaged =
                || StoreError::Unreadable(format!("log entry {key:?}: the key is damaged"));
            Ok(Row::new(number.ok_or_else(damaged)?, line))
        });
        entries.collect()
    }

    /// The number of the first entry that is not known to be on disk in the file of the audit log.
    pub(crate) async fn file_cursor(&self) -> Result<u64, StoreError> {
        Ok(self.cursor(FILE).await?.unwrap_or(0))
    }

    /// Puts it on record.
    pub(crate) async fn set_file_cursor(&self, cursor: u64) -> Result<(), StoreError> {
        self.write(vec![Change::Put(Table::LogCursors, self.cursor_key(FILE), written(cursor))])
            .await
    }

    /// The number of the first entry that no event summarizes: of a log without brief entries, that of the next one.
    pub(crate) async fn summary_cursor(&self) -> Result<u64, StoreError> {
        if let Some(cursor) = self.cursor(SUMMARY).await? {
            return Ok(cursor);
        }
        let next = self.log_head(&self.1).await?.size();
        let key = self.cursor_key(SUMMARY);
        self.write(vec![Change::Insert(Table::LogCursors, key, written(next))]).await?;
        Ok(next)
    }

    /// Appends the event, if there is one, that summarizes the brief entries from one number to before another.
    ///
    /// # Errors
    /// [`StoreError::Changed`] if there is one already.
    pub(crate) async fn summarize(
        &self,
        event: Option<Vec<u8>>,
        first: u64,
        next: u64,
    ) -> Result<(), StoreError> {
        let key = self.cursor_key(SUMMARY);
        let moved = Change::Replace(Table::LogCursors, key, written(first), written(next));
        let event = event.map(|event| self.appended(event));
        self.write([moved].into_iter().chain(event).collect()).await
    }

    /// Appends an event that changes no record.
    pub(crate) async fn append(&self, event: Vec<u8>) -> Result<(), StoreError> {
        self.write(vec![self.appended(event)]).await
    }

    async fn cursor(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let key = self.cursor_key(name);
        let Some(cursor) = self.0.read(Table::LogCursors, &key).await? else { return Ok(None) };
        let cursor = str::from_utf8(&cursor).ok().and_then(|cursor| cursor.parse().ok());
        cursor.map(Some).ok_or_else(|| StoreError::Unreadable(format!("log cursor {key:?}")))
    }

    fn cursor_key(&self, name: &str) -> String {
        format!("{}/{name}", self.1)
    }

    /// Rows of a table as they are; fewer than the limit if they are long, or there are no more. The second value says whether there
    /// are more.
    pub(crate) async fn rows(
        &self,
        range: Range<'_>,
        most_bytes: usize,
    ) -> Result<(Vec<Keyed>, bool), StoreError> {
        // A row at least, and no more of a table with long ones than what is sent soon.
        const STEP: usize = 64;
        let (mut rows, mut bytes) = (Vec::new(), 0_usize);
        while rows.len() < range.limit && bytes < most_bytes {
            let last: Option<&Keyed> = rows.last();
            let after = last.map(|(key, _)| key.clone());
            let after = after.as_deref().or(range.after);
            let limit = STEP.min(range.limit - rows.len());
            let page = self.0.list(Range { after, limit, ..range }).await?;
            let is_last = page.len() < limit;
            bytes += page.iter().map(|(key, row)| key.len() + row.len()).sum::<usize>();
            rows.extend(page);
            if is_last {
                return Ok((rows, false));
            }
        }
        Ok((rows, true))
    }

    /// Appends the events to the log that an older version has left in rows of their own.
    pub(crate) async fn take_over_audit_rows(&self) -> Result<(), StoreError> {
        let mut rows = Pages::new(&*self.0, Table::AuditRows, "").of(ROWS);
        while let Some(page) = rows.next().await? {
            let changes = page.into_iter().flat_map(|(key, line)| {
                [self.appended(line), Change::Remove(Table::AuditRows, key)]
            });
            self.write(changes.collect()).await?;
        }
        Ok(())
    }

    /// Binds all records of these tables, which were written before the log told of them.
    pub(super) async fn adopt(&self, tables: &[Table], author: Author) -> Result<(), StoreError> {
        let mut adopted = 0_usize;
        for table in tables.iter().copied() {
            let mut after = None;
            loop {
                let range = Range { table, prefix: "", after: after.as_deref(), limit: ADOPTED };
                let page = self.0.list(range).await?;
                let Some((last, _)) = page.last().cloned() else { break };
                let records = page.into_iter();
                let mut batch: Vec<_> =
                    records.map(|(key, record)| Change::Expect(table, key, Some(record))).collect();
                let count = batch.len();
                batch.push(self.event(&author.adoption())?);
                match self.write(batch).await {
                    // Another authority has changed one of them: they are read again.
                    Err(StoreError::Changed(..)) => continue,
                    written => written?,
                }
                after = Some(last);
                if (adopted + count) / PROGRESS > adopted / PROGRESS {
                    info!(records = adopted + count, "records are being entered into the log");
                }
                adopted += count;
            }
        }
        if adopted > 0 {
            info!(records = adopted, "records of an older version are in the log");
        }
        Ok(())
    }
}

/// A batch with events of its changes at the end, for the log of an authority. The first event binds the records.
///
/// # Errors
/// An event cannot be written.
pub(crate) fn logged(
    log: &str,
    mut batch: Vec<Change>,
    events: &[ChangeEvent<'_>],
) -> Result<Vec<Change>, StoreError> {
    for event in events {
        batch.push(Change::Append(log.to_owned(), event.entry().map_err(unreadable)?));
    }
    bind(&mut batch)?;
    Ok(batch)
}

/// Puts into each entry of a batch what the changes between the entry before and it leave of the records, and which records they
/// require as they are.
pub(super) fn bind(batch: &mut [Change]) -> Result<(), StoreError> {
    let mut bound = BTreeMap::new();
    for change in batch {
        let (table, key) = change.address();
        let (is_state, place) = (Table::STATE.contains(&table), (table, key.to_owned()));
        match change {
            Change::Append(_, event) => {
                let records: Vec<_> = std::mem::take(&mut bound).into_values().collect();
                let malformed = || StoreError::Unreadable("an entry is malformed".into());
                *event = binding(event, &records).ok_or_else(malformed)?;
            }
            Change::Insert(_, _, record)
            | Change::Put(_, _, record)
            | Change::Replace(_, _, _, record)
            | Change::Expect(_, _, Some(record))
                if is_state =>
            {
                let hash = base16ct::lower::encode_string(&Sha256::digest(record));
                bound.insert(place.clone(), bound_record(place, Some(hash)));
            }
            Change::Remove(..) | Change::RemoveIfExists(..) if is_state => {
                bound.insert(place.clone(), bound_record(place, None));
            }
            Change::RemoveAll(..) if is_state => {
                bound.retain(|(of, key), _| *of != table || !key.starts_with(&place.1));
                let record = bound_record(place.clone(), None);
                let record = BoundRecord { key: None, prefix: record.key, ..record };
                bound.insert(place, record);
            }
            _ => {}
        }
    }
    Ok(())
}

/// A cursor as it is stored.
fn written(cursor: u64) -> Vec<u8> {
    cursor.to_string().into()
}

fn bound_record((table, key): (Table, String), sha256: Option<String>) -> BoundRecord {
    BoundRecord { table: table.in_events(), key: Some(key), prefix: None, sha256 }
}

fn unreadable(cause: serde_json::Error) -> StoreError {
    StoreError::Unreadable(cause.to_string())
}
