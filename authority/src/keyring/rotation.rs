//! The steps of a CA from its creation to its removal, and when they are due.

use std::time::Duration;

use time::OffsetDateTime;

use super::KeyringError;
use crate::audit::KeyringDeed;
use crate::issue::{IssueError, Ring};
use crate::resource::Timestamp;

/// How long a CA stays trusted after another one signs: the longest certificate, and clocks that are behind.
pub const RETIRED_FOR: time::Duration = time::Duration::minutes(24 * 60 + 5);

/// A step of the CAs of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A new CA is published, and signs nothing.
    Prepare,
    /// The published CA signs; the one that has signed is retired.
    Activate,
    /// Retired CAs are no longer trusted.
    Retire,
    /// A new CA signs at once, since others may have the key of the one that has signed.
    Taint,
    /// Tainted CAs are no longer trusted.
    Revoke,
}

impl Step {
    /// What the log calls it.
    pub(super) const fn deed(self) -> KeyringDeed {
        match self {
            Self::Prepare => KeyringDeed::Prepared,
            Self::Activate => KeyringDeed::Activated,
            Self::Retire => KeyringDeed::Retired,
            Self::Taint => KeyringDeed::Tainted,
            Self::Revoke => KeyringDeed::Revoked,
        }
    }

    /// Its name on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Activate => "activate",
            Self::Retire => "retire",
            Self::Taint => "taint",
            Self::Revoke => "revoke",
        }
    }
}

/// Whether a step waits for those whom it would cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caution {
    /// It waits.
    Wait,
    /// It does not.
    Force,
}

/// What the CAs of a type are after a step. `make` makes a new CA; `is_tainted` says which are tainted.
///
/// # Errors
/// The step is not possible now, or its CA cannot be made.
pub(super) fn after<A>(
    step: Step,
    ring: &Ring<A>,
    make: impl FnOnce() -> Result<A, IssueError>,
    is_tainted: impl Fn(&A) -> bool,
    caution: Caution,
    now: OffsetDateTime,
) -> Result<Ring<A>, KeyringError> {
    let refused = |why: String| Err(KeyringError::Refused(why));
    let is_any_tainted = ring.retired().iter().any(|one| is_tainted(&one.ca));
    match (step, ring.next(), ring.retired().iter().map(|one| one.since).max()) {
        (Step::Prepare, Some(_), _) => {
            refused("there is a next CA already: activate it first".to_owned())
        }
        (Step::Prepare, None, Some(_)) => {
            refused("there is a retired CA: remove it with `authority ca retire` first".to_owned())
        }
        (Step::Prepare, None, None) => Ok(ring.clone().with_next(make()?, now)),
        (Step::Activate, None, _) => {
            refused("there is no next CA: create it with `authority ca prepare`".to_owned())
        }
        (Step::Activate, Some(_), _) => Ok(ring.clone().activated(now)),
        (Step::Taint, ..) => Ok(ring.clone().replaced(make()?, now)),
        (Step::Revoke, ..) if is_any_tainted => Ok(ring.clone().without_retired(is_tainted)),
        (Step::Revoke, ..) => {
            refused("there is no tainted CA: replace it with `authority ca taint` first".to_owned())
        }
        (Step::Retire, ..) if is_any_tainted => {
            refused("the retired CA is tainted: remove it with `authority ca revoke`".to_owned())
        }
        (Step::Retire, _, None) => refused("there is no retired CA".to_owned()),
        (Step::Retire, _, Some(since)) if caution == Caution::Wait && now - since < RETIRED_FOR => {
            let until = Timestamp(since + RETIRED_FOR);
            refused(format!("certificates of the retired CA may be valid until {until}"))
        }
        // All of them: the last one is old enough, or it is forced.
        (Step::Retire, _, Some(since)) => {
            Ok(ring.clone().without_retired_before(since + Duration::from_nanos(1)))
        }
    }
}

/// What decides about the next step of the CAs of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Situation {
    /// The validity of the CA that signs; `None` if it has no end.
    pub(super) validity: Option<(OffsetDateTime, OffsetDateTime)>,
    /// Since when there is a next one.
    pub(super) next: Option<OffsetDateTime>,
    /// Since when the last one is retired.
    pub(super) retired: Option<OffsetDateTime>,
    /// Whether an operator, or the age of the CA, has started a rotation that goes on by itself.
    pub(super) is_rotating: bool,
}

/// The step that is due without an operator.
pub(super) fn due(situation: Situation, now: OffsetDateTime) -> Option<Step> {
    let Situation { validity, next, retired, is_rotating } = situation;
    let ends_within = |part: i32, most: time::Duration| {
        validity.is_some_and(|(begin, end)| end - now < ((end - begin) / part).min(most))
    };
    match (next, retired) {
        (_, Some(since)) if is_rotating && now - since >= RETIRED_FOR => Some(Step::Retire),
        (Some(_), _) if is_rotating => Some(Step::Activate),
        (Some(_), _) if ends_within(6, time::Duration::days(7)) => Some(Step::Activate),
        (None, None) if ends_within(2, time::Duration::days(30)) => Some(Step::Prepare),
        _ => None,
    }
}

