use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use host::clock;
use tempfile::TempDir;
use testkit::forge::{self, Template, named, oid, purposes};
use tls::CaPin;

use super::cache::{Cache, Certificates, Issued};
use super::identity::Identity;
use super::*;
use crate::config::{
    Destination, KeyRotation, KeyStorage, Lifetime, Renewal, Service, ServiceKind,
    WorkloadIdentity, X509Files,
};
use crate::deliver::files::FileSink;
use crate::keys::{Key, SoftwareKey, spki_der};
use crate::tpm::inventory::{EkChoice, pem};

fn run(directory: &Path, program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).current_dir(directory).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    output.stdout
}

/// A CA for X.509 and, by ssh-keygen, for SSH.
struct Ca {
    x509: forge::Ca,
    ssh: TempDir,
}

impl Ca {
    fn new(name: &str) -> Self {
        let ssh = tempfile::tempdir().unwrap();
        run(ssh.path(), "ssh-keygen", &["-q", "-t", "ecdsa", "-N", "", "-f", "ssh"]);
        Self { x509: forge::Ca::new(name), ssh }
    }

    fn der(&self) -> Vec<u8> {
        self.x509.root().der()
    }

    fn line(&self, file: &str) -> String {
        fs::read_to_string(self.ssh.path().join(file)).unwrap().trim().to_owned()
    }

    fn pin(&self) -> CaPin {
        CaPin::of_certificate(&CertificateDer::from(self.der())).unwrap()
    }

    /// What this CA issues for a key, in an answer that names `bundle`.
    fn issue(&self, key: &SoftwareKey, bundle: &[&Self]) -> Unverified {
        let at = self.ssh.path();
        fs::write(at.join("leaf.key"), key.to_pem().unwrap().as_slice()).unwrap();
        fs::set_permissions(at.join("leaf.key"), Permissions::from_mode(0o600)).unwrap();
        fs::write(at.join("leaf.pub"), run(at, "ssh-keygen", &["-y", "-f", "leaf.key"])).unwrap();
        run(at, "ssh-keygen", &["-q", "-s", "ssh", "-I", "b", "-n", "b", "leaf.pub"]);
        let spki = spki_der(&key.public()).unwrap();
        let extensions =
            vec![forge::uri("spiffe://c.example/bot/b"), purposes(&[oid::CLIENT_AUTH])];
        let leaf = Template::new(named("b"), spki, extensions).issued_by(&self.x509);
        Unverified {
            certificates: vec![leaf.der()],
            x509_cas: bundle.iter().map(|ca| ca.der()).collect(),
            ssh_certificate: self.line("leaf-cert.pub"),
            ssh_cas: bundle.iter().map(|ca| ca.line("ssh.pub")).collect(),
            ..unverified("b")
        }
    }
}

/// What is issued to a bot of this name, without any certificate.
fn unverified(bot: &str) -> Unverified {
    Unverified {
        protocol: Protocol::Endorse,
        names: Names {
            cluster: "c.example".into(),
            bot: bot.into(),
            instance: "i".into(),
            generation: 1,
        },
        certificates: Vec::new(),
        x509_cas: Vec::new(),
        ssh_certificate: String::new(),
        ssh_cas: Vec::new(),
        ssh_host_cas: Vec::new(),
        trust_version: 0,
    }
}

/// A CA is replaced in two steps, and a host follows each of them: the bundle that it has vouches for the next one.
#[test]
fn bundle_is_followed_from_one_ca_to_the_next() {
    let [a, b] = ["a", "b"].map(Ca::new);
    let key = SoftwareKey::generate().unwrap();
    let verify = |issued, trusted: &[CaPin]| {
        Credentials::verify(issued, &key.public(), Voucher::ClusterCas(trusted), clock::unix_now())
            .map(|credentials| credentials.bundle)
    };
    let at_the_join = verify(a.issue(&key, &[&a]), &[a.pin()]).unwrap();
    let prepared = verify(a.issue(&key, &[&a, &b]), at_the_join.pins()).unwrap();
    assert_eq!(prepared.pins(), [a.pin(), b.pin()]);
    let changed = verify(b.issue(&key, &[&a, &b]), prepared.pins()).unwrap();
    let replaced = verify(b.issue(&key, &[&b]), changed.pins()).unwrap();
    assert_eq!(replaced.pins(), [b.pin()]);
}

