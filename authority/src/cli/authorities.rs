//! `authority authorities` and `authority recovery`, declared.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{DataDir, ListFormat};
use crate::resource::Name;

/// What removing an authority does not undo, below its help.
const RM_HELP: &str = "\
The authority stops within seconds. It has known the CA keys: if it may be in the wrong hands, replace the CAs as well. Run this at another \
authority.";

/// Where to run `authority authorities request`, below its help.
const REQUEST_HELP: &str = "\
Run this as the user of the authority, on the new machine, before its first start. The line holds no secret. `authority authorities add` at an \
authority that runs then wraps the CA keys for this one.";

/// What the recovery key is for, below its help.
const CREATE_HELP: &str = "\
With the recovery key and a copy of the store, a cluster can be restored after all its authorities are lost. Whoever has both can issue any \
certificate: keep the file offline, and remove it from this machine.";

/// `authority authorities`
#[derive(Debug, Subcommand)]
pub enum Authorities {
    /// Print the request by which another authority lets this one in
    #[command(after_help = REQUEST_HELP)]
    Request(Request),
    /// Let another authority use the CA keys
    Add(Add),
    /// List the authorities of the cluster
    Ls(Ls),
    /// Take the CA keys from an authority
    #[command(after_help = RM_HELP)]
    Rm(Rm),
}

/// `authority authorities request`
#[derive(Debug, Args)]
pub struct Request {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Name of this authority for operators [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<Name>,
}

/// `authority authorities add`
#[derive(Debug, Args)]
pub struct Add {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// What `authorities request` has printed on the new machine
    #[arg(value_name = "REQUEST")]
    pub request: String,
}

/// `authority authorities ls`
#[derive(Debug, Args)]
pub struct Ls {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Output format
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub format: ListFormat,
}

/// `authority authorities rm`
#[derive(Debug, Args)]
pub struct Rm {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Name or ID of the authority
    #[arg(value_name = "NAME")]
    pub authority: String,
}

/// `authority recovery`
#[derive(Debug, Subcommand)]
pub enum Recovery {
    /// Create a recovery key and wrap the CA keys to it
    #[command(after_help = CREATE_HELP)]
    Create(Create),
    /// Wrap the CA keys to a recovery key that was created elsewhere
    Set(Set),
    /// Check that a recovery key opens all CA keys
    Check(Check),
}

/// `authority recovery create`
#[derive(Debug, Args)]
pub struct Create {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// File for the private key, which must not exist yet
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

/// `authority recovery set`
#[derive(Debug, Args)]
pub struct Set {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// File with the public key: P-256, PEM (PUBLIC KEY)
    #[arg(long, value_name = "FILE")]
    pub public: PathBuf,
}

/// `authority recovery check`
#[derive(Debug, Args)]
pub struct Check {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// File with the private key
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}
