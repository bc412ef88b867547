//! `agent install`, declared.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use host::account::{AccountName, UnitName};
use host::install_file::Writing;
use tpm2::transport::Tcti;

use crate::config::{self, ConfigFile};

/// `agent install`.
#[derive(Debug, Subcommand)]
pub enum Install {
    /// Print the systemd unit of `agent start`, or write it with --write
    Systemd(Box<Systemd>),
    /// Print the udev rule that gives a group access to the TPM, or write it with --write; most distributions ship one
    Udev(Udev),
}

/// `agent install systemd`.
#[derive(Args, Debug)]
pub struct Systemd {
    /// Name of the systemd unit
    #[arg(long, value_name = "NAME", default_value = "endorse-agent")]
    pub name: UnitName,
    /// User the agent runs as
    #[arg(long, value_name = "USER", default_value = "endorse-agent")]
    pub user: AccountName,
    /// Group the agent runs as [default: the user's name]
    #[arg(long, value_name = "GROUP")]
    pub group: Option<AccountName>,
    /// Group that owns the TPM's device
    #[arg(long, value_name = "GROUP", default_value = "tss")]
    pub tpm_group: AccountName,
    #[command(flatten)]
    #[doc = "The systemd unit gives access to the directories and the TPM that are configured there."]
    pub file: ConfigFile,
    /// Program the systemd unit runs [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// TPM to pass to the agent in the systemd unit [default: from the configuration]
    #[arg(long, value_name = "TCTI", env = "AGENT_TPM", value_parser = crate::tpm::address)]
    pub tpm: Option<Tcti>,
    /// Storage directory to pass to the agent in the systemd unit; systemd creates it if it is below /var/lib [default: from
    /// the configuration]
    #[arg(long, value_name = "DIR", env = "AGENT_STORAGE", value_parser = config::storage)]
    pub storage: Option<config::Storage>,
    /// File the agent writes its process ID to, such as /run/NAME/NAME.pid; systemd creates the directory if it is below /run
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Accepted, as tbot has it; the agent sends no telemetry
    #[arg(
        long,
        hide = true,
        num_args = 0..=1,
        require_equals = true,
        default_value = "false",
        default_missing_value = "true"
    )]
    pub anonymous_telemetry: bool,
    /// Further directory the agent may write to; may be given several times
    #[arg(long, value_name = "DIR")]
    pub read_write_path: Vec<PathBuf>,
    #[command(flatten)]
    #[doc = "Whether to write."]
    pub writing: Writing,
    /// Directory of the operator's systemd units
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
    pub systemd_directory: PathBuf,
}

/// `agent install udev`.
#[derive(Args, Debug)]
pub struct Udev {
    /// Group that gets access to the TPM
    #[arg(long, value_name = "GROUP", default_value = "tss")]
    pub group: AccountName,
    #[command(flatten)]
    #[doc = "Whether to write."]
    pub writing: Writing,
    /// Directory of the operator's udev rules
    #[arg(long, value_name = "DIR", default_value = "/etc/udev/rules.d")]
    pub udev_directory: PathBuf,
}
