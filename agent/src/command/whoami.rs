//! `agent whoami`.

use host::exit::{Exit, Failure};
use host::output::{write, write_json};
use host::terminal::one_line;
use serde::Serialize;

use super::{block_on, status};
use crate::ceremony::client::Client;
use crate::cli::{Format, Whoami};
use crate::config::{Protocol, Trust};
use crate::credential::identity::Identity;
use crate::credential::subject;
use crate::tpm::passwords::Passwords;
use crate::tpm::thread::{Audience, Meter, TpmThread};

/// What `--format json` prints.
#[derive(Serialize)]
struct Report {
    cluster: String,
    bot: String,
    roles: Vec<String>,
    spiffe_id: Option<String>,
    certificate_serial: String,
    source: Source,
}

/// Who says it.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Source {
    /// The authority, of the certificate that it was shown.
    Authority,
    /// The certificate, which the Teleport cluster has accepted.
    Certificate,
}

pub(crate) fn run(arguments: &Whoami) -> Result<(), Failure> {
    let identity = status::stored(&arguments.storage.storage)?;
    let passwords = arguments.passwords.read()?;
    let (tpm, _end) = TpmThread::open(&arguments.tpm.tpm, Meter::default(), Audience::Person)?;
    let report = block_on(async {
        match identity.protocol {
            Protocol::Endorse => ask(&identity, tpm, passwords).await,
            Protocol::Teleport => confirm(&identity, tpm, passwords).await,
        }
    })??;
    match arguments.format {
        Format::Json => write_json(&report),
        Format::Text => write(text(&report)),
    }
}

fn text(report: &Report) -> String {
    let roles = report.roles.join(", ");
    let mut text = format!(
        "Cluster:   {}\nBot:       {}\nRoles:     {}\nSPIFFE ID: {}\nSerial:    {}\n",
        one_line(&report.cluster),
        one_line(&report.bot),
        if roles.is_empty() { "none".to_owned() } else { one_line(&roles) },
        one_line(report.spiffe_id.as_deref().unwrap_or("none")),
        one_line(&report.certificate_serial)
    );
    if matches!(report.source, Source::Certificate) {
        text.push_str("Source:    the certificate, which the Teleport cluster accepts\n");
    }
    text
}

async fn ask(identity: &Identity, tpm: TpmThread, passwords: Passwords) -> Result<Report, Failure> {
    // Pins that were configured since the join are not known here, so the trust bundle counts.
    let pins = identity
        .pins()
        .map_err(|error| Failure::new(Exit::Data, error, "run `agent join` again"))?;
    let client = Client::new(vec![identity.authority.clone()], &Trust::Pins(pins))?;
    let answer = client.authenticate(&tpm, identity, passwords).await?.who_am_i().await?;
    Ok(Report {
        cluster: answer.cluster,
        bot: answer.bot,
        roles: answer.roles,
        spiffe_id: Some(answer.spiffe_id),
        certificate_serial: answer.certificate_serial,
        source: Source::Authority,
    })
}

/// Teleport does not say who a caller is, but whether it accepts the certificate that does.
async fn confirm(
    identity: &Identity,
    tpm: TpmThread,
    passwords: Passwords,
) -> Result<Report, Failure> {
    let damaged = |error: String| Failure::new(Exit::Data, error, "run `agent join` again");
    let trust = match identity.pins().map_err(damaged)? {
        // The host joined through a Proxy, by its public name.
        pins if pins.is_empty() => Trust::SystemRoots,
        pins => Trust::Pins(pins),
    };
    let client = Client::new(vec![identity.authority.clone()], &trust)?;
    client.confirm(&tpm, identity, passwords).await?;
    let leaf = identity.certificates().next().unwrap_or_default();
    let malformed = |what: &str| damaged(format!("the stored identity has {what}"));
    Ok(Report {
        cluster: identity.cluster.clone(),
        bot: identity.bot.clone(),
        roles: subject::roles(leaf).map_err(malformed)?,
        spiffe_id: identity.spiffe_id.clone(),
        certificate_serial: subject::serial(leaf).map_err(malformed)?,
        source: Source::Certificate,
    })
}
