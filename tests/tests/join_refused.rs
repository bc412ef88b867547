//! Honest agents that are refused: each refusal has its code, its line in the audit log, and gives nothing.

use anyhow::{Context, Result, ensure};
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use tests::programs;
use tests::world::{BOT, World, names, token};

fn tpm(kind: Kind) -> Result<Swtpm> {
    Factory::shared().tpm(Maker::Vendor, kind)?.start()
}

/// A host that is refused with this code, and learns these words.
fn is_refused(world: &World, swtpm: &Swtpm, token: &str, code: &str, words: &str) -> Result<()> {
    let before = swtpm.handles()?;
    let said = world.join(&swtpm.tcti(), token, "storage")?;
    let [what, advice] = said.failure(1).with_context(|| code.to_owned())?;
    ensure!(what == format!("refused by the authority: {words}"), "{what}");
    ensure!(advice.contains("audit log"), "{advice}");
    let event = world.refused(code)?;
    ensure!(event["token_name"] == token, "{event:#}");
    ensure!(names(&world.path("storage")) == ["join.json", "lock"], "something was stored");
    ensure!(swtpm.handles()? == before, "something is left behind in the TPM");
    Ok(())
}

const NOT_FOUND: &str = "token expired or not found";
const NOT_ALLOWED: &str = "validated tpm attributes did not match any allow rules";

#[test]
fn each_cause_has_its_own_code_one_audit_line_and_gives_nothing() -> Result<()> {
    let (swtpm, bare) = (tpm(Kind::RsaAndP384)?, tpm(Kind::NoCertificates)?);
    let (ours, namesake) =
        (Factory::shared().ca(Maker::Vendor)?, Factory::shared().ca(Maker::Namesake)?);
    let world = World::new(programs!())?;
    let good = world.rule(&swtpm.tcti())?;
    let other_hash = format!("- ek_public_hash: \"{}\"", "ab".repeat(32));
    let serial = "- ek_certificate_serial: \"5e:cd:5f:8e\"";
    let both = good.replace("ek_certificate_serial: \"", "ek_certificate_serial: \"01:");
    assert_ne!(good, both);

    world.create(
        &token("expired", &good, &[])
            .replace("  name: expired\n", "  name: expired\n  expires: 2020-01-01T00:00:00Z\n"),
    )?;
    let node = token("node", &good, &[]).replace("[Bot]", "[Node]");
    world.create(&node.replace(&format!("  bot_name: {BOT}\n"), ""))?;
    world.allow("hash", &other_hash, &[])?;
    world.allow("serial", serial, &[ours.issuer_pem()])?;
    world.allow("both", &both, &[ours.issuer_pem()])?;
    world.allow("namesake", &good, &[namesake.root_pem(), namesake.issuer_pem()])?;
    world.allow("root", &good, &[ours.root_pem()])?;
    world.allow("bare", &world.rule(&bare.tcti())?, &[ours.issuer_pem()])?;

    let untrusted = "validating TPM: the EKCert is not signed by an allowed CA";
    let missing = "validating TPM: tpm did not provide an EKCert to validate against allowed CAs";
    let role = "can not join the cluster, the token does not allow role Bot";
    for (swtpm, token, code, words) in [
        (&swtpm, "absent", "token_unknown", NOT_FOUND),
        (&swtpm, "expired", "token_expired", NOT_FOUND),
        (&swtpm, "node", "token_role", role),
        (&swtpm, "hash", "ek_not_allowed", NOT_ALLOWED),
        (&swtpm, "serial", "ek_not_allowed", NOT_ALLOWED),
        (&swtpm, "both", "ek_not_allowed", NOT_ALLOWED),
        (&swtpm, "namesake", "ek_untrusted", untrusted),
        // The TPM holds the leaf only, and the intermediate is missing.
        (&swtpm, "root", "ek_untrusted", untrusted),
        (&bare, "bare", "ek_certificate_missing", missing),
    ] {
        is_refused(&world, swtpm, token, code, words)?;
    }
    // Not all of these TPMs are refused for everything.
    world.allow("good", &good, &[ours.issuer_pem()])?;
    world.join(&swtpm.tcti(), "good", "storage")?.success()?;
    world.granted()?;
    assert_eq!(world.instances()?, 1);
    Ok(())
}

#[test]
fn token_whose_bot_was_removed_refuses_joins() -> Result<()> {
    let swtpm = tpm(Kind::P256)?;
    let world = World::new(programs!())?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    world.authority(&["rm", &format!("bot/{BOT}")])?.success()?;
    is_refused(&world, &swtpm, "t", "bot_unknown", "access denied")?;
    assert_eq!(world.instances()?, 0);
    Ok(())
}

#[test]
fn removed_rule_no_longer_allows_joins() -> Result<()> {
    let swtpm = tpm(Kind::P256)?;
    let world = World::new(programs!())?;
    let good = world.rule(&swtpm.tcti())?;
    world.allow("t", &good, &[])?;
    world.join(&swtpm.tcti(), "t", "first")?.success()?;
    world.granted()?;
    world.allow("t", &format!("- ek_public_hash: \"{}\"", "ab".repeat(32)), &[])?;
    is_refused(&world, &swtpm, "t", "ek_not_allowed", NOT_ALLOWED)
}

#[test]
fn the_activation_secret_and_the_answer_are_in_no_log() -> Result<()> {
    // The authority logs all that it has to say; what it challenged with must not be in it, in no form.
    let swtpm = tpm(Kind::P256)?;
    let world = World::new(programs!())?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    let runtime = tokio::runtime::Runtime::new()?;
    let secret = runtime.block_on(async {
        use proto::v1::join_request::Step;
        let mut host = tests::wire::Host::new(&swtpm, &[1; 32])?;
        let wire = tests::wire::Wire::open(&world).await?;
        let init = tests::wire::encoded(&host.init("t"));
        let (mut call, challenge) = wire.challenged(&init).await?;
        let secret = host.activate(&challenge)?;
        let held = tpm2::types::SecretBuf::new(&secret).context("a secret")?;
        ensure!(format!("{held:?}").len() < 20, "{held:?}");
        let transcript = wire.transcript(&init, &challenge);
        let mac = transcript.mac(&secret).to_vec();
        let signature = host.sign(&transcript)?;
        call.send(Step::Answer(proto::v1::JoinAnswer { mac, signature })).await;
        call.granted().await?;
        anyhow::Ok(secret)
    })?;
    world.granted()?;
    let written = [world.log()?, std::fs::read_to_string(world.path("data/audit.jsonl"))?].concat();
    assert!(written.contains("join granted"), "the log is the right one");
    assert_eq!(secret.len(), 32);
    for part in secret.chunks(8) {
        let hex = base16ct::lower::encode_string(part);
        let decimal = part.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        assert!(!written.to_lowercase().contains(&hex), "{hex}");
        assert!(!written.contains(&decimal), "{decimal}");
    }
    Ok(())
}
