mod files_that_fail;

use super::*;

const HOUR: i64 = 3600;
const T0: i64 = 1_800_000_000;
const PACE: RenewalPolicy = RenewalPolicy { interval: Some(Duration::from_secs(1200)) };

fn at(seconds: i64) -> Moment {
    moment(seconds, seconds)
}

fn moment(wall: i64, boot: i64) -> Moment {
    Moment { wall: T0 + wall, boot: Duration::from_secs(boot.try_into().unwrap()) }
}

fn valid(from: i64) -> Validity {
    Validity { not_before: T0 + from, not_after: T0 + from + HOUR }
}

/// Runs the machine as a daemon would, with a world that answers each job, and returns what was done when.
fn live(
    mut machine: Machine,
    seconds: std::ops::Range<i64>,
    mut world: impl FnMut(Job, i64) -> Outcome,
) -> (Machine, Vec<(i64, Job)>) {
    let mut done = Vec::new();
    for second in seconds {
        let mut event = Event::Woke;
        loop {
            let (next, actions) = machine.next(event, at(second), 128);
            machine = next;
            let Some(job) = actions.iter().find_map(|action| match action {
                Action::Begin(job) => Some(*job),
                _ => None,
            }) else {
                break;
            };
            done.push((second, job));
            event = Event::Ended(job, world(job, second));
        }
    }
    (machine, done)
}

fn count(done: &[(i64, Job)], job: Job) -> usize {
    done.iter().filter(|(_, did)| *did == job).count()
}

fn fresh(services: usize) -> Machine {
    Machine::new(None, PACE, found((0..services).map(|_| (None, PACE))), || 128)
}

/// Services in directories `/0`, `/1` and so on.
fn found(
    services: impl IntoIterator<Item = (Option<Validity>, RenewalPolicy)>,
) -> impl Iterator<Item = Found> {
    services.into_iter().enumerate().map(|(index, (validity, policy))| Found {
        key: ServiceKey::Directory(format!("/{index}").into()),
        validity,
        policy,
        hook_pending: false,
    })
}

#[test]
fn renewal_is_at_the_interval_or_half_of_life_give_or_take_a_tenth() {
    let life = valid(0);
    let minutes = |interval: u64, seed| {
        (renewal_time(life, Some(Duration::from_secs(interval * 60)), seed) - T0) as f64 / 60.0
    };
    assert_eq!(minutes(20, 128), 20.0);
    assert_eq!(minutes(90, 128), 30.0);
    assert_eq!(renewal_time(life, None, 128) - T0, HOUR / 2);
    assert!((18.0..18.1).contains(&minutes(20, 0)) && (21.9..22.0).contains(&minutes(20, 255)));
    for seed in 0..=255 {
        let time = renewal_time(Validity { not_before: 5, not_after: 5 }, PACE.interval, seed);
        assert_eq!(time, 5, "a life without length");
    }
}

#[test]
fn waits_double_up_to_a_bound_and_half_of_each_is_chance() {
    let most = Duration::from_secs(60);
    assert_eq!(backoff(1, most, 255), Duration::from_secs(1));
    assert_eq!(backoff(3, most, 255), Duration::from_secs(4));
    assert_eq!(backoff(3, most, 0), Duration::from_secs(2));
    assert_eq!(backoff(u32::MAX, most, 255), most);
}

#[test]
fn a_new_host_joins_then_issues_then_renews_for_ever() {
    let (_, done) = live(fresh(2), 0..3 * HOUR, |_, second| Outcome::Valid(valid(second)));
    assert_eq!(done[..3], [(0, Job::Join), (0, Job::Issue(0)), (0, Job::Issue(1))]);
    assert_eq!(done[3..6], [(1200, Job::Renew), (1200, Job::Issue(0)), (1200, Job::Issue(1))]);
    assert_eq!(done.len(), 3 * 9, "every twenty minutes, and nothing else");
}

#[test]
fn a_restart_with_valid_credentials_does_nothing() {
    let services = [(Some(valid(0)), PACE)];
    let machine = Machine::new(Some(valid(0)), PACE, found(services), || 128);
    let (machine, actions) = machine.next(Event::Woke, at(60), 0);
    assert_eq!(actions, [Action::Ready]);
    assert_eq!(machine.time_until_due(at(60)), Duration::from_secs(1140));
}

