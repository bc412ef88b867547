//! The services of a file, with their destinations and reloads.

use std::collections::HashMap;
use std::time::Duration;

use host::config::finding::{ByteRange, Source};
use host::config::section::{Given, Keys, Section, parse, unknown};
use host::config::tree::{Node, Value};
use host::go_duration;

use super::directories::Directories;
use super::settings::{
    Destination, KeyStorage, Lifetime, Reload, Renewal, Service, ServiceKind, ServiceName,
    SshConfig, Storage,
};
use super::workload_api::{self, WorkloadApi};
use super::workload_identity::{JWT, X509, jwt, x509};
use super::{destination, reload, ssh};
use crate::parts::{self, Part};

const NEEDS_PROXY: &str = "it needs a Teleport proxy, which this authority does not have";
const NO_AWS: &str = "the authority issues no AWS credentials";
const NOT_SERVED: &str = "this agent supports `identity`, `x509`, `workload-identity-jwt`, `workload-identity-api`, `ssh-agent` and `ssh_host`";

/// Services of tbot that are not supported, with the reason.
pub(crate) const OTHERS: [(&str, &str); 17] = [
    ("application", NEEDS_PROXY),
    ("application-proxy", NEEDS_PROXY),
    ("application-tunnel", NEEDS_PROXY),
    ("database", NEEDS_PROXY),
    ("database-tunnel", NEEDS_PROXY),
    ("kubernetes", NEEDS_PROXY),
    ("kubernetes/argo-cd", NEEDS_PROXY),
    ("kubernetes/v2", NEEDS_PROXY),
    ("ssh-multiplexer", NEEDS_PROXY),
    ("aws-roles-anywhere", NO_AWS),
    ("client-credential", NOT_SERVED),
    ("example", NOT_SERVED),
    ("identity/key-agent", "write `ssh-agent`"),
    ("spiffe-svid", "write `x509`, the name of `workload-identity-x509` here"),
    ("workload-identity-aws-ra", NO_AWS),
    ("workload-identity-aws-roles-anywhere", NO_AWS),
    ("workload-identity-x509-issuer-override", NOT_SERVED),
];

pub(super) const NAME: (&str, &str) =
    ("name", "a unique name, used in logs, metrics and `/readyz/NAME` (default: generated)");
pub(super) const DESTINATION: (&str, &str) =
    ("destination", "where to write the files: a directory, or a section");
pub(super) const TTL: (&str, &str) =
    ("credential_ttl", "lifetime of certificates (default: that of the configuration)");
pub(super) const INTERVAL: (&str, &str) =
    ("renewal_interval", "interval between renewals; must be set together with `credential_ttl`");
pub(super) const RELOAD: (&str, &str) = ("reload", "reload hook, run after new files are in place");

pub(super) const KEY: (&str, &str) = (
    "key",
    "`software` (default): a key in a file; `tpm`: a key that stays in the TPM, in a file for OpenSSL's provider",
);

pub(super) const ROLES: (&str, &str) = ("roles", "remove it: roles are set in the bot's resource");
pub(super) const OLD_TTL: (&str, &str) = ("certificate_ttl", "write `credential_ttl`");

pub(super) const IDENTITY: Keys = Keys {
    of: "a service of type identity",
    known: &[
        ("type", "`identity`"),
        NAME,
        DESTINATION,
        TTL,
        INTERVAL,
        RELOAD,
        ("ssh_config", "`on` (default) also writes a configuration for `ssh -F`, `off` does not"),
        ("allow_reissue", "only `false` is supported"),
    ],
    refused: &[
        ROLES,
        OLD_TTL,
        ("cluster", "remove it: certificates of leaf clusters need a Teleport proxy"),
        ("selector", "remove it: it belongs to services of type x509"),
        ("hint", "remove it: it belongs to services of type x509"),
        ("format", "remove it: it belongs to services of type x509"),
        (
            "key",
            "remove it: Teleport's software and OpenSSH cannot read the file of a key in the TPM",
        ),
    ],
};

