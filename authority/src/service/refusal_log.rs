//! The record of refusals, bounded before any proof.
//!
//! Any host that can connect can cause any number of refusals. Of each source, action and refusal
//! code the first few a minute are recorded in full; the rest are counted, and the count is recorded
//! when the minute is over. All this is in the file only; the log has one event a minute with the numbers.
//! Metrics count every one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, warn};

use super::Authority;
use super::refusal::Refusal;
use super::{Peer, Source};
use crate::audit::{Action, Attempt, Event, Refused, bounded};
use crate::resource::Timestamp;

/// For how long refusals are counted together.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);

/// Refusals of one source, action and code that are recorded in full in a window.
const MAX_OF_A_KIND: u64 = 10;

/// Refusals that are recorded in full in a window: some 2 KB each in the audit log and the
/// program's log together.
const MAX_IN_FULL: usize = 300;

/// Sources, actions and codes that are counted apart in a window. Others are counted together.
const MAX_KINDS: usize = 256;

/// What is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    action: Action,
    code: &'static str,
    /// None for many sources together.
    source: Option<Source>,
}

/// How many refusals of a kind were counted and not recorded in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    kind: Kind,
    more: u64,
}

/// The refusals of the window, and those that no event summarizes yet.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    window: Mutex<Window>,
    ended: Mutex<Refused>,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    in_full: usize,
    /// By kind: recorded in full, and counted only.
    kinds: BTreeMap<Kind, (u64, u64)>,
}

impl Refusals {
    /// Counts a refusal; true if it is to be recorded in full.
    fn note(&self, action: Action, code: &'static str, source: Source, now: Instant) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.began.get_or_insert(now);
        let own = Kind { action, code, source: Some(source) };
        let kind = if window.kinds.contains_key(&own) || window.kinds.len() < MAX_KINDS {
            own
        } else {
            Kind { source: None, ..own }
        };
        let room = window.in_full < MAX_IN_FULL;
        let (in_full, more) = window.kinds.entry(kind).or_default();
        if room && *in_full < MAX_OF_A_KIND {
            *in_full += 1;
            window.in_full += 1;
            true
        } else {
            *more = more.saturating_add(1);
            false
        }
    }

    /// Ends the window if it is over, or if `now` is `None`; returns what was only counted in it.
    fn end(&self, now: Option<Instant>) -> Vec<Counted> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let over = match (window.began, now) {
            (None, _) => false,
            (Some(began), Some(now)) => now.saturating_duration_since(began) >= WINDOW,
            (Some(_), None) => true,
        };
        if !over {
            return Vec::new();
        }
        let ended = std::mem::take(&mut *window).kinds;
        let mut summary = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        for (Kind { action, code, source }, (in_full, more)) in &ended {
            let source = source.map(|source| source.to_string());
            summary.add(*action, code, source.as_deref(), in_full.saturating_add(*more));
        }
        let counted = ended.into_iter().map(|(kind, (_, more))| Counted { kind, more });
        counted.filter(|counted| counted.more > 0).collect()
    }

    /// The refusals of the windows that have ended since the last time.
    pub(super) fn take_summary(&self) -> Refused {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives back what could not be recorded.
    pub(super) fn keep_summary(&self, refused: Refused) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let later = std::mem::replace(&mut *ended, refused);
        ended.merge(later);
    }
}

impl Authority {
    /// Counts a refusal and records it, if it is one of the first of its kind; says whether it was.
    pub(super) fn record_refusal(
        &self,
        action: Action,
        peer: &Peer,
        attempt: Attempt,
        refusal: &Refusal,
    ) -> bool {
        let now = Instant::now();
        self.record_counted(self.refusals.end(Some(now)));
        let code = refusal.code.as_str();
        if !self.refusals.note(action, code, peer.source(), now) {
            return false;
        }
        let reason = bounded(&refusal.reason).unwrap_or_default();
        let (event, remote) = (action.event(), peer.remote);
        let token = attempt.token_name.as_deref().unwrap_or_default();
        let instance = attempt.bot_instance_id.as_deref().unwrap_or_default();
        match action {
            Action::Join => warn!(code, reason, token, %remote, "join refused"),
            _ => warn!(event, code, reason, instance, %remote, "refused"),
        }
        let time = Timestamp(self.clock.now());
        self.record_refused(&Event::refused(action, time, attempt, code, &reason));
        true
    }

    /// Records what was only counted, if the window is over.
    pub(crate) fn record_counted_refusals(&self) {
        self.record_counted(self.refusals.end(Some(Instant::now())));
    }

    /// The same before the authority stops, whether the window is over or not.
    pub fn record_last_refusals(&self) {
        self.record_counted(self.refusals.end(None));
    }

    fn record_counted(&self, all: Vec<Counted>) {
        for Counted { kind: Kind { action, code, source }, more } in all {
            let remote = source.map(|source| source.to_string());
            let from_certificate = remote.as_deref().unwrap_or("many sources");
            warn!(
                event = action.event(),
                code,
                remote = from_certificate,
                more,
                "more refusals, only counted"
            );
            let attempt = Attempt { remote, ..Attempt::default() };
            let reason = "more refusals within a minute, only counted";
            let time = Timestamp(self.clock.now());
            let mut event = Event::refused(action, time, attempt, code, reason);
            event.more = Some(more);
            self.record_refused(&event);
        }
    }

    /// Records a refusal unless the remaining disk space is reserved for grants.
    fn record_refused(&self, event: &Event) {
        let written = match self.audit.has_reserve() {
            Ok(true) => self.audit.write(event),
            Ok(false) => {
                warn!(
                    "refusals are no longer written to the audit log: the remaining disk space is for grants"
                );
                return;
            }
            Err(cause) => Err(cause),
        };
        if let Err(cause) = written {
            error!(%cause, "the audit log cannot be written");
        }
    }
}

impl Attempt {
    /// An attempt from this address of which nothing else is known yet.
    pub(super) fn from(remote: SocketAddr) -> Self {
        Self { remote: Some(remote.to_string()), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn first_refusals_of_a_kind_are_recorded_and_the_rest_counted() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let one = source("192.0.2.1");
        let note = |action, code, source| refusals.note(action, code, source, now);
        let in_full = (0..1000).filter(|_| note(Action::Join, "malformed", one)).count();
        assert_eq!(in_full as u64, MAX_OF_A_KIND);
        assert!(note(Action::Join, "oversized", one), "another code");
        assert!(note(Action::WhoAmI, "malformed", one), "another action");
        assert!(note(Action::Join, "malformed", source("192.0.2.2")), "another source");
        assert_eq!(refusals.end(Some(now + WINDOW / 2)), []);
        let kind = Kind { action: Action::Join, code: "malformed", source: Some(one) };
        assert_eq!(refusals.end(Some(now + WINDOW)), [Counted { kind, more: 990 }]);
        assert_eq!(refusals.end(None), [], "begun again");
        assert!(note(Action::Join, "malformed", one));
    }

    #[test]
    fn many_sources_are_bounded_together() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let sources = (0..20_000u32).map(|n| source(&std::net::Ipv4Addr::from(n).to_string()));
        let in_full = sources.filter(|one| refusals.note(Action::WhoAmI, "locked", *one, now));
        assert_eq!(in_full.count(), MAX_KINDS + MAX_OF_A_KIND as usize);
        let counted = refusals.end(None);
        assert_eq!(counted.len(), 1);
        assert_eq!(counted[0].kind.source, None);
        assert_eq!(counted[0].more, 20_000 - MAX_KINDS as u64 - MAX_OF_A_KIND);
    }
}
