//! The log's levels, formats and lines: an event is one line, whatever its values are.

mod queue;

use std::fmt::Write as _;

use clap::ValueEnum;
use serde_json::{Map, Value};

pub(crate) use self::queue::end;
pub use self::queue::{flush, write_line};
use crate::terminal::{escape, escape_json};

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Human-readable
    #[default]
    Text,
    /// One JSON object per line
    Json,
    /// For systemd's journal: with a priority, without a time
    Journal,
}

impl LogFormat {
    /// All of them, with their names.
    pub const NAMES: [(&'static str, Self); 3] =
        [("text", Self::Text), ("json", Self::Json), ("journal", Self::Journal)];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Journal => "journal",
        }
    }
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// More than most developers want.
    Trace,
    /// For developers.
    Debug,
    /// What happens.
    Info,
    /// What failed and is tried again, or deserves a look.
    Warn,
    /// What ends the program, or loses something.
    Error,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO ",
            Self::Warn => "WARN ",
            Self::Error => "ERROR",
        }
    }

    /// That of syslog(3).
    const fn priority(self) -> u8 {
        match self {
            Self::Trace | Self::Debug => 7,
            Self::Info => 6,
            Self::Warn => 4,
            Self::Error => 3,
        }
    }
}

/// An event: when, how much it matters, what happened, and named values. Values that are empty are left out.
#[derive(Debug)]
pub struct Event<'a> {
    /// RFC 3339.
    pub time: &'a str,
    /// How much it matters.
    pub level: Level,
    /// What happened.
    pub message: &'a str,
    /// Named values.
    pub fields: &'a [(&'a str, String)],
}

impl Event<'_> {
    /// The event as one line, without the line break.
    #[must_use]
    pub fn line(&self, format: LogFormat) -> String {
        match format {
            LogFormat::Json => self.json(),
            LogFormat::Text => format!("{} {} {}", self.time, self.level.name(), self.words()),
            LogFormat::Journal => format!("<{}>{}", self.level.priority(), self.words()),
        }
    }

    fn values(&self) -> impl Iterator<Item = (&str, &str)> {
        let values = self.fields.iter().map(|(name, value)| (*name, value.as_str()));
        values.filter(|(_, value)| !value.is_empty())
    }

    /// Values are quoted where they have spaces, and escaped where they are not printable.
    fn words(&self) -> String {
        let mut line = self.message.to_owned();
        for (name, value) in self.values() {
            let plain = value.chars().all(|c| c.is_ascii_graphic() && c != '"');
            // Writing to a String does not fail.
            let _ = match plain {
                true => write!(line, " {name}={value}"),
                false => write!(line, " {name}={value:?}"),
            };
        }
        escape(&line)
    }

    fn json(&self) -> String {
        let mut object = Map::new();
        object.insert("time".into(), Value::from(self.time));
        object.insert("level".into(), Value::from(self.level.name().trim_end().to_lowercase()));
        object.insert("message".into(), Value::from(self.message));
        for (name, value) in self.values() {
            object.insert(name.into(), Value::from(value));
        }
        escape_json(&Value::Object(object).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: LogFormat, fields: &[(&str, &str)]) -> String {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, (*value).into())).collect();
        Event { time: "t", level: Level::Warn, message: "joined", fields: &fields }.line(format)
    }

    #[test]
    fn value_stays_on_its_line_and_in_its_quotes() {
        let fields = [("bot", "b1"), ("advice", ""), ("why", "two words\nERROR \"x\"\u{3164}")];
        let words = r#"joined bot=b1 why="two words\nERROR \"x\"\u{3164}""#;
        assert_eq!(line(LogFormat::Text, &fields), format!("t WARN  {words}"));
        assert_eq!(line(LogFormat::Journal, &fields), format!("<4>{words}"));
    }

    #[test]
    fn json_is_printable_and_means_the_same() {
        let line = line(LogFormat::Json, &[("a", "b\n\u{202e}"), ("c", "")]);
        assert!(line.chars().all(crate::terminal::is_printable), "{line}");
        let object: Value = serde_json::from_str(&line).unwrap();
        assert!(object.get("c").is_none());
        assert_eq!(object["level"], "warn");
        assert_eq!(object["a"], "b\n\u{202e}");
    }
}
