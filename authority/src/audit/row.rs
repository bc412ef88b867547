//! Events as they are stored together with the records that they describe.

use host::terminal::escape_json;
use serde::Serialize;

use crate::resource::Timestamp;

/// An event in the store. It is written in the transaction of the change that it describes, and removed when its line is
/// on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    key: String,
    line: Vec<u8>,
}

impl Row {
    /// The row of an event. Keys are in the order of time.
    pub(super) fn new(
        time: Timestamp,
        uid: &str,
        event: &impl Serialize,
    ) -> serde_json::Result<Self> {
        let key = format!("{:020}/{uid}", time.0.unix_timestamp_nanos());
        Ok(Self { key, line: line(event)? })
    }

    /// A row as it was read from the store.
    pub(crate) fn stored(key: String, line: Vec<u8>) -> Self {
        Self { key, line }
    }

    /// Its key in the store.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Its line, without the end of the line.
    pub(crate) fn line(&self) -> &[u8] {
        &self.line
    }
}

/// An event as a line, without its end. Hosts name themselves in it, and people read the file as it
/// is, so control characters are escaped.
pub(super) fn line(event: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    Ok(escape_json(&serde_json::to_string(event)?).into_bytes())
}
