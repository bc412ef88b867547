//! The agent: identifies the TPM, joins, renews and delivers credentials.
//!
//! Modules from the top down; `cargo xtask floors` checks that none uses a module above it:
//!
//! - `command`: the verbs of the command line, a file for each; [`cli`] declares them.
//! - [`daemon`] keeps credentials fresh; [`doctor`] checks what a join depends on.
//! - [`storage`] keeps the identity on the disk.
//! - [`ceremony`] asks the authority; [`deliver`] brings what it issued to the programs that use it, and [`workload_api`] and
//!   [`ssh_agent`] are where they fetch or use it.
//! - [`credential`]: what was issued, verified as a peer would verify it. [`install`] makes the systemd unit.
//! - [`config`] is the configuration file; [`keys`] are the keys of services.
//! - [`attest`] finds out who connected to a unix socket.
//! - [`tpm`]: the thread that owns the TPM, the attester, the endorsement keys.
//! - `ssh`: keys, certificates and signatures of SSH; [`spiffe_id`]: SPIFFE IDs.
//! - [`connections`] limits how many connect to a socket.
//! - [`parts`] that a build can be without, [`log`], [`file_access`] with a time limit, and `trusted`: who else can change a file.

#![forbid(unsafe_code)]

pub mod attest;
#[cfg_attr(
    not(feature = "teleport"),
    allow(dead_code, reason = "Teleport's protocols use more than ours")
)]
pub mod ceremony;
pub mod cli;
mod command;
pub mod config;
pub mod connections;
#[cfg_attr(
    not(feature = "teleport"),
    allow(dead_code, reason = "Teleport's protocols use more than ours")
)]
pub mod credential;
pub mod daemon;
pub mod deliver;
pub mod doctor;
pub mod file_access;
pub mod install;
pub mod keys;
pub mod log;
pub mod parts;
pub mod spiffe_id;
mod ssh;
pub mod ssh_agent;
pub mod storage;
pub mod tpm;
mod trusted;
pub mod workload_api;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command line and returns the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    host::command_line::run(cli::parse(arguments), |cli| command::run(cli.command))
}
