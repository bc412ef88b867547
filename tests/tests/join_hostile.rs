//! Hosts that lie, with a real TPM at hand: each lie has its code, its line in the audit log, and gains nothing.

use std::time::Duration;

use agent::tpm::attester::{Attester, KeysToMake};
use agent::tpm::inventory::EkChoice;
use agent::tpm::passwords::Passwords;
use anyhow::{Context, Result, ensure};
use p256::ecdsa::SigningKey;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use proto::transcript::Transcript;
use proto::v1::join_init::Ek;
use proto::v1::join_request::Step;
use proto::v1::{JoinAnswer, JoinInit, JoinRequest};
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use tests::programs;
use tests::tpm::{client, ek_kind, persistent_ek, satisfy};
use tests::wire::{Host, Wire, claim, encoded};
use tests::world::World;
use tpm2::commands::{ActivateCredential, LoadExternal};
use tpm2::crypto::{make_credential, object_name};
use tpm2::session::{Auth, Encryption};
use tpm2::types::*;
use tpm2::wire::{Marshal, Tpm2b, Writer};
use verifier::{JOIN_KEY_ATTRIBUTES, JoinKey};

const UNIQUE: [u8; 32] = [3; 32];

/// A world whose token `t` lets a TPM in by its hash.
fn world(kind: Kind, arguments: &[&str]) -> Result<(World, Swtpm)> {
    let swtpm = Factory::shared().tpm(Maker::Vendor, kind)?.start()?;
    let world = World::with(programs!(), arguments)?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    Ok((world, swtpm))
}

/// An answer by a host that does not know the secret.
fn guess(host: &mut Host, transcript: &Transcript) -> Result<JoinAnswer> {
    let signature = host.sign(transcript)?;
    Ok(JoinAnswer { mac: transcript.mac(&[0; 32]).to_vec(), signature })
}

type Spoil = fn(&mut JoinAnswer);

const SPOILS: [(Spoil, &str); 9] = [
    (|answer| answer.mac[0] ^= 1, "answer_wrong"),
    (|answer| answer.mac[31] ^= 0x80, "answer_wrong"),
    (|answer| answer.mac.clear(), "answer_wrong"),
    (|answer| answer.mac.truncate(31), "answer_wrong"),
    (|answer| answer.mac.push(0), "answer_wrong"),
    (|answer| answer.signature.clear(), "signature_wrong"),
    (|answer| answer.signature.push(0), "signature_wrong"),
    (|answer| answer.signature[9] ^= 1, "signature_wrong"),
    (|answer| answer.signature.truncate(answer.signature.len() - 1), "signature_wrong"),
];

