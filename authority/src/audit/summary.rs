//! Events that stand for many: once a minute, what was granted with brief entries, and what was refused.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding};
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::tree::{Frontier, leaf_hash};
use super::{Action, Outcome, Row, row};
use crate::resource::Timestamp;

/// Bots, and sources of refusals, that are named in an event. The others are counted together.
const MAX_NAMED: usize = 64;

/// What an event of the kind has in common.
#[derive(Debug, Serialize)]
struct Summary<T> {
    time: Timestamp,
    uid: String,
    event: &'static str,
    code: &'static str,
    outcome: Outcome,
    #[serde(flatten)]
    content: T,
}

impl<T: Serialize> Summary<T> {
    fn entry(outcome: Outcome, now: OffsetDateTime, content: T) -> serde_json::Result<Vec<u8>> {
        let (event, code) = match outcome {
            Outcome::Refused => ("calls.refused", "EN211E"),
            Outcome::Granted | Outcome::Done => ("calls.granted", "EN211I"),
        };
        let (time, uid) = (Timestamp(now), Uuid::new_v4().to_string());
        row::line(&Self { time, uid, event, code, outcome, content })
    }
}

/// Counts by name. Of more than [`MAX_NAMED`] names, those that come first are named.
#[derive(Debug, Clone, Default)]
struct Counts {
    named: BTreeMap<String, u64>,
    others: u64,
}

impl Counts {
    fn add(&mut self, name: &str, count: u64) {
        let is_named = self.named.contains_key(name) || self.named.len() < MAX_NAMED;
        let counted = match is_named {
            true => self.named.entry(name.to_owned()).or_default(),
            false => &mut self.others,
        };
        *counted = counted.saturating_add(count);
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The brief entries of the log since the last event that summarizes them.
#[derive(Debug, Default)]
pub(crate) struct Granted {
    /// The number of the first entry that was not read yet.
    next: u64,
    /// The numbers of the first and of the last brief one.
    range: Option<(u64, u64)>,
    /// Over the brief ones.
    tree: Frontier,
    events: BTreeMap<&'static str, u64>,
    bots: Counts,
}

#[derive(Debug, Serialize)]
struct GrantedEvent<'a> {
    first_seq: u64,
    last_seq: u64,
    root: String,
    events: &'a BTreeMap<&'static str, u64>,
    bots: &'a BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "is_zero")]
    other_bots: u64,
}

impl Granted {
    /// None yet of a log from this number on.
    pub(crate) fn from(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    /// The number of the first entry that was not read yet.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Reads an entry, unless it was read before.
    pub(crate) fn read(&mut self, entry: &Row) {
        let number = entry.sequence();
        if number < self.next {
            return;
        }
        self.next = number.saturating_add(1);
        let Some(brief) = entry.brief() else { return };
        self.range = Some((self.range.map_or(number, |(first, _)| first), number));
        // A tree that is full is as good as never.
        let _ = self.tree.push(leaf_hash(entry.entry()));
        let count = self.events.entry(brief.kind.event()).or_default();
        *count = count.saturating_add(1);
        self.bots.add(&brief.bot, 1);
    }

    /// The event; none if nothing was granted.
    pub(crate) fn entry(&self, now: OffsetDateTime) -> Option<serde_json::Result<Vec<u8>>> {
        let (first_seq, last_seq) = self.range?;
        let content = GrantedEvent {
            first_seq,
            last_seq,
            root: Base64::encode_string(&self.tree.root()),
            events: &self.events,
            bots: &self.bots.named,
            other_bots: self.bots.others,
        };
        Some(Summary::entry(Outcome::Granted, now, content))
    }
}

/// The refusals since the last event that summarizes them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refused {
    events: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    sources: Counts,
}

#[derive(Debug, Serialize)]
struct RefusedEvent<'a> {
    /// By event and refusal code.
    refusals: &'a BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    sources: &'a BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "is_zero")]
    other_sources: u64,
}

impl Refused {
    /// Adds refusals with one code; of many sources together, if none is given.
    pub(crate) fn add(
        &mut self,
        action: Action,
        code: &'static str,
        source: Option<&str>,
        count: u64,
    ) {
        let counted = self.events.entry(action.event()).or_default().entry(code).or_default();
        *counted = counted.saturating_add(count);
        match source {
            Some(source) => self.sources.add(source, count),
            None => self.sources.others = self.sources.others.saturating_add(count),
        }
    }

