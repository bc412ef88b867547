//! Services of type `workload-identity-api`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{loaded, refused, with};
use crate::attest::rule::{Rule, Rules, SystemdRule, UnixRule};
use crate::config::{Account, Listen, Offer, Reader, SdsNames, Selector, Settings, Socket, text};

const FULL: &str = r#"services:
  - type: workload-identity-api
    name: web
    listen: unix:///run/endorse/workload.sock
    mode: "0666"
    group: web
    credential_ttl: 10m
    selector: {labels: {env: [prod, test], "*": x}}
    rules:
      - unix: {pid: 1, uid: 33, gid: 34, supplementary_gid: 35, path: /usr/sbin/nginx}
      - unix: {sha256: 00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF}
        systemd: {unit: nginx.service, slice: system.slice}
        pod_uid: p
    sds: {default_svid_name: mine, disable_spiffe_cert_validation: true}
  - type: spiffe-workload-api
    listen: unix:/run/old.sock
    svids:
      - {path: /web, hint: h, rules: [{unix: {uid: 0}}]}
      - path: /db
"#;

fn rule(unix: UnixRule) -> Rule {
    Rule { unix, ..Rule::default() }
}

fn full() -> Settings {
    with(FULL)
}

#[test]
fn every_key_is_read_and_written_back() {
    let settings = full();
    let [web, old] = settings.workload_apis.as_slice() else { panic!("two services") };
    assert_eq!((web.name.as_str(), web.ttl), ("web", Duration::from_secs(600)));
    let group = Some(Account::Name("web".into()));
    let path = "/run/endorse/workload.sock".into();
    assert_eq!(web.listen, Listen::Unix(Socket { path, mode: 0o666, group }));
    let labels = [("env", &["prod", "test"][..]), ("*", &["x"])];
    let labels = labels
        .map(|(key, values)| (key.to_owned(), values.iter().map(ToString::to_string).collect()));
    let mut hash = [0; 32];
    base16ct::mixed::decode("00112233445566778899aabbccddeeff".repeat(2), &mut hash).unwrap();
    let rules = Rules(vec![
        rule(UnixRule {
            pid: Some(1),
            uid: Some(33),
            gid: Some(34),
            supplementary_gid: Some(35),
            path: Some("/usr/sbin/nginx".into()),
            sha256: None,
        }),
        Rule {
            systemd: SystemdRule {
                unit: Some("nginx.service".into()),
                slice: Some("system.slice".into()),
            },
            pod_uid: Some("p".into()),
            ..rule(UnixRule { sha256: Some(hash), ..UnixRule::default() })
        },
    ]);
    let selector = Selector::Labels(BTreeMap::from(labels));
    assert_eq!(web.offers, [Offer { selector, hint: None, rules }]);
    assert!(web.needs_executable() && !old.needs_executable());
    assert_eq!(
        web.sds,
        SdsNames {
            default_svid: "mine".into(),
            disable_spiffe_cert_validation: true,
            ..SdsNames::default()
        }
    );
    assert_eq!(old.name.as_str(), "spiffe-workload-api-output-2");
    let mode = old.listen.socket().unwrap().mode;
    assert_eq!((mode, old.ttl), (0o660, settings.lifetime.ttl));
    let of = |path: &str, hint: Option<&str>, rules| Offer {
        selector: Selector::Path(path.into()),
        hint: hint.map(Into::into),
        rules,
    };
    let root = Rules(vec![rule(UnixRule { uid: Some(0), ..UnixRule::default() })]);
    assert_eq!(old.offers, [of("/web", Some("h"), root), of("/db", None, Rules::default())]);
    assert_eq!(loaded(&text(&settings)).settings, settings);
}

