//! An X.509 and an SSH authority in the hands of OpenSSL and ssh-keygen.

use std::fs;
use std::path::{Path, PathBuf};

use agent::config::{Acls, Directory as Place, Reader, Symlinks, X509Files};
use agent::deliver::artifact::{self, Identity, Ssh, X509};
use agent::deliver::destination::{Directory, FileSet};
use agent::keys::{Key, SoftwareKey, spki_der};
use tempfile::TempDir;

use super::{succeed, text};

pub(crate) struct Cluster {
    folder: TempDir,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let cluster = Self { folder: tempfile::tempdir().unwrap() };
        let [ca, key, ssh] = ["ca.pem", "ca.key", "ssh"].map(|name| cluster.path(name));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let ca =
            ["req", "-x509", "-subj", "/O=c.example", "-keyout", text(&key), "-out", text(&ca)];
        succeed("openssl", &[&ca[..], &curve[..]].concat());
        succeed("ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-C", "CA", "-f", text(&ssh)]);
        succeed("chmod", &["755", text(cluster.folder.path())]);
        cluster
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
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
        let authorities = [self.authority()];
        let x509 = X509 { certificates: &certificates, authorities: &authorities };
        artifact::x509(&key, x509, X509Files::Svid).unwrap()
    }

    /// New files of an `identity` service in `folder`, for a principal, signed by an SSH authority.
    pub(crate) fn identity(&self, principal: &str, authority: &str, folder: &Path) -> FileSet {
        let key = SoftwareKey::generate().unwrap();
        let certificates = [self.certificate(&key, principal)];
        let authorities = [self.authority()];
        let line = |path: &Path| fs::read_to_string(path).unwrap().trim().to_owned();
        let public = self.path("user.pub");
        let spki = self.public_pem(&key);
        fs::write(&public, succeed("ssh-keygen", &["-i", "-m", "PKCS8", "-f", text(&spki)]))
            .unwrap();
        let ca = self.path(authority);
        succeed("ssh-keygen", &["-q", "-s", text(&ca), "-I", "x", "-n", principal, text(&public)]);
        let certificate = line(&self.path("user-cert.pub"));
        let ssh_authorities = [line(&self.path("ssh.pub"))];
        let identity = Identity {
            x509: X509 { certificates: &certificates, authorities: &authorities },
            ssh: Ssh { certificate: &certificate, authorities: &ssh_authorities },
            cluster: "c.example",
            authority_host: "localhost",
        };
        artifact::identity(&key, &identity, Some(folder)).unwrap()
    }

    fn authority(&self) -> Vec<u8> {
        let [pem, der] = ["ca.pem", "ca.der"].map(|name| self.path(name));
        succeed("openssl", &["x509", "-in", text(&pem), "-outform", "DER", "-out", text(&der)]);
        fs::read(der).unwrap()
    }

    fn certificate(&self, key: &SoftwareKey, name: &str) -> Vec<u8> {
        let [ca, ca_key, extensions, leaf] =
            ["ca.pem", "ca.key", "ext", "leaf.der"].map(|name| self.path(name));
        let public = self.public_pem(key);
        fs::write(&extensions, "subjectAltName = DNS:localhost\n").unwrap();
        let subject = format!("/CN={name}");
        let issue = ["x509", "-new", "-force_pubkey", text(&public), "-subj", &subject];
        let by = ["-CA", text(&ca), "-CAkey", text(&ca_key), "-extfile", text(&extensions)];
        let to = ["-outform", "DER", "-out", text(&leaf)];
        succeed("openssl", &[&issue[..], &by[..], &to[..]].concat());
        fs::read(leaf).unwrap()
    }

    fn public_pem(&self, key: &SoftwareKey) -> PathBuf {
        let [der, pem] = ["public.der", "public.pem"].map(|name| self.path(name));
        fs::write(&der, spki_der(&key.public()).unwrap()).unwrap();
        let convert = ["pkey", "-pubin", "-inform", "DER", "-in", text(&der), "-out", text(&pem)];
        succeed("openssl", &convert);
        pem
    }
}
