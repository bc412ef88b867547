//! The one place that reads the clock. Everything else is told what time it is.

use std::fmt;
use std::sync::Arc;

use time::OffsetDateTime;

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
