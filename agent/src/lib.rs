//! The attester: shows the TPM, joins, keeps what it was given.
//!
//! [`attester`] is the TPM's half of a join and [`ceremony`] the network's; [`storage`] keeps what a host needs to be
//! itself again. [`cli`] declares the command line, each verb of which is one file in `command`.

pub mod artifact;
pub mod attester;
pub mod ceremony;
pub mod channel;
pub mod cli;
pub mod client;
mod command;
pub mod config;
pub mod connection;
pub mod credentials;
pub mod daemon;
pub mod destination;
pub mod doctor;
mod handshake;
pub mod identity;
pub mod install;
pub mod inventory;
pub mod log;
pub mod passwords;
pub mod reload;
mod ssh_certificate;
pub mod storage;
mod tpm_failure;
pub mod tpm_thread;
mod trusted;
pub mod validity;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command line and returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    host::command_line::run(cli::parse(arguments), |cli| command::run(cli.command))
}
