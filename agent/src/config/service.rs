//! The services of a file, with their destinations and reloads.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::duration;
use super::finding::{Place, Source};
use super::section::{Given, Keys, Section, expected, parse, unknown};
use super::settings::{
    Account, Acls, DEFAULT_RELOAD_TIMEOUT, Destination, Directory, Lifetime, Reader, Reload,
    ReloadAction, Renewal, Service, ServiceKind, ServiceName, Signal, SshConfig, Storage, Symlinks,
    X509Files,
};
use super::tree::{Node, Value};

const NEEDS_PROXY: &str = "it needs a Teleport proxy, and here is none";
const NOT_SERVED: &str = "this agent serves `identity` and `x509`";

/// The services that others have, and why we do not.
const OTHERS: [(&str, &str); 22] = [
    ("application", NEEDS_PROXY),
    ("application-proxy", NEEDS_PROXY),
    ("application-tunnel", NEEDS_PROXY),
    ("database", NEEDS_PROXY),
    ("database-tunnel", NEEDS_PROXY),
    ("kubernetes", NEEDS_PROXY),
    ("kubernetes/argo-cd", NEEDS_PROXY),
    ("kubernetes/v2", NEEDS_PROXY),
    ("ssh-multiplexer", NEEDS_PROXY),
    ("aws-roles-anywhere", NOT_SERVED),
    ("client-credential", NOT_SERVED),
    ("example", NOT_SERVED),
    ("identity/key-agent", NOT_SERVED),
    ("noop", NOT_SERVED),
    ("spiffe-svid", "its younger name is `workload-identity-x509`, here `x509`"),
    ("spiffe-workload-api", NOT_SERVED),
    ("ssh_host", NOT_SERVED),
    ("workload-identity-api", NOT_SERVED),
    ("workload-identity-aws-ra", NOT_SERVED),
    ("workload-identity-aws-roles-anywhere", NOT_SERVED),
    ("workload-identity-jwt", NOT_SERVED),
    ("workload-identity-x509-issuer-override", NOT_SERVED),
];

const ROLES: (&str, &str) = ("roles", "the roles are those of the bot: set them in its resource");
const OLD_TTL: (&str, &str) = ("certificate_ttl", "here it is `credential_ttl`");

const IDENTITY: Keys = Keys {
    of: "a service of type identity",
    known: &[
        "type",
        "name",
        "destination",
        "credential_ttl",
        "renewal_interval",
        "reload",
        "ssh_config",
        "allow_reissue",
    ],
    refused: &[
        ROLES,
        OLD_TTL,
        ("cluster", "certificates of leaf clusters come from a Teleport proxy, and here is none"),
        ("selector", "it belongs to a service of type x509 of Teleport"),
        ("format", "it belongs to a service of type x509"),
    ],
};

const X509: Keys = Keys {
    of: "a service of type x509",
    known: &[
        "type",
        "name",
        "destination",
        "credential_ttl",
        "renewal_interval",
        "reload",
        "format",
    ],
    refused: &[
        ROLES,
        OLD_TTL,
        ("selector", "the certificate always carries the bot's own SPIFFE ID: leave it out"),
        ("include_federated_trust_bundles", "there is one trust domain, the cluster's"),
        ("ssh_config", "it belongs to a service of type identity"),
        ("allow_reissue", "it belongs to a service of type identity"),
    ],
};

const DESTINATION_REFUSED: &[(&str, &str)] = &[
    ("name", "it belongs to a destination of type kubernetes_secret, which this agent has not"),
    (
        "namespace",
        "it belongs to a destination of type kubernetes_secret, which this agent has not",
    ),
    ("labels", "it belongs to a destination of type kubernetes_secret, which this agent has not"),
];

const DIRECTORY: Keys = Keys {
    of: "a destination",
    known: &["type", "path", "symlinks", "acls", "readers"],
    refused: DESTINATION_REFUSED,
};

const STORAGE: Keys = Keys {
    of: "storage",
    known: &["type", "path", "symlinks", "acls"],
    refused: &[("readers", "what is stored is for the agent alone")],
};

const MEMORY: Keys = Keys { of: "what has the type memory", known: &["type"], refused: &[] };

const READER: Keys = Keys { of: "a reader", known: &["user", "group"], refused: &[] };

const RELOAD: Keys = Keys {
    of: "reload",
    known: &["command", "signal", "pid_file", "systemd_unit", "timeout"],
    refused: &[],
};

