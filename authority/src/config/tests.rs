use std::fmt::Write as _;

use clap::Parser;
use host::config::finding::Severity;

use super::*;
use crate::cli::{Cli, Command};
use crate::issue::JwtAlgorithm;

fn settings(yaml: &str, flags: &[&str]) -> Result<Settings, LoadError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("authority.yaml");
    std::fs::write(&path, yaml).unwrap();
    let words = ["authority", "start", "-c", path.to_str().unwrap()];
    let cli = Cli::try_parse_from(words.iter().chain(flags)).unwrap();
    let Command::Start(start) = cli.command else { panic!("another command") };
    Settings::new(&start)
}

fn refused(yaml: &str) -> Findings {
    let path = Path::new("authority.yaml");
    Document::read(yaml, path).map_or_else(|findings| findings, |_| panic!("accepted: {yaml}"))
}

fn unusable(bytes: &[u8]) -> Findings {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let Err(LoadError::Unusable(findings)) = load(file.path()) else { panic!("not refused") };
    findings
}

/// Compares with the stored snapshot. `UPDATE_SNAPSHOTS=1` rewrites it; review the change.
fn assert_snapshot(name: &str, expected: &str, found: &str) {
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests");
        std::fs::write(Path::new(directory).join(name), found).unwrap();
    } else {
        assert!(expected == found, "{name} differs; found:\n{found}");
    }
}

fn levels(text: &str) -> Levels {
    text.parse().unwrap()
}

#[test]
fn flags_override_the_file() {
    let yaml = "data_dir: /srv/a\nlisten: 127.0.0.1:1\ncluster_name: one\njoin_timeout: 2m\n\
                diag_addr: \"[::1]:9\"\nlog:\n  format: json\n  level: debug\n";
    let all = settings(yaml, &[]).unwrap();
    assert_eq!(all.data_dir, Path::new("/srv/a"));
    assert_eq!(all.listen.to_string(), "127.0.0.1:1");
    assert_eq!(all.cluster_name.as_ref().unwrap().as_str(), "one");
    assert_eq!(all.join_timeout, Duration::from_secs(120));
    assert_eq!(all.diag_addr.unwrap().port(), 9);
    assert_eq!(all.cryptography, Cryptography::Automatic);
    let portable = settings("cryptography: portable\n", &[]).unwrap();
    assert_eq!(portable.cryptography, Cryptography::Portable);
    assert_eq!((all.log_format, all.log_levels), (Some(LogFormat::Json), levels("debug")));
    let flags = ["--listen", "127.0.0.1:2", "--data-dir", "/b", "--join-timeout", "5s"];
    let over = settings(yaml, &flags).unwrap();
    assert_eq!((over.listen.port(), over.data_dir.as_path()), (2, Path::new("/b")));
    assert_eq!(over.join_timeout, Duration::from_secs(5));
    assert_eq!(over.cluster_name, all.cluster_name);
    let usual = settings("# nothing\n", &[]).unwrap();
    assert_eq!(usual.listen.to_string(), "0.0.0.0:3025");
    assert_eq!(usual.join_timeout, Duration::from_secs(60));
    assert_eq!((usual.diag_addr, usual.log_levels), (None, Levels::default()));
    let empty = settings("log: {level: \"\"}\n", &[]).unwrap();
    assert_eq!(empty.log_levels, Levels::default());
}

#[test]
fn public_addresses_are_written_as_for_teleport() {
    let keypairs = "https_keypairs:\n- {cert_file: /a.pem, key_file: /a.key}\n- cert_file: /b.pem\n  \
                    key_file: /b.key\n";
    let public = |addr: &str| settings(&format!("public_addr: {addr}\n{keypairs}"), &[]);
    let one = public("Endorse.Example.com:443").unwrap().public;
    assert_eq!(one.addrs[0].with_port(3025), "endorse.example.com:443");
    assert_eq!(one.keypairs[1].key_file, Path::new("/b.key"));
    let two = public("[a.example.com, b.example.com:8443]").unwrap().public;
    let shown: Vec<_> = two.addrs.iter().map(|addr| addr.with_port(3025)).collect();
    assert_eq!(shown, ["a.example.com:3025", "b.example.com:8443"]);
    assert_eq!(settings("{}", &[]).unwrap().public, Public::default());
    for (addr, why) in [
        ("https://a.example.com", "is a URL"),
        ("192.0.2.1:443", "is an IP address"),
        ("'[::1]:443'", "is not NAME or NAME:PORT"),
        ("a.example.com:0", "is not NAME or NAME:PORT"),
        ("a.example.com:70000", "is not NAME or NAME:PORT"),
        ("a..b", "is not NAME or NAME:PORT"),
        ("{a: b}", "must be a single value"),
    ] {
        let Err(LoadError::Unusable(findings)) = public(addr) else { panic!("accepted: {addr}") };
        assert!(findings.to_string().contains(why), "{addr}: {findings}");
    }
}

