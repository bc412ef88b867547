//! Locks, in force from the next call on.

use std::sync::atomic::Ordering;

use authority::resource::{Kind, Timestamp};
use proto::v1::admin_service_client::AdminServiceClient;
use proto::v1::{IssueRequest, StatusRequest, WhoAmIRequest};
use testkit::simulated::SoftwareTpm;
use tonic::Code;

use super::harness::{Harness, author};
use super::renew::{assert_refused, client, renew};

/// For how long what has ended stays on record, in seconds.
const WEEK: i64 = 7 * 24 * 3600;

fn lock(name: &str, target: &str, more: &str) -> String {
    format!(
        "kind: lock\nversion: v2\nmetadata:\n  name: {name}\nspec:\n  target: {{{target}}}\n{more}"
    )
}

#[tokio::test]
async fn a_lock_of_each_kind_holds_on_an_open_connection_and_ends_when_it_is_removed() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let mut client = client(&harness, &tpm, &held).await;
    let targets = [
        "user: bot-my-bot".to_owned(),
        format!("bot_instance_id: {}", held.instance),
        "join_token: t".to_owned(),
        format!("ek_public_hash: {}", tpm.ek_hash()),
    ];
    for target in targets {
        harness.create(&lock("why", &target, "  message: because\n")).await;
        let status = assert_refused(&harness, &mut client, "locked").await;
        assert_eq!(status.code(), Code::PermissionDenied);
        assert!(!status.message().contains("because"), "{status}");
        let reason = harness.audit().pop().unwrap()["reason"].clone();
        assert_eq!(reason, "the lock why is in force: because");
        let status = client.who_am_i(WhoAmIRequest {}).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{target}");
        let line = harness.assert_last("bot.whoami", Some("locked"));
        assert_eq!((&line["code"], &line["reason"]), (&"EN003E".into(), &reason));
        assert_eq!(line["bot_instance_id"], held.instance);
        let status = client.issue(IssueRequest::default()).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{target}");
        let line = harness.assert_last("bot.issue", Some("locked"));
        assert_eq!(line["reason"], reason);
        let joined = harness.join(&tpm, "t").await;
        // One instance is locked, not those that the host becomes.
        if target.starts_with("bot_instance_id") {
            joined.unwrap();
            let all = harness.instances().await;
            let other = all.iter().find(|one| one.spec.instance_id.to_string() != held.instance);
            let path = other.unwrap().path();
            harness.authority.records.remove(Kind::BotInstance, &path, author()).await.unwrap();
        } else {
            assert_eq!(joined.unwrap_err().code(), Code::PermissionDenied);
            let line = harness.assert_last("bot.join", Some("locked"));
            assert_eq!((&line["code"], &line["ek_proven"]), (&"TJ001E".into(), &true.into()));
        }
        harness.authority.records.remove(Kind::Lock, "why", author()).await.unwrap();
        renew(&mut client, 0).await.unwrap();
        client.who_am_i(WhoAmIRequest {}).await.unwrap();
    }
}

#[tokio::test]
async fn lock_on_another_target_has_no_effect() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let mut client = client(&harness, &tpm, &held).await;
    let other = SoftwareTpm::generate().ek_hash();
    for (name, target) in [
        ("a", "user: bot-my-bot2".to_owned()),
        ("b", "user: bot-my".to_owned()),
        ("c", "bot_instance_id: 6f9619ff-8b86-4011-b42d-00c04fc964ff".to_owned()),
        ("d", "join_token: tt".to_owned()),
        ("e", "join_token: my-bot".to_owned()),
        ("f", format!("ek_public_hash: {other}")),
    ] {
        harness.create(&lock(name, &target, "")).await;
        renew(&mut client, 0).await.unwrap();
    }
}

#[tokio::test]
async fn a_lock_ends_at_its_time_and_is_forgotten() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let mut client = client(&harness, &tpm, &held).await;
    let until = |seconds: i64| {
        let end = harness.authority.clock.now() + time::Duration::seconds(seconds);
        format!("  expires: {}\n", authority::resource::Timestamp(end))
    };
    harness.create(&lock("short", "user: bot-my-bot", &until(60))).await;
    harness.create(&lock("long", "join_token: t", &until(120))).await;
    assert_refused(&harness, &mut client, "locked").await;
    harness.ahead.store(61, Ordering::SeqCst);
    assert_refused(&harness, &mut client, "locked").await;
    harness.ahead.store(121, Ordering::SeqCst);
    renew(&mut client, 0).await.unwrap();
    let locks =
        async || harness.authority.records.page(Kind::Lock, None, None, 1000).await.unwrap().len();
    assert_eq!(locks().await, 2);
    harness.go_on(121).await;
    assert_eq!(locks().await, 2, "kept for a week");
    harness.ahead.store(0, Ordering::SeqCst);
    assert_refused(&harness, &mut client, "locked").await;
    harness.go_on(WEEK + 61).await;
    assert_eq!(locks().await, 1);
    harness.go_on(WEEK + 121).await;
    assert_eq!(locks().await, 0);
    harness.ahead.store(0, Ordering::SeqCst);
    renew(&mut client, 0).await.unwrap();
}

#[tokio::test]
async fn clock_that_jumps_ahead_removes_nothing_and_is_reported() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let mut client = client(&harness, &tpm, &held).await;
    let end = Timestamp(harness.authority.clock.now() + time::Duration::hours(12));
    harness.create(&lock("short", "user: bot-my-bot", &format!("  expires: {end}\n"))).await;
    harness.authority.prune().await;
    let warnings = async || {
        let mut admin = AdminServiceClient::new(harness.operator().await.channel);
        admin.status(StatusRequest {}).await.unwrap().into_inner().warnings
    };
    assert_eq!(warnings().await, [""; 0]);
    harness.ahead.store(365 * 24 * 3600, Ordering::SeqCst);
    for _ in 0..3 {
        harness.authority.prune().await;
    }
    let warned = warnings().await;
    assert!(warned.len() == 1 && warned[0].contains("is ahead"), "{warned:?}");
    assert!(harness.authority.metrics_text().contains("endorse_clock_implausible 1"));
    harness.ahead.store(0, Ordering::SeqCst);
    assert_refused(&harness, &mut client, "locked").await;
    harness.authority.prune().await;
    assert_eq!(warnings().await, [""; 0]);
    assert_eq!(harness.instances().await.len(), 1);
}

#[tokio::test]
async fn ca_that_is_not_valid_yet_is_reported() {
    let harness = Harness::new().await;
    harness.ahead.store(-2 * 24 * 3600, Ordering::SeqCst);
    let cause = harness.authority.health().await.certificates.unwrap_err();
    assert!(cause.contains("the X.509 CA is not valid before"), "{cause}");
    let mut admin = AdminServiceClient::new(harness.operator().await.channel);
    let warned = admin.status(StatusRequest {}).await.unwrap().into_inner().warnings;
    // The clock may be noticed as well.
    assert_eq!(warned.first(), Some(&cause));
}

#[tokio::test]
async fn a_lock_that_is_replaced_no_longer_holds_its_former_target() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let mut client = client(&harness, &tpm, &held).await;
    harness.create(&lock("one", "user: bot-my-bot", "")).await;
    assert_refused(&harness, &mut client, "locked").await;
    harness.create(&lock("one", "user: bot-other", "")).await;
    renew(&mut client, 0).await.unwrap();
    harness.create(&lock("one", "join_token: t", "")).await;
    assert_refused(&harness, &mut client, "locked").await;
    harness.authority.records.remove(Kind::Lock, "one", author()).await.unwrap();
    renew(&mut client, 0).await.unwrap();
}