/// What an item of `services` is.
pub(super) enum Item {
    /// Credentials in files.
    Files(Draft),
    /// A socket.
    WorkloadApi(workload_api::Draft),
}

/// A service before defaults of the whole configuration are applied.
pub(super) struct Draft {
    pub(super) name: Given<ServiceName>,
    pub(super) what: &'static str,
    pub(super) range: Option<ByteRange>,
    pub(super) kind: ServiceKind,
    pub(super) destination: Destination,
    pub(super) key_storage: KeyStorage,
    pub(super) lifetime: Option<Lifetime>,
    pub(super) reload: Option<Reload>,
}

impl Draft {
    /// A service of the command line: nothing but its type and its destination.
    pub(super) fn plain(kind: ServiceKind, destination: Destination) -> Self {
        Self {
            name: Given::Absent,
            what: kind.name(),
            range: None,
            kind,
            destination,
            key_storage: KeyStorage::default(),
            lifetime: None,
            reload: None,
        }
    }
}

/// Reads one service. None if there is something wrong with it.
pub(super) fn service(node: &Node, source: &Source<'_>) -> Option<Item> {
    const PEEK: Keys = Keys { of: "a service", known: &[], refused: &[] };
    let Value::Mapping(entries) = &node.value else {
        Section::open(node, &PEEK, source)?;
        source.error(
            Some(&node.range),
            "the service has no `type`",
            "set `type`, for example to identity or x509",
        );
        return None;
    };
    let Some(stated) = entries.iter().find(|entry| entry.key == "type") else {
        source.error(
            Some(&node.range),
            "the service has no `type`",
            "set `type`, for example to identity or x509",
        );
        return None;
    };
    let stated = &stated.node;
    if let Value::Scalar { text, .. } = &stated.value {
        if workload_api::TYPES.contains(&text.as_str()) {
            if !parts::WORKLOAD_API.is_built {
                return refuse(&parts::WORKLOAD_API, &stated.range, source);
            }
            return workload_api::workload_api(node, stated, source).map(Item::WorkloadApi);
        }
        if ssh::TYPES.contains(&text.as_str()) {
            if !parts::SSH_AGENT.is_built {
                return refuse(&parts::SSH_AGENT, &stated.range, source);
            }
            return ssh::ssh(node, stated, source).map(Item::Files);
        }
    }
    let kind = parse(stated, "type", source, |text| {
        ServiceKind::named(text).ok_or_else(|| unknown_type(text))
    })?;
    let keys = match kind {
        ServiceKind::X509 { .. } => &X509,
        ServiceKind::Jwt { .. } => &JWT,
        _ => &IDENTITY,
    };
    let section = Section::open(node, keys, source)?;
    let kind = match kind {
        ServiceKind::X509 { .. } => x509(&section, source),
        ServiceKind::Jwt { .. } => jwt(&section, node, source),
        _ => identity(&section, source),
    };
    let name = section.parse("name", name);
    let destination = destination(&section, node, source);
    let key_storage = key_storage(&section);
    let lifetime = lifetime(&section, source);
    let reload = section.node("reload").map(|node| reload::reload(node, source));
    let kind = kind?;
    Some(Item::Files(Draft {
        name,
        what: kind.name(),
        range: Some(stated.range.clone()),
        kind,
        destination: destination?,
        key_storage: key_storage?,
        lifetime: lifetime?,
        reload: match reload {
            None => None,
            Some(reload) => Some(reload?),
        },
    }))
}

/// Where a service writes its files.
pub(super) fn destination(
    section: &Section<'_>,
    node: &Node,
    source: &Source<'_>,
) -> Option<Destination> {
    match section.node("destination") {
        Some(node) => destination::destination(node, source),
        None if section.meant("destination") => None,
        None => {
            let advice = "add `destination: DIR`";
            source.error(Some(&node.range), "the service has no destination", advice);
            None
        }
    }
}

