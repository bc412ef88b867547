//! The audit log: one line of JSON for every join, renewal and issue, granted or refused, and for
//! every call that was refused to say who calls.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::folder;
use crate::resource::{EkHash, Name, Serial, Timestamp};

/// What the log tells. Everything that the network said is bounded, and JSON escapes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Event {
    /// When it ended.
    pub time: Timestamp,
    /// Which event.
    pub event: &'static str,
    /// Its code: Teleport's for a join, our own for what Teleport does otherwise.
    pub code: &'static str,
    /// Granted or refused.
    pub outcome: Outcome,
    /// The stable code of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<&'static str>,
    /// How many more of the kind there were, if it stands for those that were counted only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more: Option<u64>,
    /// The cause of a refusal, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was proven and what was said.
    #[serde(flatten)]
    pub attempt: Attempt,
    /// How hosts prove themselves.
    pub method: &'static str,
}

/// What somebody wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// To join.
    Join,
    /// New certificates for the key that joined.
    Renew,
    /// Certificates for another key.
    Issue,
    /// To know who it is; only a refusal is told.
    WhoAmI,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Join, Self::Renew, Self::Issue, Self::WhoAmI];

    /// What the event is called.
    pub fn event(self) -> &'static str {
        match self {
            Self::Join => "bot.join",
            Self::Renew => "bot.renew",
            Self::Issue => "bot.issue",
            Self::WhoAmI => "bot.whoami",
        }
    }

    fn code(self, outcome: Outcome) -> &'static str {
        match (self, outcome) {
            (Self::Join, Outcome::Granted) => "TJ001I",
            (Self::Join, Outcome::Refused) => "TJ001E",
            (Self::Renew, Outcome::Granted) => "EN001I",
            (Self::Renew, Outcome::Refused) => "EN001E",
            (Self::Issue, Outcome::Granted) => "EN002I",
            (Self::Issue, Outcome::Refused) => "EN002E",
            (Self::WhoAmI, Outcome::Granted) => "EN003I",
            (Self::WhoAmI, Outcome::Refused) => "EN003E",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// With certificates.
    Granted,
    /// Without.
    Refused,
}

/// What is known of it, as far as it came.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Attempt {
    /// The token that was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_name: Option<String>,
    /// The bot of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bot_name: Option<Name>,
    /// The instance that the join made, or that calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bot_instance_id: Option<String>,
    /// Counts the join and the renewals of the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// What the agent calls the service that a certificate is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The EK that was presented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ek_pub_hash: Option<EkHash>,
    /// The serial number of its certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ek_cert_serial: Option<Serial>,
    /// True only if the certificate chains to a CA that the token names.
    pub ek_cert_verified: bool,
    /// True only if the TPM with this EK answered.
    pub ek_proven: bool,
    /// Where the connection comes from.
    #[serde(rename = "addr.remote", skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// What the host calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// What the agent calls its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// The serial number of the certificate that was issued.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_serial: Option<String>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<Timestamp>,
}

/// A text from the network, cut to 255 bytes as they stand in a log: JSON writes a control
/// character in six.
pub fn bounded(text: &str) -> Option<String> {
    const MAX: usize = 255;
    let mut length = 0;
    let fits = |character: &char| {
        length += match character {
            '"' | '\\' => 2,
            control if control.is_control() => 6,
            character => character.len_utf8(),
        };
        length <= MAX
    };
    (!text.is_empty()).then(|| text.chars().take_while(fits).collect())
}

impl Event {
    /// What was granted.
    pub fn granted(action: Action, time: Timestamp, attempt: Attempt) -> Self {
        Self::new(action, time, Outcome::Granted, attempt)
    }

    /// What was refused.
    pub fn refused(
        action: Action,
        time: Timestamp,
        attempt: Attempt,
        code: &'static str,
        reason: &str,
    ) -> Self {
        Self {
            refusal: Some(code),
            reason: bounded(reason),
            ..Self::new(action, time, Outcome::Refused, attempt)
        }
    }

    fn new(action: Action, time: Timestamp, outcome: Outcome, attempt: Attempt) -> Self {
        let (event, code, method) = (action.event(), action.code(outcome), "tpm");
        Self {
            time,
            event,
            code,
            outcome,
            refusal: None,
            more: None,
            reason: None,
            attempt,
            method,
        }
    }
}

/// A log that holds whole lines and nothing else.
pub struct AuditLog {
    path: PathBuf,
    lines: Mutex<Lines>,
}

struct Lines {
    file: File,
    /// The end of the last whole line.
    end: u64,
    /// Why the last line could not be written, if so.
    failure: Option<String>,
}

