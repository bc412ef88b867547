//! Services of types `ssh-agent` and `ssh_host`.

use super::{LEAST, loaded, refused, with};
use crate::attest::rule::{Rule, Rules, UnixRule};
use crate::config::{
    Account, AgentSocket, Destination, KeyStorage, Selector, ServiceKind, Socket, SshHost, Sshd,
    text,
};

const FULL: &str = r#"services:
  - {type: ssh-agent, listen: unix:///run/endorse/ssh.sock, group: git, key: tpm, rules: [{unix: {uid: 33}}]}
  - type: ssh_host
    name: sshd
    principals: [db, "2001:db8::1"]
    selector: {name: sshd}
    destination: /etc/ssh/endorse
    key: tpm
    listen: unix:///run/endorse/sshd.sock
    reload: {systemd_unit: ssh, sshd: {address: "[::1]:2222", config: /etc/sshd_config}}
  - {type: ssh_host, principals: [db], destination: /etc/other, reload: {systemd_unit: ssh}}
"#;

#[test]
fn every_key_is_read_and_written_back() {
    let settings = with(FULL);
    let [agent, sshd, software] = settings.services.as_slice() else { panic!("three services") };
    let unix = UnixRule { uid: Some(33), ..UnixRule::default() };
    let rules = Rules(vec![Rule { unix, ..Rule::default() }]);
    let group = Some(Account::Name("git".into()));
    let socket = Socket { path: "/run/endorse/ssh.sock".into(), mode: 0o660, group };
    assert_eq!(agent.kind, ServiceKind::SshAgent(AgentSocket { socket, rules }));
    assert_eq!(agent.key_storage, KeyStorage::Tpm);
    assert_eq!(agent.destination, Destination::Memory);

    // sshd is root, and needs no mode.
    let socket = Socket { path: "/run/endorse/sshd.sock".into(), mode: 0o600, group: None };
    let host = SshHost {
        principals: vec!["db".into(), "2001:db8::1".into()],
        selector: Selector::Name("sshd".into()),
        agent: Some(AgentSocket { socket, rules: Rules::default() }),
    };
    assert_eq!(sshd.kind, ServiceKind::SshHost(host));
    let address = "[::1]:2222".parse().unwrap();
    let reload = sshd.reload.clone().unwrap();
    assert_eq!(reload.sshd, Some(Sshd { address, config: "/etc/sshd_config".into() }));

    assert_eq!(software.kind.agent(), None);
    assert_eq!(software.reload.clone().unwrap().sshd, Some(Sshd::default()));
    assert_eq!(loaded(&text(&settings)).settings, settings);
}

#[test]
fn faults_are_refused_with_their_place() {
    const HOST: &str = "type: ssh_host, destination: /d, principals";
    for (service, why) in [
        ("{type: ssh-agent}".to_owned(), "/run/endorse/ssh.sock"),
        ("{type: ssh-agent, listen: 'unix:///a', destination: /d}".to_owned(), "on the socket"),
        ("{type: ssh-agent, listen: 'unix:///a', reload: {}}".to_owned(), "the certificate"),
        ("{type: ssh_host, destination: /d}".to_owned(), "1 to 256 names"),
        ("{type: ssh_host, principals: [a]}".to_owned(), "no destination"),
        (format!("{{{HOST}: []}}"), "1 to 256 names"),
        (format!("{{{HOST}: [Db]}}"), "lower case"),
        (format!("{{{HOST}: ['*.example.org']}}"), "lower case"),
        (format!("{{{HOST}: ['']}}"), "principals"),
        (format!("{{{HOST}: ['db:22']}}"), "host name"),
        (format!("{{{HOST}: ['2001:DB8::1']}}"), "lower case"),
        (format!("{{{HOST}: [a], key: tpm}}"), "/run/endorse/sshd.sock"),
        (format!("{{{HOST}: [a], listen: 'unix:///a'}}"), "key in the TPM"),
        (format!("{{{HOST}: [a], rules: []}}"), "key in the TPM"),
        (
            "{type: x509, destination: /d, reload: {systemd_unit: a, sshd: {}}}".to_owned(),
            "host certificate",
        ),
    ] {
        let findings = refused(&format!("services: [{service}]")).to_string();
        assert!(findings.contains(why), "{service}\n{findings}");
    }
    let [agent, api] = ["ssh-agent", "workload-identity-api"]
        .map(|kind| format!("{{type: {kind}, listen: 'unix:///a'}}"));
    let findings = refused(&format!("services: [{agent}, {api}]")).to_string();
    assert!(findings.contains("has its socket"), "{findings}");
}

#[test]
fn key_for_everyone_without_rules_is_warned_of() {
    let service = "{type: ssh-agent, listen: 'unix:///a', mode: '0666'}";
    let warned = loaded(&format!("{LEAST}\nservices: [{service}]")).warnings.to_string();
    assert!(warned.contains("every user of this host can use this key"), "{warned}");
}
