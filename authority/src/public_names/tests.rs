use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use host::clock::Clock;

use super::*;

const P256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];

/// After the certificates of a test begin, however long openssl takes for them.
fn soon() -> OffsetDateTime {
    Clock::system().now() + time::Duration::minutes(10)
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes NAME.pem and NAME.key as an ACME client does, valid for 90 days.
    fn write(&self, name: &str, algorithm: &[&str], names: &str) -> KeypairFiles {
        let files = KeypairFiles {
            cert_file: self.path(&format!("{name}.pem")),
            key_file: self.path(&format!("{name}.key")),
        };
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-nodes", "-days", "90", "-subj", "/CN=x", "-newkey"]);
        openssl.args(algorithm).arg("-addext").arg(format!("subjectAltName={names}"));
        openssl.arg("-out").arg(&files.cert_file).arg("-keyout").arg(&files.key_file);
        let output = openssl.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        files
    }

    fn copy(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
    }
}

fn load(addrs: &[&str], keypairs: &[&KeypairFiles]) -> Result<PublicNames, Failure> {
    let addrs = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
    PublicNames::load(Public { addrs, keypairs: keypairs.iter().map(|&one| one.clone()).collect() })
}

fn served(names: &PublicNames, name: &str) -> Option<CertificateDer<'static>> {
    names.certificate(name).map(|key| key.cert[0].clone())
}

fn on_disk(files: &KeypairFiles) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_file(&files.cert_file).ok()
}

#[test]
fn each_name_has_the_certificate_that_covers_it() {
    let dir = Files::new();
    let one = dir.write("one", P256, "DNS:a.example.com");
    let two = dir.write("two", &["ed25519"], "DNS:*.example.net,DNS:b.example.com");
    let addrs = ["A.example.com:443", "x.example.net", "b.example.com"];
    let names = load(&addrs, &[&one, &two]).unwrap();
    assert_eq!(names.address().unwrap().with_port(3025), "a.example.com:443");
    assert_eq!(served(&names, "a.example.com"), on_disk(&one));
    assert_eq!(served(&names, "x.example.net"), on_disk(&two));
    assert_eq!(served(&names, "b.example.com"), on_disk(&two));
    // The certificate has it, the configuration does not.
    for other in ["y.example.net", "example.com", ""] {
        assert_eq!(served(&names, other), None, "{other}");
    }
    let hosts: Vec<_> = names.expiries().into_iter().map(|(name, _)| name).collect();
    assert_eq!(hosts, ["a.example.com", "x.example.net", "b.example.com"]);
    assert!(load(&[], &[]).unwrap().address().is_none());
}

#[test]
fn rsa_key_signs_handshakes_by_pss_alone() {
    use rustls::SignatureScheme as Scheme;
    let dir = Files::new();
    let files = dir.write("rsa", &["rsa:3072"], "DNS:a.example.com");
    let names = load(&["a.example.com"], &[&files]).unwrap();
    let key = Arc::clone(&names.certificate("a.example.com").unwrap().key);
    let offered = [Scheme::RSA_PKCS1_SHA256, Scheme::ECDSA_NISTP256_SHA256];
    assert!(key.choose_scheme(&offered).is_none());
    let signer = key.choose_scheme(&[offered[0], Scheme::RSA_PSS_SHA384]).unwrap();
    assert_eq!(signer.scheme(), Scheme::RSA_PSS_SHA384);
    assert_eq!(signer.sign(b"handshake").unwrap().len(), 3072 / 8);
    assert_eq!(format!("{key:?}").matches("RsaKey(3072 bits").count(), 1);
    // The other form in which openssl writes such keys.
    let pkcs1 = dir.path("pkcs1.key");
    let mut openssl = Command::new("openssl");
    openssl.args(["rsa", "-traditional", "-in"]).arg(&files.key_file).arg("-out").arg(&pkcs1);
    assert!(openssl.output().unwrap().status.success());
    assert!(fs::read_to_string(&pkcs1).unwrap().contains("BEGIN RSA PRIVATE KEY"));
    load(&["a.example.com"], &[&KeypairFiles { key_file: pkcs1, ..files }]).map(drop).unwrap();
}

