//! Checks what a join needs besides the TPM: clock, configuration, storage and authority.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use host::exit::{Exit, Failure};
use rustix::process::geteuid;

use super::{Check, Topic};
use crate::ceremony::client::Client;
use crate::config::{self, LoadError, Loaded, Protocol, Settings, Trust};
use crate::credential::identity::{Identity, rfc3339};
use crate::file_access;
use crate::storage::Storage;

/// A clock before the release of this version, November 2026, is wrong.
const MADE: i64 = 1_793_491_200;

/// What is known of the configuration.
#[derive(Debug)]
pub enum Configured {
    /// No file was given, and the default one does not exist.
    Nothing,
    /// It was read.
    Loaded(Box<Loaded>, String),
    /// It cannot be.
    Unusable(Failure),
}

impl Configured {
    /// From what was tried.
    #[must_use]
    pub fn of(path: &Path, result: Result<Loaded, LoadError>) -> Self {
        match result {
            Ok(loaded) => Self::Loaded(Box::new(loaded), path.display().to_string()),
            Err(error) => Self::Unusable(error.into()),
        }
    }

    /// The settings, if there are any.
    #[must_use]
    pub const fn settings(&self) -> Option<&Settings> {
        match self {
            Self::Loaded(loaded, _) => Some(&loaded.settings),
            _ => None,
        }
    }

    pub(super) fn check(&self) -> Check {
        match self {
            Self::Nothing => Check::skip(
                Topic::Configuration,
                "none; give -c FILE to check storage and authority too",
            ),
            Self::Unusable(failure) => Check::fail(Topic::Configuration, failure.clone()),
            Self::Loaded(loaded, path) if loaded.warnings.is_empty() => {
                Check::ok(Topic::Configuration, format!("{path} is valid"))
            }
            Self::Loaded(loaded, path) => Check::warn(
                Topic::Configuration,
                format!("{path} is valid; {} warnings", loaded.warnings.iter().count()),
                format!("run `agent check -c {path}` to see them"),
            ),
        }
    }
}

/// Whether the host's clock can be right.
pub(super) fn clock(wall: i64) -> Check {
    let now = rfc3339(wall).unwrap_or_default();
    if wall >= MADE {
        return Check::ok(Topic::Clock, format!("the host's clock says {now}"));
    }
    Check::fail(
        Topic::Clock,
        Failure::new(
            Exit::Io,
            format!("the host's clock says {now}, before this program was built"),
            "set the clock (timedatectl): with a wrong clock, valid certificates are rejected",
        ),
    )
}

/// The directory of the identity, and whether that is this TPM's: `keys` are the hashes of its endorsement keys. The identity
/// too, if it can be read.
pub(super) fn storage(
    settings: &Settings,
    keys: &[String],
    wall: i64,
) -> (Check, Option<Identity>) {
    let config::Storage::Directory(directory) = &settings.storage else {
        let check = Check::ok(Topic::Storage, "memory; the agent joins at each start");
        return (check, None);
    };
    let (path, keys) = (directory.path.clone(), keys.to_vec());
    let name = path.display().to_string();
    let look = move || {
        let identity = Storage::identity(&path).ok().flatten();
        Ok((stored_in(&path, &keys, wall), identity))
    };
    let (check, identity) =
        file_access::limited(name, look).unwrap_or_else(|failure| (Err(failure), None));
    (check.unwrap_or_else(|failure| Check::fail(Topic::Storage, failure)), identity)
}

