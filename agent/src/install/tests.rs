use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::udev;
use super::unit::{Callers, HostKeys, Reach, Unit};

const SNAPSHOT: &str = include_str!("data/snapshot.service");

fn unit() -> Unit {
    Unit {
        name: "endorse-agent".parse().unwrap(),
        user: "endorse-agent".parse().unwrap(),
        group: "endorse-agent".parse().unwrap(),
        device_group: "tss".parse().unwrap(),
        program: "/usr/bin/agent".into(),
        config: "/etc/tbot.yaml".into(),
        tpm: "device:/dev/tpmrm0".parse().unwrap(),
        stated_tpm: false,
        storage: Some("/var/lib/teleport/bot".into()),
        stated_storage: false,
        pid_file: None,
        read_write: vec!["/opt/machine-id".into()],
        callers: Callers::Unknown,
        sockets: Vec::new(),
        socket_groups: Vec::new(),
        host_keys: HostKeys::None,
    }
}

#[test]
fn the_unit_is_what_was_agreed() {
    let text = unit().render().unwrap();
    if std::env::var_os("UPDATE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/install/data/snapshot.service");
        fs::write(path, &text).unwrap();
    }
    assert_eq!(text, SNAPSHOT, "run with UPDATE=1 to rewrite it");
}

fn lines<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn paths_decide_what_is_protected() {
    let text = unit().render().unwrap();
    assert_eq!(lines(&text, "StateDirectory"), ["teleport/bot"]);
    assert_eq!(lines(&text, "ReadWritePaths"), ["/opt/machine-id"]);
    assert_eq!(lines(&text, "DeviceAllow"), ["/dev/tpmrm0 rw", "char-tpm rw"]);
    assert!(lines(&text, "PrivateDevices").is_empty());

    let elsewhere = Unit {
        storage: Some("/srv/a b".into()),
        read_write: vec!["/home/x/50%\"$".into(), "/srv/a b".into()],
        tpm: "swtpm:path=/tmp/tpm.sock".parse().unwrap(),
        config: "/etc/$HOME.yaml".into(),
        ..unit()
    };
    let text = elsewhere.render().unwrap();
    assert_eq!(lines(&text, "ReadWritePaths"), ["\"/home/x/50%%\\\"$\"", "\"/srv/a b\""]);
    assert_eq!(lines(&text, "ExecStart"), ["/usr/bin/agent start --config /etc/$$HOME.yaml"]);
    assert_eq!(lines(&text, "ProtectHome"), ["read-only"]);
    assert_eq!(lines(&text, "PrivateTmp"), ["no"]);
    assert_eq!(lines(&text, "PrivateDevices"), ["yes"]);
    for key in ["StateDirectory", "StateDirectoryMode", "DeviceAllow", "SupplementaryGroups"] {
        assert!(lines(&text, key).is_empty(), "{key}");
    }
}

#[test]
fn directory_of_the_pid_file_can_be_written() {
    let with_file = |path: &str| Unit { pid_file: Some(path.into()), ..unit() }.render().unwrap();
    let text = with_file("/run/tbot/tbot.pid");
    assert_eq!(lines(&text, "RuntimeDirectory"), ["tbot"]);
    assert_eq!(lines(&text, "ReadWritePaths"), ["/opt/machine-id"]);
    let command = "/usr/bin/agent start --config /etc/tbot.yaml --pid-file /run/tbot/tbot.pid";
    assert_eq!(lines(&text, "ExecStart"), [command]);
    let text = with_file("/srv/tbot.pid");
    assert!(lines(&text, "RuntimeDirectory").is_empty());
    assert_eq!(lines(&text, "ReadWritePaths"), ["/opt/machine-id", "/srv"]);
}

#[test]
fn groups_of_sockets_are_those_of_the_agent_too() {
    let groups = ["web", "33", "web"].map(ToOwned::to_owned);
    let text = Unit { socket_groups: groups.to_vec(), ..unit() }.render().unwrap();
    let groups = text.lines().filter_map(|line| line.strip_prefix("SupplementaryGroups="));
    assert_eq!(groups.collect::<Vec<_>>(), ["33", "tss", "web"]);
}

#[test]
fn sockets_below_run_have_directories_after_each_boot() {
    let sockets = ["/run/endorse", "/run/endorse", "/run/tbot", "/srv/s"].map(PathBuf::from);
    let text = Unit { sockets: sockets.to_vec(), ..unit() }.render().unwrap();
    assert_eq!(lines(&text, "RuntimeDirectory"), ["endorse", "tbot"]);
    assert_eq!(lines(&text, "ReadWritePaths"), ["/opt/machine-id", "/srv/s"]);
}

#[test]
fn sshd_starts_after_the_agent_that_has_its_key() {
    assert!(lines(&unit().render().unwrap(), "Before").is_empty());
    let text = Unit { host_keys: HostKeys::Offered, ..unit() }.render().unwrap();
    assert_eq!(lines(&text, "Before"), ["ssh.service sshd.service"]);
}

#[test]
fn only_an_agent_that_reads_executables_may_trace_processes() {
    let with = |callers| Unit { callers, ..unit() }.render().unwrap();
    let text = with(Callers::Unknown);
    assert_eq!(lines(&text, "ProtectProc"), ["invisible"]);
    for text in [text, with(Callers::Attested)] {
        assert_eq!(lines(&text, "CapabilityBoundingSet"), [""]);
        assert!(lines(&text, "AmbientCapabilities").is_empty());
        assert!(!text.contains("capset"));
    }
    assert_eq!(lines(&with(Callers::Attested), "ProtectProc"), ["default"]);

    let text = with(Callers::AttestedByExecutable);
    assert_eq!(lines(&text, "ProtectProc"), ["default"]);
    assert_eq!(lines(&text, "CapabilityBoundingSet"), ["", "CAP_SYS_PTRACE"]);
    assert_eq!(lines(&text, "AmbientCapabilities"), ["CAP_SYS_PTRACE"]);
    assert!(lines(&text, "SystemCallFilter").ends_with(&["@chown", "capset"]));
}

