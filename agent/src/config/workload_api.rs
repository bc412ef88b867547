//! Services of type `workload-identity-api`, and `spiffe-workload-api`, its older form.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::config::finding::{ByteRange, Source};
use host::config::section::{Given, Keys, Section, parse};
use host::config::tree::{Node, Value};
use host::go_duration;

use super::destination::account;
use super::settings::{Account, ServiceName};
use crate::attest::rule::{Rule, Rules};
use crate::spiffe_id::check_path;

/// A socket on which workloads receive their identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadApi {
    /// What the log and `/readyz` call it.
    pub name: ServiceName,
    /// Where it is.
    pub listen: Listen,
    /// What callers may have: what each of these offers those that match its rules.
    pub offers: Vec<Offer>,
    /// The lifetime of certificates to ask for; the authority may grant less.
    pub ttl: Duration,
    /// The names of Envoy's secrets.
    pub sds: SdsNames,
}

impl WorkloadApi {
    /// Whether a rule is about the executable, which costs a right to find out.
    #[must_use]
    pub fn needs_executable(&self) -> bool {
        self.offers.iter().any(|offer| offer.rules.need_executable())
    }
}

/// Where workloads connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A unix socket, over which a process can be attested.
    Unix(Socket),
    /// A loopback address, over which it cannot.
    Tcp(SocketAddr),
}

impl Listen {
    /// The unix socket.
    #[must_use]
    pub const fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Unix(socket) => Some(socket),
            Self::Tcp(_) => None,
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(socket) => socket.path.display().fmt(f),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// A unix socket of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its path.
    pub path: PathBuf,
    /// Who may connect.
    pub mode: u32,
    /// Its group, if that is not the agent's.
    pub group: Option<Account>,
}

/// Identities, and who may have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Which.
    pub selector: Selector,
    /// What to call them, instead of the authority's hint.
    pub hint: Option<String>,
    /// Who may have them.
    pub rules: Rules,
}

/// Which workload identities are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Selector {
    /// The bot's own.
    #[default]
    Own,
    /// That of this name.
    Name(String),
    /// Those that have each of these labels with one of its values.
    Labels(BTreeMap<String, Vec<String>>),
    /// That with this path in its SPIFFE ID.
    Path(String),
}

/// The names of Envoy's secrets that are not SPIFFE IDs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdsNames {
    /// The certificate of the default identity.
    pub default_svid: String,
    /// The CAs of the trust domain.
    pub default_bundle: String,
    /// The CAs of all trust domains.
    pub default_all_bundles: String,
    /// Whether to hand out CAs without Envoy's SPIFFE validator, which verifies a peer with the CAs of its own trust domain.
    pub disable_spiffe_cert_validation: bool,
}

impl Default for SdsNames {
    fn default() -> Self {
        Self {
            default_svid: "default".into(),
            default_bundle: "ROOTCA".into(),
            default_all_bundles: "ALL".into(),
            disable_spiffe_cert_validation: false,
        }
    }
}

/// Only the agent's user and the socket's group may connect, unless the configuration says otherwise.
const DEFAULT_MODE: u32 = 0o660;

/// Rules, labels or values in a list.
const MAX_LIST: usize = 64;

/// Bytes of a socket's path. `unix(7)`: 108 with the zero at the end.
const MAX_SOCKET_PATH: usize = 107;

pub(super) const LISTEN: (&str, &str) = ("listen", "the socket: `unix:///absolute/path`");
const LISTEN_ANYWHERE: (&str, &str) = (
    "listen",
    "the socket: `unix:///absolute/path`; or `tcp://127.0.0.1:PORT`, for a bot's own identity and every user of the host",
);
pub(super) const MODE: (&str, &str) = ("mode", "mode of the socket in octal (default `0660`)");
pub(super) const GROUP: (&str, &str) = ("group", "name or ID of the socket's group");
const SDS: (&str, &str) = ("sds", "names of Envoy's secrets; see below");

