//! What a TPM attests: ours verified by tpm2-tools, theirs by us, and both on PCRs that a log leads to.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base16ct::lower::encode_string as hex;
use testkit::swtpm::{Kind, Swtpm};
use tests::tpm::{client, start, start_tcp};
use tpm2::attest::{self, Attestation, Signer};
use tpm2::commands::PcrExtend;
use tpm2::crypto::HashAlg;
use tpm2::object::{self, Loaded};
use tpm2::pcr::{self, PcrValue};
use tpm2::session::Auth;
use tpm2::transport::Transport;
use tpm2::types::*;
use tpm2::wire::{List, Unmarshal, Writer};
use tpm2::{Tpm, template};
use verifier::JoinKey;
use verifier::event_log::{EventLog, ReplayError, SecureBoot};
use verifier::{AttestationError, AttestationKey, PcrValues};

const NONCE: [u8; 32] = *b"thirty-two octets of freshness, ";

fn create<T: Transport>(tpm: &mut Tpm<T>, template: &Public<'_>) -> Result<Loaded> {
    let endorsement = Hierarchy::Endorsement;
    let empty = SensitiveCreate::EMPTY;
    Ok(object::create_primary(tpm, endorsement, Auth::EMPTY, template, empty)?.0)
}

fn signer(key: &Loaded) -> Signer<'static> {
    Signer { key: key.object(), auth: Auth::EMPTY }
}

fn verifying(key: &Loaded) -> Result<AttestationKey> {
    let parent = Hierarchy::Endorsement.name().context("a hierarchy has a Name")?;
    Ok(AttestationKey::appraise(key.public_area())?.under(&parent)?)
}

fn evidence(attestation: &Attestation) -> verifier::Attestation<'_> {
    verifier::Attestation { attest: &attestation.attest, signature: &attestation.signature }
}

/// The values of these PCRs.
fn read<T: Transport>(tpm: &mut Tpm<T>, bank: HashAlg, pcrs: &[u8]) -> Result<PcrValues> {
    let bits = PcrBits::of(pcrs).context("PCRs")?;
    let read = pcr::read(tpm, &[bits.bank(bank.alg())])?;
    ensure!(read.len() == pcrs.len(), "not all PCRs");
    let mut values = PcrValues::new();
    for PcrValue { pcr, value, .. } in read {
        values = values.with(bank, pcr, value.octets()).context("a value")?;
    }
    Ok(values)
}

fn sized(octets: &[u8]) -> Vec<u8> {
    [&u16::try_from(octets.len()).expect("short").to_be_bytes(), octets].concat()
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

#[test]
fn tpm2_checkquote_believes_our_quotes() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let directory = tempfile::tempdir()?;
    let file = |name: &str| path(directory.path(), name);
    // Not RSAPSS: this version of the tool takes every signature of RSA for RSASSA.
    for template in [template::AK_P256, template::AK_RSA2048] {
        let mut tpm = client(&swtpm)?;
        let key = create(&mut tpm, &template)?;
        let bits = PcrBits::of(&[0, 7, 16]).context("PCRs")?;
        let selection = [bits.bank(Alg::SHA256)];
        let quote = attest::quote(&mut tpm, signer(&key), &NONCE, &selection)?;
        fs::write(file("ak.pub"), sized(key.public_area()))?;
        fs::write(file("message"), &quote.attest)?;
        fs::write(file("signature"), &quote.signature)?;
        drop(tpm);
        swtpm.tool("tpm2_pcrread", &["sha256:0,7,16", "-o", &file("pcrs")])?;
        let check = |nonce: &[u8]| {
            let nonce = hex(nonce);
            let (public, pcrs) = (file("ak.pub"), file("pcrs"));
            let (message, signature) = (file("message"), file("signature"));
            let key = ["-u", &public, "-g", "sha256", "-q", &nonce];
            let said = ["-m", &message, "-s", &signature];
            let values = ["-f", &pcrs, "-l", "sha256:0,7,16"];
            swtpm.tool("tpm2_checkquote", &[&key[..], &said, &values].concat())
        };
        check(&NONCE).with_context(|| format!("{template:?}"))?;
        assert!(check(&[7; 32]).is_err(), "the tool looks at the nonce");
        let mut pcrs = fs::read(file("pcrs"))?;
        pcrs[0] ^= 1;
        fs::write(file("pcrs"), pcrs)?;
        assert!(check(&NONCE).is_err(), "the tool looks at the PCRs");
    }
    Ok(())
}

