//! Everything that may happen, at each moment at which it may happen: the machine in a simulated world, driven as the loop
//! drives it. Each story has to end healthy or with the daemon, and nothing may be wrong in silence meanwhile.

mod host;

use self::host::Host;
use super::*;

const T0: i64 = 1_800_000_000;
const PACE: RenewalPolicy = RenewalPolicy { interval: Some(Duration::from_secs(1200)) };
const MINUTE: Duration = Duration::from_secs(60);
/// What each job takes.
const JOB: Duration = Duration::from_secs(5);
/// What one takes that hangs.
const HANG: Duration = Duration::from_secs(1200);
/// What a check of the files takes, and what one takes that gives up.
const LOOK: Duration = Duration::from_secs(1);
const LATE_LOOK: Duration = Duration::from_secs(120);
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
    /// The storage cannot be written.
    StorageFull,
    /// Another identity is asked for; the second time the one before.
    TokenChanged,
    /// The file system that is being checked hangs.
    FilesHang,
    TpmGone,
    AuthorityGone,
    AuthorityRefuses,
    HookFails,
}

use Incident::*;

const INCIDENTS: [Incident; 16] = [
    SighupValid,
    SighupInvalid,
    Sigusr1,
    Sigterm,
    SigtermTwice,
    ClockAhead,
    ClockBehind,
    Suspend,
    StorageRemoved,
    StorageFull,
    TokenChanged,
    FilesHang,
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
    let (machine, actions) = machine.next(Event::ReloadRequested, now, 0);
    assert_eq!(actions, []);
    assert_eq!(machine.next(Event::StopRequested, now, 0).1, [Action::Abort(Job::Join)]);
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
        let index = usize::try_from(draw(16)).unwrap();
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
