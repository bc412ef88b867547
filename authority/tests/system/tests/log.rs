//! The log of an authority: verified by the authority's own program and by others, and whole whatever ends the authority.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use testkit::simulated::SoftwareTpm;
use testkit::{target_directory, workspace};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::command::Place;
use super::harness::{BOT, token};
use super::operator::{join, renew};

const LOCK: &str =
    "kind: lock\nversion: v2\nmetadata: {name: NAME}\nspec: {target: {user: bot-my-bot}}\n";

/// `authority audit verify`: its exit code, and what it says.
fn verify(place: &Place, heads: &[&Path]) -> (i32, String) {
    let heads = heads.iter().flat_map(|head| ["--head", head.to_str().unwrap()]);
    let arguments: Vec<_> = ["audit", "verify"].into_iter().chain(heads).collect();
    let (code, said, error) = place.run(&arguments);
    (code, said + &error)
}

/// A copy of the latest signed head.
fn kept(place: &Place, name: &str) -> PathBuf {
    let copy = place.0.path().join(name);
    fs::copy(place.data().join("log.head"), &copy).unwrap();
    copy
}

#[test]
fn operator_notices_a_store_of_yesterday_and_a_changed_head() {
    let place = Place::new();
    let store = place.data().join("cluster/store.redb");
    let authority = place.start(&["--cluster-name", "one.example"]);
    place.pipe(&["create", "-"], BOT);
    let (code, said) = verify(&place, &[]);
    assert!(code == 0 && said.contains("size 2,") && said.contains("verified\n"), "{said}");
    assert!(said.contains("without --head it is not known"), "{said}");
    assert_eq!(authority.terminate(), Some(0));
    let first = kept(&place, "first");
    let yesterday = fs::read(&store).unwrap();

    let authority = place.start(&[]);
    place.pipe(&["create", "-"], &LOCK.replace("NAME", "one"));
    assert_eq!(authority.terminate(), Some(0));
    let second = kept(&place, "second");
    let (code, said) = verify(&place, &[&first, &second]);
    assert!(code == 0 && said.contains("it extends the head of size 3"), "{said}");
    assert!(!said.contains("without --head"), "{said}");

    // The locked bot is free again, and nothing in the store tells.
    fs::write(&store, yesterday).unwrap();
    assert_eq!(verify(&place, &[]).0, 0);
    assert_eq!(verify(&place, &[&first]).0, 0);
    let (code, said) = verify(&place, &[&second]);
    assert!(code == 65 && said.contains("the log has size 2, but had size 3"), "{said}");
    let authority = place.start(&[]);
    place.pipe(&["create", "-"], &LOCK.replace("NAME", "other"));
    let (code, said) = verify(&place, &[&second]);
    assert!(code == 65 && said.contains("the first 3 entries are not those"), "{said}");
    let head = second.to_str().unwrap();
    let (_, report, _) = place.run(&["audit", "verify", "--head", head, "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["verified"], &report["heads"][0]["size"]), (&false.into(), &3.into()));
    drop(authority);

    let changed = fs::read_to_string(&second).unwrap().replace("\n3\n", "\n2\n");
    fs::write(&second, changed).unwrap();
    let (code, said) = verify(&place, &[&second]);
    assert!(code == 65 && said.contains("its signature is wrong"), "{said}");
}

#[test]
fn entry_is_shown_by_its_number() {
    let place = Place::new();
    let authority = place.start(&["--cluster-name", "one.example"]);
    place.pipe(&["create", "-"], BOT);
    let shown = place.run(&["audit", "show", "1"]);
    let entry: serde_json::Value = serde_json::from_str(&shown.1).unwrap();
    assert_eq!((&entry["seq"], &entry["event"]), (&1.into(), &"bot.create".into()));
    assert_eq!(place.run(&["audit", "show", "2"]).0, 1);
    assert_eq!(authority.terminate(), Some(0));
    assert_eq!(place.run(&["audit", "show", "1"]), shown, "also without an authority");
}

/// The program of `tests/log-check`; `None`, with a message, if it cannot be built here.
fn other_software() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let program = target_directory().join("log-check");
        let mut go = Command::new("go");
        go.args(["build", "-o"]).arg(&program).current_dir(workspace().join("tests/log-check"));
        match go.output() {
            Ok(built) if built.status.success() => Some(program),
            built => {
                println!("skipped: tests/log-check cannot be built here: {built:?}");
                None
            }
        }
    };
    BUILT.get_or_init(build).as_deref()
}

