//! Converts a YAML stream to resources and back.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use host::config::finding::Source;
use host::config::tree::{self, Node, Value};
use host::terminal::escape;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_saphyr::{Error, Options, UserMessageFormatter};

use super::field::Invalid;
use super::printed::{Printed, Whole};
use super::{Bot, Kind, Lock, Resource, Token, WorkloadIdentity};

/// A document that was refused: which line of the stream, counted from 1, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentError {
    /// Where the fault is, or where its document begins if it lies in no single line.
    pub line: u64,
    /// What it is.
    pub message: String,
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for DocumentError {}

/// What to do with a malformed CA certificate if the token has others.
#[derive(Debug)]
pub enum Unreadable<'a> {
    /// Refuse the token.
    Refuse,
    /// Leave the certificate out, and say here what was left out.
    Skip(&'a mut Vec<String>),
}

/// Reads a stream of documents. One that has none is refused, and one that has a resource twice.
pub fn read(stream: &str) -> Result<Vec<Resource>, DocumentError> {
    read_with(stream, Unreadable::Refuse)
}

/// [`read`], with a say about certificates that cannot be read.
pub fn read_with(
    stream: &str,
    mut unreadable: Unreadable<'_>,
) -> Result<Vec<Resource>, DocumentError> {
    let mut all = Vec::new();
    for document in documents(stream) {
        let resource = document.resource(&mut unreadable)?;
        let same =
            |other: &Resource| other.kind() == resource.kind() && other.name() == resource.name();
        if all.iter().any(same) {
            let message = format!("duplicate {} {:?}", resource.kind(), resource.name().as_str());
            return Err(document.fault(document.first_line(), message));
        }
        all.push(resource);
    }
    if all.is_empty() {
        return Err(DocumentError { line: 1, message: "it contains no resource".into() });
    }
    Ok(all)
}

/// One document, ready to be read again.
pub fn to_yaml(resource: &impl Serialize) -> Result<String, Invalid> {
    let options = serde_saphyr::ser_options! { quote_all: false, compact_list_indent: false };
    let mut yaml = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut yaml, resource, options)
        .map_err(|cause| Invalid(cause.to_string()))?;
    Ok(yaml)
}

/// One document of a stream, and how many lines stand before it.
struct Document<'a> {
    before: u64,
    text: &'a str,
}

/// What tells the type of the rest.
#[derive(Deserialize)]
struct Head {
    kind: Option<String>,
}

/// Splits a stream at its `---` markers, and arrays of JSON, which list resources, into their elements. Such a line cannot be part of anything else: indentation
/// or quoting rules keep it out of scalars (YAML 1.2 section 9.1.2).
fn documents(stream: &str) -> Vec<Document<'_>> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream);
    let mut all = Vec::new();
    let (mut start, mut before, mut at) = (0, 0, 0);
    for (number, line) in (0..).zip(stream.split_inclusive('\n')) {
        if is_marker(line) {
            all.push(Document { before, text: stream.get(start..at).unwrap_or_default() });
            (start, before) = (at, number);
        }
        at += line.len();
    }
    all.push(Document { before, text: stream.get(start..).unwrap_or_default() });
    all.retain(|document| !document.is_blank());
    all.into_iter().flat_map(Document::elements).collect()
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Where the elements of an array are, behind its `[`; `None` if something other than blanks follows its `]`.
fn split_array(array: &str) -> Option<Vec<Range<usize>>> {
    let (mut elements, mut start) = (Vec::new(), 0);
    let (mut depth, mut in_string, mut escaped) = (1_usize, false, false);
    for (at, byte) in array.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth = depth.checked_add(1)?,
            b']' | b'}' => depth = depth.checked_sub(1)?,
            b',' if depth == 1 => {
                elements.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
        if depth == 0 {
            elements.push(start..at);
            let rest = array.get(at + 1..).unwrap_or_default();
            return rest.trim().is_empty().then_some(elements);
        }
    }
    None
}

