//! The configuration file as a whole, with its overrides.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use host::config::finding::{Findings, Source};
use host::config::section::{Given, Keys, Section};
use host::config::tree::{self, Node};
use host::go_duration;
use host::log::LogFormat;

use super::accounts::{self, NamedAccount};
use super::address::listener;
use super::files::{self, NamedFile};
use super::onboarding::{authorities, join_uri, onboarding};
use super::overrides::{Overrides, PlainService};
use super::protocol::Protocol;
use super::settings::{
    Acls, DEFAULT_STORAGE, DEFAULT_TTL, Directory, Lifetime, Renewal, Settings, Storage, Symlinks,
};
use super::tpm::tpm;
use super::{destination, service};

/// A valid configuration with its warnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What it says.
    pub settings: Settings,
    /// The warnings.
    pub warnings: Findings,
    /// The files it refers to, not yet checked: [`NamedFile::look`].
    pub files: Vec<NamedFile>,
    /// The users and groups that services name, which this host need not have.
    pub accounts: Vec<NamedAccount>,
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
        ("oneshot", "join or renew what is due, write all credentials, and exit"),
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
            let accounts = accounts::named(&root, &source);
            Ok(Loaded { settings, warnings: source.findings(), files, accounts })
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
    let services = service::complete(drafts?, lifetime, &storage, oneshot == Some(true), source);
    let (trust, token, protocol) = onboarding?;
    if protocol == Some(Protocol::Teleport) {
        without_services(services.as_ref(), &top, source);
    }
    let services = services?;
    Some(Settings {
        authorities: authorities?,
        server: server?,
        trust,
        protocol,
        token,
        storage,
        services: services.files,
        workload_apis: services.workload_apis,
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

/// What services need of a Teleport cluster, a host only gets as an agent of Teleport.
fn without_services(services: Option<&service::Services>, top: &Section<'_>, source: &Source<'_>) {
    let range = top.key("services").or_else(|| top.key("outputs"));
    let Some(services) = services else { return };
    let files = services.files.iter().map(|service| (&service.name, service.kind.name()));
    let apis = services.workload_apis.iter().map(|api| (&api.name, "workload-identity-api"));
    for (name, kind) in files.chain(apis) {
        source.error(
            range,
            format!("a Teleport cluster cannot issue the {kind} service {name} to this agent"),
            "remove it: with `protocol: teleport` the agent keeps the bot's own identity only",
        );
    }
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
) -> Option<Vec<service::Item>> {
    let (services, outputs) = (top.list("services"), top.list("outputs"));
    if outputs.is_some_and(|outputs| !outputs.is_empty()) {
        let range = top.key("outputs");
        source.warn(range, "`outputs` is the old name of `services`", "write `services`");
    }
    let plain = overrides.services.iter().map(|plain| {
        let PlainService { kind, destination } = plain.clone();
        Some(service::Item::Files(service::Draft::plain(kind, destination)))
    });
    let nodes = services.into_iter().chain(outputs).flatten();
    let drafts: Vec<Option<service::Item>> =
        nodes.map(|node| service::service(node, source)).chain(plain).collect();
    let drafts = drafts.into_iter().collect::<Option<Vec<_>>>();
    services.and(outputs).and(drafts)
}