#[test]
fn bundle_that_nothing_vouches_for_is_refused() {
    let [a, b, c] = ["a", "b", "c"].map(Ca::new);
    let key = SoftwareKey::generate().unwrap();
    let refused = |issued| {
        let trusted = [a.pin(), b.pin()];
        let refused = Credentials::verify(
            issued,
            &key.public(),
            Voucher::ClusterCas(&trusted),
            clock::unix_now(),
        );
        refused.unwrap_err().message
    };
    let unknown = refused(c.issue(&key, &[&c]));
    assert!(unknown.ends_with("only X.509 CAs that this host does not trust"), "{unknown}");
    // The bundle is good, but not of the CA that has issued.
    let foreign = refused(c.issue(&key, &[&a, &b]));
    assert!(foreign.contains("UnknownIssuer"), "{foreign}");
    let many = refused(Unverified { ssh_cas: Vec::new(), ..a.issue(&key, &[&a; 17]) });
    assert!(many.ends_with("too many X.509 CAs"), "{many}");
}

/// A server that names no SSH CA of hosts has one list for both.
#[test]
fn hosts_are_verified_with_the_ssh_cas_of_hosts_if_the_server_names_them() {
    let ca = Ca::new("a");
    let key = SoftwareKey::generate().unwrap();
    let verify = |hosts: &[&str]| {
        let ssh_host_cas = hosts.iter().map(|line| (*line).to_owned()).collect();
        let issued = Unverified { ssh_host_cas, ..ca.issue(&key, &[&ca]) };
        Credentials::verify(
            issued,
            &key.public(),
            Voucher::ClusterCas(&[ca.pin()]),
            clock::unix_now(),
        )
    };
    assert_eq!(verify(&["ssh-ed25519 AAAA"]).unwrap().ssh_host_cas(), ["ssh-ed25519 AAAA"]);
    assert_eq!(verify(&[]).unwrap().ssh_host_cas(), [ca.line("ssh.pub")]);
    let lines = verify(&["ssh-ed25519 AAAA\n* x"]).unwrap_err().message;
    assert!(lines.ends_with("an SSH key with a line break"), "{lines}");
    let many = verify(&["ssh-ed25519 AAAA"; 17]).unwrap_err().message;
    assert!(many.ends_with("too many SSH CAs"), "{many}");
}

#[test]
fn first_bundle_over_a_connection_to_a_public_name_is_accepted() {
    let [a, b] = ["a", "b"].map(Ca::new);
    let key = SoftwareKey::generate().unwrap();
    let verify =
        |issued| Credentials::verify(issued, &key.public(), Voucher::PublicName, clock::unix_now());
    assert_eq!(verify(a.issue(&key, &[&a])).unwrap().bundle.pins(), [a.pin()]);
    // What was issued has to be of that bundle.
    let foreign = verify(a.issue(&key, &[&b])).unwrap_err().message;
    assert!(foreign.contains("UnknownIssuer"), "{foreign}");
    let none = verify(a.issue(&key, &[])).unwrap_err().message;
    assert!(none.ends_with("no X.509 CA"), "{none}");
}

/// Files are written from the cache, and another sink that watches it is woken by the same credentials.
#[test]
fn published_credentials_reach_the_files_and_every_watch() {
    let (ca, key) = (Ca::new("a"), SoftwareKey::generate().unwrap());
    let issued = ca.issue(&key, &[&ca]);
    let now = clock::unix_now();
    let credentials =
        Credentials::verify(issued, &key.public(), Voucher::ClusterCas(&[ca.pin()]), now).unwrap();
    let service = Service {
        name: "web".parse().unwrap(),
        kind: ServiceKind::X509 {
            files: X509Files::Tbot,
            identity: WorkloadIdentity::default(),
            key_rotation: KeyRotation::Always,
        },
        destination: Destination::Memory,
        key_storage: KeyStorage::Software,
        lifetime: Lifetime { ttl: Duration::from_secs(3600), renewal: Renewal::HalfLife },
        reload: None,
    };
    let cache = Cache::default();
    let sink = FileSink::new(&service, "auth.example", cache.watch(&service.name), &[]);
    let mut other = cache.watch(&service.name);
    assert_eq!(sink.files().unwrap_err().exit, Exit::Bug);

    let validity = credentials.validity;
    let key: Arc<dyn Key> = Arc::new(key);
    let issued = Issued::Certificates {
        key: Arc::clone(&key),
        certificates: Certificates::Bot(Box::new(credentials)),
        cluster: "c.example".into(),
    };
    cache.publish(&service.name, issued);
    assert!(other.has_changed().unwrap());
    let files = sink.files().unwrap();
    let seen = other.borrow_and_update().clone().unwrap();
    let Issued::Certificates { certificates, .. } = &*seen else { panic!("{seen:?}") };
    let certificate = files.content("svid.pem").unwrap();
    let issued = pem("CERTIFICATE", &certificates.x509()[0]).unwrap();
    assert_eq!(issued.as_bytes(), certificate);
    assert_eq!(files.content("svid.key").unwrap(), key.to_pem().unwrap().as_slice());
    sink.write(&files, &mut |_, _| {}).unwrap();
    assert_eq!(sink.validity().unwrap(), Some(validity));

    cache.keep_only([].into_iter());
    assert!(other.has_changed().is_err(), "the service is gone");
}

