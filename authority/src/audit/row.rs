//! Entries of the log: events as lines of JSON, as they are in the file too, and brief ones.

use host::terminal::escape_json;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use super::brief::Brief;
use super::change::CUT;
use crate::resource::Timestamp;

/// An entry of the log: an event with its number, and what the records are after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    sequence: u64,
    entry: Vec<u8>,
}

impl Row {
    /// An entry as it was read from the store.
    pub fn new(sequence: u64, entry: Vec<u8>) -> Self {
        Self { sequence, entry }
    }

    /// Its number in the log.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The bytes that the leaf of the tree is the hash of: a line of JSON without its end, or a brief entry.
    pub fn entry(&self) -> &[u8] {
        &self.entry
    }

    /// Whether it is a line of JSON, as the file has it. Brief entries are in the log only.
    pub fn is_line(&self) -> bool {
        self.entry.starts_with(b"{")
    }

    /// The entry for people and programs; `None` if it is damaged.
    pub fn shown(&self) -> Option<Value> {
        match self.is_line() {
            true => serde_json::from_slice(&self.entry).ok(),
            false => self.brief().as_ref().map(Brief::shown),
        }
    }

    /// What verification needs of the entry; `None` if it is damaged.
    pub(super) fn read(&self) -> Option<Read> {
        if self.is_line() {
            return serde_json::from_slice(&self.entry).ok();
        }
        let brief = self.brief()?;
        let (seq, records) = (brief.sequence, vec![brief.bound()]);
        Some(Read { seq, records, event: String::new(), kept_from: None })
    }

    /// What it leaves of the records, as far as it can be read.
    pub(crate) fn bound(&self) -> Vec<BoundRecord> {
        self.read().map(|read| read.records).unwrap_or_default()
    }

    /// When it was; `None` if it does not say.
    pub(crate) fn time(&self) -> Option<OffsetDateTime> {
        #[derive(Deserialize)]
        struct Timed {
            time: Timestamp,
        }
        match self.is_line() {
            true => serde_json::from_slice(&self.entry).ok().map(|Timed { time }| time.0),
            false => self.brief()?.time(),
        }
    }

    pub(super) fn brief(&self) -> Option<Brief> {
        Brief::from_bytes(&self.entry)
    }
}

/// What verification needs of an entry.
#[derive(Deserialize)]
pub(super) struct Read {
    pub(super) seq: u64,
    #[serde(default)]
    pub(super) records: Vec<BoundRecord>,
    #[serde(default)]
    event: String,
    kept_from: Option<u64>,
}

impl Read {
    /// The number before which all entries were removed, if that is what it says.
    pub(super) fn cut(&self) -> Option<u64> {
        self.kept_from.filter(|_| self.event == CUT)
    }
}

/// What an event leaves of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundRecord {
    /// The name of its table.
    pub table: String,
    /// Its key; absent if all records whose keys begin with `prefix` were removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// What the keys of removed records begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The hash of the record, hexadecimal; `null` if it was removed.
    pub sha256: Option<String>,
}

/// An event as a line, without its end. Hosts name themselves in it, and people read the file as it
/// is, so control characters are escaped.
pub(super) fn line(event: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    Ok(escape_json(&serde_json::to_string(event)?).into_bytes())
}

/// An entry that says what it leaves of the records. `None` if it is nothing of the kind, or a brief entry without the record that it
/// is about.
pub(crate) fn binding(entry: &[u8], records: &[BoundRecord]) -> Option<Vec<u8>> {
    let Some(fields) = entry.strip_prefix(b"{") else {
        return Some(Brief::from_bytes(entry)?.binding(records)?.to_bytes());
    };
    let fields = fields.strip_suffix(b"}")?;
    if records.is_empty() {
        return Some(entry.to_vec());
    }
    Some([b"{", fields, b",\"records\":", line(&records).ok()?.as_slice(), b"}"].concat())
}

/// An entry with its number; of a line of JSON it is the first field. `None` if it is nothing of the kind.
pub(crate) fn numbered(entry: &[u8], sequence: u64) -> Option<Vec<u8>> {
    let Some(fields) = entry.strip_prefix(b"{") else {
        return Some(Brief::from_bytes(entry)?.numbered(sequence).to_bytes());
    };
    let comma = if fields.starts_with(b"}") { "" } else { "," };
    Some([format!("{{\"seq\":{sequence}{comma}").as_bytes(), fields].concat())
}
