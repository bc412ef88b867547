//! Certificates that others made: OpenSSL with every algorithm, swtpm as a manufacturer.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::chain::{ChainPolicy, DatePolicy, Reason, Sha1Policy, verify};
use crate::{CaCertificate, EkCertificate, EkPublicKey, Fault, Hash, SignatureAlgorithm, UnixTime};

const CONFIGURATION: &str = "
[req]
distinguished_name = name
prompt = no
[name]
O = Example
CN = EK issuer
[ca]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[ek]
basicConstraints = critical, CA:FALSE
keyUsage = critical, keyEncipherment
extendedKeyUsage = 2.23.133.8.1
subjectAltName = critical, dirName:tpm
authorityKeyIdentifier = keyid
[tpm]
tpm.2.23.133.2.1 = id:53544D20
tpm.2.23.133.2.2 = ST33HTPHAHD8
tpm.2.23.133.2.3 = id:00010102
";

pub(crate) fn run(directory: &Path, command: &str) -> Vec<u8> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .current_dir(directory)
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command}: {talk}{}",
        String::from_utf8_lossy(&output.stdout)
    );
    output.stdout
}

pub(crate) fn openssl() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("cnf"), CONFIGURATION).unwrap();
    directory
}

/// The key of an authority and its own certificate.
fn authority(directory: &Path, name: &str, options: &str) -> CaCertificate {
    run(directory, &format!("openssl genpkey {options} -out {name}.key"));
    let request = format!(
        "openssl req -x509 -new -config cnf -extensions ca -key {name}.key -days 3650 -out {name}.pem"
    );
    run(directory, &request);
    let text = fs::read_to_string(directory.join(format!("{name}.pem"))).unwrap();
    CaCertificate::from_pem(&text).unwrap().remove(0)
}

fn issue(directory: &Path, ca: &str, key: &str, hash: &str) -> EkCertificate {
    run(directory, &format!("openssl req -new -config cnf -key {key}.key -out {key}.csr"));
    let der = run(
        directory,
        &format!(
            "openssl x509 -req -in {key}.csr -CA {ca}.pem -CAkey {ca}.key -{hash} -extfile cnf \
             -extensions ek -set_serial 0x5ecd5f8e -days 3650 -outform DER"
        ),
    );
    EkCertificate::parse(&der).unwrap()
}

fn shortly_after(ek: &EkCertificate) -> UnixTime {
    UnixTime::from_seconds(ek.not_before().seconds() + 60)
}

