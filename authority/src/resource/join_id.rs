//! What a join is called.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Invalid;

/// The ID of a join: a UUID of version 7, so that joins are in the order of their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JoinId(Uuid);

impl JoinId {
    /// A new one.
    pub fn at(now: OffsetDateTime) -> Self {
        let milliseconds = u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        let mut random = [0; 10];
        // Version and variant are where those of the new ID will be.
        random.copy_from_slice(&Uuid::new_v4().as_bytes()[6..]);
        Self(uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid())
    }

    /// The smallest text that an ID of this time or later has.
    pub(crate) fn first_at(time: OffsetDateTime) -> String {
        let milliseconds = u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        let text = uuid::Builder::from_unix_timestamp_millis(milliseconds, &[0; 10]).into_uuid();
        text.to_string()[..13].to_owned()
    }
}

impl TryFrom<String> for JoinId {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        let id = Uuid::try_parse(&text).ok().map(Self).filter(|id| id.to_string() == text);
        id.ok_or_else(|| Invalid(format!("{text:?} is not the ID of a join, a UUID")))
    }
}

impl std::str::FromStr for JoinId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.to_owned().try_into()
    }
}

impl From<JoinId> for String {
    fn from(id: JoinId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for JoinId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_time() {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        let ids = [1_800_000_000, 1_800_000_001, 1_900_000_000].map(|time| JoinId::at(at(time)));
        assert!(ids.is_sorted() && ids[0] != JoinId::at(at(1_800_000_000)));
        assert!(JoinId::first_at(at(1_800_000_001)) > ids[0].to_string());
        assert!(JoinId::first_at(at(1_800_000_001)) <= ids[1].to_string());
        assert_eq!(ids[0].to_string().parse(), Ok(ids[0]));
        "none".parse::<JoinId>().unwrap_err();
    }
}
