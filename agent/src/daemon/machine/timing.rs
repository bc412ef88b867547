//! When credentials are renewed, and how long to wait after a failure.

use crate::credential::validity::Validity;
use std::time::Duration;

/// A moment on both clocks. The wall clock says what is valid and can jump; the boot clock never jumps and counts sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Seconds since 1970.
    pub wall: i64,
    /// Time since boot.
    pub boot: Duration,
}

/// When credentials are renewed: after half of their lifetime, or after the interval if that is shorter, varied by up to a
/// tenth so that hosts that started together spread out.
///
/// `seed` decides how much earlier or later; it is drawn once for each set of credentials.
#[must_use]
pub fn renewal_time(validity: Validity, interval: Option<Duration>, seed: u8) -> i64 {
    let life = validity.not_after.saturating_sub(validity.not_before).max(0);
    let interval = interval.and_then(|interval| i64::try_from(interval.as_secs()).ok());
    let after = (life / 2).min(interval.unwrap_or(i64::MAX));
    let jitter = after / 10 * (i64::from(seed) - 128) / 128;
    validity.not_before.saturating_add(after).saturating_add(jitter)
}

/// How long to wait after the nth failure in a row: one second, doubled each time up to `max`; half of it is random.
#[must_use]
pub fn backoff(failures: u32, max: Duration, seed: u8) -> Duration {
    let doubled = Duration::from_secs(1).saturating_mul(1 << failures.saturating_sub(1).min(20));
    let whole = doubled.min(max);
    whole / 2 + (whole / 2).mul_f64(f64::from(seed) / 255.0)
}
