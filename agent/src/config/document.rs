//! The configuration file as a whole, with its overrides.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use host::config::finding::{ByteRange, Findings, Source};
use host::config::section::{Given, Keys, Section, parse as parse_node};
use host::config::tree::{self, Node, Value};
use host::go_duration;
use host::log::LogFormat;
use tls::CaPin;

use super::address::{Address, listener};
use super::destination::{self, path, relative};
use super::files::{self, NamedFile};
use super::join_uri::JoinUri;
use super::overrides::{Overrides, token};
use super::protocol::Protocol;
use super::service;
use super::settings::{
    Acls, DEFAULT_STORAGE, DEFAULT_TTL, Directory, Lifetime, Renewal, Server, Service, Settings,
    Storage, Symlinks, Token, TpmSettings, Trust,
};
use crate::tpm::inventory::EkChoice;
use crate::tpm::passwords::PasswordFiles;

/// A valid configuration with its warnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// The warnings.
    pub warnings: Findings,
    /// The files it refers to, not yet checked: [`NamedFile::look`].
    pub files: Vec<NamedFile>,
}

pub(super) const TOP: Keys = Keys {
    of: "the configuration",
    known: &[
        ("version", "`v2`"),
        (
            "auth_server",
            "same as `proxy_server`, but without `ca_pins` and `ca_path` no server is accepted",
        ),
        (
            "proxy_server",
            "address of the authority, `HOST:PORT`, or a list of addresses that are tried in order",
        ),
        (
            "join_uri",
            "`tbot+proxy+tpm://TOKEN@HOST:PORT`, instead of `proxy_server` and the `token` in `onboarding`; `tbot+auth+tpm://` instead of `auth_server`",
        ),
        ("onboarding", "how to join; see below"),
        (
            "storage",
            "where to store the bot's identity: a directory, or a section (default `/var/lib/teleport/bot`)",
        ),
        ("services", "a list of credentials to write in addition to the bot's identity"),
        ("outputs", "old name of `services`"),
        ("credential_ttl", "lifetime of certificates, e.g. `1h30m` (default `1h`)"),
        ("certificate_ttl", "old name of `credential_ttl`"),
        ("renewal_interval", "interval between renewals (default: half of the lifetime)"),
        ("oneshot", "join or renew once, write all credentials, and exit"),
        ("debug", "log at debug level"),
        ("log_format", "`text`, `json` or `journal`"),
        ("diag_addr", "address and port that serve `/livez`, `/readyz` and `/metrics`"),
        ("tpm", "which TPM and endorsement key; see below"),
        ("fips", "only `false` is supported"),
        ("insecure", "only `false` is supported"),
        ("scoped", "only `false` is supported"),
        ("leeway", "no effect"),
    ],
    refused: &[
        ("destinations", "write `services`: this is the key of version v1"),
        ("data_dir", "write `storage`: this is the key of version v1"),
        ("auth_servers", "write `auth_server`; it may be a list"),
        ("token", "write it in `onboarding`"),
        ("ca_pins", "write it in `onboarding`"),
        ("ca_path", "write it in `onboarding`"),
        ("join_method", "write it in `onboarding`"),
    ],
};

const NO_CA: &str = "write `ca_pins: [\"sha256:...\"]` in `onboarding` (`authority status` shows the pin), or give --ca-pin; or write `proxy_server` if the server has a certificate of a public CA";

const OTHER_METHOD: &str = "remove it: it belongs to another join method";

pub(super) const ONBOARDING: Keys = Keys {
    of: "onboarding",
    known: &[
        ("token", "name of the join token, or absolute path of a file that contains it"),
        ("join_method", "only `tpm` is supported"),
        (
            "protocol",
            "`endorse` or `teleport`: by which protocol to join; `auto` (default) finds it out at the first join",
        ),
        (
            "ca_pins",
            "a list of CA pins of the cluster, as shown by `authority status`; without it and `ca_path`, a `proxy_server` is verified by the system's CAs until the host has joined",
        ),
        ("ca_path", "file with the cluster's CA certificates, PEM, instead of `ca_pins`"),
    ],
    refused: &[
        ("azure", OTHER_METHOD),
        ("bound_keypair", OTHER_METHOD),
        ("gitlab", OTHER_METHOD),
        ("terraform", OTHER_METHOD),
        ("ca_pin", "write `ca_pins`, a list"),
    ],
};

