//! The one place that reads the clock. Everything else is told what time it is.

use std::fmt;
use std::sync::Arc;

use time::OffsetDateTime;

use crate::exit::{Exit, Failure};

/// Tells the time, in UTC.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> OffsetDateTime + Send + Sync>);

impl Clock {
    /// The clock of this machine.
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "here and nowhere else")]
        Self(Arc::new(OffsetDateTime::now_utc))
    }

    /// A clock that says what `now` returns.
    pub fn new(now: impl Fn() -> OffsetDateTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// Refuses a clock that shows a time before 1970: neither certificates nor TLS can express it.
    pub fn check(&self) -> Result<(), Failure> {
        let now = self.now();
        if now >= OffsetDateTime::UNIX_EPOCH {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Unavailable,
            format!("the clock shows {}, a time before 1970", now.date()),
            "set the clock",
        ))
    }

    /// The time.
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
    fn clock_before_1970_is_an_error_that_says_so() {
        Clock::new(|| datetime!(1970-01-01 0:00 UTC)).check().unwrap();
        let failure = Clock::new(|| datetime!(1969-12-31 23:59:59 UTC)).check().unwrap_err();
        assert!(failure.to_string().contains("the clock shows 1969-12-31"), "{failure}");
    }
}