#[test]
fn we_believe_the_quotes_of_tpm2_quote() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let directory = tempfile::tempdir()?;
    let file = |name: &str| path(directory.path(), name);
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign";
    for (key_type, scheme, hash) in [
        ("ecc256", "ecdsa", "sha256"),
        ("ecc384", "ecdsa", "sha384"),
        ("rsa2048", "rsassa", "sha256"),
        ("rsa2048", "rsapss", "sha384"),
    ] {
        let algorithm = format!("{key_type}:{scheme}-{hash}:null");
        let (key, public) = (file("ak.ctx"), file("ak.pub"));
        let make = ["-C", "e", "-g", "sha256", "-G", &algorithm, "-a", attributes, "-c", &key];
        swtpm.tool("tpm2_createprimary", &make)?;
        swtpm.tool("tpm2_readpublic", &["-c", &key, "-o", &public])?;
        let (message, signature, nonce) = (file("message"), file("signature"), hex(&NONCE));
        let what = ["-c", &key, "-l", "sha1:3+sha256:0,7,16", "-q", &nonce, "-g", hash];
        let out = ["--scheme", scheme, "-m", &message, "-s", &signature];
        swtpm.tool("tpm2_quote", &[&what[..], &out].concat())?;
        swtpm.tool("tpm2_flushcontext", &["-t"])?;

        let mut tpm = client(&swtpm)?;
        let values = read(&mut tpm, HashAlg::Sha256, &[0, 7, 16])?;
        let third = read(&mut tpm, HashAlg::Sha1, &[3])?;
        let third = third.of(HashAlg::Sha1, 3).context("a value")?;
        let values = values.with(HashAlg::Sha1, 3, third).context("a value")?;
        let public = fs::read(&public)?;
        let parent = Hierarchy::Endorsement.name().context("a Name")?;
        let key = AttestationKey::appraise(&public[2..])?.under(&parent)?;
        let quote = Attestation {
            attest: fs::read(&message)?.into(),
            signature: fs::read(&signature)?.into(),
        };
        let believed = key.quote(evidence(&quote), &NONCE, &values)?;
        assert_eq!(believed.pcrs.values(), &values, "{algorithm}");
        no_change_is_believed(&key, &quote, &values);
    }
    Ok(())
}

/// Every byte of a quote and of its signature.
fn no_change_is_believed(key: &AttestationKey, quote: &Attestation, values: &PcrValues) {
    for position in 0..quote.attest.len() {
        let mut changed = quote.clone();
        changed.attest[position] ^= 0x01;
        assert!(key.quote(evidence(&changed), &NONCE, values).is_err(), "attest {position}");
    }
    for position in 0..quote.signature.len() {
        let mut changed = quote.clone();
        changed.signature[position] ^= 0x01;
        assert!(key.quote(evidence(&changed), &NONCE, values).is_err(), "signature {position}");
    }
}

#[test]
fn a_quote_is_of_the_moment_and_of_the_question() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let key = create(&mut tpm, &template::AK_P256)?;
    let verifying = verifying(&key)?;
    let bits = PcrBits::of(&[16]).context("PCRs")?;
    let selection = [bits.bank(Alg::SHA256)];
    let before = read(&mut tpm, HashAlg::Sha256, &[16])?;
    let first = attest::quote(&mut tpm, signer(&key), &NONCE, &selection)?;
    verifying.quote(evidence(&first), &NONCE, &before)?;

    extend(&mut tpm, 16, &[(Alg::SHA256, &[7; 32])])?;
    let second = attest::quote(&mut tpm, signer(&key), &NONCE, &selection)?;
    let stale = verifying.quote(evidence(&second), &NONCE, &before).unwrap_err();
    assert_eq!(stale, AttestationError::PcrDigest);
    let after = read(&mut tpm, HashAlg::Sha256, &[16])?;
    let believed = verifying.quote(evidence(&second), &NONCE, &after)?;
    assert!(believed.report.clock_info.clock > 0);
    let old = verifying.quote(evidence(&first), &[9; 32], &before).unwrap_err();
    assert_eq!(old, AttestationError::Nonce);

    // Another key of the same TPM, of the same template in another hierarchy.
    let empty = SensitiveCreate::EMPTY;
    let owner = Hierarchy::Owner;
    let other = object::create_primary(&mut tpm, owner, Auth::EMPTY, &template::AK_P256, empty)?.0;
    let theirs = attest::quote(&mut tpm, signer(&other), &NONCE, &selection)?;
    let refused = verifying.quote(evidence(&theirs), &NONCE, &after).unwrap_err();
    assert_eq!(refused, AttestationError::Signature);
    Ok(())
}

