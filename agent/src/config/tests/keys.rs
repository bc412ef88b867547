use std::time::Duration;

use clap::Parser;
use host::log::LogFormat;
use tpm2::transport::Tcti;

use super::super::*;
use super::{LEAST, PIN, loaded, over, path, with};
use crate::tpm::inventory::EkChoice;
use crate::tpm::passwords::PasswordFiles;

/// The guide's file, with the address and the pin filled in.
const GUIDE: &str = r#"version: v2
proxy_server: authority.example.com:3025
onboarding:
  join_method: tpm
  token: my-bot-token
  ca_pins: ["sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"]
storage:
  type: directory
  path: /var/lib/teleport/bot
# outputs will be filled in during the completion of an access guide.
outputs: []
"#;

fn directory(path: &str) -> Directory {
    Directory { path: path.into(), symlinks: Symlinks::TrySecure, acls: Acls::Try }
}

fn plain(path: &str) -> Destination {
    Destination::Directory { directory: directory(path), readers: Vec::new() }
}

fn the_guides() -> Settings {
    Settings {
        authorities: vec!["authority.example.com:3025".parse().unwrap()],
        server: Server::Proxy,
        trust: Trust::Pins(vec![PIN.parse().unwrap()]),
        protocol: None,
        token: Token::Value("my-bot-token".into()),
        storage: Storage::Directory(directory("/var/lib/teleport/bot")),
        services: Vec::new(),
        workload_apis: Vec::new(),
        lifetime: Lifetime { ttl: DEFAULT_TTL, renewal: Renewal::HalfLife },
        oneshot: false,
        debug: false,
        log_format: LogFormat::Text,
        diag_addr: None,
        tpm: TpmSettings::default(),
    }
}

#[test]
fn the_file_of_the_guide_is_read_as_it_stands() {
    let Loaded { settings, warnings, .. } = loaded(GUIDE);
    assert_eq!(settings, the_guides());
    assert!(warnings.is_empty(), "{warnings}");
    // Editors on other systems leave their marks.
    for text in
        [GUIDE.replace('\n', "\r\n"), format!("\u{feff}{GUIDE}"), format!("---\n{GUIDE}...\n")]
    {
        assert_eq!(loaded(&text).settings, the_guides());
    }
}

#[test]
fn defaults_are_tbots() {
    let settings = with("");
    assert_eq!(settings.storage, the_guides().storage);
    assert_eq!(settings.lifetime.ttl, Duration::from_secs(3600));
    assert_eq!(settings.tpm.address, Tcti::DEFAULT.parse().unwrap());
    assert_eq!(settings.tpm.ek, EkChoice::Auto);
    for nothing in
        ["version:", "services:", "outputs: ~", "storage: null", "tpm: {}", "version: v2"]
    {
        assert_eq!(with(nothing), settings, "{nothing}");
    }
}

#[test]
fn every_key_at_the_top_says_what_it_should() {
    assert_eq!(with("credential_ttl: 1h30m").lifetime.ttl, Duration::from_secs(5400));
    assert_eq!(
        with("renewal_interval: 20m").lifetime.renewal,
        Renewal::Every(Duration::from_secs(1200))
    );
    assert!(with("oneshot: true").oneshot && !with("oneshot: false").oneshot);
    assert!(with("debug: True").debug && !with("debug: FALSE").debug);
    assert_eq!(with("log_format: json").log_format, LogFormat::Json);
    assert_eq!(with("log_format: journal").log_format, LogFormat::Journal);
    for (text, address) in [
        ("127.0.0.1:3001", "127.0.0.1:3001"),
        ("localhost:3001", "127.0.0.1:3001"),
        ("'[::1]:3001'", "[::1]:3001"),
        ("':3001'", "[::]:3001"),
    ] {
        let settings = with(&format!("diag_addr: {text}"));
        assert_eq!(settings.diag_addr, Some(address.parse().unwrap()));
    }
    for (text, protocol) in [
        ("auto", None),
        ("endorse", Some(Protocol::Endorse)),
        ("teleport", Some(Protocol::Teleport)),
    ] {
        let text = format!("{LEAST}\n  protocol: {text}");
        assert_eq!(loaded(&text).settings.protocol, protocol);
    }
    for quiet in ["fips: false", "insecure: false", "scoped: false"] {
        assert_eq!(with(quiet), with(""), "{quiet}");
    }
    let tpm = with(
        "tpm:\n  address: swtpm:path=/run/tpm\n  ek: p384\n  owner_password_file: /o\n  endorsement_password_file: /e",
    )
    .tpm;
    assert_eq!(tpm.address, Tcti::SwtpmUnix("/run/tpm".into()));
    assert_eq!(tpm.ek.name(), "p384");
    assert_eq!(tpm.passwords.owner, Some("/o".into()));
    assert_eq!(tpm.passwords.endorsement, Some("/e".into()));
}

