//! The program as a daemon: its configuration, its service manager, its monitoring.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;
use testkit::simulated::TIMEOUT;

use super::command::{Place, Running};
use super::harness::BOT;
use super::postgresql::migrated;
use super::store::SmallDisk;

fn ask(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn diag(authority: &Running) -> String {
    let line = authority.said.iter().find_map(|line| line.strip_prefix("Diag "));
    line.unwrap().trim().to_owned()
}

#[test]
fn a_configuration_is_read_checked_and_overridden() {
    let place = Place::new();
    let file = place.0.path().join("authority.yaml");
    let yaml = format!(
        "data_dir: {}\ncluster_name: one.example\nlisten: 127.0.0.1:1\ndiag_addr: 127.0.0.1:0\n",
        place.0.path().join("elsewhere").display()
    );
    fs::write(&file, &yaml).unwrap();
    let file = file.to_str().unwrap();
    let (code, said, _) = place.run(&["check", "-c", file]);
    assert_eq!(code, 0);
    for part in ["is valid", "Listen   127.0.0.1:1", "one.example", "Diag     127.0.0.1:0"] {
        assert!(said.contains(part), "{said}");
    }
    // The environment names another directory, a flag another port.
    let authority = place.start_with(&["-c", file], &[], 4);
    assert_eq!(authority.said[0], "Cluster  one.example");
    assert!(place.data().is_dir() && !place.0.path().join("elsewhere").exists());
    assert_eq!(authority.terminate(), Some(0));

    fs::write(file, b"# caf\xe9\n").unwrap();
    assert_eq!(place.run(&["check", "-c", file]).0, 78);
    assert_eq!(place.run(&["check", "-c", "absent.yaml"]).0, 74);
}

#[test]
fn all_faults_of_a_configuration_are_reported_at_once() {
    let place = Place::new();
    let file = place.0.path().join("authority.yaml");
    fs::write(&file, "listne: 127.0.0.1:1\ndiag_addr: 1\nlog: {format: jsn}\n").unwrap();
    let file = file.to_str().unwrap();
    let (code, said, error) = place.run(&["check", "-c", file]);
    let expected = format!(
        "error: unknown key `listne` in the configuration
 --> {file}:1:1
  |
1 | listne: 127.0.0.1:1
  | ^^^^^^ did you mean `listen`?

error: `diag_addr`: a listen address is IP:PORT
 --> {file}:2:12
  |
2 | diag_addr: 1
  |            ^

error: `format`: `jsn` is not one of text, json, journal; did you mean `json`?
 --> {file}:3:15
  |
3 | log: {{format: jsn}}
  |               ^^^

"
    );
    assert_eq!((code, said.as_str()), (78, expected.as_str()), "{error}");
    let first =
        format!("{file}:1:1: unknown key `listne` in the configuration, and 2 other errors");
    assert!(error.contains(&first), "{error}");
    assert!(!error.contains("authority check"), "{error}");

    let (code, said, error) = place.run(&["start", "-c", file]);
    assert_eq!((code, said.as_str()), (78, ""), "{error}");
    for fault in [":1:1", ":2:12", ":3:15"] {
        assert!(error.contains(&format!("at={file}{fault}")), "{error}");
    }
    assert!(error.contains(&first) && error.contains("run `authority check`"), "{error}");
    assert!(!place.data().exists());
}

#[test]
fn a_unit_is_for_what_its_configuration_says() {
    let place = Place::new();
    let file = place.0.path().join("authority.yaml");
    fs::write(&file, "data_dir: /srv/endorse-data\nlisten: 0.0.0.0:443\n").unwrap();
    let file = file.to_str().unwrap();
    let unit = |flags: &[&str], environment: &[(&str, &str)]| {
        let mut command = place.command(&["install", "systemd", "--program", "/usr/bin/authority"]);
        command.env_remove("AUTHORITY_DATA_DIR").envs(environment.iter().copied());
        let output = command.args(flags).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{error}");
        (text.lines().map(str::to_owned).collect::<Vec<_>>(), error)
    };
    let has = |unit: &[String], line: &str| assert!(unit.iter().any(|l| l == line), "{unit:#?}");
    let program = "ExecStart=/usr/bin/authority start";

    let (text, _) = unit(&["-c", file], &[]);
    has(&text, &format!("{program} --config {file}"));
    has(&text, "ReadWritePaths=/srv/endorse-data");
    has(&text, "CapabilityBoundingSet=CAP_NET_BIND_SERVICE");

    let flags = ["-c", file, "--data-dir", "/var/lib/b", "--listen", "0.0.0.0:3025"];
    let variables = [("AUTHORITY_DATA_DIR", "/var/lib/b"), ("AUTHORITY_LISTEN", "0.0.0.0:3025")];
    for (text, error) in [unit(&flags, &[]), unit(&["-c", file], &variables)] {
        let flags = "--data-dir /var/lib/b --listen 0.0.0.0:3025";
        has(&text, &format!("{program} {flags} --config {file}"));
        has(&text, "StateDirectory=b");
        has(&text, "CapabilityBoundingSet=");
        assert!(error.contains("--data-dir /var/lib/b, not /srv/endorse-data"), "{error}");
    }
    let (text, _) = unit(&[], &[]);
    has(&text, &format!("{program} --data-dir /var/lib/endorse"));
}

#[test]
fn monitoring_is_answered() {
    let place = Place::new();
    let flags = ["--cluster-name", "one.example", "--diag-addr", "127.0.0.1:0"];
    let authority = place.start_with(&flags, &[], 4);
    let diag = diag(&authority);
    assert_eq!(ask(&diag, "/livez"), (200, "OK\n".into()));
    let (code, body) = ask(&diag, "/readyz");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, &body["status"]), (200, &"healthy".into()));
    assert_eq!(body["services"]["store"]["status"], "healthy");
    let (code, metrics) = ask(&diag, "/metrics");
    assert_eq!(code, 200);
    for line in
        ["endorse_joins_total{result=\"granted\"} 0", "# TYPE endorse_store_seconds histogram"]
    {
        assert!(metrics.lines().any(|have| have == line), "{metrics}");
    }
    assert!(metrics.contains("endorse_store_seconds_count{access=\"write\"}"));
    assert_eq!(ask(&diag, "/etc/passwd").0, 404);
    // A silent connection does not block others.
    let silent: Vec<_> = (0..200).map(|_| TcpStream::connect(&diag).unwrap()).collect();
    assert_eq!(ask(&diag, "/livez").0, 200);
    drop(silent);
    assert_eq!(authority.terminate(), Some(0));
}

