//! The keys of the file as options of the command line and variables of the environment.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use host::go_duration;
use host::log::LogFormat;
use tls::CaPin;
use tpm2::transport::Tcti;

use super::address::{Address, listener};
use super::join_uri::JoinUri;
use super::protocol::ProtocolChoice;
use super::settings::{
    Account, Acls, Destination, Directory, Reader, ServiceKind, Storage, Symlinks, Token, Trust,
};
use super::{destination, service};
use crate::tpm::inventory::EkChoice;
use crate::tpm::passwords::PasswordFiles;

/// The command line and the environment override the configuration file.
#[derive(Args, Clone, Debug, Default)]
pub struct Overrides {
    /// Address of the authority; several, separated by commas, are tried in order
    #[arg(
        long = "authority",
        visible_alias = "proxy-server",
        value_name = "HOST:PORT",
        env = "TELEPORT_PROXY",
        value_delimiter = ',',
        value_parser = Address::of_list
    )]
    pub proxy_server: Vec<Address>,
    /// Same as --authority, but needs --ca-pin or --ca-path
    #[arg(
        short = 'a',
        long,
        value_name = "HOST:PORT",
        env = "TELEPORT_AUTH_SERVER",
        value_delimiter = ',',
        value_parser = Address::of_list
    )]
    pub auth_server: Vec<Address>,
    /// Name of the join token, or absolute path of a file that contains it
    #[arg(long, value_name = "NAME", env = "TELEPORT_BOT_TOKEN", hide_env_values = true, value_parser = token)]
    pub token: Option<Token>,
    /// Address, token and join method in one, tbot+proxy+tpm://TOKEN@HOST:PORT
    #[arg(long, value_name = "URI", env = "AGENT_JOIN_URI", hide_env_values = true)]
    pub join_uri: Option<JoinUri>,
    /// Join method; only tpm is supported
    #[arg(long, value_name = "METHOD", env = "AGENT_JOIN_METHOD", value_parser = ["tpm"])]
    pub join_method: Option<String>,
    #[command(flatten)]
    #[doc = "What the server has to be."]
    pub server: ServerOptions,
    /// Where to store the bot's identity: a directory, file:///DIR or memory
    #[arg(long, value_name = "DIR", env = "AGENT_STORAGE", value_parser = storage)]
    pub storage: Option<Storage>,
    /// Additional service: identity=DIR or x509=DIR; may be given several times
    #[arg(
        long = "service",
        value_name = "TYPE=DIR",
        env = "AGENT_SERVICES",
        value_delimiter = ','
    )]
    pub services: Vec<PlainService>,
    /// Lifetime of certificates, e.g. 1h30m
    #[arg(
        long,
        visible_alias = "certificate-ttl",
        value_name = "TIME",
        env = "AGENT_CREDENTIAL_TTL",
        value_parser = go_duration::parse
    )]
    pub credential_ttl: Option<Duration>,
    /// Interval between renewals [default: half of the lifetime]
    #[arg(
        long,
        value_name = "TIME",
        env = "AGENT_RENEWAL_INTERVAL",
        value_parser = go_duration::parse
    )]
    pub renewal_interval: Option<Duration>,
    /// Join or renew what is due, write all credentials, and exit
    #[arg(
        long,
        value_name = "BOOL",
        env = "AGENT_ONESHOT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    pub oneshot: Option<bool>,
    /// Log at debug level
    #[arg(
        short = 'd',
        long,
        value_name = "BOOL",
        env = "TBOT_DEBUG",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    pub debug: Option<bool>,
    /// Log format
    #[arg(long, value_enum, env = "AGENT_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Address and port that serve /livez, /readyz and /metrics
    #[arg(long, value_name = "IP:PORT", env = "AGENT_DIAG_ADDR", value_parser = listener)]
    pub diag_addr: Option<SocketAddr>,
    /// The TPM: device:PATH, swtpm:path=SOCKET or swtpm:host=HOST,port=PORT
    #[arg(long, value_name = "TCTI", env = "AGENT_TPM", value_parser = crate::tpm::address)]
    pub tpm: Option<Tcti>,
    /// The endorsement key; `agent identify --help` lists the possible values
    #[arg(long, value_name = "EK", env = "AGENT_EK")]
    pub ek: Option<EkChoice>,
    #[command(flatten)]
    #[doc = "Where the TPM's passwords are."]
    pub passwords: PasswordFiles,
}

