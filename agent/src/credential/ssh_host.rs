//! An SSH host certificate, and who logs in to the host.

use crate::credential::MAX_SSH_CAS;
use crate::credential::validity::Validity;
use crate::keys::Key;
use crate::ssh::certificate::SshCertificate;
use crate::ssh::key;

/// What a host shows its clients, and what it verifies their certificates with.
#[derive(Clone, Debug)]
pub struct HostCredentials {
    /// The certificate, one line of authorized_keys.
    pub certificate: String,
    /// The CAs of users, one line each.
    pub user_cas: Vec<String>,
    /// From when to when the certificate is valid.
    pub validity: Validity,
}

/// What an authority issued for a host, before it is verified.
#[derive(Clone, Debug)]
pub struct UnverifiedHost {
    /// The certificate, one line.
    pub certificate: String,
    /// The CAs of hosts, one line each.
    pub host_cas: Vec<String>,
    /// The CAs of users, one line each.
    pub user_cas: Vec<String>,
}

impl HostCredentials {
    /// Checks that the certificate is of this key and these names, as a client would that trusts the CAs of hosts.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(
        issued: UnverifiedHost,
        key: &dyn Key,
        names: &[String],
        now: u64,
    ) -> Result<Self, String> {
        let UnverifiedHost { certificate, host_cas, user_cas } = issued;
        if [&host_cas, &user_cas].into_iter().any(|cas| cas.is_empty() || cas.len() > MAX_SSH_CAS) {
            return Err("no SSH CA, or too many".into());
        }
        let is_line = |line: &String| {
            line.chars().all(host::terminal::is_printable) && key::of_line(line).is_some()
        };
        if ![&certificate].into_iter().chain(&user_cas).all(is_line) {
            return Err("an SSH key that is not a valid line".into());
        }
        let read = SshCertificate::read(&certificate).ok_or("a malformed SSH certificate")?;
        if read.point != key.public().to_sec1_point(false).as_bytes() {
            return Err("an SSH certificate for another key".into());
        }
        read.verify_host(names, &host_cas, now)
            .map_err(|what| format!("an SSH certificate {what}"))?;
        let validity = validity_of_line(&certificate).ok_or("an SSH certificate without end")?;
        Ok(Self { certificate, user_cas, validity })
    }
}

/// From when to when an SSH certificate is valid, if it has an end.
#[must_use]
pub fn validity_of_line(line: &str) -> Option<Validity> {
    let (not_before, not_after) = SshCertificate::read(line)?.validity()?;
    Some(Validity { not_before, not_after })
}
