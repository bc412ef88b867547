//! What a log says when it is read from its first entry: the tree over its entries, and how they leave the records.

use std::collections::BTreeMap;
use std::fmt;

use base64ct::{Base64, Encoding};

use super::tree::{Frontier, Hash, Head, leaf_hash};
use super::{BoundRecord, Row};

/// The name of a table in events, and a key.
pub type Place = (String, String);

/// The hash of a record, hexadecimal; none if there is no record.
pub type RecordHash = Option<String>;

/// A log, read up to some entry.
#[derive(Debug, Default)]
pub struct Replay {
    tree: Frontier,
    /// Heads that the log must have had, by size.
    kept: BTreeMap<u64, Vec<Head>>,
    /// An entry was missing, so nothing more can be said of the tree.
    is_broken: bool,
    next: u64,
    /// The entries before this number were removed, and only their hashes are there.
    kept_from: u64,
    /// The same as the log says it.
    declared: u64,
    records: BTreeMap<Place, RecordHash>,
    removed: Vec<Place>,
}

/// What is wrong with a log or with the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Entries are missing between two others, from this number on.
    Missing(u64),
    /// The entry of this number is not as it was appended, or belongs somewhere else.
    Misplaced(u64),
    /// The entries that were there when the log had this size are not those of a head of that size.
    Rewritten(u64),
    /// The log ends before a head that it had: the log's size and the head's.
    Cut(u64, u64),
    /// The log says that its entries were removed before the first number, but they are not there before the second one.
    Undeclared(u64, u64),
    /// A record is not as the log says.
    Record(Place),
    /// The log says that there is a record, but there is none.
    RecordMissing(Place),
    /// The log does not know a record.
    RecordUnknown(Place),
}

impl Replay {
    /// A log that must have had these heads.
    pub fn that_had(heads: impl IntoIterator<Item = Head>) -> Self {
        let mut kept: BTreeMap<u64, Vec<Head>> = BTreeMap::new();
        for head in heads {
            kept.entry(head.size).or_default().push(head);
        }
        Self { kept, ..Self::default() }
    }

    /// The number of the next entry.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The tree over the entries so far.
    pub fn head(&self) -> Head {
        Head { size: self.tree.size(), root: self.tree.root() }
    }

    /// Reads the next entry; returns what is wrong with it.
    pub fn read(&mut self, entry: &Row) -> Vec<Finding> {
        let number = entry.sequence();
        let mut findings = Vec::new();
        if number != self.next && !self.is_broken {
            findings.push(Finding::Missing(self.next));
            self.is_broken = true;
        }
        self.next = number.saturating_add(1);
        match entry.read() {
            Some(read) if read.seq == number => {
                self.declared = self.declared.max(read.cut().unwrap_or(0));
                self.leave(read.records);
            }
            _ => findings.push(Finding::Misplaced(number)),
        }
        if !self.is_broken {
            self.is_broken = self.tree.push(leaf_hash(entry.entry())).is_none();
            findings.extend(self.check_head());
        }
        findings
    }

    /// Reads the hashes of the next entries, which were removed; returns what is wrong with them.
    pub fn skip(&mut self, hashes: &[Hash]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for hash in hashes {
            self.next = self.next.saturating_add(1);
            self.is_broken |= self.tree.push(*hash).is_none();
            findings.extend(self.check_head().filter(|_| !self.is_broken));
        }
        self.kept_from = self.next;
        findings
    }

    /// The number of the first entry that was not removed.
    pub fn kept_from(&self) -> u64 {
        self.kept_from
    }

    /// What is wrong if the log has no more entries.
    pub fn end(&self) -> Vec<Finding> {
        let more = self.kept_from > self.declared;
        let undeclared = more.then_some(Finding::Undeclared(self.declared, self.kept_from));
        let beyond = self.kept.range(self.next.saturating_add(1)..);
        let cut = beyond.map(|(size, _)| Finding::Cut(self.next, *size));
        let empty = self.kept.get(&0).into_iter().flatten();
        let wrong = empty.filter(|head| head.root != Frontier::default().root());
        let wrong = wrong.map(|_| Finding::Rewritten(0));
        cut.chain(wrong).chain(undeclared).collect()
    }

