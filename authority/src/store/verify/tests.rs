//! What verification notices of a store that others have written to.

use std::sync::Arc;

use time::macros::datetime;

use super::*;
use crate::audit::Author;
use crate::audit::checkpoint::LogKey;
use crate::resource::{Kind, read};
use crate::store::batch::entry_key;
use crate::store::{Change, IfExists, MemoryStore, Store};

const LOG: &str = "one";

fn author() -> Author {
    Author::system(datetime!(2026-06-01 12:00 UTC))
}

fn store() -> (Arc<MemoryStore>, Records) {
    let store = Arc::new(MemoryStore::default());
    let records = Records::new(Arc::<MemoryStore>::clone(&store)).logging_as(LOG);
    (store, records)
}

async fn put(records: &Records, yaml: &str) {
    records.put(&read(yaml).unwrap(), IfExists::Replace, author()).await.unwrap();
}

fn bot(name: &str, role: &str) -> String {
    format!("kind: bot\nversion: v1\nmetadata: {{name: {name}}}\nspec: {{roles: [{role}]}}\n")
}

fn lock(name: &str) -> String {
    format!(
        "kind: lock\nversion: v2\nmetadata: {{name: {name}}}\nspec: {{target: {{user: bot-b}}}}\n"
    )
}

/// An authority with some history.
async fn used() -> (Arc<MemoryStore>, Records) {
    let (store, records) = store();
    for yaml in [bot("a", "dev"), bot("b", "dev"), lock("l"), bot("a", "ops")] {
        put(&records, &yaml).await;
    }
    records.remove(Kind::Bot, "b", author()).await.unwrap();
    put(&records, &bot("b", "dev")).await;
    (store, records)
}

async fn kept(records: &Records) -> KeptHead {
    let tree = records.log_head(LOG).await.unwrap();
    (LOG.to_owned(), Head { size: tree.size(), root: tree.root() })
}

async fn findings(records: &Records, kept: &[KeptHead]) -> Vec<Finding> {
    let verified = records.verify(kept).await.unwrap();
    verified.findings.into_iter().map(|(_, finding)| finding).collect()
}

/// Everything, or one table, as it is now.
async fn copy(store: &MemoryStore, tables: &[Table]) -> Vec<Change> {
    let mut changes = Vec::new();
    for table in tables {
        changes.push(Change::RemoveAll(*table, String::new()));
        let rows = Pages::new(store, *table, "").all().await.unwrap();
        changes.extend(rows.into_iter().map(|(key, record)| Change::Put(*table, key, record)));
    }
    changes
}

fn place(table: &str, key: &str) -> Place {
    (table.to_owned(), key.to_owned())
}

#[tokio::test]
async fn log_of_an_authority_verifies_and_extends_its_former_heads() {
    let (_, records) = used().await;
    let verified = records.verify(&[]).await.unwrap();
    assert_eq!((verified.findings.len(), verified.records, verified.more), (0, 3, 0));
    assert_eq!(verified.logs, [kept(&records).await]);
    let before = kept(&records).await;
    put(&records, &bot("c", "dev")).await;
    assert_eq!(findings(&records, &[before, kept(&records).await]).await, []);
    assert_eq!(findings(&Records::new(Arc::new(MemoryStore::default())), &[]).await, []);
}

#[tokio::test]
async fn change_of_an_entry_is_noticed() {
    let entry = async |store: &MemoryStore, number| {
        store.read(Table::Log, &entry_key(LOG, number)).await.unwrap().unwrap()
    };
    let put_entry = |number, line| Change::Put(Table::Log, entry_key(LOG, number), line);

    let (store, records) = used().await;
    let text = String::from_utf8(entry(&store, 2).await).unwrap();
    let changed = text.replace("bot-b", "bot-c").replace("\"b\"", "\"c\"");
    assert_ne!(text, changed);
    store.write(vec![put_entry(2, changed.into())]).await.unwrap();
    assert_eq!(findings(&records, &[]).await, [Finding::Rewritten(6)], "changed");

    let (store, records) = used().await;
    store.write(vec![Change::Remove(Table::Log, entry_key(LOG, 2))]).await.unwrap();
    let found = findings(&records, &[]).await;
    assert!(found.contains(&Finding::Missing(2)), "removed: {found:?}");

    let (store, records) = used().await;
    store.write(vec![Change::Remove(Table::Log, entry_key(LOG, 5))]).await.unwrap();
    let found = findings(&records, &[]).await;
    assert!(found.contains(&Finding::Cut(5, 6)), "the last one removed: {found:?}");

    let (store, records) = used().await;
    let (one, other) = (entry(&store, 0).await, entry(&store, 1).await);
    store.write(vec![put_entry(0, other), put_entry(1, one)]).await.unwrap();
    let found = findings(&records, &[]).await;
    assert!(found.contains(&Finding::Misplaced(0)), "reordered: {found:?}");

    let (store, records) = used().await;
    let forged = br#"{"seq":6,"event":"bot.join"}"#;
    store.write(vec![put_entry(6, forged.into())]).await.unwrap();
    assert_eq!(findings(&records, &[]).await, [Finding::Misplaced(6)], "inserted at the end");
}

