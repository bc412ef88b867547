//! What the daemon does next, as a pure function of what it knows and what time it is.
//!
//! A *unit* is a set of credentials with one life: the identity, and one for each service. The identity is renewed while it
//! is valid, and replaced by a join when it is not; a service is issued by means of a valid identity. One job runs at a time, and
//! whatever goes wrong, the answer is a time at which to try again.
//!
//! Signals are events like any other. What has to wait for the end of a job (a new configuration, the daemon's own end)
//! waits here, in the state, so that the loop around the machine has nothing to remember.

mod job;
mod limit;
mod look;
mod rejoin;
mod timing;

use std::time::Duration;

pub use self::job::{Job, Outcome, Part, Trouble};
use self::limit::Limit;
use self::look::Look;
pub use self::timing::{Moment, backoff, renewal_time};
use crate::config::ServiceKey;
pub use crate::credential::validity::Validity;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Time has passed, or the daemon has just begun.
    Woke,
    /// The alarm: time has passed, or the clock was set. At least once a minute.
    AlarmRang,
    /// A job ended.
    Ended(Job, Outcome),
    /// [`Job::Configure`] succeeded: the machine that begins with what is there under the new configuration.
    Configured(Box<Machine>),
    /// [`Action::Look`] ended.
    Looked {
        /// What is not as it was written any more.
        changed: Vec<Part>,
        /// Whether the configuration asks for another identity than the one there is.
        departed: bool,
    },
    /// SIGUSR1: renew everything now.
    RenewAsked,
    /// SIGHUP: read the configuration again.
    ReloadAsked,
    /// SIGTERM or SIGINT: end the daemon.
    StopAsked,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin a job.
    Begin(Job),
    /// Compare what is in place with what was written, whatever else goes on. No job runs yet.
    Look,
    /// Report that this has not ended for [`Machine::LOOK_OVERDUE`].
    ReportLook,
    /// Everything is valid and in place for the first time under this configuration.
    Ready,
    /// Report that this job has not ended for [`Machine::OVERDUE`]: a file system hangs, say. It is waited for all the same.
    ReportOverdue(Job),
    /// Notify the service manager that a reload has been asked for.
    NotifyReloading,
    /// Notify the service manager that the reload is over, whether the configuration could be used or not.
    NotifyReloaded,
    /// Notify that the daemon will end after this job.
    NotifyStopping(Option<Job>),
    /// End.
    End,
    /// End at once, in the middle of this job.
    Abort(Job),
}

/// Credentials with one life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Unit {
    validity: Option<Validity>,
    /// When they were received, seconds since 1970; unknown of what was found on the disk.
    received: Option<i64>,
    seed: u8,
    failures: u32,
    /// Not before this time on the boot clock.
    not_until: Duration,
    /// Renew as soon as may be.
    wanted: bool,
    /// The reload hook has yet to run.
    reload_due: bool,
    limit: Limit,
}

impl Unit {
    fn received(&self, validity: Validity, now: Moment, seed: u8) -> Self {
        let limit = self.limit.after_renewal(now.boot);
        Self { validity: Some(validity), received: Some(now.wall), seed, limit, ..Self::default() }
    }

    fn fail(&mut self, most: Duration, now: Moment, seed: u8) {
        self.failures = self.failures.saturating_add(1);
        self.not_until = now.boot.saturating_add(backoff(self.failures, most, seed));
    }
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Renew at least this often, if not only by half of life.
    pub interval: Option<Duration>,
}

/// What is known of a service when a configuration comes into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What makes it the same service under another configuration.
    pub key: ServiceKey,
    /// When the credentials in its destination are valid, if they can be used.
    pub validity: Option<Validity>,
    /// How often to renew them.
    pub pace: Pace,
    /// Its reload hook has yet to run for them.
    pub reload_pending: bool,
}

/// A service. Jobs name it by its position, which does not change while a configuration is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    key: ServiceKey,
    pace: Pace,
    unit: Unit,
}

