//! Public names, verified by the CAs of the system.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{CertificateError, Error};
use testkit::forge::oid;

use super::pki::{AUTHORITY, CA, Key, Kind, Pki, Template};
use super::trust::{certificate_error, meet};
use crate::public::PublicName;
use crate::{PublicNameError, Roots, ServerTrust, authority_name, identity};

const NAME: &str = "endorse.example.com";
const SERVER: Template =
    Template { dns: Some(NAME), purposes: &[oid::SERVER_AUTH], issuer: "CN=Issuer", ..AUTHORITY };
const INTERMEDIATE: Template = Template { subject: "CN=Issuer", ..CA };

/// A root in the system's store, an intermediate CA, and a server.
struct Chain {
    root: CertificateDer<'static>,
    intermediate: CertificateDer<'static>,
    issuer_key: Key,
    server_key: Key,
}

impl Chain {
    fn new(kind: Kind) -> Self {
        let (root_key, issuer_key) = (Key::new(kind), Key::new(Kind::P256));
        Self {
            root: CA.issue(&root_key, &root_key),
            intermediate: INTERMEDIATE.issue(&issuer_key, &root_key),
            issuer_key,
            server_key: Key::new(Kind::P256),
        }
    }

    fn trust(&self) -> ServerTrust {
        // Other roots come first, as in a trust store.
        let other = Pki::new(Kind::Ed25519).ca;
        ServerTrust::PublicCas(Roots::new([other, self.root.clone()]))
    }

    fn leaf(&self, template: &Template) -> CertificateDer<'static> {
        template.issue(&self.server_key, &self.issuer_key)
    }

    fn presented(&self, chain: Vec<CertificateDer<'static>>) -> Arc<SingleCertAndKey> {
        identity(chain, self.server_key.signing()).unwrap()
    }

    /// The server presents this leaf, and the intermediate.
    fn meet(&self, template: &Template, name: &'static str) -> Result<(), super::Refusal> {
        let presented = self.presented(vec![self.leaf(template), self.intermediate.clone()]);
        meet(&self.trust(), ServerName::try_from(name).unwrap(), presented)
    }
}

fn limit(result: Result<(), super::Refusal>) -> PublicNameError {
    match certificate_error(result) {
        CertificateError::Other(error) => *error.0.downcast_ref().unwrap(),
        other => panic!("not a limit: {other:?}"),
    }
}

#[test]
fn server_under_a_root_with_an_intermediate_is_trusted_for_its_names() {
    for kind in [Kind::P256, Kind::P384] {
        let chain = Chain::new(kind);
        assert_eq!(chain.meet(&SERVER, NAME), Ok(()));
        let wild = Template { dns: Some("*.example.com"), ..SERVER };
        assert_eq!(chain.meet(&wild, NAME), Ok(()));
        let address = Template { dns: None, ip: Some([192, 0, 2, 7]), ..SERVER };
        assert_eq!(chain.meet(&address, "192.0.2.7"), Ok(()));
    }
}

#[test]
fn server_with_another_name_is_refused() {
    let chain = Chain::new(Kind::P256);
    let address = Template { dns: None, ip: Some([192, 0, 2, 7]), ..SERVER };
    for (template, name) in [
        (&SERVER, "other.example.com"),
        (&SERVER, "a.endorse.example.com"),
        (&SERVER, "192.0.2.7"),
        (&address, "192.0.2.8"),
        (&address, NAME),
        // The subject is no name of a server.
        (&Template { subject: "CN=endorse.example.com", dns: None, ..SERVER }, NAME),
    ] {
        let error = certificate_error(chain.meet(template, name));
        assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");
    }
    // Nor for the internal name of an authority.
    let presented = chain.presented(vec![chain.leaf(&SERVER), chain.intermediate.clone()]);
    let error = certificate_error(meet(&chain.trust(), authority_name(), presented));
    assert!(matches!(error, CertificateError::NotValidForNameContext { .. }), "{error:?}");
}

#[test]
fn server_of_an_unknown_issuer_out_of_date_or_with_another_purpose_is_refused() {
    let chain = Chain::new(Kind::P256);
    let unknown = Chain::new(Kind::P256);
    let presented = unknown.presented(vec![unknown.leaf(&SERVER), unknown.intermediate.clone()]);
    let name = ServerName::try_from(NAME).unwrap();
    let error = certificate_error(meet(&chain.trust(), name.clone(), presented));
    assert_eq!(error, CertificateError::BadSignature);
    let alone = chain.presented(vec![chain.leaf(&SERVER)]);
    let error = certificate_error(meet(&chain.trust(), name.clone(), alone));
    assert_eq!(error, CertificateError::UnknownIssuer);
    let expired = Template { validity: (-120, -60), ..SERVER };
    let error = certificate_error(chain.meet(&expired, NAME));
    assert!(matches!(error, CertificateError::ExpiredContext { .. }), "{error:?}");
    let client = Template { purposes: &[oid::CLIENT_AUTH], ..SERVER };
    let error = certificate_error(chain.meet(&client, NAME));
    assert!(matches!(error, CertificateError::InvalidPurposeContext { .. }), "{error:?}");
    // A leaf is no CA, whatever it has signed.
    let under_leaf = Template { issuer: "CN=leaf", ..SERVER };
    let leaf =
        Template { subject: "CN=leaf", ..SERVER }.issue(&chain.issuer_key, &chain.issuer_key);
    let presented = vec![chain.leaf(&under_leaf), leaf, chain.intermediate.clone()];
    certificate_error(meet(&chain.trust(), name, chain.presented(presented)));
}

