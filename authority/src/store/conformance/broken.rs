//! Stores with one fault each, and that the suite finds it.

use super::*;
use crate::store::batch::Appended;

/// What a store does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    ReadFindsNothing,
    TablesAreOne,
    KeysIgnoreCase,
    EmptyIsAbsent,
    LargeIsCutOff,
    OrderOfAlphabet,
    PrefixIsPattern,
    AfterIsIncluded,
    LimitIsExceeded,
    BatchBackwards,
    BatchStopsInside,
    BatchIsCutOff,
    EmptyBatchFails,
    InsertReplaces,
    PutKeeps,
    ReplaceAlways,
    RemoveAlways,
    RemoveIfExistsDemands,
    RemoveAllExactly,
    ExpectNothing,
    ConditionsFirst,
    ErrorOfAnother,
    EntriesAreNotNumbered,
    RefusedEntryStays,
    LogsAreOne,
    NotDurable,
    CheckedBeforehand,
    ReplaceCheckedBeforehand,
    ExpectCheckedBeforehand,
    SeenInside,
    SnapshotIsLive,
    AppendedBeforehand,
}

use Fault::*;

/// Each fault, and the rule that it breaks.
const FAULTS: &[(Fault, &str)] = &[
    (ReadFindsNothing, "read_returns_what_was_written"),
    (TablesAreOne, "tables_are_apart"),
    (KeysIgnoreCase, "key_is_compared_byte_by_byte"),
    (EmptyIsAbsent, "empty_key_and_empty_record_are_stored"),
    (LargeIsCutOff, "large_record_is_stored"),
    (OrderOfAlphabet, "list_is_in_order_of_bytes"),
    (PrefixIsPattern, "list_has_all_keys_that_begin_so_and_no_other"),
    (AfterIsIncluded, "list_goes_on_after_any_key"),
    (LimitIsExceeded, "list_has_no_more_than_the_limit"),
    (BatchBackwards, "batch_is_carried_out_in_order"),
    (BatchStopsInside, "batch_that_fails_changes_nothing"),
    (BatchIsCutOff, "large_batch_is_written"),
    (EmptyBatchFails, "empty_batch_succeeds"),
    (InsertReplaces, "insert_fails_if_the_record_exists"),
    (PutKeeps, "put_makes_or_replaces"),
    (ReplaceAlways, "replace_fails_unless_the_record_is_as_it_was"),
    (RemoveAlways, "remove_fails_if_there_is_no_record"),
    (RemoveIfExistsDemands, "remove_if_exists_succeeds_without_a_record"),
    (RemoveAllExactly, "remove_all_removes_what_begins_so_and_nothing_else"),
    (ExpectNothing, "expect_fails_unless_the_record_is_so"),
    (ConditionsFirst, "condition_sees_the_changes_before_it_in_its_batch"),
    (ErrorOfAnother, "error_names_the_first_condition_that_does_not_hold"),
    (EntriesAreNotNumbered, "entries_are_numbered_in_the_order_of_their_batches"),
    (RefusedEntryStays, "refused_batch_appends_nothing_and_leaves_no_gap"),
    (LogsAreOne, "logs_are_apart"),
    (NotDurable, "acknowledged_batch_is_there_for_the_next_process"),
    (CheckedBeforehand, "of_many_that_insert_the_same_one_wins"),
    (ReplaceCheckedBeforehand, "no_replacement_is_lost"),
    (ExpectCheckedBeforehand, "batch_that_expects_what_another_one_changes_fails"),
    (SeenInside, "reader_sees_a_batch_as_a_whole"),
    (SnapshotIsLive, "snapshot_shows_no_later_write"),
    (AppendedBeforehand, "entries_that_are_appended_at_once_have_no_gap"),
];

/// A store in memory, with a fault.
#[derive(Clone)]
struct Faulty {
    store: Arc<MemoryStore>,
    fault: Fault,
}

impl Faulty {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn place(&self, table: Table, key: &str) -> (Table, String) {
        let table = if self.has(TablesAreOne) { TABLE } else { table };
        let key = if self.has(KeysIgnoreCase) { key.to_lowercase() } else { key.to_owned() };
        (table, key)
    }

    async fn found(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let (table, key) = self.place(table, key);
        let mut found = self.store.read(table, &key).await?;
        if self.has(ReadFindsNothing) || self.has(EmptyIsAbsent) && found == Some(vec![]) {
            found = None;
        }
        Ok(found)
    }

