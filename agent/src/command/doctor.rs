//! `agent doctor`.

use host::clock;
use host::exit::Failure;
use host::output::{write, write_json};

use super::block_on;
use crate::cli::{Doctor, Format};
use crate::config::Overrides;
use crate::doctor::{self, Configured};
use crate::tpm::passwords::PasswordFiles;

pub(crate) fn run(arguments: &Doctor) -> Result<(), Failure> {
    let path = arguments.file.path();
    // No file was given, and the default one does not exist: this host has no agent yet.
    let configured = if arguments.file.config.is_none() && !path.exists() {
        Configured::Nothing
    } else {
        Configured::of(path, arguments.file.load_in_time(&Overrides::default()))
    };
    let mut tpm = configured.settings().map(|settings| settings.tpm.clone()).unwrap_or_default();
    let Doctor { tpm: address, passwords, .. } = arguments;
    tpm.address = address.clone().unwrap_or(tpm.address);
    tpm.passwords = PasswordFiles {
        owner: passwords.owner.clone().or(tpm.passwords.owner),
        endorsement: passwords.endorsement.clone().or(tpm.passwords.endorsement),
    };
    let examined = doctor::examine(&tpm, &configured, clock::now().unix_timestamp());
    let report = block_on(examined)?;
    match arguments.format {
        Format::Json => write_json(&report)?,
        Format::Text => write(report.to_string())?,
    }
    report.failure().map_or(Ok(()), Err)
}
