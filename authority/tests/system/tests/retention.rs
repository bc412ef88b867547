//! Old entries of the log are removed as the operator wants it, and not before they are in the file.

use std::sync::atomic::Ordering;
use std::time::Duration;

use authority::config::Retention;

use super::harness::Harness;
use super::renew::{client, renew};

/// An authority with 700 locks, and a host that has joined and renewed.
async fn used(retention: Retention) -> Harness {
    let harness = Harness::retaining(retention).await;
    let (tpm, held) = harness.joined().await;
    renew(&mut client(&harness, &tpm, &held).await, 0).await.unwrap();
    let lock = |number| {
        format!(
            "kind: lock\nversion: v2\nmetadata: {{name: l-{number}}}\nspec: {{target: {{user: bot-b}}}}\n"
        )
    };
    harness.create(&(0..700).map(lock).collect::<Vec<_>>().join("---\n")).await;
    harness
}

/// The number of the first entry that is there, and how many bytes all of them have.
async fn kept(harness: &Harness) -> (u64, usize) {
    let records = &harness.authority.records;
    let entries = records.log_entries(records.log_id(), 0, 10_000).await.unwrap();
    let bytes = entries.iter().map(|entry| entry.entry().len()).sum();
    (entries[0].sequence(), bytes)
}

async fn assert_verified(harness: &Harness) {
    let verified = harness.authority.records.verify(&[]).await.unwrap();
    assert_eq!(verified.findings, []);
    assert_eq!(verified.kept_from[0].1, kept(harness).await.0);
}

#[tokio::test]
async fn entries_are_removed_when_they_are_old() {
    let age = Some(Duration::from_hours(1));
    let harness = used(Retention { age, ..Retention::default() }).await;
    harness.authority.retain().await.unwrap();
    assert_eq!(kept(&harness).await.0, 0, "not old yet");
    harness.ahead.store(2 * 3600, Ordering::SeqCst);
    harness.authority.retain().await.unwrap();
    assert_eq!(kept(&harness).await.0, 512, "as many as fill a row of hashes");
    assert_verified(&harness).await;
    // The events of the removal are not old.
    harness.authority.retain().await.unwrap();
    assert_eq!(kept(&harness).await.0, 512);
}

#[tokio::test]
async fn entries_are_removed_while_they_take_more_than_allowed() {
    const SIZE: usize = 190 * 1024;
    let size = Some(SIZE as u64);
    let harness = used(Retention { size, ..Retention::default() }).await;
    assert!(kept(&harness).await.1 > SIZE);
    harness.authority.retain().await.unwrap();
    let (first, bytes) = kept(&harness).await;
    assert!(first == 256 && bytes < SIZE, "{first}: {bytes}");
    assert_verified(&harness).await;
}

#[tokio::test]
async fn entries_stay_until_they_are_in_the_file_and_without_retention_for_ever() {
    let harness = used(Retention::default()).await;
    harness.ahead.store(100 * 365 * 86_400, Ordering::SeqCst);
    harness.authority.retain().await.unwrap();
    assert_eq!(kept(&harness).await.0, 0);

    let size = Some(1);
    let harness = Harness::retaining(Retention { size, ..Retention::default() }).await;
    let log = harness.log.clone();
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&log).unwrap();
    let lock = |number| {
        format!(
            "kind: lock\nversion: v2\nmetadata: {{name: l-{number}}}\nspec: {{target: {{user: bot-b}}}}\n"
        )
    };
    harness.create(&(0..300).map(lock).collect::<Vec<_>>().join("---\n")).await;
    harness.authority.retain().await.unwrap();
    assert_eq!(kept(&harness).await.0, 0, "the file cannot be written");
    std::fs::remove_dir(&log).unwrap();
    harness.authority.sync_audit_log().await;
    harness.authority.retain().await.unwrap();
    assert_eq!(kept(&harness).await.0, 256);
}
