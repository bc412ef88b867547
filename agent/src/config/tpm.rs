//! Which TPM and endorsement key, and where the TPM's passwords are.

use std::path::PathBuf;

use host::config::finding::Source;
use host::config::section::{Given, Keys, Section};
use host::config::tree::Node;

use super::destination::{path, relative};
use super::overrides::Overrides;
use super::settings::TpmSettings;
use crate::tpm::inventory::EkChoice;
use crate::tpm::passwords::PasswordFiles;

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

pub(super) fn tpm(
    top: &Section<'_>,
    overrides: &Overrides,
    source: &Source<'_>,
) -> Option<TpmSettings> {
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
