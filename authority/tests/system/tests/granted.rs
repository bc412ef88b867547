//! Joins that are granted, and what the host gets.

use std::process::Command;

use authority::resource::Name;
use p256::ecdsa::VerifyingKey;
use spki::DecodePublicKey;
use testkit::forge::Ca;
use testkit::simulated::SoftwareTpm;

use super::harness::{Harness, run};

#[tokio::test]
async fn a_tpm_that_is_allowed_by_its_hash_joins() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let result = harness.join(&tpm, "t").await.unwrap();
    assert_eq!((result.cluster.as_str(), result.bot.as_str()), ("test.example", "my-bot"));
    assert_eq!(result.x509_authorities, [harness.ca().to_vec()]);

    let dir = harness.dir.path();
    let (leaf, ca) = (dir.join("leaf.der"), dir.join("data/cluster/x509-ca.pem"));
    std::fs::write(&leaf, &result.certificates[0]).unwrap();
    run(Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile"])
        .arg(&ca)
        .arg(&leaf));
    let text = run(Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(&leaf));
    let text = String::from_utf8(text).unwrap();
    for part in [
        "O = access, O = dev, CN = my-bot, street = test.example, 1.3.9999.1.7 = test.example",
        "URI:spiffe://test.example/bot/my-bot",
    ] {
        assert!(text.contains(&part.replace("CN = my-bot", "CN = bot-my-bot")), "{text}");
    }
    // The key that is certified is the key that was proven.
    let public = run(Command::new("openssl").args(["x509", "-noout", "-pubkey", "-in"]).arg(&leaf));
    let public = VerifyingKey::from_public_key_pem(&String::from_utf8(public).unwrap()).unwrap();
    assert_eq!(public, *tpm.join_key.verifying_key());
    std::fs::write(dir.join("ssh.pub"), &result.ssh_certificate).unwrap();
    let ssh = run(Command::new("ssh-keygen").arg("-Lf").arg(dir.join("ssh.pub")));
    assert!(String::from_utf8(ssh).unwrap().contains("Key ID: \"bot-my-bot\""));
    let ca = std::fs::read_to_string(dir.join("data/cluster/ssh-ca.pub")).unwrap();
    assert_eq!(result.ssh_authorities, [ca.trim()]);
    let host_ca = std::fs::read_to_string(dir.join("data/cluster/ssh-host-ca.pub")).unwrap();
    assert_eq!(result.ssh_host_authorities, [host_ca.trim()]);

    let instances = harness.instances().await;
    assert_eq!(instances.len(), 1);
    assert_eq!(instances[0].spec.instance_id.to_string(), result.instance);
    assert_eq!(instances[0].status.ek.public_hash.as_str(), tpm.ek_hash());
    let audit = harness.audit();
    assert_eq!(audit.len(), 1);
    let line = &audit[0];
    for (field, value) in [
        ("event", "bot.join"),
        ("code", "TJ001I"),
        ("outcome", "granted"),
        ("token_name", "t"),
        ("bot_name", "my-bot"),
        ("method", "tpm"),
        ("hostname", "host-1"),
        ("bot_instance_id", &result.instance),
        ("ek_pub_hash", &tpm.ek_hash()),
        ("certificate_serial", &instances[0].status.certificate_serial),
    ] {
        assert_eq!(line[field], value, "{line:#}");
    }
    assert_eq!(line["ek_cert_verified"], false);
    assert_eq!(line["ek_proven"], true);
    assert!(line["addr.remote"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(line.get("ek_cert_serial").is_none() && line.get("refusal").is_none());
}

#[tokio::test]
async fn a_tpm_joins_by_the_serial_of_a_certificate_that_its_manufacturer_signed() {
    let (harness, mut tpm) = (Harness::new().await, SoftwareTpm::generate());
    let manufacturer = Ca::new("Some TPM CA");
    tpm.certify(&manufacturer, &[0xf3, 0xcd, 0x5f, 0x8e]);
    let rules = "- ek_certificate_serial: \"00:aa\"\n- ek_certificate_serial: \"F3:CD:5f:8e\"";
    harness.token("t", rules, &[&manufacturer.root().pem()]).await;
    harness.join(&tpm, "t").await.unwrap();
    let line = &harness.audit()[0];
    assert_eq!(line["ek_cert_serial"], "f3:cd:5f:8e");
    assert_eq!(line["ek_cert_verified"], true);
    assert_eq!(line["outcome"], "granted");
}

#[tokio::test]
async fn joins_are_instances_of_their_own_and_run_side_by_side() {
    let harness = std::sync::Arc::new(Harness::new().await);
    let tpm = std::sync::Arc::new(SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let joins: Vec<_> = (0..20)
        .map(|_| {
            let (harness, tpm) = (harness.clone(), tpm.clone());
            tokio::spawn(async move { harness.join(&tpm, "t").await.unwrap().instance })
        })
        .collect();
    let mut instances = std::collections::BTreeSet::new();
    for join in joins {
        instances.insert(join.await.unwrap());
    }
    assert_eq!(instances.len(), 20);
    assert_eq!(harness.instances().await.len(), 20);
    assert_eq!(harness.audit().len(), 20);
    let bot: Name = "my-bot".parse().unwrap();
    assert!(harness.instances().await.iter().all(|i| i.spec.bot_name == bot));
}

#[tokio::test]
async fn messages_after_the_answer_are_harmless() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let (wire, mut join, init, challenge) = harness.challenged(&tpm).await;
    join.answer(tpm.answer(&wire.exporter, &init, &challenge)).await;
    join.answer(tpm.answer(&wire.exporter, &init, &challenge)).await;
    join.init(&tpm.init("t")).await;
    join.result().await;
    assert_eq!(harness.audit().len(), 1);
    assert_eq!(harness.instances().await.len(), 1);
}