#[test]
fn lenience_must_be_configured() {
    use verifier::chain::{DatePolicy, Sha1Policy};
    let policy = |yaml: &str, flags: &[&str]| settings(yaml, flags).unwrap().ek_policy;
    let strict = policy("# nothing\n", &[]);
    assert_eq!((strict.dates, strict.sha1), (DatePolicy::Now, Sha1Policy::Refused));
    let yaml = "ek_certificates: {expired: accepted, sha1: accepted}\n";
    let lenient = policy(yaml, &[]);
    assert_eq!((lenient.dates, lenient.sha1), (DatePolicy::AtIssuance, Sha1Policy::Accepted));
    let over = policy(yaml, &["--ek-sha1", "refused"]);
    assert_eq!((over.dates, over.sha1), (DatePolicy::AtIssuance, Sha1Policy::Refused));
}

#[test]
fn file_that_is_not_utf8_is_refused_at_its_first_such_byte() {
    let findings = unusable(b"data_dir: /a\n# caf\xe9\n");
    let finding = findings.iter().next().unwrap();
    let at = finding.location.as_ref().unwrap();
    assert_eq!((at.line, at.column), (2, 6));
    assert_eq!(finding.message, "the file is not valid UTF-8");
}

#[test]
fn file_that_is_too_large_is_refused() {
    let findings = unusable(&vec![b'#'; 10 << 20]);
    assert_eq!(findings.iter().next().unwrap().message, "the file is larger than 1 MiB");
}

#[test]
fn missing_file_is_not_the_default_configuration() {
    let start = Start { config: Some("/nonexistent/authority.yaml".into()), ..Start::default() };
    let Err(LoadError::Unreadable(failure)) = Settings::new(&start) else { panic!("read") };
    assert!(failure.message.starts_with("cannot read /nonexistent/authority.yaml: "), "{failure}");
}

#[test]
fn each_fault_is_reported_alone_with_key_line_and_column() {
    let mut found = String::new();
    for yaml in [
        "listn: 127.0.0.1:1",
        "entirely_else: 1",
        "- a",
        "text",
        "data_dir: [",
        "data_dir: /a\ndata_dir: /b",
        "data_dir: \"\"",
        "data_dir: [/a]",
        "listen: 1",
        "listen: here",
        "listen: true",
        "listen: 127.0.0.1",
        "diag_addr: \"\"",
        "public_addr: a.example.com",
        "https_keypairs: [{cert_file: /a, key_file: /b}]",
        "public_addr: a.example.com\nhttps_keypairs: [{cert_file: /a}]",
        "public_addr: a.example.com\nhttps_keypairs: [/b]",
        "diag_addr: [a]",
        "\n\ncluster_name: UPPER",
        "cluster_name: {}",
        "join_timeout: 1h",
        "join_timeout: 0",
        "ek_certificates: accepted",
        "ek_certificates:\n  sha1: maybe",
        "ek_certificates:\n  sha1: true",
        "ek_certificates:\n  expired: acepted",
        "ek_certificates:\n  sha256: accepted",
        "teleport: off",
        "teleport:\n  join: maybe",
        "teleport:\n  legacy_join: true",
        "teleport:\n  join_legacy: off",
        "store: postgresql",
        "store: {type: postgres}",
        "store: {type: embedded, url: \"postgresql://a@b/c\"}",
        "store: {url: \"postgresql://a@b/c\"}",
        "store: {type: postgresql, ca_file: /a}",
        "store: {type: postgresql, url: \"postgresql://a@b/c\"}",
        "store: {type: postgresql, url: \"postgresql://a:secret@b/c\", ca_file: /a}",
        "store: {type: postgresql, url: \"postgresql://a@b/c?sslmode=disable\", tls: off}",
        "store: {type: postgresql, url: \"postgresql://a@b/c\", tls: off, ca_file: /a}",
        "store: {type: postgresql, url: \"postgresql://a@%2Frun/c\", channel_binding: require}",
        "store: {type: postgresql, url: \"postgresql://a@b/c\", ca_file: /a, key_file: /b}",
        "store: {type: postgresql, url: \"postgresql://a@b/c\", ca_file: /a, password: secret}",
        "store: {type: postgresql, url: \"postgresql://a@b/c\", ca_file: /a, channel_binding: on}",
        "log: debug",
        "log:\n  format: xml",
        "log:\n  format: jsn",
        "log:\n  level: verbose",
        "log:\n  level: a=b=c",
        "log:\n  colour: red",
        "log:\n\tlevel: info",
        "log: !!map {level: info}",
        "---\nlisten: 127.0.0.1:1\n---\n",
    ] {
        let findings = refused(yaml);
        writeln!(found, "=====\n{yaml}\n-----\n{findings}").unwrap();
        assert_eq!(findings.count(Severity::Error), 1, "{yaml}\n{findings}");
    }
    assert_snapshot("faults.txt", include_str!("tests/faults.txt"), &found);
}

