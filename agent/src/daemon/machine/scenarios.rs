//! Everything that may happen, at each moment at which it may happen: the machine in a simulated world, driven as the loop
//! drives it. Each story has to end healthy or with the daemon, and nothing may be wrong in silence meanwhile.

use super::*;

const T0: i64 = 1_800_000_000;
const PACE: Pace = Pace { interval: Some(Duration::from_secs(1200)) };
const MINUTE: Duration = Duration::from_secs(60);
/// What each job takes.
const JOB: Duration = Duration::from_secs(5);
/// What one takes that hangs.
const HANG: Duration = Duration::from_secs(1200);
/// How long what goes away stays away.
const OUTAGE: Duration = Duration::from_secs(900);
const YEAR: i64 = 365 * 24 * 3600;
const SERVICES: usize = 2;

/// What happens to a daemon.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Incident {
    SighupValid,
    SighupInvalid,
    Sigusr1,
    Sigterm,
    SigtermTwice,
    ClockAhead,
    ClockBehind,
    Suspend,
    StorageRemoved,
    TpmGone,
    AuthorityGone,
    AuthorityRefuses,
    HookFails,
}

use Incident::*;

const INCIDENTS: [Incident; 13] = [
    SighupValid,
    SighupInvalid,
    Sigusr1,
    Sigterm,
    SigtermTwice,
    ClockAhead,
    ClockBehind,
    Suspend,
    StorageRemoved,
    TpmGone,
    AuthorityGone,
    AuthorityRefuses,
    HookFails,
];

/// When it happens.
#[derive(Clone, Copy, Debug)]
enum State {
    Starting,
    Joining,
    Idle,
    Renewing,
    Delivering,
    RunningHook,
    WaitingAfterFailure,
    Configuring,
}

const STATES: [State; 8] = [
    State::Starting,
    State::Joining,
    State::Idle,
    State::Renewing,
    State::Delivering,
    State::RunningHook,
    State::WaitingAfterFailure,
    State::Configuring,
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Orderly,
    Aborted,
}

/// A host with its daemon.
struct Host {
    machine: Machine,
    /// The clock shows the true time and this.
    clock_error: i64,
    boot: Duration,
    job: Option<(Job, Duration)>,
    identity: Option<Validity>,
    services: [Option<Validity>; SERVICES],
    stored: bool,
    configuration_valid: bool,
    /// Until when these are away, on the boot clock.
    tpm: Duration,
    authority: Duration,
    refusing: Duration,
    hook: Duration,
    /// What `/readyz` calls unhealthy.
    unhealthy: Vec<Part>,
    reloading: bool,
    /// Failed reloads that the log tells of.
    failed_reloads: usize,
    /// The job at hand hangs, and so will the next one.
    hangs: bool,
    next_hangs: bool,
    /// The job at hand has been reported as one that does not end.
    overdue: bool,
    ended: Option<End>,
}

impl Host {
    fn new() -> Self {
        let services = [None; SERVICES];
        Self {
            machine: Self::machine(None, services),
            clock_error: 0,
            boot: MINUTE,
            job: None,
            identity: None,
            services,
            stored: true,
            configuration_valid: true,
            tpm: Duration::ZERO,
            authority: Duration::ZERO,
            refusing: Duration::ZERO,
            hook: Duration::ZERO,
            unhealthy: Vec::new(),
            reloading: false,
            failed_reloads: 0,
            hangs: false,
            next_hangs: false,
            overdue: false,
            ended: None,
        }
    }

    fn machine(identity: Option<Validity>, services: [Option<Validity>; SERVICES]) -> Machine {
        Machine::new(identity, PACE, services.map(|validity| (validity, PACE)), || 128)
    }

    fn true_wall(&self) -> i64 {
        T0 + i64::try_from(self.boot.as_secs()).unwrap()
    }

    fn now(&self) -> Moment {
        Moment { wall: self.true_wall() + self.clock_error, boot: self.boot }
    }

