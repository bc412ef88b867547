//! The verbs of the command line, one file each.

mod audit;
mod bots;
mod check;
mod client;
mod create;
mod ek;
mod get;
mod install;
mod lock;
mod start;
mod status;
mod table;

use std::io::{self, Write};

use clap::CommandFactory;
use verifier::text::escape;

use crate::cli::{Audit, Bots, Cli, Command, Ek};
use crate::clock::Clock;
use crate::config::Settings;
use crate::exit::{Exit, Failure};
use crate::log::{self, Levels};

/// Does what the command line says.
pub fn run(cli: Cli) -> Result<(), Failure> {
    Clock::system().check()?;
    let format = cli.log_format;
    if !matches!(cli.command, Command::Start(_)) {
        log::start(format, &Levels::default())?;
    }
    match cli.command {
        Command::Start(start) => {
            let settings = Settings::new(&start)?;
            let format = format.or(settings.log_format);
            log::start(format, &settings.log_levels)?;
            log::warn_if_quiet(format);
            block_on(start::start(settings))
        }
        Command::Check(start) => check::check(&start),
        Command::Status(data) => block_on(status::status(data)),
        Command::Create(create) => block_on(create::create(create)),
        Command::Get(get) => block_on(get::get(get)),
        Command::Rm(rm) => block_on(get::rm(rm)),
        Command::Lock(lock) => block_on(lock::lock(lock)),
        Command::Bots(Bots::Ls(ls)) => block_on(bots::ls(ls)),
        Command::Bots(Bots::Instances(instances)) => block_on(bots::instances(instances)),
        Command::Audit(Audit::Ls(ls)) => audit::ls(&ls),
        Command::Ek(Ek::Check(check)) => ek::check(&check),
        Command::Install(what) => install::install(what),
        Command::Completions(shell) => {
            let mut script = Vec::new();
            clap_complete::generate(shell.shell, &mut Cli::command(), "authority", &mut script);
            print(&script)
        }
        Command::Man => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
            rendered.map_err(|cause| Failure::io(&cause, "cannot make the manual page"))?;
            print(&page)
        }
    }
}

/// Writes a result to stdout. Who reads only its beginning is no error.
fn print(result: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(result.as_ref()).and_then(|()| stdout.flush()) {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io(&cause, "cannot write to stdout"))
        }
        _ => Ok(()),
    }
}

/// A word on stderr; nobody hears it if that is closed.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "note: {}", escape(text));
}

/// What was done and is hardly meant so, on stderr.
fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "warning: {}", escape(text));
}

fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|cause| Failure::io(&cause, "cannot start"))?;
    let result = runtime.block_on(command);
    // Nothing that is left is worth waiting for.
    runtime.shutdown_background();
    result
}

fn bug(cause: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Bug, cause.to_string(), "report it")
}
