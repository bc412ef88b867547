//! Answers that prove nothing, and TPMs that prove themselves and are not allowed.

use std::time::Duration;

use proto::transcript::Transcript;
use proto::v1::JoinAnswer;
use testkit::forge::Ca;
use testkit::simulated::SoftwareTpm;
use tonic::Code;

use super::harness::Harness;

#[tokio::test]
async fn a_tpm_that_no_rule_names_is_refused_after_it_proved_itself() {
    let (harness, mut tpm) = (Harness::new().await, SoftwareTpm::generate());
    let manufacturer = Ca::new("Some TPM CA");
    tpm.certify(&manufacturer, &[0x5e, 0xcd, 0x5f, 0x8e]);
    let hash = tpm.ek_hash();
    let other = SoftwareTpm::generate().ek_hash();
    let cases = [
        format!("- ek_public_hash: {other}"),
        "- ek_certificate_serial: \"5e:cd:5f:8f\"".into(),
        format!("- ek_public_hash: {hash}\n  ek_certificate_serial: \"5e:cd:5f:8f\""),
        format!("- ek_public_hash: {other}\n  ek_certificate_serial: \"5e:cd:5f:8e\""),
    ];
    for (count, rules) in cases.iter().enumerate() {
        harness.token("t", rules, &[&manufacturer.root().pem()]).await;
        let status = harness.join(&tpm, "t").await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(status.message(), "validated tpm attributes did not match any allow rules");
        let line = harness.assert_refused_after(count, "ek_not_allowed").await;
        assert_eq!(line["ek_proven"], true);
        assert_eq!(line["ek_pub_hash"], hash);
    }
    let both = format!("- ek_public_hash: {hash}\n  ek_certificate_serial: \"5e:cd:5f:8e\"");
    harness.token("t", &both, &[&manufacturer.root().pem()]).await;
    harness.join(&tpm, "t").await.unwrap();
}

#[tokio::test]
async fn the_certificate_of_another_tpm_opens_nothing() {
    let (harness, mut tpm, mut other) =
        (Harness::new().await, SoftwareTpm::generate(), SoftwareTpm::generate());
    let manufacturer = Ca::new("Some TPM CA");
    other.certify(&manufacturer, &[7]);
    tpm.ek_certificate.clone_from(&other.ek_certificate);
    let rules = format!("- ek_public_hash: {}", other.ek_hash());
    harness.token("t", &rules, &[&manufacturer.root().pem()]).await;
    let (wire, mut join, init, challenge) = harness.challenged(&tpm).await;
    assert_eq!(tpm.activate(&challenge, &tpm.join_key_public()), None);
    // It guesses, since it has to say something.
    let transcript = Transcript::new(
        &wire.exporter,
        &init,
        &challenge.credential_blob,
        &challenge.encrypted_seed,
    );
    let mac = transcript.mac(&[0; 32]).to_vec();
    join.answer(JoinAnswer { mac, signature: tpm.sign(&transcript) }).await;
    join.reply().await.unwrap_err();
    let line = harness.assert_refused("answer_wrong").await;
    assert_eq!(line["ek_proven"], false);
    assert_eq!(line["ek_cert_verified"], true);
}

