//! `agent doctor` on healthy software TPMs, and with each kind of problem.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use authority::issue::{CaKey, X509Ca};
use host::clock::Clock;
use serde_json::{Value, json};
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use tests::programs;
use tests::world::{CLUSTER, Said, World, run};
use time::Duration;

const RSA_CERTIFICATE: &str = "0x01c00002";

fn tpm(kind: Kind) -> Result<Swtpm> {
    Factory::shared().tpm(Maker::Vendor, kind)?.start_tcp()
}

/// What the doctor says of a TPM, and how it ends.
struct Seen {
    code: Option<i32>,
    report: Value,
    err: String,
}

impl Seen {
    fn of(world: &World, tpm: &str, more: &[&str]) -> Result<Self> {
        let doctor = ["doctor", "--format", "json", "--tpm", tpm];
        let Said { code, out, err } = world.agent(&[&doctor, more].concat())?;
        let report = serde_json::from_str(&out).with_context(|| format!("{out}{err}"))?;
        Ok(Self { code, report, err })
    }

    fn alone(swtpm: &Swtpm) -> Result<Self> {
        Self::of(&World::absent(programs!())?, &swtpm.tcti(), &[])
    }

    fn checks(&self) -> impl Iterator<Item = &Value> {
        self.report["checks"].as_array().into_iter().flatten()
    }

    /// The line of this name, which has this verdict and these words.
    fn has(&self, name: &str, verdict: &str, words: &str) -> Result<()> {
        let named = || self.checks().filter(|check| check["name"] == name);
        let found = named().any(|check| {
            let finding = check["finding"].as_str().unwrap_or_default();
            check["verdict"] == verdict && finding.contains(words)
        });
        let lines: Vec<_> = named().collect();
        ensure!(found, "no {verdict} with {words:?} in {lines:#?}");
        Ok(())
    }

    /// Ends as a join would, with the same words.
    fn fails(&self, code: i32) -> Result<()> {
        let failed = self.checks().find(|check| check["verdict"] == "fail").context("no fail")?;
        let finding = failed["finding"].as_str().context("no finding")?;
        ensure!(self.code == Some(code), "ended with {:?}: {}", self.code, self.err);
        ensure!(self.err.contains(&format!("error: {finding}\n")), "{}", self.err);
        ensure!(self.report["verdict"] == "fail", "{:#}", self.report);
        Ok(())
    }
}

#[test]
fn healthy_tpm_is_reported_and_not_changed() -> Result<()> {
    for kind in [Kind::RsaAndP384, Kind::RsaNotPersistent, Kind::P256NotPersistent] {
        let swtpm = tpm(kind)?;
        let before = swtpm.handles()?;
        let seen = Seen::alone(&swtpm)?;
        ensure!(seen.code == Some(0) && seen.err.is_empty(), "{:#}{}", seen.report, seen.err);
        ensure!(seen.report["verdict"] == "ok" || seen.report["verdict"] == "skip");
        ensure!(
            seen.checks()
                .all(|check| ["ok", "skip"].contains(&check["verdict"].as_str().unwrap_or("")))
        );
        seen.has("maker", "ok", "software")?;
        seen.has("endorsement-key", "ok", "matches the key")?;
        ensure!(swtpm.handles()? == before, "something is left behind in the TPM");
    }
    Ok(())
}

#[test]
fn the_report_has_the_form_that_programs_rely_on() -> Result<()> {
    let seen = Seen::alone(&tpm(Kind::RsaAndP384)?)?;
    let keys = |value: &Value| -> Vec<String> {
        value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
    };
    ensure!(keys(&seen.report) == ["checks", "tpm_commands", "verdict"], "{:#}", seen.report);
    let names: Vec<_> = seen.checks().map(|check| check["name"].as_str().unwrap_or("")).collect();
    let expected = [
        "access",
        "answer",
        "maker",
        "firmware",
        "lockout",
        "hierarchies",
        "handles",
        "tpm-clock",
        "endorsement-key",
        "endorsement-key",
        "clock",
        "configuration",
    ];
    ensure!(names == expected, "{names:?}");
    for check in seen.checks() {
        ensure!(check["finding"].is_string(), "{check}");
        let advised = ["warn", "fail"].contains(&check["verdict"].as_str().unwrap_or(""));
        let expected: &[&str] = if advised {
            &["advice", "finding", "name", "verdict"]
        } else {
            &["finding", "name", "verdict"]
        };
        ensure!(keys(check) == expected, "{check}");
    }
    let commands = seen.report["tpm_commands"].as_u64().context("a number")?;
    ensure!(commands <= 12, "{commands} commands");
    Ok(())
}