/// The sandbox is around what the daemon uses: what goes before the configuration is said to it too.
#[test]
fn given_options_are_passed_to_the_daemon() {
    let stated = Unit {
        stated_tpm: true,
        stated_storage: true,
        storage: Some("/srv/a $b".into()),
        tpm: "swtpm:path=/dev/shm/tpm.sock".parse().unwrap(),
        ..unit()
    };
    let text = stated.render().unwrap();
    let options = "--storage \"/srv/a $$b\" --tpm swtpm:path=/dev/shm/tpm.sock";
    let expected = format!("/usr/bin/agent start --config /etc/tbot.yaml {options}");
    assert_eq!(lines(&text, "ExecStart"), [expected.as_str()]);
    assert_eq!(lines(&text, "ReadWritePaths"), ["/opt/machine-id", "\"/srv/a $b\""]);
    // The way to the TPM is open.
    assert!(lines(&text, "PrivateDevices").is_empty());
    assert!(lines(&text, "PrivateNetwork").is_empty() && lines(&text, "IPAddressDeny").is_empty());
    assert_eq!(lines(&text, "RestrictAddressFamilies"), ["AF_INET AF_INET6 AF_UNIX"]);

    let tcp = "swtpm:host=localhost,port=2321";
    let text =
        Unit { storage: None, tpm: tcp.parse().unwrap(), ..stated.clone() }.render().unwrap();
    let expected =
        format!("/usr/bin/agent start --config /etc/tbot.yaml --storage memory --tpm {tcp}");
    assert_eq!(lines(&text, "ExecStart"), [expected.as_str()]);
    let relative = Unit { tpm: "swtpm:path=tpm.sock".parse().unwrap(), ..stated };
    relative.render().unwrap_err();
}

#[test]
fn the_configuration_says_what_is_reached() {
    let text = "version: v2\nproxy_server: example.com:443\nonboarding:\n  join_method: tpm\n  \
                token: t\n  ca_pins: [\"sha256:0000000000000000000000000000000000000000000000000000000000000000\"]\n\
                storage:\n  type: directory\n  path: /srv/bot\nservices:\n\
                - type: identity\n  destination: {type: directory, path: /opt/one}\n\
                - type: identity\n  destination: {type: memory}\n\
                tpm:\n  address: device:/dev/tpmrm1\n";
    let loaded = crate::config::read(text, Path::new("/etc/tbot.yaml"));
    let reach = Reach::of(&loaded.unwrap_or_else(|findings| panic!("{findings}")).settings);
    let expected = Reach {
        tpm: "device:/dev/tpmrm1".parse().unwrap(),
        storage: Some("/srv/bot".into()),
        read_write: vec!["/opt/one".into()],
        callers: Callers::Unknown,
        sockets: Vec::new(),
        socket_groups: Vec::new(),
        host_keys: HostKeys::None,
    };
    assert_eq!(reach, expected);
    assert_eq!(Reach::default().storage, Some("/var/lib/teleport/bot".into()));
}

#[test]
fn values_that_would_change_meaning_in_the_unit_are_refused() {
    for path in ["relative", "/a\nExecStart=/bin/sh", "/var/lib/../../etc", ""] {
        for change in [
            |unit: &mut Unit, path: PathBuf| unit.config = path,
            |unit: &mut Unit, path: PathBuf| unit.program = path,
            |unit: &mut Unit, path: PathBuf| unit.storage = Some(path),
            |unit: &mut Unit, path: PathBuf| unit.read_write.push(path),
        ] {
            let mut unit = unit();
            change(&mut unit, path.into());
            assert!(unit.render().is_err(), "{path:?}");
        }
    }
}

/// systemd itself finds nothing wrong, and little that is exposed.
#[test]
fn systemd_agrees() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("endorse-agent.service");
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        let output = command.args(arguments).arg(&path).output().expect("systemd is installed");
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    };
    for callers in [Callers::Unknown, Callers::AttestedByExecutable] {
        let unit = Unit { program: std::env::current_exe().unwrap(), callers, ..unit() };
        // Directories of the build may be anywhere; they are not what is judged.
        let text = unit.render().unwrap().replace("ProtectHome=read-only", "ProtectHome=yes");
        fs::write(&path, text.replace("PrivateTmp=no", "PrivateTmp=yes")).unwrap();
        let (success, said) = analyze(&["verify", "--man=no"]);
        assert!(success && !said.contains("endorse-agent.service"), "{said}");
        let security = ["security", "--offline=yes", "--threshold=25", "--no-pager"];
        let (success, said) = analyze(&security);
        assert!(success && said.contains("Overall exposure level"), "{said}");
    }
}

#[test]
fn a_rule_of_the_distribution_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let rule = udev::rule(&"tss".parse().unwrap());
    write("50-other.rules", "KERNEL==\"tpmrm0\", MODE=\"0600\"\n# tpmrm GROUP=\"tss\"\n");
    write(udev::FILE, &rule);
    write("note.txt", &rule);
    assert_eq!(udev::found(&[directory.path(), Path::new("/nonexistent")]), None);
    write("60-tpm-udev.rules", "KERNEL==\"tpmrm[0-9]*\", OWNER=\"tss\", GROUP=\"tss\"\n");
    let found = udev::found(&[directory.path()]).unwrap();
    assert!(found.ends_with("60-tpm-udev.rules"));
}