#[tokio::test]
async fn the_credential_opens_only_for_the_key_that_was_named() {
    let (harness, tpm, other) =
        (Harness::new().await, SoftwareTpm::generate(), SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let (_, _join, _, challenge) = harness.challenged(&tpm).await;
    assert!(tpm.activate(&challenge, &tpm.join_key_public()).is_some());
    assert_eq!(tpm.activate(&challenge, &other.join_key_public()), None);
}

#[tokio::test]
async fn wrong_mac_and_wrong_signature_have_different_refusal_codes() {
    let (harness, tpm, other) =
        (Harness::new().await, SoftwareTpm::generate(), SoftwareTpm::generate());
    harness.allow(&tpm).await;
    type Spoil = fn(&mut JoinAnswer, &SoftwareTpm, &Transcript);
    let cases: [(Spoil, &str); 9] = [
        (|answer, _, _| answer.mac[0] ^= 1, "answer_wrong"),
        (|answer, _, _| answer.mac[31] ^= 0x80, "answer_wrong"),
        (|answer, _, _| answer.mac.clear(), "answer_wrong"),
        (|answer, _, _| answer.mac.truncate(31), "answer_wrong"),
        (|answer, _, _| answer.mac.push(0), "answer_wrong"),
        (|answer, _, _| answer.signature.clear(), "signature_wrong"),
        (|answer, _, _| answer.signature.push(0), "signature_wrong"),
        (|answer, _, _| *answer.signature.last_mut().unwrap() ^= 1, "signature_wrong"),
        (|answer, other, transcript| answer.signature = other.sign(transcript), "signature_wrong"),
    ];
    for (count, (spoil, code)) in cases.into_iter().enumerate() {
        let (wire, mut join, init, challenge) = harness.challenged(&tpm).await;
        let transcript = Transcript::new(
            &wire.exporter,
            &init,
            &challenge.credential_blob,
            &challenge.encrypted_seed,
        );
        let mut answer = tpm.answer(&wire.exporter, &init, &challenge);
        spoil(&mut answer, &other, &transcript);
        join.answer(answer).await;
        assert_eq!(join.reply().await.unwrap_err().code(), Code::PermissionDenied);
        let line = harness.assert_refused_after(count, code).await;
        assert_eq!(line["ek_proven"], code == "signature_wrong");
    }
}

#[tokio::test]
async fn an_answer_is_worth_nothing_for_another_challenge() {
    let harness = Harness::new().await;
    // A known host: a connection without a certificate gets one challenge.
    let (tpm, held) = harness.joined().await;
    let wire = harness.wire_as(Some(tpm.identity(&held))).await;
    let (mut first, mut second) = (wire.join().await, wire.join().await);
    let init = first.init(&tpm.init("t")).await;
    second.init(&tpm.init("t")).await;
    let (one, two) = (first.challenge().await, second.challenge().await);
    assert_ne!(one, two);
    let answer = tpm.answer(&wire.exporter, &init, &one);
    second.answer(answer.clone()).await;
    second.reply().await.unwrap_err();
    harness.assert_last("bot.join", Some("answer_wrong"));
    first.answer(answer.clone()).await;
    first.result().await;

    // Replayed on the same connection, after it was good once.
    let mut third = wire.join().await;
    third.init(&tpm.init("t")).await;
    third.challenge().await;
    third.answer(answer).await;
    third.reply().await.unwrap_err();
    harness.assert_last("bot.join", Some("answer_wrong"));
    assert_eq!(harness.instances().await.len(), 2);
}

#[tokio::test]
async fn connection_without_a_certificate_gets_one_challenge() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let (wire, _first, ..) = harness.challenged(&tpm).await;
    let mut second = wire.join().await;
    second.init(&tpm.init("t")).await;
    assert_eq!(second.reply().await.unwrap_err().code(), Code::PermissionDenied);
    harness.assert_refused("effort_spent").await;
}

#[tokio::test]
async fn an_answer_is_worth_nothing_on_another_connection() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    // In the middle sits one who has his own connection to the authority and passes the challenge
    // on.
    let (_, mut join, init, challenge) = harness.challenged(&tpm).await;
    let elsewhere = harness.wire().await;
    join.answer(tpm.answer(&elsewhere.exporter, &init, &challenge)).await;
    join.reply().await.unwrap_err();
    harness.assert_refused("answer_wrong").await;
}

#[tokio::test]
async fn an_answer_covers_what_was_said_before() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let (wire, mut join, init, challenge) = harness.challenged(&tpm).await;
    let said = String::from_utf8_lossy(&init).replace("host-1", "host-2");
    assert_ne!(said.as_bytes(), init);
    join.answer(tpm.answer(&wire.exporter, said.as_bytes(), &challenge)).await;
    join.reply().await.unwrap_err();
    harness.assert_refused("answer_wrong").await;
}

#[tokio::test]
async fn late_answer_is_refused() {
    let harness = Harness::with_timeout(Duration::from_millis(300)).await;
    let tpm = SoftwareTpm::generate();
    harness.allow(&tpm).await;
    let (wire, mut join, init, challenge) = harness.challenged(&tpm).await;
    let answer = tpm.answer(&wire.exporter, &init, &challenge);
    tokio::time::sleep(Duration::from_millis(400)).await;
    join.answer(answer).await;
    assert_eq!(join.reply().await.unwrap_err().code(), Code::DeadlineExceeded);
    harness.assert_refused("answer_late").await;

    // The time runs from the beginning, not from the challenge.
    let mut silent = wire.join().await;
    assert_eq!(silent.reply().await.unwrap_err().code(), Code::DeadlineExceeded);
    harness.assert_refused_after(1, "answer_late").await;
}

#[tokio::test]
async fn abandoned_join_is_recorded() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let (_wire, mut join, _, _) = harness.challenged(&tpm).await;
    join.finish();
    assert_eq!(join.reply().await.unwrap_err().code(), Code::Cancelled);
    harness.assert_refused("abandoned").await;
    // The whole connection gone.
    let (wire, join, _, _) = harness.challenged(&tpm).await;
    drop((wire, join));
    harness.assert_refused_after(1, "abandoned").await;
}
