//! An authority whose records are in PostgreSQL.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use authority::config::{PostgresSettings, Settings, Start, StoreSettings};
use serde_json::Value;
use testkit::postgresql::Postgresql;
use testkit::simulated::SoftwareTpm;
use tokio::task::block_in_place;
use tokio::time::Instant;

use super::harness::{Harness, run};

/// The command `authority` with a configuration whose store is the database of a role.
pub(crate) fn authority(server: &Postgresql, role: &str, arguments: &[&str]) -> Command {
    let file = server.directory().join(format!("{role}.yaml"));
    let url = server.url(role, "postgres");
    fs::write(&file, format!("store: {{type: postgresql, url: \"{url}\"}}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_authority"));
    command.args(arguments).arg("-c").arg(file);
    command
}

pub(crate) fn text(output: Vec<u8>) -> String {
    String::from_utf8(output).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_join_and_stay_while_the_database_goes_away_and_the_authority_is_replaced() {
    let Some(mut server) = Postgresql::start("", |_| vec!["fsync=off".to_owned()]).unwrap() else {
        return;
    };
    server.sql("postgres", "CREATE ROLE endorse LOGIN").unwrap();
    let start = ["start", "--cluster-name", "test.example", "--listen", "127.0.0.1:0"];
    let mut start = authority(&server, "endorse", &start);
    let refused = start.arg("--data-dir").arg(server.directory().join("unused")).output().unwrap();
    let said = text(refused.stderr);
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("run `authority store migrate`"), "{said}");
    let migrate = ["store", "migrate", "--runtime-role", "endorse"];
    let said = text(run(&mut authority(&server, "postgres", &migrate)));
    assert!(said.starts_with("tables created or up to date: postgres on "), "{said}");
    let checked = text(run(&mut authority(&server, "endorse", &["check"])));
    assert!(checked.contains("\nStore    postgresql, postgres on "), "{checked}");
    assert!(checked.contains("\nStandby  no synchronous standby"), "{checked}");

    let start = Start { config: Some(server.directory().join("endorse.yaml")), ..Start::default() };
    let store = Settings::new(&start).unwrap().store;
    assert!(matches!(store, StoreSettings::Postgresql(_)));
    let one = Harness::with_store(store.clone()).await;
    one.joined().await;
    assert_eq!(one.assert_last("bot.join", None)["method"], "tpm");
    let tpm = SoftwareTpm::generate();
    one.allow(&tpm).await;
    server.stop().unwrap();
    one.join(&tpm, "t").await.unwrap_err();
    server.start_again().unwrap();
    one.join(&tpm, "t").await.unwrap();
    assert_eq!(one.instances().await.len(), 2);

    let other = one.beside("other", store).await;
    assert_eq!(other.instances().await.len(), 2, "the records are in the database");
    other.joined().await;
    assert_eq!(one.instances().await.len(), 3);
}

/// A server with the tables of a store, and the configuration of an authority that uses it. `None`, with a line that says so, without PostgreSQL.
pub(crate) fn migrated(data: &Path) -> Option<Postgresql> {
    let server = Postgresql::start("", |_| vec!["fsync=off".to_owned()]).unwrap()?;
    server.sql("postgres", "CREATE ROLE endorse LOGIN").unwrap();
    let migrate = ["store", "migrate", "--runtime-role", "endorse"];
    run(&mut authority(&server, "postgres", &migrate));
    authority(&server, "endorse", &[]);
    let file = server.directory().join("endorse.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, format!("{text}data_dir: {}\n", data.display())).unwrap();
    Some(server)
}

/// Waits until the server has noticed that all authorities have ended.
pub(crate) fn wait_until_unused(server: &Postgresql) {
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'endorse'";
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.sql("postgres", sessions).unwrap() != "0" {
        assert!(Instant::now() < deadline, "sessions are left");
    }
}

fn copy(from: &Path, to: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_authority"));
    command.args(["store", "copy", "--format", "json", "--from"]).arg(from).arg("--to").arg(to);
    command
}

pub(crate) fn refused(command: &mut Command, code: i32) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    let said = text(stderr);
    assert_eq!(status.code(), Some(code), "{said}");
    said
}

