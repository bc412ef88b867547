//! The agent's settings, parsed and validated.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use host::log::{Level, LogFormat};
use tls::CaPin;
use tpm2::transport::Tcti;

use super::address::Address;
use super::protocol::Protocol;
use super::ssh::{AgentSocket, SshHost};
use super::workload_api::WorkloadApi;
use super::workload_identity::{JWT_TYPE, WorkloadIdentity};
use crate::log::Log;
use crate::tpm::inventory::EkChoice;
use crate::tpm::passwords::PasswordFiles;

/// The default lifetime of certificates.
pub const DEFAULT_TTL: Duration = Duration::from_secs(60 * 60);

/// The longest lifetime that an authority grants by default.
pub const USUAL_MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// The default storage directory.
pub const DEFAULT_STORAGE: &str = "/var/lib/teleport/bot";

/// Where programs are looked for: nothing of our own environment is passed on.
pub(crate) const HOOK_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The default timeout of a reload hook.
pub const DEFAULT_RELOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the authority is: at least one address, in the order in which to try them.
    pub authorities: Vec<Address>,
    /// What the addresses are of.
    pub server: Server,
    /// How the authority is authenticated.
    pub trust: Trust,
    /// By which protocol to join; without, the server decides it.
    pub protocol: Option<Protocol>,
    /// The name of the join token.
    pub token: Token,
    /// Where to store the bot's own identity.
    pub storage: Storage,
    /// The services that write files.
    pub services: Vec<Service>,
    /// The services that workloads connect to.
    pub workload_apis: Vec<WorkloadApi>,
    /// Lifetime and renewal of the bot's own certificates.
    pub lifetime: Lifetime,
    /// Whether to join, or renew what is due, and exit.
    pub oneshot: bool,
    /// Whether to log at debug level.
    pub debug: bool,
    /// How the log is written.
    pub log_format: LogFormat,
    /// Where to serve health and metrics.
    pub diag_addr: Option<SocketAddr>,
    /// The TPM.
    pub tpm: TpmSettings,
}

impl Settings {
    /// The log that it asks for.
    #[must_use]
    pub const fn log(&self) -> Log {
        Log::new(self.log_format, if self.debug { Level::Debug } else { Level::Info })
    }
}

/// Which of tbot's keys has the address. An authority of ours answers to both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// `proxy_server`: a server with a public name.
    Proxy,
    /// `auth_server`: a server that only a CA of the cluster vouches for.
    Auth,
}

/// How the authority is authenticated. This check cannot be switched off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// By a CA with one of these keys; at least one.
    Pins(Vec<CaPin>),
    /// By a CA certificate in this file, PEM.
    CaPath(PathBuf),
    /// By a certificate of a public CA for the name in its address, until the host has joined.
    SystemRoots,
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pins(pins) => {
                let pins: Vec<_> = pins.iter().map(ToString::to_string).collect();
                write!(f, "CA pin {}", pins.join(", "))
            }
            Self::CaPath(path) => write!(f, "CA in {}", path.display()),
            Self::SystemRoots => f.write_str("the system's CAs"),
        }
    }
}

/// The name of the join token. With a TPM it is not a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// This one.
    Value(String),
    /// The one that this file holds.
    File(PathBuf),
}

/// Where to store the bot's own identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// In a directory that is the agent's alone.
    Directory(Directory),
    /// In memory: the agent joins at each start.
    Memory,
}

/// Where a service puts its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// In a directory.
    Directory {
        /// Which, and with which precautions.
        directory: Directory,
        /// Who may read the files in addition to the agent.
        readers: Vec<Reader>,
    },
    /// In memory: credentials are issued and renewed, but not written.
    Memory,
}

/// A directory and the precautions in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    /// What to make of symbolic links on the way.
    pub symlinks: Symlinks,
    /// Whether to use access control lists.
    pub acls: Acls,
}

/// What to make of symbolic links on the way to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Symlinks {
    /// Follow only links that only root and the agent could have created.
    #[default]
    TrySecure,
    /// Follow none.
    Secure,
    /// Follow them.
    Insecure,
}

/// Whether to use access control lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acls {
    /// Where the file system has them.
    #[default]
    Try,
    /// Never.
    Off,
    /// Always; fail where the file system has none.
    Required,
}

/// Who may read a destination in addition to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reader {
    /// A user.
    User(Account),
    /// A group.
    Group(Account),
}

/// A user or a group of the system.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// By its number.
    Id(u32),
    /// By its name.
    Name(String),
}

/// Lifetime and renewal of certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// The lifetime to ask for; the authority may grant less.
    pub ttl: Duration,
    /// When to renew.
    pub renewal: Renewal,
}

/// When certificates are renewed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renewal {
    /// When half of the lifetime that was granted has passed.
    #[default]
    HalfLife,
    /// After this time, whatever was granted.
    Every(Duration),
}

/// A service: a credential in addition to the bot's own identity, and its destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What the log and `/readyz` call it; no two share one.
    pub name: ServiceName,
    /// What it is.
    pub kind: ServiceKind,
    /// Where its files are; no two share one.
    pub destination: Destination,
    /// Where its key is.
    pub key_storage: KeyStorage,
    /// How long its certificates live.
    pub lifetime: Lifetime,
    /// What runs after new files are in place.
    pub reload: Option<Reload>,
}