#[tokio::test]
async fn record_that_is_not_as_the_log_says_is_noticed() {
    let (store, records) = used().await;
    let was = store.read(Table::Bots, "a").await.unwrap().unwrap();
    let changed = String::from_utf8(was.clone()).unwrap().replace("\"ops\"", "\"root\"");
    store.write(vec![Change::Put(Table::Bots, "a".into(), changed.into())]).await.unwrap();
    assert_eq!(findings(&records, &[]).await, [Finding::Record(place("bots", "a"))]);
    store.write(vec![Change::Remove(Table::Bots, "a".into())]).await.unwrap();
    assert_eq!(findings(&records, &[]).await, [Finding::RecordMissing(place("bots", "a"))]);
    let more = [
        Change::Put(Table::Bots, "a".into(), was.clone()),
        Change::Put(Table::Bots, "more".into(), was),
    ];
    store.write(more.into()).await.unwrap();
    assert_eq!(findings(&records, &[]).await, [Finding::RecordUnknown(place("bots", "more"))]);

    let (store, records) = used().await;
    store.write(vec![Change::RemoveAll(Table::LockTargets, String::new())]).await.unwrap();
    assert_eq!(findings(&records, &[]).await, [Finding::Record(place("lock_targets", "l"))]);
}

#[tokio::test]
async fn brief_entry_binds_the_record_and_its_change_is_noticed() {
    let (store, records) = used().await;
    let instance = crate::store::tests::instance_of_a_host();
    let bot = instance.spec.bot_name.clone();
    let basis = records.basis(&bot, &instance.status.join_token, &[]).await.unwrap();
    let line = br#"{"event":"bot.join"}"#.to_vec();
    records.grant(None, instance.clone(), basis, None, line).await.unwrap();
    let joined = copy(&store, &[Table::Instances]).await;
    let mut before = records.instance(&bot, &instance.spec.instance_id).await.unwrap().unwrap();
    for generation in 2..4 {
        let mut next = before.instance.clone();
        next.status.generation = generation;
        records.update(&before, &next).await.unwrap();
        before = records.instance(&bot, &instance.spec.instance_id).await.unwrap().unwrap();
    }
    assert_eq!(findings(&records, &[]).await, []);
    let last = records.log_entries(LOG, 8, 1).await.unwrap().remove(0);
    assert!(!last.is_line() && last.shown().unwrap()["generation"] == 3);

    let path = instance.path();
    store.write(joined).await.unwrap();
    let record = Finding::Record(place("instances", &path));
    assert_eq!(findings(&records, &[]).await, std::slice::from_ref(&record), "an older record");
    store.write(vec![Change::Remove(Table::Instances, path.clone())]).await.unwrap();
    assert_eq!(findings(&records, &[]).await, [Finding::RecordMissing(place("instances", &path))]);
    store.write(copy_of(&before)).await.unwrap();
    assert_eq!(findings(&records, &[]).await, []);
    // The number, then the hash of the record.
    for (at, found) in [(10, Finding::Misplaced(8)), (40, record)] {
        let mut changed = last.entry().to_vec();
        changed[at] ^= 1;
        let put = |entry| Change::Put(Table::Log, entry_key(LOG, 8), entry);
        store.write(vec![put(changed)]).await.unwrap();
        let all = findings(&records, &[]).await;
        assert!(all.contains(&found) && all.contains(&Finding::Rewritten(9)), "{at}: {all:?}");
        store.write(vec![put(last.entry().to_vec())]).await.unwrap();
    }
}

