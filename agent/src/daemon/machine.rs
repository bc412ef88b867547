//! What the daemon does next, as a pure function of what it knows and what time it is.
//!
//! There are the credentials of the identity, and those of each service. The identity is renewed while it is valid, and
//! replaced by a join when it is not; a service's credentials are issued with a valid identity. One job runs at a time, and
//! after each failure there is a time at which to try again.
//!
//! Signals are events like any other. What has to wait for the end of a job (a new configuration, the daemon's own end)
//! waits here, in the state, so that the loop around the machine has nothing to remember.

mod due;
mod file_check;
mod job;
mod limit;
mod rejoin;
mod timing;

use std::time::Duration;

use self::file_check::FileCheck;
pub use self::job::{FailureKind, Holder, Job, Outcome};
use self::limit::Limit;
pub use self::timing::{Moment, backoff, renewal_time};
use crate::config::ServiceKey;
pub use crate::credential::validity::Validity;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What the loop waited for is due, or the daemon has just begun.
    Woke,
    /// A minute has passed, or the clock was set.
    AlarmRang,
    /// A job ended.
    Ended(Job, Outcome),
    /// [`Job::Configure`] succeeded: the initial state under the new configuration.
    Configured(Box<Machine>),
    /// [`Action::CheckFiles`] ended with something new; without, [`Machine::file_check_ended`] is called instead.
    FilesChecked {
        /// Holders whose files differ from what was written.
        changed: Vec<Holder>,
        /// Whether the configuration asks for another identity than the stored one.
        mismatched: bool,
    },
    /// SIGUSR1: renew everything now.
    RenewRequested,
    /// SIGHUP: read the configuration again.
    ReloadRequested,
    /// SIGTERM or SIGINT: end the daemon.
    StopRequested,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin a job.
    Begin(Job),
    /// Compare the files in place with what was written. The check runs beside later jobs; none runs when it begins.
    CheckFiles,
    /// Everything is valid and in place for the first time under this configuration.
    Ready,
    /// Report that this job has not ended for [`Machine::OVERDUE`], for example because the TPM hangs. The agent keeps
    /// waiting for it.
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

/// The credentials of the identity or of a service, and what is next for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct CredentialState {
    validity: Option<Validity>,
    /// When they were received, seconds since 1970; unknown for credentials that were found on the disk.
    received: Option<i64>,
    seed: u8,
    failures: u32,
    /// The earliest time of the next attempt, on the boot clock.
    retry_at: Duration,
    /// Renew at the next opportunity.
    renew_now: bool,
    /// What follows a renewal has yet to succeed: the reload hook of a service, or storing the identity.
    follow_up_due: bool,
    /// The renewal failed: do that first, since it may succeed.
    follow_up_first: bool,
    limit: Limit,
}

impl CredentialState {
    fn received(&self, validity: Validity, now: Moment, seed: u8) -> Self {
        let limit = self.limit.after_renewal(now.boot);
        Self { validity: Some(validity), received: Some(now.wall), seed, limit, ..Self::default() }
    }

    fn fail(&mut self, max: Duration, now: Moment, seed: u8) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now.boot.saturating_add(backoff(self.failures, max, seed));
    }
}

/// How often to renew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalPolicy {
    /// Renew after this time; `None`: only at half of the lifetime.
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
    pub policy: RenewalPolicy,
    /// Its reload hook has yet to run for them.
    pub hook_pending: bool,
}

/// A service. Jobs name it by its position, which does not change while a configuration is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    key: ServiceKey,
    policy: RenewalPolicy,
    credential: CredentialState,
}

/// All that decides what the daemon does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    identity: CredentialState,
    /// The configuration asks for another identity: join, and go on with this one until that succeeds.
    rejoin: Option<CredentialState>,
    services: Vec<Service>,
    policy: RenewalPolicy,
    running: Option<Job>,
    file_check: Option<FileCheck>,
    /// When the job is reported as overdue, on the boot clock; `None` once it has been.
    overdue_at: Option<Duration>,
    /// Everything has been valid and in place under this configuration.
    ready: bool,
    /// The service manager knows that the daemon has started.
    started: bool,
    reload_requested: bool,
    /// The service manager waits for the end of a reload.
    reloading: bool,
    stopping: bool,
    oneshot: bool,
}

