//! A simulated host, with clocks, disks, a TPM and an authority that fail.

use super::*;

/// A host with its daemon.
pub(super) struct Host {
    machine: Machine,
    /// The clock shows the true time and this.
    pub(super) clock_error: i64,
    boot: Duration,
    pub(super) job: Option<(Job, Duration)>,
    identity: Option<Validity>,
    services: [Option<Validity>; SERVICES],
    stored: bool,
    token: u8,
    /// The token that the identity was made by.
    joined_by: u8,
    /// When the running check ends.
    file_check: Option<Duration>,
    /// Until when files hang.
    files: Duration,
    configuration_valid: bool,
    /// Until when these are away, on the boot clock.
    tpm: Duration,
    authority: Duration,
    refusing: Duration,
    hook: Duration,
    disk: Duration,
    /// What `/readyz` calls unhealthy.
    unhealthy: Vec<Holder>,
    reloading: bool,
    /// Failed reloads that the log tells of.
    failed_reloads: usize,
    /// The job at hand hangs, and so will the next one.
    hangs: bool,
    pub(super) next_hangs: bool,
    /// The job at hand has been reported as one that does not end.
    pub(super) overdue: bool,
    pub(super) ended: Option<End>,
}

impl Host {
    pub(super) fn new() -> Self {
        let services = [None; SERVICES];
        Self {
            machine: Self::machine(None, services),
            clock_error: 0,
            boot: MINUTE,
            job: None,
            identity: None,
            services,
            stored: true,
            token: 0,
            joined_by: 0,
            file_check: None,
            files: Duration::ZERO,
            configuration_valid: true,
            tpm: Duration::ZERO,
            authority: Duration::ZERO,
            refusing: Duration::ZERO,
            hook: Duration::ZERO,
            disk: Duration::ZERO,
            unhealthy: Vec::new(),
            reloading: false,
            failed_reloads: 0,
            hangs: false,
            next_hangs: false,
            overdue: false,
            ended: None,
        }
    }

    pub(super) fn machine(
        identity: Option<Validity>,
        services: [Option<Validity>; SERVICES],
    ) -> Machine {
        let services = services.into_iter().enumerate().map(|(index, validity)| Found {
            key: ServiceKey::Directory(format!("/{index}").into()),
            validity,
            policy: PACE,
            hook_pending: false,
        });
        Machine::new(identity, PACE, services, || 128)
    }

    fn true_wall(&self) -> i64 {
        T0 + i64::try_from(self.boot.as_secs()).unwrap()
    }

    fn now(&self) -> Moment {
        Moment { wall: self.true_wall() + self.clock_error, boot: self.boot }
    }

    pub(super) fn handle(&mut self, event: Event) {
        if self.ended.is_some() {
            return;
        }
        let (machine, actions) = self.machine.clone().next(event, self.now(), 200);
        self.machine = machine;
        for action in actions {
            match action {
                Action::Begin(job) => {
                    assert!(self.job.is_none(), "{job} begins beside another");
                    (self.overdue, self.hangs) = (false, self.next_hangs);
                    self.next_hangs = false;
                    self.job = Some((job, self.boot + if self.hangs { HANG } else { JOB }));
                }
                Action::CheckFiles => {
                    assert!(self.file_check.is_none(), "a second check beside another");
                    let look = if self.files > self.boot { LATE_LOOK } else { LOOK };
                    self.file_check = Some(self.boot + look);
                }
                Action::ReportOverdue(job) => {
                    assert_eq!(self.job.map(|(job, _)| job), Some(job), "no such job");
                    self.overdue = true;
                }
                Action::Ready => assert!(self.machine.all_valid(self.now().wall)),
                Action::NotifyReloading => self.reloading = true,
                Action::NotifyReloaded => {
                    assert!(std::mem::take(&mut self.reloading), "no reload that could be over");
                }
                Action::NotifyStopping(job) => {
                    assert_eq!(job, self.job.map(|(job, _)| job), "it waits for another job");
                }
                Action::End => {
                    assert_eq!(self.job, None, "it ends beside a job");
                    self.ended = Some(End::Orderly);
                }
                Action::Abort(job) => {
                    assert_eq!(self.job.map(|(job, _)| job), Some(job));
                    self.ended = Some(End::Aborted);
                }
            }
        }
        self.is_never_wrong_in_silence();
    }