#[test]
fn addresses_are_one_several_or_a_list() {
    let onboarding = LEAST.split_once('\n').unwrap().1;
    let of = |line: &str| loaded(&format!("{line}\n{onboarding}")).settings.authorities;
    let all = |texts: &[&str]| -> Vec<Address> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    for key in ["auth_server", "proxy_server"] {
        assert_eq!(of(&format!("{key}: a.b:1")), all(&["a.b:1"]));
        assert_eq!(of(&format!("{key}: a.b:1, 10.0.0.1:2")), all(&["a.b:1", "10.0.0.1:2"]));
        assert_eq!(of(&format!("{key}: [a.b:1, '[::1]:2']")), all(&["a.b:1", "[::1]:2"]));
        assert_eq!(of(&format!("{key}:\n- a.b:1\n- c:2,d:3")), all(&["a.b:1", "c:2", "d:3"]));
    }
}

#[test]
fn a_token_is_a_name_or_a_file_and_trust_pins_or_a_file() {
    let of = |onboarding: &str| {
        loaded(&format!("proxy_server: a:1\nonboarding: {{{onboarding}}}")).settings
    };
    let settings = of(&format!("token: /etc/token, ca_pins: ['{PIN}', '{PIN}']"));
    assert_eq!(settings.token, Token::File("/etc/token".into()));
    assert_eq!(settings.trust, Trust::Pins(vec![PIN.parse().unwrap(); 2]));
    let settings = of("token: 0123, ca_path: /ca.pem, ca_pins: []");
    assert_eq!(settings.token, Token::Value("0123".into()));
    assert_eq!(settings.trust, Trust::CaPath("/ca.pem".into()));
}

/// As Teleport's guide prints it, with a name and a token filled in.
const TELEPORTS_GUIDE: &str = "version: v2
proxy_server: example.teleport.sh:443
onboarding:
  join_method: tpm
  token: my-bot-token
storage:
  type: directory
  path: /var/lib/teleport/bot
# outputs will be filled in during the completion of an access guide.
outputs: []
";

#[test]
fn proxy_server_without_a_ca_is_verified_by_the_systems_cas() {
    let settings = loaded(TELEPORTS_GUIDE).settings;
    assert_eq!((settings.server, settings.trust), (Server::Proxy, Trust::SystemRoots));
    // An empty list says nothing.
    let none = TELEPORTS_GUIDE.replace("token:", "ca_pins: []\n  token:");
    assert_eq!(loaded(&none).settings.trust, Trust::SystemRoots);
    let pinned = overrides(&["--ca-pin", PIN]);
    assert!(matches!(over(TELEPORTS_GUIDE, &pinned).trust, Trust::Pins(_)));
    let address = overrides(&["--authority", "a:1"]);
    assert_eq!(over(TELEPORTS_GUIDE, &address).trust, Trust::SystemRoots);
}

