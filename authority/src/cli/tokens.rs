//! `authority tokens`, declared.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{DataDir, ListFormat, ek_hash, span};
use crate::resource::{EkHash, Name, Serial};

/// `authority tokens`
#[derive(Debug, Subcommand)]
pub enum Tokens {
    /// List join tokens
    Ls(Ls),
    /// Create a join token for one TPM; `create` and `edit` give a token more rules
    Add(Box<Add>),
    /// Remove a join token
    #[command(visible_alias = "del", after_help = super::RM_HELP)]
    Rm(Rm),
}

/// `authority tokens ls`
#[derive(Debug, Args)]
pub struct Ls {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Output format
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    pub format: ListFormat,
}

/// `authority tokens add`
#[derive(Debug, Args)]
pub struct Add {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Role of those that join; only bot is supported
    #[arg(long = "type", value_name = "TYPE", value_enum, ignore_case = true, default_value_t = Role::Bot)]
    pub role: Role,
    /// Name of the token, which is not a secret [default: a random one]
    #[arg(long = "value", value_name = "NAME")]
    pub name: Option<Name>,
    /// Bot that the host becomes
    #[arg(long, visible_alias = "bot-name", value_name = "NAME")]
    pub bot: Name,
    /// SHA-256 of the TPM's endorsement key, as shown by `agent identify`
    #[arg(long, value_name = "HASH", value_parser = ek_hash)]
    pub ek_public_hash: Option<EkHash>,
    /// Serial number of the EK certificate, as shown by `agent identify`
    #[arg(long, value_name = "SERIAL")]
    pub ek_certificate_serial: Option<Serial>,
    /// CA certificates, PEM, of which one must have issued the EK certificate; may be given several times
    #[arg(long, value_name = "FILE")]
    pub ekcert_allowed_cas: Vec<PathBuf>,
    /// Description of the TPM, for operators
    #[arg(long, value_name = "TEXT")]
    pub description: Option<String>,
    /// Labels of the token, as KEY=VALUE, separated by commas
    #[arg(long, value_name = "LABELS", value_delimiter = ',', value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Time after which no host can join or renew with the token, e.g. 12h [default: never]
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub ttl: Option<Duration>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// The roles of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// A host of a bot
    Bot,
}

/// How a new token is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// What was done, and how to join
    Text,
    /// The token as JSON
    Json,
    /// The token as YAML
    Yaml,
}

/// `authority tokens rm`
#[derive(Debug, Args)]
pub struct Rm {
    /// Where the data is
    #[command(flatten)]
    pub data: DataDir,
    /// Name of the token
    #[arg(value_name = "NAME")]
    pub name: Name,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}