    /// While nothing is done about it, what is not valid is reported.
    fn is_never_wrong_in_silence(&self) {
        if let Some((job, ends)) = self.job {
            // The loop looks at least once a minute.
            let begun = ends.saturating_sub(if self.hangs { HANG } else { JOB });
            let late = self.boot.saturating_sub(begun) > Machine::OVERDUE + MINUTE;
            assert!(!late || self.overdue, "{job} does not end, and this is not reported");
        }
        let idle = self.ended.is_none() && self.job.is_none();
        let silent = self.unhealthy.is_empty() && !self.machine.all_valid(self.now().wall);
        assert!(!(idle && silent), "something is wrong, and neither a job nor a report says so");
        assert!(!(idle && self.reloading), "a reload that does not end");
    }

    /// Lives until this time on the boot clock, as the loop does: to the end of the job, or until something is due, or at
    /// least once a minute.
    fn live_until(&mut self, end: Duration) {
        while self.ended.is_none() && self.boot < end {
            self.step(end);
        }
    }

    fn step(&mut self, end: Duration) {
        let pause =
            self.machine.time_until_due(self.now()).clamp(Duration::from_millis(100), MINUTE);
        let job = self.job.map(|(_, ends)| ends);
        let check = self.file_check;
        let next = [job, check].into_iter().flatten().fold(self.boot + pause, Duration::min);
        self.boot = next.max(self.boot).min(end);
        let event = match (self.job, check) {
            (Some((job, ends)), _) if ends <= self.boot => self.finish(job),
            (_, Some(ends)) if ends <= self.boot => self.files_checked(),
            _ => Event::AlarmRang,
        };
        self.handle(event);
    }

    pub(super) fn live(&mut self, time: Duration) {
        self.live_until(self.boot + time);
    }

    /// Lives until the machine has begun such a job.
    fn live_until_job(&mut self, renew_now: Job) {
        for _ in 0..10_000 {
            if self.job.is_some_and(|(job, _)| job == renew_now) {
                return;
            }
            self.step(Duration::MAX);
        }
        panic!("{renew_now} never begins");
    }

    fn files_checked(&mut self) -> Event {
        self.file_check = None;
        let changed = if self.stored { vec![] } else { vec![Holder::Identity] };
        Event::FilesChecked { changed, mismatched: self.is_departed() }
    }

    fn is_departed(&self) -> bool {
        self.identity.is_some() && self.joined_by != self.token
    }

    fn finish(&mut self, job: Job) -> Event {
        self.job = None;
        let wall = self.true_wall();
        let fresh = Validity { not_before: wall, not_after: wall + 3600 };
        let clock_is_wrong = self.clock_error.abs() > Validity::SKEW;
        let unreachable = self.tpm > self.boot || self.authority > self.boot || clock_is_wrong;
        let outcome = match job {
            Job::Configure if self.configuration_valid => {
                self.unhealthy.clear();
                self.file_check = None;
                let machine = Self::machine(self.identity, self.services);
                return Event::Configured(Box::new(machine.rejoining(self.is_departed())));
            }
            Job::Configure => {
                self.failed_reloads += 1;
                Outcome::Failed(FailureKind::Lasting)
            }
            Job::RunHook(_) if self.hook > self.boot => Outcome::Failed(FailureKind::Transient),
            Job::RunHook(_) => Outcome::HookRan,
            Job::Store if self.disk > self.boot => Outcome::Failed(FailureKind::Transient),
            Job::Store => {
                self.stored = true;
                Outcome::Stored
            }
            _ if unreachable => Outcome::Failed(FailureKind::Transient),
            _ if self.refusing > self.boot => Outcome::Failed(FailureKind::Lasting),
            Job::Join | Job::Renew => {
                (self.identity, self.stored) = (Some(fresh), true);
                if job == Job::Join {
                    self.joined_by = self.token;
                }
                let fails = self.disk > self.boot;
                if fails { Outcome::NotStored(fresh) } else { Outcome::Valid(fresh) }
            }
            Job::Issue(index) => {
                self.services[index] = Some(fresh);
                let fails = self.hook > self.boot;
                if fails { Outcome::HookFailed(fresh) } else { Outcome::Valid(fresh) }
            }
        };
        if let Some(holder) = job.holder() {
            self.unhealthy.retain(|unhealthy| *unhealthy != holder);
            let superseded = holder == Holder::Identity && self.is_departed();
            let is_complete = !matches!(
                outcome,
                Outcome::Failed(_) | Outcome::HookFailed(_) | Outcome::NotStored(_)
            );
            if !is_complete || superseded {
                self.unhealthy.push(holder);
            }
        }
        Event::Ended(job, outcome)
    }

