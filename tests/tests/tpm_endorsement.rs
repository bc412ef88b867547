//! Endorsement keys and certificates, against what tpm2-tools and OpenSSL make of the same TPMs.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use tests::tpm::{client, define, ek_kind, sequence, start_tcp, undefine, way};
use tpm2::commands::{Command as _, CreatePrimary};
use tpm2::crypto::object_name;
use tpm2::endorsement::{self, EK_KINDS, EkPublicKey, Passwords, ek_public_key};
use tpm2::object::Loaded;
use tpm2::transport::{Record, Recording};
use tpm2::types::*;
use tpm2::{Fault, Tpm, template};
use verifier::EkCertificate;

/// A key that a TPM leaves the factory with.
struct Made {
    name: &'static str,
    certificate: &'static str,
    persistent: Option<&'static str>,
}

impl Made {
    const fn new(name: &'static str, certificate: &'static str, at: Option<&'static str>) -> Self {
        Self { name, certificate, persistent: at }
    }
}

const RSA: Made = Made::new("rsa2048", "0x01c00002", Some("0x81010001"));
const P384: Made = Made::new("p384", "0x01c00016", Some("0x81010016"));
const P256: Made = Made::new("p256", "0x01c0000a", Some("0x8101000a"));

/// What the factory says of each kind.
const MADE: [(Kind, &[Made]); 6] = [
    (Kind::RsaAndP384, &[RSA, P384]),
    (Kind::RsaNotPersistent, &[Made { persistent: None, ..RSA }, P384]),
    (Kind::P384Only, &[P384]),
    (Kind::P256, &[P256]),
    (Kind::P256NotPersistent, &[Made { persistent: None, ..P256 }]),
    (Kind::NoCertificates, &[]),
];

/// The way to name a template in tpm2_createek.
fn tool_template(name: &str) -> &str {
    match name {
        "rsa2048" => "rsa",
        "p256" => "ecc256",
        other => other,
    }
}

fn openssl(directory: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("openssl").current_dir(directory).args(arguments).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

/// The certificate as tpm2-tools read it.
fn nvread(swtpm: &Swtpm, index: &str) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    let file = path(directory.path(), "content");
    swtpm.tool("tpm2_nvread", &[index, "-C", index, "-o", &file])?;
    Ok(fs::read(file)?)
}

/// The key's SubjectPublicKeyInfo as tpm2-tools and OpenSSL write it.
fn spki_by_tools(swtpm: &Swtpm, name: &str, handle: Option<&str>) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    let (pem, context) = (path(directory.path(), "ek.pem"), path(directory.path(), "ek.ctx"));
    match handle {
        Some(handle) => swtpm.tool("tpm2_readpublic", &["-c", handle, "-f", "pem", "-o", &pem])?,
        None => {
            let arguments = ["-c", &context, "-G", tool_template(name), "-u", &pem, "-f", "pem"];
            swtpm.tool("tpm2_createek", &arguments)?;
            swtpm.tool("tpm2_flushcontext", &["-t"])?
        }
    };
    openssl(directory.path(), &["pkey", "-pubin", "-in", "ek.pem", "-outform", "DER"])
}

/// The same, of what we read or created.
fn spki(ek: &Loaded) -> Result<Vec<u8>> {
    let public = ek.public()?;
    let key = match (public.id, ek_public_key(&public).context("no key")?) {
        (Id::Rsa(_), EkPublicKey::Rsa(modulus)) => {
            verifier::EkPublicKey::Rsa(verifier::RsaKey::new(modulus, 65537)?)
        }
        (Id::Ecc(ecc), EkPublicKey::Ecc(x, y)) => {
            let curve = match ecc.curve {
                Curve::NIST_P256 => verifier::Curve::P256,
                _ => verifier::Curve::P384,
            };
            verifier::EkPublicKey::Ecc(verifier::EccKey::new(curve, x, y)?)
        }
        _ => unreachable!("a public area has the key of its type"),
    };
    Ok(key.spki_der())
}