/// How the authority is authenticated, and by which protocol to join it.
#[derive(Args, Clone, Debug, Default)]
pub struct ServerOptions {
    /// CA pin of the cluster, as shown by `authority status`; may be given several times
    #[arg(long, value_name = "PIN", env = "AGENT_CA_PIN", value_delimiter = ',')]
    pub ca_pin: Vec<CaPin>,
    /// File with the cluster's CA certificate, instead of --ca-pin
    #[arg(long, value_name = "FILE", env = "AGENT_CA_PATH")]
    pub ca_path: Option<PathBuf>,
    /// By which protocol to join [default: auto]
    #[arg(long, value_enum, env = "AGENT_PROTOCOL")]
    pub protocol: Option<ProtocolChoice>,
}

impl ServerOptions {
    /// How the authority is authenticated, if they say it.
    #[must_use]
    pub fn trust(&self) -> Option<Trust> {
        match (self.ca_pin.as_slice(), &self.ca_path) {
            ([], None) => None,
            ([], Some(path)) => Some(Trust::CaPath(path.clone())),
            (pins, _) => Some(Trust::Pins(pins.to_vec())),
        }
    }
}

/// A service with no settings but its type and its destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainService {
    pub(crate) kind: ServiceKind,
    pub(super) destination: Destination,
}

impl PlainService {
    /// A service of the command line, with those who may read its files.
    #[must_use]
    pub fn new(kind: ServiceKind, place: Storage, readers: Vec<Reader>) -> Self {
        let destination = match place {
            Storage::Directory(directory) => Destination::Directory { directory, readers },
            Storage::Memory => Destination::Memory,
        };
        Self { kind, destination }
    }
}

impl FromStr for PlainService {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, path) = text.split_once('=').ok_or("write TYPE=DIR, as in x509=/etc/ssl/me")?;
        let kind = ServiceKind::named(kind).ok_or_else(|| service::unknown_type(kind))?;
        if matches!(kind, ServiceKind::Jwt { .. }) {
            let message = "a JWT needs audiences: write the service in a configuration file";
            return Err(message.to_owned());
        }
        if path.is_empty() {
            return Err("the directory is missing: write TYPE=DIR".to_owned());
        }
        Ok(Self::new(
            kind,
            Storage::Directory(plain_directory(destination::path(path)?)),
            Vec::new(),
        ))
    }
}

/// An absolute path names a file that contains the token.
pub(crate) fn token(text: &str) -> Result<Token, &'static str> {
    match text {
        "" => Err("the name of the token is missing"),
        path if path.starts_with('/') => Ok(Token::File(path.into())),
        name if name.len() > 256 => Err("the name of a token has at most 256 bytes"),
        name if name.contains('/') => {
            Err("the name of a token has no `/`; a file that contains it needs an absolute path")
        }
        name if name.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Err("the name of a token has no spaces or control characters")
        }
        name => Ok(Token::Value(name.to_owned())),
    }
}

/// A directory or memory; also as tbot's command line has them, `file:///DIR` and `memory:`.
pub(crate) fn storage(text: &str) -> Result<Storage, &'static str> {
    let path = match text {
        "memory" | "memory:" | "memory://" => return Ok(Storage::Memory),
        text => text.strip_prefix("file://").unwrap_or(text),
    };
    if path.is_empty() || path.contains("://") {
        return Err("must be a directory, file:///DIR or memory");
    }
    Ok(Storage::Directory(plain_directory(path.into())))
}

/// A user or group that may read a service's files.
pub(crate) fn account(text: &str) -> Result<Account, &'static str> {
    destination::account(text)
}

/// A directory with the default precautions.
pub(crate) fn plain_directory(path: PathBuf) -> Directory {
    Directory { path, symlinks: Symlinks::default(), acls: Acls::default() }
}
