use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

const PIN: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
const GUIDE: &str = r#"version: v2
proxy_server: example.teleport.sh:443
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

struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn agent(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_agent"))
            .current_dir(self.0.path())
            .env_clear()
            .envs(variables.iter().copied())
            .args(arguments)
            .output()
            .unwrap()
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn assert_ends(output: &Output, code: i32, stdout: &str, stderr: &str) {
    let found = (output.status.code(), text(&output.stdout), text(&output.stderr));
    assert_eq!(found, (Some(code), stdout, stderr));
}

#[test]
fn valid_file_is_summarized_in_a_few_lines() {
    let directory = Directory::new();
    directory.write("tbot.yaml", GUIDE);
    let said = format!(
        "tbot.yaml is valid
Authority:    example.teleport.sh:443
Trusted by:   CA pin {PIN}
Token:        my-bot-token
Storage:      /var/lib/teleport/bot
TPM:          device:/dev/tpmrm0, EK auto
Certificates: lifetime 1h, renewed at half of the lifetime
Services:     none
"
    );
    assert_ends(&directory.agent(&["check", "-c", "tbot.yaml"], &[]), 0, &said, "");
    // The environment as others set it, empty variables and their telemetry included.
    let variables = [
        ("TBOT_CONFIG_PATH", "tbot.yaml"),
        ("TELEPORT_PROXY", ""),
        ("TBOT_DEBUG", ""),
        ("TELEPORT_ANONYMOUS_TELEMETRY", "1"),
    ];
    assert_ends(&directory.agent(&["check"], &variables), 0, &said, "");
}

#[test]
fn the_environment_goes_before_the_file_and_the_command_line_before_both() {
    let directory = Directory::new();
    directory.write("tbot.yaml", GUIDE);
    directory.write("token", "t\n");
    let token = directory.0.path().join("token").display().to_string();
    let variables = [
        ("TELEPORT_AUTH_SERVER", "env:1"),
        ("TELEPORT_BOT_TOKEN", token.as_str()),
        ("TBOT_DEBUG", "1"),
        ("AGENT_SERVICES", "x509=/a,identity=/b"),
        ("AGENT_STORAGE", "memory"),
    ];
    let arguments = ["check", "-c", "tbot.yaml", "-a", "line:2", "--credential-ttl", "2h"];
    let output = directory.agent(&arguments, &variables);
    let said = format!(
        "tbot.yaml is valid
Authority:    line:2
Trusted by:   CA pin {PIN}
Token:        read from {token}
Storage:      memory; the agent joins at each start
TPM:          device:/dev/tpmrm0, EK auto
Certificates: lifetime 2h, renewed at half of the lifetime
Services:
  x509-output-1: x509 in /a
  identity-output-2: identity in /b
"
    );
    assert_ends(&output, 0, &said, "");
    let help = directory.agent(&["start", "--help"], &[("TELEPORT_BOT_TOKEN", "not-to-be-shown")]);
    assert!(text(&help.stdout).contains("[env: TELEPORT_BOT_TOKEN]"));
    assert!(text(&help.stdout).contains("TELEPORT_ANONYMOUS_TELEMETRY is accepted"));
    assert!(!text(&help.stdout).contains("not-to-be-shown"));
}

#[test]
fn invalid_file_is_reported_with_line_and_carets() {
    let directory = Directory::new();
    directory
        .write("tbot.yaml", &GUIDE.replace("token:", "tokne:").replace("outputs: []", "debug: on"));
    let output = directory.agent(&["check", "-c", "tbot.yaml"], &[]);
    let said = "error: unknown key `tokne` in onboarding
 --> tbot.yaml:5:3
  |
5 |   tokne: my-bot-token
  |   ^^^^^ did you mean `token`?

error: `debug` must be true or false, not the text `on`
  --> tbot.yaml:11:8
   |
11 | debug: on
   |        ^^ write true, without quotes

";
    let failure = "error: tbot.yaml:5:3: unknown key `tokne` in onboarding, and 1 other error\n";
    assert_ends(&output, 78, said, failure);

    let output = directory.agent(&["check", "-c", "tbot.yaml", "--format", "json"], &[]);
    assert_eq!(output.status.code(), Some(78));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["path"], "tbot.yaml");
    assert_eq!(report["usable"], false);
    let lines: Vec<_> =
        report["findings"].as_array().unwrap().iter().map(|one| &one["line"]).collect();
    assert_eq!(lines, [5, 11]);

    let output = directory.agent(&["check", "-c", "missing.yaml"], &[]);
    let failure = "error: cannot read missing.yaml: No such file or directory (os error 2)\n\
                   write one with `agent configure -o missing.yaml`, or give another path with --config\n";
    assert_ends(&output, 78, "", failure);
}

