//! Which services keep their keys in the TPM, and what the kernel has for attesting callers.

use std::os::unix::net::UnixStream;

use super::{Check, Topic};
use crate::attest::kernel::has_peer_pidfd;
use crate::config::{self, KeyStorage, Settings};
use crate::file_access;
use crate::storage::Storage;

/// What the configuration has services for.
pub(super) fn examine(settings: &Settings) -> Vec<Check> {
    let mut checks: Vec<Check> = keys(settings).into_iter().collect();
    if !settings.workload_apis.is_empty() {
        checks.push(attestation());
    }
    checks
}

/// The services whose keys are in the TPM; `None` if there is no such service.
fn keys(settings: &Settings) -> Option<Check> {
    let services = settings.services.iter();
    let in_tpm = services.filter(|service| service.key_storage == KeyStorage::Tpm);
    let names: Vec<&str> = in_tpm.map(|service| service.name.as_str()).collect();
    if names.is_empty() {
        return None;
    }
    let created = match &settings.storage {
        config::Storage::Memory => Vec::new(),
        config::Storage::Directory(directory) => {
            let (path, name) = (directory.path.clone(), directory.path.display().to_string());
            let list = move || Ok(Storage::services_with_tpm_key(&path));
            match file_access::limited(name, list) {
                Ok(created) => created,
                Err(failure) => return Some(Check::fail(Topic::ServiceKeys, failure)),
            }
        }
    };
    let shown = |name: &&str| match created.iter().any(|created| created == name) {
        true => (*name).to_owned(),
        false => format!("{name} (not created yet)"),
    };
    let names: Vec<String> = names.iter().map(shown).collect();
    Some(Check::ok(Topic::ServiceKeys, format!("in the TPM: {}", names.join(", "))))
}

fn attestation() -> Check {
    let asked = UnixStream::pair().and_then(|(socket, _)| has_peer_pidfd(&socket));
    Check::ok(
        Topic::Attestation,
        match asked {
            Ok(true) => "the kernel holds each caller for the agent (SO_PEERPIDFD)".to_owned(),
            Ok(false) => {
                "the kernel has no SO_PEERPIDFD (Linux 6.5): the agent finds each caller by its process ID, and checks \
                 again that it is the same"
                    .to_owned()
            }
            Err(error) => format!("it is not known whether the kernel has SO_PEERPIDFD: {error}"),
        },
    )
}
