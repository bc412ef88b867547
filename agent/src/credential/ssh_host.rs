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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use tempfile::TempDir;

    use super::*;
    use crate::keys::SoftwareKey;

    const NOW: u64 = 1_800_000_000;

    /// An authority, and what it has issued for a key.
    struct Cluster {
        directory: TempDir,
        key: SoftwareKey,
    }

    impl Cluster {
        fn new() -> Self {
            let cluster = Self {
                directory: tempfile::tempdir().unwrap(),
                key: SoftwareKey::generate().unwrap(),
            };
            cluster.keygen(&["-t", "ecdsa", "-N", "", "-f", "ca"]);
            cluster
        }

        fn keygen(&self, arguments: &[&str]) {
            let mut command = Command::new("ssh-keygen");
            let made = command.arg("-q").args(arguments).current_dir(&self.directory).output();
            let made = made.unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }

        fn read(&self, name: &str) -> String {
            fs::read_to_string(self.directory.path().join(name)).unwrap().trim().to_owned()
        }

        /// A certificate for the names a and b, or by these options.
        fn issued(&self, options: &[&str]) -> UnverifiedHost {
            let line = key::line(&key::blob(&self.key.public())).unwrap();
            fs::write(self.directory.path().join("k.pub"), line).unwrap();
            self.keygen(&[&["-s", "ca", "-I", "x"], options, &["k.pub"]].concat());
            UnverifiedHost {
                certificate: self.read("k-cert.pub"),
                host_cas: vec![self.read("ca.pub")],
                user_cas: vec![self.read("ca.pub")],
            }
        }
    }

    const VALID: [&str; 5] = ["-h", "-n", "a,b", "-V", "20260101000000Z:20300101000000Z"];

    #[test]
    fn certificate_for_key_and_names_is_accepted() {
        let cluster = Cluster::new();
        let names = ["a".to_owned(), "b".to_owned()];
        let issued = cluster.issued(&VALID);
        let verified = HostCredentials::verify(issued.clone(), &cluster.key, &names, NOW).unwrap();
        assert_eq!(
            verified.validity,
            Validity { not_before: 1_767_225_600, not_after: 1_893_456_000 }
        );
        assert_eq!(verified.certificate, issued.certificate);
    }

    #[test]
    fn what_a_client_would_not_accept_is_refused() {
        let (cluster, other) = (Cluster::new(), Cluster::new());
        let names = ["a".to_owned(), "b".to_owned()];
        let refused = |issued, names: &[String]| {
            HostCredentials::verify(issued, &cluster.key, names, NOW).unwrap_err()
        };
        let valid = cluster.issued(&VALID);
        let ca = other.read("ca.pub");
        for (issued, why) in [
            (cluster.issued(&["-n", "a,b"]), "not a host certificate"),
            (cluster.issued(&["-h", "-n", "a"]), "for other names"),
            (cluster.issued(&["-h"]), "for other names"),
            (cluster.issued(&["-h", "-n", "a,b", "-V", "20260101:20260102"]), "has expired"),
            (cluster.issued(&["-h", "-n", "a,b", "-V", "20290101:20300101"]), "not valid yet"),
            (other.issued(&VALID), "for another key"),
            (UnverifiedHost { host_cas: vec![ca], ..valid.clone() }, "from an unknown CA"),
            (UnverifiedHost { user_cas: vec![], ..valid.clone() }, "no SSH CA"),
            (UnverifiedHost { user_cas: vec!["x\ny".into()], ..valid.clone() }, "a valid line"),
            (UnverifiedHost { certificate: String::new(), ..valid.clone() }, "a valid line"),
            (cluster.issued(&["-h", "-n", "a,b"]), "without end"),
        ] {
            let said = refused(issued, &names);
            assert!(said.contains(why), "{why}: {said}");
        }
        assert!(refused(valid, &names[..1]).contains("for other names"));
    }
}
