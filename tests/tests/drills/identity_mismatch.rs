//! The configuration asks for another identity than the stored one: the host joins again, and keeps what it has until
//! that succeeds.

use std::fs;

use anyhow::{Result, ensure};
use testkit::swtpm::Swtpm;
use tests::host::{Host, IDENTITY, Trouble, until};
use tests::programs;
use tests::world::{World, token};

use super::{joined, sees, switched_on};

/// Changes a word of the configuration.
fn edit(host: &Host, from: &str, to: &str) -> Result<()> {
    let config = host.world.path("tbot.yaml");
    let text = fs::read_to_string(&config)?;
    ensure!(text.contains(from), "{from:?} is not in {text}");
    Ok(fs::write(config, text.replace(from, to))?)
}

/// Lets this TPM in as another bot, by the token `t2`.
fn allow_another_bot(host: &Host, swtpm: &Swtpm) -> Result<()> {
    host.world
        .create("kind: bot\nversion: v1\nmetadata:\n  name: bot-two\nspec:\n  roles: []\n")?;
    let token = token("t2", &host.world.rule(&swtpm.tcti())?, &[]);
    let bot = tests::world::BOT;
    host.world.create(&token.replace(&format!("bot_name: {bot}"), "bot_name: bot-two"))
}

fn is_bot_two(host: &Host) -> Result<()> {
    until(|| {
        ensure!(host.stored()?["bot"] == "bot-two", "{}", host.log());
        Ok(())
    })?;
    host.wait_healthy()
}

#[test]
fn another_token_makes_the_host_join_again_whenever_it_is_noticed() -> Result<()> {
    for by in ["HUP", "restart", "file"] {
        let swtpm = switched_on()?;
        let (mut host, _) = joined(&swtpm)?;
        allow_another_bot(&host, &swtpm)?;
        if by == "file" {
            let file = host.world.path("token");
            fs::write(&file, "t\n")?;
            edit(&host, "token: t\n", &format!("token: {}\n", file.display()))?;
            host.signal("HUP")?;
            host.until_logged("renewed name=identity", 1)?;
            host.wait_healthy()?;
            fs::write(&file, "t2\n")?;
        } else {
            edit(&host, "token: t\n", "token: t2\n")?;
        }
        match by {
            "HUP" => host.signal("HUP")?,
            "restart" => {
                host.kill()?;
                host.start()?;
            }
            _ => {}
        }
        is_bot_two(&host).map_err(|error| error.context(by))?;
        ensure!(host.count("joined name=identity") == 2, "{}", host.log());
        ensure!(host.log().contains("the token is now \\\"t2\\\""), "{}", host.log());
    }
    Ok(())
}

#[test]
fn identity_is_kept_while_the_new_token_is_refused() -> Result<()> {
    let swtpm = switched_on()?;
    let (mut host, _) = joined(&swtpm)?;
    let instance = host.stored()?["instance"].clone();
    edit(&host, "token: t\n", "token: t2\n")?;
    for round in 1..=2 {
        match round {
            1 => host.signal("HUP")?,
            _ => {
                host.kill()?;
                host.start()?;
            }
        }
        sees(
            &host,
            Trouble {
                of: IDENTITY,
                event: "not joined",
                what: "joining again: refused by the authority: token expired or not found",
                advice: "`agent identify`",
            },
        )?;
        ensure!(host.stored()?["instance"] == instance, "the identity is gone");
        host.web_is_whole()?;
    }
    // It is renewed meanwhile, and so are the services; that does not make it healthy.
    let [renewed, issued] = ["renewed, but superseded name=identity", "issued name=web"];
    let (renewals, issues) = (host.count(renewed), host.count(issued));
    host.signal("USR1")?;
    host.until_logged(renewed, renewals + 1)?;
    host.until_logged(issued, issues + 1)?;
    ensure!(host.readyz()?.0 == 503);
    let said = host.world.agent(&["start", "-c", "tbot.yaml"])?;
    ensure!(said.code == Some(75), "{said:?}");

    allow_another_bot(&host, &swtpm)?;
    host.signal("USR1")?;
    is_bot_two(&host)
}

#[test]
fn services_of_another_identity_are_issued_again_at_a_start() -> Result<()> {
    let swtpm = switched_on()?;
    let (mut host, _) = joined(&swtpm)?;
    host.kill()?;
    host.start()?;
    host.wait_healthy()?;
    ensure!(host.count("issued name=web") == 1, "{}", host.log());
    host.kill()?;
    host.world.join(&swtpm.tcti(), "t", "bot")?.success()?;
    host.start()?;
    host.until_logged("they were issued to another identity", 1)?;
    host.until_logged("issued name=web", 2)?;
    host.wait_healthy()
}