    pub(super) fn bring_to(&mut self, state: State) {
        match state {
            State::Starting => return,
            State::Joining => return self.handle(Event::Woke),
            _ => self.live(MINUTE),
        }
        assert!(self.job.is_none() && self.machine.all_valid(self.now().wall));
        match state {
            State::Renewing => self.live_until_job(Job::Renew),
            State::Delivering => self.live_until_job(Job::Issue(1)),
            State::RunningHook => {
                self.hook = self.boot + Duration::from_secs(1500);
                self.live_until_job(Job::RunHook(0));
            }
            State::WaitingAfterFailure => {
                self.authority = self.boot + Duration::from_secs(1800);
                self.live(Duration::from_secs(1500));
                while self.job.is_some() {
                    self.step(Duration::MAX);
                }
                assert!(!self.unhealthy.is_empty(), "nothing has failed");
            }
            State::Configuring => {
                self.handle(Event::ReloadRequested);
                assert_eq!(self.job.map(|(job, _)| job), Some(Job::Configure));
            }
            State::Starting | State::Joining | State::Idle => {}
        }
    }

    pub(super) fn befall(&mut self, incident: Incident) {
        let outage = self.boot + OUTAGE;
        let event = match incident {
            SighupValid | SighupInvalid => {
                self.configuration_valid = incident == SighupValid;
                Event::ReloadRequested
            }
            Sigusr1 => Event::RenewRequested,
            Sigterm => Event::StopRequested,
            SigtermTwice => {
                self.handle(Event::StopRequested);
                Event::StopRequested
            }
            outside => {
                self.change(outside, outage);
                Event::AlarmRang
            }
        };
        self.handle(event);
    }

    /// Changes of which the daemon is not notified.
    fn change(&mut self, incident: Incident, outage: Duration) {
        match incident {
            ClockAhead | ClockBehind => {
                self.clock_error = if incident == ClockAhead { YEAR } else { -YEAR };
            }
            Suspend => {
                self.boot += Duration::from_secs(2 * 3600);
            }
            StorageRemoved => {
                self.stored = false;
            }
            TokenChanged => {
                self.token ^= 1;
            }
            FilesHang => {
                self.files = outage;
            }
            TpmGone => {
                self.tpm = outage;
            }
            AuthorityGone => {
                self.authority = outage;
            }
            AuthorityRefuses => {
                self.refusing = outage;
            }
            HookFails => {
                self.hook = outage;
            }
            StorageFull => {
                self.disk = outage;
            }
            SighupValid | SighupInvalid | Sigusr1 | Sigterm | SigtermTwice => {}
        }
    }

    pub(super) fn ends_as_it_should(&mut self, incidents: &[Incident]) {
        let stops = incidents.iter().any(|incident| matches!(incident, Sigterm | SigtermTwice));
        if stops {
            self.live(JOB);
            assert!(self.ended.is_some(), "it does not end after the job at hand");
            return;
        }
        self.live(OUTAGE);
        self.clock_error = 0;
        self.handle(Event::Woke);
        // The longest pause after a failure, and the jobs of one renewal.
        self.live(Machine::MAX_LASTING_BACKOFF + 6 * JOB);
        while self.job.is_some() {
            self.live(JOB);
        }
        assert_eq!(self.ended, None, "it ended by itself");
        assert!(self.machine.all_valid(self.now().wall) && self.unhealthy.is_empty());
        assert!(self.stored && !self.reloading);
        assert!(!self.is_departed(), "the daemon does not join with the configured token");
        if incidents.contains(&SighupInvalid) && !incidents.contains(&SighupValid) {
            assert!(self.failed_reloads > 0, "the log does not tell of the configuration");
        }
        // And it goes on.
        let before = self.identity;
        self.live(Duration::from_secs(3600));
        assert_ne!(self.identity, before, "nothing is renewed any more");
    }
}