#[test]
fn auth_server_without_a_ca_is_refused_with_advice() {
    let auth = TELEPORTS_GUIDE.replace("proxy_server", "auth_server");
    let refused = |text: &str, overrides: &Overrides| {
        read_with(text, path(), overrides).unwrap_err().to_string()
    };
    let by_file = refused(&auth, &Overrides::default());
    let by_option = refused(TELEPORTS_GUIDE, &overrides(&["--auth-server", "a:1"]));
    for refused in [by_file, by_option] {
        assert!(refused.contains("error: no CA of the authority is configured"), "{refused}");
        assert!(refused.contains("or write `proxy_server`"), "{refused}");
    }
    let proxy = overrides(&["--proxy-server", "a:1"]);
    assert_eq!(over(&auth, &proxy).trust, Trust::SystemRoots);
}

#[test]
fn storage_and_destinations_have_all_their_forms() {
    assert_eq!(with("storage: /s").storage, Storage::Directory(directory("/s")));
    assert_eq!(with("storage: {type: memory}").storage, Storage::Memory);
    let careful = "{type: directory, path: /s, symlinks: secure, acls: required}";
    let expected =
        Directory { path: "/s".into(), symlinks: Symlinks::Secure, acls: Acls::Required };
    assert_eq!(with(&format!("storage: {careful}")).storage, Storage::Directory(expected));

    let of = |destination: &str| {
        let settings = with(&format!("services: [{{type: x509, destination: {destination}}}]"));
        settings.services[0].destination.clone()
    };
    assert_eq!(of("/d"), plain("/d"));
    assert_eq!(of("{type: memory}"), Destination::Memory);
    assert_eq!(of("{type: directory, path: /d, readers: []}"), plain("/d"));
    let readers = "[{user: nginx}, {group: ssl-cert}, {user: 1000}]";
    let destination = of(&format!(
        "{{type: directory, path: /d, symlinks: insecure, acls: try, readers: {readers}}}"
    ));
    let Destination::Directory { directory, readers } = destination else { panic!() };
    assert_eq!(directory.symlinks, Symlinks::Insecure);
    let name = |name: &str| Account::Name(name.into());
    let expected = [
        Reader::User(name("nginx")),
        Reader::Group(name("ssl-cert")),
        Reader::User(Account::Id(1000)),
    ];
    assert_eq!(readers, expected);
}

#[test]
fn services_have_their_keys_and_both_names() {
    let text = "
services:
  - type: identity
    name: people
    ssh_config: off
    allow_reissue: false
    destination: /a
    credential_ttl: 2h
    renewal_interval: 30m
  - type: workload-identity-x509
    destination: /b
    format: tls
  - {type: x509, destination: {type: memory}}
outputs:
  - {type: identity, destination: /c}
credential_ttl: 4h";
    let Loaded { settings, warnings, .. } = loaded(&format!("{LEAST}{text}"));
    let said: Vec<&str> = warnings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(said, ["`outputs` is the old name of `services`"]);
    let own = Lifetime {
        ttl: Duration::from_secs(7200),
        renewal: Renewal::Every(Duration::from_secs(1800)),
    };
    let all = Lifetime { ttl: Duration::from_secs(14400), renewal: Renewal::HalfLife };
    let service = |name: &str, kind, destination, lifetime| Service {
        name: name.parse().unwrap(),
        kind,
        destination,
        key_storage: KeyStorage::Software,
        lifetime,
        reload: None,
    };
    let identity = |ssh_config| ServiceKind::Identity { ssh_config };
    let x509 = |files| ServiceKind::X509 {
        files,
        identity: WorkloadIdentity::default(),
        key_rotation: KeyRotation::Always,
    };
    let expected = [
        service("people", identity(SshConfig::Off), plain("/a"), own),
        service("x509-output-2", x509(X509Files::Kubernetes), plain("/b"), all),
        service("x509-output-3", x509(X509Files::Tbot), Destination::Memory, all),
        service("identity-output-4", identity(SshConfig::On), plain("/c"), all),
    ];
    assert_eq!(settings.services, expected);
}

