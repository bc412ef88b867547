use std::sync::Arc;

use time::macros::datetime;

use super::*;
use crate::audit::replay::Finding;
use crate::audit::tree::Head;
use crate::resource::{Kind, read};
use crate::store::{IfExists, KeptHead, MemoryStore, Pages, Store};

const LOG: &str = "one";

fn author() -> Author {
    Author::system(datetime!(2026-06-01 12:00 UTC))
}

async fn put(records: &Records, name: &str, role: &str) {
    let yaml =
        format!("kind: bot\nversion: v1\nmetadata: {{name: {name}}}\nspec: {{roles: [{role}]}}\n");
    records.put(&read(&yaml).unwrap(), IfExists::Replace, author()).await.unwrap();
}

/// A log of 600 entries: 300 bots, of which the first one is removed, and one is changed again and again.
async fn used() -> (Arc<MemoryStore>, Records) {
    let store = Arc::new(MemoryStore::default());
    let records = Records::new(Arc::<MemoryStore>::clone(&store)).logging_as(LOG);
    for number in 0..300 {
        put(&records, &format!("bot-{number}"), "dev").await;
    }
    records.remove(Kind::Bot, "bot-0", author()).await.unwrap();
    for _ in 0..299 {
        put(&records, "bot-7", "ops").await;
    }
    (store, records)
}

async fn head(records: &Records) -> KeptHead {
    let tree = records.log_head(LOG).await.unwrap();
    (LOG.to_owned(), Head { size: tree.size(), root: tree.root() })
}

async fn findings(records: &Records, heads: &[KeptHead]) -> Vec<Finding> {
    let verified = records.verify(heads).await.unwrap();
    verified.findings.into_iter().map(|(_, finding)| finding).collect()
}

async fn cut(records: &Records) {
    let oldest = records.oldest_entries().await.unwrap().expect("enough entries");
    records.remove_bodies(&oldest, author()).await.unwrap();
}

#[tokio::test]
async fn log_without_its_oldest_entries_has_its_former_heads_and_knows_all_records() {
    let (store, records) = used().await;
    let before = head(&records).await;
    cut(&records).await;
    let between = head(&records).await;
    put(&records, "bot-300", "dev").await;
    cut(&records).await;
    let heads = [before, between, head(&records).await];
    let verified = records.verify(&heads).await.unwrap();
    assert_eq!(verified.findings, []);
    assert_eq!((verified.records, verified.kept_from), (300, vec![(LOG.into(), 512)]));
    let first = records.log_entries(LOG, 0, 1).await.unwrap().remove(0);
    assert_eq!(first.sequence(), 512);
    let rows = Pages::new(&*store, Table::LogHashes, "").all().await.unwrap();
    assert_eq!(rows.iter().map(|(_, row)| row.len()).collect::<Vec<_>>(), [8192, 8192]);
    // Those that are as the first 512 entries have left them: all but the one that was removed, and those of later entries.
    let later = records.log_entries(LOG, 600, 1000).await.unwrap();
    let bound = later.iter().flat_map(Row::bound).count();
    assert_eq!(bound, 299 + 1, "a record is bound again once");
    let events = later.iter().map(|row| row.shown().unwrap()["kept_from"].as_u64());
    assert_eq!(events.flatten().collect::<Vec<_>>(), [256, 512]);
    assert_eq!(records.oldest_entries().await.unwrap(), None, "no whole row");
}

#[tokio::test]
async fn changes_of_a_log_without_its_oldest_entries_are_noticed() {
    let (store, records) = used().await;
    let yesterday = Pages::new(&*store, Table::Bots, "").all().await.unwrap();
    cut(&records).await;
    let key = hashes_key(LOG, 0);
    let row = store.read(Table::LogHashes, &key).await.unwrap().unwrap();
    let put_row = |row: &[u8]| vec![Change::Put(Table::LogHashes, key.clone(), row.to_vec())];

    let mut changed = row.clone();
    changed[100] ^= 1;
    store.write(put_row(&changed)).await.unwrap();
    let size = records.log_head(LOG).await.unwrap().size();
    assert_eq!(findings(&records, &[]).await, [Finding::Rewritten(size)], "a hash changed");
    store.write(vec![Change::Remove(Table::LogHashes, key.clone())]).await.unwrap();
    assert!(findings(&records, &[]).await.contains(&Finding::Missing(0)), "hashes removed");
    store.write(put_row(&row[1..])).await.unwrap();
    records.verify(&[]).await.unwrap_err();
    store.write(put_row(&row)).await.unwrap();
    assert_eq!(findings(&records, &[]).await, []);

    // What was removed before cannot come back.
    put(&records, "bot-9", "ops").await;
    records.remove(Kind::Bot, "bot-8", author()).await.unwrap();
    let was = yesterday.into_iter().filter(|(key, _)| ["bot-8", "bot-9"].contains(&key.as_str()));
    let was = was.map(|(key, record)| Change::Put(Table::Bots, key, record)).collect();
    store.write(was).await.unwrap();
    let place = |key: &str| ("bots".to_owned(), key.to_owned());
    let must = [Finding::RecordUnknown(place("bot-8")), Finding::Record(place("bot-9"))];
    assert_eq!(findings(&records, &[]).await, must);
}

#[tokio::test]
async fn entries_that_others_removed_are_noticed_though_their_hashes_are_there() {
    let (store, records) = used().await;
    cut(&records).await;
    let oldest = records.oldest_entries().await.unwrap().unwrap();
    let hashes: Vec<Hash> = oldest.iter().map(|entry| leaf_hash(entry.entry())).collect();
    let key = hashes_key(LOG, 256);
    let hidden = vec![
        Change::RemoveAll(Table::Log, key.clone()),
        Change::Insert(Table::LogHashes, key, hashes.as_flattened().to_vec()),
    ];
    store.write(hidden).await.unwrap();
    let found = findings(&records, &[head(&records).await]).await;
    assert!(found.contains(&Finding::Undeclared(256, 512)), "{found:?}");
}

#[tokio::test]
async fn entries_are_removed_only_after_all_have_them() {
    let (_, records) = used().await;
    assert_eq!(records.undelivered().await.unwrap(), 0, "not even the file");
    records.set_file_cursor(300).await.unwrap();
    assert_eq!(records.undelivered().await.unwrap(), 300);
    assert_eq!(records.summary_cursor().await.unwrap(), 600);
    records.set_file_cursor(700).await.unwrap();
    assert_eq!(records.undelivered().await.unwrap(), 600);
}