    /// Adds what was refused later.
    pub(crate) fn merge(&mut self, later: Self) {
        for (event, codes) in later.events {
            let counted = self.events.entry(event).or_default();
            for (code, count) in codes {
                let counted = counted.entry(code).or_default();
                *counted = counted.saturating_add(count);
            }
        }
        let Counts { named, others } = later.sources;
        named.iter().for_each(|(source, count)| self.sources.add(source, *count));
        self.sources.others = self.sources.others.saturating_add(others);
    }

    /// The event; none if nothing was refused.
    pub(crate) fn entry(&self, now: OffsetDateTime) -> Option<serde_json::Result<Vec<u8>>> {
        if self.events.is_empty() {
            return None;
        }
        let content = RefusedEvent {
            refusals: &self.events,
            sources: &self.sources.named,
            other_sources: self.sources.others,
        };
        Some(Summary::entry(Outcome::Refused, now, content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::brief::{Brief, Kind};
    use crate::audit::tree::root;
    use serde_json::{Value, json};
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

    fn brief(sequence: u64, kind: Kind, bot: &str) -> Row {
        let instance = (bot.to_owned(), Uuid::nil());
        let brief = Brief::new(kind, Timestamp(NOW), instance, 1, None);
        Row::new(sequence, brief.numbered(sequence).to_bytes())
    }

    fn event(entry: Option<serde_json::Result<Vec<u8>>>) -> Value {
        serde_json::from_slice(&entry.unwrap().unwrap()).unwrap()
    }

    #[test]
    fn brief_entries_are_counted_once_and_bound_by_the_root_over_them() {
        let line = Row::new(4, br#"{"seq":4}"#.to_vec());
        let rows = [
            brief(3, Kind::Renewal, "a"),
            line.clone(),
            brief(5, Kind::Issue, "b"),
            brief(6, Kind::Renewal, "a"),
        ];
        let mut granted = Granted::from(3);
        granted.read(&brief(2, Kind::Renewal, "of the event before"));
        assert!(granted.entry(NOW).is_none());
        rows.iter().chain(&rows).for_each(|row| granted.read(row));
        assert_eq!(granted.next(), 7);
        let event = event(granted.entry(NOW));
        assert_eq!((&event["event"], &event["code"]), (&"calls.granted".into(), &"EN211I".into()));
        assert_eq!((&event["first_seq"], &event["last_seq"]), (&3.into(), &6.into()));
        assert_eq!(event["events"], json!({"bot.renew": 2, "bot.issue": 1}));
        assert_eq!(event["bots"], json!({"a": 2, "b": 1}));
        let leaves = [&rows[0], &rows[2], &rows[3]].map(|row| leaf_hash(row.entry()));
        assert_eq!(event["root"], Base64::encode_string(&root(&leaves)));
        let mut none = Granted::from(4);
        none.read(&line);
        assert!(none.entry(NOW).is_none());
    }

    #[test]
    fn many_bots_and_sources_are_counted_together() {
        let (mut granted, mut refused) = (Granted::default(), Refused::default());
        for number in 0..1000 {
            granted.read(&brief(number, Kind::Renewal, &format!("bot-{}", number % 100)));
            let source = format!("192.0.2.{}", number % 100);
            refused.add(Action::Join, "locked", Some(&source), 2);
        }
        refused.add(Action::Renew, "busy", None, 5);
        let event = [event(granted.entry(NOW)), event(refused.entry(NOW))];
        assert_eq!(event[0]["bots"].as_object().unwrap().len(), MAX_NAMED);
        assert_eq!(event[0]["other_bots"], 360);
        let must = json!({"bot.join": {"locked": 2000}, "bot.renew": {"busy": 5}});
        assert_eq!(event[1]["refusals"], must);
        assert_eq!(event[1]["sources"].as_object().unwrap().len(), MAX_NAMED);
        assert_eq!(event[1]["other_sources"], 725);
        assert_eq!(event[1]["outcome"], "refused");
        assert!(event[1].to_string().len() < 2500 && event[0].to_string().len() < 2500);
        assert!(Refused::default().entry(NOW).is_none());
    }
}
