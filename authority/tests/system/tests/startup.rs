//! The program before it serves: what it takes from its environment and its files, and what it refuses.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{chown, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;
use testkit::simulated::TIMEOUT;

use super::command::Place;
use super::harness::run;
use super::operator::stranger;

const CLUSTER: &str = "one.example";

#[test]
fn log_level_that_does_not_exist_is_refused_by_name() {
    let place = Place::new();
    let file = place.0.path().join("authority.yaml");
    fs::write(&file, "listen: 127.0.0.1:0\nlog:\n  level: verbose\n").unwrap();
    for verb in ["check", "start"] {
        let (code, _, error) = place.run(&[verb, "-c", file.to_str().unwrap()]);
        assert_eq!(code, 78, "{error}");
        let fault = format!("{}:3:10", file.display());
        assert!(error.contains(&fault), "{error}");
        assert!(error.contains("`level`: \"verbose\" is not a log level"), "{error}");
    }
    for arguments in [&["start"][..], &["status"]] {
        let output = place.command(arguments).env("AUTHORITY_LOG", "verbose").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{error}");
        assert!(error.contains("AUTHORITY_LOG: \"verbose\" is not a log level"), "{error}");
    }
    assert!(!place.data().exists());
}

#[test]
fn empty_and_other_spellings_of_a_log_level_do_not_silence_the_log() {
    let log = |yaml: &str, variable: &str| {
        let place = Place::new();
        let file = place.0.path().join("authority.yaml");
        fs::write(&file, yaml).unwrap();
        let flags = ["--cluster-name", CLUSTER, "-c", file.to_str().unwrap()];
        let authority = place.start_with(&flags, &[("AUTHORITY_LOG", variable)], 3);
        assert_eq!(authority.terminate(), Some(0));
        fs::read_to_string(place.0.path().join("log")).unwrap()
    };
    for (yaml, variable) in [("", ""), ("log: {level: \"\"}\n", ""), ("", "h2=warning")] {
        assert!(log(yaml, variable).contains("authority started"), "{yaml:?} {variable:?}");
    }
    assert!(log("log: {level: debug}\n", "").contains("authority started"));
}

#[test]
fn quiet_log_says_once_that_it_is() {
    for (level, format) in
        [("warning", "text"), ("error", "text"), ("off", "text"), ("off", "json")]
    {
        let place = Place::new();
        let environment = [("AUTHORITY_LOG", level), ("AUTHORITY_LOG_FORMAT", format)];
        let authority = place.start_with(&["--cluster-name", CLUSTER], &environment, 3);
        assert_eq!(authority.terminate(), Some(0));
        let log = fs::read_to_string(place.0.path().join("log")).unwrap();
        let others: Vec<_> = log.lines().filter(|line| !line.contains("recovery key")).collect();
        assert_eq!(others.len(), 1, "{level}: {log}");
        let log = others[0];
        assert!(log.contains("events of level info are not logged"), "{level}: {log}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(log).is_ok(),
            format == "json",
            "{log}"
        );
    }
}

#[test]
fn environment_variables_that_are_empty_are_unset() {
    const VARIABLES: [&str; 9] = [
        "AUTHORITY_CONFIG",
        "AUTHORITY_LISTEN",
        "AUTHORITY_CLUSTER_NAME",
        "AUTHORITY_JOIN_TIMEOUT",
        "AUTHORITY_DIAG_ADDR",
        "AUTHORITY_EK_EXPIRED",
        "AUTHORITY_EK_SHA1",
        "AUTHORITY_LOG_FORMAT",
        "AUTHORITY_LOG",
    ];
    let place = Place::new();
    let flags = ["--cluster-name", CLUSTER];
    let authority = place.start_with(&flags, &VARIABLES.map(|name| (name, "")), 3);
    let mut status = place.command(&["status", "--data-dir", place.data().to_str().unwrap()]);
    let output = status.env("AUTHORITY_DATA_DIR", "").env("AUTHORITY_LOG_FORMAT", "").output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(authority.terminate(), Some(0));
}

/// Each start ends, should it be no refusal that ends it.
fn start(place: &Place, flags: &[&str]) -> (i32, String) {
    let start = place.command(&["start", "--cluster-name", CLUSTER]);
    let mut command = Command::new("timeout");
    command.arg("20").arg(start.get_program()).args(start.get_args()).args(flags);
    let output = command.env("AUTHORITY_DATA_DIR", place.data()).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn address_in_use_is_found_before_a_cluster_is_made() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (listen, diag, flag) in
        [(&*address, "127.0.0.1:0", "--listen"), ("127.0.0.1:0", &*address, "--diag-addr")]
    {
        let (code, error) = start(&place, &["--listen", listen, "--diag-addr", diag]);
        assert_eq!(code, 69, "{error}");
        assert!(error.contains(&format!("another address with {flag}")), "{error}");
        assert!(!place.data().join("cluster").exists());
    }
}

const FILES: [&str; 8] = [
    "lock",
    "audit.jsonl",
    "store-id",
    "wrapping.key",
    "cluster/x509-ca.pem",
    "cluster/ssh-ca.pub",
    "cluster/ssh-host-ca.pub",
    "cluster/store.redb",
];

