//! Renewals: what is granted, and everything by which they end.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::Ordering;

use authority::issue::{CaKey, Keys, Profile, Ttl, Validity, X509Ca};
use authority::resource::Kind;
use p256::ecdsa::SigningKey;
use p256::elliptic_curve::Generate;
use proto::v1::identity_service_client::IdentityServiceClient;
use proto::v1::{IssuedCredentials, RenewRequest, WhoAmIRequest};
use testkit::forge::Ca;
use testkit::simulated::{SoftwareTpm, TIMEOUT, identity};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::harness::{Harness, author, run, token};

pub(crate) type Client = IdentityServiceClient<Channel>;

pub(crate) async fn client(
    harness: &Harness,
    tpm: &SoftwareTpm,
    held: &IssuedCredentials,
) -> Client {
    IdentityServiceClient::new(harness.wire_as(Some(tpm.identity(held))).await.channel)
}

pub(crate) async fn renew(
    client: &mut Client,
    ttl_seconds: i64,
) -> Result<IssuedCredentials, Status> {
    let request = RenewRequest {
        ttl_seconds,
        hostname: "host-2".into(),
        agent_version: "next".into(),
        trust_version: 3,
    };
    client.renew(request).await.map(tonic::Response::into_inner)
}

/// The renewal is refused, in the audit log too, and nothing has changed.
pub(crate) async fn assert_refused(harness: &Harness, client: &mut Client, code: &str) -> Status {
    let before = harness.instances().await;
    let status = renew(client, 0).await.unwrap_err();
    let line = harness.assert_last("bot.renew", Some(code));
    assert_eq!(line["code"], "EN001E");
    assert_eq!(line["certificate_serial"], serde_json::Value::Null);
    assert_eq!(harness.instances().await, before);
    status
}

#[tokio::test]
async fn a_renewal_keeps_key_and_instance_and_counts() {
    let harness = Harness::new().await;
    let (tpm, first) = harness.joined().await;
    assert_eq!(first.generation, 1);
    let version = harness.authority.issuer.keyring().keys().chain.version();
    assert_eq!((first.trust_version, version > 0), (version, true));
    assert_eq!(harness.instance().await.status.trust_version, version);
    let mut held = first.clone();
    let mut serials = BTreeSet::from([harness.instance().await.status.certificate_serial]);
    for generation in 2..5 {
        let mut client = client(&harness, &tpm, &held).await;
        held = renew(&mut client, 7200).await.unwrap();
        assert_eq!((held.generation, &held.instance), (generation, &first.instance));
        assert_eq!((&held.cluster, &held.bot), (&first.cluster, &first.bot));
        assert_eq!(held.not_after - held.not_before, 7200 + 360);
        assert_ne!(held.certificates, first.certificates);
        let entry = harness.assert_last_brief("bot.renew").await;
        assert_eq!((&entry["code"], &entry["outcome"]), (&"EN001I".into(), &"granted".into()));
        assert_eq!(entry["generation"], generation);
        assert_eq!((&entry["bot_name"], &entry["key_location"]), (&"my-bot".into(), &"tpm".into()));
        assert_eq!(entry["bot_instance_id"], first.instance);
        let instance = harness.instance().await;
        assert_eq!(instance.status.generation, generation);
        assert_eq!(instance.status.hostname, "host-2");
        assert_eq!(instance.status.agent_version, "next");
        // What the host says it has, not what it is sent.
        assert_eq!(instance.status.trust_version, 3);
        assert!(serials.insert(instance.status.certificate_serial.clone()));
        assert!(instance.status.renewed.unwrap() >= instance.status.joined);
        assert_eq!(instance.metadata.expires.unwrap().0.unix_timestamp(), held.not_after);
    }
    let dir = harness.dir.path();
    std::fs::write(dir.join("leaf.der"), &held.certificates[0]).unwrap();
    run(Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile"])
        .arg(dir.join("data/cluster/x509-ca.pem"))
        .arg(dir.join("leaf.der")));
    std::fs::write(dir.join("ssh.pub"), &held.ssh_certificate).unwrap();
    run(Command::new("ssh-keygen").arg("-Lf").arg(dir.join("ssh.pub")));
    let spki = |der: &[u8]| {
        use der::{Decode, Encode};
        let certificate = x509_cert::Certificate::from_der(der).unwrap();
        certificate.tbs_certificate().subject_public_key_info().to_der().unwrap()
    };
    assert_eq!(spki(&held.certificates[0]), spki(&first.certificates[0]));
}

