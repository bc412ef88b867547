//! The file of the audit log: lines are appended whole, even if others move, replace or shorten it.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::lines::{Lines, sync};
use super::queue::{Counts, MAX_WAITING, Queue};
use super::row::line;
use super::{Event, Row};

/// With this many lines waiting, the file is synchronized at once.
const MANY_WRITTEN: usize = 1000;

/// A log that appends whole lines and never changes existing ones.
pub struct AuditLog {
    path: PathBuf,
    state: Mutex<State>,
    counts: Arc<Counts>,
    max_waiting: usize,
    many_written: Notify,
}

struct State {
    lines: Lines,
    queue: Queue,
    /// Why the last line could not be written, if so.
    failure: Option<String>,
}

impl AuditLog {
    /// Opens the log, or creates one. A line that a crash has left unfinished is ended.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::over(path, Lines::open(path)?))
    }

    fn over(path: &Path, lines: Lines) -> Self {
        Self {
            path: path.to_owned(),
            state: Mutex::new(State { lines, queue: Queue::default(), failure: None }),
            counts: Arc::default(),
            max_waiting: MAX_WAITING,
            many_written: Notify::new(),
        }
    }

    /// With room for as many rows that are not on disk in the file.
    #[must_use]
    pub fn with_max_waiting(self, rows: usize) -> Self {
        Self { max_waiting: rows, ..self }
    }

    /// Opens the log again, after it was moved away. If that fails, the old one is kept.
    pub fn reopen(&self) -> io::Result<()> {
        let mut state = self.state();
        let lines = Lines::open(&self.path)?;
        state.switch_to(lines);
        Ok(())
    }

    /// Appends an event that is not in the store.
    pub fn write(&self, event: &Event) -> io::Result<()> {
        let line = line(event)?;
        self.append(|state| state.lines.append_line(&line))
    }

    /// Appends entries of the log. If the file fails they wait for it, which is logged.
    pub(crate) fn publish(&self, rows: Vec<Row>) {
        let written = self.append(|state| {
            state.queue.push(rows);
            Ok(())
        });
        if written.is_ok() && self.state().queue.written() >= MANY_WRITTEN {
            self.many_written.notify_one();
        }
    }

    /// Whether a grant may be recorded: not if too many rows wait for the file or for its disk.
    pub(crate) fn check_room(&self) -> Result<(), String> {
        let state = self.state();
        let waiting = state.queue.unsynchronized();
        if waiting < self.max_waiting {
            return Ok(());
        }
        let cause = state.failure.as_deref().unwrap_or("the disk is slow");
        Err(format!("{waiting} events are waiting to be written to the audit log: {cause}"))
    }

    /// Takes over the entries of the log of which a former process did not know that they are on disk in the file.
    pub(crate) fn recover(&self, rows: Vec<Row>) -> io::Result<()> {
        self.append(|state| {
            state.queue.recover(rows, &state.lines.file);
            Ok(())
        })
    }

    /// Returns when there are many lines to synchronize.
    pub(crate) async fn many_written(&self) {
        self.many_written.notified().await;
    }

    /// Writes waiting lines and synchronizes the file. Returns the number of the first entry of the log that is not known to be on
    /// disk in it. Blocks for as long as the disk takes.
    pub(crate) fn synchronize(&self) -> u64 {
        if self.state().queue.unsynchronized() > 0 {
            // Also follows the path, if the file was removed. An error is logged, and tried again the next time.
            let _ = self.append(|_| Ok(()));
        }
        let (file, rows) = {
            let mut state = self.state();
            (Arc::clone(&state.lines.file), state.queue.take_written())
        };
        let synchronized = if rows.is_empty() { Ok(()) } else { sync(&file) };
        let mut state = self.state();
        state.queue.synchronized(rows, &synchronized);
        self.counts.set_waiting(state.queue.waiting());
        if synchronized.is_err() {
            state.note(&synchronized);
        }
        state.queue.cursor()
    }

    /// Whether there is more room on the disk than what is kept for granted lines: a tenth of the
    /// disk, 64 MiB at most.
    pub fn has_reserve(&self) -> io::Result<bool> {
        const RESERVE: u64 = 64 * 1024 * 1024;
        let disk = rustix::fs::statvfs(self.path.parent().unwrap_or(&self.path))?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(bytes(disk.f_bavail) >= RESERVE.min(bytes(disk.f_blocks) / 10))
    }

    /// Whether lines can be written. After a failure, possibly no further call causes a
    /// line, so this tries a write of its own.
    pub fn writable(&self) -> Result<(), String> {
        /// Empty lines, together as long as a long event: readers skip them.
        const TRIAL: [u8; 4096] = [b'\n'; 4096];
        let (failed, waiting) = {
            let state = self.state();
            (state.failure.is_some(), state.queue.waiting())
        };
        if failed {
            // What comes of it is noted.
            let _ = self.append(|state| match waiting {
                0 => state.lines.append(&TRIAL),
                _ => Ok(()),
            });
        }
        self.state().failure.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `more` with the file under the log's path, between the rows that wait already and those
    /// that wait then.
    fn append(&self, more: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        let written = self.follow(&mut state).and_then(|()| state.drain());
        let more = more(&mut state);
        let written = written.and(more).and_then(|()| state.drain());
        self.counts.set_waiting(state.queue.waiting());
        state.note(&written);
        written
    }

    /// Opens the file under the log's path if it is no longer the open one: lines in a file
    /// without a name are lost without notice.
    fn follow(&self, state: &mut State) -> io::Result<()> {
        let open = state.lines.file.metadata()?;
        let current = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => Some(metadata),
            Err(cause) if cause.kind() == ErrorKind::NotFound => None,
            Err(cause) => return Err(cause),
        };
        if current.is_some_and(|current| same_file(&current, &open)) {
            return Ok(());
        }
        let removed = open.nlink() == 0;
        state.switch_to(Lines::open(&self.path)?);
        if removed {
            self.counts.recreated.fetch_add(1, Ordering::Relaxed);
            let path = self.path.display();
            warn!(%path, "the audit log was removed or replaced; its earlier lines are gone");
        }
        Ok(())
    }
}