#[test]
fn faults_are_refused_with_their_place() {
    for (service, why) in [
        ("{type: workload-identity-api}", "/run/endorse/workload.sock"),
        ("{type: workload-identity-api, listen: 'tcp://192.0.2.1:1'}", "loopback"),
        ("{type: workload-identity-api, listen: 'tcp://[::]:1'}", "loopback"),
        ("{type: workload-identity-api, listen: 'tcp://localhost:1'}", "loopback"),
        (
            "{type: workload-identity-api, listen: 'unix:///a', rules: [{systemd: {unit: nginx}}]}",
            "whole name of a unit",
        ),
        (
            "{type: workload-identity-api, listen: 'unix:///a', rules: [{systemd: {slice: a.service}}]}",
            "whole name of a slice",
        ),
        ("{type: workload-identity-api, listen: 'tcp://127.0.0.1'}", "loopback"),
        ("{type: workload-identity-api, listen: 'tcp://127.0.0.1:1', mode: '0660'}", "`mode`"),
        ("{type: workload-identity-api, listen: 'tcp://127.0.0.1:1', group: a}", "`group`"),
        (
            "{type: workload-identity-api, listen: 'tcp://127.0.0.1:1', selector: {name: a}}",
            "`selector`",
        ),
        (
            "{type: workload-identity-api, listen: 'tcp://127.0.0.1:1', rules: [{unix: {uid: 1}}]}",
            "`rules`",
        ),
        (
            "{type: spiffe-workload-api, listen: 'tcp://127.0.0.1:1', svids: [{path: /a}]}",
            "over TCP",
        ),
        ("{type: workload-identity-api, listen: unix://run/a}", "absolute path"),
        ("{type: workload-identity-api, listen: 'unix:///a', mode: '0777'}", "octal"),
        ("{type: workload-identity-api, listen: 'unix:///a', mode: '0060'}", "octal"),
        (
            "{type: workload-identity-api, listen: 'unix:///a', key: tpm}",
            "supported here: the Workload API delivers private keys, in PKCS #8",
        ),
        ("{type: workload-identity-api, listen: 'unix:///a', destination: /d}", "on the socket"),
        ("{type: workload-identity-api, listen: 'unix:///a', selector: {}}", "`name` or `labels`"),
        ("{type: workload-identity-api, listen: 'unix:///a', rules: [{}]}", "states nothing"),
        ("{type: workload-identity-api, listen: 'unix:///a', rules: [{unix: {uid: -1}}]}", "uid"),
        ("{type: workload-identity-api, listen: 'unix:///a', rules: [{unix: {path: a}}]}", "path"),
        (
            "{type: workload-identity-api, listen: 'unix:///a', rules: [{unix: {sha256: a}}]}",
            "sha256",
        ),
        (
            "{type: workload-identity-api, listen: 'unix:///a', rules: [{docker: {}}]}",
            "container_id",
        ),
        ("{type: spiffe-workload-api, listen: 'unix:///a'}", "svids"),
        ("{type: spiffe-workload-api, listen: 'unix:///a', svids: [{path: a}]}", "slash"),
        ("{type: spiffe-workload-api, listen: 'unix:///a', svids: [{path: /a/../b}]}", "SPIFFE ID"),
        ("{type: spiffe-workload-api, listen: 'unix:///a', svids: [{path: /a/}]}", "SPIFFE ID"),
        ("{type: spiffe-workload-api, listen: 'unix:///a', svids: [{hint: a}]}", "no `path`"),
    ] {
        let findings = refused(&format!("services: [{service}]")).to_string();
        assert!(findings.contains(why), "{service}\n{findings}");
    }
    let twice = "{type: workload-identity-api, listen: 'unix:///a'}";
    let findings = refused(&format!("services: [{twice}, {twice}]")).to_string();
    assert!(findings.contains("has its socket"), "{findings}");
}

#[test]
fn socket_for_everyone_without_rules_is_warned_of() {
    let service = "{type: workload-identity-api, listen: 'unix:///a', mode: '0666'}";
    let warned = loaded(&format!("{}\nservices: [{service}]", super::LEAST)).warnings.to_string();
    assert!(warned.contains("every user of this host"), "{warned}");
}

#[test]
fn socket_is_warned_of_where_the_agent_runs_once() {
    for service in [
        "{type: workload-identity-api, name: a, listen: 'unix:///a'}",
        "{type: workload-identity-api, name: a, listen: 'tcp://127.0.0.1:1'}",
        "{type: ssh-agent, name: a, listen: 'unix:///a'}",
    ] {
        let more =
            format!("oneshot: true\nservices:\n  - {service}\n  - {{type: x509, destination: /d}}");
        let warned = loaded(&format!("{}\n{more}", super::LEAST)).warnings.to_string();
        let what = "warning: with `oneshot` nothing can connect to the socket of a\n --> /etc/tbot.yaml:7:";
        assert_eq!(warned.matches(what).count(), 1, "{warned}");
        assert_eq!(warned.matches("oneshot").count(), 2, "{warned}");
    }
}

/// The file may be for another host.
#[test]
fn users_and_groups_are_found_with_their_places() {
    let loaded = loaded(&format!(
        "{}\nservices:\n  - {{type: ssh-agent, listen: 'unix:///a', group: git}}\noutputs:\n  - type: x509\n    \
         destination:\n      type: directory\n      path: /d\n      readers: [{{user: web}}, {{group: 7}}]",
        super::LEAST
    ));
    let found: Vec<_> =
        loaded.accounts.iter().map(|named| (&named.account, named.location.line)).collect();
    let [git, web, seven] = [
        Reader::Group(Account::Name("git".into())),
        Reader::User(Account::Name("web".into())),
        Reader::Group(Account::Id(7)),
    ];
    assert_eq!(found, [(&git, 6), (&web, 12), (&seven, 12)]);
}

#[test]
fn tcp_is_warned_of_and_written_back() {
    let service = "{type: workload-identity-api, listen: 'tcp://[::1]:9001'}";
    let read = loaded(&format!("{}\nservices: [{service}]", super::LEAST));
    let warned = read.warnings.to_string();
    assert!(warned.contains("every user of this host"), "{warned}");
    let [api] = read.settings.workload_apis.as_slice() else { panic!("one service") };
    assert_eq!(api.listen, Listen::Tcp("[::1]:9001".parse().unwrap()));
    assert_eq!(loaded(&text(&read.settings)).settings, read.settings);
}
