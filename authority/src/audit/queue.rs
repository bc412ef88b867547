//! Entries of the log between the store and the file: committed, then in the file, then on disk there.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Row;

/// Rows that may wait until they are on disk in the file: more than a busy authority grants in some
/// minutes, and some 8 MB in memory and in the store.
pub(super) const MAX_WAITING: usize = 10_000;

/// How much of the file's end is compared with the rows that a crash has left in the store: more
/// than is written until lines are on disk and their rows removed.
const TAIL: u64 = 16 * 1024 * 1024;

/// What is counted of the audit log.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// How often the file was created again because it was removed or replaced.
    pub(crate) recreated: AtomicU64,
    /// Rows that wait for the file.
    pub(crate) waiting: AtomicU64,
}

/// Entries that are not known to be on disk in the file, in their order.
#[derive(Default)]
pub(super) struct Queue {
    /// Not in the file yet, or not known to be.
    waiting: VecDeque<Row>,
    /// In the file, but a loss of power may take the line away.
    written: Vec<Row>,
    /// The first of those that are being synchronized, for each who does so.
    synchronizing: BTreeSet<u64>,
    /// The number of the entry after the last one.
    next: u64,
}

impl Queue {
    pub(super) fn push(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            self.next = row.sequence().saturating_add(1);
            if row.is_line() {
                self.waiting.push_back(row);
            }
        }
    }

    /// The number of the first entry that is not known to be on disk in the file.
    pub(super) fn cursor(&self) -> u64 {
        let first = |row: Option<&Row>| row.map(Row::sequence);
        let waiting = first(self.waiting.front());
        let unknown = [waiting, first(self.written.first()), self.synchronizing.first().copied()];
        unknown.into_iter().flatten().min().unwrap_or(self.next)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many rows are not known to be on disk in the file.
    pub(super) fn unsynchronized(&self) -> usize {
        self.waiting.len().saturating_add(self.written.len())
    }

    pub(super) fn written(&self) -> usize {
        self.written.len()
    }

    /// Gives each row that waits to `append`, until one fails.
    pub(super) fn drain(
        &mut self,
        mut append: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while let Some(row) = self.waiting.front() {
            append(row.entry())?;
            self.written.extend(self.waiting.pop_front());
        }
        Ok(())
    }

    /// Rows whose lines are to be synchronized. They are given back by [`Self::synchronized`].
    pub(super) fn take_written(&mut self) -> Vec<Row> {
        self.synchronizing.extend(self.written.first().map(Row::sequence));
        std::mem::take(&mut self.written)
    }

    /// What became of the lines of these rows. Where they may be lost, they are written again.
    pub(super) fn synchronized(&mut self, rows: Vec<Row>, result: &io::Result<()>) {
        if let Some(first) = rows.first() {
            self.synchronizing.remove(&first.sequence());
        }
        if result.is_err() {
            rows.into_iter().rev().for_each(|row| self.waiting.push_front(row));
        }
    }

    /// Takes over the entries of the log of which a former process did not know that they are on disk in the file. Those whose lines
    /// are at its end do not wait for it.
    pub(super) fn recover(&mut self, mut rows: Vec<Row>, file: &File) {
        self.next = rows.last().map_or(self.next, |row| row.sequence().saturating_add(1));
        rows.retain(Row::is_line);
        let mut missing: BTreeSet<_> = rows.iter().map(|row| row.entry().to_owned()).collect();
        // Lines that cannot be compared are written again: a repeated line is better than a missing one.
        let _ = remove_present(&mut missing, file);
        let (missing, written): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| missing.contains(row.entry()));
        self.waiting.extend(missing);
        self.written.extend(written);
    }
}

/// Removes the lines that are at the end of the file.
fn remove_present(lines: &mut BTreeSet<Vec<u8>>, mut file: &File) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    // As much as there is, also of a device that never ends.
    for line in BufReader::new(file.take(length.min(TAIL))).split(b'\n') {
        lines.remove(line?.as_slice());
    }
    Ok(())
}

impl Counts {
    pub(super) fn set_waiting(&self, rows: usize) {
        self.waiting.store(rows as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(names: &[&str]) -> Vec<Row> {
        rows_from(0, names)
    }

    fn rows_from(first: u64, names: &[&str]) -> Vec<Row> {
        (first..)
            .zip(names)
            .map(|(number, name)| Row::new(number, format!("{{{name}}}").into()))
            .collect()
    }

    fn drained(queue: &mut Queue) -> Vec<String> {
        let mut lines = Vec::new();
        let append = |line: &[u8]| {
            lines.push(String::from_utf8(line.to_vec()).unwrap().replace(['{', '}'], ""));
            Ok(())
        };
        queue.drain(append).unwrap();
        lines
    }

    #[test]
    fn row_waits_until_its_line_is_appended_and_is_kept_until_that_is_on_disk() {
        let mut queue = Queue::default();
        queue.push(rows(&["one", "two"]));
        queue.drain(|_| Err(io::ErrorKind::StorageFull.into())).unwrap_err();
        assert_eq!((queue.waiting(), queue.written()), (2, 0));
        assert_eq!(drained(&mut queue), ["one", "two"]);
        assert_eq!((queue.waiting(), queue.written(), queue.cursor()), (0, 2, 0));
        let written = queue.take_written();
        assert_eq!(queue.cursor(), 0, "not yet");
        queue.synchronized(written, &Ok(()));
        assert_eq!(queue.cursor(), 2);
    }

    #[test]
    fn lines_that_could_not_be_synchronized_are_written_again_in_their_order() {
        let mut queue = Queue::default();
        queue.push(rows(&["one", "two"]));
        drained(&mut queue);
        let written = queue.take_written();
        queue.push(rows_from(2, &["three"]));
        queue.synchronized(written, &Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(drained(&mut queue), ["one", "two", "three"]);
        assert_eq!(queue.cursor(), 0);
    }

    #[test]
    fn later_lines_that_are_on_disk_first_do_not_move_the_cursor() {
        let mut queue = Queue::default();
        queue.push(rows(&["one", "two"]));
        drained(&mut queue);
        let first = queue.take_written();
        queue.push(rows_from(2, &["three"]));
        drained(&mut queue);
        let second = queue.take_written();
        queue.synchronized(second, &Ok(()));
        assert_eq!(queue.cursor(), 0);
        queue.synchronized(first, &Ok(()));
        assert_eq!(queue.cursor(), 3);
    }

    #[test]
    fn recovered_row_waits_only_if_its_line_is_not_in_the_file() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"{one}\n{two}\n{part of\n{four}").unwrap();
        let mut queue = Queue::default();
        queue.recover(rows(&["one", "part of three", "two"]), &file);
        assert_eq!((queue.waiting(), queue.written()), (1, 2));
        assert_eq!(drained(&mut queue), ["part of three"]);
        let endless = File::open("/dev/zero").unwrap();
        assert_eq!(queue.cursor(), 0);
        queue.recover(rows_from(3, &["five"]), &endless);
        assert_eq!(drained(&mut queue), ["five"]);
        let written = queue.take_written();
        queue.synchronized(written, &Ok(()));
        assert_eq!(queue.cursor(), 4);
    }
}
