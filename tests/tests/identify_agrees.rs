//! `agent identify` says what tpm2-tools and OpenSSL say of the same TPM.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use testkit::child::Scratch;
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use tests::programs;
use tests::world::{Said, World, run};

fn tpm(kind: Kind) -> Result<Swtpm> {
    Factory::shared().tpm(Maker::Vendor, kind)?.start_tcp()
}

fn identify(swtpm: &Swtpm, arguments: &[&str]) -> Result<Said> {
    let world = World::absent(programs!())?;
    world.agent(&[&["identify", "--tpm", &swtpm.tcti()], arguments].concat())
}

/// Lowercase hexadecimal SHA-256 of a key's SubjectPublicKeyInfo, by OpenSSL.
fn hash(pem: &Path) -> Result<String> {
    let der = pem.with_extension("der");
    let (pem, out) = (pem.display().to_string(), der.display().to_string());
    run("openssl", &["pkey", "-pubin", "-in", &pem, "-pubout", "-outform", "DER", "-out", &out])?;
    let said = run("openssl", &["dgst", "-sha256", "-r", &out])?;
    Ok(said.split(' ').next().context("a hash")?.to_owned())
}

/// The hash of the endorsement key that tpm2_createek makes.
fn created(swtpm: &Swtpm, algorithm: &str) -> Result<String> {
    let scratch = Scratch::new("endorse-ek")?;
    let (context, public) = (scratch.path().join("ek.ctx"), scratch.path().join("ek.pem"));
    let (context, pem) = (context.display().to_string(), public.display().to_string());
    swtpm.tool("tpm2_createek", &["-G", algorithm, "-c", &context, "-u", &pem, "-f", "pem"])?;
    swtpm.tool("tpm2_flushcontext", &["-t"])?;
    hash(&public)
}

/// The serial number of a certificate in NV, as OpenSSL reads it and the guide writes it.
fn serial(swtpm: &Swtpm, index: &str) -> Result<String> {
    let scratch = Scratch::new("endorse-ek")?;
    let file = scratch.path().join("ek.der").display().to_string();
    swtpm.tool("tpm2_nvread", &[index, "-o", &file])?;
    let said = run("openssl", &["x509", "-inform", "DER", "-in", &file, "-noout", "-serial"])?;
    let digits = said.trim().strip_prefix("serial=").context("a serial")?.to_lowercase();
    let octets: Vec<&str> = (0..digits.len()).step_by(2).map(|at| &digits[at..at + 2]).collect();
    Ok(octets.join(":"))
}

fn text(hash: &str, serial: Option<&str>) -> String {
    let serial = serial.map(|serial| format!("EKCert Serial: {serial}\n")).unwrap_or_default();
    format!(
        "TPM Information\nEKPub Hash: {hash}\nEKCert Detected: {}\n{serial}",
        !serial.is_empty()
    )
}

/// The key that is chosen by itself, or by `--ek`.
fn agrees(kind: Kind, ek: &[&str], algorithm: &str, index: Option<&str>) -> Result<()> {
    let swtpm = tpm(kind)?;
    let before = swtpm.handles()?;
    let hash = created(&swtpm, algorithm)?;
    let serial = index.map(|index| serial(&swtpm, index)).transpose()?;
    assert_eq!(identify(&swtpm, ek)?.success()?, text(&hash, serial.as_deref()), "{kind:?} {ek:?}");
    let rule = identify(&swtpm, &[ek, &["--format", "rule"]].concat())?.success()?;
    assert!(rule.contains(&format!("ek_public_hash: \"{hash}\"\n")), "{rule}");
    assert_eq!(swtpm.handles()?, before);
    Ok(())
}

#[test]
fn rsa_2048() -> Result<()> {
    agrees(Kind::RsaAndP384, &[], "rsa", Some("0x1c00002"))
}

#[test]
fn rsa_2048_that_is_not_persistent() -> Result<()> {
    agrees(Kind::RsaNotPersistent, &[], "rsa", Some("0x1c00002"))
}

#[test]
fn p256() -> Result<()> {
    agrees(Kind::P256, &[], "ecc", Some("0x1c0000a"))
}

#[test]
fn p256_that_is_not_persistent() -> Result<()> {
    agrees(Kind::P256NotPersistent, &[], "ecc", Some("0x1c0000a"))
}

#[test]
fn p256_that_is_asked_for_and_has_no_certificate() -> Result<()> {
    agrees(Kind::RsaAndP384, &["--ek", "p256"], "ecc", None)
}

#[test]
fn p384_alone_and_beside_rsa() -> Result<()> {
    // swtpm_setup makes this key persistent, by the profile's template; tpm2_createek knows another one.
    for (kind, ek) in [(Kind::P384Only, &[][..]), (Kind::RsaAndP384, &["--ek", "p384"])] {
        let swtpm = tpm(kind)?;
        let scratch = Scratch::new("endorse-ek")?;
        let public = scratch.path().join("ek.pem");
        let pem = public.display().to_string();
        swtpm.tool("tpm2_readpublic", &["-c", "0x81010016", "-f", "pem", "-o", &pem])?;
        let serial = serial(&swtpm, "0x1c00016")?;
        assert_eq!(identify(&swtpm, ek)?.success()?, text(&hash(&public)?, Some(&serial)));
    }
    Ok(())
}

