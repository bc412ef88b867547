//! `authority install`, declared.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::DataDir;
use crate::install::UnixName;

/// `authority install`
#[derive(Debug, Subcommand)]
pub enum Install {
    /// The systemd unit of `authority start`: shown, or written with --write
    Systemd(Systemd),
}

/// `authority install systemd`
#[derive(Debug, Args)]
pub struct Systemd {
    /// Where the data are
    #[command(flatten)]
    pub data: DataDir,
    /// Address and port to listen on [default: those of the configuration, or else 0.0.0.0:3025]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// The authority's configuration file [default: none]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The unit's name
    #[arg(long, value_name = "NAME", default_value = "endorse-authority")]
    pub name: UnixName,
    /// The user that the authority runs as
    #[arg(long, value_name = "USER", default_value = "endorse-authority")]
    pub user: UnixName,
    /// The group that the authority runs as [default: named like the user]
    #[arg(long, value_name = "GROUP")]
    pub group: Option<UnixName>,
    /// The program that the unit runs [default: this one]
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// Write the unit; otherwise it goes to stdout
    #[arg(long)]
    pub write: bool,
    /// Write it even if there is another one in its place
    #[arg(long, requires = "write")]
    pub force: bool,
    /// Where units of the operator are
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
    pub systemd_directory: PathBuf,
}
