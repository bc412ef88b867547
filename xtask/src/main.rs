//! `cargo xtask`: see `cargo xtask --help`.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::demo::{self, Afterwards};
use xtask::page::{self, Table};
use xtask::setup::{self, Action, Purpose};
use xtask::{
    bench, check, cookbook, deny, drills, figures, floors, fuzz, musl, platforms, release, soak,
    test, vm, workspace,
};

/// The workspace's own tools.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Check format, lints, floors (layers), no C, one generation of RustCrypto, documentation, and run
    /// the fuzz targets on their seeds
    Check,
    /// Install missing programs, check, and run every test; the last line counts them
    Test,
    /// Walk the guide from identify to a certificate used over mutual TLS
    Demo {
        /// The TPM to use, such as device:/dev/tpmrm0 [default: a new software TPM with EK
        /// certificates]
        #[arg(long, value_name = "TCTI")]
        tpm: Option<String>,
        /// Keep the demo's directory
        #[arg(long)]
        keep: bool,
    },
    /// Check licences, sources, bans and advisories of all dependencies, with cargo-deny
    Deny,
    /// Compile the libraries for Windows and for a bare-metal target; needs the standard libraries of both
    Platforms,
    /// Run libFuzzer over the fuzz targets and report executions and crashes
    Fuzz {
        /// Only this target
        #[arg(long, value_name = "NAME")]
        target: Option<String>,
        /// Seconds per target
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u32,
        /// Executions per target, however long they take
        #[arg(long, value_name = "N", conflicts_with = "seconds")]
        runs: Option<u64>,
    },
    /// Run the benchmarks and show the results as a table
    Bench {
        /// Only benchmarks whose name contains this
        filter: Option<String>,
        /// Write the table into docs/performance.md
        #[arg(long, conflicts_with = "filter")]
        write: bool,
    },
    /// Build the agent as one statically linked file
    Static,
    /// Measure the static agent: size, memory, wake-ups, joins and renewals
    Figures {
        /// Minutes to watch the idle daemon
        #[arg(long, value_name = "N", default_value_t = 3)]
        minutes: u32,
        /// Write the table into docs/performance.md
        #[arg(long)]
        write: bool,
    },
    /// Run a daemon that renews continuously while faults are injected, and check that it recovers
    Soak {
        #[command(flatten)]
        options: soak::Options,
    },
    /// Run the long drills: two authorities with one database under a fleet of hosts, while each part fails and while CAs rotate
    Drills {
        /// Only drills whose name contains this
        filter: Option<String>,
    },
    /// Run the static agent with a kernel's own /dev/tpmrm0, in virtual machines
    Vm {
        /// Only these scenarios
        scenarios: Vec<String>,
    },
    /// Install the packages on Debian in a virtual machine and follow the guides: ours, and Teleport's
    Walk {
        /// Only these guides: guide, teleport
        guides: Vec<String>,
    },
    /// Build packages, an archive, checksums and SBOMs
    Release,
    /// Write docs/configuration.md from the programs' configuration keys and options
    Config,
    /// Copy the code of the examples into docs/cookbook.md
    Cookbook,
    /// Install the programs that test and demo run, from the distribution's packages
    Setup {
        /// Only print what is missing and what would be run
        #[arg(long)]
        dry_run: bool,
    },
    /// Check that crates and modules depend only on lower floors (layers)
    Floors,
    /// List the public interface of tpm2 and verifier; fail if it has changed
    Api {
        /// Record the change in their api.txt
        #[arg(long)]
        accept: bool,
    },
    /// Generate the code of the crate proto from its .proto files
    Protos,
    /// Compare the table of commands in tpm2 with that of a TPM; fail if they differ
    Table {
        /// The TPM to ask, such as device:/dev/tpmrm0 [default: a new software TPM]
        #[arg(long, value_name = "TCTI")]
        tpm: Option<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Check => check::run(),
        Verb::Deny => deny::run(),
        Verb::Platforms => platforms::run(),
        Verb::Test => test::run(),
        Verb::Demo { tpm, keep } => {
            demo::run(tpm, if keep { Afterwards::Keep } else { Afterwards::Remove })
        }
        Verb::Fuzz { target, seconds, runs } => {
            let limit = runs.map_or(fuzz::Limit::Seconds(seconds), fuzz::Limit::Runs);
            fuzz::run(target.as_deref(), limit)
        }
        Verb::Bench { filter, write } => bench::run(filter.as_deref(), shown(write)),
        Verb::Static => musl::run(),
        Verb::Figures { minutes, write } => figures::run(minutes, shown(write)),
        Verb::Soak { options } => soak::run(&options),
        Verb::Drills { filter } => drills::run(filter.as_deref()),
        Verb::Vm { scenarios } => vm::run(&scenarios),
        Verb::Walk { guides } => vm::walk::run(&guides),
        Verb::Release => release::run(),
        Verb::Config => page::write_configuration(),
        Verb::Cookbook => cookbook::write(),
        Verb::Setup { dry_run } => {
            setup::run(Purpose::Test, if dry_run { Action::Tell } else { Action::Install })
        }
        Verb::Floors => {
            floors::check(workspace())?;
            println!("all dependencies of crates and modules point to lower floors");
            Ok(())
        }
        Verb::Api { accept } => api(accept),
        Verb::Protos => protos(),
        Verb::Table { tpm } => table(tpm.as_deref()),
    }
}

const fn shown(write: bool) -> Table {
    if write { Table::Write } else { Table::Show }
}

#[cfg(feature = "protos")]
fn protos() -> Result<()> {
    for path in xtask::protos::rewrite()? {
        println!("rewritten: {}", path.display());
    }
    Ok(())
}

#[cfg(not(feature = "protos"))]
fn protos() -> Result<()> {
    let made = xtask::built_with("protos", &["protos"])?;
    anyhow::ensure!(made, "the code of the crate proto was not made");
    Ok(())
}

#[cfg(feature = "api")]
fn api(accept: bool) -> Result<()> {
    use xtask::api::{Change, run};
    run(if accept { Change::Accept } else { Change::Refuse })
}

#[cfg(not(feature = "api"))]
fn api(accept: bool) -> Result<()> {
    xtask::check::api(accept)
}

#[cfg(feature = "table")]
fn table(tpm: Option<&str>) -> Result<()> {
    xtask::table::run(tpm)
}

#[cfg(not(feature = "table"))]
fn table(tpm: Option<&str>) -> Result<()> {
    let tpm = tpm.map(|tcti| format!("--tpm={tcti}"));
    let arguments: Vec<&str> = ["table"].into_iter().chain(tpm.as_deref()).collect();
    anyhow::ensure!(xtask::built_with("table", &arguments)?, "the table was not found right");
    Ok(())
}