/// A service before what it takes from the whole configuration.
pub(super) struct Draft {
    name: Given<ServiceName>,
    what: &'static str,
    place: Option<Place>,
    kind: ServiceKind,
    destination: Destination,
    lifetime: Option<Lifetime>,
    reload: Option<Reload>,
}

impl Draft {
    /// A service that is nothing but its type and its directory.
    pub(super) fn plain(kind: ServiceKind, path: PathBuf) -> Self {
        let directory = Directory { path, symlinks: Symlinks::default(), acls: Acls::default() };
        Self {
            name: Given::Absent,
            what: what(kind),
            place: None,
            kind,
            destination: Destination::Directory { directory, readers: Vec::new() },
            lifetime: None,
            reload: None,
        }
    }
}

const fn what(kind: ServiceKind) -> &'static str {
    match kind {
        ServiceKind::Identity { .. } => "identity",
        ServiceKind::X509 { .. } => "x509",
    }
}

/// Reads one service. None if there is something wrong with it.
pub(super) fn service(node: &Node, source: &Source<'_>) -> Option<Draft> {
    const PEEK: Keys = Keys { of: "a service", known: &[], refused: &[] };
    let Value::Mapping(entries) = &node.value else {
        Section::open(node, &PEEK, source)?;
        source.error(Some(&node.place), "a service without a type", "`type` is identity or x509");
        return None;
    };
    let Some(stated) = entries.iter().find(|entry| entry.key == "type") else {
        source.error(Some(&node.place), "a service without a type", "`type` is identity or x509");
        return None;
    };
    let stated = &stated.node;
    let keys = parse(stated, "type", source, |text| match text {
        "identity" => Ok(&IDENTITY),
        "x509" | "workload-identity-x509" => Ok(&X509),
        other => Err(unknown_type(other)),
    })?;
    let section = Section::open(node, keys, source)?;
    let kind = match keys.of {
        of if of == IDENTITY.of => identity(&section, source),
        _ => x509(&section),
    };
    let name = section.parse("name", |text| {
        let name: ServiceName = text.parse().map_err(|error| format!("{error}"))?;
        match text {
            "identity" | "heartbeat" | "ca-rotation" => {
                Err("this is the name of one of the agent's own".to_owned())
            }
            _ => Ok(name),
        }
    });
    let destination = match section.node("destination") {
        Some(node) => destination(node, source),
        None if section.meant("destination") => None,
        None => {
            let advice = "a `destination` is a directory: its path, or `type: memory`";
            source.error(Some(&node.place), "a service without a destination", advice);
            None
        }
    };
    let lifetime = lifetime(&section, source);
    let reload = section.node("reload").map(|node| reload(node, source));
    Some(Draft {
        name,
        what: what(kind?),
        place: Some(stated.place.clone()),
        kind: kind?,
        destination: destination?,
        lifetime: lifetime?,
        reload: match reload {
            None => None,
            Some(reload) => Some(reload?),
        },
    })
}

pub(super) fn unknown_type(text: &str) -> String {
    if let Some((_, why)) = OTHERS.iter().find(|(other, _)| *other == text) {
        return format!("{text} is not served here: {why}");
    }
    unknown(text, &["identity", "x509", "workload-identity-x509"])
}

fn identity(section: &Section<'_>, source: &Source<'_>) -> Option<ServiceKind> {
    if let Given::Here(true, place) = section.switch("allow_reissue") {
        let advice = "no certificate that leaves the agent can be exchanged for others";
        source.error(place.as_ref(), "`allow_reissue` is not supported here", advice);
    }
    let words = [("on", SshConfig::On), ("off", SshConfig::Off)];
    match section.word("ssh_config", &words) {
        Given::Absent => Some(ServiceKind::Identity { ssh_config: SshConfig::default() }),
        given => given.value().map(|ssh_config| ServiceKind::Identity { ssh_config }),
    }
}

fn x509(section: &Section<'_>) -> Option<ServiceKind> {
    match section.word("format", &[("svid", X509Files::Svid), ("tls", X509Files::Tls)]) {
        Given::Absent => Some(ServiceKind::X509 { files: X509Files::default() }),
        given => given.value().map(|files| ServiceKind::X509 { files }),
    }
}

