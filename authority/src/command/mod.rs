//! The verbs of the command line, one file each.

mod audit;
mod authorities;
mod backup;
mod bots;
mod ca;
mod check;
mod client;
mod create;
mod edit;
mod ek;
mod explain;
mod export;
mod get;
mod install;
mod instances;
mod lock;
mod place;
mod recovery;
mod resources;
mod restore;
mod start;
mod status;
mod store;
mod table;
mod tokens;

use clap::CommandFactory;
use host::config::finding::Findings;
use host::exit::Failure;
use host::{clock, diag, manual, output};
use tracing::error;

use crate::cli::bots::Bots;
use crate::cli::{Cli, Command, Ek, StoreCommand};
use crate::config::{LoadError, Settings};
use crate::log::{self, Levels, LogOptions};

/// Does what the command line says.
pub fn run(cli: Cli) -> Result<(), Failure> {
    clock::check(clock::now())?;
    let options = LogOptions { format: cli.log_format, debug: cli.debug };
    if !matches!(cli.command, Command::Start(_)) {
        log::start(options, &Levels::default())?;
    }
    match cli.command {
        Command::Start(start) => {
            let settings = Settings::new(&start).or_else(|error| {
                if let LoadError::Unusable(findings) = &error {
                    // As the command line says, for lack of a file that does.
                    log::start(options, &Levels::default())?;
                    log_findings(findings);
                }
                Err(Failure::from(error))
            })?;
            let format = options.format.or(settings.log_format);
            log::start(LogOptions { format, ..options }, &settings.log_levels)?;
            log::warn_if_quiet(format);
            block_on(start::start(settings))
        }
        Command::Check(start) => block_on(check::check(start)),
        Command::Status(data) => block_on(status::status(data)),
        Command::Create(create) => block_on(create::create(create)),
        Command::Get(get) => block_on(get::get(get)),
        Command::Rm(rm) => block_on(get::rm(rm)),
        Command::Lock(lock) => block_on(lock::lock(lock)),
        Command::Edit(edit) => block_on(edit::edit(edit)),
        Command::Bots(Bots::Instances(instances)) => block_on(instances::run(instances)),
        Command::Bots(bots) => block_on(bots::run(bots)),
        Command::Tokens(tokens) => block_on(tokens::run(tokens)),
        Command::Export(export) => block_on(export::export(export)),
        Command::Audit(audit) => block_on(audit::run(audit)),
        Command::Explain(explain) => block_on(explain::explain(explain)),
        Command::Ek(Ek::Check(check)) => ek::check(&check),
        Command::Ca(ca) => block_on(ca::run(ca)),
        Command::Authorities(authorities) => block_on(authorities::run(authorities)),
        Command::Recovery(recovery) => block_on(recovery::run(recovery)),
        Command::Store(StoreCommand::Migrate(migrate)) => block_on(store::migrate(migrate)),
        Command::Store(StoreCommand::Copy(copy)) => block_on(store::copy(copy)),
        Command::Store(StoreCommand::AcceptRestored(which)) => {
            block_on(store::accept_restored(which))
        }
        Command::Backup(backup) => block_on(backup::backup(backup)),
        Command::Restore(restore) => block_on(restore::restore(restore)),
        Command::Install(what) => install::install(what),
        Command::Version => output::write(concat!("authority ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Completions(shell) => {
            output::write(manual::completions(Cli::command(), shell.shell))
        }
        Command::Man { command } => {
            output::write(manual::page(Cli::command(), command.as_deref())?)
        }
    }
}

fn log_findings(findings: &Findings) {
    for finding in findings.iter() {
        let advice = finding.advice.as_deref().unwrap_or_default();
        error!(at = findings.position(finding), advice, "{}", finding.message);
    }
}

fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    diag::prepare_thread();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(diag::prepare_thread)
        .build();
    let runtime = runtime.map_err(|cause| Failure::io(&cause, "cannot start"))?;
    let result = runtime.block_on(command);
    // Remaining tasks are not waited for.
    runtime.shutdown_background();
    result
}