/// All that decides what the daemon does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    identity: Unit,
    /// The configuration asks for another identity: join, and go on with this one until that succeeds.
    rejoin: Option<Unit>,
    services: Vec<Service>,
    pace: Pace,
    running: Option<Job>,
    look: Option<Look>,
    /// When the job is reported as overdue, on the boot clock; `None` once it has been.
    overdue_at: Option<Duration>,
    /// Everything has been valid and in place under this configuration.
    ready: bool,
    /// The service manager knows that the daemon has started.
    started: bool,
    reload_asked: bool,
    /// The service manager waits for the end of a reload.
    reloading: bool,
    stopping: bool,
    oneshot: bool,
}

impl Machine {
    /// The longest wait between two tries of what may do at any time.
    pub const PASSING_MOST: Duration = Duration::from_secs(60);
    /// The longest pause between retries of something that someone has to change first.
    pub const LASTING_MOST: Duration = Duration::from_secs(300);
    /// A job that takes longer is reported: a slow TPM and a slow reload hook together need less.
    pub const OVERDUE: Duration = Duration::from_secs(600);

    /// A daemon with what was found on the disk.
    #[must_use]
    pub fn new(
        identity: Option<Validity>,
        pace: Pace,
        services: impl IntoIterator<Item = Found>,
        mut seed: impl FnMut() -> u8,
    ) -> Self {
        let mut unit = |validity| Unit { validity, seed: seed(), ..Unit::default() };
        let identity = unit(identity);
        let service = |found: Found| {
            let Found { key, validity, pace, reload_pending } = found;
            Service { key, pace, unit: Unit { reload_due: reload_pending, ..unit(validity) } }
        };
        Self {
            identity,
            rejoin: None,
            services: services.into_iter().map(service).collect(),
            pace,
            running: None,
            look: None,
            overdue_at: None,
            ready: false,
            started: false,
            reload_asked: false,
            reloading: false,
            stopping: false,
            oneshot: false,
        }
    }

    /// The same for a daemon that ends as soon as nothing is due.
    #[must_use]
    pub const fn once(mut self) -> Self {
        self.oneshot = true;
        self
    }

    /// The next state, and what to do. `seed` is a fresh random octet.
    #[must_use]
    pub fn next(mut self, event: Event, now: Moment, seed: u8) -> (Self, Vec<Action>) {
        let mut actions = Vec::new();
        match event {
            Event::Woke => actions.extend(self.overdue(now)),
            Event::AlarmRang => {
                actions.extend(self.overdue(now));
                actions.extend(self.look(now));
            }
            Event::Ended(job, outcome) => {
                self.end(job, outcome, now, seed);
                actions.extend(self.reload_ended(job));
            }
            Event::Configured(machine) => {
                self.configure(*machine);
                actions.extend(self.reload_ended(Job::Configure));
            }
            Event::Looked { changed, departed } => self.looked(&changed, departed),
            Event::RenewAsked => self.renew_all(),
            Event::ReloadAsked if self.stopping || self.oneshot => {}
            Event::ReloadAsked => {
                (self.reload_asked, self.reloading) = (true, self.started);
                actions.extend(self.reloading.then_some(Action::NotifyReloading));
            }
            Event::StopAsked => match self.running {
                // Who asked for everything once, and breaks that off, does not wait for a part of it.
                Some(job) if self.stopping || self.oneshot => {
                    return (self, vec![Action::Abort(job)]);
                }
                running => {
                    self.stopping = true;
                    actions.push(Action::NotifyStopping(running));
                }
            },
        }
        if !self.ready && self.all_well(now.wall) {
            (self.ready, self.started) = (true, true);
            actions.push(Action::Ready);
        }
        if self.running.is_none() {
            actions.extend(self.begin(now));
        }
        (self, actions)
    }

    /// What to do while no job runs.
    fn begin(&mut self, now: Moment) -> Option<Action> {
        if self.stopping {
            return Some(Action::End);
        }
        let job = match std::mem::take(&mut self.reload_asked) {
            true => Some(Job::Configure),
            false => {
                self.want_what_is_nearly_due(now);
                self.due(now)
            }
        };
        self.running = job;
        self.overdue_at = job.map(|_| now.boot.saturating_add(Self::OVERDUE));
        job.map(Action::Begin).or(self.oneshot.then_some(Action::End))
    }