#[tokio::test]
async fn an_answer_that_was_lost_does_not_lock_the_host_out() {
    let harness = Harness::new().await;
    let (tpm, first) = harness.joined().await;
    let mut client = client(&harness, &tpm, &first).await;
    for generation in 2..6 {
        // Always with the first certificate.
        assert_eq!(renew(&mut client, 0).await.unwrap().generation, generation);
    }
}

#[tokio::test]
async fn renewals_at_the_same_time_are_one_after_the_other() {
    let harness = Harness::new().await;
    let (tpm, first) = harness.joined().await;
    let client = client(&harness, &tpm, &first).await;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { renew(&mut client, 0).await })
        })
        .collect();
    let mut generations = Vec::new();
    for call in calls {
        match call.await.unwrap() {
            Ok(issued) => generations.push(issued.generation),
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
        }
    }
    generations.sort_unstable();
    let expected: Vec<u64> = (2..2 + generations.len() as u64).collect();
    assert!(!generations.is_empty() && generations == expected, "{generations:?}");
    assert_eq!(harness.instance().await.status.generation, generations.len() as u64 + 1);
}

#[tokio::test]
async fn of_many_renewals_at_the_same_time_few_wait_and_the_others_are_refused() {
    let harness = Harness::new().await;
    let (tpm, first) = harness.joined().await;
    let mut client = client(&harness, &tpm, &first).await;
    let (sender, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let (back, returned) = tokio::sync::oneshot::channel();
    let others = client.clone();
    harness.meanwhile.set(Box::new(move |_| {
        Box::pin(async move {
            for _ in 0..6 {
                let (mut client, sender) = (others.clone(), sender.clone());
                tokio::spawn(async move { sender.send(renew(&mut client, 0).await).unwrap() });
            }
            drop(sender);
            // Four wait for this one.
            for _ in 0..2 {
                let end = timeout(TIMEOUT, ends.recv()).await.unwrap().unwrap();
                assert_eq!(end.unwrap_err().code(), Code::ResourceExhausted);
            }
            back.send(ends).unwrap();
        })
    }));
    assert_eq!(renew(&mut client, 0).await.unwrap().generation, 2);
    let mut ends = returned.await.unwrap();
    let mut generations = Vec::new();
    while let Some(end) = timeout(TIMEOUT, ends.recv()).await.unwrap() {
        generations.push(end.unwrap().generation);
    }
    generations.sort_unstable();
    assert_eq!(generations, [3, 4, 5, 6]);
    renew(&mut client, 0).await.unwrap();
}

#[tokio::test]
async fn a_token_that_no_longer_lets_the_tpm_in_ends_renewals() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let mut client = client(&harness, &tpm, &held).await;
    let records = &harness.authority.records;
    let rule = format!("- ek_public_hash: {}", tpm.ek_hash());
    let sound = token("t", &rule, &[]);
    let manufacturer = Ca::new("Some TPM CA");

    let other = token("t", &format!("- ek_public_hash: {}", "ab".repeat(32)), &[]);
    let expired = sound.replace("name: t\n", "name: t\n  expires: 2020-01-01T00:00:00Z\n");
    let stranger = sound.replace("bot_name: my-bot", "bot_name: stranger");
    let node = sound.replace("[Bot]", "[Node]").replace("  bot_name: my-bot\n", "");
    let with_cas = token("t", &rule, &[&manufacturer.root().pem()]);
    for (yaml, refusal, code) in [
        (other, "ek_not_allowed", Code::PermissionDenied),
        (expired, "token_expired", Code::PermissionDenied),
        (stranger, "token_bot", Code::PermissionDenied),
        (node, "token_role", Code::PermissionDenied),
        (with_cas, "evidence_outdated", Code::Unauthenticated),
    ] {
        harness.create(&yaml).await;
        let status = assert_refused(&harness, &mut client, refusal).await;
        assert_eq!(status.code(), code, "{refusal}");
        assert_eq!(status.message().contains("is for another bot now"), refusal == "token_bot");
        harness.create(&sound).await;
        renew(&mut client, 0).await.unwrap();
    }
    records.remove(Kind::Token, "t", author()).await.unwrap();
    let status = assert_refused(&harness, &mut client, "token_unknown").await;
    assert_eq!(status.message(), "token expired or not found");
    // Who it is, it may still ask.
    client.who_am_i(WhoAmIRequest {}).await.unwrap();
    harness.create(&sound).await;
    renew(&mut client, 0).await.unwrap();
}

