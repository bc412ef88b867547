//! The public keys of the CAs in files of the cluster's directory, for programs that trust them.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use der::pem::LineEnding;
use host::bounded;
use host::exit::{Exit, Failure};
use tls::CaPin;
use tracing::{info, warn};

use crate::data_directory::{open_own, replace_private};
use crate::issue::{Keys, SshCa};

/// The X.509 CAs, PEM.
const X509: &str = "x509-ca.pem";
/// The SSH CAs of users, a line of authorized_keys each.
const SSH: &str = "ssh-ca.pub";
/// The SSH CAs of hosts, likewise.
const SSH_HOST: &str = "ssh-host-ca.pub";

/// Bytes of one of these files.
const MAX_FILE: u64 = 64 * 1024;

const CERTIFICATE: &str = "CERTIFICATE";

/// The files in a directory.
#[derive(Debug, Clone)]
pub(super) struct PublicFiles(PathBuf);

/// What a file is to hold: the IDs of the keys in order, and its text.
struct Wanted {
    name: &'static str,
    ids: Vec<String>,
    text: String,
    ids_in: fn(&str) -> Option<Vec<String>>,
}

impl PublicFiles {
    pub(super) fn of(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// Makes the files hold what peers are to trust now. A file that has these keys is left as it is.
    ///
    /// # Errors
    /// A file cannot be read or written, or has a key that never was a CA of the cluster: programs may trust it.
    pub(super) fn update(
        &self,
        keys: &Keys,
        is_known: impl Fn(&str) -> bool,
    ) -> Result<(), Failure> {
        for wanted in wanted(keys)? {
            let path = self.0.join(wanted.name);
            let failed =
                |cause: io::Error| Failure::io(&cause, format!("cannot use {}", path.display()));
            let file = match open_own(&path, OpenOptions::new().read(true)) {
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                    replace_private(&path, wanted.text.as_bytes()).map_err(failed)?;
                    warn!(file = %path.display(), "the file with the public key was missing: written again");
                    continue;
                }
                file => file.map_err(failed)?,
            };
            let found = bounded::read(file, MAX_FILE).map_err(failed)?;
            let found = str::from_utf8(&found).ok().and_then(wanted.ids_in).unwrap_or_default();
            if found.is_empty() || !found.iter().all(|id| is_known(id)) {
                return Err(foreign(&path));
            }
            if found != wanted.ids {
                replace_private(&path, wanted.text.as_bytes()).map_err(failed)?;
                info!(file = %path.display(), "the file with the public keys is up to date again");
            }
        }
        Ok(())
    }

    /// Writes the files after the CAs have changed.
    pub(super) fn replace(&self, keys: &Keys) {
        let written = wanted(keys).map_err(|failure| failure.message).and_then(|files| {
            files.iter().try_for_each(|file| {
                replace_private(&self.0.join(file.name), file.text.as_bytes())
                    .map_err(|cause| format!("{}: {cause}", file.name))
            })
        });
        if let Err(cause) = written {
            warn!(cause, "cannot write the files with the public keys: the next start tries again");
        }
    }

    /// The names and texts of the files.
    pub(super) fn contents(keys: &Keys) -> Result<Vec<(&'static str, String)>, Failure> {
        Ok(wanted(keys)?.into_iter().map(|file| (file.name, file.text)).collect())
    }
}

/// Operators give these files to their SSH servers or clients, which trust each key in them.
fn foreign(path: &Path) -> Failure {
    Failure::new(
        Exit::Data,
        format!("{} holds a key that is not a CA of this cluster", path.display()),
        "remove it, start the authority, which writes it again, and check that your SSH servers have the same key",
    )
}

fn wanted(keys: &Keys) -> Result<[Wanted; 3], Failure> {
    let (mut ids, mut text) = (Vec::new(), String::new());
    for ca in keys.x509.trusted() {
        ids.push(ca.key_id().to_owned());
        let pem = der::pem::encode_string(CERTIFICATE, LineEnding::LF, ca.certificate());
        text.push_str(&pem.map_err(Failure::bug)?);
    }
    let ssh = |name, ring: &crate::issue::Ring<SshCa>| Wanted {
        name,
        ids: ring.trusted().map(|ca| ca.key_id().to_owned()).collect(),
        text: ring.public_keys().iter().map(|line| format!("{line}\n")).collect(),
        ids_in: ids_of_lines,
    };
    let x509 = Wanted { name: X509, ids, text, ids_in: ids_of_certificates };
    Ok([x509, ssh(SSH, &keys.ssh), ssh(SSH_HOST, &keys.ssh_host)])
}

/// The IDs of the keys in lines of authorized_keys; `None` if something else is among them.
fn ids_of_lines(text: &str) -> Option<Vec<String>> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(SshCa::key_id_of).collect()
}

/// The IDs of the keys in certificates; `None` if something else is among them.
fn ids_of_certificates(text: &str) -> Option<Vec<String>> {
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = text.split_inclusive(END).filter(|block| !block.trim().is_empty());
    let id = |block: &str| {
        let (label, der) = der::pem::decode_vec(block.trim().as_bytes()).ok()?;
        let pin = CaPin::of_certificate(&der.into()).ok().filter(|_| label == CERTIFICATE)?;
        Some(pin.to_string().trim_start_matches("sha256:").to_owned())
    };
    blocks.map(id).collect()
}
