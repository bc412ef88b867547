//! Brief entries of the log: what follows from an earlier decision and happens often, such as a renewal. An entry takes some 80 bytes
//! instead of 800, and binds the record of the instance as every other entry does.
//!
//! ```text
//! version  kind  key location  seq  time  generation  record  instance  bot
//!       1     1             1    8     8           8      32        16  the rest
//! ```
//!
//! Numbers are big-endian, the time is in milliseconds since 1970, and the record is its SHA-256.

use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::row::BoundRecord;
use super::tree::Hash;
use super::{Action, Outcome};
use crate::resource::{BotInstance, KeyLocation, Timestamp};

/// The first byte of a brief entry. A line of JSON begins with `{`.
const VERSION: u8 = 1;

/// The table of the records that brief entries bind, as events call it.
const TABLE: &str = "instances";

/// The byte for a key that was proven to be in the TPM.
const IN_TPM: u8 = 1;

/// A brief entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Brief {
    pub(super) sequence: u64,
    pub(super) kind: Kind,
    key_location: u8,
    /// In milliseconds since 1970.
    time: u64,
    generation: u64,
    record: Hash,
    instance: Uuid,
    pub(super) bot: String,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `bot.renew`.
    Renewal,
    /// `bot.issue`.
    Issue,
    /// `bot_instance.heartbeat`.
    Heartbeat,
    /// Something that a newer version knows.
    Other(u8),
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Renewal => 1,
            Self::Issue => 2,
            Self::Heartbeat => 3,
            Self::Other(code) => code,
        }
    }

    fn of(code: u8) -> Self {
        match code {
            1 => Self::Renewal,
            2 => Self::Issue,
            3 => Self::Heartbeat,
            code => Self::Other(code),
        }
    }

    /// The kind of a granted call, if such calls are recorded briefly.
    pub(super) fn granted(action: Action) -> Option<Self> {
        match action {
            Action::Renew => Some(Self::Renewal),
            Action::Issue => Some(Self::Issue),
            _ => None,
        }
    }

    /// The name of the event.
    pub(super) fn event(self) -> &'static str {
        match self {
            Self::Renewal => Action::Renew.event(),
            Self::Issue => Action::Issue.event(),
            Self::Heartbeat => "bot_instance.heartbeat",
            Self::Other(_) => "unknown",
        }
    }

    /// The code of the event, and how it ended.
    fn words(self) -> (&'static str, Outcome) {
        match self {
            Self::Renewal => (Action::Renew.code(Outcome::Granted), Outcome::Granted),
            Self::Issue => (Action::Issue.code(Outcome::Granted), Outcome::Granted),
            Self::Heartbeat => ("EN134I", Outcome::Done),
            Self::Other(_) => ("", Outcome::Done),
        }
    }
}

impl Brief {
    /// What an instance said of itself.
    pub(crate) fn heartbeat(instance: &BotInstance) -> Self {
        let (bot, id) = (instance.spec.bot_name.to_string(), instance.spec.instance_id.uuid());
        let (time, generation) = (instance.status.last_seen, instance.status.generation);
        Self::new(Kind::Heartbeat, time, (bot, id), generation, None)
    }

    pub(super) fn new(
        kind: Kind,
        time: Timestamp,
        (bot, instance): (String, Uuid),
        generation: u64,
        key_location: Option<KeyLocation>,
    ) -> Self {
        let time = u64::try_from(time.0.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        let key_location = if key_location == Some(KeyLocation::Tpm) { IN_TPM } else { 0 };
        let (sequence, record) = (0, Hash::default());
        Self { sequence, kind, key_location, time, generation, record, instance, bot }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [
            &[VERSION, self.kind.code(), self.key_location][..],
            &self.sequence.to_be_bytes(),
            &self.time.to_be_bytes(),
            &self.generation.to_be_bytes(),
            &self.record,
            self.instance.as_bytes(),
            self.bot.as_bytes(),
        ]
        .concat()
    }

    /// Reads [`Self::to_bytes`]; `None` if these bytes are nothing of the kind.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let ([version, kind, key_location], rest) = bytes.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (time, rest) = rest.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (record, rest) = rest.split_first_chunk()?;
        let (instance, bot) = rest.split_first_chunk()?;
        let bot = str::from_utf8(bot).ok().filter(|_| *version == VERSION)?;
        Some(Self {
            sequence: u64::from_be_bytes(*sequence),
            kind: Kind::of(*kind),
            key_location: *key_location,
            time: u64::from_be_bytes(*time),
            generation: u64::from_be_bytes(*generation),
            record: *record,
            instance: Uuid::from_bytes(*instance),
            bot: bot.to_owned(),
        })
    }