fn stored_in(path: &Path, keys: &[String], wall: i64) -> Result<Check, Failure> {
    let place = path.display();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            return Ok(Check::ok(
                Topic::Storage,
                format!("{place} does not exist yet: a join creates it"),
            ));
        }
        Err(cause) => return Err(Failure::io(&cause, place)),
    };
    let refuse = |what: &str, advice: String| {
        Err(Failure::new(Exit::Permission, format!("{place} {what}"), advice))
    };
    if !metadata.is_dir() {
        return refuse("is not a directory", "give a directory as the storage".into());
    }
    if metadata.mode() & 0o022 != 0 {
        return refuse("is writable by other users", format!("chmod 0700 {place}"));
    }
    let us = geteuid().as_raw();
    if us != 0 && metadata.uid() != us {
        return refuse("belongs to another user", "run as the agent's user".into());
    }
    let Some(identity) = Storage::identity(path)? else {
        return Ok(Check::ok(
            Topic::Storage,
            format!("{place} has no identity yet: the agent will join"),
        ));
    };
    if !keys.is_empty() && !keys.contains(&identity.tpm.ek_public_hash) {
        return Err(Failure::new(
            Exit::Data,
            format!(
                "the identity in {place} belongs to another TPM, with the EK {}",
                identity.tpm.ek_public_hash
            ),
            "remove the directory to join again; the TPM was replaced, or the disk is from another machine",
        ));
    }
    let finding = format!(
        "{place}: bot {} of {}, valid until {}",
        identity.bot, identity.cluster, identity.not_after
    );
    let ended = identity.validity().is_ok_and(|validity| validity.not_after <= wall);
    Ok(if ended {
        let advice = "start the agent, which joins again; `agent status` shows whether it runs";
        Check::warn(Topic::Storage, format!("{finding}: expired"), advice)
    } else {
        Check::ok(Topic::Storage, finding)
    })
}

/// Each of the authority's addresses: whether it is reachable and trusted.
pub(super) async fn authority(
    settings: &Settings,
    identity: Option<&Identity>,
    checks: &mut Vec<Check>,
) {
    for address in &settings.authorities {
        let address = address.to_string();
        checks.push(match reach(&address, settings, identity).await {
            Ok(trust) => Check::ok(
                Topic::Authority,
                format!("{address} is reachable and trusted by {trust}"),
            ),
            Err(failure) => Check::fail(Topic::Authority, failure),
        });
    }
}

/// Reaches an authority as a join would, and as a renewal if that is another way. Returns what it was verified with.
async fn reach(
    address: &str,
    settings: &Settings,
    identity: Option<&Identity>,
) -> Result<String, Failure> {
    let client = Client::new(vec![address.to_owned()], &settings.trust)?.by(settings.protocol);
    let is_public = settings.trust == Trust::SystemRoots;
    let failure = match (client.reach(identity).await, identity) {
        (Ok(trust), Some(identity)) if is_public => {
            return match client.reach_as(identity).await {
                Ok(()) => Ok(format!("{trust}, and by the trust bundle")),
                Err(failure) => Err(not_renewable(failure, identity.protocol)),
            };
        }
        (Ok(trust), _) => return Ok(trust),
        (Err(failure), _) => failure,
    };
    let trusts_more = |identity: &&Identity| {
        let bundle = identity.bundle();
        bundle.is_ok_and(|bundle| !bundle.pins().iter().all(|pin| client.pins().contains(pin)))
    };
    match identity.filter(trusts_more) {
        Some(identity) if client.reach_as(identity).await.is_ok() => Err(Failure {
            message: format!(
                "{}; renewals work, since the trust bundle has its CA",
                failure.message
            ),
            advice: match is_public {
                true => failure.advice,
                false => "add this CA to the configuration: a new join needs it".into(),
            },
            ..failure
        }),
        _ => Err(failure),
    }
}

/// The server has its public name, but is not the authority of the trust bundle.
fn not_renewable(failure: Failure, protocol: Protocol) -> Failure {
    Failure {
        message: format!(
            "a join would trust the server, but a renewal does not: {}",
            failure.message
        ),
        advice: match protocol {
            Protocol::Endorse => format!(
                "let a load balancer in front of the authority pass on TLS, also for the server \
                 name {}; if the authority was replaced, join again",
                tls::AUTHORITY_NAME
            ),
            Protocol::Teleport => {
                "give the address of the Auth Service as `auth_server`: otherwise the host joins \
                 as a new bot instance each time"
                    .to_owned()
            }
        },
        ..failure
    }
}
