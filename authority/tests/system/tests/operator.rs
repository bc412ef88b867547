//! What the operator sees of hosts, and how hosts are kept out: by the program.

use std::process::Command;
use std::sync::Arc;

use host::clock::Clock;
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::join_response::Step;
use proto::v1::{IssuedCredentials, RenewRequest};
use rustls::client::ResolvesClientCert;
use testkit::simulated::{SoftwareTpm, Wire};
use time::format_description::well_known::Rfc3339;
use tls::ServerTrust;
use tonic::Code;

use super::command::{Place, Running};
use super::harness::{BOT, run, token};

async fn wire(authority: &Running, identity: Option<Arc<dyn ResolvesClientCert>>) -> Wire {
    let trust = ServerTrust::Pins(vec![authority.pin.parse().unwrap()]);
    let config = tls::client_config(&trust, identity).unwrap();
    Wire::connect(authority.address.parse().unwrap(), config).await
}

pub(crate) async fn join(authority: &Running, tpm: &SoftwareTpm) -> IssuedCredentials {
    let wire = wire(authority, None).await;
    let mut join = wire.join().await;
    let init = join.init(&tpm.init("t")).await;
    let Step::Challenge(challenge) = join.reply().await.unwrap() else { panic!("a result") };
    join.answer(tpm.answer(&wire.exporter, &init, &challenge)).await;
    join.result().await
}

/// A caller without a certificate, refused.
pub(crate) async fn stranger(authority: &Running) {
    let mut client = IdentityServiceClient::new(wire(authority, None).await.channel);
    client.renew(RenewRequest::default()).await.unwrap_err();
}

