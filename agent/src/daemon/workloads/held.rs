//! What one kind of caller has, kept fresh as long as it is watched.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host::clock;
use host::exit::{Exit, Failure};
use tokio::sync::watch;
use tokio::time::sleep;

use super::link::{CurrentIdentity, Link};
use crate::ceremony::workloads::Wanted;
use crate::credential::svid::Bundle;
use crate::workload_api::{Counts, Entitlement, Identities, Subscription};

/// How long what is not watched is kept: many programs fetch once and come back.
const LINGER: Duration = Duration::from_secs(30);

/// The pause after a failure, doubled by each further one.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// The pause after a refusal: the operator may create the workload identity meanwhile.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);

/// The longest pause: the clock may have been set.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// What one kind of caller has.
pub(super) struct Held {
    entitlement: watch::Sender<Entitlement>,
    /// Whether it is no longer kept fresh.
    has_ended: Mutex<bool>,
}

impl Held {
    /// Begins to fetch it.
    pub(super) fn begin(
        link: Arc<Link>,
        wanted: Vec<(Wanted, Option<String>)>,
        counts: Counts,
    ) -> Arc<Self> {
        let held = Arc::new(Self {
            entitlement: watch::Sender::new(Entitlement::Pending),
            has_ended: Mutex::new(false),
        });
        let kept = Arc::clone(&held);
        tokio::spawn(async move {
            tokio::select! {
                () = keep_fresh(&kept.entitlement, &link, &wanted, &counts) => {}
                () = kept.unwatched() => {}
            }
        });
        held
    }

    /// `None` if it has ended. What has expired while the host slept is not shown.
    pub(super) fn subscribe(&self) -> Option<Subscription> {
        expire(&self.entitlement);
        let has_ended = self.has_ended.lock().unwrap_or_else(PoisonError::into_inner);
        (!*has_ended).then(|| self.entitlement.subscribe())
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.has_ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends once nothing has watched for a while.
    async fn unwatched(&self) {
        loop {
            self.entitlement.closed().await;
            sleep(LINGER).await;
            let mut has_ended = self.has_ended.lock().unwrap_or_else(PoisonError::into_inner);
            if self.entitlement.is_closed() {
                *has_ended = true;
                return;
            }
        }
    }
}

/// Never ends.
async fn keep_fresh(
    entitlement: &watch::Sender<Entitlement>,
    link: &Link,
    wanted: &[(Wanted, Option<String>)],
    counts: &Counts,
) {
    let (mut changes, mut signs) = (Changes::of(link), Signs::of(link));
    let mut failures = 0;
    // Of the same failures in a row, the log has the first.
    let mut reported = None;
    loop {
        let renewals = signs.renewals();
        let issued = changes.apply_until(entitlement, link.x509_svids(wanted)).await;
        let length = match issued {
            Ok((svids, bundle)) => {
                counts.granted.count();
                failures = 0;
                reported = None;
                changes.bundles.mark_unchanged();
                entitlement
                    .send_replace(Entitlement::Identities(Arc::new(Identities { svids, bundle })));
                until_renewal(entitlement)
            }
            Err(failure) => {
                failures += 1;
                note(entitlement, &failure);
                if reported.as_ref() != Some(&failure) {
                    link.report(wanted, &failure);
                    reported = Some(failure.clone());
                }
                match failure.exit {
                    Exit::Refused => {
                        counts.refused.count();
                        REFUSED_PAUSE
                    }
                    _ => {
                        counts.failed.count();
                        MIN_PAUSE.saturating_mul(1 << (failures - 1).min(6)).min(MAX_PAUSE)
                    }
                }
            }
        };
        let pause = signs.pause(length, failures > 0, renewals);
        changes.apply_until(entitlement, pause).await;
    }
}

/// What changes what is held, besides the authority's answers.
struct Changes {
    /// The trust bundle.
    bundles: watch::Receiver<Option<Arc<Bundle>>>,
    /// The daemon has looked around: the clock may have been set, or the host may have slept.
    looks: watch::Receiver<u64>,
}

impl Changes {
    fn of(link: &Link) -> Self {
        Self { bundles: link.bundle(), looks: link.looks() }
    }