    async fn page(&self, range: Range<'_>) -> Result<Vec<Keyed>, StoreError> {
        let Range { after, limit, .. } = range;
        let (table, prefix) = self.place(range.table, range.prefix);
        let range = Range { table, prefix: &prefix, ..range };
        let all = Range { after: None, limit: usize::MAX, ..range };
        let mut found = match self.fault {
            LimitIsExceeded => return self.store.list(Range { limit: limit + 1, ..range }).await,
            AfterIsIncluded => self.store.list(all).await?,
            OrderOfAlphabet | PrefixIsPattern => {
                self.store.list(Range { prefix: "", ..all }).await?
            }
            _ => return self.store.list(range).await,
        };
        if self.has(OrderOfAlphabet) {
            found.sort_by_key(|(key, _)| key.replace('-', "").to_lowercase());
        }
        found.retain(|(key, _)| begins(key, &prefix, self.has(PrefixIsPattern)));
        let after = |key: &str| match after {
            Some(after) if self.has(AfterIsIncluded) => key >= after,
            Some(after) => key > after,
            None => true,
        };
        found.retain(|(key, _)| after(key));
        found.truncate(limit);
        Ok(found)
    }

    /// What becomes of one change of a batch.
    async fn changed(&self, change: Change) -> Result<Option<Change>, StoreError> {
        let (table, key) = change.address();
        let (table, key) = self.place(table, key);
        Ok(Some(match change {
            Change::Insert(.., record) if self.has(InsertReplaces) => {
                Change::Put(table, key, record)
            }
            Change::Put(..) if self.has(PutKeeps) && self.found(table, &key).await?.is_some() => {
                return Ok(None);
            }
            Change::Insert(.., record) => Change::Insert(table, key, self.cut(record)),
            Change::Put(.., record) => Change::Put(table, key, self.cut(record)),
            Change::Replace(.., record) if self.has(ReplaceAlways) => {
                Change::Put(table, key, record)
            }
            Change::Replace(_, _, was, record) => Change::Replace(table, key, was, record),
            Change::Remove(..) if self.has(RemoveAlways) => Change::RemoveIfExists(table, key),
            Change::Remove(..) => Change::Remove(table, key),
            Change::RemoveIfExists(..) if self.has(RemoveIfExistsDemands) => {
                Change::Remove(table, key)
            }
            Change::RemoveAll(..) if self.has(RemoveAllExactly) => {
                Change::RemoveIfExists(table, key)
            }
            Change::RemoveIfExists(..) => Change::RemoveIfExists(table, key),
            Change::RemoveAll(..) => Change::RemoveAll(table, key),
            Change::Expect(..) if self.has(ExpectNothing) => return Ok(None),
            Change::Expect(_, _, was) => Change::Expect(table, key, was),
            Change::Append(_, entry) if self.has(EntriesAreNotNumbered) => {
                Change::Put(Table::Log, format!("{key}/0000000000000000"), entry)
            }
            Change::Append(_, entry) if self.has(LogsAreOne) => Change::Append("l".into(), entry),
            Change::Append(_, entry) => Change::Append(key, entry),
        }))
    }

    fn cut(&self, mut record: Vec<u8>) -> Vec<u8> {
        if self.has(LargeIsCutOff) {
            record.truncate(1 << 20);
        }
        record
    }

    /// Checks the conditions that this store checks before it carries the batch out, and gives what
    /// is left to do.
    async fn checked(&self, batch: Vec<Change>) -> Result<Vec<Change>, StoreError> {
        let all = self.has(ConditionsFirst) || self.has(CheckedBeforehand);
        let mut left = Vec::new();
        for change in batch {
            let (table, key) = change.address();
            let (key, found) = (key.to_owned(), self.store.read(table, key).await?);
            left.push(match change {
                Change::Insert(.., record) if all => match found {
                    Some(_) => return Err(StoreError::Exists(table, key)),
                    None => Change::Put(table, key, record),
                },
                Change::Remove(..) if all => match found {
                    Some(_) => Change::RemoveIfExists(table, key),
                    None => return Err(StoreError::Missing(table, key)),
                },
                Change::Replace(_, _, was, record) if all || self.has(ReplaceCheckedBeforehand) => {
                    match found == Some(was) {
                        true => Change::Put(table, key, record),
                        false => return Err(StoreError::Changed(table, key)),
                    }
                }
                Change::Expect(_, _, was) if all || self.has(ExpectCheckedBeforehand) => {
                    match found == was {
                        true => continue,
                        false => return Err(StoreError::Changed(table, key)),
                    }
                }
                change => change,
            });
        }
        if !self.has(ConditionsFirst) {
            tokio::task::yield_now().await;
        }
        Ok(left)
    }

