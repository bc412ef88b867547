//! Successful joins on every kind of TPM, and what other software makes of the issued certificates.

use std::fs;
use std::process::Command;

use agent::storage::Storage;
use anyhow::{Context, Result, ensure};
use testkit::swtpm::{Ca, Factory, Kind, Maker, Swtpm};
use testkit::tap::Tap;
use tests::programs;
use tests::world::{BOT, CLUSTER, Said, World, names, run, token};
use tpm2::transport::Exchange;
use tpm2::types::CommandCode;

/// A TPM and who made it.
fn tpm(kind: Kind) -> Result<(Swtpm, Ca)> {
    let made = Factory::shared().tpm(Maker::Vendor, kind)?;
    Ok((made.start()?, made.ca().clone()))
}

/// Joins by hash and serial against these CAs; returns what the audit log says.
fn joins(kind: Kind, cas: impl Fn(&Ca) -> Vec<&str>) -> Result<serde_json::Value> {
    let (swtpm, ca) = tpm(kind)?;
    let world = World::new(programs!())?;
    let before = swtpm.handles()?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &cas(&ca))?;
    let said = world.join(&swtpm.tcti(), "t", "storage")?;
    ensure!(said.err.is_empty(), "{}", said.err);
    let out = said.success()?;
    ensure!(out.starts_with(&format!("Joined cluster {CLUSTER} as bot {BOT}\n")), "{out}");
    ensure!(swtpm.handles()? == before, "something is left behind in the TPM");

    let shown =
        world.agent(&["whoami", "--storage", "storage", "--tpm", &swtpm.tcti()])?.success()?;
    ensure!(shown.contains(&format!("SPIFFE ID: spiffe://{CLUSTER}/bot/{BOT}\n")), "{shown}");
    ensure!(swtpm.handles()? == before, "whoami leaves something behind in the TPM");
    world.granted()
}

fn issuer(ca: &Ca) -> Vec<&str> {
    vec![ca.issuer_pem()]
}

#[test]
fn rsa_with_its_certificate_against_the_issuing_ca_alone() -> Result<()> {
    let event = joins(Kind::RsaAndP384, issuer)?;
    assert_eq!(event["ek_cert_verified"], true);
    assert_eq!(event["ek_proven"], true);
    Ok(())
}

#[test]
fn rsa_with_its_certificate_against_root_and_intermediate() -> Result<()> {
    let event = joins(Kind::RsaAndP384, |ca| vec![ca.root_pem(), ca.issuer_pem()])?;
    assert_eq!(event["ek_cert_verified"], true);
    Ok(())
}

#[test]
fn rsa_that_is_not_persistent() -> Result<()> {
    assert_eq!(joins(Kind::RsaNotPersistent, issuer)?["ek_cert_verified"], true);
    Ok(())
}

#[test]
fn p256_that_is_persistent() -> Result<()> {
    assert_eq!(joins(Kind::P256, issuer)?["ek_cert_verified"], true);
    Ok(())
}

#[test]
fn p256_that_is_not_persistent() -> Result<()> {
    assert_eq!(joins(Kind::P256NotPersistent, issuer)?["ek_cert_verified"], true);
    Ok(())
}

#[test]
fn p384_of_the_high_range() -> Result<()> {
    assert_eq!(joins(Kind::P384Only, issuer)?["ek_cert_verified"], true);
    Ok(())
}

#[test]
fn a_tpm_without_certificate_by_the_hash_of_its_key() -> Result<()> {
    let event = joins(Kind::NoCertificates, |_| Vec::new())?;
    assert_eq!(event["ek_cert_verified"], false);
    assert_eq!(event["ek_proven"], true);
    assert!(event["ek_cert_serial"].is_null());
    Ok(())
}

#[test]
fn a_certificate_that_no_token_asks_for_is_recorded_as_unverified() -> Result<()> {
    let event = joins(Kind::RsaAndP384, |_| Vec::new())?;
    assert_eq!(event["ek_cert_verified"], false);
    assert!(event["ek_cert_serial"].is_string());
    Ok(())
}

#[test]
fn another_key_of_the_same_tpm_that_was_chosen() -> Result<()> {
    let (swtpm, ca) = tpm(Kind::RsaAndP384)?;
    let world = World::new(programs!())?;
    let choice = ["--ek", "p384"];
    let tcti = swtpm.tcti();
    let shown = [&["identify", "--tpm", &tcti, "--format", "rule"][..], &choice].concat();
    world.allow("t", &world.agent(&shown)?.success()?, &[ca.issuer_pem()])?;
    world.join(&tcti, "t", "rsa")?.failure(1)?;
    world.refused("ek_not_allowed")?;
    let join = [&world.join_arguments(&tcti, "t", "p384")[..], &choice].concat();
    world.agent(&join)?.success()?;
    world.granted()?;
    Ok(())
}

