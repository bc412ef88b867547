//! Claims that are refused, each with its own code, before anything is proven or issued.

use std::sync::atomic::Ordering;

use proto::v1::join_init::Ek;
use testkit::forge::{Ca, KEY_AGREEMENT, Template, dns_name, key_usage, seq, unsigned};
use testkit::simulated::SoftwareTpm;
use tonic::Code;

use super::harness::{BOT, Harness, author, token};

#[tokio::test]
async fn an_unknown_and_an_expired_token_look_the_same_from_outside() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    let unknown = harness.join(&tpm, "t").await.unwrap_err();
    let line = harness.assert_refused("token_unknown").await;
    assert_eq!((line["token_name"].as_str(), line.get("bot_name")), (Some("t"), None));

    let rules = format!("- ek_public_hash: {}", tpm.ek_hash());
    let expired =
        token("t", &rules, &[]).replace("name: t\n", "name: t\n  expires: 2020-01-01T00:00:00Z\n");
    harness.create(&expired).await;
    let expired = harness.join(&tpm, "t").await.unwrap_err();
    harness.assert_refused_after(1, "token_expired").await;
    assert_eq!(unknown.code(), Code::PermissionDenied);
    assert_eq!((unknown.code(), unknown.message()), (expired.code(), "token expired or not found"));
    assert_eq!(unknown.message(), expired.message());
}

#[tokio::test]
async fn a_name_that_no_token_can_have_is_an_unknown_token() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    for (index, name) in ["", "../x", "a\nb", &"x".repeat(5000)].into_iter().enumerate() {
        harness.join(&tpm, name).await.unwrap_err();
        let line = harness.assert_refused_after(index, "token_unknown").await;
        assert!(line.to_string().len() < 1500);
    }
}

#[tokio::test]
async fn a_token_for_others_lets_no_bot_in() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    let rules = format!("- ek_public_hash: {}", tpm.ek_hash());
    let node =
        token("t", &rules, &[]).replace("[Bot]", "[Node]").replace("  bot_name: my-bot\n", "");
    harness.create(&node).await;
    harness.join(&tpm, "t").await.unwrap_err();
    harness.assert_refused("token_role").await;
}

#[tokio::test]
async fn token_of_a_removed_bot_refuses_joins() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let (bot, kind) = ("my-bot", authority::resource::Kind::Bot);
    harness.authority.records.remove(kind, bot, author()).await.unwrap();
    harness.join(&tpm, "t").await.unwrap_err();
    harness.assert_refused("bot_unknown").await;

    harness.create(&BOT.replace("my-bot\n", "my-bot\n  expires: 2020-01-01T00:00:00Z\n")).await;
    harness.join(&tpm, "t").await.unwrap_err();
    harness.assert_refused_after(1, "bot_unknown").await;
}

#[tokio::test]
async fn a_resource_expires_while_a_connection_lives() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    let rules = format!("- ek_public_hash: {}", tpm.ek_hash());
    let token = token("t", &rules, &[]);
    harness.create(&token.replace("name: t\n", "name: t\n  expires: 2200-01-01T00:00:00Z\n")).await;
    let wire = harness.wire().await;
    harness.ahead.store(200 * 366 * 86_400, Ordering::SeqCst);
    let mut join = wire.join().await;
    join.init(&tpm.init("t")).await;
    join.reply().await.unwrap_err();
    harness.assert_refused("token_expired").await;
}

#[tokio::test]
async fn a_token_with_cas_demands_a_certificate() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    let manufacturer = Ca::new("Some TPM CA");
    let rules = format!("- ek_public_hash: {}", tpm.ek_hash());
    harness.token("t", &rules, &[&manufacturer.root().pem()]).await;
    let status = harness.join(&tpm, "t").await.unwrap_err();
    assert!(status.message().contains("did not provide an EKCert"));
    let line = harness.assert_refused("ek_certificate_missing").await;
    assert_eq!(line["ek_pub_hash"], tpm.ek_hash());
    assert_eq!(line["ek_cert_verified"], false);
}

#[tokio::test]
async fn another_ca_of_the_same_name_is_not_trusted() {
    let (harness, mut tpm) = (Harness::new().await, SoftwareTpm::generate());
    let ours = Ca::new("Some TPM CA");
    let other = ours.impostor("other");
    tpm.certify(&other, &[0x5e, 0xcd, 0x5f, 0x8e]);
    let rules = format!("- ek_public_hash: {}", tpm.ek_hash());
    harness.token("t", &rules, &[&ours.root().pem()]).await;
    harness.join(&tpm, "t").await.unwrap_err();
    let line = harness.assert_refused("ek_untrusted").await;
    assert_eq!(line["ek_cert_verified"], false);
    assert_eq!(line["ek_cert_serial"], "5e:cd:5f:8e");

    harness.token("t", &rules, &[&ours.root().pem(), &other.root().pem()]).await;
    harness.join(&tpm, "t").await.unwrap();
}