impl Machine {
    /// The longest pause between retries of what may succeed at any time.
    pub const MAX_TRANSIENT_BACKOFF: Duration = Duration::from_secs(60);
    /// The longest pause between retries that fail until an operator changes something.
    pub const MAX_LASTING_BACKOFF: Duration = Duration::from_secs(300);
    /// A job that takes longer is reported: a slow TPM and a slow reload hook together need less.
    pub const OVERDUE: Duration = Duration::from_secs(600);

    /// A daemon with what was found on the disk.
    #[must_use]
    pub fn new(
        identity: Option<Validity>,
        policy: RenewalPolicy,
        services: impl IntoIterator<Item = Found>,
        mut seed: impl FnMut() -> u8,
    ) -> Self {
        let mut credential =
            |validity| CredentialState { validity, seed: seed(), ..CredentialState::default() };
        let identity = credential(identity);
        let service = |found: Found| {
            let Found { key, validity, policy, hook_pending } = found;
            Service {
                key,
                policy,
                credential: CredentialState { follow_up_due: hook_pending, ..credential(validity) },
            }
        };
        Self {
            identity,
            rejoin: None,
            services: services.into_iter().map(service).collect(),
            policy,
            running: None,
            file_check: None,
            overdue_at: None,
            ready: false,
            started: false,
            reload_requested: false,
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

    /// The next state, and what to do. `seed` is a fresh random byte.
    #[must_use]
    pub fn next(mut self, event: Event, now: Moment, seed: u8) -> (Self, Vec<Action>) {
        let mut actions = Vec::new();
        match event {
            Event::Woke => actions.extend(self.overdue(now)),
            Event::AlarmRang => {
                actions.extend(self.overdue(now));
                actions.extend(self.check_files());
            }
            Event::Ended(job, outcome) => {
                self.end(job, outcome, now, seed);
                actions.extend(self.reload_ended(job));
            }
            Event::Configured(machine) => {
                self.configure(*machine);
                actions.extend(self.reload_ended(Job::Configure));
            }
            Event::FilesChecked { changed, mismatched } => self.files_checked(&changed, mismatched),
            Event::RenewRequested => self.renew_all(),
            Event::ReloadRequested if self.stopping || self.oneshot => {}
            Event::ReloadRequested => {
                (self.reload_requested, self.reloading) = (true, self.started);
                actions.extend(self.reloading.then_some(Action::NotifyReloading));
            }
            Event::StopRequested => match self.running {
                // A second stop, or a stop of a one-shot agent, aborts the running job.
                Some(job) if self.stopping || self.oneshot => {
                    return (self, vec![Action::Abort(job)]);
                }
                running => {
                    self.stopping = true;
                    actions.push(Action::NotifyStopping(running));
                }
            },
        }
        if !self.ready && self.all_valid(now.wall) {
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
        let job = match std::mem::take(&mut self.reload_requested) {
            true => Some(Job::Configure),
            false => {
                self.include_what_is_nearly_due(now);
                self.due(now)
            }
        };
        self.running = job;
        self.overdue_at = job.map(|_| now.boot.saturating_add(Self::OVERDUE));
        job.map(Action::Begin).or(self.oneshot.then_some(Action::End))
    }

    /// Reports the running job once it is overdue, once.
    fn overdue(&mut self, now: Moment) -> Option<Action> {
        let job = self.running?;
        self.overdue_at.take_if(|at| *at <= now.boot).map(|_| Action::ReportOverdue(job))
    }

    /// A reload is over only if no other has been asked for in the meantime.
    fn reload_ended(&mut self, job: Job) -> Option<Action> {
        let over = job == Job::Configure && !self.reload_requested && !self.stopping;
        (over && std::mem::take(&mut self.reloading)).then_some(Action::NotifyReloaded)
    }

    /// Begins again with another configuration, and renews everything under it.
    fn configure(&mut self, machine: Self) {
        let Self { mut identity, rejoin, mut services, policy, .. } = machine;
        // The limits stay: a reload hook can ask for a reload.
        identity.limit = self.identity.limit;
        for service in &mut services {
            let before = self.services.iter().find(|before| before.key == service.key);
            service.credential.limit =
                before.map_or_else(Limit::default, |before| before.credential.limit);
        }
        (self.identity, self.rejoin, self.services, self.policy) =
            (identity, rejoin, services, policy);
        (self.running, self.ready) = (None, false);
        // A check that goes on is about the former configuration: its result is not waited for.
        self.file_check = None;
        self.renew_all();
    }

    fn renew_all(&mut self) {
        self.rejoin = self.rejoin.take().map(|_| CredentialState::default());
        self.credentials_mut().for_each(|credential| {
            credential.renew_now = true;
            credential.retry_at = Duration::ZERO;
        });
    }

    /// Whether everything was valid and in place once.
    #[must_use]
    pub const fn has_started(&self) -> bool {
        self.started
    }

    /// Whether the identity is valid now.
    #[must_use]
    pub fn identity_is_valid(&self, wall: i64) -> bool {
        self.identity.validity.is_some_and(|validity| validity.is_valid_at(wall))
    }

    /// Whether a service's credentials are valid now and its reload hook has run.
    #[must_use]
    pub fn service_is_ready(&self, index: usize, wall: i64) -> bool {
        self.services.get(index).is_some_and(|Service { credential, .. }| {
            !credential.follow_up_due
                && credential.validity.is_some_and(|validity| validity.is_valid_at(wall))
        })
    }

    /// Whether all credentials are valid and written, every reload hook has run, and no join is due for another identity.
    #[must_use]
    pub fn all_valid(&self, wall: i64) -> bool {
        self.identity_is_valid(wall)
            && self.rejoin.is_none()
            && (0..self.services.len()).all(|index| self.service_is_ready(index, wall))
    }

    fn end(&mut self, job: Job, outcome: Outcome, now: Moment, seed: u8) {
        self.running = None;
        self.exclude_from_file_check(job, outcome);
        if outcome == Outcome::Failed(FailureKind::IdentityGone) {
            self.identity.validity = None;
        }
        let Some(holder) = job.holder() else {
            // The reload failed and the configuration is kept; everything is renewed all the same.
            return self.renew_all();
        };
        let holds = self.identity_is_valid(now.wall);
        let credential = match (&mut self.rejoin, job) {
            (Some(rejoin), Job::Join) if holds => Some(rejoin),
            _ => self.credential_mut(holder),
        };
        let Some(credential) = credential else { return };
        credential.follow_up_first = job == Job::Renew && credential.follow_up_due;
        match outcome {
            Outcome::Valid(validity) if job == Job::Join => {
                (self.identity, self.rejoin) = (self.identity.received(validity, now, seed), None);
            }
            Outcome::Valid(validity) => *credential = credential.received(validity, now, seed),
            Outcome::NotStored(validity) => {
                let failures = self.identity.failures;
                let received = self.identity.received(validity, now, seed);
                self.identity = CredentialState { failures, follow_up_due: true, ..received };
                self.identity.fail(Self::MAX_TRANSIENT_BACKOFF, now, seed);
                self.rejoin.take_if(|_| job == Job::Join);
            }
            Outcome::HookRan | Outcome::Stored => {
                (credential.failures, credential.follow_up_due) = (0, false);
            }
            Outcome::Configured => {}
            Outcome::HookFailed(validity) => {
                let failures = credential.failures;
                *credential = CredentialState {
                    failures,
                    follow_up_due: true,
                    ..credential.received(validity, now, seed)
                };
                credential.fail(Self::MAX_TRANSIENT_BACKOFF, now, seed);
            }
            Outcome::Failed(FailureKind::Lasting) => {
                credential.fail(Self::MAX_LASTING_BACKOFF, now, seed)
            }
            Outcome::Failed(_) => credential.fail(Self::MAX_TRANSIENT_BACKOFF, now, seed),
        }
        // The credentials of services expire with the identity's: issue them again after each join or renewal.
        if let (Job::Join | Job::Renew, Outcome::Valid(_) | Outcome::NotStored(_)) = (job, outcome)
        {
            self.services.iter_mut().for_each(|service| service.credential.renew_now = true);
        }
    }

    fn credential_mut(&mut self, holder: Holder) -> Option<&mut CredentialState> {
        match holder {
            Holder::Identity => Some(&mut self.identity),
            Holder::Service(index) => {
                self.services.get_mut(index).map(|service| &mut service.credential)
            }
        }
    }

    fn credentials_mut(&mut self) -> impl Iterator<Item = &mut CredentialState> {
        let services = self.services.iter_mut().map(|service| &mut service.credential);
        std::iter::once(&mut self.identity).chain(services)
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod scenarios;