/// A data directory with the same cluster, without a store.
fn another(data: &Path, to: &Path) {
    fs::create_dir_all(to.join("cluster")).unwrap();
    for directory in [to.to_owned(), to.join("cluster")] {
        fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
    }
    for entry in fs::read_dir(data.join("cluster")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "store.redb" {
            fs::copy(entry.path(), to.join("cluster").join(entry.file_name())).unwrap();
        }
    }
    for name in ["store-id", "wrapping.key"] {
        fs::copy(data.join(name), to.join(name)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_move_to_a_database_and_back_and_no_authority_uses_an_incomplete_copy() {
    let one = Harness::new().await;
    let data = one.dir.path().join("data");
    let Some(server) = migrated(&data) else { return };
    let database = server.directory().join("endorse.yaml");
    one.joined().await;
    let tpm = SoftwareTpm::generate();
    one.allow(&tpm).await;
    one.join(&tpm, "t").await.unwrap();
    let said = block_in_place(|| refused(&mut copy(&data, &database), 69));
    assert!(said.contains("in use by another authority"), "{said}");
    let _dir = one.ended().await;
    let checked = || text(run(&mut authority_at(&database, "check")));
    let warning = "are not used, since `store` is a database: copy them";
    assert!(checked().contains(warning), "{}", checked());

    // Interrupted: by an error, and by SIGKILL.
    server.sql("postgres", "REVOKE INSERT ON endorse.expiry FROM endorse").unwrap();
    let said = refused(&mut copy(&data, &database), 78);
    assert!(said.contains("permission denied"), "{said}");
    server.sql("postgres", "GRANT INSERT ON endorse.expiry TO endorse").unwrap();
    let start = || {
        let mut start = authority_at(&database, "start");
        start.args(["--listen", "127.0.0.1:0"]);
        start
    };
    let said = refused(&mut start(), 65);
    assert!(said.contains("`authority store copy` has not filled it completely"), "{said}");
    wait_until_unused(&server);
    kill_in_the_middle(&server, &mut copy(&data, &database));
    refused(&mut start(), 65);

    wait_until_unused(&server);
    let copied: Value = serde_json::from_slice(&run(&mut copy(&data, &database))).unwrap();
    assert_eq!(copied["copied"]["records"]["instances"], 2, "{copied}");
    assert!(!checked().contains("are not used"), "{}", checked());
    wait_until_unused(&server);
    let said = refused(&mut copy(&data, &database), 1);
    assert!(said.contains("is not empty"), "{said}");

    let store = StoreSettings::Postgresql(Box::new(PostgresSettings {
        url: server.url("endorse", "postgres").parse().unwrap(),
        password_file: None,
        tls: None,
    }));
    let back = server.directory().join("back");
    another(&data, &back);
    let two = Harness::at(&data, store).await;
    assert_eq!(two.instances().await.len(), 2);
    two.join(&tpm, "t").await.unwrap();
    let said = block_in_place(|| refused(&mut copy(&database, &back), 78));
    assert!(said.contains("sessions of authorities"), "{said}");
    two.ended().await;
    wait_until_unused(&server);
    let there: Value = serde_json::from_slice(&run(&mut copy(&database, &back))).unwrap();
    assert_eq!(there["copied"]["records"]["instances"], 3, "{there}");
    let three = Harness::at(&back, StoreSettings::Embedded).await;
    assert_eq!(three.instances().await.len(), 3);
}

fn authority_at(configuration: &Path, verb: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_authority"));
    command.args([verb, "-c"]).arg(configuration);
    command
}

/// Kills a command while it waits to write to the last table but a few.
fn kill_in_the_middle(server: &Postgresql, command: &mut Command) {
    const HELD: &str = "LOCK TABLE endorse.expiry IN EXCLUSIVE MODE; SELECT pg_sleep(600)";
    let sql = |statement: &str| server.sql("postgres", statement).unwrap();
    let wait = |statement: &str| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while sql(statement) != "t" {
            assert!(Instant::now() < deadline, "{statement}");
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| server.sql("postgres", HELD).unwrap_err());
        wait(
            "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'endorse.expiry'::regclass AND mode = 'ExclusiveLock'",
        );
        let mut child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        wait("SELECT count(*) > 0 FROM endorse.instances");
        child.kill().unwrap();
        child.wait().unwrap();
        sql(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE relation = 'endorse.expiry'::regclass AND mode = 'ExclusiveLock'",
        );
    });
}