#[test]
fn certificates_and_keys_of_every_kind_are_those_that_tpm2_tools_find() -> Result<()> {
    assert_eq!(MADE.map(|(kind, _)| kind), Kind::ALL);
    for (kind, keys) in MADE {
        let swtpm = start_tcp(kind)?;
        let names: Vec<_> =
            endorsement::certified(&mut client(&swtpm)?)?.iter().map(|kind| kind.name).collect();
        let expected: Vec<_> = keys.iter().map(|key| key.name).collect();
        assert_eq!(names, expected, "{kind:?}");

        for Made { name, certificate, persistent } in keys {
            let by_tools = spki_by_tools(&swtpm, name, *persistent)?;
            let stored = nvread(&swtpm, certificate)?;
            let before = swtpm.handles()?;
            let mut tpm = client(&swtpm)?;
            let der = endorsement::certificate(&mut tpm, ek_kind(name), Passwords::NONE)?
                .context("none")?;
            assert_eq!(der, stored, "{kind:?} {name}");
            let certificate = EkCertificate::parse(&der)?;
            assert_eq!(certificate.public_key().spki_der(), by_tools, "{kind:?} {name}");

            let found = endorsement::find(&mut tpm, ek_kind(name))?;
            assert_eq!(found.is_some(), persistent.is_some(), "{kind:?} {name}");
            let created = endorsement::create(&mut tpm, ek_kind(name), None, Passwords::NONE)?
                .context("none")?;
            for key in found.iter().chain([&created]) {
                assert_eq!(spki(key)?, by_tools, "{kind:?} {name} {:?}", key.handle());
                assert_eq!(key.public()?, created.public()?);
                let name = object_name(&key.public()?)?;
                assert_eq!(key.salt_key()?.object(), Object::named(key.handle(), name));
            }
            drop(tpm);
            assert_eq!(swtpm.handles()?, before);
        }
    }
    Ok(())
}

#[test]
fn a_tpm_without_certificates_has_the_default_key_of_tpm2_createek() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    for name in ["rsa2048", "p256"] {
        let by_tools = spki_by_tools(&swtpm, name, None)?;
        let mut tpm = client(&swtpm)?;
        assert!(endorsement::certified(&mut tpm)?.is_empty());
        assert!(endorsement::certificate(&mut tpm, ek_kind(name), Passwords::NONE)?.is_none());
        assert!(endorsement::find(&mut tpm, ek_kind(name))?.is_none());
        let created =
            endorsement::create(&mut tpm, ek_kind(name), None, Passwords::NONE)?.context("none")?;
        assert_eq!(spki(&created)?, by_tools);
    }
    Ok(())
}

#[test]
fn a_certificate_costs_two_commands() -> Result<()> {
    for (kind, name) in [(Kind::RsaAndP384, "rsa2048"), (Kind::P384Only, "p384")] {
        let swtpm = start_tcp(kind)?;
        let recording = Recording::default();
        let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
        let der =
            endorsement::certificate(&mut tpm, ek_kind(name), Passwords::NONE)?.context("none")?;
        assert!((769..=1536).contains(&der.len()), "{}", der.len());
        assert_eq!(recording.exchanges().len(), 2);
    }
    Ok(())
}

const CERTIFICATE: Handle = Handle(0x01c0_0002);

/// What the index at [`CERTIFICATE`] is read as when it holds this.
fn stored(
    swtpm: &Swtpm,
    size: usize,
    content: Option<&[u8]>,
) -> Result<Result<Option<Vec<u8>>, tpm2::Error>> {
    define(swtpm, CERTIFICATE, size, content)?;
    let read = endorsement::certificate(&mut client(swtpm)?, ek_kind("rsa2048"), Passwords::NONE);
    undefine(swtpm, CERTIFICATE)?;
    Ok(read)
}

#[test]
fn erased_memory_is_no_certificate() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    for filler in [0x00, 0xff] {
        let error = stored(&swtpm, 900, Some(&[filler; 900]))?.unwrap_err();
        assert!(matches!(error.fault(), Fault::Unwritten(CERTIFICATE)), "{error}");
        assert!(error.to_string().contains("0x01c00002 is provisioned but was never written"));
    }
    Ok(())
}

#[test]
fn a_certificate_is_cut_out_of_whatever_surrounds_it() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    // Around the sizes of chunks: 512 and 768.
    for len in [2, 100, 300, 511, 512, 513, 767, 768, 769, 1016, 1280, 1536, 1537, 2000] {
        let der = sequence(len);
        assert_eq!(stored(&swtpm, len, Some(&der))??, Some(der.clone()), "{len} octets");
        let mut header = vec![0x10, 0x01, 0x00];
        header.extend(u16::try_from(len)?.to_be_bytes());
        let wrapped = [&header[..], &der].concat();
        assert_eq!(
            stored(&swtpm, wrapped.len(), Some(&wrapped))??,
            Some(der.clone()),
            "{len}, wrapped"
        );
        if len < 1900 {
            for (filler, many) in [(0xff, 100), (0x00, 1), (0x30, 40)] {
                let padded = [&der[..], &vec![filler; many]].concat();
                let read = stored(&swtpm, padded.len(), Some(&padded))??;
                assert_eq!(read, Some(der.clone()), "{len} octets, then {filler:#04x}");
            }
        }
    }
    Ok(())
}

