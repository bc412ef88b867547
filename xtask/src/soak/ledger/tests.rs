use super::*;
use crate::soak::observe::Stated;

const SERVICE: &str = "web";

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn healthy() -> Observation {
    let stated = Stated { healthy: true, reason: None };
    let usage = Usage { descriptors: 20, threads: 3, resident: 8 << 20, private: 1 << 20 };
    Observation {
        ended: None,
        live: Ok(()),
        health: Ok([(SERVICE.to_owned(), stated)].into()),
        files: [(SERVICE, Ok(()))].into(),
        agent: Some(usage),
        authority: Some(usage),
    }
}

/// The files are unusable; the agent gives this reason.
fn broken(reason: Option<&str>) -> Observation {
    let stated = Stated { healthy: reason.is_none(), reason: reason.map(str::to_owned) };
    Observation {
        health: Ok([(SERVICE.to_owned(), stated)].into()),
        files: [(SERVICE, Err("expired".to_owned()))].into(),
        ..healthy()
    }
}

#[test]
fn unusable_files_without_a_reason_are_one_violation_after_the_grace() {
    let mut ledger = Ledger::default();
    for at in 0..5 {
        ledger.record(seconds(at), &broken(None));
        assert_eq!(ledger.violations(), 0, "at {at} s");
    }
    for at in 5..20 {
        ledger.record(seconds(at), &broken(None));
        assert_eq!(ledger.violations(), 1, "at {at} s");
    }
    ledger.record(seconds(20), &healthy());
    for at in 21..30 {
        ledger.record(seconds(at), &broken(None));
    }
    assert_eq!(ledger.violations(), 2, "the second time is another violation");
}

#[test]
fn unusable_files_with_a_reason_are_no_violation() {
    let mut ledger = Ledger::default();
    for at in 0..300 {
        ledger.record(seconds(at), &broken(Some("no room")));
    }
    assert_eq!(ledger.violations(), 0);
}

#[test]
fn an_unhealthy_component_without_a_reason_explains_nothing() {
    let mut seen = broken(None);
    seen.health = Ok([(SERVICE.to_owned(), Stated { healthy: false, reason: None })].into());
    let mut ledger = Ledger::default();
    for at in 0..10 {
        ledger.record(seconds(at), &seen);
    }
    assert_eq!(ledger.violations(), 1);
}

#[test]
fn damaged_files_may_stay_unnoticed_for_a_minute_and_no_longer() {
    let mut ledger = Ledger::default();
    ledger.injected(Fault::FileDamaged, seconds(0));
    ledger.ended(Fault::FileDamaged, seconds(0), false);
    for at in 0..65 {
        ledger.record(seconds(at), &broken(None));
        assert_eq!(ledger.violations(), 0, "at {at} s");
    }
    for at in 65..70 {
        ledger.record(seconds(at), &broken(None));
    }
    assert_eq!(ledger.violations(), 1);
}

#[test]
fn an_agent_that_ends_or_does_not_answer_is_a_violation_at_once() {
    let ended = Observation { ended: Some("exit status: 1".into()), ..healthy() };
    let silent = Observation { live: Err("/livez does not answer".into()), ..healthy() };
    let garbled = Observation { health: Err("no services".into()), ..healthy() };
    for seen in [ended, silent, garbled] {
        assert!(!seen.is_healthy());
        let mut ledger = Ledger::default();
        ledger.record(seconds(0), &seen);
        ledger.record(seconds(1), &seen);
        assert_eq!(ledger.violations(), 1, "{seen:?}");
    }
}

#[test]
fn recovery_lasts_from_the_end_of_the_last_fault_until_all_is_in_place() {
    let mut ledger = Ledger::default();
    assert!(ledger.is_recovered());
    ledger.injected(Fault::TpmHeld, seconds(0));
    ledger.injected(Fault::DiskFull, seconds(0));
    assert_eq!(ledger.record(seconds(1), &healthy()), None, "the faults are active");
    ledger.ended(Fault::TpmHeld, seconds(10), true);
    assert_eq!(ledger.record(seconds(11), &healthy()), None, "one fault is active");
    ledger.ended(Fault::DiskFull, seconds(20), false);
    assert_eq!(ledger.record(seconds(21), &broken(Some("no room"))), None);
    assert!(!ledger.is_recovered());
    let round = vec![Fault::TpmHeld, Fault::DiskFull];
    assert_eq!(ledger.record(seconds(27), &healthy()), Some((round, seconds(7))));
    assert!(ledger.is_recovered());
    assert_eq!(ledger.violations(), 0);
    let table = ledger.to_string();
    let row = ["disk", "full", "1", "7", "s"];
    assert!(table.lines().any(|line| line.split_whitespace().eq(row)), "{table}");
}

#[test]
fn no_recovery_is_a_violation_even_with_a_reason() {
    let mut ledger = Ledger::default();
    ledger.injected(Fault::DiskFull, seconds(0));
    ledger.ended(Fault::DiskFull, seconds(0), false);
    let seen = broken(Some("no room"));
    assert_eq!(ledger.record(MAX_RECOVERY, &seen), None);
    assert!(ledger.record(MAX_RECOVERY + seconds(1), &seen).is_some());
    assert_eq!(ledger.violations(), 1);
    let violation = ledger.last_violation().unwrap();
    assert!(violation.contains("disk full") && violation.contains("no room"), "{violation}");
}

#[test]
fn growth_between_the_first_and_the_last_part_is_found_and_a_peak_between_is_not() {
    let usage = |descriptors| {
        let agent = Some(Usage { descriptors, threads: 3, resident: 8 << 20, private: 1 << 20 });
        Observation { agent, ..healthy() }
    };
    let mut flat = Ledger::default();
    let mut leak = Ledger::default();
    for at in 0..3600 {
        flat.record(seconds(at), &usage(if at == 1800 { 500 } else { 20 }));
        leak.record(seconds(at), &usage(20 + at / 600));
    }
    assert_eq!(flat.grown(), Vec::<String>::new());
    assert_eq!(leak.grown(), ["agent: descriptors grew by 5, at most 2"]);
}

#[test]
fn leak_of_half_a_kib_at_each_of_500_renewals_is_found() {
    let mut leak = Ledger::default();
    for at in 0..3600 {
        let private = (1 << 20) + 512 * (at * 500 / 3600);
        let agent = Some(Usage { descriptors: 20, threads: 3, resident: 8 << 20, private });
        leak.record(seconds(at), &Observation { agent, ..healthy() });
    }
    assert_eq!(leak.grown(), ["agent: private, KiB grew by 208, at most 192"]);
}

#[test]
fn usage_during_a_fault_is_not_compared() {
    let mut ledger = Ledger::default();
    for at in 0..100 {
        ledger.record(seconds(at), &healthy());
    }
    ledger.injected(Fault::TpmHeld, seconds(100));
    let more = Usage { descriptors: 500, threads: 3, resident: 8 << 20, private: 1 << 20 };
    for at in 100..200 {
        ledger.record(seconds(at), &Observation { agent: Some(more), ..healthy() });
    }
    ledger.ended(Fault::TpmHeld, seconds(200), false);
    for at in 200..300 {
        ledger.record(seconds(at), &healthy());
    }
    assert_eq!(ledger.grown(), Vec::<String>::new());
}

#[test]
fn leftover_tpm_handles_are_a_violation() {
    let mut ledger = Ledger::default();
    ledger.handles(seconds(60), 0, 0);
    assert_eq!(ledger.violations(), 0);
    ledger.handles(seconds(120), 1, 0);
    assert_eq!(ledger.violations(), 1);
}