fn extend<T: Transport>(
    tpm: &mut Tpm<T>,
    pcr: u8,
    digests: &[(Alg, &[u8])],
) -> Result<(), anyhow::Error> {
    let values: Option<Vec<_>> =
        digests.iter().map(|(alg, digest)| HashValue::new(*alg, digest)).collect();
    let values = values.context("digests")?;
    let command = PcrExtend { pcr_handle: Some(Pcr(pcr)), digests: List::new(&values) };
    tpm.run(&command, [Auth::EMPTY])?;
    Ok(())
}

#[test]
fn from_a_boot_to_a_verdict() -> Result<()> {
    // What the firmware of a machine did, done again here: every event of a real log is extended.
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("../verifier/testdata/ovmf.log");
    let bytes = fs::read(log)?;
    let log = EventLog::parse(&bytes)?;
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    for event in log.events().filter(verifier::event_log::Event::is_extended) {
        let digest = event.digests.of(Alg::SHA256).context("a digest")?;
        extend(&mut tpm, u8::try_from(event.pcr)?, &[(Alg::SHA256, digest)])?;
    }
    let key = create(&mut tpm, &template::AK_P256)?;
    let bits = PcrBits::of(&[0, 1, 2, 3, 4, 5, 6, 7]).context("PCRs")?;
    let selection = [bits.bank(Alg::SHA256)];
    let quote = attest::quote(&mut tpm, signer(&key), &NONCE, &selection)?;

    let claimed = PcrValues::new().with_bank(&log.replay(HashAlg::Sha256)?);
    let believed = verifying(&key)?.quote(evidence(&quote), &NONCE, &claimed)?;
    let measured = log.clone().measured(&believed.pcrs, HashAlg::Sha256)?;
    assert_eq!(measured.secure_boot(), Ok(SecureBoot::Off));
    let variables = measured.of_pcr(7)?.filter_map(|event| event.covered()?.variable()).count();
    assert_eq!(variables, 5);

    // One event more in the TPM than in the log.
    extend(&mut tpm, 4, &[(Alg::SHA256, &[1; 32])])?;
    let quote = attest::quote(&mut tpm, signer(&key), &NONCE, &selection)?;
    let refused = verifying(&key)?.quote(evidence(&quote), &NONCE, &claimed).unwrap_err();
    assert_eq!(refused, AttestationError::PcrDigest);
    let values = read(&mut tpm, HashAlg::Sha256, &[0, 1, 2, 3, 4, 5, 6, 7])?;
    let believed = verifying(&key)?.quote(evidence(&quote), &NONCE, &values)?;
    let refused = log.measured(&believed.pcrs, HashAlg::Sha256).unwrap_err();
    assert_eq!(refused, ReplayError::Differs { pcr: 4, hash: HashAlg::Sha256 });
    Ok(())
}

