//! The configuration file, before flags, environment variables and defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use host::config::finding::{Findings, Source};
use host::config::section::{self, KeySection, Keys, Section};
use host::config::tree::{self, Node, Value};
use host::log::LogFormat;

use super::audit::{self, AUDIT, AuditSettings, RETENTION};
use super::bundle::{self, BUNDLE_ENDPOINT, BundleEndpoint};
use super::jwt::{self, JWT};
use super::public::{self, KEYPAIR, Public};
use super::store::{self, STORE, StoreSettings};
use super::{Cryptography, EkPolicy, JoinTimeout, Leniency, Switch, TeleportSwitches};
use crate::issue::{ClusterName, JwtSettings};
use crate::log::Levels;

const TOP: Keys = Keys {
    of: "the configuration",
    known: &[
        ("data_dir", "data directory of the authority (default `/var/lib/endorse`)"),
        ("listen", "address and port to listen on (default `0.0.0.0:3025`)"),
        (
            "public_addr",
            "DNS name, with its port if it is not that of `listen`, at which clients verify the authority by a certificate \
             of a public CA; one or a list (default: none)",
        ),
        ("https_keypairs", "list of the certificates for `public_addr`; see below"),
        (
            "cluster_name",
            "name of a new cluster; it cannot be changed later (default: the host's name)",
        ),
        ("join_timeout", "time limit of a join, from `1s` to `10m` (default `60s`)"),
        (
            "diag_addr",
            "address and port that serve `/livez`, `/readyz` and `/metrics` (default: none)",
        ),
        ("ek_certificates", "which EK certificates are accepted; see below"),
        ("teleport", "which of Teleport's services are served; see below"),
        ("jwt", "how JWTs of workloads are signed; see below"),
        (
            "bundle_endpoint",
            "where the public keys of the cluster are served over HTTPS (default: nowhere); see below",
        ),
        ("store", "where the records are kept (default: in the data directory); see below"),
        ("audit", "how the log of the authority's decisions is kept; see below"),
        (
            "cryptography",
            "who computes signatures and elliptic curves: `automatic` (default), with the instructions of this processor where it has \
             them, or `portable`, for a machine that may be moved to an older processor while it runs",
        ),
        ("log", "what is logged, and how; see below"),
    ],
    refused: &[],
};

const EK_CERTIFICATES: Keys = Keys {
    of: "ek_certificates",
    known: &[
        ("expired", "expired EK certificates: `refused` (default) or `accepted`"),
        ("sha1", "signatures over SHA-1: `refused` (default) or `accepted`"),
    ],
    refused: &[],
};

const TELEPORT: Keys = Keys {
    of: "teleport",
    known: &[
        ("join", "Teleport's join service, for hosts that run tbot: `on` (default) or `off`"),
        (
            "legacy_join",
            "Teleport's older join service, for hosts that run tbot before the end of 2025: `on` (default) or `off`",
        ),
    ],
    refused: &[],
};

const LOG: Keys = Keys {
    of: "log",
    known: &[
        ("format", "`text`, `json` or `journal`"),
        (
            "level",
            "`error`, `warn`, `info` (default), `debug`, `trace` or `off`; `info,h2=debug` for one module",
        ),
    ],
    refused: &[],
};

/// All sections and keys of the file.
#[must_use]
pub fn reference() -> Vec<KeySection> {
    const SECTIONS: [(&str, &Keys); 10] = [
        ("", &TOP),
        ("https_keypairs[]", &KEYPAIR),
        ("ek_certificates", &EK_CERTIFICATES),
        ("teleport", &TELEPORT),
        ("jwt", &JWT),
        ("bundle_endpoint", &BUNDLE_ENDPOINT),
        ("store", &STORE),
        ("audit", &AUDIT),
        ("audit.retention", &RETENTION),
        ("log", &LOG),
    ];
    SECTIONS.iter().map(|(path, keys)| KeySection { path, keys: keys.known }).collect()
}

/// What the file says; `None` where it says nothing.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) data_dir: Option<PathBuf>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) public: Public,
    pub(super) cluster_name: Option<ClusterName>,
    pub(super) join_timeout: Option<JoinTimeout>,
    pub(super) diag_addr: Option<SocketAddr>,
    pub(super) ek_policy: EkPolicy,
    pub(super) teleport: TeleportSwitches,
    pub(super) jwt: JwtSettings,
    pub(super) bundle_endpoint: Option<BundleEndpoint>,
    pub(super) store: StoreSettings,
    pub(super) audit: AuditSettings,
    pub(super) cryptography: Option<Cryptography>,
    pub(super) log_format: Option<LogFormat>,
    pub(super) log_levels: Option<Levels>,
}

impl Document {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// All faults of the file.
    pub(super) fn read(text: &str, path: &Path) -> Result<Self, Findings> {
        let source = Source::new(text, path);
        let root = tree::parse(source.text(), &source);
        match root.and_then(|root| Self::of(&root, &source)) {
            Some(document) if !source.has_errors() => Ok(document),
            _ => Err(source.findings()),
        }
    }

    /// Each key is checked whatever is wrong with the others. What is wrong is among the findings, and counts as absent.
    fn of(root: &Node, source: &Source<'_>) -> Option<Self> {
        let top = Section::open(root, &TOP, source)?;
        let part = |key: &str, keys: &Keys| Section::open(top.node(key)?, keys, source);
        let certificates = part("ek_certificates", &EK_CERTIFICATES);
        let teleport = part("teleport", &TELEPORT);
        let log = part("log", &LOG);
        Some(Self {
            data_dir: top.text("data_dir").map(PathBuf::from).value(),
            listen: top.parse("listen", listener).value(),
            public: public::public(&top, source).unwrap_or_default(),
            cluster_name: top.parse("cluster_name", str::parse).value(),
            join_timeout: top.parse("join_timeout", str::parse).value(),
            diag_addr: top.parse("diag_addr", listener).value(),
            ek_policy: certificates.as_ref().map(ek_policy).unwrap_or_default(),
            teleport: teleport.as_ref().map(switches).unwrap_or_default(),
            jwt: jwt::jwt(&top, source),
            bundle_endpoint: bundle::endpoint(&top, source),
            store: store::store(&top, source).unwrap_or_default(),
            audit: audit::audit(&top, source),
            cryptography: top.word("cryptography", &Cryptography::NAMES).value(),
            log_format: log.as_ref().and_then(|log| log.word("format", &LogFormat::NAMES).value()),
            log_levels: log.as_ref().and_then(|log| levels(log, source)),
        })
    }
}

fn ek_policy(section: &Section<'_>) -> EkPolicy {
    const WORDS: [(&str, Leniency); 2] =
        [("refused", Leniency::Refused), ("accepted", Leniency::Accepted)];
    EkPolicy {
        ek_expired: section.word("expired", &WORDS).value(),
        ek_sha1: section.word("sha1", &WORDS).value(),
    }
}

fn switches(section: &Section<'_>) -> TeleportSwitches {
    const WORDS: [(&str, Switch); 2] = [("on", Switch::On), ("off", Switch::Off)];
    TeleportSwitches {
        teleport_join: section.word("join", &WORDS).value(),
        teleport_legacy_join: section.word("legacy_join", &WORDS).value(),
    }
}

/// As in the environment, an empty level is the default.
fn levels(log: &Section<'_>, source: &Source<'_>) -> Option<Levels> {
    let node = log.node("level")?;
    match &node.value {
        Value::Scalar { text, .. } if text.trim().is_empty() => None,
        _ => section::parse(node, "level", source, str::parse),
    }
}

pub(super) fn listener(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "a listen address is IP:PORT")
}
