use std::fs;
use std::path::Path;
use std::process::Command;

use p256::SecretKey;
use p256::elliptic_curve::Generate;
use time::macros::datetime;

use super::*;
use crate::resource::{BotSpec, Metadata, Resource, Timestamp, read};

const NOW: OffsetDateTime = datetime!(2026-06-01 12:00:00.75 UTC);

fn issuer() -> Issuer {
    let cluster: ClusterName = "example.test".parse().unwrap();
    let x509 = X509Authority::create(&cluster, CaKey::generate().unwrap(), NOW).unwrap();
    let ssh = SshAuthority::new(&cluster, &CaKey::generate().unwrap()).unwrap();
    Issuer::new(cluster, x509, ssh)
}

fn bot(spec: &str) -> Bot {
    let yaml = format!("kind: bot\nversion: v1\nmetadata: {{name: web-1}}\nspec: {spec}\n");
    match read(&yaml).unwrap().remove(0) {
        Resource::Bot(bot) => bot,
        Resource::Token(_) => panic!("a token"),
    }
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
    let key = SecretKey::generate().public_key();
    let issued = issuer.credentials(&bot("{roles: [access, 'dev, ops=x']}"), &key, NOW).unwrap();
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
        "Subject: O = access, O = \"dev, ops=x\", CN = bot-web-1",
        "Not Before: Jun  1 11:59:00 2026 GMT",
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
    for line in ["CA:TRUE, pathlen:0", "Certificate Sign, CRL Sign", "May 31 12:00:00 2036 GMT"] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }

    let ssh = dir.path().join("key-cert.pub");
    fs::write(&ssh, &issued.ssh).unwrap();
    let text = run(Command::new("ssh-keygen").env("TZ", "UTC").arg("-L").arg("-f").arg(&ssh));
    for line in [
        "Type: ecdsa-sha2-nistp256-cert-v01@openssh.com user certificate",
        "Key ID: \"bot-web-1\"",
        "Valid: from 2026-06-01T11:59:00 to 2026-06-01T13:00:00",
        "Principals: \n                bot-web-1\n",
        "Critical Options: (none)",
        "permit-pty",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let ca = dir.path().join("ssh-ca.pub");
    fs::write(&ca, issuer.ssh().public_key().unwrap()).unwrap();
    let fingerprint = run(Command::new("ssh-keygen").arg("-lf").arg(&ca));
    let fingerprint = fingerprint.split(' ').nth(1).unwrap();
    assert!(text.contains(&format!("Signing CA: ECDSA {fingerprint} ")), "{text}");
}

#[test]
fn a_peer_refuses_what_another_authority_signed_or_what_has_expired() {
    let (ours, other) = (issuer(), issuer());
    let key = SecretKey::generate().public_key();
    let issued = ours.credentials(&bot("{}"), &key, NOW).unwrap();
    let id = "spiffe://example.test/bot/web-1";
    ours.x509.verify_host(&issued.x509, id, NOW).unwrap();
    other.x509.verify_host(&issued.x509, id, NOW).unwrap_err();
    ours.x509.verify_host(&issued.x509, "spiffe://example.test/bot/web-2", NOW).unwrap_err();
    ours.x509.verify_host(&issued.x509, id, NOW + time::Duration::HOUR * 2).unwrap_err();

    let ssh = ssh_key::Certificate::from_openssh(&issued.ssh).unwrap();
    ours.ssh.verify_user(&ssh, &key, NOW).unwrap();
    other.ssh.verify_user(&ssh, &key, NOW).unwrap_err();
    ours.ssh.verify_user(&ssh, &SecretKey::generate().public_key(), NOW).unwrap_err();
    ours.ssh.verify_user(&ssh, &key, NOW + time::Duration::HOUR * 2).unwrap_err();
}

#[test]
fn a_bot_can_shorten_the_life_of_its_certificates_and_nothing_outlives_its_issuer() {
    let issuer = issuer();
    let key = SecretKey::generate().public_key();
    let whole = NOW.replace_nanosecond(0).unwrap();
    let life = |bot: &Bot, now| issuer.credentials(bot, &key, now).unwrap().not_after - now;
    assert_eq!(life(&bot("{}"), whole), time::Duration::HOUR);
    assert_eq!(life(&bot("{max_session_ttl: 12h}"), whole), time::Duration::HOUR);
    assert_eq!(life(&bot("{max_session_ttl: 10m}"), whole), time::Duration::minutes(10));
    let end = whole + time::Duration::minutes(5);
    let metadata = Metadata { expires: Some(Timestamp(end)), ..bot("{}").metadata };
    assert_eq!(life(&Bot::new(metadata, BotSpec::default()), whole), time::Duration::minutes(5));
    let late = issuer.x509().not_after() - time::Duration::MINUTE;
    assert_eq!(life(&bot("{}"), late), time::Duration::MINUTE);
    issuer.credentials(&bot("{}"), &key, late + time::Duration::HOUR).unwrap_err();
}

#[test]
fn certificates_have_serial_numbers_of_their_own() {
    let issuer = issuer();
    let key = SecretKey::generate().public_key();
    let serials: std::collections::BTreeSet<_> =
        (0..50).map(|_| issuer.credentials(&bot("{}"), &key, NOW).unwrap().serial).collect();
    assert_eq!(serials.len(), 50);
    assert!(serials.iter().all(|serial| serial.len() == 16 * 3 - 1));
}

#[test]
fn an_authority_is_loaded_only_with_its_own_key() {
    let cluster: ClusterName = "a".parse().unwrap();
    let key = CaKey::generate().unwrap();
    let pem = key.to_pem().unwrap();
    let created = X509Authority::create(&cluster, key, NOW).unwrap();
    let loaded = CaKey::from_pem(&pem).unwrap();
    X509Authority::load(created.certificate(), loaded).unwrap();
    let other = CaKey::generate().unwrap();
    X509Authority::load(created.certificate(), other).unwrap_err();
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
