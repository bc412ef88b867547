//! `authority explain`: its words for joins of all kinds, and what its evidence costs.

use std::process::Command;

use authority::store::{Change, Store, Table};
use proto::v1::join_init::Ek;
use serde_json::Value;
use testkit::forge::{self, Ca, Template};
use testkit::simulated::{SoftwareTpm, TeleportHost};

use super::harness::{Harness, token};
use super::teleport::identity;

/// The latest join of an authority, as `explain` says it: its exit code and its text.
async fn explained(harness: &Harness, format: &[&str]) -> (i32, String) {
    let line = harness.audit().into_iter().rfind(|line| line["event"] == "bot.join").unwrap();
    explained_join(harness, line["join_id"].as_str().unwrap(), format).await
}

async fn explained_join(harness: &Harness, id: &str, format: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_authority"));
    command.args(["explain", id, "--data-dir"]).arg(harness.dir.path().join("data")).args(format);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// The text without what is different each time.
fn normal(text: &str) -> String {
    let mut normal = String::new();
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.');
    for line in text.split_inclusive('\n') {
        let mut rest = line;
        while let Some(start) = rest.find(is_word) {
            let (before, tail) = rest.split_at(start);
            let end = tail.find(|c| !is_word(c)).unwrap_or(tail.len());
            let (word, after) = tail.split_at(end);
            let plain: String = word.chars().filter(|c| !matches!(c, '-' | ':')).collect();
            let is_hex = plain.len() >= 20 && plain.chars().all(|c| c.is_ascii_hexdigit());
            let is_time = word.ends_with('Z') && word.len() == 20;
            let is_address = word.starts_with("127.0.0.1:");
            let is_version = word == env!("CARGO_PKG_VERSION");
            normal.push_str(before);
            normal.push_str(match () {
                () if is_hex && word.contains('-') => "UUID",
                () if is_hex => "HEX",
                () if is_time => "TIME",
                () if is_address => "ADDRESS",
                () if is_version => "VERSION",
                () => word,
            });
            rest = after;
        }
        normal.push_str(rest);
    }
    normal
}

/// Checks what is said of the latest join against the file of this kind, which `UPDATE_WORDS=1` rewrites.
async fn assert_explained(harness: &Harness, kind: &str) {
    let (code, text) = explained(harness, &[]).await;
    let text = normal(&text);
    let name = kind.replace([',', '\''], "").replace(' ', "-");
    let path = format!("{}/tests/system/explained/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_WORDS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{kind}");
    assert_eq!(code, 0, "{text}");
}

async fn refused(harness: &Harness, tpm: &SoftwareTpm, token: &str) {
    let before = harness.audit().len();
    harness.join(tpm, token).await.unwrap_err();
    while harness.audit().len() <= before {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn join_by_the_hash_of_the_key() {
    let harness = Harness::new().await;
    harness.joined().await;
    assert_explained(&harness, "by hash").await;
}

#[tokio::test]
async fn join_by_certificate_serial_and_intermediate() {
    let (harness, mut tpm) = (Harness::new().await, SoftwareTpm::generate());
    let (root, issuer) = (Ca::new("Some TPM root"), Ca::new("Some TPM CA"));
    tpm.certify(&issuer, &[0xf3, 0xcd]);
    let rules = format!("- ek_public_hash: {}", tpm.ek_hash());
    harness.token("t", &rules, &[&issuer.root().pem()]).await;
    harness.join(&tpm, "t").await.unwrap();
    assert_explained(&harness, "by certificate").await;

    harness.token("t", "- ek_certificate_serial: \"f3:cd\"", &[&root.root().pem()]).await;
    let wire = harness.wire().await;
    let mut join = wire.join().await;
    let mut init = tpm.init("t");
    init.ek_chain = vec![root.certify(&issuer).der()];
    let init = join.init(&init).await;
    let challenge = join.challenge().await;
    join.answer(tpm.answer(&wire.exporter, &init, &challenge)).await;
    join.result().await;
    assert_explained(&harness, "by serial with an intermediate certificate").await;

    // Without the CA that it was verified with it is still shown; today it is refused.
    harness
        .token("t", "- ek_certificate_serial: \"f3:cd\"", &[&Ca::new("Other").root().pem()])
        .await;
    assert_explained(&harness, "by serial, the CA changed since").await;
}

#[tokio::test]
async fn join_whose_token_was_removed_and_whose_tpm_was_locked() {
    let harness = Harness::new().await;
    let (tpm, _) = harness.joined().await;
    let lock = "kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {user: bot-my-bot}, message: stolen}\n";
    harness.create(lock).await;
    assert_explained(&harness, "locked since").await;
    refused(&harness, &tpm, "t").await;
    assert_explained(&harness, "locked").await;

    let harness = Harness::new().await;
    harness.joined().await;
    let records = &harness.authority.records;
    records.remove(authority::resource::Kind::Token, "t", super::harness::author()).await.unwrap();
    assert_explained(&harness, "token removed since").await;
}

#[tokio::test]
async fn join_of_an_unknown_tpm_of_another_ca_and_with_an_expired_certificate() {
    let (harness, mut tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&SoftwareTpm::generate()).await;
    refused(&harness, &tpm, "t").await;
    assert_explained(&harness, "unknown EK").await;

    let manufacturer = Ca::new("Some TPM CA");
    tpm.certify(&Ca::new("Another TPM CA"), &[0x10]);
    harness.token("t", "- ek_certificate_serial: \"10\"", &[&manufacturer.root().pem()]).await;
    refused(&harness, &tpm, "t").await;
    assert_explained(&harness, "another CA").await;

    let expired = Template::ek(&tpm.ek_public()).issued_by(&manufacturer).with(|certificate| {
        certificate.serial = forge::unsigned(&[0x10]);
        certificate.not_before = forge::utc("200101000000Z");
        certificate.not_after = forge::utc("210101000000Z");
    });
    tpm.ek_certificate = Some(expired.der());
    refused(&harness, &tpm, "t").await;
    assert_explained(&harness, "expired certificate").await;
}

#[tokio::test]
async fn join_with_a_key_of_wrong_attributes_and_with_an_rsa_ek_that_does_not_answer() {
    let harness = Harness::new().await;
    let tpm = SoftwareTpm::generate();
    harness.allow(&tpm).await;
    let mut init = tpm.init("t");
    // sensitiveDataOrigin is not set: the key was imported.
    init.join_key[7] &= !0x20;
    let mut join = harness.wire().await.join().await;
    join.init(&init).await;
    join.reply().await.unwrap_err();
    harness.assert_refused("join_key_attributes").await;
    assert_explained(&harness, "key of wrong attributes").await;

    let spki = forge::rsa_spki(&forge::modulus("ek", 256), &[1, 0, 1]);
    let hash = base16ct::lower::encode_string(&<sha2::Sha256 as sha2::Digest>::digest(&spki));
    harness.create(&token("t", &format!("- ek_public_hash: {hash}"), &[])).await;
    let mut init = tpm.init("t");
    init.ek = Some(Ek::EkPublic(spki));
    let mut join = harness.wire().await.join().await;
    join.init(&init).await;
    join.challenge().await;
    join.answer(proto::v1::JoinAnswer { mac: vec![1; 32], signature: vec![2; 70] }).await;
    join.reply().await.unwrap_err();
    harness.assert_refused_after(1, "answer_wrong").await;
    assert_explained(&harness, "RSA EK, wrong answer").await;
}

#[tokio::test]
async fn join_by_teleports_protocol_and_again() {
    let (harness, tpm) = (Harness::new().await, SoftwareTpm::generate());
    harness.allow(&tpm).await;
    let host = TeleportHost::new(&tpm);
    let issued = host.join(&harness.wire().await, "t").await.unwrap();
    assert_explained(&harness, "by Teleport's protocol").await;
    let first = harness.audit()[0]["join_id"].clone();
    let again = harness.wire_as(Some(identity(&host, &issued.tls))).await;
    host.join(&again, "t").await.unwrap();
    assert_explained(&harness, "again by Teleport's protocol").await;
    // Of an instance the evidence of the latest join is kept.
    let (code, said) = explained_join(&harness, first.as_str().unwrap(), &[]).await;
    assert!(code == 1 && said.contains("no evidence of a join"), "{code} {said}");
}

#[tokio::test]
async fn evidence_that_was_changed_does_not_lead_to_the_result() {
    let harness = Harness::new().await;
    harness.joined().await;
    let line = harness.audit().pop().unwrap();
    let (_, text) = explained(&harness, &["--format", "json"]).await;
    let explanation: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["evidence_sha256"], explanation["evidence_sha256"]);
    assert_eq!(explanation["is_consistent"], true, "{text}");
    let id = harness.instance().await.status.join_id.unwrap().to_string();
    assert_eq!(line["join_id"], id);

    let record = harness.meanwhile.read(Table::Evidence, &id).await.unwrap().unwrap();
    let other = "A".repeat(43) + "=";
    for (pointer, value, failed) in [
        ("/challenge", other.as_str(), "answer: the MAC was not"),
        ("/exporter", &other, "answer: the MAC was not"),
        ("/answer/mac/mac", &other, "answer: the MAC was not"),
        ("/answer/mac/signature", &other, "signature: the join key has not signed this join"),
        ("/rule/ek_public_hash", &"a".repeat(64), "does not match this EK"),
    ] {
        let mut changed: Value = serde_json::from_slice(&record).unwrap();
        *changed.pointer_mut(pointer).unwrap() = value.into();
        let changed = serde_json::to_vec(&changed).unwrap();
        let change = Change::Put(Table::Evidence, id.clone(), changed);
        harness.meanwhile.write(vec![change]).await.unwrap();
        let (code, text) = explained(&harness, &[]).await;
        assert!(code == 1 && text.contains(failed), "{pointer}: {text}");
        assert!(text.contains("the evidence does not lead to the recorded result"), "{text}");
    }
}

#[tokio::test]
async fn evidence_is_small_and_goes_after_its_instance() {
    let harness = Harness::new().await;
    harness.joined().await;
    let id = harness.instance().await.status.join_id.unwrap();
    let found = harness.authority.records.evidence(id).await.unwrap().unwrap();
    let record = serde_json::to_vec(&found.evidence).unwrap();
    assert!(record.len() < 1400, "{}: {}", record.len(), String::from_utf8_lossy(&record));
    // As long as the instance renews, and a month after it joined.
    harness.go_on(20 * 86_400).await;
    assert_eq!(harness.instances().await, []);
    assert!(harness.authority.records.evidence(id).await.unwrap().is_some());
    harness.go_on(31 * 86_400).await;
    assert!(harness.authority.records.evidence(id).await.unwrap().is_none());
}
