//! Events as they are stored beside the records that they tell of.

use serde::Serialize;

use crate::resource::Timestamp;

/// An event in the store: it is there in the same instant as what it tells of, and stays until its
/// line is on disk in the file.
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
        Ok(Self { key, line: serde_json::to_vec(event)? })
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
