//! The TPM's half of a join by Teleport's protocols: the commands that it takes, its evidence, and what it leaves behind.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use agent::tpm::attester::{AkAlgorithm, Attester, KeysToMake, KnownEk};
use agent::tpm::inventory::{EkChoice, key_bytes};
use agent::tpm::passwords::PasswordFiles;
use anyhow::{Context, Result, ensure};
use testkit::bus::command_code;
use testkit::child::Scratch;
use testkit::swtpm::{Kind, Swtpm};
use tests::tpm::{ek_kind, start_tcp, way};
use tpm2::Tpm;
use tpm2::commands::{Command, FlushContext, by_code};
use tpm2::crypto::make_credential;
use tpm2::transport::{Record, Recording};
use verifier::AttestationKey;

const PASSWORD: &str = "correct horse battery";
const SECRET: [u8; 32] = [0x5a; 32];

/// Prepares a join and activates a challenge for its attestation key. Returns the EK, and the commands without flushes.
fn prove(
    swtpm: &Swtpm,
    ek: &str,
    known: Option<KnownEk>,
    algorithm: AkAlgorithm,
    password: &str,
) -> Result<(KnownEk, Vec<&'static str>)> {
    let home = Scratch::new("endorse-password")?;
    let file = home.path().join("password");
    fs::write(&file, password)?;
    fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    let endorsement = (!password.is_empty()).then_some(file);
    let passwords = PasswordFiles { owner: None, endorsement }.read()?;

    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(swtpm)?, recording.clone()));
    let keys = KeysToMake { join_key: &[1; 32], attestation_key: Some((algorithm, &[2; 256])) };
    let choice = EkChoice::Kind(ek_kind(ek));
    let mut attester = Attester::prepare(&mut tpm, choice, known, &passwords, keys)?;
    let evidence = attester.attestation_key().context("no attestation key")?.evidence().clone();
    evidence.check()?;
    let key = AttestationKey::appraise(&evidence.public)?;
    let resident = attester.ek().clone();
    let public = resident.kind.public(key_bytes(&resident.key))?;
    let challenge = make_credential(&public, key.name(), &SECRET)?;
    let (blob, seed) = (challenge.blob().octets(), challenge.secret().octets());
    let secret = attester.activate(&mut tpm, blob, seed)?;
    ensure!(secret.expose() == SECRET, "another secret");
    tpm.flush_all()?;
    let codes = recording.exchanges().into_iter().map(|exchange| command_code(&exchange.command));
    let codes = codes.filter(|code| *code != FlushContext::INFO.code);
    let names = codes.filter_map(by_code).map(|info| info.name.trim_start_matches("TPM2_"));
    Ok((resident, names.collect()))
}

/// Fewer than go-attestation needs, which makes the keys of its own persistent: 14 at the least.
#[test]
fn attestation_key_is_proven_with_eight_commands_at_most() -> Result<()> {
    let [read, start, create] = ["NV_Read", "StartAuthSession", "CreatePrimary"];
    let [certify, policy, activate] = ["CertifyCreation", "PolicySecret", "ActivateCredential"];
    let low = [start, create, certify, create, policy, activate];
    let low_by_password = [start, create, certify, create, start, policy, activate];
    let high = [start, create, certify, create, activate];
    for (kind, ek, expected, by_password) in [
        (Kind::RsaAndP384, "rsa2048", &low[..], &low_by_password[..]),
        (Kind::P256, "p256", &low[..], &low_by_password[..]),
        (Kind::P384Only, "p384", &high[..], &high[..]),
    ] {
        let swtpm = start_tcp(kind)?;
        let before = swtpm.handles()?;
        for algorithm in [AkAlgorithm::P256, AkAlgorithm::Rsa2048] {
            let (known, first) = prove(&swtpm, ek, None, algorithm, "")?;
            assert_eq!(first, [&[read, read][..], expected].concat(), "{kind:?} {algorithm:?}");
            let (_, second) = prove(&swtpm, ek, Some(known), algorithm, "")?;
            assert_eq!(second, expected, "{kind:?} {algorithm:?}, the certificate known");
        }
        swtpm.tool("tpm2_changeauth", &["-c", "endorsement", PASSWORD])?;
        let (_, commands) = prove(&swtpm, ek, None, AkAlgorithm::P256, PASSWORD)?;
        assert_eq!(commands, [&[read, read][..], by_password].concat(), "{kind:?}, by password");
        assert_eq!(swtpm.handles()?, before, "{kind:?}: left behind");
    }
    Ok(())
}

/// Three objects are all that a TPM without resource manager has room for: the EK and both keys.
#[test]
fn attestation_key_fits_beside_an_ek_that_is_made_for_the_join() -> Result<()> {
    for (kind, ek) in [(Kind::P256NotPersistent, "p256"), (Kind::RsaNotPersistent, "rsa2048")] {
        let swtpm = start_tcp(kind)?;
        let before = swtpm.handles()?;
        let (_, commands) = prove(&swtpm, ek, None, AkAlgorithm::P256, "")?;
        assert!(commands.ends_with(&["ActivateCredential"]), "{commands:?}");
        assert_eq!(swtpm.handles()?, before, "{kind:?}: left behind");
    }
    Ok(())
}
