//! The program: started, commanded, stopped and killed.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::harness::{BOT, run, token};

const PROGRAM: &str = env!("CARGO_BIN_EXE_authority");

pub(crate) struct Running {
    child: Child,
    pub(crate) address: String,
    pub(crate) pin: String,
    /// All that it said at its start.
    pub(crate) said: Vec<String>,
}

pub(crate) struct Place(pub(crate) TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env("AUTHORITY_DATA_DIR", self.data()).current_dir(self.0.path());
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        self.start_with(arguments, &[], 3)
    }

    /// With these in its environment; it says that many lines.
    pub(crate) fn start_with(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
        lines: usize,
    ) -> Running {
        let log = fs::File::create(self.0.path().join("log")).unwrap();
        self.start_into(log.into(), arguments, environment, lines)
    }

    /// With a log that goes there.
    pub(crate) fn start_into(
        &self,
        log: Stdio,
        arguments: &[&str],
        environment: &[(&str, &str)],
        lines: usize,
    ) -> Running {
        let mut command = self.command(&["start", "--listen", "127.0.0.1:0"]);
        // The umask that gives all users all permissions.
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "umask 0; eval \"${BEFORE:-}\"; exec \"$@\"", "sh", PROGRAM])
            .args(command.get_args());
        command = shell;
        command.args(arguments).env("AUTHORITY_DATA_DIR", self.data());
        command.envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let said: Vec<String> = out.take(lines).map_while(Result::ok).collect();
        let word = |label: &str| {
            let line = said.iter().find_map(|line| line.strip_prefix(label));
            line.unwrap_or_else(|| panic!("{said:?}")).trim().to_owned()
        };
        Running { address: word("Listen"), pin: word("CA pin"), child, said }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        outcome(&self.command(arguments).output().unwrap())
    }

    pub(crate) fn pipe(&self, arguments: &[&str], input: &str) -> (i32, String, String) {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may have refused before it has read.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        outcome(&child.wait_with_output().unwrap())
    }
}