pub(crate) async fn renew(
    authority: &Running,
    tpm: &SoftwareTpm,
    held: &IssuedCredentials,
) -> Result<IssuedCredentials, tonic::Status> {
    let wire = wire(authority, Some(tpm.identity(held))).await;
    let request = RenewRequest { hostname: "host\u{1b}[2J".into(), ..RenewRequest::default() };
    IdentityServiceClient::new(wire.channel).renew(request).await.map(tonic::Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_are_seen_locked_and_removed() {
    let (place, tpm) = (Place::new(), SoftwareTpm::generate());
    let authority = place.start(&["--cluster-name", "one.example"]);
    assert_eq!(place.run(&["bots", "ls"]).1, "No bots found.\n");
    assert_eq!(place.run(&["bots", "instances"]).1, "No bot instances found.\n");
    let rules = format!("- ek_public_hash: {}", tpm.ek_hash());
    place.pipe(&["create", "-"], &format!("{BOT}---\n{}", token("t", &rules, &[])));
    let bots = place.run(&["bots", "ls"]).1;
    assert!(bots.ends_with("my-bot bot-my-bot access,dev\n"), "{bots}");

    let mut held = join(&authority, &tpm).await;
    let path = format!("my-bot/{}", held.instance);
    held = renew(&authority, &tpm, &held).await.unwrap();
    let (_, listed, _) = place.run(&["bots", "instances"]);
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    let titles: Vec<_> = lines[0].split("  ").map(str::trim).filter(|t| !t.is_empty()).collect();
    assert_eq!(titles.first(), Some(&"ID"));
    for title in ["Join Method", "Hostname", "Joined", "Last Seen", "Generation"] {
        assert!(lines[0].contains(title), "{listed}");
    }
    assert!(lines[2].starts_with(&format!("{path} tpm         host?[2J ")), "{listed}");
    assert!(lines[2].ends_with(" 2"), "{listed}");
    assert_eq!(place.run(&["bots", "instances", "my-bot"]).1, listed);
    assert_eq!(place.run(&["bots", "instances", "other"]).1, "No bot instances found.\n");
    let all = place.run(&["bots", "instances", "--format", "json"]).1;
    let all: serde_json::Value = serde_json::from_str(&all).unwrap();
    assert_eq!(all[0]["status"]["ek"]["public_hash"], tpm.ek_hash());
    let one = place.run(&["get", &format!("bot_instance/{path}"), "--format", "json"]).1;
    let one: serde_json::Value = serde_json::from_str(&one).unwrap();
    assert_eq!((&one["kind"], &one["status"]["generation"]), (&"bot_instance".into(), &2.into()));
    assert_eq!(one["status"]["ek"]["public_hash"], tpm.ek_hash());
    let (code, _, error) = place.pipe(&["create", "-f", "-"], &one.to_string());
    assert!(code == 65 && error.contains("kind must be"), "{error}");

    // A lock of each kind, and each ends.
    let (ek, instance) = (tpm.ek_hash(), held.instance.clone());
    for (target, whom) in [
        (["--bot", "my-bot"], "the bot \"my-bot\" with all its instances"),
        (["--instance", &instance], &format!("the bot instance {instance}")),
        (["--instance", &path], &format!("the bot instance {instance}")),
        (["--token", "t"], "all hosts that join or joined with the token \"t\""),
        (["--ek", &ek], &format!("the TPM with the EK {ek}")),
    ] {
        let (code, said, error) =
            place.run(&["lock", target[0], target[1], "--message", "stolen", "--ttl", "1h"]);
        assert_eq!((code, error.as_str()), (0, ""));
        let id = said.split('"').nth(1).unwrap().to_owned();
        let says = format!("lock \"{id}\" has been created for {whom}, until 2");
        assert!(said.starts_with(&says), "{said}");
        let status = renew(&authority, &tpm, &held).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{target:?}");
        let (_, shown, _) = place.run(&["get", "locks"]);
        assert!(shown.contains("stolen") && shown.contains("expires: "), "{shown}");
        let (_, removed, _) = place.run(&["rm", &format!("lock/{id}")]);
        assert_eq!(removed, format!("lock \"{id}\" has been removed\n"));
        held = renew(&authority, &tpm, &held).await.unwrap();
    }
    let (_, removed, _) = place.run(&["rm", &format!("bot_instance/{path}")]);
    assert_eq!(removed, format!("bot_instance \"{path}\" has been removed\n"));
    let status = renew(&authority, &tpm, &held).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);

    let (_, text, _) = place.run(&["audit", "ls"]);
    // The first CAs; what was created, locked and removed: 13 lines.
    assert_eq!(text.lines().count(), 1 + 2 + 1 + 1 + 10 + 1 + 13, "{text}");
    for word in [
        "bot.join",
        "bot.renew",
        "granted",
        "locked",
        "instance_unknown",
        "127.0.0.1:",
        "lock.created",
        "operator (uid ",
    ] {
        assert!(text.contains(word), "{word:?} is not in\n{text}");
    }
    let (_, refused, _) = place.run(&["audit", "ls", "--refused", "--format", "json"]);
    assert_eq!(refused.lines().count(), 6, "{refused}");
    for line in refused.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["outcome"], "refused");
    }
    assert_eq!(place.run(&["audit", "ls", "--since", "1h"]).1, text);
    let later = ["audit", "ls", "--since", "2999-01-01T00:00:00Z"];
    assert_eq!(place.run(&later).1, "No events found.\n");
    let told = |filter: &[&str]| {
        let (code, lines, error) =
            place.run(&[&["audit", "ls", "--format", "json"], filter].concat());
        assert_eq!(code, 0, "{error}");
        lines.lines().count()
    };
    assert_eq!(told(&["--until", "1h"]), 0);
    assert_eq!(told(&["--outcome", "refused"]), 6);
    assert_eq!(
        (told(&["--event", "bot.renew", "--outcome", "granted"]), told(&["--bot", "other"])),
        (6, 0)
    );
    assert_eq!(authority.terminate(), Some(0));
    let (_, after, _) = place.run(&["audit", "ls"]);
    let more = after.strip_prefix(&text).expect("the log can be read without an authority");
    assert!(more.lines().count() == 1 && more.contains("calls.refused"), "{more}");
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_survive_a_kill_of_the_authority() {
    let (place, tpm) = (Place::new(), SoftwareTpm::generate());
    let mut authority = place.start(&["--cluster-name", "one.example"]);
    let rules = format!("- ek_public_hash: {}", tpm.ek_hash());
    place.pipe(&["create", "-"], &format!("{BOT}---\n{}", token("t", &rules, &[])));
    let mut held = join(&authority, &tpm).await;
    for generation in 2..5 {
        authority.kill();
        authority = place.start(&[]);
        held = renew(&authority, &tpm, &held).await.unwrap();
        assert_eq!(held.generation, generation);
    }
    place.run(&["lock", "--bot", "my-bot"]);
    authority.kill();
    // As if the power had gone before the last line was on disk.
    let log = place.data().join("audit.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    let (before, last) = text.trim_end().rsplit_once('\n').unwrap();
    assert!(last.contains("lock.created"), "{last}");
    std::fs::write(&log, &before[..before.len() - 10]).unwrap();
    let authority = place.start(&[]);
    let status = renew(&authority, &tpm, &held).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let (_, lines, _) = place.run(&["audit", "ls", "--format", "json"]);
    let event =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["event"].clone();
    let mut events: Vec<_> = lines.lines().map(event).collect();
    // Each start summarizes what was granted before, and what is granted until then.
    events.retain(|event| event != "calls.granted");
    events.sort_by_key(ToString::to_string);
    let renewals = ["bot.renew"; 4];
    let others = ["bot.create", "bot.join", "cluster.create", "join_token.create", "lock.created"];
    let mut expected = [&others[..], &renewals].concat();
    expected.sort_unstable();
    assert_eq!(events, expected);
}

/// In an emergency a typo must not look like success.
#[test]
fn probable_mistakes_in_resources_are_warned_of() {
    let place = Place::new();
    let authority = place.start(&["--cluster-name", "one.example"]);
    let (ek, id) = ("ab".repeat(32), "6f9619ff-8b86-4011-b42d-00c04fc964ff");
    let rules = format!("- ek_public_hash: {ek}");
    let token = token("t", &rules, &[]);
    let (code, _, error) = place.pipe(&["create", "-"], &token);
    let says = "warning: token \"t\": the bot \"my-bot\" does not exist";
    assert!(code == 0 && error.starts_with(says) && error.lines().count() == 1, "{error}");
    let past = token.replace("name: t\n", "name: u\n  expires: 2020-01-01T00:00:00Z\n");
    let (code, _, error) = place.pipe(&["create", "-"], &format!("{BOT}---\n{past}"));
    let says = "warning: token \"u\": metadata.expires (2020-01-01T00:00:00Z) is in the past";
    assert!(code == 0 && error.starts_with(says) && error.lines().count() == 1, "{error}");

    for target in [["--bot", "my-bot"], ["--token", "t"], ["--ek", &ek]] {
        let (code, _, error) = place.run(&["lock", target[0], target[1]]);
        assert_eq!((code, error.as_str()), (0, ""), "{target:?}");
    }
    let (other, path) = ("cd".repeat(32), format!("my-bot/{id}"));
    for (target, says) in [
        (["--bot", "my-bto"], "the bot \"my-bto\" does not exist"),
        (["--token", "tt"], "the token \"tt\" does not exist"),
        (["--instance", id], &format!("the bot instance {id} does not exist")),
        (["--instance", &path], &format!("the bot instance {id} does not exist")),
        (["--ek", &other], &format!("no instance and no token has the EK {other}")),
    ] {
        let (code, said, error) = place.run(&["lock", target[0], target[1]]);
        assert!(code == 0 && said.contains("has been created"), "{error}");
        assert!(error.starts_with("warning: lock ") && error.contains(says), "{error}");
    }

    let locks = place.run(&["get", "locks"]).1;
    let (code, said, error) =
        place.run(&["lock", "--bot", "my-bot", "--expires", "2020-01-01T00:00:00Z"]);
    assert_eq!((code, said.as_str()), (64, ""), "{error}");
    assert!(error.contains("--expires: 2020-01-01T00:00:00Z is in the past"), "{error}");
    let (code, _, error) = place.run(&["lock", "--ek", &ek[..16]]);
    assert!(code == 64 && error.contains("audit ls --format json"), "{error}");
    assert_eq!(place.run(&["get", "locks"]).1, locks);
    assert_eq!(authority.terminate(), Some(0));
}

#[test]
fn lock_that_has_ended_is_shown_as_such() {
    let place = Place::new();
    let _authority = place.start(&["--cluster-name", "one.example"]);
    let lock = |name: &str, until: &str| {
        format!(
            "kind: lock\nversion: v2\nmetadata:\n  name: {name}\nspec:\n  target:\n    \
             user: bot-b\n  expires: {until}\n"
        )
    };
    // So recently that it is not removed yet.
    let an_hour_ago = Clock::system().now().truncate_to_second() - time::Duration::hours(1);
    let an_hour_ago = an_hour_ago.format(&Rfc3339).unwrap();
    let (ended, holds) = (lock("a", &an_hour_ago), lock("b", "2999-01-01T00:00:00Z"));
    let (code, _, error) = place.pipe(&["create", "-"], &format!("{ended}---\n{holds}"));
    assert_eq!(code, 0, "{error}");
    let status = |in_force: bool| format!("status:\n  in_force: {in_force}\n");
    let (code, shown, _) = place.run(&["get", "locks"]);
    assert_eq!((code, shown.matches("in_force").count()), (0, 2), "{shown}");
    let (first, second) = shown.split_once("---\n").unwrap();
    assert!(first.contains("name: a\n") && first.ends_with(&status(false)), "{shown}");
    assert!(second.contains("name: b\n") && second.ends_with(&status(true)), "{shown}");
    let (_, json, _) = place.run(&["get", "lock/a", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["status"]["in_force"], false);

    // It is what is shown, not what is stored.
    let (code, _, error) = place.pipe(&["create", "-f", "-"], &shown);
    assert_eq!(code, 0, "{error}");
    assert_eq!(place.run(&["get", "locks"]).1, shown);
}

#[test]
fn operators_are_served_when_strangers_take_all_that_the_files_allow() {
    let place = Place::new();
    let few = [("BEFORE", "ulimit -n 96")];
    let authority = place.start_with(&["--cluster-name", "one.example"], &few, 3);
    let connect = || std::net::TcpStream::connect(&authority.address).unwrap();
    let _silent: Vec<_> = (0..200).map(|_| connect()).collect();
    let (code, said, error) = place.run(&["status"]);
    assert_eq!(code, 0, "{said}{error}");
}

#[test]
fn operators_are_served_when_no_file_is_left() {
    let place = Place::new();
    let authority = place.start(&["--cluster-name", "one.example"]);
    let pid = authority.pid();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let limit = format!("--nofile={open}:{open}");
    run(Command::new("prlimit").args(["--pid", &pid, &limit]));
    for _ in 0..3 {
        let (code, said, error) = place.run(&["status"]);
        assert_eq!(code, 0, "{said}{error}");
    }
}