/// Both, or neither; outside, what is wrong with it.
#[expect(clippy::option_option, reason = "nothing said, and something wrong, are two things")]
fn lifetime(section: &Section<'_>, source: &Source<'_>) -> Option<Option<Lifetime>> {
    let ttl = section.parse("credential_ttl", duration::parse);
    let interval = section.parse("renewal_interval", duration::parse);
    match (ttl, interval) {
        (Given::Absent, Given::Absent) => Some(None),
        (Given::Here(ttl, place), Given::Here(interval, _)) => {
            let lifetime = Lifetime { ttl, renewal: Renewal::Every(interval) };
            lifetime.check(place.as_ref(), source);
            Some(Some(lifetime))
        }
        (Given::Absent, _) | (_, Given::Absent) => {
            let place = section.key("credential_ttl").or_else(|| section.key("renewal_interval"));
            let message = "`credential_ttl` and `renewal_interval` go together";
            source.error(place, message, "give a service both, or neither");
            None
        }
        _ => None,
    }
}

/// Where a service puts its files.
fn destination(node: &Node, source: &Source<'_>) -> Option<Destination> {
    let section = match typed(node, "destination", &DIRECTORY, source)? {
        Typed::Memory => return Some(Destination::Memory),
        Typed::Path(path) => {
            let directory =
                Directory { path, symlinks: Symlinks::default(), acls: Acls::default() };
            return Some(Destination::Directory { directory, readers: Vec::new() });
        }
        Typed::Directory(section) => section,
    };
    let directory = directory(&section, "destination", source);
    let readers: Vec<Option<Reader>> =
        section.list("readers")?.iter().map(|node| reader(node, source)).collect();
    let readers: Vec<Reader> = readers.into_iter().collect::<Option<_>>()?;
    let directory = directory?;
    if directory.acls == Acls::Off && !readers.is_empty() {
        let place = section.key("readers");
        let message = "`readers` are given and `acls` are off";
        source.warn(place, message, "a group alone can read by the mode of the files");
    }
    Some(Destination::Directory { directory, readers })
}

/// Where the bot keeps its identity.
pub(super) fn storage(node: &Node, source: &Source<'_>) -> Option<Storage> {
    Some(Storage::Directory(match typed(node, "storage", &STORAGE, source)? {
        Typed::Memory => return Some(Storage::Memory),
        Typed::Path(path) => {
            Directory { path, symlinks: Symlinks::default(), acls: Acls::default() }
        }
        Typed::Directory(section) => directory(&section, "storage", source)?,
    }))
}

enum Typed<'n> {
    Path(PathBuf),
    Directory(Section<'n>),
    Memory,
}

/// A place for files is a path, or a section that says of which type it is.
fn typed<'n>(node: &'n Node, key: &str, keys: &Keys, source: &'n Source<'n>) -> Option<Typed<'n>> {
    if let Value::Sequence(_) = node.value {
        expected(source, node, &format!("`{key}` is a path, or a section with keys"), &node.value);
        return None;
    }
    let Value::Mapping(entries) = &node.value else {
        return parse(node, key, source, path).map(|path| {
            relative(&path, &node.place, source);
            Typed::Path(path)
        });
    };
    let stated = entries.iter().find(|entry| entry.key == "type").map(|entry| &entry.node);
    let Some(stated) = stated else {
        let message = format!("`{key}` does not say of which type it is");
        source.error(Some(&node.place), message, "add `type: directory` or `type: memory`");
        return None;
    };
    let memory = parse(stated, "type", source, |text| match text {
        "directory" => Ok(false),
        "memory" => Ok(true),
        "kubernetes_secret" => Err("this agent writes no Kubernetes secrets".to_owned()),
        other => Err(unknown(other, &["directory", "memory"])),
    })?;
    if memory {
        return Section::open(node, &MEMORY, source).map(|_| Typed::Memory);
    }
    Section::open(node, keys, source).map(Typed::Directory)
}

fn directory(section: &Section<'_>, key: &str, source: &Source<'_>) -> Option<Directory> {
    const SYMLINKS: [(&str, Symlinks); 3] = [
        ("try-secure", Symlinks::TrySecure),
        ("secure", Symlinks::Secure),
        ("insecure", Symlinks::Insecure),
    ];
    const ACLS: [(&str, Acls); 3] =
        [("try", Acls::Try), ("off", Acls::Off), ("required", Acls::Required)];
    let path = section.parse("path", path);
    if path.is_absent() && !section.meant("path") {
        source.error(section.place.as_ref(), format!("`{key}` has no path"), "add `path: /...`");
    }
    if let Given::Here(path, Some(place)) = &path {
        relative(path, place, source);
    }
    let symlinks = section.word("symlinks", &SYMLINKS).or(Given::Here(Symlinks::default(), None));
    let acls = section.word("acls", &ACLS).or(Given::Here(Acls::default(), None));
    Some(Directory { path: path.value()?, symlinks: symlinks.value()?, acls: acls.value()? })
}

