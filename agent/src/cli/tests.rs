use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config;

fn parsed(line: &str) -> Result<Command, clap::Error> {
    parse(line.split_whitespace().map(OsString::from)).map(|cli| cli.command)
}

fn start(line: &str) -> daemon::Start {
    match parsed(line) {
        Ok(Command::Start(start)) => *start,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn declaration_with_the_services_is_valid() {
    for program in ["agent", "tbot"] {
        command_line::prepare(tbot::declare(command(), &[program.into()])).debug_assert();
    }
    command().debug_assert();
}

#[test]
fn options_of_start_mean_the_same_before_and_after_the_service() {
    let pin = format!("sha256:{}", "ab".repeat(32));
    let options = format!(
        "--token t --ca-pin {pin} --ca-pin {pin} --certificate-ttl 2h --renewal-interval 20m \
         --join-method tpm --oneshot --diag-addr 0.0.0.0:3001 --storage file:///s --proxy-server \
         p:443 --pid-file /run/tbot/tbot.pid --no-scoped --log-format json -c /f"
    );
    for line in [
        format!("tbot start {options} identity --destination /d"),
        format!("tbot start identity {options} --destination=file:///d"),
        format!("tbot -c /f start identity --destination /d {}", options.replace("-c /f", "")),
    ] {
        let start = start(&line);
        let all = &start.overrides;
        assert_eq!(all.token, Some(config::Token::Value("t".into())), "{line}");
        assert_eq!((all.server.ca_pin.len(), all.oneshot), (2, Some(true)), "{line}");
        assert_eq!(all.credential_ttl, Some(Duration::from_secs(7200)), "{line}");
        assert_eq!(all.renewal_interval, Some(Duration::from_secs(1200)), "{line}");
        assert_eq!(all.proxy_server, ["p:443".parse().unwrap()], "{line}");
        assert_eq!(all.storage, Some(config::storage("/s").unwrap()), "{line}");
        assert_eq!(start.pid_file.as_deref(), Some(Path::new("/run/tbot/tbot.pid")), "{line}");
        assert_eq!(start.file.path(), Path::new("/f"), "{line}");
        assert_eq!(all.services.len(), 1, "{line}");
    }
}

#[test]
fn service_of_the_command_line_takes_the_place_of_the_default_file() {
    let nothing = |service: &str| start(&format!("tbot start {service}"));
    for (line, is_alone, services) in [
        ("", false, 0),
        ("legacy", false, 0),
        ("legacy --data-dir /s --destination-dir /d", false, 1),
        ("--data-dir /s --destination-dir /d", false, 1),
        ("noop", true, 0),
        ("no-op", true, 0),
        ("workload-identity-x509 --destination /d --reader-group web", true, 1),
        ("x509 --destination memory:", true, 1),
    ] {
        let start = nothing(line);
        assert_eq!(start.file.only_if_named, is_alone, "{line}");
        assert_eq!(start.overrides.services.len(), services, "{line}");
    }
    let selected = |line: &str| match &nothing(line).overrides.services[..] {
        [service] => service.kind.clone(),
        other => panic!("{other:?}"),
    };
    let named = selected("workload-identity-x509 --destination /d --name-selector web");
    let config::ServiceKind::X509 { identity, .. } = named else { panic!("{named:?}") };
    assert_eq!(identity.selector, config::Selector::Name("web".into()));
    let labelled = selected(
        "workload-identity-jwt --audience a --destination /d --audience b --label-selector x=y,z=a",
    );
    let config::ServiceKind::Jwt { audiences, identity } = labelled else { panic!("{labelled:?}") };
    assert_eq!(audiences, ["a", "b"]);
    let labels = [("x", "y"), ("z", "a")].map(|(key, value)| (key.into(), vec![value.into()]));
    assert_eq!(identity.selector, config::Selector::Labels(labels.into()));
    for line in [
        "workload-identity-jwt --destination /d",
        "workload-identity-jwt --destination /d --audience a --name-selector n --label-selector l=m",
        "workload-identity-x509 --destination /d --hint h",
        "workload-identity-x509 --destination /d --label-selector l",
    ] {
        parsed(&format!("tbot start {line}")).unwrap_err();
    }
    let stored = nothing("--storage /a --data-dir /s").overrides.storage;
    assert_eq!(stored, Some(config::storage("/s").unwrap()));
}

#[test]
fn what_tbot_has_and_the_agent_has_not_is_refused_with_advice() {
    for line in [
        "tbot migrate -o x",
        "tbot init --destination-dir /d --owner u:g --bot-user b --clean",
        "tbot keypair create --proxy-server p:1",
        "tbot -d db --proxy-server p:1 ls",
        "tbot proxy --cluster x ssh",
        "tbot copy-binaries --include-fdpass /d",
        "tbot spiffe-inspect --path x",
        "tbot start database --service x --database y --username z",
        "tbot start kubernetes/v2 --name-selector x",
        "tbot configure spiffe-svid --help",
        "tbot start --token t ssh-multiplexer",
        "tbot start --fips",
        "tbot start --oneshot=false kubernetes/argo-cd --selector x",
        "tbot --insecure start",
        "tbot start --insecure identity --destination /d",
        "tbot start identity --destination /d --scoped",
        "tbot start --registration-secret-path /x",
        "tbot start x509 --destination /d --include-federated-trust-bundles",
    ] {
        let refused = parsed(line).unwrap_err();
        let text = refused.to_string();
        assert!(refused.use_stderr() && text.contains(" is not supported"), "{line}: {text}");
        assert_eq!(text.trim_end().lines().count(), 2, "{line}: {text}");
    }
    let missing = parsed("tbot").unwrap_err().to_string();
    assert!(missing.contains("identify") && !missing.contains("keypair"), "{missing}");
    let unknown = parsed("tbot start identty --destination /d").unwrap_err().to_string();
    assert!(unknown.contains("did you mean `identity`?"), "{unknown}");
    for line in ["tbot start --no-fips --no-insecure --no-scoped", "tbot -d start --no-debug"] {
        parsed(line).map(drop).unwrap_or_else(|error| match line.contains("-d ") {
            true => assert!(error.to_string().contains("cannot be used multiple times")),
            false => panic!("{line}: {error}"),
        });
    }
}

#[test]
fn the_other_commands_of_tbot_are_parsed() {
    for line in [
        "tbot version",
        "tbot tpm identify",
        "tbot -d tpm identify",
        "tbot wait --diag-addr 127.0.0.1:3001 --service identity --timeout 30s",
        "tbot install systemd --name tbot --user teleport --group teleport --write --force \
         --pid-file /run/tbot/tbot.pid --systemd-directory /d --anonymous-telemetry",
        "tbot install systemd --no-anonymous-telemetry -c /etc/tbot.yaml",
        "tbot configure --join-method=tpm --token=t --proxy-server=p:443 -o /etc/tbot.yaml",
    ] {
        parsed(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    let debug = parsed("tbot -d tpm identify").unwrap();
    assert!(matches!(debug, Command::Tpm(Tpm::Identify(TpmIdentify { debug: true, .. }))));
}

fn join(options: &str) -> Join {
    match parsed(&format!("agent join --token t --storage s {options}")) {
        Ok(Command::Join(join)) => join,
        other => panic!("{options}: {other:?}"),
    }
}

#[test]
fn join_names_one_server_and_how_it_is_authenticated() {
    let pin = format!("sha256:{}", "ab".repeat(32));
    for line in [
        format!("-a a:1 --ca-pin {pin},{pin} --protocol teleport"),
        format!("--auth-server a:1 --ca-pin {pin} --ca-pin {pin} --protocol=teleport"),
    ] {
        let join = join(&line);
        assert_eq!(join.auth_server, ["a:1".parse().unwrap()], "{line}");
        assert!(matches!(join.server.trust(), Some(config::Trust::Pins(pins)) if pins.len() == 2));
        let protocol = join.server.protocol.and_then(config::ProtocolChoice::fixed);
        assert_eq!(protocol, Some(config::Protocol::Teleport), "{line}");
    }
    for line in ["--authority a:1,b:2", "--proxy-server a:1,b:2"] {
        let join = join(line);
        assert_eq!((join.proxy_server.len(), join.server.trust()), (2, None), "{line}");
    }
    for (wrong, said) in [
        ("", "--authority"),
        ("--authority a:1 --auth-server b:1", "cannot be used together"),
        ("--authority a:1 --protocol tbot", "[possible values: auto, endorse, teleport]"),
        (&format!("-a a:1 --ca-path /c --ca-pin {pin}"), "cannot be used together"),
    ] {
        let refused = parsed(&format!("agent join --token t --storage s {wrong}")).unwrap_err();
        assert!(refused.to_string().contains(said), "{wrong}: {refused}");
    }
}

#[test]
fn systemd_unit_has_the_name_that_scripts_for_the_called_program_use() {
    for (line, expected) in [
        ("/usr/bin/agent install systemd", "endorse-agent"),
        ("tbot install systemd", "tbot"),
        ("/usr/local/bin/tbot -c f install systemd --group g", "tbot"),
        ("tbot install systemd --name other", "other"),
    ] {
        match parsed(line) {
            Ok(Command::Install(install::Install::Systemd(unit))) => {
                assert_eq!(unit.name.to_string(), expected, "{line}");
            }
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn path_given_to_join_as_token_is_that_of_a_file() {
    let token = |value: &str| {
        let arguments = ["agent", "join", "--authority", "a:1", "--storage", "s", "--token", value];
        let pin = ["--ca-pin".to_owned(), format!("sha256:{}", "ab".repeat(32))];
        let arguments = arguments.map(OsString::from).into_iter().chain(pin.map(OsString::from));
        match parse(arguments).unwrap().command {
            Command::Join(join) => join.token,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(token("/etc/token"), Token::File("/etc/token".into()));
    assert_eq!(token("web"), Token::Value("web".to_owned()));
}
