//! Other people's programs read what we write.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use testkit::forge::{Ca, Template, named};

use super::*;
use crate::keys::{SoftwareKey, spki_der};

fn run(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(directory).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A cluster, and what it issued for a key.
struct Cluster {
    directory: TempDir,
    key: SoftwareKey,
    certificates: Vec<Vec<u8>>,
    cas: Vec<Vec<u8>>,
    ssh_certificate: String,
    ssh_host_cas: Vec<String>,
}

impl Cluster {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let key = SoftwareKey::generate().unwrap();
        fs::write(at.join("leaf.key"), key.to_pem().unwrap().as_slice()).unwrap();
        let ca = Ca::new("c.example");
        let spki = spki_der(&key.public()).unwrap();
        let leaf = Template::new(named("x"), spki, Vec::new()).issued_by(&ca);
        for (ca, comment) in [("ssh", "c.example SSH CA"), ("ssh-host", "c.example SSH host CA")] {
            run(at, "ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-C", comment, "-f", ca]);
        }
        fs::write(at.join("leaf.pub"), openssh::public_key(&key.public())).unwrap();
        run(at, "ssh-keygen", &["-q", "-s", "ssh", "-I", "bot-x", "-n", "bot-x", "leaf.pub"]);
        let line = |name: &str| fs::read_to_string(at.join(name)).unwrap().trim().to_owned();
        Self {
            certificates: vec![leaf.der()],
            cas: vec![ca.root().der()],
            ssh_certificate: line("leaf-cert.pub"),
            ssh_host_cas: vec![line("ssh-host.pub")],
            directory,
            key,
        }
    }

    fn x509(&self) -> X509<'_> {
        X509 { certificates: &self.certificates, cas: &self.cas }
    }

    fn identity(&self) -> Identity<'_> {
        let ssh = Ssh { certificate: &self.ssh_certificate, host_cas: &self.ssh_host_cas };
        let x509 = self.x509();
        Identity { x509, ssh, cluster: "c.example", authority_host: "auth.example" }
    }
}

fn write(set: &FileSet, directory: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for (name, content) in set.iter() {
        fs::write(directory.join(name), content).unwrap();
        fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn openssl_verifies_the_files_of_x509() {
    let cluster = Cluster::new();
    let at = cluster.directory.path();
    for (files, [certificate, key, cas]) in [
        (X509Files::Tbot, ["svid.pem", "svid.key", "bundle.pem"]),
        (X509Files::Kubernetes, ["tls.crt", "tls.key", "ca.crt"]),
        (X509Files::SpiffeHelper, ["svid.pem", "svid_key.pem", "svid_bundle.pem"]),
        (X509Files::Nginx, ["fullchain.pem", "privkey.pem", "ca.pem"]),
    ] {
        let set = x509(&cluster.key, cluster.x509(), files).unwrap();
        assert_eq!(set.iter().count(), 3);
        write(&set, at);
        run(at, "openssl", &["verify", "-CAfile", cas, certificate]);
        let of_key = run(at, "openssl", &["pkey", "-in", key, "-pubout"]);
        let of_certificate = run(at, "openssl", &["x509", "-in", certificate, "-pubkey", "-noout"]);
        assert_eq!(of_key, of_certificate);
    }
}

#[test]
fn openssh_reads_the_files_of_identity() {
    let cluster = Cluster::new();
    let at = cluster.directory.path().join("a % b");
    fs::create_dir(&at).unwrap();
    let set = identity(&cluster.key, &cluster.identity(), Some(&at)).unwrap();
    let names: Vec<_> = set.iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "identity",
            "key",
            "key-cert.pub",
            "key.pub",
            "known_hosts",
            "ssh_config",
            "teleport-database-ca.crt",
            "teleport-host-ca.crt",
            "teleport-user-ca.crt",
            "tlscert",
        ]
    );
    write(&set, &at);
    run(&at, "openssl", &["verify", "-CAfile", "teleport-host-ca.crt", "tlscert"]);
    let public = run(&at, "ssh-keygen", &["-y", "-f", "key"]);
    assert_eq!(public.trim(), fs::read_to_string(at.join("key.pub")).unwrap().trim());
    let shown = run(&at, "ssh-keygen", &["-L", "-f", "key-cert.pub"]);
    assert!(shown.contains("Key ID: \"bot-x\""), "{shown}");
    for host in ["auth.example", "c.example", "db.c.example"] {
        let found = run(&at, "ssh-keygen", &["-F", host, "-f", "known_hosts"]);
        assert!(found.contains("line 1 CA"), "{found}");
    }
    let known = fs::read_to_string(at.join("known_hosts")).unwrap();
    let ssh: Vec<_> = cluster.ssh_host_cas[0].split(' ').take(2).collect();
    let hosts = "auth.example,c.example,*.c.example";
    assert_eq!(known, format!("@cert-authority {hosts} {} type=host\n", ssh.join(" ")));
    let config = run(&at, "ssh", &["-G", "-F", "ssh_config", "db.c.example"]);
    let directory = at.to_str().unwrap().replace('%', "%%");
    for line in [
        format!("identityfile {directory}/key"),
        format!("certificatefile {directory}/key-cert.pub"),
        "identitiesonly yes".to_owned(),
    ] {
        assert!(config.lines().any(|have| have == line), "{line} in {config}");
    }
}

