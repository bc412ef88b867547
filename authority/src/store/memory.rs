//! A store in memory, for tests and measurements.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use super::batch::Appended;
use super::{Change, Keyed, Pending, Range, Snapshot, Store, StoreError, Table};

type Tables = BTreeMap<Table, BTreeMap<String, Vec<u8>>>;

/// Records in memory.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Tables>);

impl Store for MemoryStore {
    fn read<'a>(&'a self, table: Table, key: &'a str) -> Pending<'a, Option<Vec<u8>>> {
        let record = self.with(|tables| tables.get(&table)?.get(key).cloned());
        Box::pin(async move { Ok(record) })
    }

    fn list<'a>(&'a self, range: Range<'a>) -> Pending<'a, Vec<Keyed>> {
        let page = self.with(|tables| page(tables, range));
        Box::pin(async move { Ok(page) })
    }

    fn write(&self, batch: Vec<Change>) -> Pending<'_, ()> {
        let result = self.with(|tables| {
            let mut undo = Vec::new();
            let result =
                batch.into_iter().try_for_each(|change| carry_out(tables, change, &mut undo));
            if result.is_err() {
                for (table, key, was) in undo.into_iter().rev() {
                    set(tables, table, key, was);
                }
            }
            result
        });
        Box::pin(async move { result })
    }

    fn snapshot(&self) -> Pending<'_, Box<dyn Snapshot>> {
        let tables = self.with(|tables| tables.clone());
        Box::pin(async move { Ok(Box::new(MemorySnapshot(tables)) as Box<dyn Snapshot>) })
    }
}

/// A copy of all records.
struct MemorySnapshot(Tables);

impl Snapshot for MemorySnapshot {
    fn list<'a>(&'a mut self, range: Range<'a>) -> Pending<'a, Vec<Keyed>> {
        let page = page(&self.0, range);
        Box::pin(async move { Ok(page) })
    }
}

fn page(tables: &Tables, Range { table, prefix, after, limit }: Range<'_>) -> Vec<Keyed> {
    let first = match after.filter(|after| *after >= prefix) {
        Some(after) => Bound::Excluded(after),
        None => Bound::Included(prefix),
    };
    let Some(records) = tables.get(&table) else { return Vec::new() };
    let records = records.range::<str, _>((first, Bound::Unbounded));
    let page = records.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
    page.map(|(key, record)| (key.clone(), record.clone())).collect()
}

impl MemoryStore {
    fn with<T>(&self, f: impl FnOnce(&mut Tables) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a record was before a change.
type Undo = Vec<(Table, String, Option<Vec<u8>>)>;

fn carry_out(tables: &mut Tables, change: Change, undo: &mut Undo) -> Result<(), StoreError> {
    let (table, key) = change.address();
    let key = key.to_owned();
    let found = tables.get(&table).and_then(|records| records.get(&key));
    let record = match change {
        Change::Insert(..) if found.is_some() => return Err(StoreError::Exists(table, key)),
        Change::Remove(..) if found.is_none() => return Err(StoreError::Missing(table, key)),
        Change::Replace(_, _, was, _) if found != Some(&was) => {
            return Err(StoreError::Changed(table, key));
        }
        Change::Expect(_, _, was) if found != was.as_ref() => {
            return Err(StoreError::Changed(table, key));
        }
        Change::Expect(..) => return Ok(()),
        Change::Append(log, entry) => {
            let appended = Appended::after(found.map(Vec::as_slice), &log, &entry)?;
            let was = set(tables, Table::Log, appended.key.clone(), Some(appended.entry));
            undo.push((Table::Log, appended.key, was));
            let was = set(tables, table, log.clone(), Some(appended.head));
            undo.push((table, log, was));
            return Ok(());
        }
        Change::RemoveAll(_, prefix) => {
            let keys = tables.get(&table).into_iter().flat_map(BTreeMap::keys);
            let keys: Vec<_> = keys.filter(|key| key.starts_with(&prefix)).cloned().collect();
            for key in keys {
                let was = set(tables, table, key.clone(), None);
                undo.push((table, key, was));
            }
            return Ok(());
        }
        Change::Insert(_, _, record)
        | Change::Put(_, _, record)
        | Change::Replace(_, _, _, record) => Some(record),
        Change::Remove(..) | Change::RemoveIfExists(..) => None,
    };
    let was = set(tables, table, key.clone(), record);
    undo.push((table, key, was));
    Ok(())
}

/// Makes a record so, and gives what it was.
fn set(tables: &mut Tables, table: Table, key: String, record: Option<Vec<u8>>) -> Option<Vec<u8>> {
    match (tables.entry(table).or_default().entry(key), record) {
        (Entry::Occupied(mut there), Some(record)) => Some(there.insert(record)),
        (Entry::Occupied(there), None) => Some(there.remove()),
        (Entry::Vacant(free), Some(record)) => {
            free.insert(record);
            None
        }
        (Entry::Vacant(_), None) => None,
    }
}