#[test]
fn an_index_that_was_never_written_or_is_not_there_holds_no_certificate() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    for size in [1, 100, 1000] {
        assert_eq!(stored(&swtpm, size, None)??, None);
    }
    assert!(
        endorsement::certificate(&mut client(&swtpm)?, ek_kind("rsa2048"), Passwords::NONE)?
            .is_none()
    );
    Ok(())
}

#[test]
fn junk_is_no_certificate_and_said_to_be_malformed() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let mut longer_than_its_index = sequence(1600);
    longer_than_its_index.truncate(1000);
    let indefinite = [&[0x30, 0x80][..], &[0x41; 60], &[0, 0]].concat();
    let three_octets_of_length = [&[0x30, 0x83, 0, 1, 0][..], &[0; 256]].concat();
    for junk in [
        &[0xfe; 1000][..],
        &[0x01; 10],
        b"-----BEGIN CERTIFICATE-----",
        &longer_than_its_index,
        &indefinite,
        &three_octets_of_length,
        &[0x30],
        &[0x10, 0x01, 0x00],
        &[0x10, 0x01, 0x00, 0x00, 0x05],
    ] {
        let error = stored(&swtpm, junk.len(), Some(junk))?.unwrap_err();
        assert!(matches!(error.fault(), Fault::NoCertificate(CERTIFICATE)), "{junk:02x?}: {error}");
        assert!(error.to_string().ends_with("does not hold a certificate"), "{error}");
    }
    Ok(())
}

#[test]
fn an_index_of_another_password_is_an_error_and_not_an_absence() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let index = format!("{:#010x}", CERTIFICATE.0);
    let attributes = "ppwrite|authread|no_da|platformcreate";
    let define = [&index, "-C", "p", "-s", "8", "-a", attributes, "-p", "secret"];
    swtpm.tool("tpm2_nvdefine", &define)?;
    let error = endorsement::certificate(&mut client(&swtpm)?, ek_kind("rsa2048"), Passwords::NONE)
        .unwrap_err();
    assert_eq!(error.refusal(), Some(ResponseCode::BAD_AUTH), "{error}");
    Ok(())
}

const RSA_NONCE: Handle = Handle(0x01c0_0003);
const RSA_TEMPLATE: Handle = Handle(0x01c0_0004);
const P256_NONCE: Handle = Handle(0x01c0_000b);
const P256_TEMPLATE: Handle = Handle(0x01c0_000c);

/// What tpm2_createek makes of a nonce index is another key each time (5.4), so that tpm2_createprimary is the witness.
#[test]
fn template_and_nonce_indices_make_the_key_that_tpm2_createprimary_makes_of_their_content()
-> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let create = || -> Result<Vec<u8>> {
        let mut tpm = client(&swtpm)?;
        spki(
            &endorsement::create(&mut tpm, ek_kind("rsa2048"), None, Passwords::NONE)?
                .context("none")?,
        )
    };
    let nonce = [0x77; 20];
    assert_eq!(create()?, by_createprimary(&swtpm, "", &[])?);
    define(&swtpm, RSA_NONCE, nonce.len(), Some(&nonce))?;
    assert_eq!(create()?, by_createprimary(&swtpm, "", &nonce)?, "the default template");
    let mut public = template::L1;
    public.attributes = public.attributes.with(ObjectAttributes::NO_DA);
    define(&swtpm, RSA_TEMPLATE, 314, Some(&marshalled(&public)?))?;
    assert_eq!(create()?, by_createprimary(&swtpm, "|noda", &nonce)?, "its own template");
    undefine(&swtpm, RSA_NONCE)?;
    assert_eq!(create()?, by_createprimary(&swtpm, "|noda", &[])?);
    Ok(())
}