#[test]
fn reload_is_a_command_a_signal_or_a_unit() {
    let of = |reload: &str| {
        let text = format!("services: [{{type: x509, destination: /d, reload: {reload}}}]");
        with(&text).services[0].reload.clone().unwrap()
    };
    let reload = of("{command: [nginx, -s, reload, ''], timeout: 5s}");
    let arguments = ["-s", "reload", ""].map(str::to_owned).to_vec();
    assert_eq!(reload.action, ReloadAction::Command { program: "nginx".into(), arguments });
    assert_eq!(reload.timeout, Duration::from_secs(5));
    for (name, signal) in [
        ("HUP", Signal::Hup),
        ("SIGUSR1", Signal::Usr1),
        ("USR2", Signal::Usr2),
        ("INT", Signal::Int),
        ("TERM", Signal::Term),
        ("SIGQUIT", Signal::Quit),
        ("WINCH", Signal::Winch),
    ] {
        let reload = of(&format!("{{signal: {name}, pid_file: /run/x.pid}}"));
        assert_eq!(reload.action, ReloadAction::Signal { signal, pid_file: "/run/x.pid".into() });
        assert_eq!(reload.timeout, DEFAULT_RELOAD_TIMEOUT);
    }
    assert_eq!(
        of("{systemd_unit: nginx}").action,
        ReloadAction::SystemdUnit("nginx.service".into())
    );
    let instance = ReloadAction::SystemdUnit("a@b.service".into());
    assert_eq!(of("{systemd_unit: a@b.service}").action, instance);
}

#[test]
fn aliases_stand_for_what_they_name() {
    let services = with(
        "services:\n- type: x509\n  destination: /a\n  reload: &r {command: [true]}\n- {type: x509, destination: /b, reload: *r}",
    )
    .services;
    assert_eq!(services[0].reload, services[1].reload);
    assert!(services[0].reload.is_some());
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    overrides: Overrides,
}

fn overrides(arguments: &[&str]) -> Overrides {
    Line::try_parse_from([&["agent"], arguments].concat()).unwrap().overrides
}

#[test]
fn the_command_line_goes_before_the_file() {
    let text = format!(
        "{LEAST}\n  protocol: teleport\ncredential_ttl: 2h\nrenewal_interval: 1h\noneshot: true\ndebug: true\nlog_format: json\n\
         diag_addr: 1.2.3.4:5\nstorage: /s\ntpm: {{address: /dev/tpm9, ek: p256, owner_password_file: /o, endorsement_password_file: /e}}"
    );
    assert_ne!(over(&text, &Overrides::default()), the_guides());
    let pin = PIN.replace('0', "1");
    let all = overrides(&[
        "-a",
        "other:1,third:2",
        "--token",
        "/t",
        "--join-method",
        "tpm",
        "--ca-pin",
        &pin,
        "--protocol",
        "endorse",
        "--storage",
        "memory",
        "--certificate-ttl",
        "10m",
        "--renewal-interval",
        "5m",
        "--oneshot=false",
        "--debug=false",
        "--log-format",
        "journal",
        "--diag-addr",
        "[::1]:9",
        "--tpm",
        "swtpm:port=7",
        "--ek",
        "rsa2048",
        "--owner-password-file",
        "/p",
        "--endorsement-password-file",
        "/q",
        "--service",
        "x509=/x",
        "--service",
        "identity=/i",
    ]);
    let settings = over(&text, &all);
    let expected = Settings {
        authorities: vec!["other:1".parse().unwrap(), "third:2".parse().unwrap()],
        server: Server::Auth,
        trust: Trust::Pins(vec![pin.parse().unwrap()]),
        protocol: Some(Protocol::Endorse),
        token: Token::File("/t".into()),
        storage: Storage::Memory,
        workload_apis: Vec::new(),
        services: settings.services.clone(),
        lifetime: Lifetime {
            ttl: Duration::from_secs(600),
            renewal: Renewal::Every(Duration::from_secs(300)),
        },
        oneshot: false,
        debug: false,
        log_format: LogFormat::Journal,
        diag_addr: Some("[::1]:9".parse().unwrap()),
        tpm: TpmSettings {
            address: Tcti::SwtpmTcp { host: "localhost".into(), port: 7 },
            ek: "rsa2048".parse().unwrap(),
            passwords: PasswordFiles { owner: Some("/p".into()), endorsement: Some("/q".into()) },
        },
    };
    assert_eq!(settings, expected);
    let names: Vec<&str> = settings.services.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["x509-output-1", "identity-output-2"]);
    let auto = overrides(&["--protocol", "auto"]);
    assert_eq!(over(&format!("{LEAST}\n  protocol: teleport"), &auto).protocol, None);
    let path = overrides(&["--ca-path", "/ca.pem", "--storage", "file:///s", "-d", "--oneshot"]);
    let settings = over(LEAST, &path);
    assert_eq!(settings.trust, Trust::CaPath("/ca.pem".into()));
    assert_eq!(settings.storage, Storage::Directory(directory("/s")));
    assert!(settings.debug && settings.oneshot);
}

