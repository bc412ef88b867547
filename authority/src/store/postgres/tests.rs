//! The store on a real PostgreSQL.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use testkit::postgresql::{Postgresql, own};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};

use super::connection::{Link, Server};
use super::*;
use crate::config::{ChannelBinding, PostgresIdentity, PostgresTls};
use crate::store::Pages;
use crate::store::conformance::{Subject, conforms};

const PATIENT: Limits = Limits {
    connect: Duration::from_secs(60),
    start: Duration::from_secs(60),
    read: Duration::from_secs(60),
    queue: Duration::from_secs(60),
    group: Duration::from_secs(60),
};

/// A server without TLS, and with the tables of the store, for the role `endorse`. `None`, said, if there is no PostgreSQL.
async fn database() -> Option<Postgresql> {
    let server = Postgresql::start("", |_| vec!["fsync=off".to_owned()]).unwrap()?;
    server.sql("postgres", "CREATE ROLE endorse LOGIN").unwrap();
    PostgresStore::migrate(&settings(&server, "postgres"), Some("endorse")).await.unwrap();
    Some(server)
}

/// Settings for the server's Unix socket.
fn settings(server: &Postgresql, user: &str) -> PostgresSettings {
    let url = server.url(user, "postgres").parse().unwrap();
    PostgresSettings { url, password_file: None, tls: None }
}

/// Opens a store that waits as long as a busy machine takes.
async fn patiently(settings: &PostgresSettings, id: &str) -> Result<PostgresStore, StoreError> {
    PostgresStore::open_within(settings, id, PATIENT).await
}

async fn open(server: &Postgresql, id: &str) -> Result<PostgresStore, StoreError> {
    patiently(&settings(server, "endorse"), id).await
}

fn put(key: &str) -> Vec<Change> {
    vec![Change::Put(Table::Bots, key.into(), vec![])]
}

