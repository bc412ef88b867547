//! What is to be said about a configuration, as compilers say it: where, what, and what to do.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};
use serde::Serialize;

/// More than a person reads.
const MAX_FINDINGS: usize = 100;

/// As much of a line as is shown.
const MAX_SNIPPET: usize = 100;

/// Limit of a message's length; a longer one quotes garbage.
const MAX_MESSAGE: usize = 300;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but perhaps not as meant.
    Warning,
}

/// One thing to be said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where in the file; absent for what is missing or does not come from the file.
    #[serde(flatten)]
    pub location: Option<Location>,
    /// What is so.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// A position in the file, with its line of text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    #[serde(skip)]
    snippet: String,
    #[serde(skip)]
    caret: Range<usize>,
}

/// All that is to be said about one configuration, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    path: PathBuf,
    findings: Vec<Finding>,
    left_out: usize,
}

impl Findings {
    /// The file that they are about.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Each of them; after the first hundred no more are kept.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter()
    }

    /// Where a finding is: `FILE:LINE:COLUMN`, or `FILE` for what is missing.
    #[must_use]
    pub fn position(&self, finding: &Finding) -> String {
        let file = self.path.display();
        match &finding.location {
            Some(Location { line, column, .. }) => format!("{file}:{line}:{column}"),
            None => file.to_string(),
        }
    }

    /// Whether nothing is to be said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// Adds what was found later.
    #[must_use]
    pub fn and(mut self, more: impl IntoIterator<Item = Finding>) -> Self {
        self.findings.extend(more);
        self
    }

    /// How many there are of a severity.
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        self.iter().filter(|finding| finding.severity == severity).count()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            finding.write(f, &self.path)?;
        }
        match self.left_out {
            0 => Ok(()),
            more => writeln!(f, "... and {more} more"),
        }
    }
}

impl std::error::Error for Findings {}

impl Findings {
    /// A failure of one line: the first error, and how many more there are.
    #[must_use]
    pub fn failure(&self, advice: &str) -> Failure {
        let faults = || self.iter().filter(|finding| finding.severity == Severity::Error);
        let first = faults().next();
        let position =
            first.map_or_else(|| self.path.display().to_string(), |one| self.position(one));
        let first = first.map_or("it is invalid", |fault| &fault.message);
        let mut message = format!("{position}: {first}");
        match faults().count() {
            0 | 1 => {}
            2 => message.push_str(", and 1 other error"),
            count => message.push_str(&format!(", and {} other errors", count - 1)),
        }
        Failure::new(Exit::Config, message, advice)
    }
}

impl Finding {
    fn write(&self, f: &mut fmt::Formatter<'_>, path: &Path) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        writeln!(f, "{severity}: {}", printable(&self.message))?;
        let path = printable(&path.display().to_string());
        let Some(Location { line, column, snippet, caret }) = &self.location else {
            writeln!(f, " --> {path}")?;
            if let Some(advice) = &self.advice {
                writeln!(f, "  = {}", printable(advice))?;
            }
            return writeln!(f);
        };
        let number = line.to_string();
        let margin = " ".repeat(number.len());
        writeln!(f, "{margin}--> {path}:{line}:{column}")?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {snippet}")?;
        let (indent, carets) = (" ".repeat(caret.start), "^".repeat(caret.len()));
        let advice = self.advice.as_deref().map(|text| format!(" {}", printable(text)));
        writeln!(f, "{margin} | {indent}{carets}{}\n", advice.unwrap_or_default())
    }
}

/// Whatever a file says, it does nothing to the terminal.
fn printable(text: &str) -> String {
    crate::terminal::replace(text, '\u{fffd}')
}

/// A line with as many asterisks as a password in it has characters: findings go to logs. A password is the value of a key of that
/// name, up to the end of the line, or stands before the host in a URL.
fn without_secrets(line: &str) -> String {
    let mut secrets: Vec<ByteRange> = Vec::new();
    for (at, key) in line.match_indices("password") {
        let end = at + key.len();
        let rest = line.get(end..).unwrap_or_default();
        let value = rest.trim_start_matches(['"', '\'']).trim_start().strip_prefix(':');
        secrets.extend(value.map(|value| line.len() - value.len()..line.len()));
    }
    for (at, scheme) in line.match_indices("://") {
        let begin = at + scheme.len();
        let rest = line.get(begin..).unwrap_or_default();
        let ends = |one: char| one.is_whitespace() || "\"',".contains(one);
        let rest = rest.split(ends).next().unwrap_or_default();
        let user = rest.rfind('@').and_then(|end| rest.get(..end)).unwrap_or_default();
        secrets.extend(user.find(':').map(|colon| begin + colon + 1..begin + user.len()));
    }
    let is_secret = |at: usize| secrets.iter().any(|secret| secret.contains(&at));
    let masked = |(at, one): (usize, char)| if is_secret(at) && one != ' ' { '*' } else { one };
    line.char_indices().map(masked).collect()
}

