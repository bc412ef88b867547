//! Hosts that run tbot join our authority: honest ones of each generation, and those that lie.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use tests::programs;
use tests::teleport_peer::{TeleportPeer, tpm_address};
use tests::world::World;

fn tpm(kind: Kind) -> Result<Swtpm> {
    Factory::shared().tpm(Maker::Vendor, kind)?.start()
}

/// The rule for the EK that the peer claims.
fn rule(identified: &Value) -> String {
    format!("- ek_public_hash: {}\n", identified["ek_public_hash"])
}

#[test]
fn each_generation_joins_with_both_kinds_of_ak_and_joins_again() -> Result<()> {
    let Some(peer) = TeleportPeer::built()? else { return Ok(()) };
    let swtpm = tpm(Kind::RsaAndP384)?;
    let address = tpm_address(&swtpm);
    let world = World::new(programs!())?;
    world.allow("t", &rule(&peer.identify(&address)?), &[])?;
    let common = ["--auth-server", world.address(), "--ca-pin", world.pin(), "--token", "t"];
    let common = [&common[..], &["--tpm", &address, "--rejoin", "2"]].concat();
    for (generation, service) in [("a", "legacy"), ("b", "new"), ("c", "new")] {
        for ak in ["rsa", "ecc"] {
            let this = ["--generation", generation, "--ak", ak];
            let report = peer.client(&[&common[..], &this].concat())?;
            ensure!(report["ok"] == true && report["service"] == service, "{report:#}");
            ensure!(report["generations"] == serde_json::json!([1, 2, 3]), "{report:#}");
            ensure!(report["bot"] == tests::world::BOT, "{report:#}");
        }
    }
    ensure!(world.instances()? == 6, "a re-join keeps its instance");
    Ok(())
}

/// What a failure shows of a verdict.
const KEYS: [&str; 7] = ["lie", "service", "must", "outcome", "code", "message", "note"];

/// What each lie of the peer's list leads to, by both services.
fn lies(ak: &str) -> Result<()> {
    let Some(peer) = TeleportPeer::built()? else { return Ok(()) };
    let (swtpm, other) = (
        tpm(Kind::RsaAndP384)?,
        Factory::shared().unit(Maker::Vendor, Kind::RsaAndP384, 1)?.start()?,
    );
    let (address, of_other) = (tpm_address(&swtpm), tpm_address(&other));
    let world = World::new(programs!())?;
    let soft = world.path("soft.pem");
    let soft = soft.to_str().context("a path")?;
    let software = peer.run(&["identify", "--soft-ek", soft])?;
    let [first, second] = [&address, &of_other].map(|tpm| peer.identify(tpm));
    let rules = [first?, second?, software].iter().map(rule).collect::<String>();
    world.allow("t", &rules, &[])?;
    world.allow("others", &format!("- ek_public_hash: \"{}\"\n", "ab".repeat(32)), &[])?;
    let arguments = [
        ["--auth-server", world.address()],
        ["--ca-pin", world.pin()],
        ["--token", "t"],
        ["--other-token", "others"],
        ["--tpm", &address],
        ["--other-tpm", &of_other],
        ["--soft-ek", soft],
        ["--ak", ak],
        ["--lie", "all"],
    ];
    let verdicts = peer.client(&arguments.concat())?;
    let verdicts = verdicts.as_array().context("a list")?;
    ensure!(verdicts.len() > 140, "the peer knows more lies: {}", verdicts.len());
    let wrong =
        verdicts.iter().filter(|verdict| verdict["ok"] != true && verdict["outcome"] != "skipped");
    let wrong: Vec<_> =
        wrong.map(|verdict| KEYS.map(|key| verdict[key].to_string()).join(" ")).collect();
    ensure!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), verdicts.len(), wrong.join("\n"));
    let skipped = verdicts.iter().filter(|verdict| verdict["outcome"] == "skipped").count();
    ensure!(skipped <= 4, "{skipped} lies were not told");
    Ok(())
}

#[test]
fn hostile_hosts_with_rsa_attestation_keys_are_refused() -> Result<()> {
    lies("rsa")
}

#[test]
fn hostile_hosts_with_ecc_attestation_keys_are_refused() -> Result<()> {
    lies("ecc")
}