/// Whether it is ready, and why not, of one part of it.
fn ready(diag: &str, part: &str) -> (u16, Option<String>) {
    let (code, body) = ask(diag, "/readyz");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    (code, body["services"][part]["reason"].as_str().map(str::to_owned))
}

#[test]
fn an_authority_whose_disk_is_full_is_not_ready() {
    let Some(disk) = SmallDisk::new() else {
        println!("may not mount; `store::measured` has a store in its stead");
        return;
    };
    let (data, ballast) = (disk.0.path().join("data"), disk.0.path().join("ballast"));
    let place = Place::new();
    let flags = ["--cluster-name", "one.example", "--diag-addr", "127.0.0.1:0"];
    let data = ["--data-dir", data.to_str().unwrap()];
    let authority = place.start_with(&[&flags[..], &data].concat(), &[], 4);
    let diag = diag(&authority);
    assert_eq!(ready(&diag, "store"), (200, None));

    let create = |number: usize, count: usize| {
        let bots: Vec<_> = (0..count)
            .map(|one| {
                let name = format!("b-{number}-{one}");
                let long = format!("name: {name}\n  description: {}", "x".repeat(2000));
                BOT.replace("name: my-bot", &long)
            })
            .collect();
        place.pipe(&[&["create", "-"][..], &data].concat(), &bots.join("---\n"))
    };
    // As much as there is room for; the file is cut short where that ends.
    let _ = fs::write(&ballast, vec![0; 8 << 20]);
    let failed = (0..40).map(|number| create(number, 100)).find(|(code, ..)| *code != 0);
    let failed = failed.expect("a full disk");
    assert_eq!(failed.0, 74, "{failed:?}");
    // There may be room for less, and then the store accepts writes, also if the audit log finds none.
    let refuses = (40..400).map(|number| {
        create(number, 1);
        ready(&diag, "store")
    });
    let (code, reason) = refuses.into_iter().find(|(_, reason)| reason.is_some()).expect("no room");
    assert_eq!(code, 503);
    assert!(reason.as_deref().is_some_and(|why| why.contains("No space left")), "{reason:?}");
    // Without any write: the authority finds out by itself.
    fs::remove_file(&ballast).unwrap();
    assert_eq!(ready(&diag, "store"), (200, None));
    assert_eq!(authority.terminate(), Some(0));
}