#[test]
fn fifth_certificate_and_longer_chains_are_refused_before_they_are_parsed() {
    let chain = Chain::new(Kind::P256);
    let name = ServerName::try_from(NAME).unwrap();
    let start = [chain.leaf(&SERVER), chain.intermediate.clone()];
    let with = |more: &[CertificateDer<'static>]| {
        let presented = chain.presented([&start[..], more].concat());
        meet(&chain.trust(), name.clone(), presented)
    };
    let other = Pki::new(Kind::Ed25519).ca;
    assert_eq!(with(&[other.clone(), other.clone()]), Ok(()));
    let unparsable = CertificateDer::from(vec![0; 16]);
    let five = with(&[other.clone(), other, unparsable]);
    assert_eq!(limit(five), PublicNameError::TooManyCertificates);
    let long = CertificateDer::from(vec![0; 16 * 1024]);
    assert_eq!(limit(with(&[long])), PublicNameError::TooManyBytes);
}

/// Names are public, so anybody can make certificates that look like the root's, each of which may have issued any other.
#[test]
fn path_bomb_is_refused_after_eight_signature_checks() {
    let chain = Chain::new(Kind::Ed25519);
    let bomb = |_| {
        let key = Key::new(Kind::Ed25519);
        Template { issuer: CA.subject, ..CA }.issue(&key, &key)
    };
    let above: Vec<_> = (0..3).map(bomb).collect();
    let leaf = Template { issuer: CA.subject, ..SERVER };
    let presented = chain.presented([vec![chain.leaf(&leaf)], above].concat());
    let name = ServerName::try_from(NAME).unwrap();
    assert_eq!(limit(meet(&chain.trust(), name, presented)), PublicNameError::TooManySignatures);
}

/// As trust stores and public CAs have them.
#[test]
fn chains_of_openssl_with_rsa_and_p384_are_verified() {
    let directory = tempfile::tempdir().unwrap();
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .current_dir(directory.path())
            .args(arguments.split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "openssl {arguments}: {output:?}");
    };
    fs::write(directory.path().join("ca"), "basicConstraints=critical,CA:TRUE\n").unwrap();
    let server = format!("subjectAltName=DNS:{NAME}\nextendedKeyUsage=serverAuth\n");
    fs::write(directory.path().join("server"), server).unwrap();
    let key = |name: &str, kind: &str| {
        openssl(&format!("genpkey -algorithm {kind} -out {name}.key"));
        openssl(&format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
    };
    let sign = |name: &str, by: &str, extensions: &str, digest: &str| {
        openssl(&format!(
            "x509 -req -in {name}.csr -CA {by}.pem -CAkey {by}.key -CAcreateserial -days 2 -extfile {extensions} -{digest} -out {name}.pem"
        ));
    };
    key("leaf", "RSA -pkeyopt rsa_keygen_bits:2048");
    for (root, intermediate) in [
        ("RSA -pkeyopt rsa_keygen_bits:4096", "EC -pkeyopt ec_paramgen_curve:P-384"),
        ("EC -pkeyopt ec_paramgen_curve:P-384", "RSA -pkeyopt rsa_keygen_bits:3072"),
    ] {
        key("root", root);
        openssl("x509 -req -in root.csr -key root.key -days 2 -extfile ca -sha384 -out root.pem");
        key("issuer", intermediate);
        sign("issuer", "root", "ca", "sha384");
        sign("leaf", "issuer", "server", "sha256");
        let read = |name: &str| {
            CertificateDer::from_pem_file(directory.path().join(format!("{name}.pem"))).unwrap()
        };
        let verify = |name: &'static str| {
            PublicName(Roots::new([read("root")])).verify_server_cert(
                &read("leaf"),
                &[read("issuer")],
                &ServerName::try_from(name).unwrap(),
                &[],
                UnixTime::now(),
            )
        };
        verify(NAME).unwrap();
        assert!(matches!(verify("other.example.com"), Err(Error::InvalidCertificate(_))));
    }
}

#[test]
fn certificates_of_a_trust_store_that_cannot_be_read_are_left_out() {
    let broken = CertificateDer::from(vec![0x30, 3, 1, 1, 0]);
    let roots = Roots::new([broken, Pki::new(Kind::Ed25519).ca]);
    assert_eq!((roots.len(), roots.is_empty()), (1, false));
}