    /// Whether the tree is that of each head of its size.
    fn check_head(&self) -> Option<Finding> {
        let heads = self.kept.get(&self.tree.size())?;
        let root = self.tree.root();
        let is_same = heads.iter().all(|head| head.root == root);
        (!is_same).then(|| Finding::Rewritten(self.tree.size()))
    }

    fn leave(&mut self, records: Vec<BoundRecord>) {
        for BoundRecord { table, key, prefix, sha256 } in records {
            if let Some(key) = key {
                self.records.insert((table.clone(), key), sha256);
            }
            if let Some(prefix) = prefix {
                let place = (table, prefix);
                let removed = self.records.range_mut(place.clone()..);
                removed
                    .take_while(|((of, key), _)| *of == place.0 && key.starts_with(&place.1))
                    .for_each(|(_, hash)| *hash = None);
                self.removed.push(place);
            }
        }
    }

    /// How the log leaves this record; `None` if it does not know it.
    pub fn record(&self, place: &Place) -> Option<&RecordHash> {
        self.records.get(place)
    }

    /// The records that there are according to the log.
    pub fn present(&self) -> impl Iterator<Item = &Place> {
        self.records.iter().filter(|(_, hash)| hash.is_some()).map(|(place, _)| place)
    }

    /// Whether the log may say that this record was removed: it says so of all that begin as this one, and not that this one came
    /// later, or it does not know the record and has entries no more that may have said it.
    pub fn may_have_removed(&self, place: &Place) -> bool {
        let (table, key) = place;
        let said = self.removed.iter().any(|(of, prefix)| of == table && key.starts_with(prefix));
        match self.records.get(place) {
            Some(Some(_)) => false,
            Some(None) => true,
            None => said || self.kept_from > 0,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(number) => write!(f, "entry {number} is missing"),
            Self::Misplaced(number) => {
                write!(f, "entry {number} was changed, or is another one")
            }
            Self::Rewritten(size) => write!(
                f,
                "the first {size} entries are not those that the head was made from: an entry was changed, removed, inserted or moved, or \
                 another authority with this ID has signed it"
            ),
            Self::Cut(size, kept) => write!(
                f,
                "the log has size {size}, but had size {kept}: its end was cut off, or the store is an older one"
            ),
            Self::Undeclared(declared, found) => write!(
                f,
                "the entries {declared} to {} were removed, but not by the retention: the log does not say so",
                found.saturating_sub(1)
            ),
            Self::Record((table, key)) => {
                write!(
                    f,
                    "{table} {key:?} is not as the log says: it was changed, or is an older one"
                )
            }
            Self::RecordMissing((table, key)) => {
                write!(
                    f,
                    "{table} {key:?} is missing, but the log does not say that it was removed"
                )
            }
            Self::RecordUnknown((table, key)) => {
                write!(
                    f,
                    "{table} {key:?} is there, but the log does not know it or says that it was removed"
                )
            }
        }
    }
}