pub(super) const WORKLOAD_API: Keys = Keys {
    of: "a service of type workload-identity-api",
    known: &[
        ("type", "`workload-identity-api`"),
        super::service::NAME,
        LISTEN_ANYWHERE,
        MODE,
        GROUP,
        ("selector", "which workload identities to offer; see below (default: the bot's own)"),
        ("rules", "a list of rules, one of which a workload must match; see below"),
        ("credential_ttl", "lifetime of certificates (default: that of the configuration)"),
        SDS,
    ],
    refused: &[
        ("destination", "remove it: workloads receive their identities on the socket"),
        ("reload", "remove it: the agent notifies workloads on the socket"),
        (
            "attestors",
            "remove it: the agent attests what the rules need; Kubernetes, Docker and Podman are recognized by control group",
        ),
        ("renewal_interval", "remove it: each certificate is renewed at half of its lifetime"),
        (
            "key",
            "remove it: the Workload API delivers private keys, in PKCS #8, and a key in the TPM never leaves it",
        ),
        ("svids", "write `selector` and `rules`, or the type `spiffe-workload-api`"),
    ],
};

pub(super) const SPIFFE_WORKLOAD_API: Keys = Keys {
    of: "a service of type spiffe-workload-api",
    known: &[
        ("type", "`spiffe-workload-api`"),
        super::service::NAME,
        LISTEN,
        MODE,
        GROUP,
        ("svids", "a list of identities, and who may have them; see below"),
        ("credential_ttl", "lifetime of certificates (default: that of the configuration)"),
        SDS,
    ],
    refused: WORKLOAD_API.refused,
};

pub(super) const SELECTOR: Keys = Keys {
    of: "a selector",
    known: &[
        ("name", "the workload identity of this name"),
        ("labels", "workload identities by their labels: a section of lists, `env: [prod]`"),
    ],
    refused: &[],
};

pub(super) const OFFER: Keys = Keys {
    of: "an item of svids",
    known: &[
        ("path", "path of the SPIFFE ID, such as `/web`"),
        ("hint", "what workloads know the identity by"),
        ("rules", "a list of rules, one of which a workload must match; see below"),
    ],
    refused: &[
        ("sans", "write `dns_sans` in the workload identity"),
        ("jwt", "remove it: each identity can be had as a JWT"),
    ],
};

pub(super) const RULE: Keys = Keys {
    of: "a rule",
    known: &[
        ("unix", "what the process must be; see below"),
        ("systemd", "where systemd must have started it; see below"),
        ("container_id", "the ID of its container, 64 hexadecimal digits"),
        ("pod_uid", "the UID of its Kubernetes pod"),
    ],
    refused: &[
        ("kubernetes", "write `pod_uid`: the agent does not ask the kubelet"),
        ("docker", "write `container_id`: the agent does not ask Docker"),
        ("podman", "write `container_id`: the agent does not ask Podman"),
    ],
};

pub(super) const UNIX_RULE: Keys = Keys {
    of: "a rule's unix",
    known: &[
        ("pid", "process ID"),
        ("uid", "effective user ID"),
        ("gid", "effective group ID"),
        ("supplementary_gid", "ID of a supplementary group"),
        ("path", "path of the executable, without symbolic links"),
        ("sha256", "SHA-256 of the executable, 64 hexadecimal digits"),
    ],
    refused: &[("binary_path", "write `path`"), ("binary_hash", "write `sha256`")],
};

pub(super) const SYSTEMD_RULE: Keys = Keys {
    of: "a rule's systemd",
    known: &[
        ("unit", "name of the systemd unit, such as `nginx.service`"),
        ("slice", "name of the slice"),
    ],
    refused: &[("service", "write `unit`")],
};

pub(super) const SDS_NAMES: Keys = Keys {
    of: "sds",
    known: &[
        ("default_svid_name", "the certificate of the default identity (default `default`)"),
        ("default_bundle_name", "the CAs of the trust domain (default `ROOTCA`)"),
        ("default_all_bundles_name", "the CAs of all trust domains (default `ALL`)"),
        (
            "disable_spiffe_cert_validation",
            "hand out CAs without Envoy's SPIFFE validator (default `false`)",
        ),
    ],
    refused: &[],
};

