//! Workloads: what each caller of a Workload API may have, fetched from the authority when it calls and renewed as long as it
//! watches.
//!
//! [`link`] asks the authority, [`held`] keeps what one kind of caller has fresh, [`sockets`] are where they call.

mod held;
mod jwt_cache;
mod link;
pub(super) mod sockets;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use self::held::Held;
use self::jwt_cache::JwtCache;
pub(super) use self::link::Link;
use crate::attest::Caller;
use crate::ceremony::workloads::Wanted;
use crate::config::{Offer, Selector, WorkloadApi};
use crate::credential::svid::JwtSvid;
use crate::workload_api::{Answer, Counts, Entitlement, NotIssued, Source, Subscription};

/// Kinds of callers at a time; one of a user's programs is one.
const MAX_HELD: usize = 4096;

/// Of one user. On a host with containers, all of them may be root's.
const MAX_HELD_PER_USER: usize = 1024;

/// How often refused callers of one user are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What the callers of one Workload API may have.
pub(super) struct Workloads {
    api: WorkloadApi,
    link: Arc<Link>,
    counts: Counts,
    held: Mutex<HashMap<Kind, Arc<Held>>>,
    jwts: JwtCache,
    unmatched: LoggedLately,
}

/// Callers that have the same: of equal attributes, as far as they can matter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    /// The offers whose rules they match, by number.
    offers: Vec<usize>,
    /// What the authority decides with, without the process ID; nothing if they are offered only the bot's own identity.
    workload: Option<Caller>,
    uid: Option<u32>,
}

impl Workloads {
    pub(super) fn new(api: WorkloadApi, link: Arc<Link>, counts: Counts) -> Arc<Self> {
        let (held, jwts, unmatched) = Default::default();
        Arc::new(Self { api, link, counts, held, jwts, unmatched })
    }

    /// What to ask for on behalf of the caller, an item for each offer that it matches.
    fn wanted(&self, caller: Option<&Caller>) -> (Kind, Vec<(Wanted, Option<String>)>) {
        let offers = self.api.offers.iter().enumerate();
        let matching: Vec<(usize, &Offer)> =
            offers.filter(|(_, offer)| is_for(offer, caller)).collect();
        let matters = matching.iter().any(|(_, offer)| offer.selector != Selector::Own);
        let workload = caller.filter(|_| matters).map(|caller| {
            let mut workload = caller.clone();
            workload.unix.pid = 0;
            workload
        });
        let kind = Kind {
            offers: matching.iter().map(|(number, _)| *number).collect(),
            workload: workload.clone(),
            uid: caller.map(|caller| caller.unix.uid),
        };
        let wanted = |(_, offer): (usize, &Offer)| {
            let wanted = Wanted {
                selector: offer.selector.clone(),
                workload: workload.clone(),
                service: self.api.name.to_string(),
                ttl: self.api.ttl,
            };
            (wanted, offer.hint.clone())
        };
        (kind, matching.into_iter().map(wanted).collect())
    }

    /// Counts a caller that matches no rule, and logs it unless that was just done for its user: clients come back for years.
    fn note_unmatched(&self, caller: Option<&Caller>) {
        self.counts.unmatched.count();
        if self.unmatched.is_new(caller.map(|caller| caller.unix.uid), Instant::now()) {
            self.link.report_unmatched(self.api.name.as_str(), caller);
        }
    }

    /// What callers of this kind have, fetched if it is not known. `None` if there is no room for it.
    fn held(&self, kind: Kind, wanted: Vec<(Wanted, Option<String>)>) -> Option<Subscription> {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(subscription) = all.get(&kind).and_then(|held| held.subscribe()) {
            return Some(subscription);
        }
        all.retain(|_, held| !held.has_ended());
        let of_user = all.keys().filter(|other| other.uid == kind.uid).count();
        if all.len() >= MAX_HELD || of_user >= MAX_HELD_PER_USER {
            return None;
        }
        let held = Held::begin(Arc::clone(&self.link), wanted, self.counts.clone());
        let subscription = held.subscribe();
        all.insert(kind, held);
        subscription
    }
}

/// The users whose refused callers were logged, and when.
#[derive(Default)]
struct LoggedLately(Mutex<HashMap<Option<u32>, Instant>>);

impl LoggedLately {
    /// Whether a user is to be logged.
    fn is_new(&self, uid: Option<u32>, now: Instant) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logged.retain(|_, when| now.saturating_duration_since(*when) < LOG_INTERVAL);
        let is_new = logged.len() < MAX_HELD && !logged.contains_key(&uid);
        if is_new {
            logged.insert(uid, now);
        }
        is_new
    }
}

impl Source for Workloads {
    fn subscribe(&self, caller: Option<&Caller>) -> Subscription {
        let (kind, wanted) = self.wanted(caller);
        if wanted.is_empty() {
            self.note_unmatched(caller);
            return constant(Entitlement::Nothing);
        }
        let full = || constant(Entitlement::Unavailable("too many kinds of workloads".into()));
        self.held(kind, wanted).unwrap_or_else(full)
    }

    fn jwt_svids<'a>(
        &'a self,
        caller: Option<&'a Caller>,
        audiences: &'a [String],
        spiffe_id: Option<&'a str>,
    ) -> Answer<'a, Result<Vec<JwtSvid>, NotIssued>> {
        Box::pin(async move {
            let (kind, mut wanted) = self.wanted(caller);
            if wanted.is_empty() {
                self.note_unmatched(caller);
                return Err(NotIssued::Nothing);
            }
            // The lifetime in the configuration is that of certificates. A JWT is good for whoever has seen it.
            wanted.iter_mut().for_each(|(wanted, _)| wanted.ttl = Duration::ZERO);
            let key = jwt_cache::Key::new(kind, audiences, spiffe_id);
            let fetch = || async {
                let fetched = self.link.jwt_svids(wanted, audiences, spiffe_id).await;
                let counter = match &fetched {
                    Ok(_) => &self.counts.granted,
                    Err(NotIssued::Nothing) => &self.counts.refused,
                    Err(_) => &self.counts.failed,
                };
                counter.count();
                fetched
            };
            self.jwts.get(key, fetch).await
        })
    }
}

/// Whether an offer is for a caller. One that is not attested has the bot's own identity at most.
fn is_for(offer: &Offer, caller: Option<&Caller>) -> bool {
    match caller {
        Some(caller) => offer.rules.admit(caller),
        None => offer.rules.0.is_empty() && offer.selector == Selector::Own,
    }
}

/// What does not change.
fn constant(entitlement: Entitlement) -> Subscription {
    let (sender, receiver) = watch::channel(entitlement);
    // A subscription whose sender is gone ends its stream; this one stays until its reader goes.
    tokio::spawn(async move { sender.closed().await });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_callers_of_a_user_are_logged_once_a_minute() {
        let (logged, begin) = (LoggedLately::default(), Instant::now());
        let is_new = |uid, seconds| logged.is_new(uid, begin + Duration::from_secs(seconds));
        assert!(is_new(Some(1), 0) && is_new(Some(2), 1) && is_new(None, 1));
        assert!(!is_new(Some(1), 59) && !is_new(None, 59));
        assert!(is_new(Some(1), 60) && !is_new(Some(1), 119) && is_new(Some(2), 119));
    }
}
