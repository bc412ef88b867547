//! `agent start`.

use super::runtime;
use crate::cli::daemon::Start;
use crate::config::{Findings, Loaded, Settings};
use crate::daemon;
use crate::exit::Failure;
use crate::log::{Level, Log};

pub(crate) fn run(arguments: Start) -> Result<(), Failure> {
    let Loaded { settings, warnings } = arguments.file.load(&arguments.overrides)?;
    let log = log_of(&settings);
    say(log, &warnings);
    let pid_file = arguments.pid_file.clone();
    let reread = Box::new(move || {
        let Loaded { settings, warnings } = arguments.file.load(&arguments.overrides)?;
        say(log, &warnings);
        Ok(settings)
    });
    runtime()?.block_on(daemon::run(settings, reread, pid_file.as_deref(), log))
}

const fn log_of(settings: &Settings) -> Log {
    let least = if settings.debug { Level::Debug } else { Level::Info };
    Log::new(settings.log_format, least)
}

/// What may not be meant as it stands.
fn say(log: Log, warnings: &Findings) {
    for warning in warnings.iter() {
        let line = warning.location.as_ref().map_or(0, |location| location.line);
        let advice = warning.advice.as_deref().unwrap_or_default();
        log.warn(&warning.message, &[("line", &line), ("advice", &advice)]);
    }
}