#[test]
fn an_authority_whose_audit_log_cannot_be_written_is_not_ready() {
    let place = Place::new();
    let flags = ["--cluster-name", "one.example", "--diag-addr", "127.0.0.1:0"];
    let authority = place.start_with(&flags, &[], 4);
    let (diag, log) = (diag(&authority), place.data().join("audit.jsonl"));
    // In one step: what is only removed is created again at any time.
    let pipe = log.with_extension("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::rename(&pipe, &log).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(super::operator::stranger(&authority));
    let (code, reason) = ready(&diag, "audit");
    assert_eq!(code, 503);
    assert!(reason.as_deref().is_some_and(|why| why.contains("not a regular file")), "{reason:?}");
    fs::remove_file(&log).unwrap();
    assert_eq!(ready(&diag, "audit"), (200, None));
    assert_eq!(authority.terminate(), Some(0));
}

#[test]
fn service_manager_is_notified() {
    let place = Place::new();
    let path = place.0.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let heard = || {
        let mut words = [0; 100];
        let length = manager.recv(&mut words).unwrap();
        String::from_utf8(words[..length].to_vec()).unwrap()
    };
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let authority = place.start_with(&["--cluster-name", "one.example"], &environment, 3);
    assert!(heard().starts_with("READY=1\nSTATUS=serving hosts on "));
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1");
    }
    authority.signal("-TERM");
    while !heard().starts_with("STOPPING=1") {}
    assert_eq!(authority.terminate(), Some(0));
}

#[test]
fn watchdog_does_not_depend_on_a_database_on_another_machine() {
    let place = Place::new();
    let Some(mut server) = migrated(&place.data()) else { return };
    let path = place.0.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(TIMEOUT)).unwrap();
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let configuration = server.directory().join("endorse.yaml");
    let flags = ["-c", configuration.to_str().unwrap(), "--diag-addr", "127.0.0.1:0"];
    let authority = place.start_with(&flags, &environment, 4);
    let address = diag(&authority);
    assert_eq!(ask(&address, "/readyz").0, 200);
    server.stop().unwrap();
    while ask(&address, "/readyz").0 != 503 {}
    assert_eq!(ask(&address, "/livez").0, 200);
    // What was sent before.
    manager.set_nonblocking(true).unwrap();
    while manager.recv(&mut [0; 100]).is_ok() {}
    manager.set_nonblocking(false).unwrap();
    let mut words = [0; 100];
    for _ in 0..3 {
        let length = manager.recv(&mut words).unwrap();
        assert_eq!(&words[..length], b"WATCHDOG=1");
    }
    server.start_again().unwrap();
    while ask(&address, "/readyz").0 != 200 {}
    authority.terminate();
}

#[test]
fn a_log_that_was_moved_away_is_opened_again_at_sighup() {
    let place = Place::new();
    let authority = place.start(&["--cluster-name", "one.example"]);
    let log = place.data().join("audit.jsonl");
    fs::rename(&log, place.data().join("audit.jsonl.1")).unwrap();
    authority.signal("-HUP");
    let mut tries = 0;
    while !log.exists() {
        tries += 1;
        assert!(tries < 500, "no new log");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(place.run(&["status"]).0, 0);
    assert_eq!(authority.terminate(), Some(0));
}

#[test]
fn monitoring_is_answered_when_strangers_take_all_that_the_files_allow() {
    let place = Place::new();
    let flags = ["--cluster-name", "one.example", "--diag-addr", "127.0.0.1:0"];
    let authority = place.start_with(&flags, &[("BEFORE", "ulimit -n 72")], 4);
    let diag = diag(&authority);
    let connect = |address: &str| TcpStream::connect(address).unwrap();
    let _silent: Vec<_> =
        (0..200).flat_map(|_| [connect(&authority.address), connect(&diag)]).collect();
    for _ in 0..3 {
        assert_eq!(ask(&diag, "/livez").0, 200);
    }
    let log = fs::read_to_string(place.0.path().join("log")).unwrap();
    assert!(!log.contains("cannot accept"), "{log}");
}

#[test]
fn monitoring_is_answered_after_more_connections_at_once_than_are_accepted() {
    let place = Place::new();
    let flags = ["--cluster-name", "one.example", "--diag-addr", "127.0.0.1:0"];
    let authority = place.start_with(&flags, &[], 4);
    let address = diag(&authority).parse().unwrap();
    // An authority that gets no CPU: the kernel takes the connections meanwhile.
    authority.signal("-STOP");
    let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(10));
    let all: Result<Vec<_>, _> = (0..120).map(|_| connect()).collect();
    authority.signal("-CONT");
    all.unwrap();
    assert_eq!(ask(&diag(&authority), "/livez").0, 200);
}