/// A service before the default lifetime is applied.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) name: Given<ServiceName>,
    pub(super) range: Option<ByteRange>,
    pub(super) kind: &'static str,
    listen: Listen,
    offers: Vec<Offer>,
    ttl: Option<Duration>,
    sds: SdsNames,
}

impl Draft {
    pub(super) fn complete(self, name: ServiceName, ttl: Duration) -> WorkloadApi {
        let Self { listen, offers, sds, .. } = self;
        WorkloadApi { name, listen, offers, ttl: self.ttl.unwrap_or(ttl), sds }
    }

    /// The path of its socket, if it has one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.listen.socket().map(|socket| socket.path.as_path())
    }
}

/// The types of such services, the older form last.
pub(crate) const TYPES: [&str; 2] = ["workload-identity-api", "spiffe-workload-api"];

/// Reads one; `None` if something is wrong with it.
pub(super) fn workload_api(node: &Node, stated: &Node, source: &Source<'_>) -> Option<Draft> {
    let [kind, old_kind] = TYPES;
    let is_old = matches!(&stated.value, Value::Scalar { text, .. } if text == old_kind);
    let (keys, kind) =
        if is_old { (&SPIFFE_WORKLOAD_API, old_kind) } else { (&WORKLOAD_API, kind) };
    let section = Section::open(node, keys, source)?;
    let name = section.parse("name", super::service::name);
    let listen = match section.text("listen") {
        Given::Here(text, range) if !is_old && text.starts_with("tcp:") => {
            tcp(&text, range.as_ref(), &section, source)
        }
        _ => socket(&section, node, "workload.sock", source).map(Listen::Unix),
    };
    let ttl = section.parse("credential_ttl", go_duration::parse);
    let ttl = match ttl {
        Given::Absent => Some(None),
        given => given.value().map(Some),
    };
    let offers = match is_old {
        true => offers(&section, source),
        false => {
            let selector = match section.node("selector") {
                None => Some(Selector::Own),
                Some(node) => selector(node, source),
            };
            let rules = rules(&section, source);
            Some(vec![Offer { selector: selector?, hint: None, rules: rules? }])
        }
    };
    let sds = match section.node("sds") {
        None => Some(SdsNames::default()),
        Some(node) => sds_names(node, source),
    };
    let (listen, offers) = (listen?, offers?);
    if listen.socket().is_some_and(|socket| socket.mode & 0o006 != 0)
        && offers.iter().any(|offer| offer.rules.0.is_empty())
    {
        let message = "every user of this host can have these identities";
        let advice = "write `rules`, or a `mode` and `group` that let only their workloads connect";
        source.warn(Some(&stated.range), message, advice);
    }
    let range = Some(stated.range.clone());
    Some(Draft { name, range, kind, listen, offers, ttl: ttl?, sds: sds? })
}

/// The socket of a service: `listen`, `mode` and `group`. `example` is the name of such a socket.
pub(super) fn socket(
    section: &Section<'_>,
    node: &Node,
    example: &str,
    source: &Source<'_>,
) -> Option<Socket> {
    let path = section.parse("listen", listen);
    if path.is_absent() && !section.meant("listen") {
        let advice = format!("add `listen: unix:///run/endorse/{example}`");
        source.error(Some(&node.range), "the service has no `listen`", &advice);
    }
    let mode = match section.parse("mode", mode) {
        Given::Absent => Some(DEFAULT_MODE),
        given => given.value(),
    };
    let group = match section.parse("group", account) {
        Given::Absent => Some(None),
        given => given.value().map(Some),
    };
    Some(Socket { path: path.value()?, mode: mode?, group: group? })
}