#[test]
fn restart_runs_only_the_pending_reload_hooks() {
    let services = found([(Some(valid(0)), PACE), (Some(valid(0)), PACE)]);
    let services = services.zip([false, true]);
    let services = services.map(|(found, hook_pending)| Found { hook_pending, ..found });
    let machine = Machine::new(Some(valid(0)), PACE, services, || 128);
    assert!(machine.service_is_ready(0, T0 + 60) && !machine.service_is_ready(1, T0 + 60));
    let (machine, done) = live(machine, 60..90, |_, second| match second {
        60 => Outcome::Failed(FailureKind::Transient),
        _ => Outcome::HookRan,
    });
    assert_eq!(done, [(60, Job::RunHook(1)), (61, Job::RunHook(1))]);
    assert!(machine.all_valid(T0 + 90));
}

#[test]
fn host_joins_again_if_its_credentials_expire_during_an_outage() {
    let mut first = true;
    let outage = 600..4 * HOUR;
    let (machine, done) = live(fresh(1), 0..5 * HOUR, |job, second| {
        let away = outage.contains(&second);
        assert!(!first || job == Job::Join);
        first = false;
        if away { Outcome::Failed(FailureKind::Transient) } else { Outcome::Valid(valid(second)) }
    });
    let joins = |range: std::ops::Range<i64>| {
        done.iter().filter(|(second, job)| range.contains(second) && *job == Job::Join).count()
    };
    assert_eq!(joins(1..HOUR), 0, "renewals as long as the identity is valid");
    assert!(joins(HOUR..4 * HOUR) > 150, "joins every minute or so after that");
    let back = done.iter().find(|(second, _)| *second >= 4 * HOUR).unwrap();
    assert!(back.0 < 4 * HOUR + 61 && back.1 == Job::Join);
    assert!(machine.all_valid(T0 + 5 * HOUR - 1));
}

#[test]
fn no_service_is_issued_without_a_valid_identity() {
    let (_, done) = live(fresh(1), 0..600, |_, _| Outcome::Failed(FailureKind::Lasting));
    assert!(done.iter().all(|(_, job)| *job == Job::Join));
    assert!((3..20).contains(&done.len()), "{} tries in ten minutes", done.len());
}

#[test]
fn expiry_during_sleep_is_noticed_at_once() {
    let machine = Machine::new(Some(valid(0)), PACE, [], || 128);
    let (machine, _) = machine.next(Event::Woke, at(10), 0);
    let (_, actions) = machine.next(Event::Woke, at(2 * HOUR), 0);
    assert_eq!(actions, [Action::Begin(Job::Join)]);
}

/// The host cannot distinguish a wrong clock from an expired certificate. It retries with pauses, and is healthy again
/// as soon as the clock is.
#[test]
fn a_clock_that_jumps_by_a_year_either_way_heals_when_it_comes_back() {
    const YEAR: i64 = 365 * 24 * HOUR;
    for jump in [YEAR, -YEAR] {
        let machine = Machine::new(Some(valid(0)), PACE, [], || 128);
        let (machine, actions) = machine.next(Event::Woke, moment(jump, 10), 0);
        assert_eq!(actions, [Action::Begin(Job::Join)]);
        let failed = Event::Ended(Job::Join, Outcome::Failed(FailureKind::Transient));
        let (machine, actions) = machine.next(failed, moment(jump, 11), 255);
        assert_eq!(actions, []);
        assert!(!machine.all_valid(T0 + jump));
        let (machine, actions) = machine.next(Event::Woke, moment(60, 70), 0);
        // The old identity is good again; that it could not be renewed is history once it has been.
        assert_eq!(actions, [Action::Ready, Action::Begin(Job::Renew)]);
        assert!(machine.all_valid(T0 + 60));
    }
}