#[test]
fn the_command_line_alone_is_enough_and_what_it_cannot_mean_is_refused() {
    let all = overrides(&[
        "--proxy-server",
        "authority.example.com:3025",
        "--token",
        "my-bot-token",
        "--ca-pin",
        PIN,
    ]);
    assert_eq!(over("", &all), the_guides());
    let findings = read("", path()).unwrap_err();
    assert_eq!(findings.count(Severity::Error), 2, "{findings}");
    for wrong in [
        &["--join-method", "token"][..],
        &["--credential-ttl", "-1h"],
        &["--service", "database=/x"],
        &["--service", "x509"],
        &["--diag-addr", "example.com:1"],
    ] {
        assert!(Line::try_parse_from([&["agent"], wrong].concat()).is_err(), "{wrong:?}");
    }
}

#[test]
fn join_uri_stands_for_address_and_token() {
    let file = |more: &str| {
        format!(
            "join_uri: tbot+proxy+tpm://my-bot-token@authority.example.com:3025\nonboarding: {{ca_pins: [\"{PIN}\"]{more}}}\n"
        )
    };
    assert_eq!(loaded(&file("")).settings, the_guides());
    let uri = overrides(&["--join-uri", "tbot+auth+tpm://t@other:1"]);
    for text in [file(""), format!("{LEAST}\n")] {
        let settings = over(&text, &uri);
        assert_eq!(settings.authorities, ["other:1".parse().unwrap()]);
        assert_eq!(settings.token, Token::Value("t".into()));
    }
    let settings = over(&file(""), &overrides(&["--token", "u", "-a", "other:2"]));
    assert_eq!(settings.authorities, ["other:2".parse().unwrap()]);
    assert_eq!(settings.token, Token::Value("u".into()));
    for (wrong, message) in [
        (file(", token: t"), "`join_uri` is set together with `token`"),
        (file("") + "auth_server: a:1", "`join_uri` is set together with `auth_server`"),
        (file("").replace("+tpm", "+iam"), "join method iam is not supported"),
    ] {
        let findings = read(&wrong, path()).unwrap_err();
        assert_eq!(findings.count(Severity::Error), 1, "{findings}");
        assert!(findings.to_string().contains(message), "{findings}");
    }
}

#[test]
fn storage_is_a_directory_or_memory_as_path_or_uri() {
    for memory in ["memory", "memory:", "memory://"] {
        assert_eq!(storage(memory), Ok(Storage::Memory), "{memory}");
    }
    for path in ["/s", "file:///s"] {
        assert_eq!(storage(path), Ok(Storage::Directory(directory("/s"))), "{path}");
    }
    for wrong in ["", "file://", "kubernetes-secret://s", "https://example.com/s"] {
        storage(wrong).unwrap_err();
    }
}

