//! `agent status`.

use std::path::Path;

use host::clock;
use host::exit::{Exit, Failure};
use host::output::{write, write_json};
use host::terminal::one_line;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{block_on, wait};
use crate::cli::{Format, Status};
use crate::credential::identity::{Identity, rfc3339};
use crate::daemon::health;
use crate::file_access;
use crate::storage::Storage;

/// What `--format json` prints.
#[derive(Serialize)]
struct Report<'a> {
    cluster: &'a str,
    bot: &'a str,
    instance: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    spiffe_id: Option<&'a str>,
    protocol: &'a str,
    authority: &'a str,
    /// What authenticated the server of the join; absent if an older agent joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_contact: Option<&'a str>,
    /// The pins of the CAs that authenticate the authority now.
    trust_bundle: Vec<String>,
    token: &'a str,
    ek: &'a str,
    ek_public_hash: &'a str,
    joined: &'a str,
    not_after: &'a str,
    /// Whether the host has a valid identity: the stored one, or the one in use.
    valid: bool,
    /// Until when the identity is valid that a daemon uses and could not store; absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_stored_until: Option<String>,
    /// Services whose keys are in the TPM.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys_in_tpm: Vec<String>,
    /// The health of the agent that runs on this storage; absent if none does.
    daemon: Option<health::Report>,
}

pub(crate) fn run(arguments: &Status) -> Result<(), Failure> {
    let identity = stored(&arguments.storage.storage)?;
    let left = left(&identity, clock::now())?;
    let daemon = block_on(wait::running(&arguments.storage.storage))?;
    let keys_in_tpm = keys_in_tpm(&arguments.storage.storage)?;
    let newer = daemon.as_ref().and_then(|report| newer(report, &identity));
    match arguments.format {
        Format::Json => write_json(&Report {
            cluster: &identity.cluster,
            bot: &identity.bot,
            instance: &identity.instance,
            spiffe_id: identity.spiffe_id.as_deref(),
            protocol: identity.protocol.name(),
            authority: &identity.authority,
            first_contact: identity.first_contact.as_deref(),
            trust_bundle: bundle(&identity),
            token: &identity.token,
            ek: &identity.tpm.ek,
            ek_public_hash: &identity.tpm.ek_public_hash,
            joined: &identity.joined,
            not_after: &identity.not_after,
            valid: left.is_positive() || newer.is_some(),
            not_stored_until: newer,
            keys_in_tpm,
            daemon,
        }),
        Format::Text => {
            let identity = text(&identity, left, newer.as_deref());
            write(identity + &in_tpm(&keys_in_tpm) + &running(daemon.as_ref()))
        }
    }
}

/// The identity, or what to do to have one.
pub(crate) fn stored(directory: &std::path::Path) -> Result<Identity, Failure> {
    Storage::read_identity(directory)?.ok_or_else(|| {
        Failure::new(
            Exit::Config,
            format!("no identity is stored in {}", directory.display()),
            "run `agent join` to create one",
        )
    })
}

fn left(identity: &Identity, now: OffsetDateTime) -> Result<time::Duration, Failure> {
    let end = OffsetDateTime::parse(&identity.not_after, &Rfc3339).map_err(|error| {
        let message =
            format!("the expiry of the stored identity {:?}: {error}", identity.not_after);
        Failure::new(Exit::Data, message, "run `agent join` again")
    })?;
    Ok(end - now)
}

/// Until when the daemon's identity is valid, if it has a newer one than the stored one, which it could not store.
fn newer(report: &health::Report, stored: &Identity) -> Option<String> {
    let not_after = report.services.get(health::IDENTITY)?.not_after?;
    let stored = stored.validity().map_or(i64::MIN, |validity| validity.not_after);
    let is_newer = not_after > stored && not_after > clock::now().unix_timestamp();
    is_newer.then(|| rfc3339(not_after).unwrap_or_default())
}

fn text(identity: &Identity, left: time::Duration, newer: Option<&str>) -> String {
    let state = match (left.is_positive(), newer) {
        (_, Some(newer)) => format!("the daemon has a newer one until {newer}, not stored yet"),
        (true, None) => match left.whole_minutes() {
            1 => "1 more minute".to_owned(),
            minutes => format!("{minutes} more minutes"),
        },
        (false, None) => "expired: join again".to_owned(),
    };
    format!(
        "Cluster:     {}\nBot:         {}\nInstance:    {}\nSPIFFE ID:   {}\nAuthority:   {}\n\
         Trusted by:  {}\nProtocol:    {}\nToken:       {}\nEK:          {} {}\nJoined:      {}\nValid until: {} ({state})\n",
        one_line(&identity.cluster),
        one_line(&identity.bot),
        one_line(&identity.instance),
        one_line(identity.spiffe_id.as_deref().unwrap_or("none")),
        one_line(&identity.authority),
        one_line(&trust(identity)),
        identity.protocol,
        one_line(&identity.token),
        one_line(&identity.tpm.ek),
        one_line(&identity.tpm.ek_public_hash),
        one_line(&identity.joined),
        one_line(&identity.not_after),
    )
}

/// The pins of the CAs that authenticate the authority since the join.
fn bundle(identity: &Identity) -> Vec<String> {
    let pins = identity.bundle().map(|bundle| bundle.pins().to_vec()).unwrap_or_default();
    pins.iter().map(ToString::to_string).collect()
}

fn trust(identity: &Identity) -> String {
    let now = format!("the trust bundle, {}", bundle(identity).join(", "));
    match &identity.first_contact {
        Some(first) => format!("{now}; at the join by {first}"),
        None => now,
    }
}

/// The services whose keys are in the TPM. It ends in time even if the file system hangs.
fn keys_in_tpm(directory: &Path) -> Result<Vec<String>, Failure> {
    let (name, directory) = (directory.display().to_string(), directory.to_owned());
    file_access::limited(name, move || Ok(Storage::services_with_tpm_key(&directory)))
}

fn in_tpm(services: &[String]) -> String {
    match services {
        [] => String::new(),
        services => format!("In the TPM:  the key of {}\n", one_line(&services.join(", "))),
    }
}

/// The daemon's health.
fn running(daemon: Option<&health::Report>) -> String {
    let Some(report) = daemon else {
        return "Daemon:      not running\n".to_owned();
    };
    let mut text = format!("Daemon:      running, {}\n", word(report.status));
    for (name, component) in &report.services {
        let mut line = format!("  {name}: {}", word(component.status));
        if let Some(reason) = &component.reason {
            line.push_str(&format!(" since {}: {reason}", component.updated_at));
        }
        text.push_str(&format!("{}\n", one_line(&line)));
        if let Some(advice) = &component.advice {
            text.push_str(&format!("    {}\n", one_line(advice)));
        }
    }
    text
}

const fn word(status: health::Status) -> &'static str {
    match status {
        health::Status::Initializing => "initializing",
        health::Status::Healthy => "healthy",
        health::Status::Unhealthy => "unhealthy",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_text_from_others_is_escaped_for_the_terminal() {
        let report = serde_json::json!({"status": "unhealthy", "services": {"web": {
            "status": "unhealthy", "updated_at": "\u{1b}c",
            "reason": "a\nDaemon: fine \u{1b}[2J\u{9b}2J\u{202e}", "advice": "b\r\nc"}}});
        let text = running(Some(&serde_json::from_value(report).unwrap()));
        assert_eq!(text.lines().count(), 3, "{text:?}");
        assert!(text.chars().all(|c| host::terminal::is_printable(c) || c == '\n'), "{text:?}");
    }
}