const FLUSH: CommandCode = CommandCode(0x165);
const CREATE_PRIMARY: CommandCode = CommandCode(0x131);

/// The commands of a recording without flushes, each with the bytes that passed both ways.
fn commands(recorded: &[Exchange]) -> Vec<(CommandCode, usize)> {
    let recorded = recorded.iter().map(|exchange| {
        let octets = exchange.command.len() + exchange.response.len();
        (testkit::bus::command_code(&exchange.command), octets)
    });
    recorded.filter(|(code, _)| *code != FLUSH).collect()
}

#[test]
fn a_join_is_seven_commands_and_five_with_the_certificate_cached() -> Result<()> {
    for (kind, ek, first) in [
        (Kind::RsaAndP384, "auto", 7),
        (Kind::P256, "p256", 7),
        (Kind::P384Only, "p384", 7),
        // Two more to see that there is no certificate of an RSA key, and which there are.
        (Kind::P256, "auto", 9),
        (Kind::P384Only, "auto", 9),
    ] {
        let (swtpm, ca) = tpm(kind)?;
        let world = World::new(programs!())?;
        world.allow("t", &world.rule(&swtpm.tcti())?, &[ca.issuer_pem()])?;
        let tap = Tap::new(&swtpm)?;
        let tcti = tap.tcti();
        let join = [&world.join_arguments(&tcti, "t", "storage")[..], &["--ek", ek]].concat();
        let mut seen = 0;
        for limit in [first, 5] {
            world.agent(&join)?.success()?;
            let all = tap.recording().exchanges();
            let recorded = &all[seen..];
            seen = all.len();
            let commands = commands(recorded);
            let octets: usize = commands.iter().map(|(_, octets)| octets).sum();
            println!("{kind:?}, {ek}: {} commands, {octets} octets: {commands:?}", commands.len());
            assert!(commands.len() <= limit, "{kind:?}: {commands:?}");
            for exchange in recorded {
                // TPM2B_SENSITIVE_CREATE is 6 bytes; the public area's type follows it and its own length.
                let code = testkit::bus::command_code(&exchange.command);
                let rsa_template = exchange.command.windows(4).any(|at| at == [0, 1, 0, 11]);
                assert!(code != CREATE_PRIMARY || !rsa_template, "{kind:?} generates an RSA key");
            }
            let generated = commands.iter().filter(|(code, _)| *code == CREATE_PRIMARY).count();
            assert_eq!(generated, 1, "only the join key is made");
        }
    }
    Ok(())
}

/// A world with a host that has joined.
fn joined() -> Result<(World, Swtpm)> {
    let (swtpm, ca) = tpm(Kind::P256)?;
    let world = World::new(programs!())?;
    world.allow("t", &world.rule(&swtpm.tcti())?, &[ca.issuer_pem()])?;
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    Ok((world, swtpm))
}

fn place(world: &World, name: &str) -> String {
    world.path("storage").join(name).display().to_string()
}

