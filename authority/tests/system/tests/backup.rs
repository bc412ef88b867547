//! Backups of an authority, and authorities that are restored from them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use authority::audit::Author;
use authority::config::StoreSettings;
use authority::data_directory::DataDirectory;
use authority::keyring::{MemberState, Own};
use serde_json::Value;
use tempfile::TempDir;
use testkit::simulated::SoftwareTpm;
use tokio::task::{JoinSet, block_in_place, spawn_blocking};

use super::harness::{Harness, run};
use super::postgresql::{migrated, refused, text, wait_until_unused};
use super::renew::{client, renew};

fn authority(arguments: &[&str], data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_authority"));
    command.args(arguments).arg("--data-dir").arg(data);
    command
}

fn report(command: &mut Command) -> Value {
    serde_json::from_slice(&run(command.args(["--format", "json"]))).unwrap()
}

/// A directory for backups and keys.
struct Safe(TempDir);

impl Safe {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// Creates a recovery key at an authority that runs.
    fn recovery_key(&self, name: &str, data: &Path) {
        let create = ["recovery", "create", "--to", &self.text(name)];
        block_in_place(|| run(&mut authority(&create, data)));
    }

    fn backup(&self, data: &Path, to: &str) -> Command {
        authority(&["backup", "--to", &self.text(to)], data)
    }

    /// Restores with a key, `--recovery-key` or `--wrapping-key`.
    fn restore(&self, from: &str, option: &str, key: &Path, data: &Path) -> Command {
        let key = key.to_str().unwrap();
        authority(&["restore", "--from", &self.text(from), option, key], data)
    }
}

