//! What batches leave, decided before anything is written.

use std::collections::BTreeMap;

use super::{Change, StoreError, Table};

/// What the batches so far leave of the records that they change.
#[derive(Default)]
pub(super) struct Outcome<'b> {
    records: BTreeMap<(Table, &'b str), Option<&'b [u8]>>,
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
                let unmet = match outcome.found(table, key).or_else(|| self.found(table, key)) {
                    Some(found) => change.unmet(found),
                    None => change.unmet(stored(table, key)?.as_deref()),
                };
                if let Some(unmet) = unmet {
                    return Ok(Err(unmet));
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
    pub(super) fn records(&self) -> impl Iterator<Item = (Table, &'b str, Option<&'b [u8]>)> {
        self.records.iter().map(|((table, key), record)| (*table, *key, *record))
    }

    /// The record as the batches leave it, if they change it.
    fn found(&self, table: Table, key: &str) -> Option<Option<&'b [u8]>> {
        let removed =
            || self.removed.iter().any(|(of, prefix)| *of == table && key.starts_with(prefix));
        let record = self.records.get(&(table, key)).copied();
        record.or_else(|| removed().then_some(None))
    }

    fn carry_out(&mut self, change: &'b Change) {
        let (table, key) = change.address();
        match change {
            Change::Insert(_, _, record)
            | Change::Put(_, _, record)
            | Change::Replace(_, _, _, record) => {
                self.records.insert((table, key), Some(record));
            }
            Change::Remove(..) | Change::RemoveIfExists(..) => {
                self.records.insert((table, key), None);
            }
            Change::RemoveAll(..) => self.remove_all(table, key),
            Change::Expect(..) => {}
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

impl Change {
    /// Whether the record that it is about must be known.
    pub(super) fn is_condition(&self) -> bool {
        match self {
            Self::Insert(..) | Self::Replace(..) | Self::Remove(..) | Self::Expect(..) => true,
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

    fn left<'b>(outcome: &Outcome<'b>) -> Vec<(&'b str, Option<&'b str>)> {
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
}