/// Refuses what this build of the agent has not.
fn refuse<T>(part: &Part, range: &ByteRange, source: &Source<'_>) -> Option<T> {
    source.error(Some(range), part.message, part.advice);
    None
}

/// The name of a service.
pub(super) fn name(text: &str) -> Result<ServiceName, String> {
    let name: ServiceName = text.parse().map_err(|error| format!("{error}"))?;
    match text {
        "identity" | "heartbeat" | "ca-rotation" => {
            Err("this name is reserved by the agent".to_owned())
        }
        _ => Ok(name),
    }
}

pub(super) fn unknown_type(text: &str) -> String {
    if let Some((_, why)) = OTHERS.iter().find(|(other, _)| *other == text) {
        return format!("{text} is not supported: {why}");
    }
    let names = ServiceKind::NAMES.into_iter().chain(workload_api::TYPES).chain(ssh::TYPES);
    unknown(text, &names.collect::<Vec<&str>>())
}

fn identity(section: &Section<'_>, source: &Source<'_>) -> Option<ServiceKind> {
    if let Given::Here(true, range) = section.switch("allow_reissue") {
        let advice =
            "remove it: the authority does not exchange a service's certificate for others";
        source.error(range.as_ref(), "`allow_reissue` is not supported here", advice);
    }
    let words = [("on", SshConfig::On), ("off", SshConfig::Off)];
    match section.word("ssh_config", &words) {
        Given::Absent => Some(ServiceKind::Identity { ssh_config: SshConfig::default() }),
        given => given.value().map(|ssh_config| ServiceKind::Identity { ssh_config }),
    }
}

/// Where a service has its key.
pub(super) fn key_storage(section: &Section<'_>) -> Option<KeyStorage> {
    match section.word("key", &KeyStorage::WORDS) {
        Given::Absent => Some(KeyStorage::default()),
        given => given.value(),
    }
}

/// Both keys or neither; the outer `None` after an error.
#[expect(clippy::option_option, reason = "an absent lifetime and an invalid one differ")]
pub(super) fn lifetime(section: &Section<'_>, source: &Source<'_>) -> Option<Option<Lifetime>> {
    let ttl = section.parse("credential_ttl", go_duration::parse);
    let interval = section.parse("renewal_interval", go_duration::parse);
    match (ttl, interval) {
        (Given::Absent, Given::Absent) => Some(None),
        (Given::Here(ttl, range), Given::Here(interval, _)) => {
            let lifetime = Lifetime { ttl, renewal: Renewal::Every(interval) };
            lifetime.check(range.as_ref(), source);
            Some(Some(lifetime))
        }
        (Given::Absent, _) | (_, Given::Absent) => {
            let range = section.key("credential_ttl").or_else(|| section.key("renewal_interval"));
            let message = "`credential_ttl` and `renewal_interval` must be set together";
            source.error(range, message, "set both or neither for a service");
            None
        }
        _ => None,
    }
}