#[tokio::test(flavor = "multi_thread")]
async fn wrong_answer_is_refused() -> Result<()> {
    let (world, swtpm) = world(Kind::P256, &[])?;
    for (spoil, code) in SPOILS {
        let mut host = Host::new(&swtpm, &UNIQUE)?;
        let wire = Wire::open(&world).await?;
        let init = encoded(&host.init("t"));
        let (mut call, challenge) = wire.challenged(&init).await?;
        let mut answer = host.answer(&wire.transcript(&init, &challenge), &challenge)?;
        spoil(&mut answer);
        call.send(Step::Answer(answer)).await;
        call.refusal().await?;
        let event = world.refused(code)?;
        ensure!(event["ek_proven"] == (code == "signature_wrong"), "{event:#}");
    }
    assert_eq!(world.instances()?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_gets_one_challenge_whose_answer_is_used_once() -> Result<()> {
    let (world, swtpm) = world(Kind::P256, &[])?;
    let mut host = Host::new(&swtpm, &UNIQUE)?;
    let wire = Wire::open(&world).await?;
    let init = encoded(&host.init("t"));
    let (mut first, challenge) = wire.challenged(&init).await?;
    let answer = host.answer(&wire.transcript(&init, &challenge), &challenge)?;
    first.send(Step::Answer(answer)).await;
    first.granted().await?;
    world.granted()?;

    // Nothing is left on this connection that the same answer could be sent for.
    let mut second = wire.call().await?;
    second.send(Step::Init(init)).await;
    second.refusal().await?;
    world.refused("effort_spent")?;
    assert_eq!(world.instances()?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_for_another_connection() -> Result<()> {
    let (world, swtpm) = world(Kind::P256, &[])?;
    let mut host = Host::new(&swtpm, &UNIQUE)?;
    // One in the middle has his own connection to the authority and passes the challenge on to an honest host.
    let (his, honest) = (Wire::open(&world).await?, Wire::open(&world).await?);
    assert_ne!(his.exporter, honest.exporter);
    let init = encoded(&host.init("t"));
    let (mut call, challenge) = his.challenged(&init).await?;
    let answer = host.answer(&honest.transcript(&init, &challenge), &challenge)?;
    call.send(Step::Answer(answer)).await;
    call.refusal().await?;
    world.refused("answer_wrong")?;
    assert_eq!(world.instances()?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn late_and_missing_answers_are_refused() -> Result<()> {
    let (world, swtpm) = world(Kind::P256, &["--join-timeout", "1s"])?;
    let mut host = Host::new(&swtpm, &UNIQUE)?;
    let wire = Wire::open(&world).await?;
    let init = encoded(&host.init("t"));
    let (mut call, challenge) = wire.challenged(&init).await?;
    let answer = host.answer(&wire.transcript(&init, &challenge), &challenge)?;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    call.send(Step::Answer(answer)).await;
    call.refusal().await?;
    world.refused("answer_late")?;
    let wire = Wire::open(&world).await?;
    let (call, _) = wire.challenged(&init).await?;
    drop(call);
    world.refused("abandoned")?;
    assert_eq!(world.instances()?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_another_tpm() -> Result<()> {
    let (world, swtpm) = world(Kind::RsaAndP384, &[])?;
    let made = Factory::shared().unit(Maker::Vendor, Kind::RsaAndP384, 1)?;
    let victim = made.start()?;
    world.allow("t", &world.rule(&victim.tcti())?, &[made.ca().issuer_pem()])?;
    let mut theirs = client(&victim)?;
    let theirs = Attester::prepare(
        &mut theirs,
        EkChoice::Auto,
        None,
        &Passwords::default(),
        KeysToMake::only(&UNIQUE),
    )?;

    let mut host = Host::new(&swtpm, &UNIQUE)?;
    let init = encoded(&JoinInit { ek: Some(claim(theirs.ek())), ..host.init("t") });
    let wire = Wire::open(&world).await?;
    let (mut call, challenge) = wire.challenged(&init).await?;
    let error = host.activate(&challenge).unwrap_err().to_string();
    assert!(error.contains("for another TPM or another key of it"), "{error}");
    call.send(Step::Answer(guess(&mut host, &wire.transcript(&init, &challenge))?)).await;
    call.refusal().await?;
    let event = world.refused("answer_wrong")?;
    assert_eq!(event["ek_cert_verified"], true, "the certificate was a good one");
    assert_eq!(event["ek_proven"], false);
    assert_eq!(world.instances()?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_another_key_of_the_same_tpm() -> Result<()> {
    let (world, swtpm) = world(Kind::P256, &[])?;
    let mut host = Host::new(&swtpm, &UNIQUE)?;
    let join_key = host.attester.join_key().public().to_vec();
    drop(host);
    host = Host::new(&swtpm, &[4; 32])?;
    let wire = Wire::open(&world).await?;
    let init = encoded(&JoinInit { join_key, ..host.init("t") });
    let (mut call, challenge) = wire.challenged(&init).await?;
    host.activate(&challenge).unwrap_err();
    call.send(Step::Answer(guess(&mut host, &wire.transcript(&init, &challenge))?)).await;
    call.refusal().await?;
    world.refused("answer_wrong")?;
    assert_eq!(world.instances()?, 0);
    Ok(())
}

const SCALAR: [u8; 32] = [0x17; 32];

/// A key outside of any TPM, and its public area with these attributes.
fn software_key(attributes: ObjectAttributes) -> Result<(SigningKey, Vec<u8>)> {
    let key = SigningKey::from_slice(&SCALAR)?;
    let mut octets = [0; 256];
    let mut writer = Writer::new(&mut octets);
    with_public(&key, attributes, |public| public.marshal(&mut writer))?;
    Ok((key, writer.into_written().to_vec()))
}

fn with_public<R>(
    key: &SigningKey,
    attributes: ObjectAttributes,
    then: impl FnOnce(Public<'_>) -> R,
) -> R {
    let point = key.verifying_key().to_sec1_point(false);
    let octets = point.as_bytes();
    let coordinate = |at| EccParameter::new(&octets[at..at + 32]).expect("32 octets");
    let mut public = Public { attributes, ..JoinKey::template(&[0; 32]) };
    if let Id::Ecc(ecc) = &mut public.id {
        ecc.unique = EccPoint { x: coordinate(1), y: coordinate(33) };
    }
    then(public)
}

/// What loads it into a TPM.
fn load(public: Public<'_>) -> LoadExternal<'_> {
    LoadExternal {
        in_private: Some(Tpm2b(Sensitive::of(SensitiveSecret::Ecc(
            PrivateKeyEcc::new(&SCALAR).expect("32 octets"),
        )))),
        in_public: Tpm2b(public),
        hierarchy: Hierarchy::Null,
    }
}

const LOADABLE: ObjectAttributes =
    ObjectAttributes::USER_WITH_AUTH.with(ObjectAttributes::NO_DA).with(ObjectAttributes::SIGN);

#[tokio::test(flavor = "multi_thread")]
async fn a_join_key_made_outside_and_loaded_into_the_tpm() -> Result<()> {
    let (world, swtpm) = world(Kind::RsaAndP384, &[])?;
    let honest = Host::new(&swtpm, &UNIQUE)?;
    let template = honest.init("t");
    drop(honest);

    // With the attributes that it has.
    let wire = Wire::open(&world).await?;
    let (key, join_key) = software_key(LOADABLE)?;
    let mut call = wire.call().await?;
    call.send(Step::Init(encoded(&JoinInit { join_key, ..template.clone() }))).await;
    call.refusal().await?;
    world.refused("join_key_attributes")?;

    // With those that it ought to have. The credential is then for a Name that nothing in a TPM has.
    let (_, join_key) = software_key(JOIN_KEY_ATTRIBUTES)?;
    let init = encoded(&JoinInit { join_key, ..template });
    let (mut call, challenge) = wire.challenged(&init).await?;
    let mut tpm = client(&swtpm)?;
    let ek = persistent_ek(&mut tpm, "rsa2048")?;
    let salt_key = ek.salt_key()?;
    let refused = with_public(&key, JOIN_KEY_ATTRIBUTES, |public| {
        tpm.run(&load(public), []).map(|_| ()).unwrap_err().refusal()
    });
    assert_eq!(refused, Some(ResponseCode::ATTRIBUTES), "no TPM takes it as its own");
    let name = with_public(&key, LOADABLE, |public| object_name(&public))?;
    let handle = with_public(&key, LOADABLE, |public| {
        tpm.run(&load(public), []).map(|answer| answer.object_handle)
    })?;
    let object = handle.named(name);
    let ours = make_credential(&ek.public()?, &name, &[0x5a; 32])?;
    let theirs = (challenge.credential_blob.as_slice(), challenge.encrypted_seed.as_slice());
    let mut opened = Vec::new();
    for (blob, seed) in [(ours.blob().octets(), ours.secret().octets()), theirs] {
        let session = tpm.start_salted_session(SessionType::POLICY, &salt_key, Encryption::On)?;
        satisfy(&mut tpm, ek_kind("rsa2048"), session.handle())?;
        let command = ActivateCredential {
            activate_handle: object,
            key_handle: salt_key.object(),
            credential_blob: IdObject::new(blob)?,
            secret: EncryptedSecret::new(seed)?,
        };
        let auths = [Auth::EMPTY, session.last_auth(b"")];
        opened.push(tpm.run(&command, auths).map(|_| ()).map_err(|error| error.refusal()));
    }
    assert_eq!(
        opened,
        [Ok(()), Err(Some(ResponseCode::INTEGRITY))],
        "the way is right, the key is not"
    );
    let transcript = wire.transcript(&init, &challenge);
    let signature: p256::ecdsa::Signature = key.sign_prehash(&transcript.signing_digest())?;
    let mac = transcript.mac(&[0x5a; 32]).to_vec();
    let signature = signature.to_der().as_bytes().to_vec();
    call.send(Step::Answer(JoinAnswer { mac, signature })).await;
    call.refusal().await?;
    world.refused("answer_wrong")?;
    assert_eq!(world.instances()?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_key_with_any_attribute_changed() -> Result<()> {
    let (world, swtpm) = world(Kind::P256, &[])?;
    let host = Host::new(&swtpm, &UNIQUE)?;
    for bit in 0..32 {
        // Without certificate a connection makes few calls.
        let wire = Wire::open(&world).await?;
        let mut init = host.init("t");
        init.join_key[4 + bit / 8] ^= 1 << (bit % 8);
        let mut call = wire.call().await?;
        call.send(Step::Init(encoded(&init))).await;
        call.refusal().await?;
        // Ten of a kind are recorded in full.
        if bit >= 10 {
            continue;
        }
        let mut events = world.events()?;
        let event = events.pop().context("a line")?;
        assert!(events.is_empty());
        // Bits that Part 2 reserves make the area no TPMT_PUBLIC at all.
        let code = event["refusal"].as_str().unwrap_or_default();
        assert!(["join_key_attributes", "join_key_malformed"].contains(&code), "{event:#}");
    }
    assert_eq!(world.instances()?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_makes_no_sense() -> Result<()> {
    let (world, swtpm) = world(Kind::P256, &[])?;
    let ca = Factory::shared().ca(Maker::Vendor)?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[ca.issuer_pem()])?;
    let host = Host::new(&swtpm, &UNIQUE)?;
    let good = host.init("t");
    let with_ek = |ek| encoded(&JoinInit { ek, ..good.clone() });
    let certificate = |octets: Vec<u8>| with_ek(Some(Ek::EkCertificate(octets)));
    let with_key = |join_key| encoded(&JoinInit { join_key, ..good.clone() });
    let der = || claim_der(&good);
    let key = good.join_key.clone();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("no protobuf", vec![0xff; 40], "malformed"),
        ("nothing", Vec::new(), "token_unknown"),
        ("cut", encoded(&good)[..200].to_vec(), "malformed"),
        ("bytes after the end", [encoded(&good), vec![0x0a, 9]].concat(), "malformed"),
        ("no EK", with_ek(None), "malformed"),
        ("certificate cut", certificate(der()[..99].to_vec()), "ek_malformed"),
        ("certificate and more", certificate([der(), vec![0]].concat()), "ek_malformed"),
        ("key and more", with_key([key.clone(), vec![0]].concat()), "join_key_malformed"),
        ("key cut", with_key(key[..key.len() - 1].to_vec()), "join_key_malformed"),
        ("no key", with_key(Vec::new()), "join_key_malformed"),
        (
            "too many",
            encoded(&JoinInit { ek_chain: vec![der(); 20], ..good.clone() }),
            "ek_chain_too_long",
        ),
        (
            "too long",
            encoded(&JoinInit { hostname: "x".repeat(100_000), ..good.clone() }),
            "oversized",
        ),
    ];
    for (what, init, code) in cases {
        let wire = Wire::open(&world).await?;
        let mut call = wire.call().await?;
        call.send(Step::Init(init)).await;
        call.refusal().await.context(what)?;
        world.refused(code).context(what)?;
    }
    let steps = |steps: &[Option<Step>]| {
        steps.iter().map(|step| JoinRequest { step: step.clone() }).collect::<Vec<_>>()
    };
    let init = Some(Step::Init(encoded(&good)));
    let answer = Some(Step::Answer(JoinAnswer { mac: vec![0; 32], signature: vec![0; 70] }));
    for messages in [steps(&[None]), steps(&[answer]), steps(&[init.clone(), init])] {
        let wire = Wire::open(&world).await?;
        let mut call = wire.call().await?;
        let more = messages.len() > 1;
        for message in messages {
            call.send_raw(message).await;
        }
        if more {
            call.challenge().await?;
        }
        call.refusal().await?;
        world.refused("malformed")?;
    }
    assert_eq!(world.instances()?, 0);
    Ok(())
}

fn claim_der(init: &JoinInit) -> Vec<u8> {
    match &init.ek {
        Some(Ek::EkCertificate(der) | Ek::EkPublic(der)) => der.clone(),
        None => Vec::new(),
    }
}
