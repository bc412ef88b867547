//! The audit log says what is on record, and no crash, full disk or departed caller changes that.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use authority::resource::{self, Kind, Timestamp};
use authority::store::{Change, IfExists as Existing, Store, Table};
use proto::v1::admin_service_client::AdminServiceClient;
use proto::v1::create_request::IfExists;
use proto::v1::{CreateRequest, RemoveRequest, StatusRequest};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use testkit::simulated::{SoftwareTpm, TIMEOUT};
use tokio::sync::oneshot;
use tonic::Code;

use super::harness::{BOT, Harness, author, token};
use super::renew::{client, renew};
use super::store::SmallDisk;

/// An authority whose audit log is in a directory of its own, which can be taken away.
async fn harness(max_waiting: usize) -> (Harness, PathBuf, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    fs::create_dir(&logs).unwrap();
    let harness = Harness::with_audit(&logs.join("audit.jsonl"), max_waiting).await;
    (harness, logs, dir)
}

/// How many entries the log of the authority has.
async fn entries(harness: &Harness) -> usize {
    let records = &harness.authority.records;
    records.log_entries(records.log_id(), 0, 1000).await.unwrap().len()
}

#[tokio::test]
async fn join_and_renewal_are_one_write_each_that_holds_their_events() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let before = harness.meanwhile.writes();
    let held = harness.join(&tpm, "t").await.unwrap();
    assert_eq!(harness.meanwhile.writes() - before, 1);
    let mut client = client(&harness, &tpm, &held).await;
    renew(&mut client, 0).await.unwrap();
    assert_eq!(harness.meanwhile.writes() - before, 2);
    assert_eq!(harness.audit().len(), 1, "brief entries are in the log only");
    harness.assert_last_brief("bot.renew").await;
}

#[tokio::test]
async fn grant_whose_line_cannot_be_written_is_in_the_log_once_it_can() {
    let (harness, logs, _dir) = harness(2).await;
    let tpm = SoftwareTpm::generate();
    harness.allow(&tpm).await;
    let gone = logs.with_extension("gone");
    fs::rename(&logs, &gone).unwrap();
    harness.join(&tpm, "t").await.unwrap();
    harness.join(&tpm, "t").await.unwrap();
    assert!(harness.authority.health().await.audit.is_err());
    assert!(harness.authority.metrics_text().contains("endorse_audit_log_waiting 2"));
    harness.authority.sync_audit_log().await;

    fs::create_dir(&logs).unwrap();
    assert_eq!(harness.authority.health().await.audit, Ok(()));
    let events: Vec<_> = harness.audit().iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["bot.join", "bot.join"]);
    assert!(harness.authority.metrics_text().contains("endorse_audit_log_waiting 0"));
}