/// The record of an instance as it was read.
fn copy_of(recorded: &crate::store::Recorded) -> Vec<Change> {
    let record = crate::store::encode(&recorded.instance).unwrap();
    vec![Change::Put(Table::Instances, recorded.instance.path(), record)]
}

#[tokio::test]
async fn table_of_yesterday_is_noticed() {
    let (store, records) = used().await;
    let yesterday = copy(&store, &[Table::Locks, Table::LockTargets]).await;
    put(&records, &lock("p")).await;
    records.remove(Kind::Lock, "l", author()).await.unwrap();
    assert_eq!(findings(&records, &[]).await, []);
    store.write(yesterday).await.unwrap();
    let found = findings(&records, &[]).await;
    let must =
        [Finding::RecordUnknown(place("locks", "l")), Finding::RecordMissing(place("locks", "p"))];
    assert_eq!(found, must);
}

#[tokio::test]
async fn store_of_yesterday_is_noticed_by_a_head_that_was_kept() {
    let (store, records) = used().await;
    let yesterday = copy(&store, &Table::ALL).await;
    put(&records, &lock("p")).await;
    let head = kept(&records).await;
    assert_eq!(findings(&records, std::slice::from_ref(&head)).await, []);
    store.write(yesterday).await.unwrap();
    assert_eq!(findings(&records, &[]).await, [], "without one it cannot be known");
    assert_eq!(findings(&records, std::slice::from_ref(&head)).await, [Finding::Cut(6, 7)]);
    // It goes on from there: the log is as long as it was, and not the same.
    put(&records, &lock("o")).await;
    assert_eq!(findings(&records, &[head]).await, [Finding::Rewritten(7)]);
}

#[tokio::test]
async fn fork_of_two_authorities_with_one_id_is_noticed() {
    let (store, records) = used().await;
    let (other_store, other) = self::store();
    other_store.write(copy(&store, &Table::ALL).await).await.unwrap();
    let before = kept(&records).await;
    put(&records, &bot("c", "dev")).await;
    put(&other, &bot("d", "dev")).await;
    let heads = [before, kept(&records).await];
    assert_eq!(findings(&records, &heads).await, []);
    assert_eq!(findings(&other, &heads).await, [Finding::Rewritten(7)]);
    // Both have signed, so the heads alone prove it.
    let key = LogKey::new(
        "c/authority/one".parse().unwrap(),
        ed25519_dalek::SigningKey::from_bytes(&[7; 32]),
    );
    let signed = [&heads[1].1, &kept(&other).await.1].map(|head| key.sign(head));
    let opened = signed.each_ref().map(|note| key.public().open(note).unwrap());
    assert_eq!(opened[0].size, opened[1].size);
    assert_ne!(opened[0].root, opened[1].root);
}

#[tokio::test]
async fn last_word_of_any_of_several_authorities_is_accepted() {
    let (store, one) = used().await;
    let two = Records::new(Arc::<MemoryStore>::clone(&store)).logging_as("two");
    put(&two, &bot("a", "access")).await;
    put(&two, &bot("d", "dev")).await;
    one.remove(Kind::Bot, "d", author()).await.unwrap();
    two.remove(Kind::Lock, "l", author()).await.unwrap();
    let verified = one.verify(&[]).await.unwrap();
    assert_eq!((verified.findings, verified.logs.len()), (vec![], 2));
    let was = store.read(Table::Bots, "a").await.unwrap().unwrap();
    let changed = String::from_utf8(was).unwrap().replace("\"access\"", "\"root\"");
    store.write(vec![Change::Put(Table::Bots, "a".into(), changed.into())]).await.unwrap();
    assert_eq!(findings(&one, &[]).await, [Finding::Record(place("bots", "a"))]);
}

#[tokio::test]
async fn records_of_an_older_version_are_known_after_the_migration() {
    let (store, records) = store();
    let other = Records::new(Arc::new(MemoryStore::default()));
    put(&other, &bot("a", "dev")).await;
    let old = other.0.read(Table::Bots, "a").await.unwrap().unwrap();
    let old: Vec<_> = (0..450)
        .map(|number| Change::Put(Table::Bots, format!("bot-{number}"), old.clone()))
        .collect();
    store.write(old).await.unwrap();
    assert_eq!(records.verify(&[]).await.unwrap().more, 350);
    records.migrate(author()).await.unwrap();
    assert_eq!(findings(&records, &[]).await, []);
    assert_eq!(records.log_head(LOG).await.unwrap().size(), 3);
}
