//! Whether the clock is plausible, compared with the last record.
//!
//! If the clock is ahead for a moment, for example because the RTC has local time, the authority must not remove records that
//! have expired only by that clock.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::resource::Timestamp;

/// How far the clock may be from the last record. An authority that was stopped for longer is not
/// distinguished from a wrong clock.
const MAX_STEP: Duration = Duration::days(1);

/// How long a clock must advance steadily after a step until it counts as plausible. Operators see warnings meanwhile.
const STEADY: Duration = Duration::days(1);

/// The recorded state of the clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClockRecord {
    /// The latest plausible time.
    believed: Timestamp,
    /// A time far from it that the clock has shown since.
    #[serde(default)]
    stepped: Option<Stepped>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stepped {
    since: Timestamp,
    seen: Timestamp,
}

impl ClockRecord {
    /// The state to record when the clock shows `now`.
    pub(crate) fn next(before: Option<Self>, now: OffsetDateTime) -> Self {
        let believed = Self { believed: Timestamp(now), stepped: None };
        let Some(before) = before else { return believed };
        if is_near(before.believed.0, now) {
            return believed;
        }
        let stepped = before.stepped.filter(|stepped| is_near(stepped.seen.0, now));
        let since = stepped.map_or(Timestamp(now), |stepped| stepped.since);
        if now - since.0 >= STEADY {
            return believed;
        }
        Self { stepped: Some(Stepped { since, seen: Timestamp(now) }), ..before }
    }

    /// Why the clock is implausible, if it is.
    pub(crate) fn doubt(&self) -> Option<String> {
        let Stepped { seen, .. } = self.stepped.as_ref()?;
        let believed = &self.believed;
        Some(if seen.0 > believed.0 {
            format!(
                "the clock shows {seen}, but the last record is from {believed}: the clock is \
                 ahead, or the authority was stopped for long; no record is removed until the clock has advanced steadily for a day"
            )
        } else {
            format!(
                "the clock shows {seen}, but the last record is from {believed}: the clock is behind"
            )
        })
    }
}

fn is_near(one: OffsetDateTime, other: OffsetDateTime) -> bool {
    (one - other).abs() <= MAX_STEP
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

    fn after(times: impl IntoIterator<Item = OffsetDateTime>) -> ClockRecord {
        times.into_iter().fold(None, |record, now| Some(ClockRecord::next(record, now))).unwrap()
    }

    #[test]
    fn clock_that_goes_on_is_believed() {
        let hours = (0..100).map(|hours| NOW + Duration::hours(hours));
        let record = after(hours);
        assert_eq!(record.doubt(), None);
        assert_eq!(record.believed.0, NOW + Duration::hours(99));
    }

    #[test]
    fn clock_that_jumps_is_reported_until_it_comes_back() {
        let record = after([NOW, NOW + Duration::days(3650)]);
        let doubt = record.doubt().unwrap();
        assert!(doubt.contains("2036-05-29") && doubt.contains("2026-06-01"), "{doubt}");
        let back = ClockRecord::next(Some(record), NOW + Duration::hours(2));
        assert_eq!(back.doubt(), None);
        assert!(after([NOW, NOW - Duration::days(2)]).doubt().unwrap().contains("behind"));
    }

    #[test]
    fn clock_that_stays_where_it_jumped_is_believed_after_a_day() {
        let then = NOW + Duration::days(30);
        let hours = |count: i64| (0..count).map(move |hours| then + Duration::hours(hours));
        assert!(after([NOW].into_iter().chain(hours(24))).doubt().is_some());
        assert_eq!(after([NOW].into_iter().chain(hours(25))).doubt(), None);
        let again = then + Duration::days(30);
        let record = after([NOW].into_iter().chain(hours(24)).chain([again]));
        assert!(record.doubt().is_some(), "it jumped again");
    }
}
