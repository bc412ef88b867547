//! A program's command line, from the arguments to the exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::{Resettable, Styles};
use clap::{Arg, Command};

use crate::exit::{Exit, Failure};
use crate::log;
use crate::terminal::escape_lines;

/// Prepares a declared command line. An environment variable that is set to nothing counts as unset: `X=${X}` in an
/// environment file says nothing about X. There are no colours, so that an escape sequence in a message can only come from
/// an argument, and is escaped.
#[must_use]
pub fn prepare(command: Command) -> Command {
    without_empty_variables(command).styles(Styles::plain())
}

fn without_empty_variables(command: Command) -> Command {
    let is_empty =
        |arg: &Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// Runs what was parsed and returns the exit code. Help goes to stdout, failures go to stderr.
pub fn run<C>(
    parsed: Result<C, clap::Error>,
    command: impl FnOnce(C) -> Result<(), Failure>,
) -> ExitCode {
    let failure = match parsed.map(command) {
        Ok(Ok(())) => {
            log::end(None);
            return ExitCode::SUCCESS;
        }
        Ok(Err(failure)) => failure,
        Err(message) => {
            print(&message);
            return if message.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    // If stderr is closed or not read, the exit code still reports the failure.
    log::end(Some(failure.to_string()));
    failure.exit.into()
}

/// Prints help or a usage error, which repeats arguments and variables as they came. A terminal that is closed changes
/// nothing.
fn print(message: &clap::Error) {
    let text = escape_lines(&message.render().ansi().to_string());
    let _ = match message.use_stderr() {
        true => io::stderr().write_all(text.as_bytes()),
        false => io::stdout().write_all(text.as_bytes()),
    };
}