fn by_createprimary(swtpm: &Swtpm, attributes: &str, unique: &[u8]) -> Result<Vec<u8>> {
    let directory = tempfile::tempdir()?;
    let file = |name| path(directory.path(), name);
    // The size as this machine stores it, then the field.
    let mut filled = 256_u16.to_ne_bytes().to_vec();
    filled.extend(unique);
    filled.resize(2 + 256, 0);
    fs::write(directory.path().join("unique"), filled)?;
    fs::write(directory.path().join("policy"), template::policy::A_SHA256)?;
    let low = "fixedtpm|fixedparent|sensitivedataorigin|adminwithpolicy|restricted|decrypt";
    let attributes = format!("{low}{attributes}");
    let (unique, policy, context, pem) =
        (file("unique"), file("policy"), file("ek.ctx"), file("ek.pem"));
    let key = ["-C", "e", "-G", "rsa2048:aes128cfb", "-g", "sha256", "-a", &attributes];
    let files = ["-u", &unique, "-L", &policy, "-c", &context];
    swtpm.tool("tpm2_createprimary", &[&key[..], &files].concat())?;
    swtpm.tool("tpm2_readpublic", &["-c", &context, "-f", "pem", "-o", &pem])?;
    swtpm.tool("tpm2_flushcontext", &["-t"])?;
    openssl(directory.path(), &["pkey", "-pubin", "-in", "ek.pem", "-outform", "DER"])
}

fn marshalled(public: &Public<'_>) -> Result<Vec<u8>> {
    let mut octets = [0; 1024];
    let mut writer = tpm2::wire::Writer::new(&mut octets);
    writer.write(public)?;
    Ok(writer.into_written().to_vec())
}

#[test]
fn a_nonce_for_a_curve_goes_into_x() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let plain =
        endorsement::create(&mut tpm, ek_kind("p256"), None, Passwords::NONE)?.context("none")?;
    drop(tpm);
    let nonce = [0x42; 32];
    define(&swtpm, P256_NONCE, nonce.len(), Some(&nonce))?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
    let filled =
        endorsement::create(&mut tpm, ek_kind("p256"), None, Passwords::NONE)?.context("none")?;
    assert_ne!(filled.public()?, plain.public()?);
    let creation = recording
        .exchanges()
        .into_iter()
        .find(|e| testkit::bus::command_code(&e.command) == CreatePrimary::INFO.code)
        .context("nothing was created")?;
    let expected = [&[0, 32][..], &nonce, &[0, 32], &[0; 32]].concat();
    assert!(creation.command.windows(expected.len()).any(|window| window == expected));
    Ok(())
}

/// A nonce was written after the certificate was issued, or the issuer did not apply it: the key of the
/// certificate is found all the same.
#[test]
fn the_key_of_the_certificate_is_found_whatever_the_other_indices_say() -> Result<()> {
    let swtpm = start_tcp(Kind::P256NotPersistent)?;
    let der = endorsement::certificate(&mut client(&swtpm)?, ek_kind("p256"), Passwords::NONE)?
        .context("none")?;
    let certificate = EkCertificate::parse(&der)?;
    let verifier::EkPublicKey::Ecc(key) = certificate.public_key() else {
        panic!("no elliptic curve")
    };
    let expected = Some(EkPublicKey::Ecc(key.x(), key.y()));
    let created = |what: &str| -> Result<()> {
        let mut tpm = client(&swtpm)?;
        let ek = endorsement::create(&mut tpm, ek_kind("p256"), expected, Passwords::NONE)?;
        let ek = ek.with_context(|| format!("{what}: not found"))?;
        assert_eq!(spki(&ek)?, certificate.public_key().spki_der(), "{what}");
        Ok(())
    };
    created("no other index")?;
    let mut other = template::L2;
    other.attributes = other.attributes.with(ObjectAttributes::NO_DA);
    define(&swtpm, P256_TEMPLATE, 122, Some(&marshalled(&other)?))?;
    created("a template that was not used")?;
    define(&swtpm, P256_NONCE, 16, Some(&[0x55; 16]))?;
    created("a nonce that was not used")?;
    undefine(&swtpm, P256_TEMPLATE)?;
    created("a nonce alone that was not used")?;
    undefine(&swtpm, P256_NONCE)?;
    define(&swtpm, P256_NONCE, 100, Some(&[0x55; 100]))?;
    created("a nonce that does not fit")?;
    define(&swtpm, P256_TEMPLATE, 50, Some(&[0xff; 50]))?;
    created("junk for a template")?;
    Ok(())
}