    /// The job that should have ended by now, once.
    fn overdue(&mut self, now: Moment) -> Option<Action> {
        let job = self.running?;
        self.overdue_at.take_if(|at| *at <= now.boot).map(|_| Action::ReportOverdue(job))
    }

    /// A reload is over only if no other has been asked for in the meantime.
    fn reload_ended(&mut self, job: Job) -> Option<Action> {
        let over = job == Job::Configure && !self.reload_asked && !self.stopping;
        (over && std::mem::take(&mut self.reloading)).then_some(Action::NotifyReloaded)
    }

    /// Begins again with another configuration, and renews everything under it.
    fn configure(&mut self, machine: Self) {
        let Self { mut identity, rejoin, mut services, pace, .. } = machine;
        // The limits stay: a reload hook can ask for a reload.
        identity.limit = self.identity.limit;
        for service in &mut services {
            let before = self.services.iter().find(|before| before.key == service.key);
            service.unit.limit = before.map_or_else(Limit::default, |before| before.unit.limit);
        }
        (self.identity, self.rejoin, self.services, self.pace) = (identity, rejoin, services, pace);
        (self.running, self.ready) = (None, false);
        self.replaced_all();
        self.renew_all();
    }

    fn renew_all(&mut self) {
        self.rejoin = self.rejoin.take().map(|_| Unit::default());
        self.units_mut().for_each(|unit| {
            unit.wanted = true;
            unit.not_until = Duration::ZERO;
        });
    }

    /// How long nothing will be due: until the earliest renewal or retry. The wall clock can jump, so do not sleep
    /// for much longer than a minute at a time without asking again.
    #[must_use]
    pub fn idle(&self, now: Moment) -> Duration {
        const MAX: Duration = Duration::from_secs(3600);
        if self.running.is_some() {
            return MAX;
        }
        let identity = self.wait(&self.identity, self.pace, now);
        let services = self.services.iter();
        let services = services.map(|service| self.wait(&service.unit, service.pace, now));
        let rejoin =
            self.rejoin.as_ref().map_or(MAX, |unit| unit.not_until.saturating_sub(now.boot));
        services.fold(identity, Duration::min).min(rejoin).min(MAX)
    }

    /// Whether the identity is valid now.
    #[must_use]
    pub fn identity_holds(&self, wall: i64) -> bool {
        self.identity.validity.is_some_and(|validity| validity.holds_at(wall))
    }

    /// Whether a service's credentials are valid now and its reload hook has run.
    #[must_use]
    pub fn service_holds(&self, index: usize, wall: i64) -> bool {
        self.services.get(index).is_some_and(|Service { unit, .. }| {
            !unit.reload_due && unit.validity.is_some_and(|validity| validity.holds_at(wall))
        })
    }

    /// Whether all credentials are valid and written.
    #[must_use]
    pub fn all_well(&self, wall: i64) -> bool {
        self.identity_holds(wall)
            && self.rejoin.is_none()
            && (0..self.services.len()).all(|index| self.service_holds(index, wall))
    }

    fn end(&mut self, job: Job, outcome: Outcome, now: Moment, seed: u8) {
        self.running = None;
        self.replaced(job, outcome);
        if outcome == Outcome::Failed(Trouble::IdentityGone) {
            self.identity.validity = None;
        }
        let Some(part) = job.part() else {
            // The configuration was not changed. The request still asks to renew everything.
            return self.renew_all();
        };
        let holds = self.identity_holds(now.wall);
        let unit = match (&mut self.rejoin, job) {
            (Some(rejoin), Job::Join) if holds => Some(rejoin),
            _ => self.unit_mut(part),
        };
        let Some(unit) = unit else { return };
        match outcome {
            Outcome::Valid(validity) if job == Job::Join => {
                (self.identity, self.rejoin) = (self.identity.received(validity, now, seed), None);
            }
            Outcome::Valid(validity) => *unit = unit.received(validity, now, seed),
            Outcome::Reloaded => (unit.failures, unit.reload_due) = (0, false),
            Outcome::Configured => {}
            Outcome::ReloadFailed(validity) => {
                let failures = unit.failures;
                *unit = Unit { failures, reload_due: true, ..unit.received(validity, now, seed) };
                unit.fail(Self::PASSING_MOST, now, seed);
            }
            Outcome::Failed(Trouble::Lasting) => unit.fail(Self::LASTING_MOST, now, seed),
            Outcome::Failed(_) => unit.fail(Self::PASSING_MOST, now, seed),
        }
        // Services live with the identity: a new one brings them new credentials.
        if let (Job::Join | Job::Renew, Outcome::Valid(_)) = (job, outcome) {
            self.services.iter_mut().for_each(|service| service.unit.wanted = true);
        }
    }