    /// Makes records of entries before their batch is carried out.
    async fn appended(&self, batch: Vec<Change>) -> Result<Vec<Change>, StoreError> {
        let mut left = Vec::new();
        for change in batch {
            match change {
                Change::Append(log, entry) => {
                    let head = self.store.read(Table::LogHeads, &log).await?;
                    let appended = Appended::after(head.as_deref(), &log, &entry)?;
                    left.push(Change::Put(Table::Log, appended.key, appended.entry));
                    left.push(Change::Put(Table::LogHeads, log, appended.head));
                }
                change => left.push(change),
            }
        }
        tokio::task::yield_now().await;
        Ok(left)
    }

    async fn written(&self, batch: Vec<Change>) -> Result<(), StoreError> {
        if batch.is_empty() && self.has(EmptyBatchFails) {
            return Err(StoreError::Failed("nothing to do".into()));
        }
        let last = batch.last().map(|change| change.address().1.to_owned());
        let mut changes = Vec::new();
        for change in batch {
            changes.extend(self.changed(change).await?);
        }
        match self.fault {
            BatchBackwards => changes.reverse(),
            BatchIsCutOff => changes.truncate(1000),
            BatchStopsInside | SeenInside => {
                if self.has(SeenInside) {
                    self.checked(changes.clone()).await?;
                }
                for change in changes {
                    self.store.write(vec![change]).await?;
                    tokio::task::yield_now().await;
                }
                return Ok(());
            }
            ConditionsFirst
            | CheckedBeforehand
            | ReplaceCheckedBeforehand
            | ExpectCheckedBeforehand => changes = self.checked(changes).await?,
            RefusedEntryStays => {
                let is_entry = |change: &Change| matches!(change, Change::Append(..));
                let (entries, rest) = changes.into_iter().partition(is_entry);
                self.store.write(entries).await?;
                changes = rest;
            }
            AppendedBeforehand => changes = self.appended(changes).await?,
            _ => {}
        }
        let written = self.store.write(changes).await;
        written.map_err(|cause| match (cause, last) {
            (StoreError::Missing(table, _), Some(key)) if self.has(ErrorOfAnother) => {
                StoreError::Missing(table, key)
            }
            (cause, _) => cause,
        })
    }
}

/// Whether a key begins so; in a pattern, `_` stands for any character.
fn begins(key: &str, prefix: &str, is_pattern: bool) -> bool {
    let mut key = key.chars();
    prefix.chars().all(|wanted| {
        key.next().is_some_and(|found| found == wanted || is_pattern && wanted == '_')
    })
}

impl Store for Faulty {
    fn read<'a>(&'a self, table: Table, key: &'a str) -> Pending<'a, Option<Vec<u8>>> {
        Box::pin(self.found(table, key))
    }

    fn list<'a>(&'a self, range: Range<'a>) -> Pending<'a, Vec<Keyed>> {
        Box::pin(self.page(range))
    }

    fn write(&self, batch: Vec<Change>) -> Pending<'_, ()> {
        Box::pin(self.written(batch))
    }

    fn snapshot(&self) -> Pending<'_, Box<dyn Snapshot>> {
        let live = Live(Arc::clone(&self.store));
        match self.fault {
            SnapshotIsLive => Box::pin(async move { Ok(Box::new(live) as Box<dyn Snapshot>) }),
            _ => self.store.snapshot(),
        }
    }
}

/// A snapshot that shows later changes.
struct Live(Arc<MemoryStore>);

impl Snapshot for Live {
    fn list<'a>(&'a mut self, range: Range<'a>) -> Pending<'a, Vec<Keyed>> {
        self.0.list(range)
    }
}

fn subject(fault: Fault) -> Subject {
    let store = Faulty { store: Arc::default(), fault };
    let same = store.clone();
    let reopened = move || -> Arc<dyn Store> {
        match fault {
            NotDurable => Arc::new(MemoryStore::default()),
            _ => Arc::new(same.clone()),
        }
    };
    Subject { store: Arc::new(store), reopened: Some(Box::new(reopened)) }
}

#[tokio::test]
async fn store_that_breaks_a_rule_is_refused_by_its_name() {
    for (fault, rule) in FAULTS {
        let broken = conforms(subject(*fault)).await.unwrap_err();
        let found = broken.iter().find(|broken| broken.rule == *rule);
        let found = found.unwrap_or_else(|| panic!("{fault:?} breaks {broken:#?}, not {rule}"));
        assert_ne!(found.seen, TOO_LONG, "{fault:?}");
    }
}

#[test]
fn each_rule_has_a_store_that_breaks_it() {
    for (rule, _) in rules::RULES.iter().chain(concurrent::RULES) {
        assert!(FAULTS.iter().any(|(_, broken)| broken == rule), "{rule}");
    }
}
