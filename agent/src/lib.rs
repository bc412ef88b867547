//! The attester: shows the TPM, joins, keeps what it was given.
//!
//! [`attester`] is the TPM's half of a join and [`ceremony`] the network's; [`storage`] keeps what a host needs to be
//! itself again. [`cli`] declares the command line, each verb of which is one file in `command`.

pub mod artifact;
pub mod attester;
mod bounded;
pub mod ceremony;
pub mod channel;
pub mod cli;
pub mod client;
pub mod clock;
mod command;
pub mod config;
pub mod connection;
pub mod credentials;
pub mod daemon;
pub mod destination;
pub mod doctor;
mod exit;
mod handshake;
pub mod identity;
pub mod install;
pub mod inventory;
pub mod log;
pub mod passwords;
pub mod reload;
mod socket;
mod ssh_certificate;
pub mod storage;
pub mod tpm_thread;
mod traffic;
mod trusted;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

pub use exit::{Exit, Failure};

/// Runs the command line and returns what the process ends with.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match cli::parse(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
            // A closed terminal is no reason to end otherwise.
            let _ = cli::print(&error);
            return exit;
        }
    };
    match command::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{failure}");
            failure.exit.into()
        }
    }
}
