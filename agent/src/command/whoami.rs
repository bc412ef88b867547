//! `agent whoami`.

use host::exit::{Exit, Failure};
use host::output::{write, write_json};
use serde::Serialize;

use super::{block_on, status};
use crate::ceremony::client::Client;
use crate::cli::{Format, Whoami};
use crate::config::Trust;
use crate::credential::identity::Identity;
use crate::tpm::passwords::Passwords;
use crate::tpm::thread::{Audience, Meter, TpmThread};

/// What `--format json` prints.
#[derive(Serialize)]
struct Report {
    cluster: String,
    bot: String,
    roles: Vec<String>,
    spiffe_id: String,
    certificate_serial: String,
}

pub(crate) fn run(arguments: &Whoami) -> Result<(), Failure> {
    let identity = status::stored(&arguments.storage.storage)?;
    let passwords = arguments.passwords.read()?;
    let (tpm, _end) = TpmThread::open(&arguments.tpm.tpm, Meter::default(), Audience::Person)?;
    let report = block_on(ask(&identity, tpm, passwords))??;
    match arguments.format {
        Format::Json => write_json(&report),
        Format::Text => write(
            format!(
                "Cluster:   {}\nBot:       {}\nRoles:     {}\nSPIFFE ID: {}\nSerial:    {}\n",
                report.cluster,
                report.bot,
                if report.roles.is_empty() { "none".to_owned() } else { report.roles.join(", ") },
                report.spiffe_id,
                report.certificate_serial
            )
            .as_bytes(),
        ),
    }
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
        spiffe_id: answer.spiffe_id,
        certificate_serial: answer.certificate_serial,
    })
}
