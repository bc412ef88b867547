//! The daemon's log: a line an event, to stderr.

use std::fmt;

use host::clock;
use host::log::{Event, Level, LogFormat, write_line};

/// Where events go, and which.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    format: LogFormat,
    least: Level,
}

/// A named value of an event.
pub type Field<'a> = (&'a str, &'a dyn fmt::Display);

impl Log {
    /// A log in this form, of events at this level and above.
    #[must_use]
    pub const fn new(format: LogFormat, least: Level) -> Self {
        Self { format, least }
    }

    /// At level debug.
    pub fn debug(self, message: &str, fields: &[Field<'_>]) {
        self.event(Level::Debug, message, fields);
    }

    /// At level info.
    pub fn info(self, message: &str, fields: &[Field<'_>]) {
        self.event(Level::Info, message, fields);
    }

    /// At level warn: a failure that the agent retries.
    pub fn warn(self, message: &str, fields: &[Field<'_>]) {
        self.event(Level::Warn, message, fields);
    }

    /// At level error: the daemon ends.
    pub fn error(self, message: &str, fields: &[Field<'_>]) {
        self.event(Level::Error, message, fields);
    }

    fn event(self, level: Level, message: &str, fields: &[Field<'_>]) {
        if level < self.least {
            return;
        }
        let time = clock::rfc3339(clock::now());
        let fields: Vec<_> =
            fields.iter().map(|(name, value)| (*name, value.to_string())).collect();
        let line = Event { time: &time, level, message, fields: &fields }.line(self.format);
        write_line(line, self.format);
    }
}