    /// The same with its number.
    pub(super) fn numbered(self, sequence: u64) -> Self {
        Self { sequence, ..self }
    }

    /// The same with what it leaves of the record of its instance, if that is among these.
    pub(super) fn binding(self, records: &[BoundRecord]) -> Option<Self> {
        let key = Some(self.key());
        let record = records.iter().find(|record| record.table == TABLE && record.key == key)?;
        let mut hash = Hash::default();
        base16ct::lower::decode(record.sha256.as_ref()?, &mut hash).ok()?;
        Some(Self { record: hash, ..self })
    }

    /// What it leaves of the record of its instance.
    pub(super) fn bound(&self) -> BoundRecord {
        let sha256 = Some(base16ct::lower::encode_string(&self.record));
        BoundRecord { table: TABLE.to_owned(), key: Some(self.key()), prefix: None, sha256 }
    }

    /// The key of the record of its instance.
    fn key(&self) -> String {
        format!("{}/{}", self.bot, self.instance)
    }

    /// When it was.
    pub(super) fn time(&self) -> Option<OffsetDateTime> {
        let time = i128::from(self.time).saturating_mul(1_000_000);
        OffsetDateTime::from_unix_timestamp_nanos(time).ok()
    }

    /// As an event, which people read.
    pub(super) fn shown(&self) -> Value {
        let (code, outcome) = self.kind.words();
        let time = self.time().map(Timestamp);
        let mut shown = json!({
            "seq": self.sequence,
            "time": time,
            "event": self.kind.event(),
            "code": code,
            "outcome": outcome,
            "bot_name": self.bot,
            "bot_instance_id": self.instance.to_string(),
            "generation": self.generation,
            "records": [self.bound()],
        });
        if self.key_location == IN_TPM {
            shown["key_location"] = json!(KeyLocation::Tpm);
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const KEY: &str = "db/6f9619ff-8b86-4011-b42d-00c04fc964ff";

    fn brief() -> Brief {
        let id = KEY.split_once('/').unwrap().1.parse().unwrap();
        let time = Timestamp(datetime!(2026-06-01 12:00:00.25 UTC));
        Brief::new(Kind::Renewal, time, ("db".into(), id), 7, Some(KeyLocation::Tpm))
    }

    fn record(key: &str, sha256: Option<&str>) -> BoundRecord {
        let key = Some(key.to_owned());
        BoundRecord { table: TABLE.into(), key, prefix: None, sha256: sha256.map(Into::into) }
    }

    #[test]
    fn entry_is_short_and_is_read_as_it_was_written() {
        let hash = "ab".repeat(32);
        let entry = brief().binding(&[record(KEY, Some(&hash))]).unwrap().numbered(0x0102);
        let bytes = entry.to_bytes();
        assert_eq!(bytes.len(), 75 + "db".len());
        assert_eq!(bytes[..11], [1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(Brief::from_bytes(&bytes), Some(entry.clone()));
        let shown = entry.shown();
        assert_eq!((&shown["seq"], &shown["event"]), (&0x0102.into(), &"bot.renew".into()));
        assert_eq!(shown["time"], "2026-06-01T12:00:00.25Z");
        assert_eq!((&shown["key_location"], &shown["generation"]), (&"tpm".into(), &7.into()));
        assert_eq!(shown["records"][0]["key"], KEY);
        assert_eq!(shown["records"][0]["sha256"], hash.as_str());
    }

    #[test]
    fn entry_binds_the_record_of_its_instance_and_no_other() {
        let hash = "ab".repeat(32);
        let other = record("db/00000000-0000-0000-0000-000000000000", Some(&hash));
        assert_eq!(brief().binding(&[]), None);
        assert_eq!(brief().binding(std::slice::from_ref(&other)), None);
        assert_eq!(brief().binding(&[record(KEY, None)]), None);
        let bound = brief().binding(&[other, record(KEY, Some(&hash))]).unwrap().bound();
        assert_eq!(bound, record(KEY, Some(&hash)));
    }

    #[test]
    fn bytes_that_are_no_brief_entry_are_not_read_as_one() {
        let bytes = brief().to_bytes();
        for length in 0..75 {
            assert_eq!(Brief::from_bytes(&bytes[..length]), None);
        }
        let newer = [&[VERSION + 1], &bytes[1..]].concat();
        assert_eq!(Brief::from_bytes(&newer), None);
        assert_eq!(Brief::from_bytes(&[&bytes[..], &[0xff]].concat()), None);
        // What a newer version does otherwise is read as far as it is known.
        let kind = [&[VERSION, 9], &bytes[2..]].concat();
        assert_eq!(Brief::from_bytes(&kind).unwrap().kind, Kind::Other(9));
    }
}