#[test]
fn without_a_certificate_the_fourth_line_is_absent() -> Result<()> {
    agrees(Kind::NoCertificates, &[], "rsa", None)
}

#[test]
fn tpm2_getekcertificate_finds_the_same_certificate() -> Result<()> {
    let swtpm = tpm(Kind::RsaAndP384)?;
    let scratch = Scratch::new("endorse-ek")?;
    let file = scratch.path().join("ek.der").display().to_string();
    let other = scratch.path().join("other.der").display().to_string();
    swtpm.tool("tpm2_getekcertificate", &["-o", &file, "-o", &other])?;
    let report: Value = serde_json::from_str(&identify(&swtpm, &["--format", "json"])?.success()?)?;
    let certificate = &report["endorsement_keys"][0]["certificate"];
    let pem = run("openssl", &["x509", "-inform", "DER", "-in", &file])?;
    assert_eq!(certificate["pem"], pem);
    Ok(())
}

#[test]
fn json_has_every_key_and_every_form_of_its_hash() -> Result<()> {
    let swtpm = tpm(Kind::RsaAndP384)?;
    let scratch = Scratch::new("endorse-ek")?;
    let report: Value = serde_json::from_str(&identify(&swtpm, &["--format", "json"])?.success()?)?;
    let keys = report["endorsement_keys"].as_array().context("keys")?;
    let kinds: Vec<_> = keys.iter().map(|key| key["kind"].as_str().unwrap_or_default()).collect();
    assert_eq!(kinds, ["rsa2048", "p384"]);
    assert_eq!(report["tpm"]["manufacturer"], "IBM");
    assert_eq!(report["selected"], keys[0]["ek_public_hash"]);
    for (key, handle) in keys.iter().zip(["0x81010001", "0x81010016"]) {
        assert_eq!(key["persistent_handle"], handle);
        let public = scratch.path().join("ek.pem");
        fs::write(&public, key["public_key"].as_str().context("PEM")?)?;
        let hash = hash(&public)?;
        let forms = &key["forms"];
        assert_eq!(key["ek_public_hash"], hash);
        assert_eq!(forms["teleport"], hash);
        assert_eq!(forms["vault"], format!("sha256-{hash}"));
        let of_pem = run("openssl", &["dgst", "-sha256", "-r", &public.display().to_string()])?;
        assert_eq!(forms["keylime"], of_pem.split(' ').next().context("a hash")?);
        let shown = swtpm.tool("tpm2_readpublic", &["-c", handle])?;
        let name = shown.lines().find_map(|line| line.strip_prefix("name: ")).context("name")?;
        assert_eq!(forms["tpm_name"], name.trim());
    }
    Ok(())
}

#[test]
fn a_missing_tpm_says_what_to_do() -> Result<()> {
    let world = World::absent(programs!())?;
    for (address, words) in [
        ("device:/dev/no-such-tpm", "No such file or directory"),
        ("swtpm:path=/no/such/socket", "No such file or directory"),
        ("swtpm:host=127.0.0.1,port=1", "Connection refused"),
    ] {
        let said = world.agent(&["identify", "--tpm", address])?;
        println!("{}", said.err);
        let [what, _] = said.failure(74)?;
        assert!(what.contains(address) && what.contains(words), "{what}");
    }
    let said = world.agent(&["identify", "--tpm", "device:/dev/no-such-tpm"])?;
    assert!(said.failure(74)?[1].contains("firmware"), "{}", said.err);
    Ok(())
}

#[test]
fn device_that_is_not_a_tpm_is_refused() -> Result<()> {
    let world = World::absent(programs!())?;
    fs::write(world.path("file"), "hello")?;
    let file = format!("device:{}", world.path("file").display());
    for device in ["device:/dev/null", "device:/dev/zero", "device:/dev/full", &file] {
        let said = world.agent(&["identify", "--tpm", device])?;
        println!("{device}: {}", said.err);
        assert!([Some(65), Some(74)].contains(&said.code), "{device}: {said:?}");
        assert_eq!(said.err.lines().count(), 2, "{}", said.err);
        assert!(said.out.is_empty());
    }
    assert_eq!(fs::read(world.path("file"))?, b"hello", "the file was written to");
    Ok(())
}

#[test]
fn the_address_also_comes_from_the_environment_and_the_flag_goes_before_it() -> Result<()> {
    let swtpm = tpm(Kind::P256)?;
    let world = World::absent(programs!())?;
    let with = |variable: &str, arguments: &[&str]| {
        let mut command = world.agent_command(&[&["identify"], arguments].concat());
        Said::by(command.env("AGENT_TPM", variable))
    };
    let expected = identify(&swtpm, &[])?.success()?;
    assert_eq!(with(&swtpm.tcti(), &[])?.success()?, expected);
    assert_eq!(with("device:/dev/null", &["--tpm", &swtpm.tcti()])?.success()?, expected);
    Ok(())
}
