//! Joins of TPMs that hold the certificates between their own and a root, where the token trusts the root alone.

use std::fs;

use agent::storage::Storage;
use anyhow::{Context, Result};
use serde_json::Value;
use testkit::bus::command_code;
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use testkit::tap::Tap;
use tests::host::Host;
use tests::programs;
use tests::tpm::{define, start_tcp};
use tests::world::World;
use tpm2::commands::{Command, FlushContext, NvReadPublic};
use tpm2::types::{CommandCode, Handle};
use verifier::CaCertificate;

const CHAIN: u32 = 0x01c0_0100;

/// The CA that issued the TPM's certificate, DER.
fn issuer() -> Result<CaCertificate> {
    let pem = Factory::shared().ca(Maker::Vendor)?.issuer_pem().to_owned();
    CaCertificate::from_pem(&pem)?.pop().context("a certificate")
}

/// A world whose token trusts the root alone.
fn world(swtpm: &Swtpm) -> Result<World> {
    let world = World::new(programs!())?;
    let ca = Factory::shared().ca(Maker::Vendor)?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[ca.root_pem()])?;
    Ok(world)
}

/// The commands that a tap has seen, flushes left aside: only a TPM without resource manager needs them.
fn commands(tap: &Tap) -> Vec<CommandCode> {
    let exchanges = tap.recording().exchanges();
    let codes = exchanges.iter().map(|exchange| command_code(&exchange.command));
    codes.filter(|code| *code != FlushContext::INFO.code).collect()
}

#[test]
fn the_chain_in_the_tpm_is_shown_once_it_is_needed_and_then_remembered() -> Result<()> {
    let swtpm = start_tcp(Kind::RsaAndP384)?;
    let world = world(&swtpm)?;
    let said = world.join(&swtpm.tcti(), "t", "storage")?;
    said.failure(1)?;
    world.refused("ek_untrusted")?;

    let issuer = issuer()?;
    define(&swtpm, Handle(CHAIN), issuer.der().len(), Some(issuer.der()))?;
    let tap = Tap::new(&swtpm)?;
    let said = world.join(&tap.tcti(), "t", "storage")?;
    assert_eq!(said.err, "");
    said.success()?;
    let [refused, granted] = &world.events()?[..] else { panic!("not two lines") };
    assert_eq!(refused["refusal"], "ek_untrusted");
    assert_eq!(
        (&granted["outcome"], &granted["ek_cert_verified"]),
        (&"granted".into(), &true.into())
    );
    let first = commands(&tap);
    let reads = issuer.der().len().div_ceil(768);
    assert_eq!(first.len(), 7 + 1 + 1 + reads, "{first:?}");

    // From now on it is sent at once: five commands, one line in the log.
    world.join(&tap.tcti(), "t", "storage")?.success()?;
    world.granted()?;
    let all = commands(&tap);
    let second = &all[first.len()..];
    assert_eq!(second.len(), 5, "{second:?}");
    let known = Storage::identity(&world.path("storage"))?.context("an identity")?.known_ek();
    assert_eq!(known.map_err(anyhow::Error::msg)?.chain.len(), 1);

    let shown =
        world.agent(&["identify", "--tpm", &swtpm.tcti(), "--format", "json"])?.success()?;
    let shown: Value = serde_json::from_str(&shown)?;
    assert_eq!(shown["certificate_chain"], serde_json::json!([issuer.subject_text()]));
    Ok(())
}

/// Whoever refuses it again and again costs it no more commands.
#[test]
fn refused_daemon_reads_the_chain_once() -> Result<()> {
    let swtpm = start_tcp(Kind::P256)?;
    let issuer = issuer()?;
    define(&swtpm, Handle(CHAIN), issuer.der().len(), Some(issuer.der()))?;
    let tap = Tap::new(&swtpm)?;
    let mut host = Host::stranger(World::new(programs!())?, &tap.tcti(), "")?;
    let reads =
        || commands(&tap).into_iter().filter(|code| *code == NvReadPublic::INFO.code).count();
    host.start()?;
    host.until_logged("WARN  not joined", 1)?;
    let once = reads();
    assert!(once > 0, "the chain was not read");
    for times in [2, 3] {
        host.signal("USR1")?;
        host.until_logged("WARN  not joined", times)?;
    }
    assert_eq!(reads(), once);
    Ok(())
}

#[test]
fn it_may_lie_in_two_indices_with_junk_beside_it() -> Result<()> {
    let swtpm = start_tcp(Kind::P256)?;
    let world = world(&swtpm)?;
    let issuer = issuer()?;
    let (before, after) = issuer.der().split_at(300);
    define(&swtpm, Handle(CHAIN), 40, Some(&[0x5a; 40]))?;
    define(&swtpm, Handle(CHAIN + 1), before.len(), Some(before))?;
    let after = [after, &[0xff; 50]].concat();
    define(&swtpm, Handle(CHAIN + 2), after.len(), Some(&after))?;
    // DER, but no certificate.
    define(&swtpm, Handle(CHAIN + 9), 5, Some(&[0x30, 3, 2, 1, 1]))?;
    let said = world.join(&swtpm.tcti(), "t", "storage")?;
    assert!(said.err.contains("NV index 0x01c00100 "), "{}", said.err);
    assert!(!said.err.contains("NV index 0x01c00101 "), "{}", said.err);
    assert!(said.err.contains("is unusable"), "{}", said.err);
    said.success()?;
    Ok(())
}

#[test]
fn a_chain_in_a_stored_identity_is_one() -> Result<()> {
    let swtpm = start_tcp(Kind::P256)?;
    let world = world(&swtpm)?;
    let issuer = issuer()?;
    define(&swtpm, Handle(CHAIN), issuer.der().len(), Some(issuer.der()))?;
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    let file = world.path("storage/identity.json");
    let whole: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
    for (many, words) in [(5, "more than 4 certificates"), (1, "intermediate certificate")] {
        let mut changed = whole.clone();
        let one = if many == 1 { "MAMCAQE=".into() } else { whole["tpm"]["ek_chain"][0].clone() };
        changed["tpm"]["ek_chain"] = vec![one; many].into();
        fs::write(&file, changed.to_string())?;
        let said = world.agent(&["status", "--storage", "storage"])?;
        assert!(said.failure(65)?[0].contains(words), "{}", said.err);
    }
    Ok(())
}
