//! `authority install`, declared.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use host::account::{AccountName, UnitName};
use host::place::Writing;

use crate::config::Start;

/// `authority install`
#[derive(Debug, Subcommand)]
pub enum Install {
    /// The systemd unit of `authority start`: shown, or written with --write
    Systemd(Systemd),
}

/// `authority install systemd`
#[derive(Debug, Args)]
pub struct Systemd {
    /// The authority's data folder [default: that of the configuration, or else /var/lib/endorse]
    #[arg(long, env = "AUTHORITY_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address and port to listen on [default: those of the configuration, or else 0.0.0.0:3025]
    #[arg(long, env = "AUTHORITY_LISTEN", value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// The authority's configuration file, which the unit reads; flags and environment variables go
    /// before it [default: none]
    #[arg(short, long, env = "AUTHORITY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The unit's name
    #[arg(long, value_name = "NAME", default_value = "endorse-authority")]
    pub name: UnitName,
    /// The user that the authority runs as
    #[arg(long, value_name = "USER", default_value = "endorse-authority")]
    pub user: AccountName,
    /// The group that the authority runs as [default: named like the user]
    #[arg(long, value_name = "GROUP")]
    pub group: Option<AccountName>,
    /// The program that the unit runs [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    #[command(flatten)]
    #[doc = "Whether to write."]
    pub writing: Writing,
    /// Where units of the operator are
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