#[test]
fn asked_to_renew_everything_is_renewed_once() {
    let services = [(Some(valid(0)), PACE)];
    let machine = Machine::new(Some(valid(0)), PACE, found(services), || 128);
    let (machine, actions) = machine.next(Event::RenewRequested, at(5), 0);
    assert_eq!(actions, [Action::Ready, Action::Begin(Job::Renew)]);
    let ended = Event::Ended(Job::Renew, Outcome::Valid(valid(5)));
    let (machine, actions) = machine.next(ended, at(6), 0);
    assert_eq!(actions, [Action::Begin(Job::Issue(0))]);
    let ended = Event::Ended(Job::Issue(0), Outcome::Valid(valid(6)));
    let (machine, actions) = machine.next(ended, at(7), 0);
    assert_eq!(actions, []);
    assert!(machine.time_until_due(at(7)) > Duration::from_secs(1000));
}

#[test]
fn failed_reload_hook_is_retried_without_issuing_again() {
    let machine = Machine::new(Some(valid(0)), PACE, found([(None, PACE)]), || 128);
    let (machine, actions) = machine.next(Event::Woke, at(1), 0);
    assert_eq!(actions, [Action::Begin(Job::Issue(0))]);
    let placed = Event::Ended(Job::Issue(0), Outcome::HookFailed(valid(1)));
    let (machine, actions) = machine.next(placed, at(2), 255);
    assert_eq!(actions, []);
    assert!(!machine.service_is_ready(0, T0 + 2));
    let (machine, actions) = machine.next(Event::Woke, at(10), 0);
    assert_eq!(actions, [Action::Begin(Job::RunHook(0))]);
    let (machine, actions) =
        machine.next(Event::Ended(Job::RunHook(0), Outcome::HookRan), at(11), 0);
    assert_eq!(actions, [Action::Ready]);
    assert!(machine.service_is_ready(0, T0 + 11));
}

#[test]
fn a_stop_waits_for_the_job_at_hand() {
    let (machine, actions) = fresh(0).next(Event::Woke, at(0), 0);
    assert_eq!(actions, [Action::Begin(Job::Join)]);
    let (machine, actions) = machine.next(Event::StopRequested, at(1), 0);
    assert_eq!(actions, [Action::NotifyStopping(Some(Job::Join))]);
    let ended = Event::Ended(Job::Join, Outcome::Failed(FailureKind::Transient));
    assert_eq!(machine.next(ended, at(2), 0).1, [Action::End]);
}

#[test]
fn an_identity_that_was_taken_away_is_joined_for_whatever_its_dates_say() {
    let machine = Machine::new(Some(valid(0)), PACE, [], || 128);
    let (machine, _) = machine.next(Event::RenewRequested, at(1), 0);
    let gone = Event::Ended(Job::Renew, Outcome::Failed(FailureKind::IdentityGone));
    let (machine, _) = machine.next(gone, at(2), 0);
    let (_, actions) = machine.next(Event::Woke, at(10), 0);
    assert_eq!(actions, [Action::Begin(Job::Join)]);
}

/// What is dated back by more than it has left, and an interval that is shorter than that.
#[test]
fn a_short_life_is_not_renewed_without_end() {
    let dated_back = |second: i64, life: i64| {
        Outcome::Valid(Validity { not_before: T0 + second - 60, not_after: T0 + second + life })
    };
    for (life, interval, most) in [(20, None, 61), (HOUR, Some(10), 61), (120, None, 11)] {
        let policy = RenewalPolicy { interval: interval.map(Duration::from_secs) };
        let machine = Machine::new(None, policy, [], || 128);
        let (_, done) = live(machine, 0..600, |_, second| dated_back(second, life));
        assert!((most / 2..=most).contains(&done.len()), "{life}: {} times", done.len());
        assert!(done[1..].iter().all(|(_, job)| *job == Job::Renew));
    }
}

/// Begins a check of the files and ends it, as the loop does.
fn check_files(
    machine: Machine,
    now: Moment,
    changed: &[Holder],
    mismatched: bool,
) -> (Machine, Vec<Action>) {
    let (machine, actions) = machine.next(Event::AlarmRang, now, 128);
    assert_eq!(actions, [Action::CheckFiles]);
    machine.next(Event::FilesChecked { changed: changed.to_vec(), mismatched }, now, 128)
}

