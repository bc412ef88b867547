//! Events as they are in the log, and as lines of the file.

use host::terminal::escape_json;
use serde::{Deserialize, Serialize};

/// An entry of the log: an event with its number, and what the records are after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    sequence: u64,
    line: Vec<u8>,
}

impl Row {
    /// An entry as it was read from the store.
    pub fn new(sequence: u64, line: Vec<u8>) -> Self {
        Self { sequence, line }
    }

    /// Its number in the log.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Its line, without the end of the line: the bytes that the leaf of the tree is the hash of.
    pub fn line(&self) -> &[u8] {
        &self.line
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

/// An event that says what it leaves of the records. The event is a JSON object with at least one field.
pub(crate) fn binding(event: &[u8], records: &[BoundRecord]) -> serde_json::Result<Vec<u8>> {
    let Some(fields) = event.strip_suffix(b"}").filter(|_| !records.is_empty()) else {
        return Ok(event.to_vec());
    };
    Ok([fields, b",\"records\":", line(&records)?.as_slice(), b"}"].concat())
}
