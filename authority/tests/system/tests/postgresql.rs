//! An authority whose records are in PostgreSQL.

use std::fs;
use std::process::Command;

use authority::config::{Settings, Start, StoreSettings};
use testkit::postgresql::Postgresql;
use testkit::simulated::SoftwareTpm;

use super::harness::{Harness, run};

/// The command `authority` with a configuration whose store is the database of a role.
fn authority(server: &Postgresql, role: &str, arguments: &[&str]) -> Command {
    let file = server.directory().join(format!("{role}.yaml"));
    let url = server.url(role, "postgres");
    fs::write(&file, format!("store: {{type: postgresql, url: \"{url}\"}}\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_authority"));
    command.args(arguments).arg("-c").arg(file);
    command
}

fn text(output: Vec<u8>) -> String {
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

    let other = Harness::with_store(store).await;
    assert_eq!(other.instances().await.len(), 2, "the records are in the database");
    other.joined().await;
    assert_eq!(one.instances().await.len(), 3);
}