/// A listener on the loopback interface. Nothing is known of who connects, so that nothing may depend on it.
fn tcp(
    text: &str,
    range: Option<&ByteRange>,
    section: &Section<'_>,
    source: &Source<'_>,
) -> Option<Listen> {
    let address =
        text.strip_prefix("tcp://").and_then(|address| address.parse::<SocketAddr>().ok());
    let Some(address) = address.filter(|address| address.ip().is_loopback()) else {
        let message = "`listen` is not an address of the loopback interface";
        source.error(range, message, "write tcp://127.0.0.1:PORT, or unix:///PATH");
        return None;
    };
    let refused = ["rules", "selector", "mode", "group"].map(|key| {
        let is_there = section.node(key).is_some();
        if is_there {
            let message = format!("`{key}` needs to know who connects, which TCP does not show");
            source.error(section.key(key), message, "remove it, or listen on unix:///PATH");
        }
        is_there
    });
    if refused.contains(&true) {
        return None;
    }
    let message =
        "every user of this host, and every container in its network, can have the bot's identity";
    source.warn(range, message, "use unix:///PATH, where workloads are attested");
    Some(Listen::Tcp(address))
}

fn listen(text: &str) -> Result<PathBuf, String> {
    if text.starts_with("tcp:") {
        return Err("workloads cannot be attested over TCP: write unix:///PATH".into());
    }
    let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")).unwrap_or(text);
    if !Path::new(path).is_absolute() {
        return Err("it must be unix:// followed by an absolute path".into());
    }
    match path.len() {
        ..=MAX_SOCKET_PATH => Ok(path.into()),
        _ => Err(format!("the path of a socket has at most {MAX_SOCKET_PATH} bytes")),
    }
}

/// The name of a unit, whose suffix is part of it: another name would never match.
fn unit(text: &str) -> Result<String, &'static str> {
    match text.ends_with(".service") || text.ends_with(".scope") {
        true => Ok(text.to_owned()),
        false => Err("it must be the whole name of a unit, such as nginx.service"),
    }
}

fn slice(text: &str) -> Result<String, &'static str> {
    match text.ends_with(".slice") {
        true => Ok(text.to_owned()),
        false => Err("it must be the whole name of a slice, such as system.slice"),
    }
}

fn mode(text: &str) -> Result<u32, &'static str> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode & !0o666 == 0 && mode & 0o600 == 0o600 => Ok(mode),
        _ => Err("write three octal digits of read and write, such as 0660"),
    }
}

/// Reads a selector.
pub(super) fn selector(node: &Node, source: &Source<'_>) -> Option<Selector> {
    let section = Section::open(node, &SELECTOR, source)?;
    let name = section.text("name");
    match (name, section.node("labels")) {
        (Given::Here(name, _), None) => Some(Selector::Name(name)),
        (Given::Absent, Some(node)) => labels(node, source).map(Selector::Labels),
        (Given::Wrong, None) => None,
        _ => {
            let message = "a selector needs either `name` or `labels`";
            source.error(Some(&node.range), message, "keep exactly one");
            None
        }
    }
}

fn labels(node: &Node, source: &Source<'_>) -> Option<BTreeMap<String, Vec<String>>> {
    let Value::Mapping(entries) = &node.value else {
        source.error(Some(&node.range), "`labels` must be a section", "write `env: [prod]` in it");
        return None;
    };
    if entries.is_empty() || entries.len() > MAX_LIST {
        source.error(Some(&node.range), format!("`labels` must have 1 to {MAX_LIST} keys"), "");
        return None;
    }
    let label = |entry: &host::config::tree::Entry| {
        let values = match &entry.node.value {
            Value::Sequence(nodes) if nodes.len() <= MAX_LIST => nodes.as_slice(),
            _ => std::slice::from_ref(&entry.node),
        };
        let text = |node| parse(node, &entry.key, source, |text| Ok::<_, String>(text.to_owned()));
        let values = values.iter().map(text).collect::<Option<Vec<_>>>()?;
        Some((entry.key.clone(), values))
    };
    entries.iter().map(label).collect()
}

/// The identities of the older form.
fn offers(section: &Section<'_>, source: &Source<'_>) -> Option<Vec<Offer>> {
    let nodes = section.list("svids")?;
    if nodes.is_empty() || nodes.len() > MAX_LIST {
        let message = format!("`svids` must be a list of 1 to {MAX_LIST} identities");
        source.error(section.key("svids").or(section.range.as_ref()), message, "");
        return None;
    }
    let offer = |node: &Node| {
        let section = Section::open(node, &OFFER, source)?;
        let path = section.parse("path", |text| check_path(text).map(|()| text.to_owned()));
        if path.is_absent() {
            source.error(Some(&node.range), "the identity has no `path`", "add `path: /...`");
        }
        let hint = match section.text("hint") {
            Given::Absent => Some(None),
            given => given.value().map(Some),
        };
        let rules = rules(&section, source);
        Some(Offer { selector: Selector::Path(path.value()?), hint: hint?, rules: rules? })
    };
    let offers: Vec<Option<Offer>> = nodes.iter().map(offer).collect();
    offers.into_iter().collect()
}

