//! `agent install`, declared.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use host::account::{AccountName, UnitName};
use host::place::Writing;
use tpm2::transport::Tcti;

use crate::config::{self, ConfigFile};

/// `agent install`.
#[derive(Debug, Subcommand)]
pub enum Install {
    /// The systemd unit of `agent start`: shown, or written with --write
    Systemd(Box<Systemd>),
    /// The udev rule that gives the TPM to a group: shown, or written with --write. Most distributions have one
    Udev(Udev),
}

/// `agent install systemd`.
#[derive(Args, Debug)]
pub struct Systemd {
    /// The unit's name
    #[arg(long, value_name = "NAME", default_value = "endorse-agent")]
    pub name: UnitName,
    /// The user that the agent runs as
    #[arg(long, value_name = "USER", default_value = "endorse-agent")]
    pub user: AccountName,
    /// The group that the agent runs as [default: named like the user]
    #[arg(long, value_name = "GROUP")]
    pub group: Option<AccountName>,
    /// The group that the TPM's device belongs to
    #[arg(long, value_name = "GROUP", default_value = "tss")]
    pub tpm_group: AccountName,
    #[command(flatten)]
    #[doc = "What it says about folders and the TPM, the unit allows."]
    pub file: ConfigFile,
    /// The program that the unit runs [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// The TPM, which the unit names then [default: that of the configuration]
    #[arg(long, value_name = "TCTI", env = "AGENT_TPM")]
    pub tpm: Option<Tcti>,
    /// The folder of the agent's identity, which the unit names then; below /var/lib, systemd makes it [default: that of
    /// the configuration]
    #[arg(long, value_name = "DIR", env = "AGENT_STORAGE", value_parser = config::storage)]
    pub storage: Option<config::Storage>,
    /// A folder that the agent may write to besides those of the configuration; may be given several times
    #[arg(long, value_name = "DIR")]
    pub read_write_path: Vec<PathBuf>,
    #[command(flatten)]
    #[doc = "Whether to write."]
    pub writing: Writing,
    /// Where units of the operator are
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
    pub systemd_directory: PathBuf,
}

/// `agent install udev`.
#[derive(Args, Debug)]
pub struct Udev {
    /// The group that gets the TPM
    #[arg(long, value_name = "GROUP", default_value = "tss")]
    pub group: AccountName,
    #[command(flatten)]
    #[doc = "Whether to write."]
    pub writing: Writing,
    /// Where rules of the operator are
    #[arg(long, value_name = "DIR", default_value = "/etc/udev/rules.d")]
    pub udev_directory: PathBuf,
}
