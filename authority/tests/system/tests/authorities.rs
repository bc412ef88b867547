//! Several authorities with one database.

use std::fs;
use std::time::Duration;

use authority::audit::Author;
use authority::config::{Settings, Start, StoreSettings};
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::{IssuedCredentials, RenewRequest};
use serde_json::Value;
use testkit::postgresql::Postgresql;
use testkit::simulated::{SoftwareTpm, TIMEOUT};
use tonic::Status;

use super::command::{Place, Running};
use super::harness::{Harness, run};
use super::postgresql::authority;

/// A server with the tables of an authority; `None`, with a message, if PostgreSQL is not installed.
pub(crate) fn database() -> Option<Postgresql> {
    let server = Postgresql::start("", |_| vec!["fsync=off".to_owned()]).unwrap()?;
    server.sql("postgres", "CREATE ROLE endorse LOGIN").unwrap();
    let migrate = ["store", "migrate", "--runtime-role", "endorse"];
    run(&mut authority(&server, "postgres", &migrate));
    // Writes the configuration of this role.
    run(&mut authority(&server, "endorse", &["check"]));
    Some(server)
}

pub(crate) fn settings(server: &Postgresql) -> StoreSettings {
    let config = Some(server.directory().join("endorse.yaml"));
    Settings::new(&Start { config, ..Start::default() }).unwrap().store
}

async fn renewed(
    harness: &Harness,
    tpm: &SoftwareTpm,
    held: &IssuedCredentials,
) -> Result<IssuedCredentials, Status> {
    let wire = harness.wire_as(Some(tpm.identity(held))).await;
    let mut client = IdentityServiceClient::new(wire.channel.clone());
    client.renew(RenewRequest::default()).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn host_joins_at_one_authority_and_renews_at_another_until_that_is_removed() {
    let Some(server) = database() else { return };
    let one = Harness::with_store(settings(&server)).await;
    let two = one.beside("two", settings(&server)).await;
    assert_eq!(one.ca(), two.ca());
    let (tpm, held) = one.joined().await;
    let held = renewed(&two, &tpm, &held).await.unwrap();
    let held = renewed(&one, &tpm, &held).await.unwrap();
    assert_eq!(held.generation, 3);
    let other = SoftwareTpm::generate();
    two.allow(&other).await;
    let others = two.join(&other, "t").await.unwrap();
    let others = renewed(&one, &other, &others).await.unwrap();
    assert_eq!(two.instances().await.len(), 2);

    let keyring = one.authority.keyring.as_ref().unwrap();
    keyring.remove("two", Author::system(one.authority.clock.now())).await.unwrap();
    let ended = tokio::time::timeout(TIMEOUT, two.served).await.expect("it stops by itself");
    ended.unwrap().unwrap();
    assert!(two.authority.keyring.as_ref().unwrap().is_removed());
    renewed(&one, &other, &others).await.unwrap();
}

/// The authorities as one of them lists them: by name, with their states.
fn listed(place: &Place) -> Vec<(String, String)> {
    let (code, said, error) = place.run(&["authorities", "ls", "--format", "json"]);
    assert_eq!(code, 0, "{error}");
    let all: Vec<Value> = serde_json::from_str(&said).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.iter().map(|one| (text(&one["name"]), text(&one["state"]))).collect()
}

/// Waits until an authority is in a state.
async fn until(place: &Place, name: &str, state: &str) {
    let reached = async {
        while !listed(place).contains(&(name.to_owned(), state.to_owned())) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, reached).await.expect(state);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authority_is_let_in_and_removed_on_the_command_line() {
    let Some(server) = database() else { return };
    let config = server.directory().join("endorse.yaml");
    let config = config.to_str().unwrap();
    let (one, two) = (Place::new(), Place::new());
    let start = ["--cluster-name", "one.example", "-c", config];
    let first: Running = one.start(&start);
    let refused = two.run(&[&["start", "--listen", "127.0.0.1:0"][..], &start].concat());
    assert_eq!(refused.0, 78, "{}", refused.2);
    assert!(refused.2.contains("this authority is not admitted"), "{}", refused.2);
    assert!(refused.2.contains("authority authorities request"), "{}", refused.2);

    let (code, line, error) = two.run(&["authorities", "request", "--name", "two"]);
    assert_eq!(code, 0, "{error}");
    let (code, _, error) = one.run(&["authorities", "add", &line[..line.len() - 9]]);
    assert!(code == 65 && error.contains("copy the whole line"), "{code} {error}");
    let (code, said, error) = one.run(&["authorities", "add", line.trim_end()]);
    assert!(code == 0 && said.contains("authority two ("), "{said}{error}");
    until(&one, "two", "missing").await;
    let mut second = two.start(&["-c", config]);
    assert_eq!(second.pin, first.pin);
    until(&one, "two", "live").await;
    let (_, status, _) = one.run(&["status"]);
    assert!(status.contains("Member   two live, seen "), "{status}");
    let (code, _, error) = two.run(&["authorities", "rm", "two"]);
    assert!(code == 65 && error.contains("remove it at another one"), "{code} {error}");

    let (code, said, error) = one.run(&["authorities", "rm", "two"]);
    assert!(code == 0 && said.contains("two removed") && error.contains("replace the CAs"));
    assert_eq!(second.wait(), Some(78));
    let log = fs::read_to_string(two.0.path().join("log")).unwrap();
    assert!(log.contains("this authority was removed from the cluster"), "{log}");
    assert!(listed(&one).contains(&("two".into(), "removed".into())));
    let again = two.run(&["start", "--listen", "127.0.0.1:0", "-c", config]);
    assert!(again.0 == 78 && again.2.contains("was removed"), "{}", again.2);
    assert_eq!(first.terminate(), Some(0));
}

#[test]
fn recovery_key_is_created_set_and_checked_on_the_command_line() {
    let place = Place::new();
    let running = place.start(&["--cluster-name", "one.example"]);
    let path = |name: &str| place.0.path().join(name).to_str().unwrap().to_owned();
    let check = |key: &str| place.run(&["recovery", "check", "--key", key]);
    let (_, status, _) = place.run(&["status"]);
    assert!(status.contains("Recovery none: "), "{status}");
    let (code, _, error) = place.run(&["authorities", "add", "x"]);
    assert_eq!(code, 65, "{error}");

    let (code, _, error) = place.run(&["recovery", "create", "--to", &path("key")]);
    assert_eq!(code, 0, "{error}");
    let (_, status, _) = place.run(&["status"]);
    assert!(status.contains("Recovery key set at "), "{status}");
    let (code, said, error) = check(&path("key"));
    assert!(code == 0 && said.matches("opened").count() == 4, "{said}{error}");
    let (code, _, error) = place.run(&["recovery", "create", "--to", &path("key")]);
    assert!(code != 0 && error.contains("cannot write"), "it would lose the key: {error}");
    assert_eq!(check(&path("key")).0, 0);

    let other = path("other");
    let openssl = |arguments: &[&str]| run(std::process::Command::new("openssl").args(arguments));
    openssl(&[
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        &other,
    ]);
    openssl(&["pkey", "-in", &other, "-pubout", "-out", &path("other.pub")]);
    assert_eq!(check(&other).0, 1);
    let (code, _, error) = place.run(&["recovery", "set", "--public", &path("other.pub")]);
    assert_eq!(code, 0, "{error}");
    assert_eq!((check(&other).0, check(&path("key")).0), (0, 1));
    let (code, _, error) = place.run(&["recovery", "set", "--public", &other]);
    assert!(code == 65 && error.contains("a public key on P-256"), "{error}");
    assert_eq!(running.terminate(), Some(0));
}
