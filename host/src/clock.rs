//! The only module that reads the clock. Everything else takes the time as a parameter, or a [`Clock`].

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use crate::exit::{Exit, Failure};

/// The wall clock, UTC.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the module that may")]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// RFC 3339 in UTC, whole seconds: `2026-11-29T13:14:43Z`.
#[must_use]
pub fn rfc3339(time: OffsetDateTime) -> String {
    let whole = time.replace_nanosecond(0).unwrap_or(time);
    whole.to_offset(UtcOffset::UTC).format(&Rfc3339).unwrap_or_default()
}

/// Refuses a time before 1970: neither certificates nor TLS can express it.
///
/// # Errors
/// [`Exit::Unavailable`], since the clock may be corrected.
pub fn check(now: OffsetDateTime) -> Result<(), Failure> {
    if now >= OffsetDateTime::UNIX_EPOCH {
        return Ok(());
    }
    let message = format!("the clock shows {}, before 1970", now.date());
    Err(Failure::new(Exit::Unavailable, message, "set the clock"))
}

/// Seconds since 1970; 0 if the clock shows an earlier time.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the module that may")]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Time since boot, including suspension (CLOCK_BOOTTIME). It never jumps.
#[must_use]
pub fn boot() -> Duration {
    duration(clock_gettime(ClockId::Boottime))
}

/// Time since boot without suspension (CLOCK_MONOTONIC), which sd_notify(3) asks for.
#[must_use]
pub fn monotonic() -> Duration {
    duration(clock_gettime(ClockId::Monotonic))
}

fn duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A wall clock that tests can replace.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> OffsetDateTime + Send + Sync>);

impl Clock {
    /// The clock of this machine.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(now))
    }

    /// A clock that shows what `now` returns.
    pub fn new(now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time, UTC.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn clock_before_1970_is_refused() {
        check(datetime!(1970-01-01 0:00 UTC)).unwrap();
        let failure = check(datetime!(1969-12-31 23:59:59 UTC)).unwrap_err();
        assert!(failure.to_string().contains("the clock shows 1969-12-31"), "{failure}");
    }
}
