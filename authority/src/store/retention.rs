//! Retention of a log: the bodies of its oldest entries are removed, and the hashes of their leaves stay, so that the tree is the same.
//!
//! What an entry says of records would go with it. So the records that still are as the removed entries left them are bound again by
//! new entries before: each record is known from an entry that is there.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::batch::{entry_key, first_of_row, hashes_key};
use super::log::ADOPTED;
use super::{Change, Range, Records, StoreError, Table};
use crate::audit::tree::{Hash, leaf_hash};
use crate::audit::{Author, Row};

/// Entries whose hashes are in one row: they are removed together.
pub(crate) const TOGETHER: usize = 256;

/// Entries that are read at once.
const PAGE: usize = 512;

/// A part of a log.
#[derive(Debug)]
pub enum Page {
    /// Entries.
    Entries(Vec<Row>),
    /// The hashes of the leaves of entries that were removed.
    Hashes(Vec<Hash>),
}

impl Records {
    /// The oldest entries of this authority's log that are there, if there are enough that their hashes fill a row.
    pub(crate) async fn oldest_entries(&self) -> Result<Option<Vec<Row>>, StoreError> {
        let page = self.log_entries(&self.1, 0, TOGETHER).await?;
        let numbers = page.iter().map(Row::sequence);
        let Some(first) = numbers.clone().next().filter(|_| page.len() == TOGETHER) else {
            return Ok(None);
        };
        // Of a log that was changed nothing more is removed.
        let is_whole = first == first_of_row(first) && (first..).zip(numbers).all(|(a, b)| a == b);
        Ok(is_whole.then_some(page))
    }

    /// The number of the first entry of this authority's log that something still has to be done with: the lowest of its cursors.
    pub(crate) async fn undelivered(&self) -> Result<u64, StoreError> {
        let prefix = format!("{}/", self.1);
        let table = Table::LogCursors;
        let cursors =
            self.0.list(Range { table, prefix: &prefix, after: None, limit: 1000 }).await?;
        let read = |(key, cursor): &(String, Vec<u8>)| {
            let cursor = str::from_utf8(cursor).ok().and_then(|cursor| cursor.parse::<u64>().ok());
            cursor.ok_or_else(|| StoreError::Unreadable(format!("log cursor {key:?}")))
        };
        let lowest = cursors.iter().map(read).collect::<Result<Vec<_>, _>>()?.into_iter().min();
        Ok(lowest.unwrap_or(0))
    }

    /// Removes the bodies of these entries, which [`Self::oldest_entries`] has returned.
    pub(crate) async fn remove_bodies(
        &self,
        entries: &[Row],
        author: Author,
    ) -> Result<(), StoreError> {
        let Some(first) = entries.first().map(Row::sequence) else { return Ok(()) };
        self.bind_again(entries, author).await?;
        let next = first.saturating_add(TOGETHER as u64);
        let hashes: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry.entry())).collect();
        let key = hashes_key(&self.1, first);
        self.write(vec![
            // All whose numbers differ in the last two digits.
            Change::RemoveAll(Table::Log, key.clone()),
            Change::Insert(Table::LogHashes, key, hashes.as_flattened().to_vec()),
            self.event(&author.cut(next))?,
        ])
        .await
    }

    /// Binds the records that are as these entries have left them.
    async fn bind_again(&self, entries: &[Row], author: Author) -> Result<(), StoreError> {
        let mut bound = BTreeMap::new();
        for record in entries.iter().flat_map(Row::bound) {
            if let Some(key) = record.key {
                bound.insert((record.table, key), record.sha256);
            }
        }
        let mut places: Vec<_> = bound.into_iter().collect();
        while !places.is_empty() {
            let some = places.get(..ADOPTED.min(places.len())).unwrap_or_default();
            let mut batch = Vec::new();
            for ((name, key), hash) in some {
                let table = Table::STATE.into_iter().find(|table| table.in_events() == *name);
                let (Some(table), Some(hash)) = (table, hash) else { continue };
                let record = self.0.read(table, key).await?;
                let is_same = record.as_ref().is_some_and(|record| {
                    base16ct::lower::encode_string(&Sha256::digest(record)) == *hash
                });
                if is_same {
                    batch.push(Change::Expect(table, key.clone(), record));
                }
            }
            if !batch.is_empty() {
                batch.push(self.event(&author.adoption())?);
                match self.write(batch).await {
                    // One was changed in between, by an entry of its own. The others are read again.
                    Err(StoreError::Changed(..)) => continue,
                    written => written?,
                }
            }
            places.drain(..ADOPTED.min(places.len()));
        }
        Ok(())
    }

    /// The next entries of a log from this number on, or, where they were removed, their hashes. No entries if there are no more.
    ///
    /// # Errors
    /// The store fails, or what is in it is damaged.
    pub async fn log_page(&self, log: &str, first: u64) -> Result<Page, StoreError> {
        let entries = self.log_entries(log, first, PAGE).await?;
        if entries.first().is_none_or(|entry| entry.sequence() > first)
            && let Some(hashes) = self.removed_hashes(log, first).await?
        {
            return Ok(Page::Hashes(hashes));
        }
        Ok(Page::Entries(entries))
    }

    /// The hashes of the leaves of a log from this number on, as far as they are in one row; none if there is no row for it.
    pub(crate) async fn removed_hashes(
        &self,
        log: &str,
        first: u64,
    ) -> Result<Option<Vec<Hash>>, StoreError> {
        let key = hashes_key(log, first);
        let Some(row) = self.0.read(Table::LogHashes, &key).await? else { return Ok(None) };
        let (hashes, rest) = row.as_chunks();
        let skipped = usize::try_from(first.saturating_sub(first_of_row(first))).ok();
        let hashes = skipped.and_then(|skipped| hashes.get(skipped..));
        let hashes =
            hashes.filter(|_| rest.is_empty() && row.len() == TOGETHER * size_of::<Hash>());
        let damaged = || StoreError::Unreadable(format!("log hashes {key:?}"));
        Ok(Some(hashes.ok_or_else(damaged)?.to_vec()))
    }

    /// The bytes of an entry in the store: its key and its body.
    pub(crate) fn stored_size(&self, entry: &Row) -> u64 {
        let key = entry_key(&self.1, entry.sequence());
        key.len().saturating_add(entry.entry().len()) as u64
    }
}

#[cfg(test)]
mod tests;