#[test]
fn file_check_that_does_not_end_delays_no_job_and_has_no_second_beside_it() {
    let services = [(Some(valid(0)), PACE)];
    let machine = Machine::new(Some(valid(0)), PACE, found(services), || 128);
    let (machine, _) = machine.next(Event::Woke, at(1), 0);
    let (mut machine, actions) = machine.next(Event::AlarmRang, at(60), 0);
    assert_eq!(actions, [Action::CheckFiles]);
    let mut seen = Vec::new();
    for minute in 2..30 {
        let (next, actions) = machine.next(Event::AlarmRang, at(60 * minute), 0);
        machine = next;
        seen.extend(actions.into_iter().map(|action| (minute, action)));
    }
    assert_eq!(seen, [(20, Action::Begin(Job::Renew))]);
    let (machine, actions) = machine.next(Event::StopRequested, at(1800), 0);
    assert_eq!(actions, [Action::NotifyStopping(Some(Job::Renew))]);
    let renewed = Event::Ended(Job::Renew, Outcome::Valid(valid(1800)));
    assert_eq!(machine.next(renewed, at(1801), 0).1, [Action::End]);
}

#[test]
fn file_check_that_found_nothing_makes_way_for_the_next() {
    let machine = Machine::new(Some(valid(0)), PACE, found([(Some(valid(0)), PACE)]), || 128);
    let (machine, _) = machine.next(Event::Woke, at(1), 0);
    let (machine, actions) = machine.next(Event::AlarmRang, at(60), 0);
    assert_eq!(actions, [Action::CheckFiles]);
    assert_eq!(machine.clone().next(Event::AlarmRang, at(120), 0).1, []);
    let (_, actions) = machine.file_check_ended().next(Event::AlarmRang, at(120), 0);
    assert_eq!(actions, [Action::CheckFiles]);
}

#[test]
fn file_check_ignores_what_was_replaced_meanwhile() {
    let services = [(Some(valid(0)), PACE), (Some(valid(0)), PACE)];
    let machine = Machine::new(Some(valid(0)), PACE, found(services), || 128);
    let (machine, _) = machine.next(Event::Woke, at(1), 0);
    let (machine, _) = machine.next(Event::AlarmRang, at(2), 0);
    // A renewal begins and ends while the earlier files are checked.
    let (mut machine, mut actions) = machine.next(Event::RenewRequested, at(3), 0);
    while let [Action::Begin(job)] = actions[..] {
        (machine, actions) = machine.next(Event::Ended(job, Outcome::Valid(valid(3))), at(4), 128);
    }
    let holders = [Holder::Identity, Holder::Service(0), Holder::Service(1)];
    assert!(
        holders.iter().all(|holder| machine.is_up_to_date(*holder) && !machine.is_checked(*holder))
    );
    let stale = Event::FilesChecked { changed: holders.to_vec(), mismatched: true };
    let (machine, actions) = machine.next(stale, at(5), 0);
    assert!(actions.is_empty() && !machine.is_rejoining(), "{actions:?}");
    assert_eq!(check_files(machine, at(6), &holders, false).1, [Action::Begin(Job::Store)]);
}

/// A reload hook that sends SIGUSR1 or SIGHUP to its agent each time, or an authority that issues lives of two seconds.
#[test]
fn renewals_are_limited_whoever_asks_for_them() {
    const MINUTES: i64 = 10;
    let most = usize::try_from(MINUTES * 6).unwrap() + 7;
    for (asked, life) in
        [(Event::RenewRequested, HOUR), (Event::ReloadRequested, HOUR), (Event::Woke, 2)]
    {
        let (mut machine, mut renewals) = (fresh(1), [0, 0]);
        for second in 0..MINUTES * 60 {
            let mut events = vec![asked.clone()];
            while let Some(event) = events.pop() {
                let (next, actions) = machine.next(event, at(second), 128);
                machine = next;
                let validity = Validity { not_before: T0 + second, not_after: T0 + second + life };
                for action in actions {
                    let Action::Begin(job) = action else { continue };
                    match job {
                        Job::Issue(_) => renewals[1] += 1,
                        Job::Join | Job::Renew => renewals[0] += 1,
                        Job::Store | Job::RunHook(_) | Job::Configure => {}
                    }
                    events.push(match job {
                        Job::Configure => {
                            let services = found([(Some(validity), PACE)]);
                            let machine = Machine::new(Some(validity), PACE, services, || 128);
                            Event::Configured(Box::new(machine))
                        }
                        job => Event::Ended(job, Outcome::Valid(validity)),
                    });
                }
            }
        }
        assert!(
            renewals.iter().all(|times| (50..=most).contains(times)),
            "{asked:?}: {renewals:?}"
        );
    }
}