/// Repeats a write that the database was too busy for.
async fn write(store: &PostgresStore, batch: Vec<Change>) {
    loop {
        match store.write(batch.clone()).await {
            Ok(()) => return,
            Err(StoreError::Failed(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

async fn keys(store: &PostgresStore, table: Table) -> BTreeSet<String> {
    let all = Pages::new(store, table, "").all().await.unwrap();
    all.into_iter().map(|(key, _)| key).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgresql_store_conforms() {
    let Some(server) = database().await else { return };
    let store = Arc::new(open(&server, "one").await.unwrap());
    let again = settings(&server, "endorse");
    let reopened = move || -> Arc<dyn Store> {
        let store = block_in_place(|| Handle::current().block_on(patiently(&again, "another")));
        Arc::new(store.unwrap())
    };
    conforms(Subject { store, reopened: Some(Box::new(reopened)) }).await.unwrap();
}

/// Raises a counter, and records each raise.
async fn count(store: &PostgresStore, name: &str, times: usize) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    for number in 0.. {
        if acknowledged.len() == times {
            break;
        }
        let Ok(was) = store.read(Table::Clock, "").await else { continue };
        let value: u64 = String::from_utf8(was.clone().unwrap()).unwrap().parse().unwrap();
        let next = (value + 1).to_string().into_bytes();
        let key = format!("{name}-{number}");
        let batch = vec![
            Change::Replace(Table::Clock, String::new(), was.unwrap(), next),
            Change::Insert(Table::Bots, key.clone(), vec![]),
        ];
        match store.write(batch).await {
            Ok(()) => drop(acknowledged.insert(key)),
            Err(StoreError::Changed(..) | StoreError::Failed(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_stores_write_to_one_database_as_if_one_after_the_other() {
    let Some(server) = database().await else { return };
    let (one, other) = (open(&server, "one").await.unwrap(), open(&server, "other").await.unwrap());
    write(&one, vec![Change::Put(Table::Clock, String::new(), b"0".into())]).await;
    let (mut all, more) = tokio::join!(count(&one, "one", 20), count(&other, "other", 20));
    all.extend(more);
    let written = keys(&one, Table::Bots).await;
    assert!(written.is_superset(&all), "acknowledged, but missing");
    let counter = other.read(Table::Clock, "").await.unwrap().unwrap();
    assert_eq!(String::from_utf8(counter).unwrap(), written.len().to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_acknowledged_is_lost_or_written_twice_when_connections_are_cut() {
    const CUTS: usize = 200;
    let Some(server) = database().await else { return };
    let store = Arc::new(open(&server, "one").await.unwrap());
    let (stop, stopped) = watch::channel(false);
    let (written, mut more) = watch::channel(0);
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let (store, stopped) = (Arc::clone(&store), stopped.clone());
        let written = written.clone();
        writers.spawn(async move {
            let mut acknowledged = BTreeSet::new();
            for number in 0.. {
                if *stopped.borrow() {
                    break;
                }
                let key = format!("{writer}-{number}");
                // One that was written twice would exist already.
                match store.write(vec![Change::Insert(Table::Bots, key.clone(), vec![])]).await {
                    Ok(()) => {
                        written.send_modify(|written| *written += 1);
                        acknowledged.insert(key);
                    }
                    Err(StoreError::Failed(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            acknowledged
        });
    }
    drop(written);
    let admin = admin(&server).await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'endorse'";
    let mut cuts = 0;
    while cuts < CUTS {
        cuts += admin.rows(cut, &[]).await.unwrap().len();
        more.mark_unchanged();
        more.changed().await.expect("the writers go on");
    }
    stop.send(true).unwrap();
    let mut acknowledged = BTreeSet::new();
    for keys in writers.join_all().await {
        acknowledged.extend(keys);
    }
    let stored = keys(&store, Table::Bots).await;
    let missing: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

async fn admin(server: &Postgresql) -> Link {
    Server::new(&settings(server, "postgres"), PATIENT).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn store_goes_on_when_the_database_was_restarted() {
    let Some(mut server) = database().await else { return };
    let store = open(&server, "one").await.unwrap();
    write(&store, put("before")).await;
    block_in_place(|| server.stop()).unwrap();
    block_in_place(|| server.start_again()).unwrap();
    write(&store, put("after")).await;
    let keys = keys(&store, Table::Bots).await;
    assert!(["before", "after"].iter().all(|key| keys.contains(*key)), "{keys:?}");
}

#[tokio::test]
async fn write_that_waits_for_a_slow_database_fails_and_is_not_written_later() {
    let Some(server) = database().await else { return };
    let store = open(&server, "one").await.unwrap();
    write(&store, put("a")).await;
    let admin = admin(&server).await;
    admin.batch("SET idle_in_transaction_session_timeout = 0").await.unwrap();
    admin.batch("BEGIN; LOCK TABLE endorse.writers").await.unwrap();
    let failed = store.write(put("late")).await.unwrap_err();
    assert!(matches!(failed, StoreError::Failed(_)), "{failed}");
    admin.batch("COMMIT").await.unwrap();
    write(&store, put("b")).await;
    assert_eq!(keys(&store, Table::Bots).await, ["a", "b"].map(String::from).into());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_that_find_no_place_among_those_that_wait_are_refused_and_not_written() {
    let Some(server) = database().await else { return };
    let limits = Limits { queue: Duration::from_millis(10), ..PATIENT };
    let store = PostgresStore::open_within(&settings(&server, "endorse"), "one", limits).await;
    let store = Arc::new(store.unwrap());
    let admin = admin(&server).await;
    admin.batch("SET idle_in_transaction_session_timeout = 0").await.unwrap();
    admin.batch("BEGIN; LOCK TABLE endorse.writers").await.unwrap();
    let (mut refused, mut number) = (BTreeSet::new(), 0);
    while refused.is_empty() {
        // As many as are being written, as many as wait, and some more.
        let mut writes = JoinSet::new();
        for _ in 0..2 * GROUP + 50 {
            let (store, key) = (Arc::clone(&store), format!("{number:05}"));
            number += 1;
            writes.spawn(async move { (store.write(put(&key)).await, key) });
        }
        for (result, key) in writes.join_all().await {
            match result.unwrap_err() {
                StoreError::Overloaded(_) => drop(refused.insert(key)),
                StoreError::Failed(_) => {}
                other => panic!("{other}"),
            }
        }
    }
    admin.batch("COMMIT").await.unwrap();
    write(&store, put("later")).await;
    assert_eq!(keys(&store, Table::Bots).await, [String::from("later")].into());
}

#[tokio::test]
async fn earlier_process_with_the_same_id_can_no_longer_write() {
    let Some(server) = database().await else { return };
    let one = open(&server, "one").await.unwrap();
    write(&one, put("a")).await;
    let other = open(&server, "one").await.unwrap();
    write(&other, put("b")).await;
    for _ in 0..2 {
        let refused = one.write(put("c")).await.unwrap_err();
        assert!(matches!(&refused, StoreError::Unusable(why) if why.contains("another process")));
    }
    write(&other, put("d")).await;
    assert_eq!(keys(&one, Table::Bots).await, ["a", "b", "d"].map(String::from).into());
}

#[tokio::test]
async fn running_authority_changes_no_table_and_stops_when_the_schema_is_newer() {
    let Some(server) = Postgresql::start("", |_| vec![]).unwrap() else { return };
    server.sql("postgres", "CREATE ROLE endorse LOGIN; CREATE ROLE owner LOGIN").unwrap();
    server.sql("postgres", "GRANT CREATE ON DATABASE postgres TO owner").unwrap();
    let missing = open(&server, "one").await.unwrap_err();
    assert!(matches!(&missing, StoreError::Unusable(why) if why.contains("store migrate")));
    let (owner, runtime) = (settings(&server, "owner"), settings(&server, "endorse"));
    PostgresStore::migrate(&runtime, None).await.unwrap_err();
    for _ in 0..2 {
        PostgresStore::migrate(&owner, Some("endorse")).await.unwrap();
    }
    let store = open(&server, "one").await.unwrap();
    write(&store, put("a")).await;
    let link = Server::new(&runtime, PATIENT).connect().await.unwrap();
    for statement in [
        "CREATE TABLE endorse.more (a int)",
        "ALTER TABLE endorse.bots ADD COLUMN a int",
        "DROP TABLE endorse.bots",
        "TRUNCATE endorse.bots",
        "UPDATE endorse.schema SET version = 4",
        "DELETE FROM endorse.writers",
    ] {
        let refused = link.batch(statement).await.unwrap_err();
        assert!(refused.to_string().contains("SQLSTATE 42501"), "{statement}: {refused}");
    }
    let newer = "UPDATE endorse.schema SET version = 4, oldest_writer = 4";
    server.sql("postgres", newer).unwrap();
    let refused = store.write(put("b")).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unusable(why) if why.contains("upgrade this one")));
    assert_eq!(keys(&store, Table::Bots).await, ["a".to_owned()].into());
    let refused = open(&server, "two").await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer(_)), "{refused}");
    let refused = PostgresStore::migrate(&owner, None).await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer(_)), "{refused}");
}

fn openssl(directory: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    let output = command.args(arguments.split(' ')).current_dir(directory).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A CA, a certificate of the server for `localhost`, and one of the client for the role `certified`.
fn certificates(directory: &Path, key: &str) {
    // Without the extensions of the system's configuration.
    std::fs::write(directory.join("req.cnf"), "[req]\ndistinguished_name=dn\n[dn]\n").unwrap();
    let new = format!("req -x509 -config req.cnf -newkey {key} -nodes -days 30");
    let ca = "-addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign";
    openssl(directory, &format!("{new} -keyout ca.key -out ca.pem -subj /CN=ca {ca}"));
    openssl(directory, &format!("{new} -keyout other.key -out other.pem -subj /CN=other {ca}"));
    let leaf = "-CA ca.pem -CAkey ca.key -addext basicConstraints=critical,CA:false";
    let name = "-addext subjectAltName=DNS:localhost";
    openssl(
        directory,
        &format!("{new} -keyout server.key -out server.pem -subj /CN=db {leaf} {name}"),
    );
    openssl(
        directory,
        &format!("{new} -keyout client.key -out client.pem -subj /CN=certified {leaf}"),
    );
    own(&directory.join("server.key")).unwrap();
}

const P256: &str = "ec -pkeyopt ec_paramgen_curve:P-256";

/// A server that lets in roles with passwords over TLS alone. `None`, said, if there is no PostgreSQL.
async fn secured(key: &str) -> Option<Postgresql> {
    let hba = "hostssl all certified 127.0.0.1/32 scram-sha-256 clientcert=verify-full\n\
               hostssl all all 127.0.0.1/32 scram-sha-256\n";
    let server = Postgresql::start(hba, |directory| {
        certificates(directory, key);
        let file = |name: &str| directory.join(name).display().to_string();
        vec![
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", file("server.pem")),
            format!("ssl_key_file={}", file("server.key")),
            format!("ssl_ca_file={}", file("ca.pem")),
        ]
    });
    let server = server.unwrap()?;
    let roles = "CREATE ROLE endorse LOGIN PASSWORD 'secret'; CREATE ROLE certified LOGIN PASSWORD 'secret'";
    server.sql("postgres", roles).unwrap();
    let owner = settings(&server, "postgres");
    for role in ["endorse", "certified"] {
        PostgresStore::migrate(&owner, Some(role)).await.unwrap();
    }
    for (name, password) in [("password", "secret\n"), ("wrong", "guess"), ("empty", "\n")] {
        let path = server.directory().join(name);
        std::fs::write(&path, password).unwrap();
        set_mode(&path, 0o600);
    }
    Some(server)
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Settings for a role over TLS, with channel binding.
fn over_tls(server: &Postgresql, user: &str) -> PostgresSettings {
    let url = format!("postgresql://{user}@localhost:{}/postgres", server.port());
    let file = |name: &str| server.directory().join(name);
    PostgresSettings {
        url: url.parse().unwrap(),
        password_file: Some(file("password")),
        tls: Some(PostgresTls {
            ca_file: file("ca.pem"),
            identity: None,
            channel_binding: ChannelBinding::Require,
        }),
    }
}

/// Why these settings are of no use.
async fn refusal(settings: &PostgresSettings) -> String {
    patiently(settings, "one").await.unwrap_err().to_string()
}

#[tokio::test]
async fn server_and_client_prove_who_they_are() {
    let Some(server) = secured(P256).await else { return };
    let good = over_tls(&server, "endorse");
    let file = |name: &str| server.directory().join(name);
    let store = patiently(&good, "one").await.unwrap();
    write(&store, put("a")).await;

    let wrong = PostgresSettings { password_file: Some(file("wrong")), ..good.clone() };
    let refused = refusal(&wrong).await;
    assert!(refused.contains("SQLSTATE 28P01") && !refused.contains("guess"), "{refused}");
    let empty = PostgresSettings { password_file: Some(file("empty")), ..good.clone() };
    assert!(refusal(&empty).await.contains("is empty"));
    set_mode(&file("wrong"), 0o644);
    assert!(refusal(&wrong).await.contains("other users may read"));

    let plain = PostgresSettings { tls: None, ..good.clone() };
    assert!(refusal(&plain).await.contains("SQLSTATE 28000"), "the server takes TLS only");
    let with = |change: &dyn Fn(&mut PostgresTls)| {
        let mut tls = good.tls.clone().unwrap();
        change(&mut tls);
        PostgresSettings { tls: Some(tls), ..good.clone() }
    };
    let other_ca = with(&|tls| tls.ca_file = file("other.pem"));
    let refused = patiently(&other_ca, "one").await.unwrap_err();
    assert!(matches!(refused, StoreError::Unusable(_)), "{refused}");
    let by_address = format!("postgresql://endorse@127.0.0.1:{}/postgres", server.port());
    let by_address = PostgresSettings { url: by_address.parse().unwrap(), ..good.clone() };
    let refused = patiently(&by_address, "one").await.unwrap_err();
    assert!(matches!(refused, StoreError::Unusable(_)), "{refused}");

    for binding in [ChannelBinding::Prefer, ChannelBinding::Disable] {
        let settings = with(&|tls| tls.channel_binding = binding);
        patiently(&settings, "two").await.unwrap();
    }

    let certified = over_tls(&server, "certified");
    assert!(refusal(&certified).await.contains("SQLSTATE 28000"), "without a certificate");
    let identity =
        PostgresIdentity { certificate_file: file("client.pem"), key_file: file("client.key") };
    let tls = PostgresTls { identity: Some(identity), ..certified.tls.clone().unwrap() };
    let certified = PostgresSettings { tls: Some(tls), ..certified };
    patiently(&certified, "three").await.unwrap();
}

#[tokio::test]
async fn channel_binding_is_refused_for_a_certificate_that_has_none() {
    let Some(server) = secured("ed25519").await else { return };
    let mut settings = over_tls(&server, "endorse");
    let refused = refusal(&settings).await;
    assert!(refused.contains("channel binding is not defined"), "{refused}");
    if let Some(tls) = &mut settings.tls {
        tls.channel_binding = ChannelBinding::Prefer;
    }
    patiently(&settings, "one").await.unwrap();
}

#[tokio::test]
async fn first_host_that_answers_is_used_and_settings_of_the_server_are_explained() {
    let Some(server) = database().await else { return };
    let url = server.url("endorse", "postgres");
    let (before, after) = url.split_once('@').unwrap();
    let url = format!("{before}@%2Fnonexistent:{},{after}", server.port());
    let settings = PostgresSettings { url: url.parse().unwrap(), password_file: None, tls: None };
    patiently(&settings, "one").await.unwrap();
    let durability = PostgresStore::durability(&settings).await.unwrap();
    assert_eq!(durability.dangers().len(), 1, "fsync is off");
    assert!(durability.failover().contains("no synchronous standby"));
    server.sql("postgres", "ALTER ROLE endorse SET synchronous_commit = off").unwrap();
    let durability = PostgresStore::durability(&settings).await.unwrap();
    assert_eq!(durability.dangers().len(), 2);
}