/// The root as heads have it.
pub fn shown_root(head: &Head) -> String {
    Base64::encode_string(&head.root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(events: &[&str]) -> Vec<Row> {
        let number = |(number, event): (u64, &&str)| {
            Row::new(number, format!("{{\"seq\":{number},{event}}}").into())
        };
        (0..).zip(events).map(number).collect()
    }

    fn read(replay: &mut Replay, log: &[Row]) -> Vec<Finding> {
        let mut findings: Vec<_> = log.iter().flat_map(|row| replay.read(row)).collect();
        findings.extend(replay.end());
        findings
    }

    const EVENTS: [&str; 5] = [
        r#""records":[{"table":"bots","key":"a","sha256":"01"},{"table":"instances","key":"a/1","sha256":"02"}]"#,
        r#""records":[{"table":"instances","key":"ab/1","sha256":"03"}]"#,
        r#""records":[{"table":"bots","key":"a","sha256":"04"}]"#,
        r#""records":[{"table":"bots","key":"a","sha256":null},{"table":"instances","prefix":"a/","sha256":null}]"#,
        r#""event":"x""#,
    ];

    /// The heads that the log has had, of all sizes.
    fn heads() -> Vec<Head> {
        let mut replay = Replay::default();
        let mut heads = vec![replay.head()];
        for row in log(&EVENTS) {
            replay.read(&row);
            heads.push(replay.head());
        }
        heads
    }

    #[test]
    fn log_leaves_the_records_as_its_last_entries_say() {
        let mut replay = Replay::that_had(heads());
        assert_eq!(read(&mut replay, &log(&EVENTS[..3])), [Finding::Cut(3, 4), Finding::Cut(3, 5)]);
        let place = |table: &str, key: &str| (table.to_owned(), key.to_owned());
        assert_eq!(replay.record(&place("bots", "a")), Some(&Some("04".into())));
        assert_eq!(replay.record(&place("bots", "b")), None);
        assert_eq!(replay.present().count(), 3);
        assert_eq!(read(&mut replay, &log(&EVENTS)[3..]), []);
        let present: Vec<_> = replay.present().collect();
        assert_eq!(present, [&place("instances", "ab/1")]);
        assert_eq!(replay.record(&place("instances", "a/1")), Some(&None));
        assert!(replay.may_have_removed(&place("instances", "a/7")));
        assert!(!replay.may_have_removed(&place("instances", "ab/1")));
    }

    #[test]
    fn each_change_of_a_log_is_noticed_by_its_head() {
        let head = heads().pop().unwrap();
        let changed = |change: &dyn Fn(&mut Vec<Row>)| {
            let mut rows = log(&EVENTS);
            change(&mut rows);
            read(&mut Replay::that_had([head]), &rows)
        };
        let renumbered = |rows: Vec<Row>| {
            let line = |(number, row): (u64, Row)| Row::new(number, row.entry().to_vec());
            (0..).zip(rows).map(line).collect::<Vec<_>>()
        };
        assert_eq!(changed(&|_| {}), []);
        let text = |rows: &mut Vec<Row>| {
            let line = String::from_utf8(rows[2].entry().to_vec()).unwrap().replace("04", "05");
            rows[2] = Row::new(2, line.into());
        };
        assert_eq!(changed(&text), [Finding::Rewritten(5)]);
        let removed = changed(&|rows| drop(rows.remove(2)));
        assert_eq!(removed, [Finding::Missing(2)]);
        let closed = changed(&|rows| {
            rows.remove(2);
            *rows = renumbered(std::mem::take(rows));
        });
        assert_eq!(closed, [Finding::Misplaced(2), Finding::Misplaced(3), Finding::Cut(4, 5)]);
        let inserted = changed(&|rows| {
            rows.insert(2, Row::new(2, br#"{"seq":2}"#.into()));
            *rows = renumbered(std::mem::take(rows));
        });
        assert!(inserted.contains(&Finding::Rewritten(5)), "{inserted:?}");
        let reordered = changed(&|rows| {
            rows.swap(1, 2);
            *rows = renumbered(std::mem::take(rows));
        });
        assert!(reordered.contains(&Finding::Misplaced(1)), "{reordered:?}");
        // All of it again with other numbers in the entries, as one would who can compute hashes.
        let rewritten =
            changed(&|rows| *rows = log(&[EVENTS[0], EVENTS[2], EVENTS[1], EVENTS[3], EVENTS[4]]));
        assert_eq!(rewritten, [Finding::Rewritten(5)]);
        let cut = changed(&|rows| rows.truncate(4));
        assert_eq!(cut, [Finding::Cut(4, 5)]);
        assert_eq!(changed(&Vec::clear), [Finding::Cut(0, 5)]);
        let extended = changed(&|rows| rows.push(Row::new(5, br#"{"seq":5}"#.into())));
        assert_eq!(extended, [], "a later log has it as well");
    }
}