/// Limits belong to destinations: names can be made from the position in the file.
#[test]
fn reload_that_reorders_services_keeps_the_rate_limit_of_each() {
    let services = || found([(Some(valid(0)), PACE), (Some(valid(0)), PACE)]);
    let machine = Machine::new(Some(valid(0)), PACE, services(), || 128);
    let (mut machine, _) = machine.next(Event::Woke, at(1), 128);
    for _ in 0..=Limit::BURST {
        let (next, actions) = check_files(machine, at(1), &[Holder::Service(0)], false);
        assert_eq!(actions, [Action::Begin(Job::Issue(0))], "within the limit");
        let issued = Event::Ended(Job::Issue(0), Outcome::Valid(valid(0)));
        machine = next.next(issued, at(1), 128).0;
    }
    let (machine, _) = machine.next(Event::ReloadRequested, at(2), 128);
    let reversed = services().collect::<Vec<_>>().into_iter().rev();
    let configured = Machine::new(Some(valid(0)), PACE, reversed, || 128);
    let (mut machine, mut actions) =
        machine.next(Event::Configured(Box::new(configured)), at(2), 128);
    let mut done = Vec::new();
    while let Some(Action::Begin(job)) = actions.pop() {
        done.push(job);
        let issued = Event::Ended(job, Outcome::Valid(valid(0)));
        (machine, actions) = machine.next(issued, at(2), 128);
    }
    assert_eq!(done, [Job::Renew, Job::Issue(0)], "the limited service is the second one now");
    assert_eq!(machine.next(Event::Woke, at(12), 128).1, [Action::Begin(Job::Issue(1))]);
}

#[test]
fn only_removed_files_are_written_again() {
    let services = [(Some(valid(0)), PACE), (Some(valid(0)), PACE)];
    let machine = Machine::new(Some(valid(0)), PACE, found(services), || 128);
    let (machine, _) = machine.next(Event::Woke, at(1), 0);
    assert!(
        machine.is_up_to_date(Holder::Service(1)) && !machine.is_up_to_date(Holder::Service(2))
    );
    let (machine, actions) = check_files(machine, at(2), &[Holder::Service(1)], false);
    assert_eq!(actions, [Action::Begin(Job::Issue(1))]);
    assert!(!machine.is_up_to_date(Holder::Service(1)), "it is being seen to");
    let failed = Event::Ended(Job::Issue(1), Outcome::Failed(FailureKind::Lasting));
    let (machine, actions) = machine.next(failed, at(3), 255);
    assert_eq!(actions, []);
    assert!(
        !machine.is_up_to_date(Holder::Service(1)) && machine.is_up_to_date(Holder::Service(0))
    );
    let (machine, _) = machine.next(Event::Woke, at(10), 0);
    let (machine, actions) =
        machine.next(Event::Ended(Job::Issue(1), Outcome::Valid(valid(10))), at(10), 128);
    assert_eq!(actions, []);
    assert!(machine.is_up_to_date(Holder::Service(1)));
    let (_, actions) = check_files(machine, at(11), &[Holder::Identity], false);
    assert_eq!(actions, [Action::Begin(Job::Store)], "no authority is needed");
}