#[tokio::test]
async fn renewal_uses_the_recorded_ek_verdict_and_the_present_cas() {
    let (harness, mut tpm) = (Harness::new().await, SoftwareTpm::generate());
    let (ours, theirs) = (Ca::new("Our CA"), Ca::new("Their CA"));
    tpm.certify(&ours, &[0x5e, 0xcd]);
    let rule = "- ek_certificate_serial: \"5e:cd\"";
    harness.token("t", rule, &[&ours.root().pem()]).await;
    let held = harness.join(&tpm, "t").await.unwrap();
    let mut client = client(&harness, &tpm, &held).await;
    renew(&mut client, 0).await.unwrap();
    harness.token("t", rule, &[&theirs.root().pem()]).await;
    let status = assert_refused(&harness, &mut client, "evidence_outdated").await;
    assert_eq!(status.code(), Code::Unauthenticated);
    harness.token("t", rule, &[&theirs.root().pem(), &ours.root().pem()]).await;
    renew(&mut client, 0).await.unwrap();
    harness.token("t", "- ek_certificate_serial: \"5e:ce\"", &[&ours.root().pem()]).await;
    assert_refused(&harness, &mut client, "ek_not_allowed").await;
}

#[tokio::test]
async fn a_bot_or_an_instance_that_was_removed_does_not_come_back() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let mut client = client(&harness, &tpm, &held).await;
    let records = &harness.authority.records;
    records.remove(Kind::Bot, "my-bot", author()).await.unwrap();
    let status = assert_refused(&harness, &mut client, "bot_unknown").await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(client.who_am_i(WhoAmIRequest {}).await.unwrap_err().code(), status.code());
    // A new bot of that name is another one.
    harness.create(super::harness::BOT).await;
    let status = assert_refused(&harness, &mut client, "instance_unknown").await;
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.message(), "unauthenticated: bot instance not found");
    assert_eq!(client.who_am_i(WhoAmIRequest {}).await.unwrap_err().code(), status.code());

    let held = harness.join(&tpm, "t").await.unwrap();
    let mut client = self::client(&harness, &tpm, &held).await;
    renew(&mut client, 0).await.unwrap();
    let path = harness.instance().await.path();
    records.remove(Kind::BotInstance, &path, author()).await.unwrap();
    assert_refused(&harness, &mut client, "instance_unknown").await;
}

#[tokio::test]
async fn an_expired_certificate_renews_nothing_though_the_connection_lives() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let mut client = client(&harness, &tpm, &held).await;
    harness.ahead.store(3601, Ordering::SeqCst);
    let status = assert_refused(&harness, &mut client, "certificate_expired").await;
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_certificate_of_the_cluster_for_another_key_is_not_the_instance() {
    let harness = Harness::new().await;
    let (_, held) = harness.joined().await;
    let bot = harness.authority.records.bot(&"my-bot".parse().unwrap()).await.unwrap().unwrap();
    let instance = harness.instance().await;
    let key = SigningKey::generate();
    let now = harness.authority.clock.now();
    let validity = Validity { now, ttl: Ttl::default() };
    let public = key.verifying_key().into();
    let issuer = &harness.authority.issuer;
    let forged =
        issuer.credentials(&bot, &instance, Profile::identity(2), &public, validity).unwrap();
    let forged = IssuedCredentials { certificates: vec![forged.x509.to_vec()], ..held };
    let wire = harness.wire_as(Some(identity(&key, &forged))).await;
    let mut client = IdentityServiceClient::new(wire.channel);
    assert_refused(&harness, &mut client, "instance_unknown").await;
}