    fn handle(&mut self, event: Event) {
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
                Action::ReportOverdue(job) => {
                    assert_eq!(self.job.map(|(job, _)| job), Some(job), "no such job");
                    self.overdue = true;
                }
                Action::Ready => assert!(self.machine.all_well(self.now().wall)),
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
            assert!(!late || self.overdue, "{job} does not end, and nobody says so");
        }
        let idle = self.ended.is_none() && self.job.is_none();
        let silent = self.unhealthy.is_empty() && !self.machine.all_well(self.now().wall);
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
        // What is removed is seen by looking; everything else wakes the daemon.
        let longest = if self.stored { 60 * MINUTE } else { MINUTE };
        let pause = self.machine.idle(self.now()).clamp(Duration::from_millis(100), longest);
        let next = self.job.map_or(self.boot + pause, |(_, ends)| ends.min(self.boot + MINUTE));
        self.boot = next.max(self.boot).min(end);
        let event = match self.job {
            Some((job, ends)) if ends <= self.boot => self.finish(job),
            Some(_) => Event::Woke,
            None => self.look(),
        };
        self.handle(event);
    }

    fn live(&mut self, time: Duration) {
        self.live_until(self.boot + time);
    }

    /// Lives until the machine has begun such a job.
    fn live_until_job(&mut self, wanted: Job) {
        for _ in 0..10_000 {
            if self.job.is_some_and(|(job, _)| job == wanted) {
                return;
            }
            self.step(Duration::MAX);
        }
        panic!("{wanted} never begins");
    }

    fn look(&self) -> Event {
        let lost = !self.stored && self.machine.is_settled(Part::Identity);
        if lost { Event::Lost(vec![Part::Identity]) } else { Event::Woke }
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
                let machine = Self::machine(self.identity, self.services);
                return Event::Configured(Box::new(machine));
            }
            Job::Configure => {
                self.failed_reloads += 1;
                Outcome::Failed(Trouble::Lasting)
            }
            Job::Reload(_) if self.hook > self.boot => Outcome::Failed(Trouble::Passing),
            Job::Reload(_) => Outcome::Told,
            _ if unreachable => Outcome::Failed(Trouble::Passing),
            _ if self.refusing > self.boot => Outcome::Failed(Trouble::Lasting),
            Job::Join | Job::Renew => {
                (self.identity, self.stored) = (Some(fresh), true);
                Outcome::Valid(fresh)
            }
            Job::Issue(index) => {
                self.services[index] = Some(fresh);
                let fails = self.hook > self.boot;
                if fails { Outcome::Untold(fresh) } else { Outcome::Valid(fresh) }
            }
        };
        if let Some(part) = job.part() {
            self.unhealthy.retain(|unhealthy| *unhealthy != part);
            if matches!(outcome, Outcome::Failed(_) | Outcome::Untold(_)) {
                self.unhealthy.push(part);
            }
        }
        Event::Ended(job, outcome)
    }

    fn bring_to(&mut self, state: State) {
        match state {
            State::Starting => return,
            State::Joining => return self.handle(Event::Woke),
            _ => self.live(MINUTE),
        }
        assert!(self.job.is_none() && self.machine.all_well(self.now().wall));
        match state {
            State::Renewing => self.live_until_job(Job::Renew),
            State::Delivering => self.live_until_job(Job::Issue(1)),
            State::RunningHook => {
                self.hook = self.boot + Duration::from_secs(1500);
                self.live_until_job(Job::Reload(0));
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
                self.handle(Event::ReloadAsked);
                assert_eq!(self.job.map(|(job, _)| job), Some(Job::Configure));
            }
            State::Starting | State::Joining | State::Idle => {}
        }
    }

    fn befall(&mut self, incident: Incident) {
        let outage = self.boot + OUTAGE;
        let event = match incident {
            SighupValid | SighupInvalid => {
                self.configuration_valid = incident == SighupValid;
                Event::ReloadAsked
            }
            Sigusr1 => Event::RenewAsked,
            Sigterm => Event::StopAsked,
            SigtermTwice => {
                self.handle(Event::StopAsked);
                Event::StopAsked
            }
            ClockAhead | ClockBehind => {
                self.clock_error = if incident == ClockAhead { YEAR } else { -YEAR };
                Event::Woke
            }
            Suspend => {
                self.boot += Duration::from_secs(2 * 3600);
                Event::Woke
            }
            StorageRemoved => {
                self.stored = false;
                Event::Woke
            }
            TpmGone => {
                self.tpm = outage;
                Event::Woke
            }
            AuthorityGone => {
                self.authority = outage;
                Event::Woke
            }
            AuthorityRefuses => {
                self.refusing = outage;
                Event::Woke
            }
            HookFails => {
                self.hook = outage;
                Event::Woke
            }
        };
        self.handle(event);
    }

    fn ends_as_it_should(&mut self, incidents: &[Incident]) {
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
        self.live(Machine::LASTING_MOST + 6 * JOB);
        while self.job.is_some() {
            self.live(JOB);
        }
        assert_eq!(self.ended, None, "it ended by itself");
        assert!(self.machine.all_well(self.now().wall) && self.unhealthy.is_empty());
        assert!(self.stored && !self.reloading);
        if incidents.contains(&SighupInvalid) && !incidents.contains(&SighupValid) {
            assert!(self.failed_reloads > 0, "the log does not tell of the configuration");
        }
        // And it goes on.
        let before = self.identity;
        self.live(Duration::from_secs(3600));
        assert_ne!(self.identity, before, "nothing is renewed any more");
    }
}

