//! `agent start` and `agent wait`, declared.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use crate::config::{Address, ConfigFile, Overrides, ServiceName};

/// `agent start`.
#[derive(Args, Debug)]
#[command(after_help = "\
TELEPORT_ANONYMOUS_TELEMETRY is accepted and changes nothing: nothing about this host is sent anywhere.")]
pub struct Start {
    /// Where the configuration is.
    #[command(flatten)]
    pub file: ConfigFile,
    /// What goes before it.
    #[command(flatten)]
    pub overrides: Overrides,
    /// Write the process id to this file, as long as the agent runs
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
}

/// `agent wait`.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("agent").required(true).multiple(true)))]
pub struct Wait {
    /// The storage of the agent, where it answers too
    #[arg(long, value_name = "DIR", env = "AGENT_STORAGE", group = "agent")]
    pub storage: Option<PathBuf>,
    /// Where the agent answers questions about its health: its diag_addr
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
    /// Give up after this many seconds; 0 never does
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub timeout: u64,
}
