//! What a program is on a Linux host, for both programs of this workspace.
//!
//! | module | what it covers |
//! |---|---|
//! | [`command_line`] | from the arguments to the exit code |
//! | [`exit`] | exit codes of sysexits.h, and failures with advice |
//! | [`output`] | results on stdout, notes and warnings on stderr |
//! | [`terminal`] | text from elsewhere, made harmless for a terminal and a log |
//! | [`config`] | configuration files, with all findings at once and where they are |
//! | [`log`] | the log's levels, formats and lines |
//! | [`manual`] | manual pages and shell completions of a command line |
//! | [`service_manager`] | sd_notify(3) |
//! | [`systemd_unit`], [`account`], [`install_file`] | what `install` writes, and where |
//! | [`diag`], [`metrics`] | diagnostics over HTTP, Prometheus' text format |
//! | [`budget`], [`frames`] | a bound on the bytes and frames that a peer may send |
//! | [`bounded`] | files, read whole or refused |
//! | [`unix_socket`] | unix sockets whose path has any length |
//! | [`go_duration`] | durations as Go writes them |
//! | [`clock`] | the only module that reads the clock |

#![forbid(unsafe_code)]

pub mod account;
pub mod bounded;
pub mod budget;
pub mod clock;
pub mod command_line;
pub mod config;
pub mod diag;
pub mod exit;
pub mod frames;
pub mod go_duration;
pub mod install_file;
pub mod log;
pub mod manual;
pub mod metrics;
pub mod output;
pub mod service_manager;
pub mod systemd_unit;
pub mod terminal;
pub mod unix_socket;