#[test]
fn openssl_verifies_the_certificate_for_both_uses_and_no_other() -> Result<()> {
    let (world, _swtpm) = joined()?;
    let (leaf, cas) = (place(&world, "tlscert"), place(&world, "tlscacerts"));
    for purpose in ["sslclient", "sslserver"] {
        let said = run(
            "openssl",
            &["verify", "-x509_strict", "-purpose", purpose, "-CAfile", &cas, &leaf],
        )?;
        assert_eq!(said, format!("{leaf}: OK\n"));
    }
    let sign = ["verify", "-purpose", "crlsign", "-CAfile", &cas, &leaf];
    assert_ne!(Said::by(Command::new("openssl").args(sign))?.code, Some(0));

    let text = run("openssl", &["x509", "-in", &leaf, "-noout", "-text"])?;
    for part in [
        &format!("Subject: CN = bot-{BOT}"),
        &format!("Issuer: O = {CLUSTER}, "),
        &format!("URI:spiffe://{CLUSTER}/bot/{BOT}\n"),
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "TLS Web Client Authentication, TLS Web Server Authentication",
        "ASN1 OID: prime256v1",
        "Signature Algorithm: ecdsa-with-SHA256",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    Ok(())
}

#[test]
fn openssl_connects_to_the_authority_by_the_ca_that_the_host_was_given() -> Result<()> {
    let (world, swtpm) = joined()?;
    let client = |ca: &str, name: &str| {
        let connect =
            ["s_client", "-connect", world.address(), "-alpn", "h2", "-verify_return_error"];
        let verify = ["-CAfile", ca, "-servername", name, "-verify_hostname", name];
        Said::by(Command::new("openssl").args(connect).args(verify))
    };
    let cas = place(&world, "tlscacerts");
    let session = client(&cas, "authority.endorse.internal")?.success()?;
    assert!(session.contains("Verify return code: 0 (ok)"), "{session}");
    assert!(session.contains("TLSv1.3"), "{session}");
    assert_ne!(client(&cas, "another.name")?.code, Some(0), "the name counts");
    let other = World::new(programs!())?;
    let foreign = other.path("data/cluster/x509-ca.pem").display().to_string();
    assert_ne!(client(&foreign, "authority.endorse.internal")?.code, Some(0), "the CA counts");
    drop(swtpm);
    Ok(())
}

#[test]
fn ssh_keygen_reads_the_certificate_and_all_three_have_the_join_keys_public_key() -> Result<()> {
    let (world, _swtpm) = joined()?;
    let certificate = place(&world, "key-cert.pub");
    let shown = run("ssh-keygen", &["-L", "-f", &certificate])?;
    for part in ["ecdsa-sha2-nistp256-cert-v01@openssh.com user certificate", "Signing CA: "] {
        assert!(shown.contains(part), "{shown}");
    }
    let fingerprint = |text: &str| {
        let word = text.split_whitespace().find(|word| word.starts_with("SHA256:"));
        word.map(str::to_owned).context("no fingerprint")
    };
    let public = shown.lines().find(|line| line.contains("Public key:")).context("Public key")?;
    let ca = shown.lines().find(|line| line.contains("Signing CA:")).context("Signing CA")?;
    let cas = run("ssh-keygen", &["-l", "-f", &place(&world, "sshcacerts")])?;
    assert_eq!(fingerprint(ca)?, fingerprint(&cas)?);

    let pem = run("openssl", &["x509", "-in", &place(&world, "tlscert"), "-noout", "-pubkey"])?;
    let (x509, ssh) = (world.path("x509.pem"), world.path("ssh.pub"));
    fs::write(&x509, &pem)?;
    let x509 = x509.display().to_string();
    fs::write(&ssh, run("ssh-keygen", &["-i", "-m", "PKCS8", "-f", &x509])?)?;
    let of_x509 = run("ssh-keygen", &["-l", "-f", &ssh.display().to_string()])?;
    assert_eq!(fingerprint(public)?, fingerprint(&of_x509)?);

    let identity = Storage::identity(&world.path("storage"))?.context("an identity")?;
    let known = identity.join_key().map_err(anyhow::Error::msg)?;
    let join_key = verifier::JoinKey::appraise(&known.public)?;
    fs::write(world.path("join-key.der"), join_key.spki_der())?;
    let der = world.path("join-key.der").display().to_string();
    let of_tpm = run("openssl", &["pkey", "-pubin", "-inform", "DER", "-in", &der])?;
    assert_eq!(of_tpm, pem);
    Ok(())
}

#[test]
fn the_storage_holds_no_private_key_and_nothing_that_others_can_read() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let (world, _swtpm) = joined()?;
    let directory = world.path("storage");
    assert_eq!(fs::metadata(&directory)?.permissions().mode() & 0o777, 0o700);
    for name in names(&directory) {
        let path = directory.join(&name);
        let metadata = fs::metadata(&path)?;
        let mode = if metadata.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
        if metadata.is_file() {
            assert!(!fs::read_to_string(&path)?.contains("PRIVATE"), "{name}");
        }
    }
    Ok(())
}

#[test]
fn a_token_is_shown_as_it_was_given_and_the_host_is_let_in_by_what_is_shown() -> Result<()> {
    let (swtpm, ca) = tpm(Kind::P256)?;
    let world = World::new(programs!())?;
    let written = token("t", &world.rule(&swtpm.tcti())?, &[ca.issuer_pem()]);
    world.create(&written)?;
    let shown = world.authority(&["get", "token/t"])?.success()?;
    world.authority(&["rm", "token/t"])?.success()?;
    world.join(&swtpm.tcti(), "t", "storage")?.failure(1)?;
    world.refused("token_unknown")?;
    world.create(&shown)?;
    world.join(&swtpm.tcti(), "t", "storage")?.success()?;
    world.granted()?;
    Ok(())
}
