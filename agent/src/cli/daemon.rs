//! `agent start` and `agent wait`, declared.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::OVERRIDES;
use crate::config::{Address, ConfigFile, Overrides, ServiceName};

/// `agent start`.
#[derive(Args, Debug)]
#[command(after_help = "\
TELEPORT_ANONYMOUS_TELEMETRY is accepted and has no effect: the agent sends no telemetry.")]
pub struct Start {
    /// Where the configuration is.
    #[command(flatten)]
    pub file: ConfigFile,
    /// What overrides it.
    #[command(flatten, next_help_heading = OVERRIDES)]
    pub overrides: Overrides,
    /// File to write the process ID to; removed when the agent exits
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
}

/// `agent wait`.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("agent").required(true).multiple(true)))]
pub struct Wait {
    /// Storage directory of the agent, which holds its agent.sock
    #[arg(long, value_name = "DIR", env = "AGENT_STORAGE", group = "agent")]
    pub storage: Option<PathBuf>,
    /// Diagnostics address of the agent, its diag_addr
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "AGENT_DIAG_ADDR",
        value_parser = Address::of_listener,
        group = "agent"
    )]
    pub diag_addr: Option<Address>,
    /// Wait for this service only
    #[arg(long, value_name = "NAME")]
    pub service: Option<ServiceName>,
    /// Give up after this many seconds; 0 waits forever
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub timeout: u64,
}