#[test]
fn configuration_file_that_was_named_must_exist() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tbot.yaml");
    let asked = ConfigFile { config: Some(file.clone()), ..ConfigFile::default() };
    let failure = |result: Result<Loaded, LoadError>| match result {
        Err(error) => host::exit::Failure::from(error),
        Ok(loaded) => panic!("{loaded:?}"),
    };
    let missing = failure(asked.load(&Overrides::default()));
    assert_eq!(missing.exit, host::exit::Exit::Config);
    assert!(missing.advice.starts_with("write one with `agent configure -o"), "{missing}");

    let usual = ConfigFile::default();
    if !usual.path().exists() {
        let missing = failure(usual.load(&Overrides::default()));
        assert!(
            missing.message.starts_with("cannot read /etc/tbot.yaml: No such file"),
            "{missing}"
        );
    }

    std::fs::write(&file, LEAST).unwrap();
    assert_eq!(asked.load(&Overrides::default()).unwrap().settings, with(""));

    std::fs::write(&file, b"version: v2\ndebug: \xff\n").unwrap();
    let failed = failure(asked.load(&Overrides::default()));
    let expected = format!("{}:2:8: the file is not valid UTF-8", file.display());
    assert_eq!((failed.exit, failed.message), (host::exit::Exit::Config, expected));

    std::fs::write(&file, "oneshot: 1\ndebug: 2").unwrap();
    let failed = failure(asked.load(&Overrides::default()));
    let expected = format!(
        "{}:1:10: `oneshot` must be true or false, not the text `1`, and 3 other errors",
        file.display()
    );
    assert_eq!(failed.message, expected);

    let directory = ConfigFile { config: Some(directory.path().into()), ..ConfigFile::default() };
    assert!(failure(directory.load(&Overrides::default())).message.contains("Is a directory"));
    let endless = ConfigFile { config: Some("/dev/zero".into()), ..ConfigFile::default() };
    assert!(failure(endless.load(&Overrides::default())).message.contains("larger than 1 MiB"));
}

#[test]
fn variables_of_tbot_have_the_same_names() {
    use clap::CommandFactory;
    let command = Line::command();
    let variables: Vec<_> =
        command.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
    for name in [
        "TBOT_CONFIG_PATH",
        "TBOT_DEBUG",
        "TELEPORT_AUTH_SERVER",
        "TELEPORT_BOT_TOKEN",
        "TELEPORT_PROXY",
    ] {
        assert!(variables.contains(&name), "{name}");
    }
    let without: Vec<_> = command
        .get_arguments()
        .filter(|argument| argument.get_env().is_none())
        .map(|argument| argument.get_id().as_str())
        .collect();
    assert_eq!(without, Vec::<&str>::new(), "every option has a variable");
    assert_eq!(Line::parse_from(["agent"]).file.path(), std::path::Path::new(DEFAULT_PATH));
}

/// tbot ignores them there.
#[test]
fn cas_of_a_teleport_proxy_are_warned_of() {
    let config = |server: &str, cas: &str, protocol: &str| {
        let text = format!("{server}: a:1\nonboarding: {{token: t, {cas}, protocol: {protocol}}}");
        loaded(&text).warnings.to_string()
    };
    let pins = format!("ca_pins: ['{}']", super::PIN);
    for cas in [&pins, "ca_path: /ca.pem"] {
        let warned = config("proxy_server", cas, "teleport");
        assert!(warned.contains("a Teleport Proxy is verified by the system's CAs"), "{warned}");
        assert_eq!(config("auth_server", cas, "teleport"), "");
        assert_eq!(config("proxy_server", cas, "auto"), "");
    }
}