/// Reads `rules` of a section.
pub(super) fn rules(section: &Section<'_>, source: &Source<'_>) -> Option<Rules> {
    let nodes = section.list("rules")?;
    if nodes.len() > MAX_LIST {
        source.error(section.key("rules"), format!("more than {MAX_LIST} rules"), "");
        return None;
    }
    let rules: Vec<Option<Rule>> = nodes.iter().map(|node| rule(node, source)).collect();
    rules.into_iter().collect::<Option<_>>().map(Rules)
}

fn rule(node: &Node, source: &Source<'_>) -> Option<Rule> {
    let section = Section::open(node, &RULE, source)?;
    let mut rule = Rule::default();
    if let Some(node) = section.node("unix") {
        let section = Section::open(node, &UNIX_RULE, source)?;
        rule.unix.pid = optional(section.parse("pid", str::parse))?;
        rule.unix.uid = optional(section.parse("uid", str::parse))?;
        rule.unix.gid = optional(section.parse("gid", str::parse))?;
        rule.unix.supplementary_gid = optional(section.parse("supplementary_gid", str::parse))?;
        rule.unix.path = optional(section.parse("path", |text| {
            let is_absolute = Path::new(text).is_absolute();
            if is_absolute { Ok(text.to_owned()) } else { Err("it must be an absolute path") }
        }))?;
        rule.unix.sha256 = optional(section.parse("sha256", sha256))?;
    }
    if let Some(node) = section.node("systemd") {
        let section = Section::open(node, &SYSTEMD_RULE, source)?;
        rule.systemd.unit = optional(section.parse("unit", unit))?;
        rule.systemd.slice = optional(section.parse("slice", slice))?;
    }
    rule.container_id = optional(section.parse("container_id", |text| {
        let is_id =
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_id { Ok(text.to_owned()) } else { Err("it must be 64 lowercase hexadecimal digits") }
    }))?;
    rule.pod_uid = optional(section.text("pod_uid"))?;
    if rule.is_empty() {
        let message = "the rule states nothing, so that no workload matches it";
        source.error(
            Some(&node.range),
            message,
            "write what a workload must be, or remove `rules`",
        );
        return None;
    }
    Some(rule)
}

fn sha256(text: &str) -> Result<[u8; 32], &'static str> {
    let mut hash = [0; 32];
    match base16ct::mixed::decode(text, &mut hash) {
        Ok(decoded) if decoded.len() == 32 => Ok(hash),
        _ => Err("it must be 64 hexadecimal digits, as sha256sum prints them"),
    }
}

fn sds_names(node: &Node, source: &Source<'_>) -> Option<SdsNames> {
    let section = Section::open(node, &SDS_NAMES, source)?;
    let default = SdsNames::default();
    let name = |key: &str, default: String| match section.text(key) {
        Given::Absent => Some(default),
        given => given.value(),
    };
    let disable = match section.switch("disable_spiffe_cert_validation") {
        Given::Absent => Some(false),
        given => given.value(),
    };
    Some(SdsNames {
        default_svid: name("default_svid_name", default.default_svid)?,
        default_bundle: name("default_bundle_name", default.default_bundle)?,
        default_all_bundles: name("default_all_bundles_name", default.default_all_bundles)?,
        disable_spiffe_cert_validation: disable?,
    })
}

/// The outer `None` after an error.
#[expect(clippy::option_option, reason = "an absent value and an invalid one differ")]
fn optional<T>(given: Given<T>) -> Option<Option<T>> {
    match given {
        Given::Absent => Some(None),
        given => given.value().map(Some),
    }
}