#[tokio::test]
async fn line_that_a_full_disk_cut_short_leaves_nothing_in_the_file() {
    const PAGE: usize = 4096;
    let Some(disk) = SmallDisk::new() else {
        println!("may not mount");
        return;
    };
    let (log, ballast) = (disk.0.path().join("audit.jsonl"), disk.0.path().join("ballast"));
    let (harness, tpm) = (Harness::with_audit(&log, 2).await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    // So that there is room for a part of a line in the last page.
    let mut before = fs::read_to_string(&log).unwrap();
    let more = 2 * PAGE - before.len() % PAGE - "{}\n".len() - 96;
    before.push_str(&format!("{{{}}}\n", " ".repeat(more)));
    fs::write(&log, &before).unwrap();
    fs::write(&ballast, vec![0; 8 << 20]).unwrap_err();
    harness.join(&tpm, "t").await.unwrap();
    assert!(harness.authority.health().await.audit.unwrap_err().contains("No space left"));
    assert_eq!(fs::read_to_string(&log).unwrap(), before);
    fs::remove_file(&ballast).unwrap();
    assert_eq!(harness.authority.health().await.audit, Ok(()));
    assert_eq!(harness.audit().len(), 2);
}

#[tokio::test]
async fn nothing_is_granted_while_too_many_lines_wait() {
    let (harness, logs, _dir) = harness(1).await;
    let tpm = SoftwareTpm::generate();
    harness.allow(&tpm).await;
    fs::rename(&logs, logs.with_extension("gone")).unwrap();
    let held = harness.join(&tpm, "t").await.unwrap();
    assert_eq!(harness.join(&tpm, "t").await.unwrap_err().code(), Code::Unavailable);
    let mut client = client(&harness, &tpm, &held).await;
    assert_eq!(renew(&mut client, 0).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(harness.instance().await.status.generation, 1);

    fs::create_dir(&logs).unwrap();
    harness.authority.sync_audit_log().await;
    renew(&mut client, 0).await.unwrap();
}

#[tokio::test]
async fn events_that_a_crash_left_in_the_store_are_in_the_file_once() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    // This one's line is in the file, but not known to be on disk there.
    harness.join(&tpm, "t").await.unwrap();
    assert_eq!(harness.audit().len(), 1);
    // These are in the store, and their lines were never written; the second one is from a version without a log.
    let lock = "kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {join_token: t}}\n";
    let lock = resource::read(lock).unwrap();
    harness.authority.records.put(&lock, Existing::Refuse, author()).await.unwrap();
    let row = Change::Put(Table::AuditRows, "1/2".into(), br#"{"uid":"2","event":"old"}"#.into());
    harness.meanwhile.write(vec![row]).await.unwrap();
    for _ in 0..2 {
        harness.authority.recover_audit().await.unwrap();
        let lines = harness.whole_audit();
        let ids: BTreeSet<_> = lines.iter().map(|line| line["uid"].to_string()).collect();
        let numbers: Vec<_> = lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect();
        assert_eq!((lines.len(), ids.len()), (5, 5), "{lines:#?}");
        // Number 0 is of the first start.
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
    }
    assert_eq!((entries(&harness).await, harness.meanwhile.count(Table::AuditRows).await), (6, 0));
    harness.authority.sync_audit_log().await;
    let key = format!("{}/file", harness.authority.records.log_id());
    let cursor = harness.meanwhile.read(Table::LogCursors, &key).await.unwrap();
    assert_eq!(cursor, Some("6".into()), "on disk in the file");
}

#[tokio::test]
async fn events_bind_the_records_that_they_leave() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let held = harness.join(&tpm, "t").await.unwrap();
    let path = format!("my-bot/{}", held.instance);
    let record = harness.meanwhile.read(Table::Instances, &path).await.unwrap().unwrap();
    let hash = base16ct::lower::encode_string(&Sha256::digest(record));
    let line = harness.audit().pop().unwrap();
    assert_eq!(line["records"], json!([{"table": "instances", "key": path, "sha256": hash}]));
    harness.authority.records.remove(Kind::Bot, "my-bot", author()).await.unwrap();
    harness.authority.sync_audit_log().await;
    let line = harness.whole_audit().pop().unwrap();
    let records = [
        json!({"table": "bots", "key": "my-bot", "sha256": null}),
        json!({"table": "instances", "prefix": "my-bot/", "sha256": null}),
    ];
    assert_eq!(line["records"], json!(records));
}

/// A call that is cancelled, or takes too long, is dropped in the authority.
#[tokio::test]
async fn removal_whose_operator_goes_away_is_on_record_and_in_the_log() {
    let harness = Harness::new().await;
    let mut admin = AdminServiceClient::new(harness.operator().await.channel);
    let (reached, held_up) = oneshot::channel::<()>();
    let (go_on, gone) = oneshot::channel::<()>();
    harness.meanwhile.set(Box::new(move |_| {
        Box::pin(async move {
            reached.send(()).unwrap();
            gone.await.unwrap();
        })
    }));
    let mut still_there = admin.clone();
    let request = RemoveRequest { kind: "bot".into(), name: "my-bot".into() };
    let call = tokio::spawn(async move { admin.remove(request).await });
    held_up.await.unwrap();
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    // Answered after the authority has read that the other call was cancelled.
    still_there.status(StatusRequest {}).await.unwrap();
    // Without effect if the write was dropped with the call.
    let _ = go_on.send(());
    let recorded = async {
        while harness.audit().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, recorded).await.unwrap();
    assert_eq!(harness.audit()[0]["event"], "bot.delete");
    assert_eq!(harness.meanwhile.count(Table::Bots).await, 0);
}

#[tokio::test]
async fn changes_by_operators_are_events_that_say_who_made_them() {
    let harness = Harness::new().await;
    let mut admin = AdminServiceClient::new(harness.operator().await.channel);
    let bot = BOT.replace("my-bot", "other");
    let token = token("t", &format!("- ek_public_hash: {}", "ab".repeat(32)), &[]);
    let lock = "kind: lock\nversion: v2\nmetadata:\n  name: why\nspec:\n  message: stolen\n  \
                expires: 2999-01-01T00:00:00Z\n  target: {user: bot-other}\n";
    let replace = IfExists::Replace.into();
    for yaml in [&format!("{bot}---\n{token}"), lock, &bot, lock] {
        let request = CreateRequest { yaml: yaml.to_owned(), if_exists: replace };
        admin.create(request).await.unwrap();
    }
    let refused = CreateRequest { yaml: bot, if_exists: IfExists::Refuse.into() };
    admin.create(refused).await.unwrap_err();
    for (kind, name) in [("lock", "why"), ("token", "t"), ("bot", "other")] {
        admin.remove(RemoveRequest { kind: kind.into(), name: name.into() }).await.unwrap();
    }
    admin.remove(RemoveRequest { kind: "bot".into(), name: "other".into() }).await.unwrap_err();

    let lines = harness.audit();
    let recorded: Vec<_> =
        lines.iter().map(|line| ["event", "code"].map(|key| line[key].as_str().unwrap())).collect();
    let expected = [
        ["bot.create", "EN101I"],
        ["join_token.create", "EN111I"],
        ["lock.created", "EN121I"],
        ["bot.update", "EN102I"],
        ["lock.updated", "EN122I"],
        ["lock.deleted", "EN123I"],
        ["join_token.delete", "EN113I"],
        ["bot.delete", "EN103I"],
    ];
    assert_eq!(recorded, expected);
    let uid = rustix_uid();
    for line in &lines {
        assert_eq!(line["user"], "operator", "{line:#}");
        assert_eq!(line["unix_uid"], uid, "{line:#}");
        assert_eq!(line["outcome"], "done", "{line:#}");
        assert!(line.get("ek_proven").is_none(), "{line:#}");
    }
    assert_eq!(lines[0]["bot_name"], "other");
    assert_eq!(lines[1]["token_name"], "t");
    let fields = ["lock_name", "bot_name", "message", "expires"];
    for line in [&lines[2], &lines[5]] {
        let values = fields.map(|key| line[key].as_str().unwrap_or_default());
        assert_eq!(values, ["why", "other", "stolen", "2999-01-01T00:00:00Z"], "{line:#}");
    }
}

/// The user that this process runs as.
fn rustix_uid() -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid().into()
}