fn outcome(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

impl Running {
    pub(crate) fn signal(&self, signal: &str) {
        run(Command::new("kill").arg(signal).arg(self.child.id().to_string()));
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.signal("-TERM");
        self.child.wait().unwrap().code()
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn modes(directory: &Path, found: &mut Vec<(String, u32)>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let metadata = entry.metadata().unwrap();
        found.push((entry.path().display().to_string(), metadata.permissions().mode() & 0o7777));
        if metadata.is_dir() {
            modes(&entry.path(), found);
        }
    }
}

#[test]
fn the_first_start_makes_a_cluster_and_later_ones_find_it() {
    let place = Place::new();
    let first = place.start(&["--cluster-name", "one.example"]);
    let mode = fs::metadata(place.data()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    let mut found = Vec::new();
    modes(&place.data(), &mut found);
    assert!(found.len() >= 9, "{found:?}");
    for (path, mode) in found {
        assert_eq!(mode, if path.ends_with("/cluster") { 0o700 } else { 0o600 }, "{path}");
    }
    let (code, status, _) = place.run(&["status"]);
    let crypto = format!("Crypto   {}\n", ecc::implementation());
    let version = env!("CARGO_PKG_VERSION");
    let expected =
        format!("Cluster  one.example\nVersion  {version}\n{crypto}CA pin   {}\n", first.pin);
    let recovery = status.strip_prefix(&expected).unwrap();
    assert!(recovery.starts_with("Recovery none: "), "{status}");
    assert!(recovery.ends_with("\nBackup   none: run `authority backup`\n"), "{status}");
    assert_eq!(recovery.lines().count(), 2, "{status}");
    assert_eq!(code, 0);

    // The pin is what openssl makes of the CA's key.
    let ca = place.data().join("cluster/x509-ca.pem");
    let script = "openssl x509 -in \"$0\" -noout -pubkey \
                  | openssl pkey -pubin -outform DER | openssl dgst -sha256 -r";
    let digest = run(Command::new("sh").args(["-c", script]).arg(&ca));
    let digest = String::from_utf8(digest).unwrap();
    assert_eq!(first.pin, format!("sha256:{}", digest.split(' ').next().unwrap()));
    let pin = first.pin.clone();
    assert_eq!(first.terminate(), Some(0));
    assert!(!place.data().join("admin.sock").exists());

    let (code, _, error) = place.run(&["start", "--cluster-name", "two.example"]);
    assert_eq!(code, 78);
    assert!(error.contains("holds the cluster one.example, not two.example"), "{error}");
    let again = place.start(&[]);
    assert_eq!(again.pin, pin);
    assert_eq!(again.terminate(), Some(0));
}

#[test]
fn openssl_takes_the_authority_for_what_it_is() {
    let place = Place::new();
    let authority = place.start(&["--cluster-name", "one.example"]);
    let ca = place.data().join("cluster/x509-ca.pem");
    let session = run(Command::new("openssl")
        .args(["s_client", "-connect", &authority.address, "-verify_return_error", "-alpn", "h2"])
        .args(["-verify_hostname", "authority.endorse.internal", "-showcerts", "-CAfile"])
        .arg(&ca)
        .stdin(Stdio::null()));
    let session = String::from_utf8(session).unwrap();
    for part in ["Verify return code: 0 (ok)", "TLSv1.3", "ALPN protocol: h2", "\n 1 s:"] {
        assert!(session.contains(part), "{part:?} is not in\n{session}");
    }
    assert_eq!(authority.terminate(), Some(0));
}

#[test]
fn one_authority_a_directory() {
    let place = Place::new();
    let first = place.start(&["--cluster-name", "one.example"]);
    let (code, _, error) = place.run(&["start", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 69);
    assert!(error.contains("is in use by another authority"), "{error}");
    assert_eq!(place.run(&["status"]).0, 0, "the first one still answers");
    // A directory of its own, and the same port.
    let other = Place::new();
    let (code, _, error) = other.run(&["start", "--listen", &first.address, "--cluster-name", "b"]);
    assert_eq!(code, 69);
    assert!(error.contains("cannot listen on"), "{error}");
}

#[test]
fn a_killed_start_leaves_nothing_that_the_next_one_trips_over() {
    let place = Place::new();
    // As a start that was killed would leave it: half made, under the name that is not yet the
    // cluster's.
    fs::create_dir_all(place.data().join("cluster.new/deep")).unwrap();
    fs::set_permissions(place.data(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(place.data().join("cluster.new/x509-ca.key"), "half").unwrap();
    place.start(&["--cluster-name", "one.example"]).kill();
    assert!(place.data().join("admin.sock").exists(), "left behind by the kill");
    assert!(!place.data().join("cluster.new").exists());
    assert_eq!(place.start(&[]).terminate(), Some(0));

    for delay in [0, 1, 2, 3, 5, 8, 13, 21, 34] {
        let place = Place::new();
        let mut command =
            place.command(&["start", "--listen", "127.0.0.1:0", "--cluster-name", "c"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        child.kill().unwrap();
        child.wait().unwrap();
        let next = place.start(&["--cluster-name", "c"]);
        assert_eq!(place.run(&["status"]).0, 0, "after {delay} ms");
        assert_eq!(next.terminate(), Some(0));
    }
}

#[test]
fn created_resources_survive_a_kill() {
    let place = Place::new();
    let authority = place.start(&["--cluster-name", "one.example"]);
    let (code, said, _) = place.pipe(&["create", "-"], BOT);
    assert_eq!((code, said.as_str()), (0, "bot \"my-bot\" has been created\n"));
    authority.kill();
    let _again = place.start(&[]);
    assert_eq!(place.run(&["get", "bot/my-bot"]), (0, BOT_AS_WRITTEN.into(), String::new()));
}

const BOT_AS_WRITTEN: &str =
    "kind: bot\nversion: v1\nmetadata:\n  name: my-bot\nspec:\n  roles:\n    - access\n    - dev\n";

#[test]
fn operators_create_get_and_remove() {
    let place = Place::new();
    let authority = place.start(&["--cluster-name", "one.example"]);
    let hash = "ab".repeat(32);
    let token = token(
        "t",
        &format!("- ek_public_hash: \"{hash}\"\n  ek_certificate_serial: \"12:34\""),
        &[],
    );
    fs::write(place.0.path().join("both.yaml"), format!("{BOT}---\n{token}")).unwrap();
    let (code, said, error) = place.run(&["create", "both.yaml"]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert_eq!(said, "bot \"my-bot\" has been created\ntoken \"t\" has been created\n");

    // All of a file or none: the bot is there already, so the new token is not made either.
    let second = token.replace("name: t\n", "name: u\n");
    let (code, said, error) = place.pipe(&["create", "-"], &format!("{second}---\n{BOT}"));
    assert_eq!((code, said.as_str()), (1, ""));
    assert!(
        error.contains("stdin: bot \"my-bot\" already exists") && error.contains("-f"),
        "{error}"
    );
    assert_eq!(place.run(&["get", "token/u"]).0, 1);

    for format in ["yaml", "json"] {
        let (code, written, _) = place.run(&["get", "token/t", "--format", format]);
        assert_eq!(code, 0);
        let (code, said, error) = place.pipe(&["create", "-f", "-"], &written);
        assert_eq!((code, said.as_str()), (0, "token \"t\" has been replaced\n"), "{error}");
        assert_eq!(place.run(&["get", "token/t", "--format", format]).1, written);
    }
    let (_, listed, _) = place.run(&["get", "tokens", "--format", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["spec"]["tpm"]["allow"][0]["ek_certificate_serial"], "12:34");

    let (code, _, error) = place.pipe(&["create", "-"], &BOT.replace("roles", "rolls"));
    assert_eq!(code, 65);
    assert!(error.starts_with("error: stdin: line 6: ") && error.contains("rolls"), "{error}");
    assert_eq!(error.lines().count(), 2, "a line that says what, a line of advice");
    let (code, _, error) = place.run(&["create", "absent.yaml"]);
    assert_eq!((code, error.lines().count()), (74, 2));
    assert_eq!(place.run(&["rm", "token/t"]).1, "token \"t\" has been removed\n");
    assert_eq!(place.run(&["rm", "token/t"]).0, 1);
    assert_eq!(place.run(&["get", "tokens"]), (0, String::new(), String::new()));
    assert_eq!(authority.terminate(), Some(0));
    let (code, _, error) = place.run(&["status"]);
    assert_eq!(code, 69);
    assert!(error.contains("authority start"), "{error}");
}

#[test]
fn a_directory_or_a_key_that_others_can_read_is_refused() {
    let place = Place::new();
    assert_eq!(place.start(&["--cluster-name", "one.example"]).terminate(), Some(0));
    let open = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(&place.data(), 0o755);
    let (code, _, error) = place.run(&["start"]);
    assert_eq!(code, 77);
    assert!(error.contains("other users have access to") && error.contains("chmod 700"), "{error}");
    open(&place.data(), 0o700);
    open(&place.data().join("wrapping.key"), 0o640);
    let (code, _, error) = place.run(&["start"]);
    assert_eq!(code, 77);
    assert!(error.contains("wrapping.key (mode "), "{error}");
}

#[test]
fn a_store_that_is_damaged_or_missing_is_named_with_what_helps() {
    let place = Place::new();
    assert_eq!(place.start(&["--cluster-name", "one.example"]).terminate(), Some(0));
    let store = place.data().join("cluster/store.redb");
    let sound = fs::read(&store).unwrap();
    let refused = |says: &str| {
        let (code, said, error) = place.run(&["start", "--listen", "127.0.0.1:0"]);
        assert_eq!((code, said.as_str()), (65, ""), "{error}");
        assert!(error.contains("cluster/store.redb") && error.contains(says), "{error}");
        assert!(error.contains("from a backup"), "{error}");
    };
    fs::write(&store, vec![0x5a; sound.len()]).unwrap();
    refused("the store is damaged");
    fs::write(&store, "").unwrap();
    refused("is empty");
    fs::remove_file(&store).unwrap();
    refused("is missing");
    fs::write(&store, sound).unwrap();
    fs::set_permissions(&store, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(place.start(&[]).terminate(), Some(0));
}

#[test]
fn a_wrong_command_line_is_usage_and_help_is_not() {
    let place = Place::new();
    for wrong in [
        &["nonsense"][..],
        &[],
        &["get", "users"],
        &["rm", "bot"],
        &["rm", "bot_instance/my-bot"],
        &["lock"],
        &["lock", "--bot", "a", "--token", "b"],
        &["lock", "--ek", "abc"],
        &["lock", "--bot", "a", "--ttl", "1h", "--expires", "2030-01-31T12:00:00Z"],
        &["bots"],
        &["audit", "ls", "--since", "yesterday"],
        &["check"],
        &["create"],
        &["start", "--listen", "here"],
        &["start", "--cluster-name", "UPPER"],
        &["start", "--join-timeout", "1h"],
    ] {
        let (code, said, error) = place.run(wrong);
        assert_eq!((code, said.as_str()), (64, ""), "{wrong:?}: {error}");
    }
    for verb in ["start", "check", "status", "create", "get", "rm", "lock", "completions", "man"] {
        let (code, help, _) = place.run(&[verb, "--help"]);
        assert!(code == 0 && help.contains("Usage: authority"), "{help}");
    }
    assert!(place.run(&["--help"]).1.contains("Exit codes:"));
    assert!(place.run(&["completions", "bash"]).1.contains("_authority()"));
    assert!(place.run(&["man"]).1.contains(".TH authority"));
}