pub(super) const TPM: Keys = Keys {
    of: "tpm",
    known: &[
        (
            "address",
            "`device:PATH`, `swtpm:path=SOCKET` or `swtpm:host=HOST,port=PORT` (default `device:/dev/tpmrm0`)",
        ),
        ("ek", "the endorsement key; `auto` (default) takes the first one with a certificate"),
        ("owner_password_file", "file with the password of the TPM's owner hierarchy"),
        ("endorsement_password_file", "file with the password of the TPM's endorsement hierarchy"),
    ],
    refused: &[
        ("owner_password", "store the password in a separate file: `owner_password_file`"),
        (
            "endorsement_password",
            "store the password in a separate file: `endorsement_password_file`",
        ),
        ("device", "write `address: device:/dev/tpmrm0`"),
    ],
};

/// Reads a configuration, and reports all its errors at once.
///
/// # Errors
/// It is invalid; the findings include the warnings.
pub fn read(text: &str, path: &Path) -> Result<Loaded, Findings> {
    read_with(text, path, &Overrides::default())
}

/// Reads a configuration with overrides of the command line and the environment.
///
/// # Errors
/// As [`read`].
pub fn read_with(text: &str, path: &Path, overrides: &Overrides) -> Result<Loaded, Findings> {
    let source = Source::new(text, path);
    let root = tree::parse(source.text(), &source);
    let settings = root.as_ref().and_then(|root| settings(root, overrides, &source));
    match (settings, root) {
        (Some(settings), Some(root)) if !source.has_errors() => {
            let files = files::named(&root, &settings, &source);
            Ok(Loaded { settings, warnings: source.findings(), files })
        }
        _ => Err(source.findings()),
    }
}

/// Each part is looked at whatever is wrong with the others.
fn settings(root: &Node, overrides: &Overrides, source: &Source<'_>) -> Option<Settings> {
    let top = Section::open(root, &TOP, source)?;
    version(&top, source);
    refused_switches(&top, source);
    let uri = join_uri(&top, source);
    let (server, authorities) = authorities(&top, &uri, overrides, source);
    let onboarding = onboarding(&top, server, &uri, overrides, source);
    let storage = storage(&top, overrides, source);
    let oneshot = switch(&top, "oneshot", overrides.oneshot);
    let lifetime = lifetime(&top, overrides, oneshot, source);
    let drafts = services(&top, overrides, source);
    let debug = switch(&top, "debug", overrides.debug);
    let log_format = top.word("log_format", &LogFormat::NAMES).or_rather(overrides.log_format);
    let diag_addr: Given<SocketAddr> =
        top.parse("diag_addr", listener).or_rather(overrides.diag_addr);
    let tpm = tpm(&top, overrides, source);

    let (lifetime, storage) = (lifetime?, storage?);
    let services = service::complete(drafts?, lifetime, &storage, source);
    let (trust, token, protocol) = onboarding?;
    if protocol == Some(Protocol::Teleport) {
        without_services(services.as_deref().unwrap_or_default(), &top, source);
    }
    Some(Settings {
        authorities: authorities?,
        server: server?,
        trust,
        protocol,
        token,
        storage,
        services: services?,
        lifetime,
        oneshot: oneshot?,
        debug: debug?,
        log_format: log_format.value().unwrap_or_default(),
        diag_addr: diag_addr.value(),
        tpm: tpm?,
    })
}

fn version(top: &Section<'_>, source: &Source<'_>) {
    if let Given::Here(version, range) = top.text("version") {
        let advice = match version.as_str() {
            "v2" => return,
            "v1" => "rewrite it as version v2: `destinations` is now `services`",
            _ => "write `version: v2`",
        };
        source.error(range.as_ref(), format!("version {version} is not supported"), advice);
    }
}

/// Keys that may only be false.
fn refused_switches(top: &Section<'_>, source: &Source<'_>) {
    for (key, why) in [
        (
            "insecure",
            "give `ca_pins` or `ca_path`: without them any server would be accepted as the authority",
        ),
        ("fips", "remove it: this agent's cryptography is not validated to FIPS 140"),
        ("scoped", "remove it: the authority has no scopes"),
    ] {
        if let Given::Here(true, range) = top.switch(key) {
            source.error(range.as_ref(), format!("`{key}` is not supported here"), why);
        }
    }
    if let Given::Here(_, Some(range)) = top.parse("leeway", go_duration::parse) {
        let advice = "remove it: it is for tunnels, which are not supported";
        source.warn(Some(&range), "`leeway` has no effect", advice);
    }
}