#[tokio::test(flavor = "multi_thread")]
async fn exported_log_is_verified_by_other_software() {
    let Some(program) = other_software() else { return };
    let (place, tpm) = (Place::new(), SoftwareTpm::generate());
    let authority = place.start(&["--cluster-name", "one.example"]);
    let rules = format!("- ek_public_hash: {}", tpm.ek_hash());
    place.pipe(&["create", "-"], &format!("{BOT}---\n{}", token("t", &rules, &[])));
    let held = join(&authority, &tpm).await;
    renew(&authority, &tpm, &held).await.unwrap();
    for name in ["one", "two", "three", "four"] {
        place.pipe(&["create", "-"], &LOCK.replace("NAME", name));
    }
    assert_eq!(authority.terminate(), Some(0));
    let (code, said, error) = place.run(&["audit", "export", "--to", "exported"]);
    assert_eq!(code, 0, "{error}");
    let exported = place.0.path().join("exported");
    let check = || Command::new(program).arg(&exported).output().unwrap();
    let entries = fs::read_dir(&exported).unwrap().map(|entry| entry.unwrap().path());
    let entries = entries.into_iter().find(|path| path.extension().is_some_and(|it| it == "jsonl"));
    let entries = entries.unwrap();
    let text = fs::read_to_string(&entries).unwrap();
    let count = text.lines().count();
    assert!(said.ends_with(&format!(": {count} entries\n")), "{said}");
    assert_eq!(String::from_utf8(check().stdout).unwrap(), format!("verified {count}\n"));
    let brief = text.lines().find(|line| !line.starts_with('{')).expect("a renewal");
    let (less, other) = (&brief[..brief.len() - 2], brief.replacen("010101", "010201", 1));
    let changes = [("\"three\"", "\"3\""), (brief, less), (brief, &other), (brief, "{}")];
    let changed = changes.map(|(was, now)| text.replace(was, now));
    for changed in changed.into_iter().chain([text[..text.len() - 10].to_owned()]) {
        fs::write(&entries, changed).unwrap();
        assert!(!check().status.success());
    }
    assert_eq!(place.run(&["audit", "export", "--to", "exported"]).0, 74, "it exists");
}

/// Kills an authority as often while hosts join; each join that it acknowledged is there in the end, and the log is whole.
async fn kill_under_load(kills: usize) {
    const HOSTS: usize = 4;
    const JOINS: usize = 3;
    let place = Place::new();
    let tpms: Vec<_> = (0..HOSTS).map(|_| Arc::new(SoftwareTpm::generate())).collect();
    let mut rules = tpms.iter().map(|tpm| format!("- ek_public_hash: {}", tpm.ek_hash()));
    let rules = rules.by_ref().collect::<Vec<_>>().join("\n");
    let mut authority = Arc::new(place.start(&["--cluster-name", "one.example"]));
    place.pipe(&["create", "-"], &format!("{BOT}---\n{}", token("t", &rules, &[])));
    let mut acknowledged = BTreeSet::new();
    for _ in 0..kills {
        let (joined, mut joins) = mpsc::unbounded_channel();
        let mut hosts = JoinSet::new();
        for tpm in &tpms {
            let (authority, tpm, joined) =
                (Arc::clone(&authority), Arc::clone(tpm), joined.clone());
            // It ends when a join fails, as it does when the authority is killed.
            hosts.spawn(async move {
                loop {
                    let held = join(&authority, &tpm).await;
                    joined.send(held.instance.clone()).unwrap();
                    renew(&authority, &tpm, &held).await.unwrap();
                }
            });
        }
        drop(joined);
        for _ in 0..JOINS {
            acknowledged.insert(joins.recv().await.expect("a join"));
        }
        authority.signal("-KILL");
        while let Some(instance) = joins.recv().await {
            acknowledged.insert(instance);
        }
        while hosts.join_next().await.is_some() {}
        // The next one finds the directory unlocked.
        Arc::into_inner(authority).expect("no host has it").kill();
        authority = Arc::new(place.start(&[]));
    }
    let (code, said) = verify(&place, &[&place.data().join("log.head")]);
    assert_eq!(code, 0, "{said}");
    let (_, listed, _) = place.run(&["bots", "instances", "ls", "--format", "json"]);
    let missing: Vec<_> = acknowledged.iter().filter(|id| !listed.contains(*id)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(acknowledged.len() >= kills * JOINS);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_and_acknowledged_joins_survive_kills_under_load() {
    kill_under_load(3).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes"]
async fn log_and_acknowledged_joins_survive_two_hundred_kills_under_load() {
    kill_under_load(200).await;
}
