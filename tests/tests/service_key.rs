//! A service whose key stays in the TPM, seen from outside: its file, the TPM's commands, the authority's records.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use agent::tpm::passwords::{PasswordFiles, Passwords};
use agent::tpm::service_key::{ServiceKey, Used};
use anyhow::{Context, Result, ensure};
use host::exit::Exit;
use p256::ecdsa::Signature;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use serde_json::Value;
use testkit::bus::command_code;
use testkit::swtpm::{Kind, Swtpm};
use testkit::tap::Tap;
use tests::host::{Host, until};
use tests::programs;
use tests::tpm::{start, start_tcp, way};
use tests::world::{World, run};
use tpm2::Tpm;
use tpm2::transport::{Record, Recording};
use tpm2::types::CommandCode;

/// A host with the TPM at this address and two services, one of which has its key there.
fn host(tpm: &str) -> Result<Host> {
    let mut host = Host::new(World::new(programs!())?, tpm)?;
    let place = host.path("db").display().to_string();
    host.configure(&format!("  - {{type: x509, name: db, key: tpm, destination: {place}}}\n"))?;
    host.start()?;
    host.wait_healthy()?;
    Ok(host)
}

/// A file of the service.
fn file(host: &Host, name: &str) -> Result<String> {
    Ok(fs::read_to_string(host.path("db").join(name))?)
}

/// The events of this name of a service so far, all granted.
fn granted(host: &Host, event: &str, service: &str) -> Result<Vec<Value>> {
    let text = fs::read_to_string(host.world.path("data/audit.jsonl"))?;
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let events = whole.map(serde_json::from_str).collect::<serde_json::Result<Vec<Value>>>();
    let mut events = events?;
    events.retain(|line| line["event"] == event && line["service"] == service);
    ensure!(events.iter().all(|line| line["outcome"] == "granted"), "{events:#?}");
    Ok(events)
}

/// Waits until the audit log, which follows what was granted, has so many proofs of the service's key.
fn is_proven(host: &Host, times: usize) -> Result<()> {
    until(|| {
        let proofs = granted(host, "bot.prove_key", "db")?.len();
        ensure!(proofs == times, "{proofs} proofs");
        Ok(())
    })
}

/// Has everything renewed, and waits until the files of the service are: they come after the audit log.
fn renew(host: &Host) -> Result<()> {
    let before = file(host, "svid.pem")?;
    host.signal("USR1")?;
    until(|| {
        ensure!(file(host, "svid.pem")? != before, "not renewed: {}", host.log());
        Ok(())
    })?;
    host.wait_healthy()
}

#[test]
fn key_in_the_tpm_is_proven_once_and_kept_for_all_certificates() -> Result<()> {
    let swtpm = start(Kind::P256)?;
    let tap = Tap::new(&swtpm)?;
    let mut host = host(&tap.tcti())?;
    let (key, first) = (file(&host, "svid.key")?, file(&host, "svid.pem")?);
    ensure!(key.starts_with("-----BEGIN TSS2 PRIVATE KEY-----\n"), "{key}");
    let certificate = host.path("db/svid.pem").display().to_string();
    let shown = run("openssl", &["x509", "-in", &certificate, "-noout", "-text"])?;
    ensure!(shown.contains("Policy: 2.23.133.11.1.2"), "{shown}");
    let instances =
        host.world.authority(&["get", "bot_instances", "--format", "json"])?.success()?;
    let instances: Value = serde_json::from_str(&instances)?;
    let services = &instances[0]["status"]["services"];
    ensure!(services["db"]["key_location"] == "tpm", "{services:#}");
    ensure!(services["web"].get("key_location").is_none(), "{services:#}");
    let arguments = ["audit", "ls", "--event", "bot.issue", "--format", "json"];
    let issued = host.world.authority(&arguments)?.success()?;
    ensure!(issued.lines().any(|line| line.contains("\"key_location\":\"tpm\"")), "{issued}");
    ensure!(issued.lines().any(|line| !line.contains("key_location")), "{issued}");

    let before = tap.recording().exchanges().len();
    renew(&host)?;
    let exchanges = tap.recording().exchanges().split_off(before);
    let commands: Vec<_> = exchanges.iter().map(|one| command_code(&one.command)).collect();
    let (create, sign, flush) =
        (CommandCode::CREATE_PRIMARY, CommandCode::SIGN, CommandCode::FLUSH_CONTEXT);
    let connection = [create, sign, flush];
    let signature = [create, CommandCode::LOAD, sign, flush, flush];
    assert_eq!(commands, [&connection[..], &signature].concat());
    ensure!(file(&host, "svid.pem")? != first, "the same certificate");
    assert_eq!(file(&host, "svid.key")?, key);

    // A restart takes the stored key up, also where the files are gone.
    host.signal("TERM")?;
    host.ended()?;
    fs::remove_dir_all(host.path("db"))?;
    host.start()?;
    until(|| file(&host, "svid.key"))?;
    assert_eq!(file(&host, "svid.key")?, key);
    is_proven(&host, 1)?;
    Ok(())
}

