//! A CA for X.509 and, by ssh-keygen, two for SSH: of users and of hosts.

use std::fs;
use std::path::{Path, PathBuf};

use agent::config::{Acls, Directory as Place, Reader, Symlinks, X509Files};
use agent::deliver::artifact::{self, Identity, Ssh, X509};
use agent::deliver::destination::{Directory, FileSet};
use agent::keys::{Key, SoftwareKey, spki_der};
use tempfile::TempDir;
use testkit::forge::{Ca, Template, dns_name, named};

use super::{succeed, text};

pub(crate) struct Cluster {
    directory: TempDir,
    ca: Ca,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let seed = directory.path().display().to_string();
        let cluster = Self { ca: Ca::new("c.example").impostor(&seed), directory };
        fs::write(cluster.path("ca.pem"), cluster.ca.root().pem()).unwrap();
        for ca in ["ssh", "ssh-host"].map(|name| cluster.path(name)) {
            succeed("ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-C", "CA", "-f", text(&ca)]);
        }
        succeed("chmod", &["755", text(cluster.directory.path())]);
        cluster
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A directory of the agent's.
    pub(crate) fn directory(&self, name: &str, readers: &[Reader]) -> Directory {
        let path = self.path(name);
        let place = Place { path, symlinks: Symlinks::Secure, acls: Acls::Required };
        Directory::new(place, readers.to_vec())
    }

    /// New files of an `x509` service.
    pub(crate) fn x509(&self, name: &str) -> FileSet {
        let key = SoftwareKey::generate().unwrap();
        let certificates = [self.certificate(&key, name)];
        let cas = [self.authority()];
        let x509 = X509 { certificates: &certificates, cas: &cas };
        artifact::x509(&key, x509, X509Files::Tbot).unwrap()
    }

    /// New files of an `identity` service in `directory`, for a principal, signed by an SSH authority.
    pub(crate) fn identity(&self, principal: &str, authority: &str, directory: &Path) -> FileSet {
        let key = SoftwareKey::generate().unwrap();
        let certificates = [self.certificate(&key, principal)];
        let cas = [self.authority()];
        let line = |path: &Path| fs::read_to_string(path).unwrap().trim().to_owned();
        let public = self.path("user.pub");
        let spki = self.public_pem(&key);
        fs::write(&public, succeed("ssh-keygen", &["-i", "-m", "PKCS8", "-f", text(&spki)]))
            .unwrap();
        let ca = self.path(authority);
        succeed("ssh-keygen", &["-q", "-s", text(&ca), "-I", "x", "-n", principal, text(&public)]);
        let certificate = line(&self.path("user-cert.pub"));
        let host_cas = [line(&self.path("ssh-host.pub"))];
        let identity = Identity {
            x509: X509 { certificates: &certificates, cas: &cas },
            ssh: Ssh { certificate: &certificate, host_cas: &host_cas },
            cluster: "c.example",
            authority_host: "localhost",
        };
        artifact::identity(&key, &identity, Some(directory)).unwrap()
    }

    fn authority(&self) -> Vec<u8> {
        self.ca.root().der()
    }

    fn certificate(&self, key: &SoftwareKey, name: &str) -> Vec<u8> {
        let spki = spki_der(&key.public()).unwrap();
        let template = Template::new(named(name), spki, vec![dns_name("localhost")]);
        template.issued_by(&self.ca).der()
    }

    fn public_pem(&self, key: &SoftwareKey) -> PathBuf {
        let [der, pem] = ["public.der", "public.pem"].map(|name| self.path(name));
        fs::write(&der, spki_der(&key.public()).unwrap()).unwrap();
        let convert = ["pkey", "-pubin", "-inform", "DER", "-in", text(&der), "-out", text(&pem)];
        succeed("openssl", &convert);
        pem
    }
}