#[test]
fn keys_are_certified_and_their_creation_too() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let key = create(&mut tpm, &template::AK_P256)?;
    let verifying = verifying(&key)?;
    let unique = [3; 32];
    let template = JoinKey::template(&unique);
    let (owner, empty) = (Hierarchy::Owner, SensitiveCreate::EMPTY);
    let (object, creation) =
        object::create_primary(&mut tpm, owner, Auth::EMPTY, &template, empty)?;

    let said = attest::certify(&mut tpm, signer(&key), &NONCE, object.object(), Auth::EMPTY)?;
    let certified = verifying.certified(evidence(&said), &NONCE, object.public_area())?;
    let parent = Hierarchy::Owner.name().context("a Name")?;
    let qualified = tpm2::crypto::qualified_name(&parent, object.name())?;
    assert_eq!((&certified.name, &certified.qualified_name), (object.name(), &qualified));
    let refused = verifying.certified(evidence(&said), &NONCE, key.public_area()).unwrap_err();
    assert_eq!(refused, AttestationError::OtherObject);

    let said =
        attest::certify_creation(&mut tpm, signer(&key), &NONCE, object.object(), &creation)?;
    let created =
        verifying.created(evidence(&said), &NONCE, object.public_area(), &creation.data)?;
    assert_eq!(created.creation.parent_name.octets(), parent.octets());
    let quoted = verifying.quote(evidence(&said), &NONCE, &PcrValues::new()).unwrap_err();
    assert_eq!(quoted, AttestationError::Kind(Structure::ATTEST_CREATION));

    // And what tpm2_certify says of a key of its own.
    drop(tpm);
    let directory = tempfile::tempdir()?;
    let file = |name: &str| path(directory.path(), name);
    let (ak, object) = (file("ak.ctx"), file("object.ctx"));
    let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign";
    let make = ["-C", "e", "-G", "ecc256:ecdsa-sha256:null", "-a", attributes, "-c", &ak];
    swtpm.tool("tpm2_createprimary", &make)?;
    swtpm.tool("tpm2_flushcontext", &["-t"])?;
    swtpm.tool("tpm2_createprimary", &["-C", "o", "-G", "rsa2048", "-c", &object])?;
    swtpm.tool("tpm2_flushcontext", &["-t"])?;
    let (message, signature) = (file("message"), file("signature"));
    let what = ["-c", &object, "-C", &ak, "-g", "sha256", "-o", &message, "-s", &signature];
    swtpm.tool("tpm2_certify", &what)?;
    swtpm.tool("tpm2_flushcontext", &["-t"])?;
    let mut publics = Vec::new();
    for context in [&ak, &object] {
        swtpm.tool("tpm2_readpublic", &["-c", context, "-o", &file("public")])?;
        publics.push(fs::read(file("public"))?);
    }
    let key = AttestationKey::appraise(&publics[0][2..])?;
    let said =
        Attestation { attest: fs::read(&message)?.into(), signature: fs::read(&signature)?.into() };
    let nonce = Attest::from_bytes(&said.attest)?.extra_data.octets().to_vec();
    let certified = key.certified(evidence(&said), &nonce, &publics[1][2..])?;
    assert_ne!(&certified.name, key.name());
    Ok(())
}

/// What is written of a signature is what a verifier reads.
#[test]
fn a_signature_is_the_whole_structure() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let key = create(&mut tpm, &template::AK_P256)?;
    let bits = PcrBits::of(&[0]).context("PCRs")?;
    let quote = attest::quote(&mut tpm, signer(&key), &NONCE, &[bits.bank(Alg::SHA256)])?;
    let signature = Signature::from_bytes(&quote.signature)?;
    let mut octets = [0; 256];
    let mut writer = Writer::new(&mut octets);
    writer.write(&signature)?;
    assert_eq!(writer.into_written(), &quote.signature[..]);
    let attest = Attest::from_bytes(&quote.attest)?;
    assert_eq!(attest.extra_data.octets(), NONCE);
    assert!(PcrBits::of(&[24]).is_none());
    Ok(())
}

#[test]
fn a_nonce_that_is_too_long_is_not_sent() -> Result<()> {
    let swtpm: Swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let key = create(&mut tpm, &template::AK_P256)?;
    let bits = PcrBits::of(&[0]).context("PCRs")?;
    let refused = attest::quote(&mut tpm, signer(&key), &[0; 67], &[bits.bank(Alg::SHA256)]);
    let refused = refused.unwrap_err();
    assert!(matches!(refused.fault(), tpm2::Fault::TooLong(_)));
    let text = "TPM2_Quote: not sent, since a value is too long: 67 bytes do not fit Data, which holds at most 66";
    assert_eq!(format!("{refused:#}"), text);
    Ok(())
}