    /// Waits for `end`, which may take as long as a TPM or an authority that hangs. Meanwhile passes changes of the trust bundle on, and
    /// withdraws what expires.
    async fn apply_until<T>(
        &mut self,
        entitlement: &watch::Sender<Entitlement>,
        end: impl Future<Output = T>,
    ) -> T {
        let Self { bundles, looks } = self;
        let mut end = std::pin::pin!(end);
        loop {
            let expiry = sleep(until_expiry(entitlement));
            tokio::select! {
                output = end.as_mut() => return output,
                () = expiry => expire(entitlement),
                () = change(looks) => expire(entitlement),
                () = change(bundles) => {
                    let bundle = bundles.borrow_and_update().clone();
                    if let Some(bundle) = bundle {
                        rebundle(entitlement, &bundle);
                    }
                }
            }
        }
    }
}

/// What ends a pause early.
struct Signs {
    /// The agent's own identity: the authority has answered.
    identity: CurrentIdentity,
    /// As in [`Changes`], or the operator has asked to renew.
    looks: watch::Receiver<u64>,
}

impl Signs {
    fn of(link: &Link) -> Self {
        Self { identity: link.identity(), looks: link.looks() }
    }

    /// How many times the operator has asked to renew.
    fn renewals(&mut self) -> u64 {
        *self.looks.borrow_and_update()
    }

    /// Pauses, until a clock that was set says so, or the operator has asked to renew since there were so many `renewals`. After a
    /// failure, a sign that the authority may be reached ends the pause too.
    async fn pause(&mut self, length: Duration, has_failed: bool, renewals: u64) {
        let due = clock::now() + length;
        let end = sleep(length);
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                () = end.as_mut() => return,
                () = change(&mut self.identity), if has_failed => return,
                () = change(&mut self.looks) => {
                    if clock::now() >= due || self.renewals() != renewals {
                        return;
                    }
                }
            }
        }
    }
}

/// The next change; never, if there can be none.
async fn change<T>(of: &mut watch::Receiver<T>) {
    if of.changed().await.is_err() {
        std::future::pending().await
    }
}

fn rebundle(entitlement: &watch::Sender<Entitlement>, bundle: &Arc<Bundle>) {
    entitlement.send_if_modified(|now| {
        let Entitlement::Identities(identities) = now else { return false };
        if identities.bundle == *bundle {
            return false;
        }
        let svids = identities.svids.clone();
        *now = Entitlement::Identities(Arc::new(Identities { svids, bundle: Arc::clone(bundle) }));
        true
    });
}

/// Notes a failure: what is still valid stays.
fn note(entitlement: &watch::Sender<Entitlement>, failure: &Failure) {
    let now = match failure.exit {
        Exit::Refused => Entitlement::Nothing,
        _ => Entitlement::Unavailable(failure.message.as_str().into()),
    };
    let is_refused = failure.exit == Exit::Refused;
    entitlement.send_if_modified(|before| {
        let keeps = matches!(before, Entitlement::Identities(_)) && !is_refused;
        if !keeps {
            *before = now;
        }
        !keeps
    });
}

fn expire(entitlement: &watch::Sender<Entitlement>) {
    let now = clock::now().unix_timestamp();
    entitlement.send_if_modified(|before| {
        let Entitlement::Identities(identities) = before else { return false };
        let has_expired = identities.svids.iter().any(|keyed| keyed.svid.validity.not_after <= now);
        if has_expired {
            let why = "the identities have expired and cannot be renewed: see the agent's log";
            *before = Entitlement::Unavailable(why.into());
        }
        has_expired
    });
}

/// Until the first of them expires.
fn until_expiry(entitlement: &watch::Sender<Entitlement>) -> Duration {
    let end = match &*entitlement.borrow() {
        Entitlement::Identities(identities) => {
            identities.svids.iter().map(|keyed| keyed.svid.validity.not_after).min()
        }
        _ => None,
    };
    let now = clock::now().unix_timestamp();
    let left = end.map_or(u64::MAX, |end| u64::try_from(end - now).unwrap_or_default());
    Duration::from_secs(left).min(LOOK_AGAIN)
}

/// Until half of what is left of the shortest lifetime has passed, a tenth earlier or later. What was just issued began earlier
/// than now, for hosts whose clocks are behind.
fn until_renewal(entitlement: &watch::Sender<Entitlement>) -> Duration {
    let end = match &*entitlement.borrow() {
        Entitlement::Identities(identities) => {
            identities.svids.iter().map(|keyed| keyed.svid.validity.not_after).min()
        }
        _ => None,
    };
    let now = clock::now().unix_timestamp();
    let left = end.and_then(|end| u64::try_from(end - now).ok()).unwrap_or_default() / 2;
    let mut byte = [128];
    // Without randomness it is not earlier and not later.
    let _ = getrandom::fill(&mut byte);
    let [byte] = byte;
    let tenth = u64::from(byte).saturating_mul(left) / (255 * 5);
    Duration::from_secs((left - left / 10).saturating_add(tenth).max(1))
}