#[test]
fn data_of_another_user_is_refused() {
    let place = Place::new();
    assert_eq!(place.start(&["--cluster-name", CLUSTER]).terminate(), Some(0));
    let directories = ["", "cluster", "cluster/cluster.json", "cluster/store.redb"];
    for name in directories.iter().chain(&FILES) {
        let path = place.data().join(name);
        if chown(&path, Some(54_321), None).is_err() {
            println!("may not give files away");
            return;
        }
        let (code, error) = start(&place, &["--listen", "127.0.0.1:0"]);
        assert_eq!(code, 77, "{name}: {error}");
        assert!(error.contains("belongs to another user (uid 54321)"), "{name}: {error}");
        assert!(error.contains(path.to_str().unwrap().trim_end_matches('/')), "{name}: {error}");
        chown(&path, Some(0), None).unwrap();
    }
    assert_eq!(place.start(&[]).terminate(), Some(0));
}

#[test]
fn symbolic_links_in_place_of_keys_store_lock_and_log_are_refused() {
    let place = Place::new();
    assert_eq!(place.start(&["--cluster-name", CLUSTER]).terminate(), Some(0));
    for name in FILES {
        let (path, elsewhere) = (place.data().join(name), place.0.path().join("elsewhere"));
        fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        let (code, error) = start(&place, &["--listen", "127.0.0.1:0"]);
        assert_eq!(code, 77, "{name}: {error}");
        assert!(error.contains("it is a symbolic link"), "{name}: {error}");
        fs::rename(&elsewhere, &path).unwrap();
    }
}

#[test]
fn irregular_files_in_place_of_keys_store_lock_and_log_are_refused() {
    let place = Place::new();
    assert_eq!(place.start(&["--cluster-name", CLUSTER]).terminate(), Some(0));
    for name in FILES {
        let (path, elsewhere) = (place.data().join(name), place.0.path().join("elsewhere"));
        fs::rename(&path, &elsewhere).unwrap();
        let made = Command::new("mkfifo").args(["-m", "600"]).arg(&path).status();
        assert!(made.unwrap().success());
        let pipe = start(&place, &["--listen", "127.0.0.1:0"]);
        fs::remove_file(&path).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let socket = (start(&place, &["--listen", "127.0.0.1:0"]), socket).0;
        for (code, error) in [pipe, socket] {
            assert_eq!(code, 77, "{name}: {error}");
            assert!(error.contains("it is not a regular file"), "{name}: {error}");
        }
        fs::rename(&elsewhere, &path).unwrap();
    }
}

#[test]
fn data_directory_may_have_a_path_longer_than_a_socket_address() {
    let place = Place::new();
    let long = place.0.path().join("d".repeat(60)).join("e".repeat(60)).join("data");
    let long = long.to_str().unwrap();
    let authority = place.start(&["--cluster-name", CLUSTER, "--data-dir", long]);
    let (code, said, error) = place.run(&["status", "--data-dir", long]);
    assert_eq!(code, 0, "{error}");
    assert!(said.contains(CLUSTER), "{said}");
    assert_eq!(authority.terminate(), Some(0));
    assert!(!std::path::Path::new(long).join("admin.sock").exists());
}

#[tokio::test]
async fn log_that_cannot_be_written_ends_nothing() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    for log in [Stdio::from(full), Stdio::from(writer)] {
        let place = Place::new();
        let trace = [("AUTHORITY_LOG", "trace")];
        let authority = place.start_into(log, &["--cluster-name", CLUSTER], &trace, 3);
        stranger(&authority).await;
        let (code, said, error) = place.run(&["status"]);
        assert_eq!(code, 0, "{error}");
        assert!(said.contains(&authority.pin), "{said}");
        assert_eq!(authority.terminate(), Some(0));
    }
}

#[tokio::test]
async fn unread_log_does_not_block_the_authority() {
    // What a pipe holds, pipe(7).
    const CAPACITY: usize = 64 * 1024;
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[b'x'; CAPACITY]).unwrap();
    let place = Place::new();
    let authority = place.start_into(writer.into(), &["--cluster-name", CLUSTER], &[], 3);
    stranger(&authority).await;
    let (code, _, error) = place.run(&["status"]);
    assert_eq!(code, 0, "{error}");
    assert_eq!(authority.terminate(), Some(0));
    drop(reader);
}

/// What `status` says once the authority answers.
async fn served(place: &Place) -> String {
    let answered = async {
        loop {
            let (code, said, _) = place.run(&["status"]);
            if code == 0 {
                return said;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, answered).await.expect("no answer")
}

#[tokio::test]
async fn start_whose_stdout_cannot_be_written_serves() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let place = Place::new();
    let log = place.0.path().join("log");
    for log in [Stdio::from(fs::File::create(&log).unwrap()), full().into()] {
        let mut start = place.command(&["start", "--listen", "127.0.0.1:0"]);
        start.args(["--cluster-name", CLUSTER]).stdout(full()).stderr(log);
        let mut authority = start.spawn().unwrap();
        assert!(served(&place).await.contains(CLUSTER));
        run(Command::new("kill").arg("-TERM").arg(authority.id().to_string()));
        assert!(authority.wait().unwrap().success());
    }
    let log = fs::read_to_string(log).unwrap();
    assert!(
        log.contains("WARN") && log.contains("cannot print the address and the CA pin"),
        "{log}"
    );
}