#[test]
fn every_algorithm_of_an_issuer() {
    let directory = openssl();
    let directory = directory.path();
    run(directory, "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out ek.key");
    let hashes = [("sha256", Hash::Sha256), ("sha384", Hash::Sha384), ("sha512", Hash::Sha512)];
    for (name, options) in [
        ("rsa2048", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
        ("rsa3072", "-algorithm RSA -pkeyopt rsa_keygen_bits:3072"),
        ("rsa4096", "-algorithm RSA -pkeyopt rsa_keygen_bits:4096"),
        ("p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        ("p384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
        ("p521", "-algorithm EC -pkeyopt ec_paramgen_curve:P-521"),
    ] {
        let anchors = [authority(directory, name, options)];
        for (option, hash) in hashes {
            let ek = issue(directory, name, "ek", option);
            let expected = match name.starts_with("rsa") {
                true => SignatureAlgorithm::RsaPkcs1(hash),
                false => SignatureAlgorithm::Ecdsa(hash),
            };
            assert_eq!(ek.signature_algorithm(), &expected);
            let at = shortly_after(&ek);
            verify(&ek, &[], &anchors, at, ChainPolicy::default())
                .unwrap_or_else(|error| panic!("{name} {option}: {error}"));
        }
        let ek = issue(directory, name, "ek", "sha1");
        let at = shortly_after(&ek);
        let refused = verify(&ek, &[], &anchors, at, ChainPolicy::default()).unwrap_err();
        assert_eq!((refused.reason(), refused.fault()), (&Reason::Sha1, Fault::Weak));
        let accepted = ChainPolicy { sha1: Sha1Policy::Accepted, ..ChainPolicy::default() };
        verify(&ek, &[], &anchors, at, accepted).unwrap();
        let mut other = anchors.to_vec();
        other[0] = authority(directory, "other", options);
        let error = verify(&ek, &[], &other, at, accepted).unwrap_err();
        assert!(matches!(error.reason(), Reason::Signature { .. }), "{name}: {error}");
    }
}

#[test]
fn no_change_is_vouched_for_by_rsa() {
    let directory = openssl();
    let directory = directory.path();
    let options = "-algorithm RSA -pkeyopt rsa_keygen_bits:2048";
    let anchors = [authority(directory, "ca", options)];
    run(directory, &format!("openssl genpkey {options} -out ek.key"));
    let original = issue(directory, "ca", "ek", "sha256");
    let at = shortly_after(&original);
    verify(&original, &[], &anchors, at, ChainPolicy::default()).unwrap();
    let mut accepted_by_the_parser = 0;
    for position in 0..original.der().len() {
        let mut der = original.der().to_vec();
        der[position] ^= 0x01;
        let Ok(certificate) = EkCertificate::parse(&der) else { continue };
        accepted_by_the_parser += 1;
        let verdict = verify(&certificate, &[], &anchors, at, ChainPolicy::default());
        assert!(verdict.is_err(), "byte {position}");
    }
    assert!(accepted_by_the_parser > 256, "at least a changed signature still parses");
}

#[test]
fn openssl_agrees_on_hash_and_serial() {
    let directory = openssl();
    let directory = directory.path();
    authority(directory, "ca", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256");
    for (name, options) in [
        ("rsa2048", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
        ("rsa4096", "-algorithm RSA -pkeyopt rsa_keygen_bits:4096"),
        ("p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        ("p384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
        ("p521", "-algorithm EC -pkeyopt ec_paramgen_curve:P-521"),
    ] {
        run(directory, &format!("openssl genpkey {options} -out {name}.key"));
        let ek = issue(directory, "ca", name, "sha256");
        assert_eq!(ek.serial(), "5e:cd:5f:8e");
        let model = ek.tpm().map(ToString::to_string);
        assert_eq!(model.as_deref(), Some("STMicroelectronics ST33HTPHAHD8 id:00010102"));
        let spki = run(directory, &format!("openssl pkey -in {name}.key -pubout -outform DER"));
        assert_eq!(ek.public_key().spki_der(), spki);
        assert_eq!(&EkPublicKey::from_spki(&spki).unwrap(), ek.public_key());
        fs::write(directory.join("spki"), &spki).unwrap();
        let digest = String::from_utf8(run(directory, "openssl dgst -sha256 -r spki")).unwrap();
        assert_eq!(digest.split(' ').next().unwrap(), ek.public_key().public_hash());
    }
}

#[test]
fn a_manufactured_tpm() {
    let directory = TempDir::new().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| directory.path().join(name));
    let certificates = manufacture(&ours);
    manufacture(&theirs);
    let ca = |directory: &Path, name: &str| {
        let text = fs::read_to_string(directory.join("ca").join(name)).unwrap();
        CaCertificate::from_pem(&text).unwrap()
    };
    let root = ca(&ours, "swtpm-localca-rootca-cert.pem");
    let issuing = ca(&ours, "issuercert.pem");
    assert_eq!(certificates.len(), 2, "an RSA-2048 and a P-384 key");
    let strict = ChainPolicy { dates: DatePolicy::Now, ..ChainPolicy::default() };
    for ek in &certificates {
        let at = shortly_after(ek);
        assert_eq!(ek.tpm().unwrap().vendor(), Some("IBM (software TPM)"));
        let path = verify(ek, &issuing, &root, at, strict).unwrap();
        assert_eq!(path.intermediates().len(), 1);
        verify(ek, &[], &issuing, at, strict).unwrap();
        assert_eq!(verify(ek, &[], &root, at, strict).unwrap_err().reason(), &Reason::NoIssuer);
        // The other manufacturer has the same names.
        let their_root = ca(&theirs, "swtpm-localca-rootca-cert.pem");
        let their_issuing = ca(&theirs, "issuercert.pem");
        assert_eq!(their_issuing[0].subject(), issuing[0].subject());
        for (intermediates, anchors) in [(&issuing, &their_root), (&their_issuing, &root)] {
            let error = verify(ek, intermediates, anchors, at, strict).unwrap_err();
            // Distinguished by the key identifier where present, else by the signature.
            let reason = error.reason();
            let other_key =
                matches!(reason, Reason::Signature { .. } | Reason::KeyIdentifier { .. });
            assert!(other_key, "{error}");
        }
        let error = verify(ek, &issuing, &their_issuing, at, strict).unwrap_err();
        assert_eq!(error.fault(), Fault::Untrusted);
    }
}

/// Makes a TPM with its own authority, and gives back the certificates of its endorsement keys.
fn manufacture(directory: &Path) -> Vec<EkCertificate> {
    let [ca, state, eks] = ["ca", "state", "eks"].map(|name| directory.join(name));
    for path in [&ca, &state, &eks] {
        fs::create_dir_all(path).unwrap();
    }
    let place = ca.display();
    let localca = format!(
        "statedir = {place}\nsigningkey = {place}/signkey.pem\nissuercert = {place}/issuercert.pem\n\
         certserial = {place}/certserial\n"
    );
    fs::write(ca.join("localca.conf"), localca).unwrap();
    let platform = "--platform-manufacturer Example\n--platform-version 1\n--platform-model Test\n";
    fs::write(ca.join("localca.options"), platform).unwrap();
    let setup = format!(
        "create_certs_tool = swtpm_localca\ncreate_certs_tool_config = {place}/localca.conf\n\
         create_certs_tool_options = {place}/localca.options\nactive_pcr_banks = sha256\n"
    );
    fs::write(ca.join("setup.conf"), setup).unwrap();
    let uid = String::from_utf8(run(directory, "id -u")).unwrap();
    let runas = if uid.trim() == "0" { " --runas root" } else { "" };
    let [state, eks_name] = [&state, &eks].map(|path| path.display());
    let setup = format!(
        "swtpm_setup --tpm2 --tpm-state dir://{state} --config {place}/setup.conf --createek \
         --create-ek-cert --lock-nvram --pcr-banks sha256 --write-ek-cert-files {eks_name} \
         --vmid test --overwrite{runas}"
    );
    run(directory, &setup);
    let mut files: Vec<_> =
        fs::read_dir(&eks).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| EkCertificate::from_nv(&fs::read(path).unwrap()).unwrap()).collect()
}