/// Whether the active CA ends so soon that the next one signs without waiting for anyone.
pub(super) fn is_urgent(situation: Situation, now: OffsetDateTime) -> bool {
    due(Situation { is_rotating: false, ..situation }, now) == Some(Step::Activate)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
    const DAY: time::Duration = time::Duration::days(1);

    /// The ring as text: `active/next/retired`.
    fn shown(ring: &Ring<u32>) -> String {
        let next = ring.next().map(|one| one.ca.to_string()).unwrap_or_default();
        let retired: Vec<_> = ring.retired().iter().map(|one| one.ca.to_string()).collect();
        format!("{}/{next}/{}", ring.active(), retired.join(","))
    }

    #[test]
    fn each_step_is_possible_in_its_turn_only() {
        let one = Ring::new(1, NOW);
        let two = one.clone().with_next(2, NOW);
        let old = two.clone().activated(NOW);
        let both = old.clone().with_next(3, NOW);
        let tainted = Ring::new(6, NOW).replaced(7, NOW).replaced(8, NOW);
        let table = [
            (Step::Prepare, &one, "1/9/"),
            (Step::Prepare, &two, "there is a next CA already"),
            (Step::Prepare, &old, "there is a retired CA"),
            (Step::Activate, &one, "there is no next CA"),
            (Step::Activate, &two, "2//1"),
            (Step::Activate, &both, "3//1,2"),
            (Step::Retire, &one, "there is no retired CA"),
            (Step::Retire, &two, "there is no retired CA"),
            (Step::Retire, &old, "2//"),
            (Step::Retire, &both, "2/3/"),
            (Step::Taint, &one, "9//1"),
            (Step::Taint, &two, "9//1"),
            (Step::Taint, &old, "9//1,2"),
            (Step::Revoke, &old, "there is no tainted CA"),
            (Step::Revoke, &tainted, "8//6"),
            (Step::Retire, &tainted, "the retired CA is tainted"),
        ];
        for (step, ring, expected) in table {
            let then = NOW + RETIRED_FOR;
            let said = match after(step, ring, || Ok(9), |ca| *ca == 7, Caution::Wait, then) {
                Ok(ring) => shown(&ring),
                Err(cause) => cause.to_string(),
            };
            assert!(said.starts_with(expected), "{step:?} {}: {said}", shown(ring));
        }
    }

    #[test]
    fn retired_ca_is_trusted_until_its_last_certificate_has_ended_unless_forced() {
        let ring = Ring::new(1, NOW).with_next(2, NOW).activated(NOW);
        let at = |seconds: i64, caution| {
            let then = NOW + time::Duration::seconds(seconds);
            after(Step::Retire, &ring, || Ok(9), |_| false, caution, then).map(|ring| shown(&ring))
        };
        let refused = at(24 * 3600 + 299, Caution::Wait).unwrap_err();
        assert!(refused.to_string().ends_with("valid until 2026-06-02T12:05:00Z"), "{refused}");
        assert_eq!(at(24 * 3600 + 300, Caution::Wait).unwrap(), "2//");
        assert_eq!(at(0, Caution::Force).unwrap(), "2//");
    }

    #[test]
    fn steps_are_due_by_age_and_after_each_other() {
        let begin = NOW - 1000 * DAY;
        let with = |left: time::Duration, next: Option<i64>, retired: Option<i64>, is_rotating| {
            let ago = |hours: i64| NOW - time::Duration::hours(hours);
            Situation {
                validity: Some((begin, NOW + left)),
                next: next.map(ago),
                retired: retired.map(ago),
                is_rotating,
            }
        };
        let (old, young) = (29 * DAY, 31 * DAY);
        let table = [
            (with(young, None, None, false), None),
            (with(young, None, None, true), None),
            (with(old, None, None, false), Some(Step::Prepare)),
            (with(young, Some(1), None, false), None),
            (with(old, Some(1), None, false), None),
            (with(young, Some(1), None, true), Some(Step::Activate)),
            (with(6 * DAY, Some(1), None, false), Some(Step::Activate)),
            (with(young, None, Some(24), true), None),
            (with(young, None, Some(25), true), Some(Step::Retire)),
            (with(young, None, Some(25), false), None),
        ];
        for (situation, expected) in table {
            assert_eq!(due(situation, NOW), expected, "{situation:?}");
        }
        assert!(is_urgent(with(6 * DAY, Some(1), None, true), NOW));
        assert!(!is_urgent(with(8 * DAY, Some(1), None, true), NOW));
        // A short life is divided: it is not prepared all the time.
        let short = |passed: i32| Situation {
            validity: Some((NOW - DAY * passed, NOW + DAY * (10 - passed))),
            ..with(old, None, None, false)
        };
        assert_eq!((due(short(4), NOW), due(short(6), NOW)), (None, Some(Step::Prepare)));
        let endless = Situation { validity: None, ..with(old, None, None, false) };
        assert_eq!(due(endless, NOW), None);
    }
}
