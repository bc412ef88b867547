//! The flags and environment variables that override the configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use verifier::chain::{ChainPolicy, DatePolicy, PurposePolicy, Sha1Policy};

use super::JoinTimeout;
use crate::issue::ClusterName;

/// The flags of `authority start` and `authority check`.
#[derive(Debug, Default, Args)]
pub struct Start {
    /// Configuration file, YAML; flags and environment variables override it
    #[arg(short, long, env = "AUTHORITY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data directory of the authority [default: /var/lib/endorse]
    #[arg(long, env = "AUTHORITY_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address and port to listen on [default: 0.0.0.0:3025]
    #[arg(long, env = "AUTHORITY_LISTEN", value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Name of a new cluster; it cannot be changed later [default: the host's name]
    #[arg(long, env = "AUTHORITY_CLUSTER_NAME", value_name = "NAME")]
    pub cluster_name: Option<ClusterName>,
    /// Time limit of a join, 1s to 10m [default: 60s]
    #[arg(long, env = "AUTHORITY_JOIN_TIMEOUT", value_name = "TIME")]
    pub join_timeout: Option<JoinTimeout>,
    /// Address and port that serve /livez, /readyz and /metrics [default: none]
    #[arg(long, env = "AUTHORITY_DIAG_ADDR", value_name = "IP:PORT")]
    pub diag_addr: Option<SocketAddr>,
    /// How strictly chains of EK certificates are verified
    #[command(flatten)]
    pub ek_policy: EkPolicy,
    /// Which of Teleport's services are served
    #[command(flatten)]
    pub teleport: TeleportSwitches,
}

/// How strictly chains of EK certificates are verified.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct EkPolicy {
    /// Whether to accept expired EK certificates, and CAs above them that were valid when the EK certificate
    /// was issued and have expired since [default: refused]
    #[arg(long, env = "AUTHORITY_EK_EXPIRED", value_enum, value_name = "VERDICT")]
    pub ek_expired: Option<Leniency>,
    /// Whether to accept EK certificates signed with SHA-1, as on old TPMs [default: refused]
    #[arg(long, env = "AUTHORITY_EK_SHA1", value_enum, value_name = "VERDICT")]
    pub ek_sha1: Option<Leniency>,
}

/// Which of Teleport's services are served.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct TeleportSwitches {
    /// Teleport's join service, for hosts that run tbot [default: on]
    #[arg(long, env = "AUTHORITY_TELEPORT_JOIN", value_enum, value_name = "SWITCH")]
    pub teleport_join: Option<Switch>,
    /// Teleport's older join service, for hosts that run tbot before the end of 2025 [default: on]
    #[arg(long, env = "AUTHORITY_TELEPORT_LEGACY_JOIN", value_enum, value_name = "SWITCH")]
    pub teleport_legacy_join: Option<Switch>,
}

/// Whether a service is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Serve it
    On,
    /// Refuse its calls
    Off,
}

/// Whether a weakness is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Leniency {
    /// Refuse the certificate
    Refused,
    /// Accept the certificate
    Accepted,
}

impl EkPolicy {
    /// The verifier's policy for certificate chains.
    pub fn of_chains(self) -> ChainPolicy {
        ChainPolicy {
            dates: match self.ek_expired {
                Some(Leniency::Accepted) => DatePolicy::AtIssuance,
                Some(Leniency::Refused) | None => DatePolicy::Now,
            },
            sha1: match self.ek_sha1 {
                Some(Leniency::Accepted) => Sha1Policy::Accepted,
                Some(Leniency::Refused) | None => Sha1Policy::Refused,
            },
            purpose: PurposePolicy::Refused,
        }
    }
}