#[test]
fn all_faults_are_reported_at_once_in_the_order_of_the_file() {
    let findings = refused(include_str!("tests/faults.yaml"));
    assert_snapshot("all.txt", include_str!("tests/all.txt"), &findings.to_string());
    assert_eq!(findings.count(Severity::Error), 12, "{findings}");
    let lines: Vec<_> =
        findings.iter().filter_map(|one| one.location.as_ref()).map(|at| at.line).collect();
    assert!(lines.is_sorted());
}

/// Text is text in YAML 1.2 where a string is wanted, whatever it looks like.
#[test]
fn numbers_and_booleans_are_text_where_text_is_expected() {
    let yaml = "data_dir: 1\ncluster_name: true\njoin_timeout: 90\nlog: {level: off}\n";
    let all = settings(yaml, &[]).unwrap();
    assert_eq!(all.log_levels, levels("off"));
    assert_eq!(all.data_dir, Path::new("1"));
    assert_eq!(all.cluster_name.unwrap().as_str(), "true");
    assert_eq!(all.join_timeout, Duration::from_secs(90));
}

#[test]
fn keys_without_a_value_have_their_default() {
    // An entry of a list, and the endpoint, are given whole or not at all.
    let sections = reference()
        .into_iter()
        .filter(|section| !section.path.ends_with("[]") && section.path != "bundle_endpoint");
    let keys: Vec<_> = sections.flat_map(|section| section.keys).map(|key| key.0).collect();
    let empty = "data_dir:\nlisten: ~\npublic_addr:\nhttps_keypairs: ~\ncluster_name: null\njoin_timeout:\ndiag_addr:\n\
                 ek_certificates:\n  expired:\n  sha1:\nteleport:\n  join:\n  legacy_join:\njwt:\n  algorithm:\n  \
                 issuer:\nbundle_endpoint:\nstore:\n  type:\n  url:\n  password_file:\n  \
                 ca_file:\n  certificate_file:\n  key_file:\n  channel_binding:\n  tls:\naudit:\n  retention:\n    age:\n    size:\ncryptography:\nlog:\n  format:\n  level:\n";
    assert!(keys.iter().all(|key| empty.contains(&format!("{key}:"))), "{keys:?}");
    let default = Settings::new(&Start::default()).unwrap();
    for yaml in [empty, "", "\u{feff}", "# nothing\n", "ek_certificates:\nlog:\n", "{}"] {
        assert_eq!(settings(yaml, &[]).unwrap(), default, "{yaml}");
    }
}

#[test]
fn each_of_teleports_services_can_be_switched_off() {
    let both = |yaml: &str, flags: &[&str]| settings(yaml, flags).unwrap().teleport;
    let services = |join, legacy_join| TeleportServices { join, legacy_join };
    assert_eq!(both("", &[]), services(true, true));
    assert_eq!(both("teleport: {join: off}", &[]), services(false, true));
    assert_eq!(both("teleport: {legacy_join: off}", &[]), services(true, false));
    let flags = ["--teleport-join", "on", "--teleport-legacy-join", "off"];
    assert_eq!(both("teleport: {join: off, legacy_join: on}", &flags), services(true, false));
}

#[test]
fn join_timeout_is_from_a_second_to_ten_minutes() {
    let timeout = |text: &str| text.parse::<JoinTimeout>().map(JoinTimeout::duration);
    assert_eq!(timeout("60s"), Ok(Duration::from_secs(60)));
    assert_eq!(timeout("2m"), Ok(Duration::from_secs(120)));
    for wrong in ["0s", "11m", "-1s", "", "m", "1h", "18446744073709551615m"] {
        timeout(wrong).unwrap_err();
    }
}

#[test]
fn retention_is_read_and_none_by_default() {
    let retention = |yaml: &str| settings(yaml, &[]).unwrap().audit.retention;
    let none = Retention { age: None, size: None };
    assert_eq!((retention("{}"), retention("audit: {retention: }")), (none, none));
    let both = retention("audit: {retention: {age: 30d, size: 2GiB}}");
    assert_eq!(both.age, Some(Duration::from_hours(30 * 24)));
    assert_eq!(both.size, Some(2 << 30));
    for wrong in ["age: 30", "size: 2", "days: 30"] {
        refused(&format!("audit: {{retention: {{{wrong}}}}}\n"));
    }
}

#[test]
fn jwt_algorithm_and_issuer_are_read() {
    let none = settings("{}", &[]).unwrap().jwt;
    assert_eq!((none.algorithm, none.issuer), (JwtAlgorithm::Es256, None));
    let yaml = "jwt: {algorithm: RS256, issuer: \"https://oidc.example.com/a\"}\n";
    let jwt = settings(yaml, &[]).unwrap().jwt;
    assert_eq!(jwt.algorithm, JwtAlgorithm::Rs256);
    assert_eq!(jwt.issuer.unwrap().as_str(), "https://oidc.example.com/a");
    for wrong in ["{algorithm: EdDSA}", "{issuer: \"https://a/\"}", "{isuer: a}", "ES256"] {
        refused(&format!("jwt: {wrong}\n"));
    }
}