#[tokio::test]
async fn a_time_to_live_that_makes_no_sense_is_refused() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let mut client = client(&harness, &tpm, &held).await;
    assert_eq!(renew(&mut client, -1).await.unwrap_err().code(), Code::InvalidArgument);
    harness.assert_last("bot.renew", Some("malformed"));
    let issued = renew(&mut client, i64::MAX).await.unwrap();
    assert_eq!(issued.not_after - issued.not_before, 12 * 3600 + 360);

    let wire = harness.wire().await;
    let mut join = wire.join().await;
    join.init(&proto::v1::JoinInit { ttl_seconds: -1, ..tpm.init("t") }).await;
    assert_eq!(join.reply().await.unwrap_err().code(), Code::InvalidArgument);
    let mut join = wire.join().await;
    let init = join.init(&proto::v1::JoinInit { ttl_seconds: 120, ..tpm.init("t") }).await;
    let challenge = join.challenge().await;
    join.answer(tpm.answer(&wire.exporter, &init, &challenge)).await;
    let issued = join.result().await;
    assert_eq!(issued.not_after - issued.not_before, 120 + 60);
}

#[tokio::test]
async fn malformed_part_is_recorded_with_its_sender_and_hides_no_other_refusal() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let mut known = client(&harness, &tpm, &held).await;
    renew(&mut known, -1).await.unwrap_err();
    let line = harness.assert_last("bot.renew", Some("malformed"));
    assert_eq!(line["bot_instance_id"], held.instance.as_str());
    assert_eq!((&line["token_name"], &line["hostname"]), (&"t".into(), &"host-2".into()));

    let wire = harness.wire().await;
    let mut unknown = IdentityServiceClient::new(wire.channel.clone());
    assert_eq!(renew(&mut unknown, -1).await.unwrap_err().code(), Code::Unauthenticated);
    harness.assert_last("bot.renew", Some("certificate_missing"));

    for (token, refusal) in [("t", "malformed"), ("absent", "token_unknown")] {
        let mut join = harness.wire().await.join().await;
        join.init(&proto::v1::JoinInit { ek: None, ..tpm.init(token) }).await;
        join.reply().await.unwrap_err();
        let line = harness.assert_last("bot.join", Some(refusal));
        assert_eq!(line["token_name"], token);
        assert_eq!(line["bot_name"].is_null(), token == "absent");
    }
}

#[tokio::test]
async fn only_expired_records_are_removed() {
    let harness = Harness::new().await;
    let (tpm, first) = harness.joined().await;
    let mut client = client(&harness, &tpm, &first).await;
    renew(&mut client, 3 * 3600).await.unwrap();
    let second = harness.join(&tpm, "t").await.unwrap();
    let left = async |ahead| {
        harness.go_on(ahead).await;
        let all = harness.instances().await;
        all.iter().map(|one| one.spec.instance_id.to_string()).collect::<Vec<_>>()
    };
    const WEEK: i64 = 7 * 24 * 3600;
    assert_eq!(left(0).await.len(), 2);
    assert_eq!(left(WEEK + 3590).await.len(), 2);
    assert_eq!(left(WEEK + 3605).await, [first.instance], "{} has ended", second.instance);
    assert_eq!(left(WEEK + 3 * 3600 + 5).await, [""; 0]);
}

#[tokio::test]
async fn host_of_the_ca_of_before_is_served_when_another_one_signs() {
    let harness = Harness::new().await;
    let (tpm, held) = harness.joined().await;
    let (issuer, now) = (&harness.authority.issuer, harness.authority.clock.now());
    let next = X509Ca::create(issuer.cluster(), CaKey::generate().unwrap(), now).unwrap();
    let keys = Keys::clone(&issuer.keyring().keys());
    let x509 = keys.x509.with_next(next, now).activated(now);
    issuer.keyring().replace(Keys { x509, ..keys }).unwrap();
    // The authority's own certificate was issued in this minute. It begins a minute before its time,
    // and the client goes by the system's clock.
    harness.ahead.fetch_add(60, Ordering::SeqCst);

    // The client trusts the new CA alone: the server shows a certificate of it.
    let mut old = client(&harness, &tpm, &held).await;
    let renewed = renew(&mut old, 0).await.unwrap();
    assert_eq!(renewed.x509_authorities.len(), 2);
    assert_eq!(renewed.x509_authorities[0], harness.ca().to_vec());
    let mut new = client(&harness, &tpm, &renewed).await;
    renew(&mut new, 0).await.unwrap();
}