#[test]
fn check_accepts_the_output_of_configure() {
    let directory = Directory::new();
    let arguments =
        ["configure", "-a", "a.b:1", "--token", "t", "--ca-pin", PIN, "-o", "made.yaml"];
    assert_ends(&directory.agent(&arguments, &[]), 0, "Wrote made.yaml\n", "");
    let made = directory.0.path().join("made.yaml");
    assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o022, 0);
    assert_eq!(directory.agent(&["check", "-c", "made.yaml"], &[]).status.code(), Some(0));
    let stdout = directory.agent(&arguments[..7], &[]).stdout;
    assert_eq!(fs::read(&made).unwrap(), stdout);

    // No file is lost, and none is left behind.
    let failure = "error: made.yaml already exists\nmove it away, or choose another --output\n";
    assert_ends(&directory.agent(&arguments, &[]), 74, "", failure);
    assert_eq!(fs::read_dir(directory.0.path()).unwrap().count(), 1);

    let output = directory.agent(&["configure"], &[]);
    assert_eq!(output.status.code(), Some(64));
    let missing = "required options are missing: --authority, --token\nrun `agent configure --auth";
    assert!(text(&output.stderr).contains(missing), "{}", text(&output.stderr));
    for (given, missing) in [
        (&["-a", "a.b:1", "--ca-pin", PIN][..], "--token"),
        (&["-a", "a.b:1"], "--token, --ca-pin"),
        (&["--authority", "a.b:1"], "--token"),
        (&["--join-uri", "tbot+auth+tpm://t@a.b:1"], "--ca-pin"),
    ] {
        let output = directory.agent(&[&["configure"], given].concat(), &[]);
        let missing = format!("missing: {missing}\n");
        assert!(text(&output.stderr).contains(&missing), "{}", text(&output.stderr));
    }
    let uri = ["configure", "--join-uri", "tbot+proxy+tpm://t@a.b:1"];
    assert_eq!(directory.agent(&uri, &[]).status.code(), Some(0));
}

/// The port of a server that answers every request with this line of HTTP.
fn answering(status: &'static str) -> u16 {
    let listener = TcpListener::bind("localhost:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        }
    });
    port
}

#[test]
fn one_waits_for_the_agent_and_the_service_that_was_named() {
    let directory = Directory::new();
    let ready = format!("localhost:{}", answering("200 OK"));
    let output = directory.agent(&["wait", "--diag-addr", &ready], &[]);
    assert_ends(&output, 0, "healthy\n", "");

    let environment = [("AGENT_DIAG_ADDR", ready.as_str())];
    let output = directory.agent(&["wait", "--storage", "none", "--timeout", "1"], &environment);
    assert_eq!(output.status.code(), Some(69));
    assert!(text(&output.stderr).contains("none/agent.sock: No such file"), "{output:?}");
    let storage = [("AGENT_STORAGE", "none"), environment[0]];
    assert_ends(&directory.agent(&["wait"], &storage), 0, "healthy\n", "");

    let strange = format!("localhost:{}", answering("404 Not Found"));
    let output = directory.agent(&["wait", "--diag-addr", &strange, "--service", "nope"], &[]);
    let failure = "error: the agent has no service nope\n\
                   run `agent status --storage DIR` to list the agent's services\n";
    assert_ends(&output, 64, "", failure);
    let output = directory.agent(&["wait", "--diag-addr", &strange, "--service", "a b"], &[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("a name is 1 to 64 letters"), "{output:?}");
}
