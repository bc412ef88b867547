//! The file of the audit log: lines are appended whole, whoever else moves, replaces or shortens it.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::warn;

use super::Event;
use crate::folder;

/// A log that appends whole lines and never changes what is in the file already.
pub struct AuditLog {
    path: PathBuf,
    lines: Mutex<Lines>,
    recreated: Arc<AtomicU64>,
}

struct Lines {
    /// Open with O_APPEND, so that no position goes stale when others shorten or extend the file.
    file: File,
    /// Whether the last write ended its line. If not, the next one ends it first.
    whole: bool,
    /// Why the last line could not be written, if so.
    failure: Option<String>,
}

impl AuditLog {
    /// Opens the log, or creates one. A line that a crash has left unfinished is ended.
    pub fn open(path: &Path) -> io::Result<Self> {
        let lines = Mutex::new(Lines::open(path)?);
        Ok(Self { path: path.to_owned(), lines, recreated: Arc::default() })
    }

    /// Opens the log again, after it was moved away. If that fails, the old one is kept.
    pub fn reopen(&self) -> io::Result<()> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        *lines = Lines::open(&self.path)?;
        Ok(())
    }

    /// Appends an event.
    pub fn write(&self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.follow(&mut lines).and_then(|()| lines.append(&line));
        lines.failure = written.as_ref().err().map(ToString::to_string);
        written
    }

    /// Whether there is more room on the disk than what is kept for granted lines: a tenth of the
    /// disk, 64 MiB at most.
    pub fn has_reserve(&self) -> io::Result<bool> {
        const RESERVE: u64 = 64 * 1024 * 1024;
        let disk = rustix::fs::statvfs(self.path.parent().unwrap_or(&self.path))?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(bytes(disk.f_bavail) >= RESERVE.min(bytes(disk.f_blocks) / 10))
    }

    /// Whether lines can be written. After a failure, possibly nobody calls any more who causes a
    /// line, so this tries a write of its own.
    pub fn writable(&self) -> Result<(), String> {
        /// Empty lines, together as long as a long event: readers skip them.
        const TRIAL: [u8; 4096] = [b'\n'; 4096];
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.failure.is_some() {
            let tried = self.follow(&mut lines).and_then(|()| lines.append(&TRIAL));
            lines.failure = tried.err().map(|cause| cause.to_string());
        }
        lines.failure.clone().map_or(Ok(()), Err)
    }

    /// Counts how often the file was created again because somebody removed or replaced it.
    pub(crate) fn recreated(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.recreated)
    }

    /// Opens the file under the log's path if it is no longer the open one: lines in a file
    /// without a name are lost, and nobody would notice.
    fn follow(&self, lines: &mut Lines) -> io::Result<()> {
        let open = lines.file.metadata()?;
        let current = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => Some(metadata),
            Err(cause) if cause.kind() == ErrorKind::NotFound => None,
            Err(cause) => return Err(cause),
        };
        if current.is_some_and(|current| same_file(&current, &open)) {
            return Ok(());
        }
        *lines = Lines::open(&self.path)?;
        if open.nlink() == 0 {
            self.recreated.fetch_add(1, Ordering::Relaxed);
            let path = self.path.display();
            warn!(%path, "the audit log was removed or replaced; its earlier lines are gone");
        }
        Ok(())
    }
}

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        Self::over(folder::open_own(path, folder::private().create(true).append(true))?)
    }

    fn over(file: File) -> io::Result<Self> {
        let mut last = [0];
        let whole = match file.metadata()?.len().checked_sub(1) {
            None => true,
            Some(end) => file.read_at(&mut last, end)? == 0 || last == *b"\n",
        };
        let mut lines = Self { file, whole, failure: None };
        if !lines.whole {
            lines.append(b"")?;
        }
        Ok(lines)
    }

    /// Appends whole lines. A part that stays after an error is ended before the next line.
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let text = if self.whole { text.to_vec() } else { [b"\n", text].concat() };
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.whole = rest.get(..written).is_some_and(|part| part.ends_with(b"\n"));
                    rest = rest.get(written..).unwrap_or_default();
                }
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
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
    use time::macros::datetime;

    const TIME: Timestamp = Timestamp(datetime!(2026-06-01 12:00 UTC));

    fn event(reason: &str) -> Event {
        let attempt = Attempt { token_name: Some("t".into()), ..Attempt::default() };
        Event::refused(Action::Join, TIME, attempt, "token_unknown", reason)
    }

    #[test]
    fn a_line_for_each_event_whatever_the_network_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let log = AuditLog::open(&path).unwrap();
        log.write(&event("\n{\"outcome\":\"granted\"}\u{1b}[2J")).unwrap();
        log.write(&event(&"x".repeat(10_000))).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains('\u{1b}') && text.len() < 2000, "{text}");
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
        let lines = Mutex::new(Lines::over(full).unwrap());
        let log = AuditLog { path: path.into(), lines, recreated: Arc::default() };
        log.writable().unwrap();
        log.write(&event("why")).unwrap_err();
        assert!(log.writable().unwrap_err().contains("No space left"));
    }

    #[test]
    fn log_that_recovers_has_the_same_events() {
        let (_dir, path, log) = log();
        log.write(&event("one")).unwrap();
        log.lines.lock().unwrap().failure = Some("No space left".into());
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
        assert_eq!(log.recreated().load(Ordering::Relaxed), 0, "nothing was lost");
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
        assert_eq!(log.recreated().load(Ordering::Relaxed), 2);
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
            let mut lines = log.lines.lock().unwrap();
            lines.append(b"{\"part of").unwrap();
            assert!(!lines.whole);
        }
        log.write(&event("two")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"part of\n{"), "{text}");
        assert_eq!(reasons(&path), ["two"]);
    }

    #[test]
    fn reopening_while_lines_are_written_loses_and_tears_none() {
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