/// A path of the file system.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    match text.split_once("://") {
        Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
            Err(format!("it is a path, not a URL: try `/{}`", rest.trim_start_matches('/')))
        }
        _ => Ok(text.into()),
    }
}

/// A relative path means something else wherever the agent is started.
pub(super) fn relative(path: &Path, place: &Place, source: &Source<'_>) {
    if path.is_relative() {
        let message = "a relative path depends on where the agent is started";
        source.warn(Some(place), message, "begin it with `/`");
    }
}

fn reader(node: &Node, source: &Source<'_>) -> Option<Reader> {
    let section = Section::open(node, &READER, source)?;
    match (section.parse("user", account), section.parse("group", account)) {
        (Given::Here(user, _), Given::Absent) => Some(Reader::User(user)),
        (Given::Absent, Given::Here(group, _)) => Some(Reader::Group(group)),
        (Given::Wrong, Given::Absent) | (Given::Absent, Given::Wrong) => None,
        _ => {
            let message = "a reader is either a `user` or a `group`";
            source.error(section.place.as_ref(), message, "");
            None
        }
    }
}

/// As useradd has it: what is a number is an id.
fn account(text: &str) -> Result<Account, &'static str> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // The largest is reserved: it means "unchanged" to the kernel.
        let id = text.parse().ok().filter(|id| *id != u32::MAX);
        return id.map(Account::Id).ok_or("no id is that large");
    }
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '$' | '@' | '\\');
    match text.len() <= 256 && !text.starts_with('-') && text.chars().all(allowed) {
        true => Ok(Account::Name(text.to_owned())),
        false => Err("this is not the name of a user or group"),
    }
}

fn reload(node: &Node, source: &Source<'_>) -> Option<Reload> {
    let section = Section::open(node, &RELOAD, source)?;
    let ways = ["command", "signal", "systemd_unit"].map(|key| section.node(key).is_some());
    if ways.into_iter().filter(|way| *way).count() != 1 {
        let message = "`reload` has one of `command`, `signal` with `pid_file`, `systemd_unit`";
        source.error(section.place.as_ref(), message, "keep exactly one");
        return None;
    }
    let timeout = section.parse("timeout", duration::parse);
    let timeout = timeout.or(Given::Here(DEFAULT_RELOAD_TIMEOUT, None));
    let pid_file = section.parse("pid_file", path);
    let [command, signal, _] = ways;
    if !signal && !pid_file.is_absent() {
        source.error(section.key("pid_file"), "`pid_file` goes with `signal`", "add `signal: HUP`");
        return None;
    }
    let action = match (command, signal) {
        (true, _) => self::command(&section, source),
        (_, true) => {
            if pid_file.is_absent() {
                let message = "`signal` needs a `pid_file`";
                source.error(section.key("signal"), message, "whose process is to be told?");
            }
            let signal = section.parse("signal", self::signal).value();
            signal
                .zip(pid_file.value())
                .map(|(signal, pid_file)| ReloadAction::Signal { signal, pid_file })
        }
        _ => section.parse("systemd_unit", unit).value().map(ReloadAction::SystemdUnit),
    };
    Some(Reload { action: action?, timeout: timeout.value()? })
}

const SIGNALS: [Signal; 7] = [
    Signal::Hup,
    Signal::Usr1,
    Signal::Usr2,
    Signal::Int,
    Signal::Term,
    Signal::Quit,
    Signal::Winch,
];

/// With `SIG` or without.
fn signal(text: &str) -> Result<Signal, String> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let found = SIGNALS.into_iter().find(|signal| signal.name() == name);
    found.ok_or_else(|| unknown(text, &SIGNALS.map(Signal::name)))
}

/// A program and its arguments. There is no shell that would take a line apart.
fn command(section: &Section<'_>, source: &Source<'_>) -> Option<ReloadAction> {
    let node = section.node("command")?;
    let Value::Sequence(nodes) = &node.value else {
        let advice = "write it as in [\"systemctl\", \"reload\", \"nginx\"]; no shell runs it";
        source.error(
            Some(&node.place),
            "`command` is a list: the program, then its arguments",
            advice,
        );
        return None;
    };
    let words: Vec<Option<String>> = nodes.iter().map(|node| argument(node, source)).collect();
    let mut words = words.into_iter().collect::<Option<Vec<_>>>()?.into_iter();
    match words.next().filter(|program| !program.is_empty()) {
        Some(program) => Some(ReloadAction::Command { program, arguments: words.collect() }),
        None => {
            source.error(Some(&node.place), "`command` names no program", "");
            None
        }
    }
}

