//! `authority ek check`: which CA vouches for a TPM's certificate, or why none does.

use std::fs;

use anyhow::{Context, Result};
use testkit::forge::{Ca, Template, modulus, named, oid, rsa_spki};
use testkit::swtpm::{Factory, Kind, Maker};
use tests::programs;
use tests::tpm::{client, ek_kind, start};
use tests::world::{Said, World, run};
use tpm2::endorsement::{self, Passwords};

/// A directory with the certificate of a TPM, and those of its maker and of the maker's namesake.
fn desk() -> Result<World> {
    let world = World::absent(programs!())?;
    let swtpm = start(Kind::P256)?;
    let der = endorsement::certificate(&mut client(&swtpm)?, ek_kind("p256"), Passwords::NONE)?;
    let der = der.context("no certificate")?;
    fs::write(world.path("ek.der"), &der)?;
    fs::write(world.path("ek.nv"), [&[0x10, 0x01, 0x00, 0, 0], &der[..], &[0xff; 99]].concat())?;
    let [from, to] = ["ek.der", "ek.pem"].map(|name| world.path(name).display().to_string());
    run("openssl", &["x509", "-inform", "DER", "-in", &from, "-out", &to])?;
    for (maker, name) in [(Maker::Vendor, "vendor"), (Maker::Namesake, "namesake")] {
        let ca = Factory::shared().ca(maker)?;
        fs::write(world.path(&format!("{name}-root.pem")), ca.root_pem())?;
        fs::write(world.path(&format!("{name}-issuer.pem")), ca.issuer_pem())?;
    }
    Ok(world)
}

fn check(world: &World, more: &[&str]) -> Result<Said> {
    world.authority(&[&["ek", "check"], more].concat())
}

#[test]
fn a_certificate_in_any_form_is_vouched_for_by_root_or_issuer() -> Result<()> {
    let world = desk()?;
    for file in ["ek.der", "ek.pem", "ek.nv"] {
        let said = check(&world, &["--cas", "vendor-issuer.pem", file])?.success()?;
        assert!(said.contains("Key            P-256\n"), "{said}");
        assert!(said.contains("Trusted CA     "), "{said}");
        assert!(!said.contains("Intermediate"), "{said}");
        let root = ["--cas", "vendor-root.pem", "--chain", "vendor-issuer.pem", file];
        let said = check(&world, &root)?.success()?;
        assert!(said.contains("Intermediate   "), "{said}");
    }
    Ok(())
}

#[test]
fn unreadable_ca_of_a_bundle_is_warned_of_and_the_rest_is_used() -> Result<()> {
    let world = desk()?;
    let issuer = fs::read_to_string(world.path("vendor-issuer.pem"))?;
    let bad = issuer.replacen("MII", "MIJ", 1);
    fs::write(world.path("bundle.pem"), [bad.as_str(), &issuer].concat())?;
    let said = check(&world, &["--cas", "bundle.pem", "ek.pem"])?;
    assert!(said.err.starts_with("warning: bundle.pem: block 1 at line 1"), "{said:?}");
    assert!(said.err.ends_with("; the rest is used\n"), "{said:?}");
    assert!(said.out.contains("Trusted CA     "), "{said:?}");
    fs::write(world.path("bad.pem"), &bad)?;
    let said = check(&world, &["--cas", "bad.pem", "ek.pem"])?;
    assert!(said.failure(65)?[0].contains("bad.pem: block 1 at line 1"), "{said:?}");
    Ok(())
}

#[test]
fn untrusted_ek_certificate_is_reported_with_reason_and_advice() -> Result<()> {
    let world = desk()?;
    let said = check(&world, &["--cas", "vendor-root.pem", "ek.pem"])?;
    let [what, advice] = said.failure(1)?;
    assert!(what.contains("was issued by an unknown CA"), "{what}");
    assert!(advice.contains("add the certificate of its issuer"), "{advice}");
    let said = check(&world, &["--cas", "namesake-issuer.pem", "ek.pem"])?;
    let [what, advice] = said.failure(1)?;
    assert!(what.contains("whose key did not sign it"), "{what}");
    assert!(advice.contains("the certificate of the CA of that name"), "{advice}");
    for (file, words) in
        [("vendor-root.pem", "is a CA certificate"), ("vendor-root.pem.absent", "cannot read")]
    {
        let said = check(&world, &["--cas", "vendor-root.pem", file])?;
        assert!(said.err.contains(words), "{said:?}");
    }
    assert!(check(&world, &["--cas", "ek.pem", "ek.pem"])?.failure(65)?[0].contains("not a CA"));
    Ok(())
}

#[test]
fn relaxed_checks_require_their_options() -> Result<()> {
    let world = desk()?;
    let ca = Ca::new("old");
    let key = rsa_spki(&modulus("old", 256), &[1, 0, 1]);
    let old = Template::ek(&key)
        .without(oid::EXTENDED_KEY_USAGE)
        .without(oid::SUBJECT_ALT_NAME)
        .with(|ek| ek.subject = named("old"))
        .issued_by(&ca)
        .over_sha1();
    fs::write(world.path("ca.pem"), ca.root().pem())?;
    fs::write(world.path("old.pem"), old.pem())?;
    let said = check(&world, &["--cas", "ca.pem", "old.pem"])?;
    let [what, advice] = said.failure(1)?;
    assert!(what.contains("is not marked as an EK certificate"), "{what}");
    assert!(advice.contains("--ek-without-purpose accepted"), "{advice}");
    let without = ["--ek-without-purpose", "accepted", "--cas", "ca.pem", "old.pem"];
    let said = check(&world, &without)?;
    let [what, advice] = said.failure(1)?;
    assert!(what.contains("is signed over SHA-1"), "{what}");
    assert!(advice.contains("--ek-sha1 accepted"), "{advice}");
    check(&world, &[&["--ek-sha1", "accepted"], &without[..]].concat())?.success()?;
    Ok(())
}
