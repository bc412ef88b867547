//! What operators do: from the next renewal on the host is kept out, and comes back by itself when it is let in again.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::host::Host;
use tests::world::{BOT, World};

use super::{HALF_LIFE, holds, joined, not_renewed, sees, switched_on};

const SHOWN: &str = "audit log has the reason; `agent identify` shows what a token must allow";

/// The audit log's reason for the last refusal of a renewal or a join.
fn last_refusal(world: &World) -> Result<Value> {
    let events = world.events()?;
    let refused = events.into_iter().rev().find(|event| event["outcome"] == "refused");
    Ok(refused.context("no refusal in the audit log")?["refusal"].clone())
}

/// Half of the identity's life passes, and its renewal is refused.
fn is_kept_out(host: &Host, words: &str, code: &str) -> Result<()> {
    host.world.pass(HALF_LIFE)?;
    sees(host, not_renewed(&format!("refused by the authority: {words}"), SHOWN))?;
    ensure!(last_refusal(&host.world)? == code, "not {code}");
    // What was issued lives on.
    ensure!(host.status()?.contains(" more minutes)"), "{}", host.status()?);
    host.web_is_whole()
}

#[test]
fn a_token_that_is_removed_or_no_longer_has_the_rule() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, before) = joined(&swtpm)?;
    let rule = host.world.rule(&swtpm.tcti())?;
    let other = format!("- ek_public_hash: \"{}\"\n", "ab".repeat(32));

    host.world.authority(&["rm", "token/t"])?.success()?;
    is_kept_out(&host, "token expired or not found", "token_unknown")?;
    host.world.allow("t", &rule, &[])?;
    host.wait_healthy()?;

    host.world.allow("t", &other, &[])?;
    is_kept_out(&host, "validated tpm attributes did not match", "ek_not_allowed")?;
    host.world.allow("t", &rule, &[])?;
    host.wait_healthy()?;
    ensure!(host.count("INFO  joined name=identity") == 1, "it renews as the one that it is");
    holds(&swtpm, &before)
}

#[test]
fn lock_of_each_kind_stops_renewals_until_it_ends() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, before) = joined(&swtpm)?;
    let stored = host.stored()?;
    let [instance, hash] = [&stored["instance"], &stored["tpm"]["ek_public_hash"]]
        .map(|word| word.as_str().unwrap_or_default().to_owned());
    for target in [["--bot", BOT], ["--token", "t"], ["--instance", &instance], ["--ek", &hash]] {
        let lock = [&["lock"][..], &target, &["--message", "stolen"]].concat();
        host.world.authority(&lock)?.success()?;
        is_kept_out(&host, "access denied: a lock is in force", "locked")?;
        ensure!(!host.log().contains("stolen"), "why is the operators' business");
        let locks = host.world.authority(&["get", "locks", "--format", "json"])?.success()?;
        let locks: Vec<Value> = serde_json::from_str(&locks)?;
        let [lock] = &locks[..] else { anyhow::bail!("not one lock: {locks:?}") };
        let name = lock["metadata"]["name"].as_str().context("its name")?;
        host.world.authority(&["rm", &format!("lock/{name}")])?.success()?;
        host.wait_healthy()?;
    }
    ensure!(host.count("INFO  joined name=identity") == 1, "it renews as the one that it is");
    holds(&swtpm, &before)
}

/// With the bot its instances go: the host joins again when there is a bot of that name again.
#[test]
fn a_bot_that_is_removed() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, before) = joined(&swtpm)?;
    let instance = host.stored()?["instance"].clone();
    host.world.authority(&["rm", &format!("bot/{BOT}")])?.success()?;
    is_kept_out(&host, "access denied", "bot_unknown")?;
    host.world.create_bot()?;
    host.wait_healthy()?;
    ensure!(host.stored()?["instance"] != instance);
    holds(&swtpm, &before)
}

/// The instance alone: the host joins again by itself.
#[test]
fn an_instance_that_is_removed() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, before) = joined(&swtpm)?;
    let instance = host.stored()?["instance"].as_str().unwrap_or_default().to_owned();
    host.world.authority(&["rm", &format!("bot_instance/{BOT}/{instance}")])?.success()?;
    host.world.pass(HALF_LIFE)?;
    host.until_logged("INFO  joined name=identity", 2)?;
    host.wait_healthy()?;
    ensure!(host.stored()?["instance"] != instance.as_str());
    holds(&swtpm, &before)
}