#[tokio::test]
async fn serial_of_another_issuer_is_not_admitted_where_the_rule_names_one() {
    let (harness, mut tpm) = (Harness::new().await, SoftwareTpm::generate());
    let [one, two] = ["One TPM CA", "Two TPM CA"].map(Ca::new);
    let rule = "- ek_certificate_serial: \"07\"\n  ek_certificate_issuer: CN=One TPM CA\n";
    harness.token("t", rule, &[&one.root().pem(), &two.root().pem()]).await;
    tpm.certify(&two, &[7]);
    harness.join(&tpm, "t").await.unwrap_err();
    harness.assert_refused("ek_not_allowed").await;

    tpm.certify(&one, &[7]);
    harness.join(&tpm, "t").await.unwrap();
    let ek = harness.instance().await.status.ek;
    assert_eq!(ek.certificate_issuer.unwrap().as_str(), "CN=One TPM CA");
}

#[tokio::test]
async fn certificate_for_any_purpose_is_no_ek_certificate_unless_the_token_says_so() {
    let (harness, mut tpm) = (Harness::new().await, SoftwareTpm::generate());
    let manufacturer = Ca::new("Some CA");
    // As a CA that also issues for servers would issue it for a key in software.
    let extensions = vec![key_usage(KEY_AGREEMENT), dns_name("host-1")];
    let server = Template::new(seq(&[]), tpm.ek_public(), extensions).issued_by(&manufacturer);
    tpm.ek_certificate = Some(server.with(|t| t.serial = unsigned(&[7])).der());
    let strict = token("t", "- ek_certificate_serial: \"07\"", &[&manufacturer.root().pem()]);
    harness.create(&strict).await;
    harness.join(&tpm, "t").await.unwrap_err();
    let line = harness.assert_refused("ek_untrusted").await;
    let reason = line["reason"].as_str().unwrap();
    assert!(reason.contains("is not marked as an EK certificate"), "{reason}");

    let lenient = "    ekcert_without_purpose: accepted\n    allow:\n";
    harness.create(&strict.replace("    allow:\n", lenient)).await;
    harness.join(&tpm, "t").await.unwrap();
}

#[tokio::test]
async fn unverified_ek_certificate_is_recorded_as_such() {
    let (harness, mut tpm) = (Harness::new().await, SoftwareTpm::generate());
    tpm.certify(&Ca::new("Other"), &[1]);
    harness.allow(&tpm).await;
    harness.join(&tpm, "t").await.unwrap();
    let line = &harness.audit()[0];
    assert_eq!((&line["ek_cert_serial"], &line["ek_cert_verified"]), (&"01".into(), &false.into()));
}

#[tokio::test]
async fn every_change_of_a_join_keys_public_area_is_refused() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let good = tpm.join_key_public();
    let mut cases: Vec<(Vec<u8>, &str)> = Vec::new();
    for bit in 0..32 {
        let mut changed = good.clone();
        changed[4 + bit / 8] ^= 1 << (bit % 8);
        // Bits that Part 2 reserves make the area no TPMT_PUBLIC for some readers; either way it is
        // no join key.
        cases.push((changed, "join_key_attributes"));
    }
    for length in 0..good.len() {
        cases.push((good[..length].to_vec(), "join_key_malformed"));
    }
    cases.push(([good.as_slice(), &[0]].concat(), "join_key_malformed"));
    let with = |at: usize, value: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + value.len()].copy_from_slice(value);
        changed
    };
    cases.push((with(2, &[0, 4]), "join_key_name_algorithm"));
    cases.push((with(2, &[0, 0x10]), "join_key_name_algorithm"));
    cases.push((with(good.len() - 1, &[good[good.len() - 1] ^ 1]), "join_key_malformed"));
    for (count, (join_key, code)) in cases.into_iter().enumerate() {
        // Each is recorded in full in a window of its own.
        harness.authority.record_last_refusals();
        let wire = harness.wire().await;
        let mut join = wire.join().await;
        join.init(&proto::v1::JoinInit { join_key, ..tpm.init("t") }).await;
        join.reply().await.unwrap_err();
        let lines = harness.audit();
        assert_eq!(lines.len(), count + 1);
        let refusal = lines[count]["refusal"].as_str().unwrap();
        let reserved = code == "join_key_attributes" && refusal == "join_key_malformed";
        assert!(refusal == code || reserved, "{code}: {:#}", lines[count]);
    }
    assert_eq!(harness.instances().await, []);
}

#[tokio::test]
async fn malformed_ek_is_refused() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let spki = tpm.ek_public();
    let mut cases = vec![
        (None, "malformed"),
        (Some(Ek::EkPublic(Vec::new())), "ek_malformed"),
        (Some(Ek::EkPublic([spki.as_slice(), &[0]].concat())), "ek_malformed"),
        (Some(Ek::EkPublic(spki[..spki.len() - 1].to_vec())), "ek_malformed"),
        (Some(Ek::EkCertificate(spki.clone())), "ek_malformed"),
        (Some(Ek::EkCertificate(harness.ca().to_vec())), "ek_untrusted"),
    ];
    let mut off_curve = spki;
    *off_curve.last_mut().unwrap() ^= 1;
    cases.push((Some(Ek::EkPublic(off_curve)), "ek_weak"));
    for (count, (ek, code)) in cases.into_iter().enumerate() {
        let wire = harness.wire().await;
        let mut join = wire.join().await;
        join.init(&proto::v1::JoinInit { ek, ..tpm.init("t") }).await;
        join.reply().await.unwrap_err();
        harness.assert_refused_after(count, code).await;
    }
}
