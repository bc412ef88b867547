//! The attester: shows the TPM, joins, keeps what it was given.
//!
//! [`tpm::attester`] is the TPM's half of a join and [`ceremony`] the network's; [`storage`] keeps what a host needs to be
//! itself again. [`cli`] declares the command line, each verb of which is one file in `command`.

pub mod ceremony;
pub mod cli;
mod command;
pub mod config;
pub mod credential;
pub mod daemon;
pub mod deliver;
pub mod doctor;
pub mod install;
pub mod log;
pub mod storage;
pub mod tpm;
mod trusted;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command line and returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    host::command_line::run(cli::parse(arguments), |cli| command::run(cli.command))
}