#[test]
fn a_template_index_of_another_type_or_with_junk_is_not_used_for_the_default_key() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    for junk in [
        &[0xff; 50][..],
        &[0x00, 0x23],
        &marshalled(&template::L1)?,
        &marshalled(&template::L2)?[..121],
    ] {
        define(&swtpm, P256_TEMPLATE, junk.len(), Some(junk))?;
        let mut tpm = client(&swtpm)?;
        let error =
            endorsement::create(&mut tpm, ek_kind("p256"), None, Passwords::NONE).unwrap_err();
        assert!(matches!(error.fault(), Fault::Malformed(_)), "{error}");
        drop(tpm);
        undefine(&swtpm, P256_TEMPLATE)?;
    }
    Ok(())
}

/// Firmware or an operator put another key where the endorsement key is expected: the certificate's is still found, and
/// what is not an endorsement key at all is passed over.
#[test]
fn persistent_key_that_does_not_match_the_certificate_is_detected() -> Result<()> {
    let swtpm = start_tcp(Kind::P256NotPersistent)?;
    let directory = tempfile::tempdir()?;
    let context = path(directory.path(), "key.ctx");
    let persist = |handle: &str| -> Result<()> {
        swtpm.tool("tpm2_flushcontext", &["-t"])?;
        swtpm.tool("tpm2_evictcontrol", &["-C", "o", "-c", &context, handle])?;
        swtpm.tool("tpm2_flushcontext", &["-t"]).map(drop)
    };
    // No endorsement key: a storage key of the owner.
    swtpm.tool("tpm2_createprimary", &["-C", "o", "-G", "ecc256", "-c", &context])?;
    persist("0x8101000a")?;
    assert!(endorsement::find(&mut client(&swtpm)?, ek_kind("p256"))?.is_none());
    // An endorsement key of the right kind with something in its unique, whatever tpm2_createek puts there.
    define(&swtpm, P256_TEMPLATE, 122, Some(&marshalled(&template::L2)?))?;
    define(&swtpm, P256_NONCE, 8, Some(&[1; 8]))?;
    swtpm.tool("tpm2_createek", &["-t", "-c", &context, "-G", "ecc"])?;
    persist("0x81010002")?;
    undefine(&swtpm, P256_NONCE)?;
    undefine(&swtpm, P256_TEMPLATE)?;

    let mut tpm = client(&swtpm)?;
    let found = endorsement::find(&mut tpm, ek_kind("p256"))?.context("it looks like one")?;
    assert_eq!(found.handle(), Handle(0x8101_0002));
    let der =
        endorsement::certificate(&mut tpm, ek_kind("p256"), Passwords::NONE)?.context("none")?;
    let certificate = EkCertificate::parse(&der)?;
    assert_ne!(spki(&found)?, certificate.public_key().spki_der());
    let verifier::EkPublicKey::Ecc(key) = certificate.public_key() else {
        panic!("no elliptic curve")
    };
    let expected = EkPublicKey::Ecc(key.x(), key.y());
    let created = endorsement::create(&mut tpm, ek_kind("p256"), Some(expected), Passwords::NONE)?;
    let created = created.context("the certificate is this TPM's")?;
    assert_eq!(spki(&created)?, certificate.public_key().spki_der());
    Ok(())
}

#[test]
fn a_certificate_of_another_tpm_leads_to_no_key() -> Result<()> {
    let swtpm = start_tcp(Kind::P256NotPersistent)?;
    let other = Factory::shared().tpm(Maker::Namesake, Kind::P256NotPersistent)?.start()?;
    let der = endorsement::certificate(&mut client(&other)?, ek_kind("p256"), Passwords::NONE)?
        .context("none")?;
    let certificate = EkCertificate::parse(&der)?;
    let verifier::EkPublicKey::Ecc(key) = certificate.public_key() else {
        panic!("no elliptic curve")
    };
    let expected = Some(EkPublicKey::Ecc(key.x(), key.y()));
    let before = swtpm.handles()?;
    assert!(
        endorsement::create(&mut client(&swtpm)?, ek_kind("p256"), expected, Passwords::NONE)?
            .is_none()
    );
    assert_eq!(swtpm.handles()?, before);
    Ok(())
}

#[test]
fn each_kind_has_indices_and_handles_of_its_own() {
    for kind in &EK_KINDS {
        for other in &EK_KINDS {
            if kind.name != other.name {
                assert_ne!(kind.certificate, other.certificate);
                assert_ne!(kind.profile, other.profile);
                assert_ne!(kind.template, other.template);
            }
        }
    }
}
