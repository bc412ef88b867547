//! The configuration of `authority start`: a file, and flags and environment variables over it.
//!
//! ```yaml
//! data_dir: /var/lib/endorse
//! listen: 0.0.0.0:3025
//! cluster_name: example.com
//! public_addr: endorse.example.com:443
//! https_keypairs: [{cert_file: /etc/endorse/fullchain.pem, key_file: /etc/endorse/privkey.pem}]
//! join_timeout: 60s
//! diag_addr: 127.0.0.1:3026
//! ek_certificates: {expired: accepted, sha1: refused}
//! teleport: {join: on, legacy_join: off}
//! jwt: {algorithm: ES256, issuer: "https://oidc.example.com"}
//! store: {type: postgresql, url: "postgresql://endorse@db.example.com/endorse", ca_file: /etc/endorse/db-ca.pem}
//! bundle_endpoint: {listen: "0.0.0.0:8443", profile: https_spiffe}
//! audit: {retention: {age: 365d, size: 10GiB}}
//! cryptography: automatic
//! log: {format: json, level: info}
//! ```

mod audit;
mod bundle;
mod document;
mod flags;
mod jwt;
mod public;
mod store;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use host::config::{self, finding::Findings};
use host::exit::Failure;
use host::go_duration;
use host::log::LogFormat;
use verifier::chain::ChainPolicy;

pub use self::audit::{AuditSettings, Retention};
pub use self::bundle::{BundleEndpoint, BundleProfile};
use self::document::Document;
pub use self::document::reference;
pub use self::flags::{EkPolicy, Leniency, Start, Switch, TeleportSwitches};
pub use self::public::{KeypairFiles, Public, PublicAddr};
pub use self::store::{
    ChannelBinding, DatabaseUrl, PostgresIdentity, PostgresSettings, PostgresTls, StoreSettings,
};
use crate::data_directory::DEFAULT_DATA_DIR;
use crate::issue::{ClusterName, JwtSettings};
use crate::log::Levels;

/// The default port.
const PORT: u16 = 3025;

/// The settings of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Address and port for hosts and operators.
    pub listen: SocketAddr,
    /// Public names, and their certificates.
    pub public: Public,
    /// Name of a new cluster; `None` for the host's name.
    pub cluster_name: Option<ClusterName>,
    /// Time limit of a join.
    pub join_timeout: Duration,
    /// Address and port of the diagnostics; `None` for none.
    pub diag_addr: Option<SocketAddr>,
    /// How strictly chains of EK certificates are verified.
    pub ek_policy: ChainPolicy,
    /// Which of Teleport's services are served.
    pub teleport: TeleportServices,
    /// How JWTs are issued.
    pub jwt: JwtSettings,
    /// Where the public keys are served over HTTPS; `None` for nowhere.
    pub bundle_endpoint: Option<BundleEndpoint>,
    /// Where the records are kept.
    pub store: StoreSettings,
    /// What is done with the log of the authority.
    pub audit: AuditSettings,
    /// Who computes signatures and elliptic curves.
    pub cryptography: Cryptography,
    /// How logs are written, if the file says so.
    pub log_format: Option<LogFormat>,
    /// How much is logged, where the environment says nothing.
    pub log_levels: Levels,
}

/// Which of Teleport's services are served to hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TeleportServices {
    /// `teleport.join.v1.JoinService`.
    pub join: bool,
    /// `proto.JoinService`.
    pub legacy_join: bool,
}

impl Default for TeleportServices {
    fn default() -> Self {
        Self { join: true, legacy_join: true }
    }
}

/// Who computes signatures and elliptic curves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cryptography {
    /// With special instructions, if the processor has them at the start.
    #[default]
    Automatic,
    /// With instructions that every processor has.
    Portable,
}

impl Cryptography {
    /// As the file has them.
    const NAMES: [(&str, Self); 2] = [("automatic", Self::Automatic), ("portable", Self::Portable)];
}

/// How long a join may take: from a second to ten minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinTimeout(Duration);

/// Why there are no settings.
#[derive(Debug)]
pub enum LoadError {
    /// The file cannot be read.
    Unreadable(Failure),
    /// It can be read, but not used.
    Unusable(Findings),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(failure) => failure.fmt(f),
            Self::Unusable(findings) => findings.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unreadable(failure) => failure,
            LoadError::Unusable(findings) => {
                findings.failure("run `authority check` for all errors and advice")
            }
        }
    }
}

impl Settings {
    /// Settings from flags, environment and file, in this order of precedence, with defaults.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn new(start: &Start) -> Result<Self, LoadError> {
        let file = start.config.as_deref().map(load).transpose()?.unwrap_or_default();
        Ok(Self {
            data_dir: start
                .data_dir
                .clone()
                .or(file.data_dir)
                .unwrap_or_else(|| DEFAULT_DATA_DIR.into()),
            listen: start
                .listen
                .or(file.listen)
                .unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, PORT).into()),
            public: file.public,
            cluster_name: start.cluster_name.clone().or(file.cluster_name),
            join_timeout: start.join_timeout.or(file.join_timeout).unwrap_or_default().duration(),
            diag_addr: start.diag_addr.or(file.diag_addr),
            ek_policy: EkPolicy {
                ek_expired: start.ek_policy.ek_expired.or(file.ek_policy.ek_expired),
                ek_sha1: start.ek_policy.ek_sha1.or(file.ek_policy.ek_sha1),
            }
            .of_chains(),
            teleport: TeleportServices {
                join: is_on(start.teleport.teleport_join.or(file.teleport.teleport_join)),
                legacy_join: is_on(
                    start.teleport.teleport_legacy_join.or(file.teleport.teleport_legacy_join),
                ),
            },
            jwt: file.jwt,
            bundle_endpoint: file.bundle_endpoint,
            audit: file.audit,
            store: file.store,
            cryptography: file.cryptography.unwrap_or_default(),
            log_format: file.log_format,
            log_levels: file.log_levels.unwrap_or_default(),
        })
    }
}

/// By default.
fn is_on(switch: Option<Switch>) -> bool {
    switch != Some(Switch::Off)
}

fn load(path: &Path) -> Result<Document, LoadError> {
    let unreadable = |cause| Failure::io(&cause, format_args!("cannot read {}", path.display()));
    let bytes = config::read(path).map_err(unreadable).map_err(LoadError::Unreadable)?;
    let text = config::text(&bytes, path).map_err(LoadError::Unusable)?;
    Document::read(text, path).map_err(LoadError::Unusable)
}

impl JoinTimeout {
    /// The time.
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl Default for JoinTimeout {
    fn default() -> Self {
        Self(Duration::from_secs(60))
    }
}

impl FromStr for JoinTimeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const RANGE: std::ops::RangeInclusive<Duration> =
            Duration::from_secs(1)..=Duration::from_secs(600);
        let wrong = || format!("{text:?} is not a duration from 1s to 10m");
        // A number alone is seconds, as in versions before 0.2.
        let seconds = text.parse::<u64>().map(Duration::from_secs);
        let duration = seconds.ok().or_else(|| go_duration::parse(text).ok());
        duration.filter(|duration| RANGE.contains(duration)).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for JoinTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&go_duration::text(self.0))
    }
}

#[cfg(test)]
mod tests;
