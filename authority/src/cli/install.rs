//! `authority install`, declared.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use host::account::{AccountName, UnitName};
use host::install_file::Writing;

use crate::config::Start;

/// `authority install`
#[derive(Debug, Subcommand)]
pub enum Install {
    /// Print the systemd unit of `authority start`, or write it with --write
    Systemd(Systemd),
}

/// `authority install systemd`
#[derive(Debug, Args)]
pub struct Systemd {
    /// Data directory of the authority [default: from the configuration, else /var/lib/endorse]
    #[arg(long, env = "AUTHORITY_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address and port to listen on [default: from the configuration, else 0.0.0.0:3025]
    #[arg(long, env = "AUTHORITY_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Configuration file, which the systemd unit passes to the authority; flags and environment
    /// variables override it [default: none]
    #[arg(short, long, env = "AUTHORITY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Name of the systemd unit
    #[arg(long, value_name = "NAME", default_value = "endorse-authority")]
    pub name: UnitName,
    /// User the authority runs as
    #[arg(long, value_name = "USER", default_value = "endorse-authority")]
    pub user: AccountName,
    /// Group the authority runs as [default: the user's name]
    #[arg(long, value_name = "GROUP")]
    pub group: Option<AccountName>,
    /// Program the systemd unit runs [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    #[command(flatten)]
    #[doc = "Whether to write."]
    pub writing: Writing,
    /// Directory of the operator's systemd units
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
    pub systemd_directory: PathBuf,
}

impl Systemd {
    /// What the unit starts.
    pub fn start(&self) -> Start {
        Start {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
            listen: self.listen,
            ..Start::default()
        }
    }
}