/// A handshake costs the TPM two commands. Jitter that is drawn for each service must not make a handshake of each.
#[test]
fn units_that_are_due_within_the_jitter_of_each_other_are_renewed_together() {
    let mut random = 1_u32;
    let mut seed = move || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        random.to_be_bytes()[0]
    };
    let own = RenewalPolicy { interval: Some(Duration::from_secs(1210)) };
    let services = [(Some(valid(3)), PACE), (Some(valid(7)), PACE), (Some(valid(9)), own)];
    let mut machine = Machine::new(Some(valid(0)), PACE, found(services), &mut seed);
    let mut batches = Vec::new();
    for second in 0..24 * HOUR {
        let (mut event, mut batch) = (Event::Woke, Vec::new());
        // Each job takes a second or two, so that the services are younger than the identity.
        for took in (0..).step_by(2) {
            let (next, actions) = machine.next(event, at(second + took), seed());
            machine = next;
            let begun = actions.iter().find_map(|action| match action {
                Action::Begin(job) => Some(*job),
                _ => None,
            });
            let Some(job) = begun else { break };
            batch.push(job);
            event = Event::Ended(job, Outcome::Valid(valid(second + took)));
        }
        if !batch.is_empty() {
            batches.push(batch);
        }
    }
    let all = [Job::Renew, Job::Issue(0), Job::Issue(1), Job::Issue(2)];
    assert!(batches.iter().all(|batch| *batch == all), "{batches:?}");
    assert!((65..=80).contains(&batches.len()), "{} in a day of 72 intervals", batches.len());
}

#[test]
fn service_with_a_shorter_interval_leaves_the_identity_alone() {
    let often = RenewalPolicy { interval: Some(Duration::from_secs(300)) };
    let services = [(Some(valid(0)), often), (Some(valid(0)), PACE)];
    let machine = Machine::new(Some(valid(0)), PACE, found(services), || 128);
    let (_, done) = live(machine, 0..1200, |_, second| Outcome::Valid(valid(second)));
    assert_eq!(done, [300, 600, 900].map(|second| (second, Job::Issue(0))));
}

#[test]
fn identity_that_is_superseded_is_kept_until_the_join_succeeds() {
    let machine = Machine::new(Some(valid(0)), PACE, found([(Some(valid(0)), PACE)]), || 128);
    let refused = |job, second| match job {
        Job::Join => Outcome::Failed(FailureKind::Lasting),
        _ => Outcome::Valid(valid(second)),
    };
    let (machine, done) = live(machine.rejoining(true), 0..3000, refused);
    assert_eq!(done[0], (0, Job::Join));
    assert!((8..30).contains(&count(&done, Job::Join)), "{done:?}");
    assert_eq!(count(&done, Job::Renew), 2, "{done:?}");
    assert_eq!(count(&done, Job::Issue(0)), 2, "{done:?}");
    assert!(machine.is_rejoining() && !machine.all_valid(T0 + 3000));
    let (machine, done) = live(machine, 3000..3400, |_, second| Outcome::Valid(valid(second)));
    assert_eq!(count(&done, Job::Join), 1, "{done:?}");
    assert!(done.iter().any(|(_, job)| *job == Job::Issue(0)), "{done:?}");
    assert!(!machine.is_rejoining() && machine.all_valid(T0 + 3400));
}

#[test]
fn mismatch_that_is_taken_back_ends_the_attempts() {
    let machine = Machine::new(Some(valid(0)), PACE, [], || 128).rejoining(true);
    let refused = |_, _| Outcome::Failed(FailureKind::Lasting);
    let (machine, done) = live(machine, 0..100, refused);
    assert!(!done.is_empty());
    let (machine, actions) = machine.next(Event::AlarmRang, at(100), 128);
    assert!(actions.contains(&Action::CheckFiles), "{actions:?}");
    let taken_back = Event::FilesChecked { changed: Vec::new(), mismatched: false };
    let (machine, _) = machine.next(taken_back, at(100), 128);
    let (machine, done) = live(machine, 100..1000, refused);
    assert!(done.is_empty() && machine.all_valid(T0 + 1000), "{done:?}");
}

#[test]
fn another_lifetime_is_asked_for_at_once() {
    let machine = Machine::new(Some(valid(0)), PACE, found([(Some(valid(0)), PACE)]), || 128);
    let (_, done) = live(machine.renewing(true), 0..10, |_, _| Outcome::Valid(valid(0)));
    assert_eq!(done, [(0, Job::Renew), (0, Job::Issue(0))]);
}
