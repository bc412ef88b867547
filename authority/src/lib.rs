//! The authority: decides who joins, issues certificates, keeps the record.
//!
//! [`service`] decides, using the crate `verifier` (evidence), [`store`] (records) and [`issue`]
//! (CA keys, certificates); [`server`] has the listeners for hosts and operators, [`audit`] the
//! audit log; [`assemble`] creates all of them from the settings.

#![forbid(unsafe_code)]

pub mod assemble;
pub mod audit;
pub mod backup;
pub mod cli;
pub mod cluster;
pub mod command;
pub mod config;
pub mod data_directory;
pub mod evidence;
pub mod install;
pub mod issue;
pub mod keyring;
pub mod log;
pub mod metrics;
pub mod public_names;
pub mod resource;
pub mod rsa_key;
pub mod server;
pub mod service;
pub mod store;
mod wire;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command line and returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    host::command_line::run(cli::parse(arguments), command::run)
}