#[test]
fn a_tpm_without_certificates_is_one_that_only_its_hash_tells() -> Result<()> {
    let seen = Seen::alone(&tpm(Kind::NoCertificates)?)?;
    ensure!(seen.code == Some(0), "{}", seen.err);
    seen.has("endorsement-key", "warn", "no certificate")
}

#[test]
fn a_lockout_is_said_with_its_end() -> Result<()> {
    let swtpm = tpm(Kind::RsaAndP384)?;
    let limits = ["--setup-parameters", "--max-tries=2", "--recovery-time=3600"];
    swtpm
        .tool("tpm2_dictionarylockout", &[&limits[..], &["--lockout-recovery-time=60"]].concat())?;
    let index = "0x01500001";
    let secret = ["-s", "8", "-a", "authread|authwrite", "-p", "secret"];
    swtpm.tool("tpm2_nvdefine", &[&[index, "-C", "o"], &secret[..]].concat())?;
    let guess = || swtpm.tool("tpm2_nvread", &[index, "-C", index, "-P", "guess"]);
    ensure!(guess().is_err());
    let seen = Seen::alone(&swtpm)?;
    seen.has("lockout", "warn", "1 of 2 wrong passwords, the count decreases by one every 1h")?;
    ensure!(guess().is_err());
    let seen = Seen::alone(&swtpm)?;
    seen.has(
        "lockout",
        "warn",
        "locked out, 2 of 2 wrong passwords: the next attempt is possible in 1h",
    )?;
    ensure!(seen.code == Some(0), "a join works: {}", seen.err);
    Ok(())
}

#[test]
fn missing_endorsement_password_is_reported() -> Result<()> {
    let swtpm = tpm(Kind::RsaAndP384)?;
    swtpm.tool("tpm2_changeauth", &["-c", "endorsement", "secret"])?;
    let seen = Seen::alone(&swtpm)?;
    seen.has("hierarchies", "fail", "the endorsement hierarchy has a password")?;
    seen.fails(77)
}

#[test]
fn leftover_objects_of_others_are_reported() -> Result<()> {
    let swtpm = tpm(Kind::RsaAndP384)?;
    let scratch = tempfile::tempdir()?;
    let context = scratch.path().join("context").display().to_string();
    for (objects, verdict) in [(1, "warn"), (3, "fail")] {
        swtpm.tool("tpm2_flushcontext", &["-t"])?;
        for _ in 0..objects {
            swtpm.tool("tpm2_createprimary", &["-G", "ecc", "-c", &context])?;
        }
        let seen = Seen::alone(&swtpm)?;
        let words = if objects == 3 { "no free slot for an object" } else { "0x80000000" };
        seen.has("handles", verdict, words)?;
        ensure!(swtpm.handles()?.transient.len() == objects, "it touched what is others'");
    }
    Ok(())
}

#[test]
fn a_certificate_of_another_tpm_is_known_as_such() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let file = scratch.path().join("certificate").display().to_string();
    let other = Factory::shared().unit(Maker::Vendor, Kind::RsaAndP384, 1)?.start_tcp()?;
    other.tool("tpm2_nvread", &[RSA_CERTIFICATE, "-o", &file])?;
    let size = fs::metadata(&file)?.len().to_string();
    let swtpm = tpm(Kind::RsaAndP384)?;
    swtpm.tool("tpm2_nvundefine", &[RSA_CERTIFICATE, "-C", "p"])?;
    let attributes = "ppwrite|ppread|ownerread|authread|no_da|platformcreate";
    let index = ["-C", "p", "-s", &size, "-a", attributes];
    swtpm.tool("tpm2_nvdefine", &[&[RSA_CERTIFICATE], &index[..]].concat())?;
    swtpm.tool("tpm2_nvwrite", &[RSA_CERTIFICATE, "-C", "p", "-i", &file])?;

    let before = swtpm.handles()?;
    let seen = Seen::alone(&swtpm)?;
    seen.has("endorsement-key", "fail", "is not for this TPM's rsa2048 endorsement key")?;
    seen.has("endorsement-key", "ok", "p384")?;
    seen.fails(65)?;
    ensure!(swtpm.handles()? == before, "something is left behind in the TPM");
    Ok(())
}

#[test]
fn without_a_device_the_rest_is_left_out() -> Result<()> {
    let world = World::absent(programs!())?;
    let seen = Seen::of(&world, "device:/dev/absent/tpmrm0", &[])?;
    seen.has("device", "fail", "no /dev/absent/tpmrm0")?;
    seen.has("access", "skip", "")?;
    ensure!(
        seen.report["tpm_commands"] == 0 && seen.checks().all(|check| check["name"] != "answer")
    );
    seen.fails(74)?;

    fs::write(world.path("tpmrm0"), "")?;
    let path = format!("device:{}", world.path("tpmrm0").display());
    let seen = Seen::of(&world, &path, &[])?;
    seen.has("device", "fail", "is not a device")?;
    seen.fails(78)
}