#[test]
fn one_file_has_everything_in_the_order_that_its_readers_expect() {
    let cluster = Cluster::new();
    let set = identity(&cluster.key, &cluster.identity(), None).unwrap();
    assert!(set.content("ssh_config").is_none() && set.content("known_hosts").is_none());
    let text = std::str::from_utf8(set.content("identity").unwrap()).unwrap();
    let heads: Vec<_> = text
        .lines()
        .filter(|line| line.contains(' ') && !line.starts_with("-----END"))
        .filter_map(|line| line.split(' ').next_back().map(|last| (&line[..11], last)))
        .map(|(head, last)| if head.starts_with('-') { last } else { head })
        .collect();
    assert_eq!(
        heads,
        ["KEY-----", "ecdsa-sha2-", "CERTIFICATE-----", "@cert-autho", "CERTIFICATE-----"]
    );
}

#[test]
fn certificates_of_another_key_are_refused() {
    let (cluster, other) = (Cluster::new(), SoftwareKey::generate().unwrap());
    let failure = x509(&other, cluster.x509(), X509Files::Tbot).unwrap_err();
    assert_eq!(failure.exit, Exit::Data);
    assert!(failure.message.ends_with("a certificate for another key"), "{failure}");
    check_ssh(&other, cluster.identity().ssh).unwrap_err();
    let none = X509 { certificates: &[], ..cluster.x509() };
    x509(&cluster.key, none, X509Files::Tbot).unwrap_err();
    let none = X509 { cas: &[], ..cluster.x509() };
    x509(&cluster.key, none, X509Files::Tbot).unwrap_err();
    let damaged = vec![cluster.certificates[0][..200].to_vec()];
    let damaged = X509 { certificates: &damaged, ..cluster.x509() };
    x509(&cluster.key, damaged, X509Files::Tbot).unwrap_err();
}

#[test]
fn host_names_cannot_widen_the_scope_of_the_ssh_cas() {
    let cluster = Cluster::new();
    for name in ["", "*", "a,b", "a b", "a\n* x", "a\tb", "!a", "a?"] {
        for identity in [
            Identity { cluster: name, ..cluster.identity() },
            Identity { authority_host: name, ..cluster.identity() },
        ] {
            super::identity(&cluster.key, &identity, None).unwrap_err();
        }
    }
    let lines = vec![format!("{}\n* x", cluster.ssh_host_cas[0])];
    let ssh = Ssh { host_cas: &lines, ..cluster.identity().ssh };
    identity(&cluster.key, &Identity { ssh, ..cluster.identity() }, None).unwrap_err();
    for path in ["/a\"b", "/a\nb", "/a\\b", "/${HOME}"] {
        let failure = identity(&cluster.key, &cluster.identity(), Some(Path::new(path)));
        assert_eq!(failure.unwrap_err().exit, Exit::Config, "{path:?}");
    }
}
