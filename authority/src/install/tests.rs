use std::fs;
use std::path::Path;
use std::process::Command;

use super::Unit;

fn unit() -> Unit {
    Unit {
        name: "endorse-authority".parse().unwrap(),
        user: "endorse-authority".parse().unwrap(),
        group: "endorse-authority".parse().unwrap(),
        program: "/usr/bin/authority".into(),
        data: "/var/lib/endorse".into(),
        data_dir: Some("/var/lib/endorse".into()),
        listen: None,
        addresses: vec!["0.0.0.0:3025".parse().unwrap()],
        config: None,
    }
}

#[test]
fn the_unit_is_what_was_agreed() {
    let text = unit().render().unwrap();
    if std::env::var_os("UPDATE").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/install/snapshot.service");
        fs::write(path, &text).unwrap();
    }
    assert_eq!(text, include_str!("snapshot.service"), "run with UPDATE=1 to rewrite it");
}

#[test]
fn directory_and_port_decide_what_is_allowed() {
    let elsewhere = Unit {
        data: "/srv/a 50%".into(),
        data_dir: Some("/srv/a 50%".into()),
        listen: "[::]:443".parse().ok(),
        addresses: vec!["[::]:443".parse().unwrap()],
        config: Some("/etc/endorse/$a.yaml".into()),
        ..unit()
    };
    let text = elsewhere.render().unwrap();
    for line in [
        "ExecStart=/usr/bin/authority start --data-dir \"/srv/a 50%%\" --listen [::]:443 \
         --config /etc/endorse/$$a.yaml",
        "ReadWritePaths=\"/srv/a 50%%\"",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("PrivateUsers") && !text.contains("StateDirectory"), "{text}");
    for path in ["relative", "/a\nExecStart=/bin/sh", "/var/lib/../../etc", ""] {
        Unit { data: path.into(), ..unit() }.render().unwrap_err();
        Unit { program: path.into(), ..unit() }.render().unwrap_err();
    }
}

/// systemd itself finds nothing wrong, and little that is exposed.
#[test]
fn systemd_agrees() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("endorse-authority.service");
    for listen in ["0.0.0.0:3025", "0.0.0.0:443"] {
        let program = std::env::current_exe().unwrap();
        let addresses = vec![listen.parse().unwrap()];
        let unit = Unit { program, listen: listen.parse().ok(), addresses, ..unit() };
        fs::write(&path, unit.render().unwrap()).unwrap();
        let analyze = |arguments: &[&str]| {
            let mut command = Command::new("systemd-analyze");
            let output = command.args(arguments).arg(&path).output().expect("systemd is installed");
            let said = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            (output.status.success(), said)
        };
        let (success, said) = analyze(&["verify", "--man=no"]);
        assert!(success && !said.contains("endorse-authority.service"), "{said}");
        let (success, said) =
            analyze(&["security", "--offline=yes", "--threshold=25", "--no-pager"]);
        assert!(success && said.contains("Overall exposure level"), "{said}");
    }
}
