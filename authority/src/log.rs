//! The program's log: what is logged, in which form, to stderr.

use std::str::FromStr;
use std::{env, fmt, io};

use host::clock::{self, rfc3339};
use host::exit::{Exit, Failure};
use host::log::{Event, Level, LogFormat, write_line};
use tracing::dispatcher::{Dispatch, with_default};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// The environment variable that goes before the configuration.
const VARIABLE: &str = "AUTHORITY_LOG";

/// The filter of `--debug`: what libraries log at debug level is left out.
const DEBUG: &str = concat!("info,", env!("CARGO_CRATE_NAME"), "=debug");

const LEVELS: &str = "error, warn, info, debug, trace or off";

/// Events are logged at this level and above, by part of the program. `None` is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels(Option<String>);

impl FromStr for Levels {
    type Err = String;

    /// A level, or directives of `EnvFilter` separated by commas, such as `info,h2=debug`. Nothing is
    /// the default.
    ///
    /// `EnvFilter` takes any other word for the name of a module, and then logs nothing of ours: such
    /// a word is refused, and the program itself has a level whatever is said of its parts.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |word: &str| format!("{word:?} is not a log level: {LEVELS}");
        let mut ours = false;
        let mut directives = Vec::new();
        for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            let (target, word) = match directive.rsplit_once('=') {
                Some((target, word)) => (Some(target), word),
                None => (None, directive),
            };
            let level = level(word).ok_or_else(|| wrong(word))?;
            ours |= target.is_none_or(|target| target == env!("CARGO_CRATE_NAME"));
            directives.push(match target {
                Some(target) => format!("{target}={level}"),
                None => level.to_string(),
            });
        }
        if directives.is_empty() {
            return if text.trim().is_empty() { Ok(Self(None)) } else { Err(wrong(text)) };
        }
        if !ours {
            directives.insert(0, format!("{}=info", env!("CARGO_CRATE_NAME")));
        }
        let filter = directives.join(",");
        EnvFilter::try_new(&filter).map_err(|cause| format!("{text:?}: {cause}"))?;
        Ok(Self(Some(filter)))
    }
}

fn level(word: &str) -> Option<LevelFilter> {
    // An empty word is a level to the library, and so is a number.
    let is_word = word.chars().all(|c| c.is_ascii_alphabetic()) && !word.is_empty();
    let word = if word.eq_ignore_ascii_case("warning") { "warn" } else { word };
    word.parse().ok().filter(|_| is_word)
}

impl Levels {
    /// The levels that the environment sets.
    fn from_environment() -> Result<Self, Failure> {
        let Some(text) = env::var_os(VARIABLE) else { return Ok(Self::default()) };
        text.to_string_lossy().parse().map_err(|cause| {
            let advice = format!("correct or unset {VARIABLE}");
            Failure::new(Exit::Usage, format!("{VARIABLE}: {cause}"), advice)
        })
    }
}

/// What the command line says of the log.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// The format, if it was given.
    pub format: Option<LogFormat>,
    /// Whether to log the program's own events at debug level.
    pub debug: bool,
}

/// Begins to log. `--debug` overrides the environment, which overrides the configured levels.
///
/// # Errors
/// The environment names a level that does not exist.
pub fn start(options: LogOptions, configured: &Levels) -> Result<(), Failure> {
    let filter = Levels::from_environment()?.0.or_else(|| configured.0.clone());
    let filter = EnvFilter::new(match &filter {
        _ if options.debug => DEBUG,
        Some(filter) => filter,
        None => "info",
    });
    to_stderr(options.format, filter).init();
    Ok(())
}

/// Warns where events of level info are not logged. Every filter lets this one event pass, `off` too:
/// an operator who finds an empty log must know why.
pub fn warn_if_quiet(format: Option<LogFormat>) {
    if !tracing::enabled!(tracing::Level::INFO) {
        let unfiltered = to_stderr(format, EnvFilter::new("warn"));
        with_default(&unfiltered, || {
            warn!("events of level info are not logged (set by AUTHORITY_LOG or log.level)");
        });
    }
}

fn to_stderr(format: Option<LogFormat>, filter: EnvFilter) -> Dispatch {
    let format = format.unwrap_or_default();
    let lines = Lines(format);
    // A log line that cannot be written is lost: reporting that on stderr would panic.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    log.with_writer(move || Stderr(format)).event_format(lines).into()
}

/// Writes each line in order, without waiting for a reader.
struct Stderr(LogFormat);

impl io::Write for Stderr {
    /// One event is one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        write_line(String::from_utf8_lossy(line).trim_end().to_owned(), self.0);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event as one line, in the form that both programs of this project have.
struct Lines(LogFormat);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let time = rfc3339(clock::now());
        let line = Event {
            time: &time,
            level: match *event.metadata().level() {
                tracing::Level::TRACE => Level::Trace,
                tracing::Level::DEBUG => Level::Debug,
                tracing::Level::INFO => Level::Info,
                tracing::Level::WARN => Level::Warn,
                tracing::Level::ERROR => Level::Error,
            },
            message: &fields.message,
            fields: &fields.named,
        };
        writeln!(writer, "{}", line.line(self.0))
    }
}

/// The values of an event.
#[derive(Default)]
struct Fields {
    message: String,
    named: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }
}

impl Fields {
    fn add(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.named.push((name, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_leave_the_program_its_log_and_other_words_are_refused() {
        let filter = |text: &str| text.parse::<Levels>().map(|levels| levels.0);
        for (text, expected) in [
            ("warning", "warn"),
            ("WARN", "warn"),
            ("off", "off"),
            ("info, h2=Warning", "info,h2=warn"),
            ("trace,h2=info,redb=info", "trace,h2=info,redb=info"),
            ("authority=debug", "authority=debug"),
            ("h2=debug", "authority=info,h2=debug"),
            ("authority::store=trace", "authority=info,authority::store=trace"),
            ("h2[span{a=b}]=debug", "authority=info,h2[span{a=b}]=debug"),
        ] {
            assert_eq!(filter(text), Ok(Some(expected.to_owned())), "{text}");
        }
        for text in ["", "  "] {
            assert_eq!(filter(text), Ok(None), "{text:?}");
        }
        for text in
            ["verbose", "authority", "info,verbose", "h2=", "h2=loud", "3", ",", "=", "a=b=c"]
        {
            let said = filter(text).unwrap_err();
            assert!(said.ends_with("is not a log level: error, warn, info, debug, trace or off"));
        }
    }
}