#[test]
fn a_tpm_that_another_program_holds_is_said_to_be_silent() -> Result<()> {
    let swtpm = Factory::shared().tpm(Maker::Vendor, Kind::P256)?.start()?;
    let tcti = swtpm.tcti();
    let socket = tcti.strip_prefix("swtpm:path=").context("a socket")?;
    let _held = UnixStream::connect(socket)?;
    let seen = Seen::of(&World::absent(programs!())?, &tcti, &[])?;
    seen.has("answer", "fail", "the TPM has not responded within 10 seconds")?;
    seen.fails(75)
}

#[test]
fn a_configuration_brings_its_storage_and_its_authority() -> Result<()> {
    let swtpm = tpm(Kind::RsaAndP384)?;
    let mut world = World::new(programs!())?;
    let tcti = swtpm.tcti();
    world.allow("t", &world.rule(&tcti)?, &[])?;
    let bot = world.path("bot").display().to_string();
    let config = format!(
        "version: v2\nproxy_server: {}\nonboarding:\n  token: t\n  ca_pins: [{}]\nstorage: {bot}\n",
        world.address(),
        world.pin()
    );
    fs::write(world.path("tbot.yaml"), config)?;
    let with = ["-c", "tbot.yaml"];
    let seen = Seen::of(&world, &tcti, &with)?;
    ensure!(seen.code == Some(0), "{:#}", seen.report);
    seen.has("storage", "ok", "does not exist yet")?;
    seen.has("authority", "ok", "is reachable and trusted")?;
    ensure!(!world.path("bot").exists(), "the doctor made the storage");

    world.join(&tcti, "t", "bot")?.success()?;
    Seen::of(&world, &tcti, &with)?.has("storage", "ok", "bot my-bot of tests.endorse.test")?;
    let other = Factory::shared().unit(Maker::Vendor, Kind::RsaAndP384, 1)?.start_tcp()?;
    let seen = Seen::of(&world, &other.tcti(), &with)?;
    seen.has("storage", "fail", "belongs to another TPM")?;
    seen.fails(65)?;

    world.stop()?;
    let seen = Seen::of(&world, &tcti, &with)?;
    seen.has("authority", "fail", "cannot reach the authority")?;
    seen.fails(69)?;
    fs::write(world.path("tbot.yaml"), "version: v2\nnonsense: 1\n")?;
    let seen = Seen::of(&world, &tcti, &with)?;
    seen.has("endorsement-key", "ok", "rsa2048")?;
    seen.has("configuration", "fail", "tbot.yaml:2:1")?;
    seen.fails(78)
}

/// A host that has joined, and the authority of another cluster, whose CA stands for the next one of the first.
struct Joined {
    swtpm: Swtpm,
    world: World,
    other: World,
}

impl Joined {
    fn new() -> Result<Self> {
        let (swtpm, world) = (tpm(Kind::P256)?, World::new(programs!())?);
        world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
        world.join(&swtpm.tcti(), "t", "bot")?.success()?;
        Ok(Self { swtpm, world, other: World::new(programs!())? })
    }

    /// What the doctor says if the agent is configured like this, and its trust bundle has these CAs.
    fn seen(&self, address: &str, pins: &[&str], bundle: &[&Path]) -> Result<Seen> {
        let base64 = |ca: &&Path| -> Result<String> {
            let text = fs::read_to_string(ca)?;
            Ok(text.lines().filter(|line| !line.starts_with("-----")).collect())
        };
        let bundle: Vec<String> = bundle.iter().map(base64).collect::<Result<_>>()?;
        let path = self.world.path("bot/identity.json");
        let mut identity: Value = serde_json::from_slice(&fs::read(&path)?)?;
        identity["x509_authorities"] = json!(bundle);
        fs::write(&path, identity.to_string())?;
        let config = format!(
            "version: v2\nproxy_server: {address}\nonboarding:\n  token: t\n  ca_pins: [{}]\nstorage: {}\n",
            pins.join(", "),
            self.world.path("bot").display()
        );
        fs::write(self.world.path("tbot.yaml"), config)?;
        Seen::of(&self.world, &self.swtpm.tcti(), &["-c", "tbot.yaml"])
    }
}

/// Where a world has the certificate of its CA.
fn ca(world: &World) -> PathBuf {
    world.path("data/cluster/x509-ca.pem")
}