#[tokio::test]
async fn removal_of_what_has_ended_is_an_event() {
    const WEEK: i64 = 7 * 24 * 3600;
    let harness = Harness::new().await;
    let (_, held) = harness.joined().await;
    let end = Timestamp(harness.authority.clock.now() + time::Duration::hours(1));
    let lock =
        "kind: lock\nversion: v2\nmetadata:\n  name: short\nspec:\n  target: {join_token: t}\n";
    harness.create(&format!("{lock}  expires: {end}\n")).await;
    harness.go_on(WEEK + 3700).await;
    assert_eq!(harness.authority.records.page(Kind::Lock, None, None, 1000).await.unwrap(), []);
    let lines = harness.audit();
    let [_, instance, lock] = &lines[..] else { panic!("{lines:#?}") };
    assert_eq!(instance["event"], "bot_instance.delete");
    assert_eq!(instance["bot_instance_id"], held.instance);
    assert_eq!((&lock["event"], &lock["lock_name"]), (&"lock.deleted".into(), &"short".into()));
    for line in [instance, lock] {
        assert_eq!((&line["user"], &line["unix_uid"]), (&"system".into(), &Value::Null));
    }
}

#[tokio::test]
async fn certificate_that_is_not_the_latest_is_recorded_and_counted() {
    let harness = Harness::new().await;
    let (tpm, first) = harness.joined().await;
    let mut original = client(&harness, &tpm, &first).await;
    renew(&mut original, 0).await.unwrap();
    assert_eq!(harness.assert_last_brief("bot.renew").await["generation"], 2);
    let mut clone = client(&harness, &tpm, &first).await;
    renew(&mut clone, 0).await.unwrap();
    let line = harness.assert_last("bot.renew", None);
    assert_eq!((&line["presented_generation"], &line["generation"]), (&1.into(), &3.into()));
    let metrics = harness.authority.metrics_text();
    assert!(metrics.contains("endorse_generation_mismatches_total 1"), "{metrics}");
    // A refusal records it too.
    harness.authority.records.remove(Kind::Token, "t", author()).await.unwrap();
    renew(&mut clone, 0).await.unwrap_err();
    harness.assert_last("bot.renew", Some("token_unknown"));
}
