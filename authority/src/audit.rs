//! The audit log: one line of JSON for every join, granted or refused.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::folder;
use crate::resource::{EkHash, Name, Serial, Timestamp};

/// What the log tells of a join. Everything that the network said is bounded, and JSON escapes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JoinEvent {
    /// When the join ended.
    pub time: Timestamp,
    /// Which event: a bot's join.
    pub event: &'static str,
    /// Teleport's code of it.
    pub code: &'static str,
    /// Granted or refused.
    pub outcome: Outcome,
    /// The stable code of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<&'static str>,
    /// The cause of a refusal, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What was proven and what was said.
    #[serde(flatten)]
    pub attempt: Attempt,
    /// How hosts prove themselves.
    pub method: &'static str,
}

/// How a join ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// With certificates.
    Granted,
    /// Without.
    Refused,
}

/// What is known of a join, as far as it came.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Attempt {
    /// The token that was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_name: Option<String>,
    /// The bot of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bot_name: Option<Name>,
    /// The instance that the join made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bot_instance_id: Option<String>,
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

/// A text from the network, cut to a length that a log can bear.
pub fn bounded(text: &str) -> Option<String> {
    const MAX: usize = 255;
    (!text.is_empty()).then(|| text.chars().take(MAX).collect())
}

impl JoinEvent {
    /// A join that was granted.
    pub fn granted(time: Timestamp, attempt: Attempt) -> Self {
        Self::new(time, "TJ001I", Outcome::Granted, attempt)
    }

    /// A join that was refused.
    pub fn refused(time: Timestamp, attempt: Attempt, code: &'static str, reason: &str) -> Self {
        Self {
            refusal: Some(code),
            reason: bounded(reason),
            ..Self::new(time, "TJ001E", Outcome::Refused, attempt)
        }
    }

    fn new(time: Timestamp, code: &'static str, outcome: Outcome, attempt: Attempt) -> Self {
        let (event, method) = ("bot.join", "tpm");
        Self { time, event, code, outcome, refusal: None, reason: None, attempt, method }
    }
}

/// A log that holds whole lines and nothing else.
pub struct AuditLog(Mutex<Lines>);

struct Lines {
    file: File,
    /// The end of the last whole line.
    end: u64,
}

impl AuditLog {
    /// Opens the log, or begins one. A line that a crash has left unfinished is ended.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = folder::private().create(true).truncate(false).open(path)?;
        Self::over(file)
    }

    fn over(file: File) -> io::Result<Self> {
        let mut end = file.metadata()?.len();
        let mut last = [0];
        if end > 0 && file.read_at(&mut last, end - 1)? == 1 && last != *b"\n" {
            file.write_all_at(b"\n", end)?;
            end += 1;
        }
        Ok(Self(Mutex::new(Lines { file, end })))
    }

    /// Writes an event. If it cannot be written whole, nothing of it stays.
    pub fn write(&self, event: &JoinEvent) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.0.lock().unwrap_or_else(PoisonError::into_inner).append(&line)
    }
}

impl Lines {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        // The file may have been shortened by who rotates logs, or kept the part of a line that
        // could not be removed.
        let length = self.file.metadata()?.len();
        if length < self.end {
            self.end = length;
        } else if length > self.end {
            self.file.set_len(self.end)?;
        }
        self.file.write_all_at(line, self.end).and_then(|()| self.file.flush()).inspect_err(
            |_| {
                // If even that fails, the next event tries again before it writes.
                let _ = self.file.set_len(self.end);
            },
        )?;
        self.end += line.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};
    use time::macros::datetime;

    const TIME: Timestamp = Timestamp(datetime!(2026-06-01 12:00 UTC));

    fn event(reason: &str) -> JoinEvent {
        let attempt = Attempt { token_name: Some("t".into()), ..Attempt::default() };
        JoinEvent::refused(TIME, attempt, "token_unknown", reason)
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

    #[test]
    fn what_cannot_be_written_is_an_error() {
        let full = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        AuditLog::over(full).unwrap().write(&event("why")).unwrap_err();
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
