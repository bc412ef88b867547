use std::fmt::Write;

use super::super::*;
use super::{LEAST, PIN, assert_snapshot, path, refused};

/// The services of a test, all of type x509.
fn service(keys: &str) -> String {
    format!("services:\n  - type: x509\n    destination: /d\n    {keys}")
}

/// One fault each, after the least that a configuration says.
fn single_faults() -> Vec<String> {
    let mut all: Vec<String> = [
        // the file
        "outputs: []\noutputs: []",
        "debug: true\n---\ndebug: true",
        "? [a]\n: b",
        "debug: !!bool true",
        "debug: [true",
        "  protocol: teleprot",
        "  protocol: teleport\nservices: [{type: x509, destination: /d}]",
        "  debug: true",
        "token: x",
        "Outputs: []",
        "renewal-interval: 20m",
        "entirely_else: 1",
        "<<: {debug: true}",
        // the top
        "version: v1",
        "version: v3",
        "auth_server: b:1",
        "insecure: true",
        "fips: true",
        "scoped: true",
        "join_uri: tbot+proxy+tpm://t@a:1",
        "oneshot: yes",
        "debug: 'true'",
        "debug: []",
        "log_format: jsn",
        "diag_addr: 3001",
        "diag_addr: example.com:3001",
        "credential_ttl: 1 hour",
        "credential_ttl: 3600",
        "credential_ttl: -1h",
        "credential_ttl: 1ms",
        "credential_ttl: 1h\ncertificate_ttl: 1h",
        "renewal_interval: 0",
        "renewal_interval: 1ns",
        "renewal_interval: 9999ms",
        "storage: []",
        "storage: {type: directory}",
        "storage: {path: /x}",
        "storage: {type: directory, path: ''}",
        "storage: {type: kubernetes_secret, name: x}",
        "storage: {type: directory, path: /x, readers: []}",
        "storage: file:///x",
        "services: {}",
        "services: [identity]",
        // the TPM
        "tpm: /dev/tpm0",
        "tpm: {address: dev/tpm0}",
        "tpm: {ek: p257}",
        "tpm: {owner_password: secret}",
        // services
        "services: [{destination: /d}]",
        "services: [{type: database, destination: /d}]",
        "services: [{type: workload-identity-jwt, destination: /d}]",
        "services: [{type: kubernetes/v3, destination: /d}]",
        "services: [{type: identitty, destination: /d}]",
        "services: [{type: x509}]",
        "services: [{type: x509, destinaton: /d}]",
        "services: [{type: identity, destination: /d, cluster: leaf}]",
        "services: [{type: identity, destination: /d, allow_reissue: true}]",
        "services: [{type: identity, destination: /d, ssh_config: 'of'}]",
        "services: [{type: identity, destination: /d}, {type: x509, destination: /d/.}]",
        "services: [{type: identity, destination: /var/lib/teleport/bot/}]",
        "services: [{type: identity, destination: /d/x/../e}, {type: x509, destination: /d/e/..v1}]",
        "services: [{type: identity, destination: /d/..v1/x}, {type: x509, destination: /d}]",
        "services: [{type: identity, name: x, destination: /a}, {type: x509, name: x, destination: /b}]",
    ]
    .map(str::to_owned)
    .to_vec();
    all.extend(
        [
            "name: a b",
            "name: identity",
            "roles: [a]",
            "selector: {name: x, labels: {a: b}}",
            "hint: x",
            "format: pem",
            "format: pkcs12",
            "credential_ttl: 1h",
            "reload: {}",
            "reload: {signal: HUP}",
            "reload: {signal: KILL, pid_file: /p}",
            "reload: {pid_file: /p, systemd_unit: a}",
            "reload: {command: [a], systemd_unit: a}",
            "reload: {command: nginx -s reload}",
            "reload: {command: []}",
            "reload: {command: [[a]]}",
            "reload: {systemd_unit: 'a b'}",
        ]
        .map(service),
    );
    all.extend(
        [
            "type: kubernetes_secret",
            "type: directory, path: /d, symlinks: safe",
            "type: directory, path: /d, acls: on",
            "type: directory, path: /d, readers: nginx",
            "type: directory, path: /d, readers: [{user: a, group: b}]",
            "type: directory, path: /d, readers: [{user: 4294967295}]",
            "type: directory, path: /d, readers: [{user: 'a b'}]",
            "type: memory, path: /d",
        ]
        .map(|keys| format!("services: [{{type: x509, destination: {{{keys}}}}}]")),
    );
    all
}