#[test]
fn services_without_a_record_are_issued_again_at_a_start() -> Result<()> {
    let swtpm = switched_on()?;
    let (mut host, _) = joined(&swtpm)?;
    host.kill()?;
    std::fs::remove_file(host.path("bot/manifests.json"))?;
    host.start()?;
    host.until_logged("there is no record of the identity that they were issued to", 1)?;
    host.until_logged("issued name=web", 2)?;
    host.wait_healthy()
}

#[test]
fn token_that_cannot_be_read_is_reported_at_a_start() -> Result<()> {
    let swtpm = switched_on()?;
    let (mut host, _) = joined(&swtpm)?;
    host.kill()?;
    edit(&host, "token: t\n", &format!("token: {}\n", host.path("absent").display()))?;
    host.start()?;
    host.until_logged("WARN  the token cannot be read: the stored identity is kept", 1)?;
    host.wait_healthy()
}

#[test]
fn refused_token_is_an_error_of_a_oneshot_that_has_an_identity() -> Result<()> {
    let swtpm = switched_on()?;
    let (mut host, _) = joined(&swtpm)?;
    host.kill()?;
    host.configure("oneshot: true\n")?;
    edit(&host, "token: t\n", "token: nope\n")?;
    let said = host.world.agent(&["start", "-c", "tbot.yaml"])?;
    ensure!(said.code == Some(1) && said.err.contains("token expired or not found"), "{said:?}");
    Ok(())
}

#[test]
fn another_cluster_makes_the_host_join_again() -> Result<()> {
    let swtpm = switched_on()?;
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    host.start()?;
    host.wait_healthy()?;
    host.kill()?;
    let other = World::new(programs!())?;
    edit(&host, host.world.pin(), other.pin())?;
    edit(&host, host.world.address(), other.address())?;
    host.start()?;
    host.until_logged("joining again", 1)?;
    host.until_logged("not joined", 1)?;
    host.web_is_whole()?;
    other.allow("t", &other.rule(&swtpm.tcti())?, &[])?;
    host.signal("USR1")?;
    until(|| {
        ensure!(host.stored()?["ca_pins"][0] == other.pin(), "{}", host.log());
        Ok(())
    })?;
    host.wait_healthy()
}

#[test]
fn another_endorsement_key_makes_the_host_join_again() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, _) = joined(&swtpm)?;
    ensure!(host.stored()?["tpm"]["ek"] == "rsa2048", "{}", host.stored()?);
    edit(&host, "tpm:\n", "tpm:\n  ek: p256\n")?;
    let text = fs::read_to_string(host.world.path("tbot.yaml"))?;
    ensure!(text.contains("ek: p256"));
    let rule =
        host.world.agent(&["identify", "--tpm", &swtpm.tcti(), "--ek", "p256", "--format", "rule"]);
    host.world.allow("t", &rule?.success()?, &[])?;
    host.signal("HUP")?;
    until(|| {
        ensure!(host.stored()?["tpm"]["ek"] == "p256", "{}", host.log());
        Ok(())
    })?;
    host.wait_healthy()
}

#[test]
fn another_lifetime_takes_effect_at_a_start() -> Result<()> {
    let swtpm = switched_on()?;
    let (mut host, _) = joined(&swtpm)?;
    host.kill()?;
    host.configure("credential_ttl: 5h\n")?;
    host.start()?;
    host.until_logged("renewed name=identity", 1)?;
    host.until_logged("issued name=web", 2)?;
    until(|| {
        ensure!(host.stored()?["ttl_seconds"] == 5 * 3600);
        Ok(())
    })?;
    ensure!(host.count(" WARN ") == 0, "what the operator asked for is no fault: {}", host.log());
    // And then no more.
    host.kill()?;
    let placed = host.count("all credentials are valid");
    host.start()?;
    host.until_logged("all credentials are valid", placed + 1)?;
    ensure!(host.count("renewed name=identity") == 1, "{}", host.log());
    Ok(())
}

/// An identity as the first version stored it, and as a later one may.
#[test]
fn identities_of_older_and_newer_agents_are_read() -> Result<()> {
    let swtpm = switched_on()?;
    let (mut host, _) = joined(&swtpm)?;
    for (from, to) in [("\n  \"ttl_seconds\": 3600,", ""), ("{\n", "{\n  \"later\": {},\n")] {
        host.kill()?;
        let path = host.path("bot/identity.json");
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{text}");
        fs::write(&path, text.replacen(from, to, 1))?;
        let placed = host.count("all credentials are valid");
        host.start()?;
        host.until_logged("all credentials are valid", placed + 1)?;
    }
    ensure!(host.count("joined name=identity") == 1, "{}", host.log());
    Ok(())
}
