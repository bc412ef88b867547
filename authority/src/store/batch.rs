//! What batches leave, decided before anything is written.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Change, StoreError, Table};
use crate::audit::numbered;
use crate::audit::tree::{Frontier, leaf_hash};

/// A table, and the key of a record in it.
type Place<'b> = (Table, Cow<'b, str>);

/// What the batches so far leave of the records that they change.
#[derive(Default)]
pub(super) struct Outcome<'b> {
    records: BTreeMap<Place<'b>, Option<Cow<'b, [u8]>>>,
    /// Beginnings of keys whose records are removed, except those above.
    removed: Vec<(Table, &'b str)>,
}

impl<'b> Outcome<'b> {
    /// Carries out one more batch, unless one of its conditions fails: the inner result. `stored` reads a record as it was before all
    /// batches, and is asked only for records that a condition is about.
    ///
    /// # Errors
    /// What `stored` returns.
    pub(super) fn add<E>(
        &mut self,
        batch: &'b [Change],
        mut stored: impl FnMut(Table, &'b str) -> Result<Option<Vec<u8>>, E>,
    ) -> Result<Result<(), StoreError>, E> {
        let mut outcome = Self::default();
        for change in batch {
            if change.is_condition() {
                let (table, key) = change.address();
                let found = match outcome.found(table, key).or_else(|| self.found(table, key)) {
                    Some(found) => found.map(Cow::Borrowed),
                    None => stored(table, key)?.map(Cow::Owned),
                };
                if let Some(unmet) = change.unmet(found.as_deref()) {
                    return Ok(Err(unmet));
                }
                if let Change::Append(log, entry) = change {
                    match Appended::after(found.as_deref(), log, entry) {
                        Ok(appended) => outcome.append(log, appended),
                        Err(cause) => return Ok(Err(cause)),
                    }
                }
            }
            outcome.carry_out(change);
        }
        self.merge(outcome);
        Ok(Ok(()))
    }

    /// The beginnings of keys whose records are removed, before [`Self::records`] are written.
    pub(super) fn removed(&self) -> &[(Table, &'b str)] {
        &self.removed
    }

    /// The records to write and, where there is none, to remove; ordered by table.
    pub(super) fn records(&self) -> impl Iterator<Item = (Table, &str, Option<&[u8]>)> {
        self.records.iter().map(|((table, key), record)| (*table, &**key, record.as_deref()))
    }

    /// The record as the batches leave it, if they change it.
    fn found(&self, table: Table, key: &'b str) -> Option<Option<&[u8]>> {
        let removed =
            || self.removed.iter().any(|(of, prefix)| *of == table && key.starts_with(prefix));
        let record = self.records.get(&(table, Cow::Borrowed(key))).map(Option::as_deref);
        record.or_else(|| removed().then_some(None))
    }

    fn append(&mut self, log: &'b str, appended: Appended) {
        let Appended { key, entry, head } = appended;
        self.records.insert((Table::Log, key.into()), Some(entry.into()));
        self.records.insert((Table::LogHeads, log.into()), Some(head.into()));
    }

    fn carry_out(&mut self, change: &'b Change) {
        let (table, key) = change.address();
        match change {
            Change::Insert(_, _, record)
            | Change::Put(_, _, record)
            | Change::Replace(_, _, _, record) => {
                self.records.insert((table, key.into()), Some(record.into()));
            }
            Change::Remove(..) | Change::RemoveIfExists(..) => {
                self.records.insert((table, key.into()), None);
            }
            Change::RemoveAll(..) => self.remove_all(table, key),
            Change::Expect(..) | Change::Append(..) => {}
        }
    }

    fn remove_all(&mut self, table: Table, prefix: &'b str) {
        self.records.retain(|(of, key), _| *of != table || !key.starts_with(prefix));
        self.removed.push((table, prefix));
    }

    fn merge(&mut self, later: Self) {
        for (table, prefix) in later.removed {
            self.remove_all(table, prefix);
        }
        self.records.extend(later.records);
    }
}

/// What an entry leaves of its log.
pub(super) struct Appended {
    /// Of the entry.
    pub(super) key: String,
    pub(super) entry: Vec<u8>,
    /// The new head.
    pub(super) head: Vec<u8>,
}

impl Appended {
    /// Appends an entry to a log with this head.
    ///
    /// # Errors
    /// The head is damaged, or the entry is neither a JSON object nor a brief entry.
    pub(super) fn after(head: Option<&[u8]>, log: &str, entry: &[u8]) -> Result<Self, StoreError> {
        let unreadable = |what: &str| StoreError::Unreadable(format!("log {log:?}: {what}"));
        let tree = head.map_or_else(|| Some(Frontier::default()), Frontier::from_bytes);
        let mut tree = tree.ok_or_else(|| unreadable("its head is damaged"))?;
        let sequence = tree.size();
        let entry = numbered(entry, sequence).ok_or_else(|| unreadable("an entry is malformed"))?;
        tree.push(leaf_hash(&entry)).ok_or_else(|| unreadable("it is full"))?;
        Ok(Self { key: entry_key(log, sequence), entry, head: tree.to_bytes() })
    }
}

/// Where an entry is in [`Table::Log`]. Keys of a log are in the order of its entries.
pub(super) fn entry_key(log: &str, sequence: u64) -> String {
    format!("{log}/{sequence:016x}")
}

/// Where the hashes of some entries are in [`Table::LogHashes`]: what the keys of all of them begin with.
pub(super) fn hashes_key(log: &str, sequence: u64) -> String {
    format!("{log}/{:014x}", sequence >> u8::BITS)
}

/// The first entry whose hash is in the same row of [`Table::LogHashes`].
pub(super) fn first_of_row(sequence: u64) -> u64 {
    sequence >> u8::BITS << u8::BITS
}

impl Change {
    /// Whether the record that it is about must be known.
    pub(super) fn is_condition(&self) -> bool {
        match self {
            Self::Insert(..)
            | Self::Replace(..)
            | Self::Remove(..)
            | Self::Expect(..)
            | Self::Append(..) => true,
            Self::Put(..) | Self::RemoveIfExists(..) | Self::RemoveAll(..) => false,
        }
    }

    /// Why the batch fails if this record is there.
    fn unmet(&self, found: Option<&[u8]>) -> Option<StoreError> {
        let unmet = match self {
            Self::Insert(..) if found.is_some() => StoreError::Exists,
            Self::Remove(..) if found.is_none() => StoreError::Missing,
            Self::Replace(_, _, was, _) if found != Some(was) => StoreError::Changed,
            Self::Expect(_, _, was) if found != was.as_deref() => StoreError::Changed,
            _ => return None,
        };
        let (table, key) = self.address();
        Some(unmet(table, key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::convert::Infallible;

    const TABLE: Table = Table::Bots;

    fn put(key: &str, record: &str) -> Change {
        Change::Put(TABLE, key.into(), record.into())
    }

    fn expect(key: &str, record: Option<&str>) -> Change {
        Change::Expect(TABLE, key.into(), record.map(Into::into))
    }

    fn left<'o>(outcome: &'o Outcome<'_>) -> Vec<(&'o str, Option<&'o str>)> {
        let text = |record| str::from_utf8(record).unwrap();
        outcome.records().map(|(_, key, record)| (key, record.map(text))).collect()
    }

    #[test]
    fn later_batch_sees_and_overrides_what_earlier_ones_leave() {
        let batches = [
            vec![put("a/1", "1"), put("a/2", "2"), put("b", "3")],
            vec![expect("a/1", Some("1")), Change::RemoveAll(TABLE, "a/".into()), put("a/3", "4")],
            vec![expect("a/1", None), expect("a/3", Some("4")), put("b", "5")],
        ];
        let mut outcome = Outcome::default();
        for batch in &batches {
            let stored = |_, key: &str| panic!("{key} is known from an earlier batch");
            outcome.add::<Infallible>(batch, stored).unwrap().unwrap();
        }
        assert_eq!(left(&outcome), [("a/3", Some("4")), ("b", Some("5"))]);
        assert_eq!(outcome.removed(), [(TABLE, "a/")]);
    }

    #[test]
    fn batch_with_an_unmet_condition_leaves_nothing_and_stored_records_are_read_for_conditions_only()
     {
        let first = [put("a", "1")];
        let unmet = [put("a", "2"), put("c", "3"), expect("d", Some("4")), put("e", "5")];
        let asked = RefCell::new(Vec::new());
        let stored = |_, key: &str| {
            asked.borrow_mut().push(key.to_owned());
            Ok::<_, Infallible>(None)
        };
        let mut outcome = Outcome::default();
        outcome.add(&first, stored).unwrap().unwrap();
        let refused = outcome.add(&unmet, stored).unwrap();
        assert_eq!(refused, Err(StoreError::Changed(TABLE, "d".into())));
        assert_eq!(left(&outcome), [("a", Some("1"))]);
        assert_eq!(*asked.borrow(), ["d"]);
    }

    fn append(entry: &str) -> Change {
        Change::Append("log".into(), entry.into())
    }

    #[test]
    fn entries_of_all_batches_are_numbered_and_those_of_a_refused_one_are_not_there() {
        let batches = [
            vec![append("{}"), put("a", "1"), append(r#"{"a":1}"#)],
            vec![append(r#"{"refused":true}"#), expect("a", None)],
            vec![append(r#"{"b":2}"#)],
        ];
        let entry = br#"{"seq":0}"#;
        let mut head = Frontier::default();
        head.push(leaf_hash(entry)).unwrap();
        let stored = |table, _: &str| {
            let head = (table == Table::LogHeads).then(|| head.to_bytes());
            Ok::<_, Infallible>(head)
        };
        let mut outcome = Outcome::default();
        let results = batches.each_ref().map(|batch| outcome.add(batch, stored).unwrap().is_ok());
        assert_eq!(results, [true, false, true]);
        let mut must = head.clone();
        let entries = [r#"{"seq":1}"#, r#"{"seq":2,"a":1}"#, r#"{"seq":3,"b":2}"#];
        entries.iter().for_each(|entry| must.push(leaf_hash(entry.as_bytes())).unwrap());
        let left: Vec<_> = outcome.records().filter(|(table, ..)| *table != TABLE).collect();
        let keys = [1, 2, 3].map(|sequence| entry_key("log", sequence));
        let must = must.to_bytes();
        assert_eq!(
            left,
            [
                (Table::Log, keys[0].as_str(), Some(entries[0].as_bytes())),
                (Table::Log, keys[1].as_str(), Some(entries[1].as_bytes())),
                (Table::Log, keys[2].as_str(), Some(entries[2].as_bytes())),
                (Table::LogHeads, "log", Some(must.as_slice())),
            ]
        );
    }

    #[test]
    fn damaged_head_or_entry_fails_the_batch() {
        let batch = [append("{}")];
        let mut outcome = Outcome::default();
        let damaged = |_, _: &str| Ok::<_, Infallible>(Some(b"damaged".to_vec()));
        let refused = outcome.add(&batch, damaged).unwrap();
        assert!(matches!(refused, Err(StoreError::Unreadable(_))), "{refused:?}");
        let batch = [append("[]")];
        let refused = outcome.add(&batch, |_, _| Ok::<_, Infallible>(None)).unwrap();
        assert!(matches!(refused, Err(StoreError::Unreadable(_))), "{refused:?}");
        assert_eq!(outcome.records().count(), 0);
    }
}
