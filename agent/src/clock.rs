//! The one place that reads the clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};
use time::OffsetDateTime;

use crate::exit::{Exit, Failure};

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is the module that may")]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Refuses a time before 1970: neither certificates nor TLS can express it.
pub fn check(now: OffsetDateTime) -> Result<(), Failure> {
    if now >= OffsetDateTime::UNIX_EPOCH {
        return Ok(());
    }
    let message = format!("the clock shows {}, a time before 1970", now.date());
    Err(Failure::new(Exit::Unavailable, message, "set the clock"))
}

/// Seconds since 1970; 0 if the clock is before that.
#[expect(clippy::disallowed_methods, reason = "this is the module that may")]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Time since boot, sleep included. It never jumps.
pub fn boot() -> Duration {
    duration(clock_gettime(ClockId::Boottime))
}

/// Time since boot without sleep: the clock that service managers compare.
pub fn monotonic() -> Duration {
    duration(clock_gettime(ClockId::Monotonic))
}

fn duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn clock_before_1970_is_an_error_that_says_so() {
        check(datetime!(1970-01-01 0:00 UTC)).unwrap();
        let failure = check(datetime!(1969-12-31 23:59:59 UTC)).unwrap_err();
        assert!(failure.to_string().contains("the clock shows 1969-12-31"), "{failure}");
    }
}