/// The bytes of the text that a finding is about.
pub type ByteRange = Range<usize>;

/// Collects findings, and knows the text that they are about.
pub struct Source<'t> {
    text: &'t str,
    path: &'t Path,
    /// Where each line begins.
    lines: Vec<usize>,
    found: std::cell::RefCell<Vec<(Option<ByteRange>, Finding)>>,
}

impl<'t> Source<'t> {
    /// A text without findings so far. A byte order mark is not part of it.
    #[must_use]
    pub fn new(text: &'t str, path: &'t Path) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let bytes = text.as_bytes();
        let breaks = bytes.iter().enumerate().filter(|(at, byte)| match byte {
            b'\n' => true,
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        });
        let lines = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Self { text, path, lines, found: std::cell::RefCell::default() }
    }

    /// The text.
    #[must_use]
    pub const fn text(&self) -> &'t str {
        self.text
    }

    /// Adds an error; without a range, it is about something missing. The advice may be empty.
    pub fn error(&self, range: Option<&ByteRange>, message: impl Into<String>, advice: &str) {
        self.add(Severity::Error, range, message.into(), advice);
    }

    /// Adds a warning.
    pub fn warn(&self, range: Option<&ByteRange>, message: impl Into<String>, advice: &str) {
        self.add(Severity::Warning, range, message.into(), advice);
    }

    fn add(&self, severity: Severity, range: Option<&ByteRange>, message: String, advice: &str) {
        let advice = (!advice.is_empty()).then(|| advice.to_owned());
        let message = message.chars().take(MAX_MESSAGE).collect();
        let finding = Finding { severity, location: None, message, advice };
        self.found.borrow_mut().push((range.cloned(), finding));
    }

    /// Whether the configuration cannot be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.found.borrow().iter().any(|(_, finding)| finding.severity == Severity::Error)
    }

    /// The line of a range, from 1.
    #[must_use]
    pub fn line(&self, range: &ByteRange) -> usize {
        self.lines.partition_point(|begin| *begin <= range.start)
    }

    /// The line and column of a range, and the line's text.
    #[must_use]
    pub fn location(&self, range: &ByteRange) -> Location {
        let line = self.line(range);
        let begin = line.checked_sub(1).and_then(|at| self.lines.get(at)).copied().unwrap_or(0);
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        let whole = self.text.get(begin..end).unwrap_or_default().trim_end_matches(['\r', '\n']);
        let masked = without_secrets(whole);
        let chars = |to: usize| self.text.get(begin..to).map_or(0, |before| before.chars().count());
        let (first, width) = (chars(range.start), whole.chars().count());
        let last = chars(range.end.min(begin + whole.len())).clamp(first, width.max(first));
        // Of a long line only the part around the range.
        let skipped = if last.max(first + 1) > MAX_SNIPPET { first.saturating_sub(20) } else { 0 };
        let shown: String = masked.chars().skip(skipped).take(MAX_SNIPPET).collect();
        let start = first - skipped;
        let stop = last.saturating_sub(skipped).min(MAX_SNIPPET).max(start + 1);
        let snippet = printable(&shown.replace('\t', " ")).trim_end().to_owned();
        Location { line, column: first + 1, snippet, caret: start..stop }
    }

    /// All findings, in the order of the file.
    #[must_use]
    pub fn findings(self) -> Findings {
        let mut found = self.found.take();
        // What is missing is said last.
        found.sort_by_key(|(range, _)| range.as_ref().map_or(usize::MAX, |range| range.start));
        let left_out = found.len().saturating_sub(MAX_FINDINGS);
        let findings = found
            .into_iter()
            .take(MAX_FINDINGS)
            .map(|(range, finding)| Finding {
                location: range.map(|range| self.location(&range)),
                ..finding
            })
            .collect();
        Findings { path: self.path.to_owned(), findings, left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (line, shown) in [
            ("password: s3cr:et", "password: *******"),
            ("{a: b, \"password\" : \"s e\", c: d}", "{a: b, \"password\" : ** *** ** **"),
            ("url: \"postgresql://a:s/e@b/c\", d: e@f", "url: \"postgresql://a:***@b/c\", d: e@f"),
            ("url: postgresql://a@b:1/c", "url: postgresql://a@b:1/c"),
            ("password_file: /a, url: unix:///b", "password_file: /a, url: unix:///b"),
            ("password: \u{e9}x", "password: **"),
        ] {
            assert_eq!(without_secrets(line), shown);
            let source = Source::new(line, Path::new("f"));
            source.error(Some(&(0..1)), "wrong", "");
            assert!(source.findings().to_string().contains(&format!("1 | {shown}\n")), "{line}");
        }
    }
}