fn accept(data: &Path) -> String {
    text(run(&mut authority(&["store", "accept-restored"], data)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_made_under_joins_is_restored_and_lost_generations_are_excused_once() {
    const HOSTS: usize = 16;
    let safe = Safe::new();
    let one = Arc::new(Harness::new().await);
    let ca = one.ca();
    let data = one.dir.path().join("data");
    safe.recovery_key("recovery.key", &data);
    let tpms: Vec<_> = (0..HOSTS).map(|_| SoftwareTpm::generate()).collect();
    let rule = |tpm: &SoftwareTpm| format!("- ek_public_hash: {}\n", tpm.ek_hash());
    let rules: Vec<_> = tpms.iter().map(rule).collect();
    one.token("many", &rules.concat(), &[]).await;
    let (tpm, first) = one.joined().await;

    let mut joins = JoinSet::new();
    for tpm in tpms {
        let one = Arc::clone(&one);
        joins.spawn(async move { one.join(&tpm, "many").await.unwrap() });
    }
    let mut backup = safe.backup(&data, "backup");
    let made = spawn_blocking(move || report(&mut backup)).await.unwrap();
    assert_eq!(joins.join_all().await.len(), HOSTS);
    let records = &made["backed_up"]["records"];
    assert!(records["instances"].as_u64().unwrap() >= 1, "{made}");
    assert_eq!(records["instances"], records["instance_ids"], "of one moment: {made}");
    let existing = block_in_place(|| refused(&mut safe.backup(&data, "backup"), 1));
    assert!(existing.contains("exists"), "{existing}");

    let status = block_in_place(|| text(run(&mut authority(&["status"], &data))));
    let time = made["made"].as_str().unwrap();
    assert!(status.contains(&format!("\nBackup   last made at {time}\n")), "{status}");

    let mut held = first.clone();
    for generation in 2..4 {
        held = renew(&mut client(&one, &tpm, &held).await, 0).await.unwrap();
        assert_eq!(held.generation, generation);
    }
    let noted = one.whole_audit().into_iter().find(|line| line["event"] == "records.backup");
    assert_eq!(noted.unwrap()["unix_uid"], rustix::process::getuid().as_raw());
    let _dir = Arc::into_inner(one).unwrap().ended().await;

    let (restored, key) = (safe.at("restored"), safe.at("recovery.key"));
    let said = report(&mut safe.restore("backup", "--recovery-key", &key, &restored));
    assert_eq!(said["restored"], made["backed_up"]);
    let start = ["start", "--listen", "127.0.0.1:0"];
    let said = refused(&mut authority(&start, &restored), 78);
    assert!(said.contains("the records are from a backup of "), "{said}");
    let said = accept(&restored);
    assert!(said.contains("\nLocks    none\n"), "{said}");

    let two = Harness::at(&restored, StoreSettings::Embedded).await;
    assert_eq!(two.ca(), ca);
    let events: Vec<_> = two.whole_audit().iter().map(|line| line["event"].clone()).collect();
    assert!(events.starts_with(&["records.restore".into(), "records.accept_restored".into()]));
    let held = renew(&mut client(&two, &tpm, &held).await, 0).await.unwrap();
    assert_eq!(held.generation, 4, "the certificate is later than the record");
    // A brief entry: nothing is odd about it.
    assert_eq!(two.assert_last_brief("bot.renew").await["generation"], 4);
    renew(&mut client(&two, &tpm, &first).await, 0).await.unwrap();
    let line = two.assert_last("bot.renew", None);
    assert_eq!(line["presented_generation"], 1, "{line:#}");

    let keyring = two.authority.keyring.as_ref().unwrap();
    let members = keyring.members(two.authority.clock.now()).await.unwrap();
    let states: Vec<_> = members.iter().map(|one| (one.id.as_str(), one.state)).collect();
    assert_eq!(states.len(), 2);
    for (id, state) in states {
        let is_own = id == keyring.own_id();
        assert_eq!(state, if is_own { MemberState::Live } else { MemberState::Removed }, "{id}");
    }
    let check = ["recovery", "check", "--key", &safe.text("recovery.key")];
    block_in_place(|| run(&mut authority(&check, &restored)));
    let verified = block_in_place(|| text(run(&mut authority(&["audit", "verify"], &restored))));
    assert!(verified.contains("\nverified\n"), "{verified}");
    assert_eq!(verified.lines().filter(|line| line.starts_with("log ")).count(), 2, "{verified}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_backup_and_used_directory_are_refused_before_anything_is_written() {
    let safe = Safe::new();
    let one = Harness::new().await;
    one.joined().await;
    let dir = one.ended().await;
    let data = dir.path().join("data");
    let key = data.join("wrapping.key");
    let made = report(&mut safe.backup(&data, "backup"));
    assert_eq!(made["backed_up"]["records"]["instances"], 1, "{made}");
    assert_eq!(made["recovery_key"], false, "{made}");

    let content = fs::read(safe.at("backup")).unwrap();
    assert!(!content.windows(11).any(|part| part == b"PRIVATE KEY"));
    let mut changed = content.clone();
    changed[content.len() / 2] ^= 1;
    let mut newer = content.clone();
    newer[15] = 2;
    let cut = content[..content.len() - 1].to_vec();
    let target = safe.at("target");
    for (file, code, says) in [
        (changed, 65, "truncated or changed"),
        (cut, 65, "truncated or changed"),
        (newer, 78, "has version 2"),
        (b"junk".to_vec(), 65, "not a backup"),
    ] {
        fs::write(safe.at("damaged"), file).unwrap();
        let said = refused(&mut safe.restore("damaged", "--wrapping-key", &key, &target), code);
        assert!(said.contains(says), "{said}");
    }
    let bare = ["restore", "--from", &safe.text("backup")];
    let said = refused(&mut authority(&bare, &target), 64);
    assert!(said.contains("--recovery-key"), "{said}");
    let said = refused(&mut safe.restore("backup", "--recovery-key", &key, &target), 1);
    assert!(said.contains("had no recovery key"), "{said}");
    assert!(!target.exists(), "nothing was written");
    let said = refused(&mut safe.restore("backup", "--wrapping-key", &key, &data), 1);
    assert!(said.contains("has a cluster already"), "{said}");
    fs::rename(data.join("cluster"), data.join("old")).unwrap();
    let said = refused(&mut safe.restore("backup", "--wrapping-key", &key, &data), 1);
    assert!(said.contains("is that of the authority"), "{said}");
    assert!(!data.join("cluster").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_keys_that_the_cluster_had_restore_a_backup() {
    let safe = Safe::new();
    let one = Harness::new().await;
    one.joined().await;
    let data = one.dir.path().join("data");
    safe.recovery_key("former.key", &data);
    safe.recovery_key("recovery.key", &data);
    let other = DataDirectory::new(safe.at("other"));
    let own = Own::of(&other, &other.lock().unwrap()).unwrap();
    let keyring = one.authority.keyring.as_ref().unwrap();
    let now = one.authority.clock.now();
    keyring.admit(&own.request(Some("other".parse().unwrap())), Author::system(now)).await.unwrap();
    keyring.remove("other", Author::system(now)).await.unwrap();
    let made = block_in_place(|| report(&mut safe.backup(&data, "backup")));
    assert_eq!(made["recovery_key"], true, "{made}");
    let dir = one.ended().await;

    let target = safe.at("target");
    let removed = safe.at("other/wrapping.key");
    for (option, key, says) in [
        ("--recovery-key", safe.at("former.key"), "wrapped to another recovery key"),
        ("--wrapping-key", safe.at("recovery.key"), "of no authority in the backup"),
        ("--wrapping-key", removed, "of no authority in the backup"),
    ] {
        let said = refused(&mut safe.restore("backup", option, &key, &target), 1);
        assert!(said.contains(says), "{said}");
        assert!(!target.exists(), "nothing was written");
    }
    let key = dir.path().join("data/wrapping.key");
    report(&mut safe.restore("backup", "--wrapping-key", &key, &target));
    accept(&target);
    let two = Harness::at(&target, StoreSettings::Embedded).await;
    assert_eq!(two.instances().await.len(), 1);
    let check = ["recovery", "check", "--key", &safe.text("recovery.key")];
    block_in_place(|| run(&mut authority(&check, &target)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupted_restore_into_a_database_is_repeated() {
    let safe = Safe::new();
    let target = safe.at("target");
    let Some(server) = migrated(&target) else { return };
    let one = Harness::new().await;
    one.joined().await;
    let data = one.dir.path().join("data");
    safe.recovery_key("recovery.key", &data);
    block_in_place(|| report(&mut safe.backup(&data, "backup")));
    drop(one);
    let configuration = server.directory().join("endorse.yaml");
    let configured = |mut command: Command| {
        command.arg("-c").arg(&configuration);
        command
    };
    let key = safe.at("recovery.key");
    let restore = || configured(safe.restore("backup", "--recovery-key", &key, &target));
    server.sql("postgres", "REVOKE INSERT ON endorse.expiry FROM endorse").unwrap();
    refused(&mut restore(), 78);
    server.sql("postgres", "GRANT INSERT ON endorse.expiry TO endorse").unwrap();
    wait_until_unused(&server);
    report(&mut restore());
    assert!(!target.join("cluster").exists(), "the first start creates it");
    wait_until_unused(&server);
    let said = refused(&mut restore(), 1);
    assert!(said.contains("is not empty"), "{said}");
    let start = ["start", "--listen", "127.0.0.1:0"];
    let said = refused(&mut configured(authority(&start, &target)), 78);
    assert!(said.contains("accept-restored"), "{said}");
    wait_until_unused(&server);
    run(&mut configured(authority(&["store", "accept-restored"], &target)));
    wait_until_unused(&server);
    let again = report(&mut configured(safe.backup(&target, "again")));
    assert_eq!(again["backed_up"]["records"]["instances"], 1, "{again}");
}
