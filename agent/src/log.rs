//! What the daemon says while it runs: a line an event, to stderr, for people, for programs or for systemd's journal.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use serde_json::{Map, Value};
use verifier::text::{escape, escape_json};

use crate::clock;
use crate::config::{LogFormat, Settings};
use crate::identity::rfc3339;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For developers.
    Debug,
    /// What happens.
    Info,
    /// What goes wrong and will be tried again.
    Warn,
    /// What ends the daemon.
    Error,
}

/// Where events go.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    format: LogFormat,
    least: Level,
}

/// A named value of an event.
pub type Field<'a> = (&'a str, &'a dyn fmt::Display);

impl Log {
    /// A log in this form, of events that matter at least so much.
    #[must_use]
    pub const fn new(format: LogFormat, least: Level) -> Self {
        Self { format, least }
    }

    /// The log as the configuration wants it.
    #[must_use]
    pub const fn of(settings: &Settings) -> Self {
        let least = if settings.debug { Level::Debug } else { Level::Info };
        Self::new(settings.log_format, least)
    }

    /// For developers.
    pub fn debug(self, what: &str, fields: &[Field<'_>]) {
        self.event(Level::Debug, what, fields);
    }

    /// What happens.
    pub fn info(self, what: &str, fields: &[Field<'_>]) {
        self.event(Level::Info, what, fields);
    }

    /// What goes wrong and will be tried again.
    pub fn warn(self, what: &str, fields: &[Field<'_>]) {
        self.event(Level::Warn, what, fields);
    }

    /// What ends the daemon.
    pub fn error(self, what: &str, fields: &[Field<'_>]) {
        self.event(Level::Error, what, fields);
    }

    fn event(self, level: Level, what: &str, fields: &[Field<'_>]) {
        if level < self.least {
            return;
        }
        let now = rfc3339(clock::now().unix_timestamp()).unwrap_or_default();
        let line = match self.format {
            LogFormat::Json => json(&now, level, what, fields),
            LogFormat::Text => format!("{now} {} {}", level.word(), words(what, fields)),
            // sd-daemon(3): the priority before the line; the journal keeps the time itself.
            LogFormat::Journal => format!("<{}>{}", level.priority(), words(what, fields)),
        };
        // Whoever closed stderr does not want to know.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO ",
            Self::Warn => "WARN ",
            Self::Error => "ERROR",
        }
    }

    const fn priority(self) -> u8 {
        match self {
            Self::Debug => 7,
            Self::Info => 6,
            Self::Warn => 4,
            Self::Error => 3,
        }
    }
}

/// The fields that say something: not every failure has advice.
fn told<'f>(fields: &'f [Field<'_>]) -> impl Iterator<Item = (&'f str, String)> {
    let said = fields.iter().map(|(name, value)| (*name, value.to_string()));
    said.filter(|(_, value)| !value.is_empty())
}

/// One line, whatever is in the values: quoted where they have spaces, escaped where they have worse.
fn words(what: &str, fields: &[Field<'_>]) -> String {
    let mut line = what.to_owned();
    for (name, value) in told(fields) {
        let plain = value.chars().all(|c| c.is_ascii_graphic() && c != '"');
        let _ =
            if plain { write!(line, " {name}={value}") } else { write!(line, " {name}={value:?}") };
    }
    escape(&line)
}

fn json(now: &str, level: Level, what: &str, fields: &[Field<'_>]) -> String {
    let mut object = Map::new();
    object.insert("time".into(), Value::from(now));
    object.insert("level".into(), Value::from(level.word().trim_end().to_lowercase()));
    object.insert("message".into(), Value::from(what));
    for (name, value) in told(fields) {
        object.insert(name.into(), Value::from(value));
    }
    escape_json(&Value::Object(object).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_on_its_line_and_in_its_quotes() {
        let fields: [Field<'_>; 3] =
            [("bot", &"b1"), ("advice", &""), ("why", &"two words\nERROR \"x\"\u{3164}")];
        let line = words("joined", &fields);
        assert_eq!(line, r#"joined bot=b1 why="two words\nERROR \"x\"\u{3164}""#);
        let object: Value = serde_json::from_str(&json(
            "t",
            Level::Warn,
            "m",
            &[("a", &"b\n\u{202e}"), ("c", &"")],
        ))
        .unwrap();
        assert!(object.get("c").is_none());
        assert_eq!(
            (object["level"].as_str(), object["a"].as_str()),
            (Some("warn"), Some("b\n\u{202e}"))
        );
    }
}
