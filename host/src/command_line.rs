//! A program's command line, from the arguments to the exit code.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::{Resettable, Styles};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, Error};

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

/// Something that another program's command line has and this one has not: its name, and advice.
pub type Unsupported = (&'static str, &'static str);

/// A hidden command that takes any arguments, to be refused with [`unsupported`] rather than as a typing error.
#[must_use]
pub fn unsupported_command(name: &'static str) -> Command {
    let rest = Arg::new("rest").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true);
    let rest = rest.value_parser(clap::value_parser!(OsString));
    Command::new(name).hide(true).disable_help_flag(true).arg(rest)
}

/// A hidden option with or without a value, to be refused by [`check_options`] rather than as a typing error.
#[must_use]
pub fn unsupported_option(name: &'static str) -> Arg {
    let option = Arg::new(name).long(name).hide(true).num_args(0..=1);
    option.action(ArgAction::Append).default_missing_value("true")
}

/// The same for an option that never takes the next argument as its value.
#[must_use]
pub fn unsupported_switch(name: &'static str) -> Arg {
    unsupported_option(name).require_equals(true)
}

/// A usage error that does not propose [unsupported commands](unsupported_command).
#[must_use]
pub fn without_unsupported(mut error: Error, commands: &[Unsupported]) -> Error {
    if let Some(ContextValue::Strings(mut proposed)) = error.remove(ContextKind::ValidSubcommand) {
        proposed.retain(|name| !commands.iter().any(|(command, _)| command == name));
        error.insert(ContextKind::ValidSubcommand, ContextValue::Strings(proposed));
    }
    error
}

/// Refuses [unsupported options](unsupported_option) unless they are switched off.
///
/// # Errors
/// One of them is given.
pub fn check_options(options: &[Unsupported], matches: &ArgMatches) -> Result<(), Error> {
    for (name, advice) in options {
        let mut values = matches.get_many::<String>(name).into_iter().flatten();
        if values.any(|value| value != "false") {
            return Err(unsupported(&format!("the option --{name}"), advice));
        }
    }
    Ok(())
}

/// The error that something of another program is not supported.
#[must_use]
pub fn unsupported(what: &str, advice: &str) -> Error {
    Error::raw(ErrorKind::InvalidValue, format!("{what} is not supported\n{advice}\n"))
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
