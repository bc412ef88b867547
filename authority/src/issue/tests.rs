use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use der::Decode;
use p256::SecretKey;
use p256::elliptic_curve::Generate;
use rustls_pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id,
};
use sha2::{Digest, Sha256};
use time::macros::datetime;
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;

use super::profile::Usages;
use super::*;
use crate::resource::{BotSpec, Metadata, ProvenEk, Resource, Timestamp, read};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00:00.75 UTC);

const INSTANCE: &str = "6f9619ff-8b86-4011-b42d-00c04fc964ff";

const BOT: &str = "{roles: [access, 'dev, ops=x'], traits: [{name: logins, values: [root, ops]}, \
                   {name: 'te\u{e4}m', values: ['a \"b\"', '']}]}";

fn issuer() -> Issuer {
    let cluster: ClusterName = "example.test".parse().unwrap();
    let x509 = X509Ca::create(&cluster, CaKey::generate().unwrap(), NOW).unwrap();
    let ssh = SshCa::new(&cluster, &CaKey::generate().unwrap()).unwrap();
    let ssh_host = SshCa::of_hosts(&cluster, &CaKey::generate().unwrap()).unwrap();
    Issuer::new(cluster, x509, ssh, ssh_host, JwtKey::generate(JwtAlgorithm::Es256).unwrap())
}

fn bot(spec: &str) -> Bot {
    let yaml = format!("kind: bot\nversion: v1\nmetadata: {{name: web-1}}\nspec: {spec}\n");
    match read(&yaml).unwrap().remove(0) {
        Resource::Bot(bot) => bot,
        other => panic!("{other:?}"),
    }
}

/// An instance of any bot of the tests.
fn instance() -> BotInstance {
    let ek = ProvenEk {
        public_hash: "ab".repeat(32).parse().unwrap(),
        certificate_serial: Some("5e:cd".parse().unwrap()),
        certificate_issuer: None,
        verified_by: Some("cd".repeat(32)),
    };
    let [bot, token] = ["web-1", "t"].map(|name| name.parse().unwrap());
    let mut instance = BotInstance::joining(bot, token, ek, "00".repeat(32), NOW);
    instance.spec.instance_id = INSTANCE.parse().unwrap();
    instance
}

fn issue(
    issuer: &Issuer,
    bot: &Bot,
    key: &SubjectKey,
    now: OffsetDateTime,
) -> Result<Credentials, IssueError> {
    asked(issuer, bot, key, now, 0)
}

