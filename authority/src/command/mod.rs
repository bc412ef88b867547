//! The verbs of the command line, one file each.

mod client;
mod create;
mod get;
mod start;
mod status;

use std::io::{self, Write};

use clap::CommandFactory;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, LogFormat};
use crate::exit::{Exit, Failure};

/// Does what the command line says.
pub fn run(cli: Cli) -> Result<(), Failure> {
    log(cli.log_format);
    match cli.command {
        Command::Start(start) => block_on(start::start(start)),
        Command::Status(data) => block_on(status::status(data)),
        Command::Create(create) => block_on(create::create(create)),
        Command::Get(get) => block_on(get::get(get)),
        Command::Rm(rm) => block_on(get::rm(rm)),
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

fn log(format: LogFormat) {
    let filter =
        EnvFilter::try_from_env("AUTHORITY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
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