/// Address and token in one, which excludes the keys for them.
fn join_uri(top: &Section<'_>, source: &Source<'_>) -> Given<JoinUri> {
    let uri = top.parse("join_uri", str::parse);
    let has_token = match top.node("onboarding").map(|node| &node.value) {
        Some(Value::Mapping(entries)) => entries.iter().any(|entry| entry.key == "token"),
        _ => false,
    };
    let others = [
        ("`proxy_server`", top.node("proxy_server").is_some()),
        ("`auth_server`", top.node("auth_server").is_some()),
        ("`token`", has_token),
    ];
    let others: Vec<&str> =
        others.iter().filter(|(_, is_set)| *is_set).map(|(key, _)| *key).collect();
    if !uri.is_absent() && !others.is_empty() {
        let message = format!("`join_uri` is set together with {}", others.join(" and "));
        source.error(top.key("join_uri"), message, "keep `join_uri` alone, or remove it");
    }
    uri
}

/// The addresses of the authority, and under which of tbot's names, or in which join URI, they are given.
fn authorities(
    top: &Section<'_>,
    uri: &Given<JoinUri>,
    overrides: &Overrides,
    source: &Source<'_>,
) -> (Option<Server>, Option<Vec<Address>>) {
    let proxy = top.node("proxy_server").map(|node| addresses(node, "proxy_server", source));
    let auth = top.node("auth_server").map(|node| addresses(node, "auth_server", source));
    if proxy.is_some() && auth.is_some() {
        let range = later(top.key("proxy_server"), top.key("auth_server"));
        let message = "both `auth_server` and `proxy_server` are set";
        source.error(range, message, "keep one of them: both are the authority's address");
    }
    for (server, given) in
        [(Server::Auth, &overrides.auth_server), (Server::Proxy, &overrides.proxy_server)]
    {
        if !given.is_empty() {
            return (Some(server), Some(given.clone()));
        }
    }
    if let Some(uri) = &overrides.join_uri {
        return (Some(uri.server), Some(vec![uri.address.clone()]));
    }
    let server = match (&proxy, &auth, uri) {
        (Some(_), ..) => Some(Server::Proxy),
        (None, Some(_), _) => Some(Server::Auth),
        (None, None, Given::Here(uri, _)) => Some(uri.server),
        (None, None, _) => None,
    };
    let stated = proxy.or(auth).or(match uri {
        Given::Absent => None,
        Given::Here(uri, _) => Some(Some(vec![uri.address.clone()])),
        Given::Wrong => Some(None),
    });
    let meant = ["proxy_server", "auth_server", "join_uri"].into_iter().any(|key| top.meant(key));
    if stated.is_none() && !meant {
        let advice = "write `proxy_server: HOST:PORT`, or give --authority";
        source.error(None, "the authority's address is missing", advice);
    }
    (server, stated.flatten())
}