impl Document<'_> {
    fn is_blank(&self) -> bool {
        self.text.lines().all(|line| {
            let line = if is_marker(line) { line.get(3..).unwrap_or_default() } else { line };
            line.trim().is_empty() || line.trim_start().starts_with('#')
        })
    }

    /// The elements of an array of JSON; any other document as it is.
    fn elements(self) -> Vec<Self> {
        let start = self.text.strip_prefix("---").unwrap_or(self.text).trim_start();
        let Some(array) = start.strip_prefix('[') else { return vec![self] };
        let Some(elements) = split_array(array) else { return vec![self] };
        let offset = self.text.len() - array.len();
        let element = |range: Range<usize>| {
            let range = offset + range.start..offset + range.end;
            let lines = self.text.get(..range.start).unwrap_or_default().matches('\n').count();
            let text = self.text.get(range).unwrap_or_default();
            Self { before: self.before + lines as u64, text }
        };
        elements.into_iter().map(element).filter(|element| !element.is_blank()).collect()
    }

    fn resource(&self, unreadable: &mut Unreadable<'_>) -> Result<Resource, DocumentError> {
        self.quoted_serials()?;
        let head: Head = self.parse()?;
        let kinds = "kind must be \"bot\", \"token\", \"lock\" or \"workload_identity\"";
        let Some(kind) = head.kind else {
            return Err(self.fault(self.first_line(), kinds));
        };
        let complete = match Kind::ALL.into_iter().find(|known| known.as_str() == kind) {
            Some(Kind::Bot) => self.printed::<Bot>()?.complete().map(Resource::Bot),
            Some(Kind::Token) => self.token(unreadable)?.complete().map(Resource::Token),
            Some(Kind::Lock) => self.printed::<Lock>()?.complete().map(Resource::Lock),
            Some(Kind::WorkloadIdentity) => {
                let identity = self.printed::<WorkloadIdentity>()?.complete();
                identity.map(|identity| Resource::WorkloadIdentity(Box::new(identity)))
            }
            Some(Kind::BotInstance) | None => {
                let at = self.text.lines().position(|line| line.starts_with("kind:"));
                let line = at.map_or(self.first_line(), |at| at as u64 + 1);
                let hint = match kind.as_str() {
                    "role" => ": the roles of a bot are names that need no document",
                    _ => "",
                };
                return Err(self.fault(line, format!("{kinds}, not {kind:?}{hint}")));
            }
        };
        complete.map_err(|Invalid(message)| self.fault(self.line_of(&message), message))
    }

    /// The line of the field that a message begins with, as in `spec.spiffe.id: ..`; the first one if it names none that is there.
    fn line_of(&self, message: &str) -> u64 {
        let source = Source::new(self.text, Path::new(""));
        let root = tree::parse(source.text(), &source);
        let field = root.as_ref().and_then(|root| field(root, message));
        field.map_or(self.first_line(), |range| source.line(&range) as u64)
    }

    fn token(&self, unreadable: &mut Unreadable<'_>) -> Result<Token, DocumentError> {
        let mut token: Token = self.printed()?;
        if let Unreadable::Skip(skipped) = unreadable {
            let said = token.skip_unreadable();
            let said = said.map_err(|Invalid(message)| self.fault(self.first_line(), message))?;
            let name = &token.metadata.name;
            skipped.extend(said.into_iter().map(|one| format!("token \"{name}\": {one}")));
        }
        Ok(token)
    }

    fn printed<T: Printed + DeserializeOwned>(&self) -> Result<T, DocumentError> {
        self.parse::<Whole<T>>().map(|Whole(document)| document)
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, DocumentError> {
        serde_saphyr::from_str_with_options(self.text, options()).map_err(|cause| {
            let line = cause.location().map_or(self.first_line(), |location| location.line());
            self.fault(line, message(&cause))
        })
    }

    /// Digits joined by colons are text in YAML 1.2 and a number to base 60 in YAML 1.1. A file
    /// that means one thing here and another elsewhere is refused.
    fn quoted_serials(&self) -> Result<(), DocumentError> {
        const KEY: &str = "ek_certificate_serial";
        for (number, line) in (1..).zip(self.text.lines()) {
            let value = line
                .split_once(KEY)
                .and_then(|(_, rest)| rest.trim_start_matches(['"', '\'', ' ']).strip_prefix(':'))
                .map(|rest| rest.split([',', '}', '#']).next().unwrap_or_default().trim());
            let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b':');
            if let Some(value) = value.filter(|text| !text.is_empty() && digits(text)) {
                let message = format!(
                    "a serial of digits alone is a number in YAML: write {KEY}: \"{value}\""
                );
                return Err(self.fault(number, message));
            }
        }
        Ok(())
    }

    /// The first line with something in it.
    fn first_line(&self) -> u64 {
        let blank = |line: &&str| {
            line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim_end() == "---"
        };
        self.text.lines().take_while(blank).count() as u64 + 1
    }

    fn fault(&self, line: u64, message: impl Into<String>) -> DocumentError {
        // A message may repeat what is in the document; on a terminal it must be harmless.
        DocumentError { line: self.before + line, message: escape(&message.into()) }
    }
}

/// Where the field stands that a message begins with: paths of keys, each followed by a colon, `spec.tpm: failed validation:
/// allow[0]: ..`.
fn field(root: &Node, message: &str) -> Option<Range<usize>> {
    let (mut node, mut found) = (root, None);
    for path in message.split(": ").filter(|part| *part != "failed validation") {
        for name in path.split('.') {
            let (key, index) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
                Some((key, index)) => (key, index.parse::<usize>().ok()),
                None => (name, None),
            };
            let Value::Mapping(entries) = &node.value else { return found };
            let Some(entry) = entries.iter().find(|entry| entry.key == key) else { return found };
            (node, found) = (&entry.node, Some(entry.range.clone()));
            if let (Some(index), Value::Sequence(items)) = (index, &node.value)
                && let Some(item) = items.get(index)
            {
                (node, found) = (item, Some(item.range.clone()));
            }
        }
    }
    found
}

/// Text that other readers of YAML take for a number or a boolean must be quoted; nothing is
/// expanded without bound.
fn options() -> Options {
    serde_saphyr::options! { no_schema: true, with_snippet: false, reject_unsupported_tags: true }
}

/// One line, without the place, which the caller adds.
fn message(cause: &Error) -> String {
    if let Error::QuotingRequired { value, .. } = cause.without_snippet() {
        return format!(
            "{value} is a number or a boolean in YAML: quote it to make it text, \"{value}\""
        );
    }
    let formatter = UserMessageFormatter;
    let text = serde_saphyr::MessageFormatter::format_message(&formatter, cause.without_snippet())
        .into_owned();
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