    /// What is due within the jitter of what is due now is renewed with it, over the same connection: a handshake costs the
    /// TPM two commands. A service with the identity's interval is thus always renewed with the identity.
    fn want_what_is_nearly_due(&mut self, now: Moment) {
        if !matches!(self.due(now), Some(Job::Renew | Job::Issue(_))) {
            return;
        }
        let services = self.services.iter_mut().map(|service| (&mut service.unit, service.pace));
        for (unit, pace) in std::iter::once((&mut self.identity, self.pace)).chain(services) {
            let earliest = Unit { seed: 0, ..unit.clone() };
            let untroubled = unit.failures == 0 && !unit.reload_due;
            unit.wanted |= untroubled && Self::renewal(&earliest, pace, now) <= now.wall;
        }
    }

    fn due(&self, now: Moment) -> Option<Job> {
        let is_due = |rejoin: &Unit| rejoin.not_until <= now.boot;
        if self.rejoin.as_ref().is_some_and(is_due) && self.identity_holds(now.wall) {
            return Some(Job::Join);
        }
        if self.wait(&self.identity, self.pace, now).is_zero() {
            let holds = self.identity_holds(now.wall);
            return Some(if holds { Job::Renew } else { Job::Join });
        }
        if !self.identity_holds(now.wall) {
            return None;
        }
        let mut services = self.services.iter().enumerate();
        services.find(|(_, service)| self.wait(&service.unit, service.pace, now).is_zero()).map(
            |(index, Service { unit, pace, .. })| {
                let placed = !unit.wanted && now.wall < Self::renewal(unit, *pace, now);
                if placed && unit.reload_due { Job::Reload(index) } else { Job::Issue(index) }
            },
        )
    }

    /// How long until a unit is due; zero if it is. What has failed is due again, even where a clock that was set right
    /// has made what was there before valid in the meantime: who asks for our health wants to hear of a success.
    fn wait(&self, unit: &Unit, pace: Pace, now: Moment) -> Duration {
        let retry = unit.not_until.max(unit.limit.not_until()).saturating_sub(now.boot);
        if unit.wanted || unit.failures > 0 || unit.reload_due {
            return retry;
        }
        let until = Self::renewal(unit, pace, now).saturating_sub(now.wall);
        retry.max(Duration::from_secs(u64::try_from(until).unwrap_or(0)))
    }

    /// When a unit is to be renewed; now if it is not valid. Authorities date certificates back, for clocks that are late:
    /// a life that is shorter than that would be renewed without end, were it reckoned from its first second.
    fn renewal(unit: &Unit, pace: Pace, now: Moment) -> i64 {
        match unit.validity {
            Some(validity) if validity.holds_at(now.wall) => {
                let not_before = validity.not_before.max(unit.received.unwrap_or(i64::MIN));
                renewal_time(Validity { not_before, ..validity }, pace.interval, unit.seed)
            }
            _ => now.wall,
        }
    }

    fn unit_mut(&mut self, part: Part) -> Option<&mut Unit> {
        match part {
            Part::Identity => Some(&mut self.identity),
            Part::Service(index) => self.services.get_mut(index).map(|service| &mut service.unit),
        }
    }

    fn units_mut(&mut self) -> impl Iterator<Item = &mut Unit> {
        let services = self.services.iter_mut().map(|service| &mut service.unit);
        std::iter::once(&mut self.identity).chain(services)
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod scenarios;
