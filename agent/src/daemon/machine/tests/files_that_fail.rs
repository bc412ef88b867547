//! A storage or destinations that cannot be written, or hang.

use super::*;

#[test]
fn identity_that_cannot_be_stored_is_used_and_the_storage_tried_again() {
    for (found_identity, job) in [(Some(valid(0)), Job::Renew), (None, Job::Join)] {
        let machine = Machine::new(found_identity, PACE, found([(found_identity, PACE)]), || 128);
        let (machine, _) = machine.next(Event::RenewRequested, at(1500), 0);
        let not_stored = Event::Ended(job, Outcome::NotStored(valid(1500)));
        let (machine, actions) = machine.next(not_stored, at(1501), 128);
        // The services are renewed with it, also after the one in the storage has expired.
        assert_eq!(actions, [Action::Begin(Job::Issue(0))]);
        let issued = Event::Ended(Job::Issue(0), Outcome::Valid(valid(1500)));
        let (machine, actions) = machine.next(issued, at(1501), 128);
        assert_eq!(actions, if job == Job::Join { vec![Action::Ready] } else { vec![] });
        assert!(machine.identity_is_valid(T0 + HOUR + 60));
        let full = |_, _| Outcome::Failed(FailureKind::Transient);
        let (machine, tries) = live(machine, 1502..2600, full);
        assert!(tries.len() >= 10 && tries.iter().all(|(_, job)| *job == Job::Store), "{tries:?}");
        assert!(machine.identity_is_valid(T0 + HOUR + 60));
        // It is renewed in time, stored or not.
        let (_, renewals) = live(machine.clone(), 2600..HOUR, |job, second| match job {
            Job::Renew => Outcome::NotStored(valid(second)),
            Job::Issue(_) => Outcome::Valid(valid(second)),
            _ => Outcome::Failed(FailureKind::Transient),
        });
        assert_eq!(count(&renewals, Job::Renew), 1, "{renewals:?}");
        let (_, done) = live(machine, 2600..2700, |_, _| Outcome::Stored);
        assert_eq!(count(&done, Job::Store), 1, "nothing is left to do: {done:?}");
    }
}

#[test]
fn retries_do_not_delay_services_that_have_not_failed() {
    let services = (0..8).map(|_| (None, PACE));
    let machine = Machine::new(Some(valid(0)), PACE, found(services), || 128);
    let (mut second, mut done) = (0, Vec::new());
    let (mut machine, mut actions) = machine.next(Event::Woke, at(second), 0);
    while done.len() < 12 {
        let event = match actions.pop() {
            Some(Action::Begin(job @ Job::Issue(index))) => {
                done.push(index);
                // The first five hang, long enough for the first of them to be due again.
                let hangs = index < 5;
                second += if hangs { 10 } else { 0 };
                let failed = Outcome::Failed(FailureKind::Transient);
                Event::Ended(job, if hangs { failed } else { Outcome::Valid(valid(0)) })
            }
            _ => {
                second += 1;
                Event::Woke
            }
        };
        (machine, actions) = machine.next(event, at(second), 0);
    }
    assert_eq!(done, [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3]);
}

#[test]
fn file_check_of_the_former_configuration_is_not_waited_for() {
    let machine = || Machine::new(Some(valid(0)), PACE, found([(Some(valid(0)), PACE)]), || 128);
    let (checking, actions) = machine().next(Event::AlarmRang, at(60), 128);
    assert!(actions.contains(&Action::CheckFiles), "{actions:?}");
    let (reloading, _) = checking.next(Event::ReloadRequested, at(61), 128);
    let (mut configured, mut actions) =
        reloading.next(Event::Configured(Box::new(machine())), at(61), 128);
    while let Some(Action::Begin(job)) = actions.pop() {
        let ended = Event::Ended(job, Outcome::Valid(valid(61)));
        (configured, actions) = configured.next(ended, at(62), 128);
        actions.retain(|action| *action != Action::Ready);
    }
    let (_, actions) = configured.next(Event::AlarmRang, at(63), 128);
    assert_eq!(actions, [Action::CheckFiles]);
}

#[test]
fn identity_is_stored_though_the_authority_is_away() {
    let away = |job, _| match job {
        Job::Store => Outcome::Stored,
        _ => Outcome::Failed(FailureKind::Transient),
    };
    // Asked to renew it, and when that is due by itself.
    for (asked, seconds) in [(true, 10..100), (false, 1500..1600)] {
        let machine = Machine::new(Some(valid(0)), PACE, [], || 128).storing(true);
        let event = if asked { Event::RenewRequested } else { Event::Woke };
        let (machine, actions) = machine.next(event, at(seconds.start), 128);
        assert_eq!(actions.last(), Some(&Action::Begin(Job::Renew)), "{actions:?}");
        let failed = Event::Ended(Job::Renew, Outcome::Failed(FailureKind::Transient));
        let (machine, _) = machine.next(failed, at(seconds.start), 128);
        let (_, done) = live(machine, seconds.start + 1..seconds.end, away);
        assert_eq!(count(&done, Job::Store), 1, "{done:?}");
        assert!(count(&done, Job::Renew) > 1, "{done:?}");
    }
}
