use std::time::Duration;

use host::log::LogFormat;

use super::super::*;
use super::{LEAST, PIN, path};
use crate::tpm::passwords::PasswordFiles;

/// Settings with something of everything in them.
fn everything() -> Settings {
    let awkward = "/a b/\"c\"\\d/é\u{1f600}/#e: f/- g";
    let directory =
        |path: &str| Directory { path: path.into(), symlinks: Symlinks::Secure, acls: Acls::Off };
    let service = |name: &str, kind, destination, action: Option<ReloadAction>| Service {
        name: name.parse().unwrap(),
        kind,
        destination,
        key_storage: if name == "+" { KeyStorage::Tpm } else { KeyStorage::Software },
        lifetime: Lifetime {
            ttl: Duration::from_secs(7205),
            renewal: Renewal::Every(Duration::from_millis(90_500)),
        },
        reload: action.map(|action| Reload { action, timeout: Duration::from_secs(7), sshd: None }),
    };
    let command = ReloadAction::Command {
        program: "true".into(),
        arguments: ["", "two\nlines", "null", "~", "1", "'", "a: b", "*x", "&x", "\u{7f}\u{2028}"]
            .map(str::to_owned)
            .to_vec(),
    };
    let signal = ReloadAction::Signal { signal: Signal::Usr2, pid_file: awkward.into() };
    let readers = vec![
        Reader::User(Account::Name("on".into())),
        Reader::Group(Account::Id(7)),
        Reader::User(Account::Name("0x1".into())),
    ];
    let identity = |ssh_config| ServiceKind::Identity { ssh_config };
    let labels = [("*".into(), vec!["a b".into()]), ("null".into(), vec!["x".into(), "~".into()])];
    let labelled =
        WorkloadIdentity { selector: Selector::Labels(labels.into()), hint: Some("yes: #".into()) };
    let named =
        WorkloadIdentity { selector: Selector::Name("0x1".into()), ..WorkloadIdentity::default() };
    let x509 = |files, identity| {
        let key_rotation =
            if files == X509Files::Nginx { KeyRotation::Never } else { KeyRotation::Always };
        ServiceKind::X509 { files, identity, key_rotation }
    };
    Settings {
        authorities: vec!["a.b:1".parse().unwrap(), "[::1]:2".parse().unwrap()],
        server: Server::Auth,
        trust: Trust::CaPath(awkward.into()),
        protocol: Some(Protocol::Endorse),
        token: Token::File(awkward.into()),
        storage: Storage::Directory(directory(awkward)),
        workload_apis: Vec::new(),
        services: vec![
            service(
                "null",
                identity(SshConfig::Off),
                Destination::Directory { directory: directory("/x"), readers },
                Some(command),
            ),
            service("1e3", identity(SshConfig::On), Destination::Memory, Some(signal)),
            service(
                "+",
                x509(X509Files::Kubernetes, named.clone()),
                Destination::Memory,
                Some(ReloadAction::SystemdUnit("a@b.service".into())),
            ),
            service(
                "-",
                x509(X509Files::Tbot, WorkloadIdentity::default()),
                Destination::Memory,
                None,
            ),
            service("f", x509(X509Files::SpiffeHelper, labelled), Destination::Memory, None),
            service("n", x509(X509Files::Nginx, named.clone()), Destination::Memory, None),
            service(
                "j",
                ServiceKind::Jwt { audiences: vec!["1e3".into(), "b".into()], identity: named },
                Destination::Memory,
                None,
            ),
        ],
        lifetime: Lifetime {
            ttl: Duration::from_secs(3600 * 20),
            renewal: Renewal::Every(Duration::from_secs(60)),
        },
        oneshot: false,
        debug: true,
        log_format: LogFormat::Journal,
        diag_addr: Some("[::1]:3001".parse().unwrap()),
        tpm: TpmSettings {
            address: "swtpm:path=/a b".parse().unwrap(),
            ek: "p256-high".parse().unwrap(),
            passwords: PasswordFiles {
                owner: Some("/o".into()),
                endorsement: Some(awkward.into()),
            },
        },
    }
}

fn round_trip(settings: &Settings) -> String {
    let yaml = text(settings);
    let back = read(&yaml, path()).unwrap_or_else(|findings| panic!("{yaml}\n{findings}"));
    assert_eq!(&back.settings, settings, "{yaml}");
    yaml
}

#[test]
fn what_is_written_reads_back_the_same() {
    round_trip(&everything());
    let mut settings = read(LEAST, path()).unwrap().settings;
    round_trip(&settings);
    settings.token = Token::Value("yes".into());
    settings.storage = Storage::Memory;
    settings.oneshot = true;
    round_trip(&settings);
    settings.token = Token::Value("0123".into());
    settings.trust = Trust::Pins(vec![PIN.parse().unwrap()]);
    round_trip(&settings);
    settings.trust = Trust::SystemRoots;
    round_trip(&settings);
}

#[test]
fn a_file_says_who_made_it_and_comments_on_its_keys() {
    let yaml = round_trip(&read(LEAST, path()).unwrap().settings);
    super::assert_snapshot("configured.yaml", include_str!("configured.yaml"), &yaml);
    assert!(yaml.lines().next().unwrap().starts_with("# Generated by `agent configure`"));
}

#[test]
fn a_service_says_how_to_tell_who_uses_it() {
    let overrides =
        Overrides { services: vec!["x509=/etc/ssl/me".parse().unwrap()], ..Overrides::default() };
    let plain = round_trip(&super::over(LEAST, &overrides));
    // What is commented out is what could be there.
    round_trip(&super::over(&plain.replace("    # reload:", "    reload:"), &Overrides::default()));
    assert!(plain.contains("    # reload: {"), "{plain}");
    let all = round_trip(&everything());
    for (comment, key) in [
        ("# A program and its arguments, run without a shell.", "command:"),
        ("to the process in the file.", "signal: USR2"),
        ("# The systemd unit to reload, or to restart if it cannot reload.", "systemd_unit: "),
        ("the hook is killed and retried.", "timeout: 7s"),
        ("# Access control lists for readers: try, off or required.", "acls: off"),
        ("secure none, insecure all.", "symlinks: secure"),
    ] {
        let mut lines = all.lines().skip_while(|line| !line.ends_with(comment));
        assert!(lines.next().is_some(), "{comment}: {all}");
        assert!(lines.next().unwrap().trim_start().starts_with(key), "{key}: {all}");
    }
}
