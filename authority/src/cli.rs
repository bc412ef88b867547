//! The command line, declared.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exit::CODES;
use crate::issue::ClusterName;
use crate::resource::{Kind, Name};

/// Decides which hosts join by their TPM, and issues their certificates
#[derive(Debug, Parser)]
#[command(name = "authority", version, after_help = CODES, disable_help_subcommand = true)]
pub struct Cli {
    /// How to write logs, which go to stderr; AUTHORITY_LOG sets how much (info, debug, ...)
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    #[arg(env = "AUTHORITY_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the authority; the first start makes a new cluster, with keys of its own
    Start(Start),
    /// Show the cluster's name and the CA pin that hosts need
    Status(DataDir),
    /// Create bots and tokens from YAML or JSON files
    Create(Create),
    /// Show bots and tokens
    Get(Get),
    /// Remove a bot or a token; certificates that were issued live on until they end
    Rm(Rm),
    /// Print a completion script for a shell
    Completions(Completions),
    /// Print the manual page
    Man,
}

/// Where the authority's data are.
#[derive(Debug, Args)]
pub struct DataDir {
    /// The authority's data folder
    #[arg(
        long,
        env = "AUTHORITY_DATA_DIR",
        default_value = "/var/lib/endorse",
        value_name = "DIR"
    )]
    pub data_dir: PathBuf,
}

/// `authority start`
#[derive(Debug, Args)]
pub struct Start {
    /// Where the data are
    #[command(flatten)]
    pub data: DataDir,
    /// Address and port to listen on
    #[arg(
        long,
        env = "AUTHORITY_LISTEN",
        default_value = "0.0.0.0:3025",
        value_name = "ADDR:PORT"
    )]
    pub listen: SocketAddr,
    /// Name of a new cluster; it stays the same ever after [default: the host's name]
    #[arg(long, env = "AUTHORITY_CLUSTER_NAME", value_name = "NAME")]
    pub cluster_name: Option<ClusterName>,
    /// How long a join may take, such as 60s or 2m
    #[arg(long, env = "AUTHORITY_JOIN_TIMEOUT", default_value = "60s", value_name = "TIME")]
    #[arg(value_parser = timeout)]
    pub join_timeout: Duration,
}

/// `authority create`
#[derive(Debug, Args)]
pub struct Create {
    /// Where the data are
    #[command(flatten)]
    pub data: DataDir,
    /// Replace resources that exist already
    #[arg(short, long)]
    pub force: bool,
    /// Files with one resource or several; - is stdin. All of a file are created, or none
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `authority get`
#[derive(Debug, Args)]
pub struct Get {
    /// Where the data are
    #[command(flatten)]
    pub data: DataDir,
    /// bot, token, bot/NAME or token/NAME
    #[arg(value_name = "KIND[/NAME]")]
    pub which: Which,
    /// How to write them; a single one in either form can be given to `create` again
    #[arg(long, value_enum, default_value_t = Format::Yaml)]
    pub format: Format,
}

/// `authority rm`
#[derive(Debug, Args)]
pub struct Rm {
    /// Where the data are
    #[command(flatten)]
    pub data: DataDir,
    /// bot/NAME or token/NAME
    #[arg(value_name = "KIND/NAME", value_parser = one)]
    pub which: (Kind, Name),
}

/// `authority completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// A kind, or one of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Which {
    /// The kind.
    pub kind: Kind,
    /// Which one; without it all.
    pub name: Option<Name>,
}

/// How resources are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A stream of documents
    Yaml,
    /// An array; a single object if a name is given
    Json,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A line for people
    Text,
    /// A line of JSON
    Json,
}

impl std::str::FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) => (kind, Some(name.parse::<Name>().map_err(|cause| cause.0)?)),
            None => (text, None),
        };
        let kind =
            Kind::from_word(kind).ok_or_else(|| format!("{kind:?} is no kind: bot, token"))?;
        Ok(Self { kind, name })
    }
}

fn one(text: &str) -> Result<(Kind, Name), String> {
    let Which { kind, name } = text.parse()?;
    Ok((kind, name.ok_or_else(|| format!("which {kind}? {kind}/NAME"))?))
}

fn timeout(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time from 1s to 10m");
    let unit = if text.ends_with('m') { 60 } else { 1 };
    let number = text.strip_suffix(['s', 'm']).unwrap_or(text);
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
    if !(1..=600).contains(&seconds) {
        return Err(wrong());
    }
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_declaration_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn words_are_read_or_refused() {
        assert_eq!(timeout("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(timeout("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["0s", "11m", "-1s", "", "m", "1h", "18446744073709551615m"] {
            timeout(wrong).unwrap_err();
        }
        let which = |text: &str| text.parse::<Which>();
        assert_eq!(which("bots").unwrap().name, None);
        assert_eq!(which("token/x").unwrap().kind, Kind::Token);
        for wrong in ["", "user", "bot/", "bot/a/b", "/x", "BOT"] {
            which(wrong).unwrap_err();
        }
        one("bot").unwrap_err();
    }
}