impl AuditLog {
    /// Opens the log, or begins one. A line that a crash has left unfinished is ended.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), lines: Mutex::new(Lines::open(path)?) })
    }

    /// Opens the log again, after it was moved away. If that fails, the old one is kept.
    pub fn reopen(&self) -> io::Result<()> {
        // Under the lock: a line written after the new length was read would be cut off.
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        *lines = Lines::open(&self.path)?;
        Ok(())
    }

    /// Writes an event. If it cannot be written whole, nothing of it stays.
    pub fn write(&self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).append(&line)
    }

    /// Whether there is more room on the disk than what is kept for granted lines: a tenth of the
    /// disk, 64 MiB at most.
    pub fn has_reserve(&self) -> io::Result<bool> {
        const RESERVE: u64 = 64 * 1024 * 1024;
        let disk = rustix::fs::statvfs(self.path.parent().unwrap_or(&self.path))?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(bytes(disk.f_bavail) >= RESERVE.min(bytes(disk.f_blocks) / 10))
    }

    /// Whether lines can be written. After one could not, nobody may come any more who causes one,
    /// so it is tried again, and taken back.
    pub fn writable(&self) -> Result<(), String> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.failure.is_some() {
            lines.try_again();
        }
        lines.failure.clone().map_or(Ok(()), Err)
    }
}

impl Lines {
    fn open(path: &Path) -> io::Result<Self> {
        Self::over(folder::open_own(path, folder::private().create(true).truncate(false))?)
    }

    fn over(file: File) -> io::Result<Self> {
        let mut end = file.metadata()?.len();
        let mut last = [0];
        if end > 0 && file.read_at(&mut last, end - 1)? == 1 && last != *b"\n" {
            file.write_all_at(b"\n", end)?;
            end += 1;
        }
        Ok(Self { file, end, failure: None })
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let written = self.write(line);
        self.failure = written.as_ref().err().map(ToString::to_string);
        self.end += written.map(|()| line.len() as u64)?;
        Ok(())
    }

    /// Empty lines, as long together as a long line: should they stay, they are no events.
    fn try_again(&mut self) {
        const TRIAL: [u8; 4096] = [b'\n'; 4096];
        let tried = self.write(&TRIAL).and_then(|()| self.file.set_len(self.end));
        self.failure = tried.err().map(|cause| cause.to_string());
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        // The file may have been shortened by who rotates logs, or kept the part of a line that
        // could not be removed.
        let length = self.file.metadata()?.len();
        if length < self.end {
            self.end = length;
        } else if length > self.end {
            self.file.set_len(self.end)?;
        }
        self.file.write_all_at(line, self.end).and_then(|()| self.file.flush()).inspect_err(|_| {
            // If even that fails, the next event tries again before it writes.
            let _ = self.file.set_len(self.end);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};
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
    fn text_is_bounded_as_it_stands_in_the_log() {
        for hostile in ["\u{1}", "\"", "\u{7f}", "\u{9b}", "\\", "x", "ü", "\u{1f512}"] {
            let text = bounded(&hostile.repeat(10_000)).unwrap();
            let json = serde_json::to_string(&text).unwrap();
            assert!(
                (240..=257).contains(&json.len()) || hostile == "\u{7f}" || hostile == "\u{9b}"
            );
            assert!(json.len() <= 257, "{}", json.len());
        }
        assert_eq!(bounded(""), None);
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

    #[test]
    fn what_cannot_be_written_is_an_error() {
        let full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        let log =
            AuditLog { path: "/dev/full".into(), lines: Mutex::new(Lines::over(full).unwrap()) };
        log.writable().unwrap();
        log.write(&event("why")).unwrap_err();
        assert!(log.writable().unwrap_err().contains("No space left"));
    }

    #[test]
    fn a_log_that_can_be_written_again_is_well_and_unchanged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let log = AuditLog::open(&path).unwrap();
        log.write(&event("one")).unwrap();
        let before = fs::read(&path).unwrap();
        log.lines.lock().unwrap().failure = Some("No space left".into());
        log.writable().unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn a_log_that_was_moved_away_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("audit.jsonl"), dir.path().join("audit.jsonl.1"));
        let log = AuditLog::open(&path).unwrap();
        log.write(&event("one")).unwrap();
        fs::rename(&path, &old).unwrap();
        log.write(&event("two")).unwrap();
        log.reopen().unwrap();
        log.write(&event("three")).unwrap();
        assert_eq!(fs::read_to_string(&old).unwrap().lines().count(), 2);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_part_of_a_line_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let log = AuditLog::open(&path).unwrap();
        log.write(&event("one")).unwrap();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [whole.as_slice(), b"{\"part of"].concat()).unwrap();
        log.write(&event("two")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
        fs::write(&path, "").unwrap();
        log.write(&event("after rotation")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
    }
}