impl KeyStorage {
    pub(super) const WORDS: [(&'static str, Self); 2] =
        [("software", Self::Software), ("tpm", Self::Tpm)];
}

impl Lifetime {
    /// The shortest lifetime.
    const MIN: Duration = Duration::from_secs(1);

    /// The shortest interval between renewals: each costs the TPM two commands, and the authority a write to its disk.
    const MIN_INTERVAL: Duration = Duration::from_secs(10);

    /// Reports errors and warnings.
    pub(super) fn check(&self, range: Option<&ByteRange>, source: &Source<'_>) {
        let ttl = go_duration::text(self.ttl);
        if self.ttl < Self::MIN {
            source.error(
                range,
                format!("a lifetime of {ttl} is too short"),
                "use a value such as 1h",
            );
        }
        if self.ttl > super::settings::USUAL_MAX_TTL {
            let message = format!(
                "a lifetime of {ttl} exceeds 24h, the most that authorities grant by default"
            );
            source.warn(range, message, "shorten it, or expect the authority to do so");
        }
        match self.renewal {
            Renewal::Every(interval) if interval < Self::MIN_INTERVAL => {
                let message = format!(
                    "`renewal_interval` is {}, less than the minimum of {}",
                    go_duration::text(interval),
                    go_duration::text(Self::MIN_INTERVAL)
                );
                source.error(range, message, "use a longer interval, e.g. 20m");
            }
            Renewal::Every(interval) if interval >= self.ttl => {
                let interval = go_duration::text(interval);
                let message = format!(
                    "certificates with a lifetime of {ttl} expire before the renewal after {interval}"
                );
                source.warn(range, message, "set `renewal_interval` to half of `credential_ttl`");
            }
            _ => {}
        }
    }
}

/// The services of a configuration.
pub(super) struct Services {
    pub(super) files: Vec<Service>,
    pub(super) workload_apis: Vec<WorkloadApi>,
}

/// Completes services with default names and lifetimes, and reports conflicts between them.
pub(super) fn complete(
    items: Vec<Item>,
    lifetime: Lifetime,
    storage: &Storage,
    oneshot: bool,
    source: &Source<'_>,
) -> Option<Services> {
    let mut names: HashMap<ServiceName, Option<ByteRange>> = HashMap::new();
    let at = |range: &Option<ByteRange>| match range {
        Some(range) => format!("the service in line {}", source.line(range)),
        None => "a service of the command line".to_owned(),
    };
    let mut directories = Directories::default();
    if let Storage::Directory(directory) = storage {
        directories.claim(&directory.path, "the agent stores its identity");
    }
    let mut services = Services { files: Vec::new(), workload_apis: Vec::new() };
    for (index, item) in items.into_iter().enumerate() {
        let (given, what, stated) = match &item {
            Item::Files(draft) => (draft.name.clone(), draft.what, draft.range.clone()),
            Item::WorkloadApi(draft) => (draft.name.clone(), draft.kind, draft.range.clone()),
        };
        let range = given.range().or(stated.as_ref()).cloned();
        let default = || format!("{what}-output-{}", index + 1).parse().ok();
        let name = match given {
            Given::Absent => default()?,
            given => given.value()?,
        };
        if let Some(other) = names.insert(name.clone(), range.clone()) {
            let message = format!("{} already has the name {name}", at(&other));
            source.error(range.as_ref(), message, "give each service a unique `name`");
        }
        let (directory, socket) = match &item {
            Item::Files(draft) => {
                let directory = match &draft.destination {
                    Destination::Directory { directory, .. } => Some(directory.path.as_path()),
                    Destination::Memory => None,
                };
                (directory, draft.kind.agent().map(|agent| agent.socket.path.as_path()))
            }
            Item::WorkloadApi(draft) => (None, draft.path()),
        };
        let claims = [(directory, "writes its files"), (socket, "has its socket")];
        let claims = claims.into_iter().filter_map(|(path, what)| Some((path?, what)));
        for (path, what) in claims {
            let whose = format!("{} {what}", at(&stated));
            let Some(message) = directories.claim(path, &whose) else { continue };
            let advice = "give each service its own directory or socket";
            source.error(stated.as_ref(), message, advice);
        }
        let serves = match &item {
            Item::Files(draft) => draft.kind.agent().is_some(),
            Item::WorkloadApi(_) => true,
        };
        if oneshot && serves {
            let message = format!("with `oneshot` nothing can connect to the socket of {name}");
            source.warn(
                stated.as_ref(),
                message,
                "remove `oneshot`: the agent serves it while it runs",
            );
        }
        match item {
            Item::Files(draft) => {
                let Draft { kind, destination, key_storage, reload, .. } = draft;
                let lifetime = draft.lifetime.unwrap_or(lifetime);
                let service = Service { name, kind, destination, key_storage, lifetime, reload };
                services.files.push(service);
            }
            Item::WorkloadApi(draft) => {
                services.workload_apis.push(draft.complete(name, lifetime.ttl));
            }
        }
    }
    Some(services)
}