#[test]
fn unusable_files_are_refused_with_the_reason() {
    let dir = Files::new();
    let good = dir.write("good", P256, "DNS:a.example.com");
    let other = dir.write("other", P256, "DNS:a.example.com");
    let rsa = dir.write("rsa", &["rsa:2048"], "DNS:a.example.com");
    let p521 = ["ec", "-pkeyopt", "ec_paramgen_curve:P-521"];
    let p521 = dir.write("p521", &p521, "DNS:a.example.com");
    let with = |cert_file: &Path, key_file: &Path| KeypairFiles {
        cert_file: cert_file.to_owned(),
        key_file: key_file.to_owned(),
    };
    let text = |name: &str, text: &str| {
        let path = dir.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let pem = fs::read_to_string(&good.cert_file).unwrap();
    let key = fs::read_to_string(&good.key_file).unwrap();
    let open = text("open.key", &key);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let cases = [
        (with(&good.cert_file, &other.key_file), "it is not the key of"),
        (with(&good.cert_file, &rsa.key_file), "it is not the key of"),
        (p521, "private key refused"),
        (with(&good.cert_file, &open), "other users may read or change it (mode 644)"),
        (with(&good.cert_file, &text("empty.key", "")), "cannot use"),
        (with(&text("empty.pem", ""), &good.key_file), "it has no certificate"),
        (with(&text("cut.pem", &pem[..pem.len() / 2]), &good.key_file), "cannot use"),
        (with(&text("many.pem", &pem.repeat(9)), &good.key_file), "more than 8 certificates"),
        (with(&text("long.pem", &"x".repeat(65 << 10)), &good.key_file), "longer than 65536"),
        (with(&dir.path("none.pem"), &good.key_file), "No such file"),
        (with(&good.cert_file, dir.0.path()), "not a regular file"),
    ];
    for (files, why) in cases {
        let failure = load(&["a.example.com"], &[&files]).err().unwrap();
        assert!(failure.message.contains(why), "{why}: {}", failure.message);
        assert!(!failure.advice.is_empty(), "{why}");
    }
    let failure = load(&["b.example.com"], &[&good]).err().unwrap();
    assert!(failure.message.ends_with("has the name b.example.com"), "{}", failure.message);
    let failure = load(&["a.example.com"], &[&good, &other]).err().unwrap();
    assert!(failure.message.ends_with("is for none of `public_addr`"), "{}", failure.message);
}

#[test]
fn half_written_pair_is_not_served() {
    let (dir, now) = (Files::new(), soon());
    let files = dir.write("live", P256, "DNS:a.example.com");
    let names = load(&["a.example.com"], &[&files]).unwrap();
    let old = on_disk(&files);
    names.reload(now);
    assert_eq!((served(&names, "a.example.com"), names.warnings(now)), (old.clone(), Vec::new()));

    let next = dir.write("next", P256, "DNS:a.example.com");
    dir.copy("next.pem", "live.pem");
    names.reload(now);
    assert_eq!(served(&names, "a.example.com"), old);
    let [warning] = <[String; 1]>::try_from(names.warnings(now)).unwrap();
    assert!(warning.contains("live.key: it is not the key of"), "{warning}");
    assert!(warning.ends_with("the previous certificate stays in use"), "{warning}");

    fs::remove_file(&files.key_file).unwrap();
    names.reload(now);
    assert_eq!(served(&names, "a.example.com"), old);
    dir.copy("next.key", "live.key");
    names.reload(now);
    assert_eq!(
        (served(&names, "a.example.com"), names.warnings(now)),
        (on_disk(&next), Vec::new())
    );
}

#[test]
fn worse_certificate_does_not_replace_a_good_one() {
    let (dir, now) = (Files::new(), soon());
    let files = dir.write("live", P256, "DNS:a.example.com,DNS:b.example.com");
    let names = load(&["a.example.com", "b.example.com"], &[&files]).unwrap();
    let old = on_disk(&files);
    dir.write("live", P256, "DNS:a.example.com");
    names.reload(now);
    assert_eq!(served(&names, "b.example.com"), old);
    assert!(names.warnings(now)[0].contains("no longer has the name b.example.com"));

    dir.write("live", P256, "DNS:a.example.com,DNS:b.example.com");
    for (days, why) in [(-1, "is not valid before"), (91, "live.pem expired at")] {
        let then = now + time::Duration::days(days);
        names.reload(then);
        assert_eq!(served(&names, "b.example.com"), old);
        assert!(names.warnings(then).iter().any(|warning| warning.contains(why)), "{why}");
    }
    names.reload(now);
    assert_eq!(served(&names, "b.example.com"), on_disk(&files));
}

#[test]
fn certificate_that_is_not_renewed_in_time_is_a_warning() {
    let (dir, now) = (Files::new(), soon());
    let names = load(&["a.example.com"], &[&dir.write("a", P256, "DNS:a.example.com")]).unwrap();
    for (days, why) in [
        (-1, Some("is not valid before")),
        (1, None),
        (70, None),
        (76, Some("has not been renewed")),
        (91, Some("expired at")),
    ] {
        let warnings = names.warnings(now + time::Duration::days(days));
        assert_eq!(warnings.len(), usize::from(why.is_some()), "{warnings:?}");
        assert!(why.is_none_or(|why| warnings[0].contains(why)), "{days}: {warnings:?}");
    }
}