/// Faults of what [`LEAST`] has right.
fn whole_files() -> Vec<String> {
    let with = |from: &str, to: &str| {
        let text = LEAST.replace(from, to);
        assert_ne!(text, LEAST);
        text
    };
    let server = "proxy_server: example.teleport.sh:443";
    vec![
        with(server, ""),
        with("proxy_server", "prooxy_server"),
        with(":443", ""),
        with(":443", ":99999"),
        with("example", "https://example"),
        with(server, "proxy_server: []"),
        with(server, "proxy_server: [a:1, 'b c:2']"),
        with(server, "proxy_server: ::1:443"),
        with(server, "proxy_server: {}"),
        with("  token: my-bot-token\n", ""),
        with("my-bot-token", "my bot token"),
        with("my-bot-token", "\"\""),
        with("  ca_pins", "  join_method: iam\n  ca_pins"),
        with("  ca_pins", "  bound_keypair: {}\n  ca_pins"),
        with("  ca_pins", "  ca_path: /x\n  ca_pins"),
        with("  ca_pins", "  ca_pin"),
        with(PIN, "sha256:00"),
        with(&format!("[{PIN}]"), PIN),
        with("proxy_server", "auth_server").replace(&format!("[{PIN}]"), "[]"),
        with("onboarding", "onbording"),
        with("token", "tokne"),
        with("ca_pins", "ca_pinns"),
        LEAST.lines().take(1).chain(["onboarding: x"]).collect::<Vec<_>>().join("\n"),
    ]
}

/// What may not be meant as it stands.
fn doubtful() -> Vec<String> {
    [
        "credential_ttl: 48h",
        "certificate_ttl: 1h",
        "credential_ttl: 10m\nrenewal_interval: 20m",
        "leeway: 1m",
        "storage: data",
        "outputs: [{type: x509, destination: /d}]",
        "services: [{type: x509, destination: {type: directory, path: /d, acls: off, readers: [{group: a}]}}]",
    ]
    .map(|more| format!("{LEAST}\n{more}"))
    .to_vec()
}

#[test]
fn each_fault_is_said_alone_and_where_it_is() {
    let rest = single_faults().into_iter().map(|more| format!("{LEAST}\n{more}"));
    let mut found = String::new();
    for text in rest.chain(whole_files()) {
        let findings = read(&text, path()).expect_err(&text);
        let errors = findings.count(Severity::Error);
        let said = text.strip_prefix(&format!("{LEAST}\n")).unwrap_or(&text);
        writeln!(found, "=====\n{said}\n-----\n{findings}").unwrap();
        assert_eq!(errors, 1, "{said}\n{findings}");
    }
    assert_snapshot("faults.txt", include_str!("faults.txt"), &found);
}

#[test]
fn doubtful_settings_are_warned_of_and_accepted() {
    let mut found = String::new();
    for text in doubtful() {
        let loaded = read(&text, path()).unwrap_or_else(|findings| panic!("{findings}"));
        assert_eq!(loaded.warnings.count(Severity::Warning), 1, "{text}");
        let said = text.strip_prefix(&format!("{LEAST}\n")).unwrap();
        writeln!(found, "=====\n{said}\n-----\n{}", loaded.warnings).unwrap();
    }
    assert_snapshot("warnings.txt", include_str!("warnings.txt"), &found);
}

#[test]
fn all_faults_are_said_at_once_in_the_order_of_the_file() {
    let findings = read(include_str!("faults.yaml"), path()).unwrap_err();
    let shown = findings.to_string();
    assert_snapshot("all.txt", include_str!("all.txt"), &shown);
    assert_eq!(findings.count(Severity::Error), 21, "{shown}");
    let lines: Vec<_> =
        findings.iter().filter_map(|f| f.location.as_ref()).map(|at| at.line).collect();
    assert!(lines.is_sorted());
}

#[test]
fn programs_read_the_same_as_people() {
    let findings = refused("debug: 2");
    let json = serde_json::to_value(findings.iter().collect::<Vec<_>>()).unwrap();
    let expected = serde_json::json!([{
        "severity": "error",
        "line": 5,
        "column": 8,
        "message": "`debug` must be true or false, not the text `2`",
        "advice": "write true or false",
    }]);
    assert_eq!(json, expected);
}

#[test]
fn the_caret_is_under_what_is_meant() {
    let range = |text: &str| {
        let shown = refused(text).to_string();
        let lines: Vec<&str> = shown.lines().collect();
        let start = lines[4].find('^').unwrap();
        let width = lines[4].matches('^').count();
        lines[3].chars().skip(start).take(width).collect::<String>()
    };
    assert_eq!(range("debug: nonsense # ü"), "nonsense");
    assert_eq!(range("{\"ü\": 1, typo: 2}: 3").chars().next(), Some('{'));
    assert_eq!(range("storage: {path: /ü, type: memry}"), "memry");
    assert_eq!(range(&format!("storage: {{path: {}, type: memry}}", "/x".repeat(200))), "memry");
}
