//! The verbs, a file each.

mod check;
mod configure;
mod doctor;
mod identify;
mod install;
mod join;
mod man;
mod start;
mod status;
mod wait;
mod whoami;

use std::io::Write;

use clap::CommandFactory;
use tokio::runtime::Builder;
use verifier::text::escape_json;

use crate::cli::{Cli, Command};
use crate::clock;
use crate::exit::Failure;

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    clock::check(clock::now())?;
    match command {
        Command::Configure(arguments) => configure::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Start(arguments) => start::run(*arguments),
        Command::Wait(arguments) => wait::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Identify(arguments) => identify::run(&arguments),
        Command::Join(arguments) => join::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Whoami(arguments) => whoami::run(&arguments),
        Command::Install(what) => install::run(what),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "agent", &mut script);
            write(&script)
        }
        Command::Man { verb } => write(&man::page(verb.as_deref())?),
    }
}

/// Runs a command to its end. One thread is enough for a client; what blocks another thread by then ends with the process.
fn block_on<T>(command: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|cause| Failure::io(&cause, "cannot start"))?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    Ok(result)
}

/// A result goes to stdout whole. A reader that has gone is no failure.
fn write(result: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(result).and_then(|()| stdout.flush()) {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::io(&cause, "cannot write the result"))
        }
        _ => Ok(()),
    }
}

fn write_json(result: &impl serde::Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(result).map_err(Failure::bug)?;
    write((escape_json(&json) + "\n").as_bytes())
}