/// A list, or addresses with commas between them.
fn addresses(node: &Node, key: &str, source: &Source<'_>) -> Option<Vec<Address>> {
    let nodes = match &node.value {
        Value::Sequence(nodes) => nodes.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if nodes.is_empty() {
        source.error(Some(&node.range), format!("`{key}` is an empty list"), "write HOST:PORT");
    }
    let read = |text: &str| text.split(',').map(Address::of_list).collect();
    let each: Vec<Option<Vec<Address>>> = nodes
        .iter()
        .map(|node| parse_node::<_, super::InvalidAddress>(node, key, source, read))
        .collect();
    let all = each.into_iter().collect::<Option<Vec<_>>>()?.concat();
    (!all.is_empty()).then_some(all)
}

fn onboarding(
    top: &Section<'_>,
    server: Option<Server>,
    uri: &Given<JoinUri>,
    overrides: &Overrides,
    source: &Source<'_>,
) -> Option<(Trust, Token, Option<Protocol>)> {
    if top.meant("onboarding") {
        return None;
    }
    let empty = Node::default();
    let node = top.node("onboarding").unwrap_or(&empty);
    let section = Section::open(node, &ONBOARDING, source)?;
    let range = top.key("onboarding");
    if let Given::Here(method, range) = section.text("join_method")
        && method != "tpm"
    {
        let message = format!("join method {method} is not supported");
        source.error(range.as_ref(), message, "write `join_method: tpm`");
    }
    let token = section.parse("token", token);
    let token = match uri {
        Given::Here(uri, _) => token.or(Given::Here(uri.token.clone(), None)),
        _ => token,
    };
    let of_uri = overrides.join_uri.as_ref().map(|uri| uri.token.clone());
    let token = token.or_rather(of_uri).or_rather(overrides.token.clone());
    if token.is_absent() && uri.is_absent() && !section.meant("token") && !top.meant("join_uri") {
        let advice = "write its name as `token` in `onboarding`, or give --token";
        source.error(range, "the join token is missing", advice);
    }
    if let Given::Here(Token::Value(name), Some(range)) = &token
        && name.contains('/')
    {
        let message = "the token's name contains a slash";
        source.warn(Some(range), message, "write an absolute path to read the token from a file");
    }
    let mut trust = trust(&section, overrides, source);
    if trust.is_absent() && !section.meant("ca_pins") && !section.meant("ca_path") {
        match server {
            Some(Server::Proxy) => trust = Given::Here(Trust::SystemRoots, None),
            Some(Server::Auth) => {
                source.error(range, "no CA of the authority is configured", NO_CA)
            }
            // Without an address, that is what is missing.
            None => {}
        }
    }
    let protocol = match section.word("protocol", &PROTOCOLS) {
        Given::Absent => None,
        given => given.value()?,
    };
    Some((trust.value()?, token.value()?, protocol))
}

/// The protocols by their names in the configuration.
const PROTOCOLS: [(&str, Option<Protocol>); 3] = [
    ("auto", None),
    (Protocol::Endorse.name(), Some(Protocol::Endorse)),
    (Protocol::Teleport.name(), Some(Protocol::Teleport)),
];

/// What services need of a Teleport cluster, a host only gets as an agent of Teleport.
fn without_services(services: &[Service], top: &Section<'_>, source: &Source<'_>) {
    let range = top.key("services").or_else(|| top.key("outputs"));
    for service in services {
        let (name, kind) = (&service.name, service.kind.name());
        source.error(
            range,
            format!("a Teleport cluster cannot issue the {kind} service {name} to this agent"),
            "remove it: with `protocol: teleport` the agent keeps the bot's own identity only",
        );
    }
}

fn trust(section: &Section<'_>, overrides: &Overrides, source: &Source<'_>) -> Given<Trust> {
    let pins = pins(section, source);
    let file = section.parse("ca_path", path);
    if let Given::Here(path, Some(range)) = &file {
        relative(path, range, source);
    }
    if !pins.is_absent() && !file.is_absent() {
        let range = later(section.key("ca_path"), section.key("ca_pins"));
        source.error(range, "both `ca_pins` and `ca_path` are set", "keep one of them");
    }
    if !overrides.ca_pin.is_empty() {
        return Given::Here(Trust::Pins(overrides.ca_pin.clone()), None);
    }
    if let Some(path) = &overrides.ca_path {
        return Given::Here(Trust::CaPath(path.clone()), None);
    }
    pins.map(Trust::Pins).or(file.map(Trust::CaPath))
}

/// An empty list says nothing.
fn pins(section: &Section<'_>, source: &Source<'_>) -> Given<Vec<CaPin>> {
    let nodes = match section.list("ca_pins") {
        None => return Given::Wrong,
        Some([]) => return Given::Absent,
        Some(nodes) => nodes,
    };
    let pins: Vec<Option<CaPin>> =
        nodes.iter().map(|node| parse_node(node, "ca_pins", source, str::parse::<CaPin>)).collect();
    match pins.into_iter().collect() {
        Some(pins) => Given::Here(pins, section.key("ca_pins").cloned()),
        None => Given::Wrong,
    }
}

/// Of two that exclude each other, the second is the one too many.
fn later<'p>(left: Option<&'p ByteRange>, right: Option<&'p ByteRange>) -> Option<&'p ByteRange> {
    left.into_iter().chain(right).max_by_key(|range| range.start)
}

fn storage(top: &Section<'_>, overrides: &Overrides, source: &Source<'_>) -> Option<Storage> {
    let stated = top.node("storage").map(|node| destination::storage(node, source));
    overrides.storage.clone().or_else(|| {
        stated.unwrap_or_else(|| {
            Some(Storage::Directory(Directory {
                path: DEFAULT_STORAGE.into(),
                symlinks: Symlinks::default(),
                acls: Acls::default(),
            }))
        })
    })
}

fn switch(top: &Section<'_>, key: &str, other: Option<bool>) -> Option<bool> {
    match top.switch(key).or_rather(other) {
        Given::Absent => Some(false),
        given => given.value(),
    }
}

fn lifetime(
    top: &Section<'_>,
    overrides: &Overrides,
    oneshot: Option<bool>,
    source: &Source<'_>,
) -> Option<Lifetime> {
    let old = top.parse("certificate_ttl", go_duration::parse);
    let new = top.parse("credential_ttl", go_duration::parse);
    if !old.is_absent() {
        let range = top.key("certificate_ttl");
        match new.is_absent() {
            true => source.warn(
                range,
                "`certificate_ttl` is the old name of `credential_ttl`",
                "write `credential_ttl`",
            ),
            false => source.error(
                range,
                "`certificate_ttl` and `credential_ttl` are the same",
                "keep `credential_ttl`",
            ),
        }
    }
    let ttl = new.or(old).or_rather(overrides.credential_ttl);
    let interval =
        top.parse("renewal_interval", go_duration::parse).or_rather(overrides.renewal_interval);
    let range = ttl.range().or(interval.range()).cloned();
    let or_default = |given: Given<Duration>| match given {
        Given::Absent => Some(DEFAULT_TTL),
        given => given.value(),
    };
    let renewal = match interval {
        Given::Absent => Renewal::HalfLife,
        // A one-shot run does not renew.
        Given::Here(..) if oneshot == Some(true) => Renewal::HalfLife,
        given => Renewal::Every(given.value()?),
    };
    let lifetime = Lifetime { ttl: or_default(ttl)?, renewal };
    lifetime.check(range.as_ref(), source);
    Some(lifetime)
}

/// `services`, then `outputs` (their old name), then those of the command line.
fn services(
    top: &Section<'_>,
    overrides: &Overrides,
    source: &Source<'_>,
) -> Option<Vec<service::Draft>> {
    let (services, outputs) = (top.list("services"), top.list("outputs"));
    if outputs.is_some_and(|outputs| !outputs.is_empty()) {
        let range = top.key("outputs");
        source.warn(range, "`outputs` is the old name of `services`", "write `services`");
    }
    let plain = overrides
        .services
        .iter()
        .map(|plain| Some(service::Draft::plain(plain.kind, plain.destination.clone())));
    let nodes = services.into_iter().chain(outputs).flatten();
    let drafts: Vec<Option<service::Draft>> =
        nodes.map(|node| service::service(node, source)).chain(plain).collect();
    let drafts = drafts.into_iter().collect::<Option<Vec<_>>>();
    services.and(outputs).and(drafts)
}

fn tpm(top: &Section<'_>, overrides: &Overrides, source: &Source<'_>) -> Option<TpmSettings> {
    let empty = Node::default();
    let section = Section::open(top.node("tpm").unwrap_or(&empty), &TPM, source)?;
    let file = |key: &str, other: &Option<PathBuf>| {
        let file = section.parse(key, path);
        if let Given::Here(path, Some(range)) = &file {
            relative(path, range, source);
        }
        match file.or_rather(other.clone()) {
            Given::Wrong => None,
            given => Some(given.value()),
        }
    };
    let address = section.parse("address", crate::tpm::address).or_rather(overrides.tpm.clone());
    let ek = section.parse("ek", str::parse::<EkChoice>).or_rather(overrides.ek);
    let owner = file("owner_password_file", &overrides.passwords.owner);
    let endorsement = file("endorsement_password_file", &overrides.passwords.endorsement);
    let default = TpmSettings::default();
    Some(TpmSettings {
        address: address.or(Given::Here(default.address, None)).value()?,
        ek: ek.or(Given::Here(default.ek, None)).value()?,
        passwords: PasswordFiles { owner: owner?, endorsement: endorsement? },
    })
}