impl Service {
    /// What identifies it in another configuration.
    #[must_use]
    pub fn key(&self) -> ServiceKey {
        match &self.destination {
            Destination::Directory { directory, .. } => {
                ServiceKey::Directory(directory.path.clone())
            }
            Destination::Memory => ServiceKey::Memory(self.name.clone()),
        }
    }
}

/// Where the key of a service is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyStorage {
    /// In a file.
    #[default]
    Software,
    /// In the TPM; the same one for all certificates, until the TPM is cleared or an operator asks for another.
    Tpm,
}

/// Whether each certificate is for another key. One in the TPM is for the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyRotation {
    /// Each is.
    #[default]
    Always,
    /// The key in the files stays.
    Never,
}

/// What makes two services of successive configurations the same one: where its files are, since names may be made from
/// the position in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKey {
    /// The directory.
    Directory(PathBuf),
    /// The name of a service that is only kept in memory.
    Memory(ServiceName),
}

/// The name of a service: letters, digits, `-`, `_` and `+`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceName(String);

impl ServiceName {
    const MAX: usize = 64;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = InvalidServiceName;

    fn from_str(text: &str) -> Result<Self, InvalidServiceName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+');
        if text.is_empty() || text.len() > Self::MAX || !text.chars().all(allowed) {
            return Err(InvalidServiceName);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Not the name of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidServiceName;

impl fmt::Display for InvalidServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name is 1 to 64 letters, digits, `-`, `_` and `+`")
    }
}

impl std::error::Error for InvalidServiceName {}

/// What a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// An X.509 and an SSH certificate for people and their tools.
    Identity {
        /// Whether to write files for OpenSSH's client too.
        ssh_config: SshConfig,
    },
    /// An X.509 certificate for programs.
    X509 {
        /// What the files are called.
        files: X509Files,
        /// Whose it is.
        identity: WorkloadIdentity,
        /// Whether each certificate is for another key.
        key_rotation: KeyRotation,
    },
    /// A JWT for programs.
    Jwt {
        /// Who is to accept it; at least one.
        audiences: Vec<String>,
        /// Whose it is.
        identity: WorkloadIdentity,
    },
    /// An SSH user certificate, for a key that programs use on a socket.
    SshAgent(AgentSocket),
    /// An SSH host certificate.
    SshHost(SshHost),
}

impl ServiceKind {
    /// The names of all types, those of tbot too.
    pub(crate) const NAMES: [&'static str; 4] =
        ["identity", "x509", "workload-identity-x509", JWT_TYPE];

    /// The service of this type, with default settings.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "identity" => Some(Self::Identity { ssh_config: SshConfig::default() }),
            "x509" | "workload-identity-x509" => Some(Self::X509 {
                files: X509Files::default(),
                identity: WorkloadIdentity::default(),
                key_rotation: KeyRotation::default(),
            }),
            JWT_TYPE => {
                let identity = WorkloadIdentity::default();
                Some(Self::Jwt { audiences: Vec::new(), identity })
            }
            _ => None,
        }
    }

    /// The `type` that the configuration has for it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Identity { .. } => "identity",
            Self::X509 { .. } => "x509",
            Self::Jwt { .. } => JWT_TYPE,
            Self::SshAgent(_) => "ssh-agent",
            Self::SshHost(_) => "ssh_host",
        }
    }
}

/// Whether to write `ssh_config` and `known_hosts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SshConfig {
    /// Yes.
    #[default]
    On,
    /// No.
    Off,
}

/// What the files of an X.509 certificate are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum X509Files {
    /// `svid.pem`, `svid.key`, `bundle.pem`, as tbot has them.
    #[default]
    Tbot,
    /// `svid.pem`, `svid_key.pem`, `svid_bundle.pem`, as the examples of spiffe-helper have them.
    SpiffeHelper,
    /// `tls.crt`, `tls.key`, `ca.crt`, as the secrets of type `kubernetes.io/tls` have them.
    Kubernetes,
    /// `fullchain.pem`, `privkey.pem`, `ca.pem`, as web servers usually have them.
    Nginx,
}

/// What runs after new files are in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// How.
    pub action: ReloadAction,
    /// How long it may take.
    pub timeout: Duration,
    /// The sshd that is reloaded, if it is one.
    pub sshd: Option<Sshd>,
}

/// An sshd, which continues without a certificate that it cannot use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sshd {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its configuration file.
    pub config: PathBuf,
}

impl Default for Sshd {
    fn default() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 22));
        Self { address, config: "/etc/ssh/sshd_config".into() }
    }
}

/// The action of a reload hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadAction {
    /// Run a program, without a shell.
    Command {
        /// Its path, or its name for `PATH`.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// Send a signal to the process whose id a file holds.
    Signal {
        /// Which.
        signal: Signal,
        /// The file.
        pid_file: PathBuf,
    },
    /// Reload a systemd unit.
    SystemdUnit(String),
}

/// A signal that makes daemons reload their files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP, the default.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGINT.
    Int,
    /// SIGTERM.
    Term,
    /// SIGQUIT.
    Quit,
    /// SIGWINCH.
    Winch,
}

/// The TPM, and how to reach what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmSettings {
    /// Its address.
    pub address: Tcti,
    /// Which endorsement key.
    pub ek: EkChoice,
    /// The files that hold the passwords of its hierarchies.
    pub passwords: PasswordFiles,
}

impl Default for TpmSettings {
    fn default() -> Self {
        Self {
            address: Tcti::Device("/dev/tpmrm0".into()),
            ek: EkChoice::Auto,
            passwords: PasswordFiles::default(),
        }
    }
}