/// A configuration with another pin asks for another identity, unless the host has been brought from the CA of its pin to
/// others by its bundle.
#[test]
fn pins_ask_for_another_identity_only_if_one_was_taken_away() {
    let [a, b, c] = ["a", "b", "c"].map(Ca::new);
    let stored = |pins: &[&Ca], bundle: &[&Ca]| {
        let text = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/identity/joined"));
        let mut json: serde_json::Value = serde_json::from_slice(&text.unwrap()).unwrap();
        let bundle = bundle.iter().map(|ca| Base64::encode_string(&ca.der()));
        json["x509_authorities"] = bundle.collect();
        json["ca_pins"] = pins.iter().map(|ca| ca.pin().to_string()).collect();
        Identity::from_json(&json.to_string()).unwrap()
    };
    let departs = |identity: &Identity, pins: &[&Ca]| {
        let pins: Vec<_> = pins.iter().map(|ca| ca.pin()).collect();
        identity.mismatch(None, &pins, EkChoice::Auto, None).is_some()
    };
    let joined = stored(&[&a, &c], &[&a]);
    assert!(!departs(&joined, &[&a]) && !departs(&joined, &[&a, &b]) && departs(&joined, &[&c]));
    let replaced = stored(&[&a], &[&b]);
    assert!(!departs(&replaced, &[&a]) && !departs(&replaced, &[&a, &c]));
    assert!(!departs(&replaced, &[&b]) && departs(&replaced, &[&c]));
    // Joined by a public name: pins that are configured later have to be of the cluster.
    let public = stored(&[], &[&a]);
    assert!(!departs(&public, &[]) && !departs(&public, &[&a]) && departs(&public, &[&c]));
    assert_eq!(public.trusted(&[]).unwrap(), [a.pin()]);
    // And the other way round: without pins any cluster is accepted.
    assert!(!departs(&joined, &[]) && !departs(&replaced, &[]));
    // The pin of a CA that the bundle has left behind vouches for nothing any more; a pin that is new does.
    assert_eq!(replaced.trusted(&[a.pin()]).unwrap(), [b.pin()]);
    assert_eq!(replaced.trusted(&[a.pin(), c.pin()]).unwrap(), [b.pin(), c.pin()]);
}

#[test]
fn a_name_that_does_something_to_a_terminal_is_refused() {
    let named = |name: &str| {
        let issued = unverified(name);
        let key = SoftwareKey::generate().unwrap().public();
        Credentials::verify(issued, &key, Voucher::ClusterCas(&[]), 0).unwrap_err().message
    };
    let long = "b".repeat(1025);
    for name in
        ["", "b\nValid until: 2999", "\u{1b}[31mb", "\u{9b}m", "b\u{202e}", "b\u{200b}", &long]
    {
        assert!(named(name).ends_with("an invalid name"), "{name:?}");
    }
    assert!(named("b").ends_with("no X.509 CA"));
}

#[test]
fn intermediates_are_refused_before_anything_is_parsed() {
    let issued = |count| Unverified { certificates: vec![vec![0x30, 0]; count], ..unverified("b") };
    let refused = |count| {
        let key = SoftwareKey::generate().unwrap().public();
        Credentials::verify(issued(count), &key, Voucher::ClusterCas(&[]), 0).unwrap_err().message
    };
    assert!(refused(2).ends_with("more than one certificate"));
    assert!(!refused(1).ends_with("more than one certificate"));
}
