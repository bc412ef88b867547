//! The command line together with the environment.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::builder::{Resettable, Styles};
use clap::{Arg, CommandFactory, FromArgMatches};
use verifier::text::escape_lines;

use super::Cli;

/// Reads a command line. An environment variable that is set to nothing is unset: `X=${X}` in an
/// environment file says nothing about X.
///
/// # Errors
/// It makes no sense, or asks for help.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    // What clap prints then holds no escape sequences but those of the arguments.
    let mut command = without_empty_variables(Cli::command()).styles(Styles::plain());
    let matches = command.try_get_matches_from_mut(arguments)?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Prints what [`parse`] returned as an error: help to stdout, faults to stderr. It repeats arguments
/// and variables, which may come from elsewhere.
///
/// # Errors
/// The operating system's.
pub fn print(message: &clap::Error) -> io::Result<()> {
    let text = escape_lines(&message.render().ansi().to_string());
    match message.use_stderr() {
        true => io::stderr().write_all(text.as_bytes()),
        false => io::stdout().write_all(text.as_bytes()),
    }
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty =
        |arg: &Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(Resettable::Reset) } else { arg })
        .mut_subcommands(without_empty_variables)
}