/// An argument can be anything, except that no string of the kernel has a NUL in it.
fn argument(node: &Node, source: &Source<'_>) -> Option<String> {
    match &node.value {
        Value::Scalar { text, .. } if text.contains('\0') => {
            source.error(Some(&node.place), "an argument has a NUL in it", "");
            None
        }
        Value::Scalar { text, .. } => Some(text.clone()),
        Value::Null => Some(String::new()),
        other => {
            let message =
                format!("an argument of `command` is a single value, not {}", other.what());
            source.error(Some(&node.place), message, "");
            None
        }
    }
}

/// systemd.unit(5): letters, digits, `:-_.\` and, for instances, `@`; with the type of the unit.
fn unit(text: &str) -> Result<String, &'static str> {
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    if text.len() > 255 || text.starts_with('-') || !text.chars().all(allowed) {
        return Err("this is not the name of a systemd unit");
    }
    Ok(if text.contains('.') { text.to_owned() } else { format!("{text}.service") })
}

impl Lifetime {
    /// The least that can be kept fresh at all.
    const MIN: Duration = Duration::from_secs(1);

    /// Says what is wrong with it, or may be.
    pub(super) fn check(&self, place: Option<&Place>, source: &Source<'_>) {
        let ttl = duration::text(self.ttl);
        if self.ttl < Self::MIN {
            source.error(place, format!("certificates cannot live {ttl} only"), "think of an hour");
        }
        if self.ttl > super::settings::USUAL_MAX_TTL {
            let message =
                format!("a lifetime of {ttl} is longer than authorities usually grant, 24h");
            source.warn(place, message, "the authority is likely to shorten it");
        }
        match self.renewal {
            Renewal::Every(interval) if interval >= self.ttl => {
                let interval = duration::text(interval);
                let message = format!(
                    "certificates that live {ttl} end before they are renewed, every {interval}"
                );
                source.warn(place, message, "make `renewal_interval` half of `credential_ttl`");
            }
            _ => {}
        }
    }
}

/// Gives each service what it takes from the whole: a name, a lifetime; and sees that no two are in each other's way.
pub(super) fn settle(
    drafts: Vec<Draft>,
    lifetime: Lifetime,
    storage: &Storage,
    source: &Source<'_>,
) -> Option<Vec<Service>> {
    let mut names: HashMap<ServiceName, Option<Place>> = HashMap::new();
    let mut paths: HashMap<PathBuf, Option<Place>> = HashMap::new();
    let at = |place: &Option<Place>| match place {
        Some(place) => format!("the service in line {}", source.line(place)),
        None => "a service of the command line".to_owned(),
    };
    let own = match storage {
        Storage::Directory(directory) => Some(plain(&directory.path)),
        Storage::Memory => None,
    };
    let mut services = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.into_iter().enumerate() {
        let place = draft.name.place().or(draft.place.as_ref()).cloned();
        let default = || format!("{}-output-{}", draft.what, index + 1).parse().ok();
        let name = match draft.name {
            Given::Absent => default()?,
            given => given.value()?,
        };
        if let Some(other) = names.insert(name.clone(), place.clone()) {
            let message = format!("{} has the name {name} already", at(&other));
            source.error(place.as_ref(), message, "give each service a `name` of its own");
        }
        if let Destination::Directory { directory, .. } = &draft.destination {
            let path = plain(&directory.path);
            if own.as_ref() == Some(&path) {
                let message = "the destination is where the agent keeps its own identity";
                source.error(draft.place.as_ref(), message, "choose another directory");
            }
            if let Some(other) = paths.insert(path, draft.place.clone()) {
                let message = format!("{} has the same destination", at(&other));
                source.error(
                    draft.place.as_ref(),
                    message,
                    "give each service a directory of its own",
                );
            }
        }
        let (kind, destination, reload) = (draft.kind, draft.destination, draft.reload);
        let lifetime = draft.lifetime.unwrap_or(lifetime);
        services.push(Service { name, kind, destination, lifetime, reload });
    }
    Some(services)
}

/// A path without what makes no difference.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != std::path::Component::CurDir).collect()
}