fn asked(
    issuer: &Issuer,
    bot: &Bot,
    key: &SubjectKey,
    now: OffsetDateTime,
    seconds: i64,
) -> Result<Credentials, IssueError> {
    let validity = Validity { now, ttl: seconds.try_into().unwrap() };
    issuer.credentials(bot, &instance(), Profile::identity(7), key, validity)
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn pem(path: &Path, der: &[u8]) {
    let text = der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, der).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn openssl_and_ssh_keygen_accept_what_is_issued() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = issuer();
    let key = SubjectKey::from(SecretKey::generate().public_key());
    let issued = issue(&issuer, &bot(BOT), &key, NOW).unwrap();
    let (ca, leaf) = (dir.path().join("ca.pem"), dir.path().join("leaf.pem"));
    pem(&ca, issuer.x509().certificate());
    pem(&leaf, &issued.x509);

    let at = NOW.unix_timestamp().to_string();
    for purpose in ["sslclient", "sslserver"] {
        let mut verify = Command::new("openssl");
        verify.args(["verify", "-x509_strict", "-purpose", purpose, "-attime", &at, "-CAfile"]);
        assert!(run(verify.arg(&ca).arg(&leaf)).contains("leaf.pem: OK"));
    }
    let text = run(Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(&leaf));
    for line in [
        "Issuer: O = example.test, CN = X.509 CA ",
        "Subject: O = access, O = \"dev, ops=x\", CN = bot-web-1, L = root, L = ops, \
         street = example.test, postalCode = ",
        ", 1.3.9999.1.7 = example.test, 1.3.9999.1.14 = 7, 1.3.9999.2.18 = web-1, ",
        "1.3.9999.2.20 = 6f9619ff-8b86-4011-b42d-00c04fc964ff, 1.3.9999.2.21 = ",
        "Not Before: Jun  1 11:54:00 2026 GMT",
        "Not After : Jun  1 13:00:00 2026 GMT",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "TLS Web Client Authentication, TLS Web Server Authentication",
        "URI:spiffe://example.test/bot/web-1\n",
        "CA:FALSE",
        "ASN1 OID: prime256v1",
        &issued.serial,
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let text = run(Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(&ca));
    for line in [
        "CA:TRUE, pathlen:0",
        "Certificate Sign, CRL Sign",
        "May 31 12:00:00 2036 GMT",
        "X509v3 Subject Alternative Name: \n                URI:spiffe://example.test\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }

    let ssh = dir.path().join("key-cert.pub");
    fs::write(&ssh, &issued.ssh).unwrap();
    let text = run(Command::new("ssh-keygen").env("TZ", "UTC").arg("-L").arg("-f").arg(&ssh));
    for line in [
        "Type: ecdsa-sha2-nistp256-cert-v01@openssh.com user certificate",
        "Key ID: \"bot-web-1\"",
        "Valid: from 2026-06-01T11:54:00 to 2026-06-01T13:00:00",
        "Principals: \n                bot-web-1\n                root\n                ops\n                \
         -teleport-internal-join\n",
        "bot-name@goteleport.com UNKNOWN OPTION: ",
        "bot-instance-id@goteleport.com UNKNOWN OPTION: ",
        "generation UNKNOWN OPTION: ",
        "teleport-roles UNKNOWN OPTION: ",
        "teleport-route-to-cluster UNKNOWN OPTION: ",
        "teleport-traits UNKNOWN OPTION: ",
        "permit-port-forwarding",
        "Critical Options: (none)",
        "permit-pty",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let ca = dir.path().join("ssh-ca.pub");
    fs::write(&ca, issuer.ssh().public_key()).unwrap();
    let fingerprint = run(Command::new("ssh-keygen").arg("-lf").arg(&ca));
    let fingerprint = fingerprint.split(' ').nth(1).unwrap();
    assert!(text.contains(&format!("Signing CA: ECDSA {fingerprint} ")), "{text}");
}

#[test]
fn keys_of_teleports_clients_are_certified_for_both_protocols() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = issuer();
    pem(&dir.path().join("ca.pem"), issuer.x509().certificate());
    let at = NOW.unix_timestamp().to_string();
    for (algorithm, option, x509, ssh) in [
        ("ED25519", "", "ED25519 Public-Key", "ssh-ed25519-cert-v01@"),
        ("RSA", "rsa_keygen_bits:2048", "Public-Key: (2048 bit)", "ssh-rsa-cert-v01@"),
        ("RSA", "rsa_keygen_bits:4096", "Public-Key: (4096 bit)", "ssh-rsa-cert-v01@"),
        ("EC", "ec_paramgen_curve:P-384", "secp384r1", "ecdsa-sha2-nistp384-cert-v01@"),
        ("EC", "ec_paramgen_curve:P-256", "prime256v1", "ecdsa-sha2-nistp256-cert-v01@"),
    ] {
        let key = dir.path().join("key");
        let mut openssl = Command::new("openssl");
        openssl.args(["genpkey", "-algorithm", algorithm]);
        if !option.is_empty() {
            openssl.args(["-pkeyopt", option]);
        }
        run(openssl.arg("-out").arg(&key));
        let mut openssl = Command::new("openssl");
        openssl.args(["pkey", "-pubout", "-outform", "DER", "-in"]).arg(&key);
        let spki = openssl.output().unwrap().stdout;
        let subject_key = SubjectKey::from_spki(&spki).unwrap();
        assert_eq!(subject_key.to_spki().unwrap(), spki);
        let issued = issue(&issuer, &bot(BOT), &subject_key, NOW).unwrap();
        pem(&dir.path().join("leaf.pem"), &issued.x509);
        let mut verify = Command::new("openssl");
        verify.current_dir(&dir).args(["verify", "-x509_strict", "-attime", &at]);
        run(verify.args(["-CAfile", "ca.pem", "leaf.pem"]));
        let mut openssl = Command::new("openssl");
        openssl.current_dir(&dir).args(["x509", "-noout", "-text", "-in", "leaf.pem"]);
        let text = run(&mut openssl);
        assert!(text.contains(x509), "{text}");
        fs::write(dir.path().join("cert.pub"), &issued.ssh).unwrap();
        let text = run(Command::new("ssh-keygen").current_dir(&dir).args(["-Lf", "cert.pub"]));
        assert!(text.contains(ssh), "{text}");
        // The key in the SSH certificate is the same one, as OpenSSH sees it.
        let line = ssh_key::Certificate::from_openssh(&issued.ssh).unwrap();
        let wire = ssh_key::PublicKey::from(line.public_key().clone()).to_bytes().unwrap();
        assert_eq!(SubjectKey::from_ssh(&wire).unwrap(), subject_key);
        if algorithm == "ED25519" {
            // ssh-keygen does not read its keys as PKCS #8.
            continue;
        }
        let public = run(Command::new("ssh-keygen").current_dir(&dir).args(["-yf", "key"]));
        fs::write(dir.path().join("key.pub"), public).unwrap();
        let own = run(Command::new("ssh-keygen").current_dir(&dir).args(["-lf", "key.pub"]));
        assert!(text.contains(own.split(' ').nth(1).unwrap()), "{own}\n{text}");
    }
}

#[test]
fn other_keys_are_not_certified() {
    let dir = tempfile::tempdir().unwrap();
    for (algorithm, option) in [
        ("RSA", Some("rsa_keygen_bits:1024")),
        ("EC", Some("ec_paramgen_curve:P-521")),
        ("ED448", None),
    ] {
        let key = dir.path().join("key");
        let mut openssl = Command::new("openssl");
        openssl.args(["genpkey", "-algorithm", algorithm]);
        if let Some(option) = option {
            openssl.args(["-pkeyopt", option]);
        }
        run(openssl.arg("-out").arg(&key));
        let mut openssl = Command::new("openssl");
        openssl.args(["pkey", "-pubout", "-outform", "DER", "-in"]).arg(&key);
        let spki = openssl.output().unwrap().stdout;
        assert!(!spki.is_empty());
        assert!(SubjectKey::from_spki(&spki).is_err(), "{algorithm} {option:?}");
    }
    assert!(SubjectKey::from_spki(b"").is_err());
}

#[test]
fn bot_without_roles_has_an_organization_and_no_role() {
    let issuer = issuer();
    let key = SubjectKey::from(SecretKey::generate().public_key());
    let issued = issue(&issuer, &bot("{}"), &key, NOW).unwrap();
    let certificate = Certificate::from_der(&issued.x509).unwrap();
    let name = certificate.tbs_certificate().subject();
    let organization = name.iter().find(|part| part.oid.to_string() == "2.5.4.10").unwrap();
    assert_eq!(organization.value.decode_as::<String>().unwrap(), "bot-web-1");
    assert_eq!(Subject::from_name(name).unwrap().roles, []);
}

#[test]
fn a_peer_refuses_what_another_authority_signed_or_what_has_expired() {
    let (ours, other) = (issuer(), issuer());
    let key = SubjectKey::from(SecretKey::generate().public_key());
    let issued = issue(&ours, &bot("{}"), &key, NOW).unwrap();
    let id = "spiffe://example.test/bot/web-1";
    ours.x509().verify_host(&issued.x509, AlternativeNames::only(id), Usages::PEER, NOW).unwrap();
    other
        .x509()
        .verify_host(&issued.x509, AlternativeNames::only(id), Usages::PEER, NOW)
        .unwrap_err();
    ours.x509()
        .verify_host(
            &issued.x509,
            AlternativeNames::only("spiffe://example.test/bot/web-2"),
            Usages::PEER,
            NOW,
        )
        .unwrap_err();
    ours.x509()
        .verify_host(
            &issued.x509,
            AlternativeNames::only(id),
            Usages::PEER,
            NOW + time::Duration::HOUR * 2,
        )
        .unwrap_err();

    let ssh = ssh_key::Certificate::from_openssh(&issued.ssh).unwrap();
    ours.ssh().verify_user(&ssh, &key, NOW).unwrap();
    other.ssh().verify_user(&ssh, &key, NOW).unwrap_err();
    let bytes = ssh.to_bytes().unwrap();
    // In the nonce, which follows the name of the algorithm, and in the signature.
    for position in [50, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[position] ^= 1;
        let changed = ssh_key::Certificate::from_bytes(&changed).unwrap();
        ours.ssh().verify_user(&changed, &key, NOW).unwrap_err();
    }
    ours.ssh()
        .verify_user(&ssh, &SubjectKey::from(SecretKey::generate().public_key()), NOW)
        .unwrap_err();
    ours.ssh().verify_user(&ssh, &key, NOW + time::Duration::HOUR * 2).unwrap_err();
}

/// P-256 with SHA-256, which counts what it verifies.
#[derive(Debug)]
struct Counting(AtomicUsize);

impl SignatureVerificationAlgorithm for Counting {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let ours = |one: &&&dyn SignatureVerificationAlgorithm| {
            (one.public_key_alg_id(), one.signature_alg_id())
                == (self.public_key_alg_id(), self.signature_alg_id())
        };
        let all = tls::provider().signature_verification_algorithms.all;
        all.iter().find(ours).unwrap().verify_signature(public_key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA256
    }
}

#[test]
fn one_signature_check_verifies_a_host_for_both_usages() {
    let issuer = issuer();
    let key = SubjectKey::from(SecretKey::generate().public_key());
    let issued = issue(&issuer, &bot("{}"), &key, NOW).unwrap();
    let count = Counting(AtomicUsize::new(0));
    let id = "spiffe://example.test/bot/web-1";
    issuer
        .x509()
        .verify_host_with(&[&count], &issued.x509, AlternativeNames::only(id), Usages::PEER, NOW)
        .unwrap();
    assert_eq!(count.0.into_inner(), 1);
    // Genuine, and for servers only.
    let server = issuer.x509().server(issuer.cluster(), NOW).unwrap();
    let refused = issuer
        .x509()
        .verify_host(&server.chain[0], AlternativeNames::only(id), Usages::PEER, NOW)
        .unwrap_err();
    assert!(!refused.to_string().contains("URI names"), "{refused}");
}

#[test]
fn a_plain_subject_has_what_every_software_knows_and_is_no_callers() {
    let (issuer, key) = (issuer(), SubjectKey::from(SecretKey::generate().public_key()));
    let validity = Validity { now: NOW, ttl: Ttl::default() };
    let issued = issuer.credentials(&bot(BOT), &instance(), Profile::PLAIN_SERVICE, &key, validity);
    let certificate = Certificate::from_der(&issued.unwrap().x509).unwrap();
    let subject = certificate.tbs_certificate().subject();
    let known: Vec<_> = subject.iter().map(|attribute| attribute.oid.to_string()).collect();
    assert!(known.iter().all(|oid| ["2.5.4.10", "2.5.4.3"].contains(&oid.as_str())), "{known:?}");
    assert!(known.contains(&"2.5.4.3".to_owned()));
    assert!(Subject::from_name(subject).is_err());
}

#[test]
fn subject_is_read_as_it_was_written_and_faulty_attributes_are_refused() {
    let issuer = issuer();
    let key = SubjectKey::from(SecretKey::generate().public_key());
    let profiles = [
        Profile::identity(1),
        Profile::SERVICE,
        Profile::IMPERSONATED,
        Profile::identity(u64::MAX),
    ];
    for (profile, spec) in profiles.into_iter().zip([BOT, BOT, BOT, "{}"]) {
        let validity = Validity { now: NOW, ttl: Ttl::default() };
        let (bot, instance) = (bot(spec), instance());
        let issued = issuer.credentials(&bot, &instance, profile, &key, validity).unwrap();
        let certificate = Certificate::from_der(&issued.x509).unwrap();
        let subject = Subject::from_name(certificate.tbs_certificate().subject()).unwrap();
        let generation = profile.subject.generation();
        let written = Subject::new("example.test", &bot, &instance, generation);
        let impersonated = profile == Profile::IMPERSONATED;
        assert_eq!(subject, Subject { impersonated, ..written });
        assert_eq!(subject.to_name().unwrap(), *certificate.tbs_certificate().subject());
        assert_eq!(subject.join.tpm.ek_cert_serial.unwrap().as_str(), "5e:cd");
        assert!(subject.join.tpm.ek_cert_verified);
        assert_eq!(subject.instance, instance.spec.instance_id);
    }
    let sound = Subject::new("example.test", &bot(BOT), &instance(), Some(7));
    let attributes: Vec<_> = sound.to_name().unwrap().iter().cloned().collect();
    let text = |a: &AttributeTypeAndValue| a.value.decode_as::<String>().unwrap();
    let pairs: Vec<_> = attributes.iter().map(|a| (a.oid, text(a))).collect();
    let read = |pairs: &[_]| Subject::from_name(&subject::name(pairs).unwrap());
    assert_eq!(read(&pairs).unwrap(), sound);
    for index in 0..pairs.len() {
        let listed = ["2.5.4.10", "2.5.4.7", "2.5.4.9", "2.5.4.17", "1.3.9999.1.14"];
        if !listed.contains(&pairs[index].0.to_string().as_str()) {
            let mut missing = pairs.clone();
            missing.remove(index);
            read(&missing).unwrap_err();
        }
        if !listed[..3].contains(&pairs[index].0.to_string().as_str()) {
            let twice = [pairs.as_slice(), &pairs[index..=index]].concat();
            read(&twice).unwrap_err();
            let mut other = pairs.clone();
            other[index].1.insert(0, '+');
            // Any text is a cluster; the caller is compared with ours.
            assert!(read(&other).is_err() || pairs[index].0.to_string() == "1.3.9999.1.7");
        }
    }
    let country = [pairs.as_slice(), &[("2.5.4.6".parse().unwrap(), "DE".to_owned())]].concat();
    assert_eq!(read(&country).unwrap(), sound, "an attribute of a newer version");
    read(&[]).unwrap_err();
}

#[test]
fn impersonated_certificate_says_who_asked_for_it_and_that_it_cannot_ask_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let (issuer, key) = (issuer(), SubjectKey::from(SecretKey::generate().public_key()));
    let validity = Validity { now: NOW, ttl: Ttl::default() };
    let issued = issuer.credentials(&bot(BOT), &instance(), Profile::IMPERSONATED, &key, validity);
    let issued = issued.unwrap();
    pem(&dir.path().join("leaf.pem"), &issued.x509);
    let mut openssl = Command::new("openssl");
    openssl.current_dir(&dir).args(["x509", "-noout", "-subject", "-in", "leaf.pem"]);
    let text = run(&mut openssl);
    assert!(text.contains("1.3.9999.2.7 = bot-web-1, 1.3.9999.2.9 = true, "), "{text}");
    assert!(!text.contains("1.3.9999.1.14"), "it has no generation: {text}");
    fs::write(dir.path().join("cert.pub"), &issued.ssh).unwrap();
    let mut ssh_keygen = Command::new("ssh-keygen");
    let text = run(ssh_keygen.current_dir(&dir).args(["-L", "-f", "cert.pub"]));
    for extension in ["disallow-reissue UNKNOWN FLAG OPTION", "impersonator UNKNOWN OPTION: "] {
        assert!(text.contains(extension), "{extension} is not in\n{text}");
    }
}

#[test]
fn a_host_gets_what_it_asks_for_within_its_bots_limit_and_the_authoritys() {
    let issuer = issuer();
    let key = SubjectKey::from(SecretKey::generate().public_key());
    let whole = NOW.replace_nanosecond(0).unwrap();
    let hours = |spec: &str, seconds: i64| {
        let issued = asked(&issuer, &bot(spec), &key, whole, seconds).unwrap();
        (issued.not_after - whole).whole_hours()
    };
    assert_eq!(hours("{}", 2 * 3600), 2);
    assert_eq!(hours("{}", 100 * 3600), 12);
    assert_eq!(hours("{max_session_ttl: 3h}", 100 * 3600), 3);
    assert_eq!(hours("{max_session_ttl: 20h}", 100 * 3600), 20);
    assert_eq!(hours("{max_session_ttl: 168h}", i64::MAX), 24);
    Ttl::try_from(-1).unwrap_err();
}

#[test]
fn a_bot_can_shorten_the_life_of_its_certificates_and_nothing_outlives_its_issuer() {
    let issuer = issuer();
    let key = SubjectKey::from(SecretKey::generate().public_key());
    let whole = NOW.replace_nanosecond(0).unwrap();
    let life = |bot: &Bot, now| issue(&issuer, bot, &key, now).unwrap().not_after - now;
    assert_eq!(life(&bot("{}"), whole), time::Duration::HOUR);
    assert_eq!(life(&bot("{max_session_ttl: 12h}"), whole), time::Duration::HOUR);
    assert_eq!(life(&bot("{max_session_ttl: 10m}"), whole), time::Duration::minutes(10));
    let end = whole + time::Duration::minutes(5);
    let metadata = Metadata { expires: Some(Timestamp(end)), ..bot("{}").metadata };
    assert_eq!(life(&Bot::new(metadata, BotSpec::default()), whole), time::Duration::minutes(5));
    let late = issuer.x509().not_after() - time::Duration::MINUTE;
    assert_eq!(life(&bot("{}"), late), time::Duration::MINUTE);
    issue(&issuer, &bot("{}"), &key, late + time::Duration::HOUR).unwrap_err();
}

#[test]
fn certificates_have_serial_numbers_of_their_own() {
    let issuer = issuer();
    let key = SubjectKey::from(SecretKey::generate().public_key());
    let serials: std::collections::BTreeSet<_> =
        (0..50).map(|_| issue(&issuer, &bot("{}"), &key, NOW).unwrap().serial).collect();
    assert_eq!(serials.len(), 50);
    assert!(serials.iter().all(|serial| serial.len() == 16 * 3 - 1));
}

#[test]
fn an_authority_is_loaded_only_with_its_own_key() {
    let cluster: ClusterName = "a".parse().unwrap();
    let key = CaKey::generate().unwrap();
    let pem = key.to_pem().unwrap();
    let created = X509Ca::create(&cluster, key, NOW).unwrap();
    let loaded = CaKey::from_pem(&pem).unwrap();
    X509Ca::load(created.certificate(), loaded).unwrap();
    let other = CaKey::generate().unwrap();
    X509Ca::load(created.certificate(), other).unwrap_err();
    assert_eq!(format!("{:?}", CaKey::generate().unwrap()), "CaKey");
}

#[test]
fn cluster_names_are_trust_domains() {
    for good in ["a", "example.com", "0-x_y.z", &"a".repeat(64)] {
        good.parse::<ClusterName>().unwrap();
    }
    for bad in ["", "Example", "a/b", "a b", ".a", "-a", "é", "a\n", &"a".repeat(65)] {
        bad.parse::<ClusterName>().unwrap_err();
    }
}

#[test]
fn nothing_begins_before_its_ca_or_is_issued_before_it_is_valid() {
    let issuer = issuer();
    let key = SubjectKey::from(SecretKey::generate().public_key());
    let begin = issuer.x509().not_before();
    assert_eq!(begin, (NOW - time::Duration::days(1)).replace_nanosecond(0).unwrap());
    let early = issue(&issuer, &bot("{}"), &key, begin - time::Duration::seconds(1));
    let cause = early.unwrap_err().to_string();
    assert!(cause.contains("the X.509 CA is not valid before 2026-05-31T12:00:00Z"), "{cause}");
    let first = issue(&issuer, &bot("{}"), &key, begin + time::Duration::seconds(1)).unwrap();
    assert_eq!(first.not_before, begin);
    let server = issuer.x509().server(issuer.cluster(), begin - time::Duration::days(400)).unwrap();
    let leaf = Certificate::from_der(&server.chain[0]).unwrap();
    let leaf_begins: OffsetDateTime =
        leaf.tbs_certificate().validity().not_before.to_system_time().into();
    assert_eq!(leaf_begins, begin);
}

#[test]
fn next_ca_is_trusted_before_it_signs_and_the_old_one_for_a_while_after() {
    let (issuer, key) = (issuer(), SubjectKey::from(SecretKey::generate().public_key()));
    let cluster = issuer.cluster().clone();
    let old = issuer.x509();
    let ca = || CaKey::generate().unwrap();
    let signed_by = |ca: &X509Ca| {
        let issued = issue(&issuer, &bot("{}"), &key, NOW).unwrap();
        ca.verify_host(
            &issued.x509,
            AlternativeNames::only("spiffe://example.test/bot/web-1"),
            Usages::PEER,
            NOW,
        )
        .is_ok()
    };
    let states = || {
        let keys = issuer.keyring().keys();
        keys.x509.all().map(|(state, one)| (state, one.since)).collect::<Vec<_>>()
    };
    let begin = old.not_before();
    assert_eq!(states(), [(CaState::Active, begin)]);

    let keys = Keys::clone(&issuer.keyring().keys());
    let next = X509Ca::create(&cluster, ca(), NOW).unwrap();
    issuer.keyring().replace(Keys { x509: keys.x509.with_next(next, NOW), ..keys }).unwrap();
    assert_eq!(states(), [(CaState::Active, begin), (CaState::Next, NOW)]);
    assert!(signed_by(&old));

    let later = NOW + time::Duration::HOUR;
    let keys = Keys::clone(&issuer.keyring().keys());
    issuer.keyring().replace(Keys { x509: keys.x509.activated(later), ..keys }).unwrap();
    assert_eq!(states(), [(CaState::Active, later), (CaState::Retired, later)]);
    assert!(!signed_by(&old) && signed_by(&issuer.x509()));

    let keys = Keys::clone(&issuer.keyring().keys());
    assert_eq!(keys.x509.clone().activated(later).trusted().count(), 2, "there is no next one");
    assert_eq!(keys.x509.clone().without_retired_before(later).trusted().count(), 2);
    let end = later + time::Duration::DAY;
    issuer.keyring().replace(Keys { x509: keys.x509.without_retired_before(end), ..keys }).unwrap();
    assert_eq!(states(), [(CaState::Active, later)]);
}

/// As OpenSSL signs.
#[test]
fn keys_of_each_algorithm_prove_possession_by_a_signature() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("digest"), Sha256::digest(b"message")).unwrap();
    for (algorithm, option, sign) in [
        ("EC", "ec_paramgen_curve:P-256", ["pkeyutl", "-sign"].as_slice()),
        ("EC", "ec_paramgen_curve:P-384", &["dgst", "-sha384"]),
        ("RSA", "rsa_keygen_bits:2048", &["dgst", "-sha256"]),
        ("ED25519", "", &["pkeyutl", "-sign", "-rawin"]),
    ] {
        let mut openssl = Command::new("openssl");
        openssl.current_dir(&dir).args(["genpkey", "-algorithm", algorithm, "-out", "key"]);
        if !option.is_empty() {
            openssl.args(["-pkeyopt", option]);
        }
        run(&mut openssl);
        let mut openssl = Command::new("openssl");
        openssl.current_dir(&dir).args(["pkey", "-pubout", "-outform", "DER", "-in", "key"]);
        let key = SubjectKey::from_spki(&openssl.output().unwrap().stdout).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.current_dir(&dir).args(sign);
        match sign[0] {
            "dgst" => openssl.args(["-sign", "key", "digest"]),
            _ => openssl.args(["-inkey", "key", "-in", "digest"]),
        };
        let signature = openssl.output().unwrap().stdout;
        key.verify(b"message", &signature).unwrap();
        key.verify(b"another", &signature).unwrap_err();
        let mut wrong = signature.clone();
        *wrong.last_mut().unwrap() ^= 1;
        key.verify(b"message", &wrong).unwrap_err();
        key.verify(b"message", b"").unwrap_err();
    }
}

/// For the neutral element and its like, signatures exist that anybody can make.
#[test]
fn ed25519_keys_of_small_order_are_refused() {
    let spki = |key: &[u8; 32]| {
        [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", key.as_slice()].concat()
    };
    let mut neutral = [0; 32];
    neutral[0] = 1;
    for weak in [neutral, [0; 32]] {
        SubjectKey::from_spki(&spki(&weak)).unwrap_err();
    }
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
    SubjectKey::from_spki(&spki(key.as_bytes())).unwrap();
}

#[test]
fn certificate_begins_early_enough_for_clocks_that_differ_and_mostly_lies_ahead() {
    const HOUR: u64 = 3600;
    for seconds in [HOUR, 12 * HOUR, 24 * HOUR] {
        assert!(backdate(Duration::from_secs(seconds)) > Duration::from_secs(300));
    }
    // Agents renew at half of the lifetime with what was before its issue, a tenth earlier or later.
    for seconds in [180, 600, 1200, HOUR] {
        let lifetime = Duration::from_secs(seconds);
        let renewed = (lifetime + backdate(lifetime)) / 20 * 9;
        assert!(renewed > backdate(lifetime) + lifetime / 10, "{seconds}");
    }
}
