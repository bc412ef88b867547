//! The verbs, a file each.

mod check;
mod configure;
mod doctor;
mod identify;
mod install;
mod join;
mod read_executables;
mod start;
mod status;
mod wait;
mod whoami;

use host::exit::Failure;
use host::{clock, diag, manual, output};
use tokio::runtime::Builder;

use crate::cli::{self, Command, Tpm};
use crate::parts;

pub(crate) fn run(command: Command) -> Result<(), Failure> {
    clock::check(clock::now())?;
    match command {
        Command::Configure(arguments) => configure::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Start(arguments) => start::run(*arguments),
        Command::Wait(arguments) => wait::run(&arguments),
        Command::Doctor(_) if !parts::DOCTOR.is_built => Err(parts::DOCTOR.refusal()),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Identify(arguments) => identify::run(&arguments),
        Command::Tpm(Tpm::Identify(arguments)) => identify::run_as_tbot(&arguments),
        Command::Join(arguments) => join::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Whoami(arguments) => whoami::run(&arguments),
        Command::ReadExecutables => read_executables::run(),
        Command::Install(what) => install::run(what),
        Command::Version => output::write(concat!("agent ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Completions { .. } | Command::Man { .. } if !parts::MANUAL.is_built => {
            Err(parts::MANUAL.refusal())
        }
        Command::Completions { shell } => output::write(manual::completions(cli::command(), shell)),
        Command::Man { command } => {
            output::write(manual::page(cli::command(), command.as_deref())?)
        }
    }
}

/// Runs a command on one thread. Threads that still block at the end are not waited for.
fn block_on<T>(command: impl Future<Output = T>) -> Result<T, Failure> {
    diag::prepare_thread();
    let runtime = Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|cause| Failure::io(&cause, "cannot start"))?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    Ok(result)
}