/// Says which story it was that failed.
struct Story<'a>(State, &'a [Incident]);

impl Drop for Story<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("in the state {:?}, after {:?}", self.0, self.1);
        }
    }
}

fn tell(state: State, incidents: &[Incident], between: Duration) {
    let _story = Story(state, incidents);
    let mut host = Host::new();
    host.bring_to(state);
    for incident in incidents {
        host.befall(*incident);
        host.live(between);
    }
    host.ends_as_it_should(incidents);
}

#[test]
fn every_incident_in_every_state_ends_healthy_or_with_the_daemon() {
    for state in STATES {
        for incident in INCIDENTS {
            tell(state, &[incident], Duration::ZERO);
        }
    }
}

/// During the same job, and after it.
#[test]
fn every_two_incidents_in_every_state_end_healthy_or_with_the_daemon() {
    for state in STATES {
        for first in INCIDENTS {
            for second in INCIDENTS {
                for between in [0, 7] {
                    tell(state, &[first, second], Duration::from_secs(between));
                }
            }
        }
    }
}

#[test]
fn second_stop_ends_at_once_whatever_job_runs() {
    for state in STATES {
        let mut host = Host::new();
        host.bring_to(state);
        let busy = host.job.is_some();
        host.befall(SigtermTwice);
        assert_eq!(host.ended, Some(if busy { End::Aborted } else { End::Orderly }), "{state:?}");
    }
}

#[test]
fn oneshot_stops_at_the_first_signal_and_ignores_a_reload() {
    let machine = Host::machine(None, [None; SERVICES]).once();
    let now = Moment { wall: T0, boot: MINUTE };
    let (machine, actions) = machine.next(Event::Woke, now, 0);
    assert_eq!(actions, [Action::Begin(Job::Join)]);
    let (machine, actions) = machine.next(Event::ReloadAsked, now, 0);
    assert_eq!(actions, []);
    assert_eq!(machine.next(Event::StopAsked, now, 0).1, [Action::Abort(Job::Join)]);
}

#[test]
fn oneshot_ends_when_everything_is_in_place() {
    let valid = Some(Validity { not_before: T0, not_after: T0 + 3600 });
    let machine = Host::machine(valid, [valid; SERVICES]).once();
    let now = Moment { wall: T0, boot: MINUTE };
    assert_eq!(machine.next(Event::Woke, now, 0).1, [Action::Ready, Action::End]);
}

#[test]
fn random_incidents_for_weeks_end_healthy_and_are_never_silent() {
    let mut random = 7_u64;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (random >> 33) % below
    };
    let lasting = INCIDENTS.map(|incident| match incident {
        // The daemon goes on.
        Sigterm | SigtermTwice => SighupInvalid,
        incident => incident,
    });
    let mut host = Host::new();
    for _ in 0..3000 {
        host.live(Duration::from_secs(draw(1200)));
        host.clock_error = 0;
        host.next_hangs = draw(50) == 0;
        let index = usize::try_from(draw(13)).unwrap();
        host.befall(lasting[index]);
    }
    host.next_hangs = false;
    host.live(HANG);
    host.ends_as_it_should(&[Sigusr1]);
}

#[test]
fn job_that_hangs_is_reported_and_given_up_at_the_second_stop() {
    let mut host = Host::new();
    host.next_hangs = true;
    host.bring_to(State::Joining);
    host.live(Machine::OVERDUE + 2 * MINUTE);
    assert!(host.overdue);
    host.befall(Sigterm);
    assert_eq!(host.ended, None);
    host.befall(Sigterm);
    assert_eq!(host.ended, Some(End::Aborted));
}