#[test]
fn trust_bundle_is_compared_with_the_configured_pins() -> Result<()> {
    let joined = Joined::new()?;
    let Joined { world, other, .. } = &joined;
    let (address, pin, next) = (world.address(), world.pin(), other.pin());
    let [own_ca, next_ca] = [ca(world), ca(other)];

    let seen = joined.seen(address, &[pin], &[&own_ca, &next_ca])?;
    seen.has("trust-bundle", "ok", &format!("CA {pin} (configured) is valid until 20"))?;
    seen.has("trust-bundle", "ok", &format!("CA {next} (not configured) is valid until 20"))?;
    ensure!(seen.code == Some(0) && seen.report["verdict"] == "ok", "{:#}", seen.report);

    let seen = joined.seen(address, &[pin, next], &[&own_ca])?;
    let unused = format!("the configured CA {next} is not in the trust bundle");
    seen.has("trust-bundle", "warn", &unused)?;
    ensure!(seen.code == Some(0), "a join works: {}", seen.err);

    let seen = joined.seen(address, &[pin], &[&next_ca])?;
    let replaced = "no configured CA is in the trust bundle: the cluster has replaced its CAs";
    seen.has("trust-bundle", "warn", replaced)?;
    let advised = seen.checks().filter_map(|check| check["advice"].as_str());
    ensure!(advised.into_iter().any(|advice| advice.contains(next)), "{:#}", seen.report);

    let seen = joined.seen(address, &[next], &[&own_ca])?;
    seen.has("trust-bundle", "warn", "the agent joins again")?;
    seen.fails(69)
}

#[test]
fn keys_of_services_and_attestation_are_told_if_they_are_configured() -> Result<()> {
    let joined = Joined::new()?;
    let Joined { world, .. } = &joined;
    let seen = joined.seen(world.address(), &[world.pin()], &[&ca(world)])?;
    let names: Vec<_> = seen.checks().map(|check| check["name"].clone()).collect();
    ensure!(!names.contains(&json!("service-keys")) && !names.contains(&json!("attestation")));

    let path = world.path("tbot.yaml");
    let services = "services:\n  - {type: x509, name: a, key: tpm, destination: /a}\n  - {type: x509, name: b, \
                    destination: /b}\n  - {type: x509, name: c, key: tpm, destination: /c}\n  - {type: \
                    workload-identity-api, listen: unix:///run/x/s}\n";
    let text = fs::read_to_string(&path)? + services;
    fs::write(&path, text)?;
    fs::write(world.path("bot/tpm-key-c.pem"), "")?;
    let seen = Seen::of(world, &joined.swtpm.tcti(), &["-c", "tbot.yaml"])?;
    seen.has("service-keys", "ok", "in the TPM: a (not created yet), c")?;
    seen.has("attestation", "ok", "SO_PEERPIDFD")
}

#[test]
fn authority_that_only_the_trust_bundle_knows_is_said_to_renew() -> Result<()> {
    let joined = Joined::new()?;
    let (pin, next_ca) = (joined.world.pin(), ca(&joined.other));
    let seen = joined.seen(joined.other.address(), &[pin], &[&next_ca])?;
    seen.has("authority", "fail", "renewals work, since the trust bundle has its CA")?;
    seen.fails(69)?;
    let seen = joined.seen(joined.other.address(), &[pin], &[&ca(&joined.world)])?;
    seen.has("authority", "fail", "is not the authority")?;
    ensure!(!seen.err.contains("renewals work"), "{}", seen.err);
    Ok(())
}

#[test]
fn expiry_of_the_last_ca_is_reported() -> Result<()> {
    let joined = Joined::new()?;
    let (address, pin) = (joined.world.address(), joined.world.pin());
    // CAs are valid for ten years.
    let made = |days| -> Result<PathBuf> {
        let (name, now) = (CLUSTER.parse()?, Clock::system().now() - Duration::days(days));
        let ca = X509Ca::create(&name, CaKey::generate()?, now)?;
        let [der, pem] = ["der", "pem"].map(|form| joined.world.path(&format!("{days}.{form}")));
        fs::write(&der, ca.certificate())?;
        let [from, to] = [&der, &pem].map(|path| path.display().to_string());
        run("openssl", &["x509", "-inform", "der", "-in", &from, "-out", &to])?;
        Ok(pem)
    };
    let (own, ending, ended) = (ca(&joined.world), made(3640)?, made(3660)?);

    let seen = joined.seen(address, &[pin], &[&own, &ending, &ended])?;
    seen.has("trust-bundle", "ok", "(not configured) expired at 20")?;
    ensure!(seen.report["verdict"] == "ok", "another CA replaces it: {:#}", seen.report);
    let lasts_no_month = "in 30 days, no CA of the trust bundle is valid any more";
    joined.seen(address, &[pin], &[&ending])?.has("trust-bundle", "warn", lasts_no_month)?;
    joined.seen(address, &[pin], &[&ended])?.has("trust-bundle", "warn", "expired at 20")
}