impl State {
    fn drain(&mut self) -> io::Result<()> {
        let lines = &mut self.lines;
        self.queue.drain(|line| lines.append_line(line))
    }

    /// Continues in another file. Rows of the previous file that are not known to be on disk stay with it, or, if it was
    /// removed, are appended to the new one.
    fn switch_to(&mut self, lines: Lines) {
        let former = std::mem::replace(&mut self.lines, lines);
        let rows = self.queue.take_written();
        if !rows.is_empty() {
            self.queue.synchronized(rows, &sync(&former.file));
        }
    }

    /// Remembers a failure, and logs when one begins or ends.
    fn note(&mut self, written: &io::Result<()>) {
        let failure = written.as_ref().err().map(ToString::to_string);
        match (&self.failure, &failure) {
            (None, Some(cause)) => {
                error!(
                    cause,
                    "the audit log cannot be written; granted events are kept in the store"
                );
            }
            (Some(_), None) => info!("the audit log can be written again"),
            _ => {}
        }
        self.failure = failure;
    }
}

fn same_file(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Action, Attempt};
    use crate::resource::Timestamp;
    use std::fs::OpenOptions;
    use std::io::Write;
    use time::macros::datetime;

    const TIME: Timestamp = Timestamp(datetime!(2026-06-01 12:00 UTC));

    fn event(reason: &str) -> Event {
        let attempt = Attempt { token_name: Some("t".into()), ..Attempt::default() };
        Event::refused(Action::Join, TIME, attempt, "token_unknown", reason)
    }

    fn row(sequence: u64, reason: &str) -> Row {
        Row::new(sequence, event(reason).entry().unwrap())
    }

    #[test]
    fn a_line_for_each_event_whatever_the_network_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let log = AuditLog::open(&path).unwrap();
        log.write(&event("\n{\"outcome\":\"granted\"}\u{1b}[2J\u{202e}\u{e0041}")).unwrap();
        log.write(&event(&"x".repeat(10_000))).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(text.len() < 2000, "{text}");
        assert!(text.lines().flat_map(str::chars).all(host::terminal::is_printable), "{text}");
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["outcome"], "refused");
        assert_eq!(first["code"], "TJ001E");
        assert_eq!(first["time"], "2026-06-01T12:00:00Z");
        assert_eq!(first["token_name"], "t");
    }

    #[test]
    fn a_line_that_a_crash_left_unfinished_does_not_swallow_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        fs::write(&path, "{\"half").unwrap();
        AuditLog::open(&path).unwrap().write(&event("why")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"half\n{") && text.ends_with("}\n"), "{text}");
    }

    fn log() -> (tempfile::TempDir, PathBuf, AuditLog) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let log = AuditLog::open(&path).unwrap();
        (dir, path, log)
    }

    /// The reasons of all lines that are events.
    fn reasons(path: &Path) -> Vec<String> {
        let reason = |line: &str| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            Some(event["reason"].as_str()?.to_owned())
        };
        fs::read_to_string(path).unwrap().lines().filter_map(reason).collect()
    }

    #[test]
    fn failed_write_is_an_error() {
        let path = Path::new("/dev/full");
        let full = OpenOptions::new().read(true).append(true).open(path).unwrap();
        let log = AuditLog::over(path, Lines::over(full).unwrap());
        log.writable().unwrap();
        log.write(&event("why")).unwrap_err();
        assert!(log.writable().unwrap_err().contains("No space left"));
    }

    #[test]
    fn log_that_recovers_has_the_same_events() {
        let (_dir, path, log) = log();
        log.write(&event("one")).unwrap();
        log.state().failure = Some("No space left".into());
        log.writable().unwrap();
        log.writable().unwrap();
        assert_eq!(reasons(&path), ["one"]);
        assert!(fs::metadata(&path).unwrap().len() < 5000, "tried once");
    }

    #[test]
    fn moved_log_is_left_and_a_new_file_begins() {
        let (dir, path, log) = log();
        let old = dir.path().join("audit.jsonl.1");
        log.write(&event("one")).unwrap();
        fs::rename(&path, &old).unwrap();
        log.write(&event("two")).unwrap();
        log.reopen().unwrap();
        log.write(&event("three")).unwrap();
        assert_eq!(reasons(&old), ["one"]);
        assert_eq!(reasons(&path), ["two", "three"]);
        assert_eq!(log.counts().recreated.load(Ordering::Relaxed), 0, "nothing was lost");
    }

    #[test]
    fn removed_or_replaced_log_is_created_again_and_counted() {
        let (dir, path, log) = log();
        log.write(&event("one")).unwrap();
        fs::remove_file(&path).unwrap();
        log.write(&event("two")).unwrap();
        assert_eq!(reasons(&path), ["two"]);
        let other = dir.path().join("other");
        fs::write(&other, "{\"half").unwrap();
        fs::rename(&other, &path).unwrap();
        log.write(&event("three")).unwrap();
        assert_eq!(reasons(&path), ["three"]);
        assert_eq!(log.counts().recreated.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn lines_of_a_removed_log_that_were_not_on_disk_are_written_again() {
        let (dir, path, log) = log();
        log.publish(vec![row(0, "on disk")]);
        assert_eq!(log.synchronize(), 1);
        log.publish(vec![row(1, "one"), row(2, "two")]);
        fs::remove_file(&path).unwrap();
        log.publish(vec![row(3, "three")]);
        assert_eq!(reasons(&path), ["one", "two", "three"]);
        fs::rename(&path, dir.path().join("audit.jsonl.1")).unwrap();
        log.publish(vec![row(4, "four")]);
        assert_eq!(reasons(&path), ["four"], "the moved file has the others");
        assert_eq!(log.synchronize(), 5);
    }

    #[test]
    fn log_that_is_not_a_regular_file_fails_to_synchronize() {
        let null = Path::new("/dev/null");
        let file = OpenOptions::new().read(true).append(true).open(null).unwrap();
        let log = AuditLog::over(null, Lines::over(file).unwrap());
        log.publish(vec![row(0, "nowhere")]);
        assert!(log.synchronize() == 0 && log.state().failure.is_some());

        let (_dir, path, log) = self::log();
        log.publish(vec![row(0, "one")]);
        fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        log.publish(vec![row(1, "two")]);
        assert_eq!(log.synchronize(), 0);
        assert!(log.writable().unwrap_err().contains("it is not a regular file"));
        fs::remove_file(&path).unwrap();
        log.writable().unwrap();
        assert_eq!(log.synchronize(), 2);
        assert_eq!(reasons(&path), ["one", "two"]);
    }

    #[test]
    fn lines_of_others_and_truncation_do_no_harm() {
        let (_dir, path, log) = log();
        log.write(&event("one")).unwrap();
        let mut other = OpenOptions::new().append(true).open(&path).unwrap();
        other.write_all(b"{\"reason\":\"of another\"}\n").unwrap();
        log.write(&event("two")).unwrap();
        assert_eq!(reasons(&path), ["one", "of another", "two"]);
        fs::write(&path, "").unwrap();
        log.write(&event("three")).unwrap();
        assert_eq!(reasons(&path), ["three"]);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn torn_line_is_ended_before_the_next_one() {
        let (_dir, path, log) = log();
        {
            let mut state = log.state();
            state.lines.append(b"{\"part of").unwrap();
            assert!(!state.lines.whole);
        }
        log.write(&event("two")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"part of\n{"), "{text}");
        assert_eq!(reasons(&path), ["two"]);
    }

    #[test]
    fn reopening_while_lines_are_written_loses_no_line() {
        let (_dir, path, log) = log();
        std::thread::scope(|scope| {
            let writers = [0; 4]
                .map(|_| scope.spawn(|| (0..500).for_each(|_| log.write(&event("line")).unwrap())));
            while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                log.reopen().unwrap();
            }
        });
        assert_eq!(reasons(&path).len(), 2000);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2000);
    }
}
