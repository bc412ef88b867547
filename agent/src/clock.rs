//! The one place that reads the clock.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// Now.
#[expect(clippy::disallowed_methods, reason = "this is the module that may")]
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Seconds since 1970; 0 if the clock is before that.
#[expect(clippy::disallowed_methods, reason = "this is the module that may")]
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
