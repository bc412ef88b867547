//! The only module of this crate that reads the clock.

use std::format;
use std::io::{Error, ErrorKind, Result};
use std::time::{Duration, Instant};

/// The end of the time that something may take.
pub(super) struct Deadline {
    begin: Instant,
    limit: Duration,
}

impl Deadline {
    /// A deadline `limit` from now.
    #[expect(clippy::disallowed_methods, reason = "this is the module that may")]
    pub(super) fn after(limit: Duration) -> Self {
        Self { begin: Instant::now(), limit }
    }

    /// The time that is left, more than zero.
    ///
    /// # Errors
    /// [`ErrorKind::TimedOut`] if none is.
    pub(super) fn left(&self) -> Result<Duration> {
        let left = self.limit.checked_sub(self.begin.elapsed()).filter(|left| !left.is_zero());
        left.ok_or_else(|| self.missed())
    }

    /// The error of what has not ended in time.
    pub(super) fn missed(&self) -> Error {
        let what = format!("no answer in {} seconds", self.limit.as_secs());
        Error::new(ErrorKind::TimedOut, what)
    }
}