/// TPM2_Clear makes another owner seed, with which no key from before can be loaded.
#[test]
fn cleared_tpm_gets_another_key() -> Result<()> {
    let swtpm = start_tcp(Kind::P256)?;
    let mut host = host(&swtpm.tcti())?;
    let key = file(&host, "svid.key")?;
    host.signal("TERM")?;
    host.ended()?;
    swtpm.tool("tpm2_clear", &["-c", "p"])?;
    host.start()?;
    host.wait_healthy()?;
    renew(&host)?;
    ensure!(host.log().contains("creating another key in the TPM"), "{}", host.log());
    ensure!(file(&host, "svid.key")? != key, "the same key");
    is_proven(&host, 2)?;
    Ok(())
}

/// An operator removes the stored key, and has everything renewed.
#[test]
fn removed_key_is_replaced_at_the_next_renewal() -> Result<()> {
    let swtpm = start(Kind::P256)?;
    let host = host(&swtpm.tcti())?;
    let stored = host.path("bot/tpm-key-db.pem");
    let key = file(&host, "svid.key")?;
    assert_eq!(fs::read_to_string(&stored)?, key);
    fs::remove_file(&stored)?;
    host.signal("USR1")?;
    let next = until(|| {
        let next = file(&host, "svid.key")?;
        ensure!(next != key, "the same key: {}", host.log());
        Ok(next)
    })?;
    assert_eq!(fs::read_to_string(&stored)?, next);
    is_proven(&host, 2)?;
    Ok(())
}

const PASSWORD: &str = "correct horse battery";

/// What a TPM that is opened for it does, and the bytes that were on the bus.
fn opened<R>(
    swtpm: &Swtpm,
    work: impl FnOnce(&mut Tpm<Record<tests::tpm::Way>>) -> R,
) -> Result<(R, Recording)> {
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(swtpm)?, recording.clone()));
    Ok((work(&mut tpm), recording))
}

#[test]
fn password_of_the_owner_hierarchy_is_proven_and_never_said() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    swtpm.tool("tpm2_changeauth", &["-c", "owner", PASSWORD])?;
    let directory = tempfile::tempdir()?;
    let passwords = |content: &str| -> Result<Passwords> {
        let path = directory.path().join("password");
        fs::write(&path, content)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let files = PasswordFiles { owner: Some(path), ..PasswordFiles::default() };
        files.read().map_err(anyhow::Error::msg)
    };
    for (given, message) in [
        (Passwords::default(), "the TPM's owner hierarchy has a password"),
        (passwords("another")?, "wrong password for the TPM's owner hierarchy"),
    ] {
        let failure = opened(&swtpm, |tpm| ServiceKey::create(tpm, &given))?.0.unwrap_err();
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Permission, message));
    }
    let right = passwords(PASSWORD)?;
    let (created, first) = opened(&swtpm, |tpm| ServiceKey::create(tpm, &right))?;
    let key = created.map_err(anyhow::Error::msg)?;
    let key = ServiceKey::from_pem(&key.to_pem().map_err(anyhow::Error::msg)?);
    let key = key.map_err(anyhow::Error::msg)?;
    let (signed, second) = opened(&swtpm, |tpm| key.sign(tpm, &right, &[7; 32]))?;
    let Used::Done(signature) = signed.map_err(anyhow::Error::msg)? else {
        anyhow::bail!("not loaded")
    };
    key.verifying_key().verify_prehash(&[7; 32], &Signature::from_der(&signature)?)?;
    for recording in [first, second] {
        let is_said =
            |bytes: &[u8]| bytes.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes());
        let exchanges = recording.exchanges();
        ensure!(!exchanges.is_empty() && !exchanges.iter().any(|one| is_said(&one.command)));
    }
    Ok(())
}

#[test]
fn key_of_another_tpm_is_not_loaded() -> Result<()> {
    let (one, other) = (start(Kind::NoCertificates)?, start(Kind::P256)?);
    let none = Passwords::default();
    let key = opened(&one, |tpm| ServiceKey::create(tpm, &none))?.0.map_err(anyhow::Error::msg)?;
    let used = opened(&other, |tpm| key.sign(tpm, &none, &[7; 32]))?.0;
    let used = used.map_err(anyhow::Error::msg).context("sign")?;
    ensure!(matches!(used, Used::NotLoaded), "{used:?}");
    Ok(())
}
