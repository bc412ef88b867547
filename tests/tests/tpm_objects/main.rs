//! Sealed data, imported keys and key files, both ways with tpm2-tools and with OpenSSL's tpm2 provider.

mod key_files;
mod policies;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::{SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use testkit::swtpm::{Kind, Swtpm};
use tests::tpm::{client, persistent_ek, satisfy, sign, start, start_tcp, way};
use tpm2::commands::{EvictControl, PcrEvent, PolicyPcr};
use tpm2::crypto::{DuplicateError, HashAlg, PolicyDigest, duplicate};
use tpm2::key_file::{KeyAuth, KeyFile, KeyParent, Kind as FileKind, PolicyStep, SignedPolicy};
use tpm2::object::{self, Loaded, Wrapped};
use tpm2::policy::{Policy, Step};
use tpm2::session::Auth;
use tpm2::transport::{Record, Recording, Transport};
use tpm2::types::*;
use tpm2::wire::{List, Marshal, Reader, Tpm2b, Unmarshal, Writer};
use tpm2::{Fault, Tpm, pcr, seal, template};

const SECRET: &[u8] = b"a secret not to be on the bus!!";
const SRK: Handle = Handle(0x8100_0001);

fn primary<T: Transport>(tpm: &mut Tpm<T>, template: &Public<'_>) -> Result<Loaded> {
    let empty = SensitiveCreate::EMPTY;
    Ok(object::create_primary(tpm, Hierarchy::Owner, Auth::EMPTY, template, empty)?.0)
}

/// A storage root key where tpm2-tools find it too.
fn storage_key(swtpm: &Swtpm) -> Result<()> {
    let mut tpm = client(swtpm)?;
    let key = primary(&mut tpm, &template::SRK_P256)?;
    let command = EvictControl {
        auth: Provision::Owner,
        object_handle: key.object(),
        persistent_handle: SRK,
    };
    tpm.run(&command, [Auth::EMPTY])?;
    Ok(())
}

fn srk<T: Transport>(tpm: &mut Tpm<T>) -> Result<Loaded> {
    object::persistent(tpm, SRK)?.context("no storage root key")
}

/// The policy that PCR 16 holds what it holds now, as a TPM says.
fn policy_now<T: Transport>(tpm: &mut Tpm<T>, pcrs: &[PcrSelection<'_>]) -> Result<PolicyDigest> {
    let trial = tpm.start_session(SessionType::TRIAL, HashAlg::Sha256)?;
    let policy_session = trial.handle();
    let selected = List::new(pcrs);
    tpm.run(&PolicyPcr { policy_session, pcr_digest: Digest::EMPTY, pcrs: selected }, [])?;
    let digest = tpm2::commands::PolicyGetDigest { policy_session };
    let digest = tpm.run(&digest, [])?.policy_digest;
    let digest = PolicyDigest::known(HashAlg::Sha256, digest.octets())?;
    tpm.flush(policy_session.handle())?;
    let values = pcr::digest(tpm, HashAlg::Sha256, pcrs)?;
    let steps = [Step::Pcr { pcrs: selected, digest: Digest::from(&values) }];
    assert_eq!(Policy::new(&steps).digest(HashAlg::Sha256)?, digest);
    Ok(digest)
}

/// That the PCRs hold what they held when something was sealed.
fn unchanged<'p>(pcrs: &'p [PcrSelection<'p>]) -> [Step<'p>; 1] {
    [Step::Pcr { pcrs: List::new(pcrs), digest: Digest::EMPTY }]
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

fn sized(octets: &[u8]) -> Vec<u8> {
    [&u16::try_from(octets.len()).expect("short").to_be_bytes(), octets].concat()
}

#[test]
fn sealed_data_come_back_while_the_pcrs_are_as_they_were() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
    let bits = PcrBits::of(&[16]).context("PCRs")?;
    let pcrs = [bits.bank(Alg::SHA256)];
    for template in [&template::SRK_P256, &template::SRK_RSA2048] {
        let parent = primary(&mut tpm, template)?;
        let (policy, steps) = (policy_now(&mut tpm, &pcrs)?, unchanged(&pcrs));
        let met = Policy::new(&steps);
        let sealed = seal::seal(&mut tpm, &parent, Auth::EMPTY, SECRET, &policy, b"")?;
        let opened = seal::unseal(&mut tpm, &parent, Auth::EMPTY, &sealed, &met, b"")?;
        assert_eq!(opened.expose(), SECRET);

        let event =
            PcrEvent { pcr_handle: Some(Pcr(16)), event_data: Event::from(b"another boot") };
        tpm.run(&event, [Auth::EMPTY])?;
        let open = |tpm: &mut _, sealed: &_, policy: &_| {
            seal::unseal(tpm, &parent, Auth::EMPTY, sealed, policy, b"")
        };
        let refused = open(&mut tpm, &sealed, &met).unwrap_err();
        assert_eq!(refused.refusal(), Some(ResponseCode::POLICY_FAIL));
        let none = open(&mut tpm, &sealed, &Policy::new(&[])).unwrap_err();
        assert_eq!(none.refusal(), Some(ResponseCode::POLICY_FAIL));
        // More failures than the TPM has room for sessions or objects.
        let mut broken = sealed.clone();
        *broken.private.last_mut().context("octets")? ^= 1;
        for _ in 0..5 {
            let refused = open(&mut tpm, &broken, &met).unwrap_err();
            assert_eq!(refused.refusal(), Some(ResponseCode::INTEGRITY), "{refused}");
            let wrong = Auth::password(b"wrong");
            let refused = seal::seal(&mut tpm, &parent, wrong, SECRET, &policy, b"").unwrap_err();
            assert_eq!(refused.refusal(), Some(ResponseCode::BAD_AUTH), "{refused}");
        }
        tpm.flush(parent.handle())?;
    }
    let handles = swtpm_after(tpm, &swtpm)?;
    assert_eq!(handles, (0, 0), "nothing is left behind");
    let seen = |octets: &[u8]| octets.windows(SECRET.len()).any(|window| window == SECRET);
    for exchange in recording.exchanges() {
        assert!(!seen(&exchange.command) && !seen(&exchange.response), "on the bus");
    }
    Ok(())
}

/// What the TPM holds when no client is connected, without what the client flushes on exit.
fn swtpm_after<T: Transport>(tpm: Tpm<T>, swtpm: &Swtpm) -> Result<(usize, usize)> {
    std::mem::drop(tpm);
    let handles = swtpm.handles()?;
    Ok((handles.transient.len(), handles.loaded_sessions.len()))
}

#[test]
fn tpm2_unseal_opens_what_we_sealed() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    storage_key(&swtpm)?;
    let directory = tempfile::tempdir()?;
    let file = |name: &str| path(directory.path(), name);
    let mut tpm = client(&swtpm)?;
    let parent = srk(&mut tpm)?;
    let bits = PcrBits::of(&[0, 16]).context("PCRs")?;
    let pcrs = [bits.bank(Alg::SHA256)];
    // The policy without a TPM: both PCRs are zero.
    let policy = PolicyDigest::new(HashAlg::Sha256);
    let policy = policy.pcr_values(&List::new(&pcrs), &[&[0; 32], &[0; 32]])?;
    assert_eq!(policy, policy_now(&mut tpm, &pcrs)?);
    let sealed = seal::seal(&mut tpm, &parent, Auth::EMPTY, SECRET, &policy, b"")?;
    drop(tpm);
    fs::write(file("public"), sized(&sealed.public))?;
    fs::write(file("private"), sized(&sealed.private))?;
    let item = file("item.ctx");
    let (public, private) = (file("public"), file("private"));
    swtpm.tool("tpm2_load", &["-C", "0x81000001", "-u", &public, "-r", &private, "-c", &item])?;
    swtpm.tool("tpm2_flushcontext", &["-t"])?;
    let opened = file("opened");
    swtpm.tool("tpm2_unseal", &["-c", &item, "-p", "pcr:sha256:0,16", "-o", &opened])?;
    assert_eq!(fs::read(&opened)?, SECRET);
    Ok(())
}

#[test]
fn we_open_what_tpm2_create_sealed() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    storage_key(&swtpm)?;
    let directory = tempfile::tempdir()?;
    let file = |name: &str| path(directory.path(), name);
    let (policy, secret) = (file("policy"), file("secret"));
    fs::write(&secret, SECRET)?;
    swtpm.tool("tpm2_createpolicy", &["--policy-pcr", "-l", "sha256:16", "-L", &policy])?;
    let (public, private) = (file("public"), file("private"));
    let what = ["-C", "0x81000001", "-L", &policy, "-i", &secret];
    let attributes = ["-a", "fixedtpm|fixedparent|adminwithpolicy|noda"];
    let out = ["-u", &public, "-r", &private];
    swtpm.tool("tpm2_create", &[&what[..], &attributes, &out].concat())?;
    swtpm.tool("tpm2_flushcontext", &["-t"])?;

    let mut tpm = client(&swtpm)?;
    let parent = srk(&mut tpm)?;
    let sealed = Wrapped {
        public: fs::read(&public)?.split_off(2).into(),
        private: fs::read(&private)?.split_off(2).into(),
    };
    let bits = PcrBits::of(&[16]).context("PCRs")?;
    let pcrs = [bits.bank(Alg::SHA256)];
    let met = unchanged(&pcrs);
    let opened = seal::unseal(&mut tpm, &parent, Auth::EMPTY, &sealed, &Policy::new(&met), b"")?;
    assert_eq!(opened.expose(), SECRET);
    Ok(())
}

/// The authorization value of what was sealed is nothing to who meets the policy, and must not get into what decrypts the
/// answer.
#[test]
fn data_sealed_with_an_authorization_value_is_unsealed_by_its_policy() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let parent = primary(&mut tpm, &template::SRK_P256)?;
    let bits = PcrBits::of(&[16]).context("PCRs")?;
    let pcrs = [bits.bank(Alg::SHA256)];
    let policy = policy_now(&mut tpm, &pcrs)?;
    let sealed = seal::seal(&mut tpm, &parent, Auth::EMPTY, SECRET, &policy, b"")?;
    let public = Public::from_bytes(&sealed.public)?;
    let sensitive =
        SensitiveCreate { user_auth: AuthValue::from(b"value"), data: SensitiveData::new(SECRET)? };
    let Id::KeyedHash(id) = public.id else { bail!("another type") };
    let unique = Digest::EMPTY;
    let template = Public { id: Id::KeyedHash(KeyedHashPublic { unique, ..id }), ..public };
    let (with_value, _) =
        object::create(&mut tpm, parent.object(), Auth::EMPTY, &template, sensitive)?;
    let met = unchanged(&pcrs);
    let met = Policy::new(&met);
    let opened = seal::unseal(&mut tpm, &parent, Auth::EMPTY, &with_value, &met, b"")?;
    assert_eq!(opened.expose(), SECRET);
    assert!(!format!("{with_value:?}").contains("private"));
    Ok(())
}

#[test]
fn a_parent_of_another_hash_seals_and_unseals() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let parent = primary(&mut tpm, &Public { name_alg: Alg::SHA384, ..template::SRK_P256 })?;
    let bits = PcrBits::of(&[16]).context("PCRs")?;
    let pcrs = [bits.bank(Alg::SHA256)];
    let policy = policy_now(&mut tpm, &pcrs)?;
    let sealed = seal::seal(&mut tpm, &parent, Auth::EMPTY, SECRET, &policy, b"")?;
    let met = unchanged(&pcrs);
    let opened = seal::unseal(&mut tpm, &parent, Auth::EMPTY, &sealed, &Policy::new(&met), b"")?;
    assert_eq!(opened.expose(), SECRET);
    let nothing = PolicyDigest::new(HashAlg::Sha256);
    let lost = seal::seal(&mut tpm, &parent, Auth::EMPTY, SECRET, &nothing, b"").unwrap_err();
    assert!(matches!(lost.fault(), Fault::NoPolicy), "{lost}");
    let large = seal::seal(&mut tpm, &parent, Auth::EMPTY, &[1; 129], &policy, b"").unwrap_err();
    let text = "not sent, since a value is too long: 129 bytes do not fit SensitiveData, which holds at most 128";
    assert_eq!(format!("{large:#}"), format!("TPM2_Create: {text}"));
    assert_eq!(swtpm_after(tpm, &swtpm)?, (0, 0));
    Ok(())
}

/// A key that was made here, outside of any TPM.
struct Outside {
    scalar: [u8; 32],
    x: [u8; 32],
    y: [u8; 32],
}

impl Outside {
    fn new() -> Result<Self> {
        let scalar = [0x42; 32];
        let key = SigningKey::from_slice(&scalar)?;
        let point = key.verifying_key().to_sec1_point(false);
        let coordinate =
            |at: usize| Ok::<_, anyhow::Error>(point.as_bytes()[at..at + 32].try_into()?);
        Ok(Self { scalar, x: coordinate(1)?, y: coordinate(33)? })
    }

    fn public(&self) -> Result<Public<'_>> {
        let attributes = ObjectAttributes::USER_WITH_AUTH
            .with(ObjectAttributes::NO_DA)
            .with(ObjectAttributes::SIGN);
        let Id::Ecc(ecc) = template::AK_P256.id else { panic!("ECC") };
        let unique = EccPoint { x: EccParameter::new(&self.x)?, y: EccParameter::new(&self.y)? };
        Ok(Public { attributes, id: Id::Ecc(EccPublic { unique, ..ecc }), ..template::AK_P256 })
    }

    fn sensitive(&self) -> Result<Sensitive<'_>> {
        Ok(Sensitive::of(SensitiveSecret::Ecc(PrivateKeyEcc::new(&self.scalar)?)))
    }
}

/// Whether a loaded key signs as the key with this public area.
fn signs<T: Transport>(tpm: &mut Tpm<T>, key: &Loaded) -> Result<()> {
    let digest = Sha256::digest(b"a message");
    let mut command = sign(key.object(), &digest);
    command.in_scheme = AsymScheme::Ecdsa(HashScheme { hash: Alg::SHA256 });
    let answer = tpm.run(&command, [Auth::EMPTY])?;
    let Signature::Ecdsa(made) = answer.signature else { panic!("ECDSA") };
    let public = key.public()?;
    let Id::Ecc(ecc) = public.id else { panic!("ECC") };
    let point = [&[4], ecc.unique.x.octets(), ecc.unique.y.octets()].concat();
    let scalar = |octets: &[u8]| -> Result<[u8; 32]> {
        let mut padded = [0; 32];
        padded[32 - octets.len()..].copy_from_slice(octets);
        Ok(padded)
    };
    let (r, s) = (scalar(made.r.octets())?, scalar(made.s.octets())?);
    let signature = p256::ecdsa::Signature::from_scalars(r, s)?;
    Ok(VerifyingKey::from_sec1_bytes(&point)?.verify_prehash(&digest, &signature)?)
}

#[test]
fn a_key_wrapped_to_an_endorsement_key_works_in_its_tpm_and_in_no_other() -> Result<()> {
    for (kind, name) in [(Kind::RsaAndP384, "rsa2048"), (Kind::P256, "p256")] {
        let swtpm = start(kind)?;
        let mut tpm = client(&swtpm)?;
        let ek = persistent_ek(&mut tpm, name)?;
        let outside = Outside::new()?;
        let public = outside.public()?;
        let wrapped = duplicate(&ek.public()?, &public, &outside.sensitive()?)?;
        let parent = ek.salt_key()?.object();
        // The endorsement key is used under its policy, which each command repeats.
        let session = policy(&mut tpm, name)?;
        let (private, seed) = (wrapped.private(), wrapped.seed());
        let auth = session.last_auth(b"");
        let inside = object::import(&mut tpm, parent, auth, &public, private, seed)?;
        let session = policy(&mut tpm, name)?;
        let key = object::load(&mut tpm, parent, session.last_auth(b""), &inside)?;
        assert_eq!(*key.name(), tpm2::crypto::object_name(&public)?);
        signs(&mut tpm, &key)?;

        // Wrapped to this endorsement key, but on its way changed, or for another public area.
        let mut changed = private.octets().to_vec();
        *changed.last_mut().context("octets")? ^= 1;
        let session = policy(&mut tpm, name)?;
        let (auth, changed) = (session.last_auth(b""), Private::new(&changed)?);
        let refused = object::import(&mut tpm, parent, auth, &public, changed, seed).unwrap_err();
        assert_eq!(refused.refusal(), Some(ResponseCode::INTEGRITY), "{refused}");
        drop(tpm);

        let other = start(kind)?;
        let mut tpm = client(&other)?;
        let theirs = persistent_ek(&mut tpm, name)?.salt_key()?.object();
        let session = policy(&mut tpm, name)?;
        let auth = session.last_auth(b"");
        let refused = object::import(&mut tpm, theirs, auth, &public, private, seed);
        assert!(refused.is_err() || ek.public()? == persistent_ek(&mut tpm, name)?.public()?);
    }
    Ok(())
}

fn policy<T: Transport>(tpm: &mut Tpm<T>, name: &str) -> Result<tpm2::session::Session> {
    let session = tpm.start_session(SessionType::POLICY, HashAlg::Sha256)?;
    satisfy(tpm, tests::tpm::ek_kind(name), session.handle())?;
    Ok(session)
}

#[test]
fn fixed_objects_are_not_duplicated() -> Result<()> {
    let outside = Outside::new()?;
    let (public, sensitive) = (outside.public()?, outside.sensitive()?);
    for attribute in [
        ObjectAttributes::FIXED_TPM,
        ObjectAttributes::FIXED_PARENT,
        ObjectAttributes::ENCRYPTED_DUPLICATION,
    ] {
        let attributes = public.attributes.with(attribute);
        let refused = duplicate(&template::SRK_P256, &Public { attributes, ..public }, &sensitive);
        assert_eq!(refused.unwrap_err(), DuplicateError::Attributes(attributes));
    }
    let sealed = Sensitive::of(SensitiveSecret::KeyedHash(SensitiveData::from(b"data")));
    let refused = duplicate(&template::SRK_P256, &public, &sealed).unwrap_err();
    assert_eq!(refused, DuplicateError::Type);
    let no_parent = duplicate(&template::AK_P256, &public, &sensitive).unwrap_err();
    assert_eq!(no_parent, DuplicateError::Cipher(SymDefObject::Null));
    Ok(())
}

#[test]
fn tpm2_import_takes_what_we_wrapped() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    storage_key(&swtpm)?;
    let directory = tempfile::tempdir()?;
    let file = |name: &str| path(directory.path(), name);
    let mut tpm = client(&swtpm)?;
    let parent = srk(&mut tpm)?;
    let outside = Outside::new()?;
    let public = outside.public()?;
    let wrapped = duplicate(&parent.public()?, &public, &outside.sensitive()?)?;
    drop(tpm);
    let name = tpm2::crypto::object_name(&public)?;
    let mut octets = [0; 512];
    let mut writer = Writer::new(&mut octets);
    writer.write(&Tpm2b(public))?;
    fs::write(file("public"), writer.into_written())?;
    fs::write(file("duplicate"), sized(wrapped.private().octets()))?;
    fs::write(file("seed"), sized(wrapped.seed().octets()))?;
    let (public, duplicate, seed) = (file("public"), file("duplicate"), file("seed"));
    let (private, key) = (file("private"), file("key.ctx"));
    let from = ["-C", "0x81000001", "-u", &public, "-i", &duplicate, "-s", &seed];
    swtpm.tool("tpm2_import", &[&from[..], &["-r", &private]].concat())?;
    swtpm.tool("tpm2_load", &["-C", "0x81000001", "-u", &public, "-r", &private, "-c", &key])?;
    swtpm.tool("tpm2_flushcontext", &["-t"])?;
    swtpm.tool("tpm2_readpublic", &["-c", &key, "-n", &file("name")])?;
    assert_eq!(fs::read(file("name"))?, name.octets());
    Ok(())
}

#[test]
fn we_take_what_tpm2_duplicate_wrapped() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    storage_key(&swtpm)?;
    let directory = tempfile::tempdir()?;
    let file = |name: &str| path(directory.path(), name);
    let tool = |name: &str, arguments: &[&str]| swtpm.tool(name, arguments);
    let (session, policy) = (file("session.ctx"), file("policy"));
    let (old, key) = (file("old.ctx"), file("key.ctx"));
    tool("tpm2_startauthsession", &["-S", &session])?;
    let duplication = ["-S", &session, "-L", &policy, "TPM2_CC_Duplicate"];
    tool("tpm2_policycommandcode", &duplication)?;
    tool("tpm2_flushcontext", &[&session])?;
    tool("tpm2_createprimary", &["-C", "o", "-G", "ecc256", "-c", &old])?;
    tool("tpm2_flushcontext", &["-t"])?;
    let (public, private) = (file("public"), file("private"));
    let what = ["-C", &old, "-G", "ecc256", "-L", &policy, "-u", &public, "-r", &private];
    let attributes = ["-a", "sensitivedataorigin|userwithauth|sign|noda"];
    tool("tpm2_create", &[&what[..], &attributes].concat())?;
    tool("tpm2_flushcontext", &["-t"])?;
    tool("tpm2_load", &["-C", &old, "-u", &public, "-r", &private, "-c", &key])?;
    tool("tpm2_flushcontext", &["-t"])?;
    tool("tpm2_startauthsession", &["--policy-session", "-S", &session])?;
    tool("tpm2_policycommandcode", &duplication)?;
    let (duplicate, seed) = (file("duplicate"), file("seed"));
    let auth = format!("session:{session}");
    let what = ["-C", "0x81000001", "-c", &key, "-G", "null", "-p", &auth];
    tool("tpm2_duplicate", &[&what[..], &["-r", &duplicate, "-s", &seed]].concat())?;
    tool("tpm2_flushcontext", &[&session])?;
    tool("tpm2_flushcontext", &["-t"])?;

    let mut tpm = client(&swtpm)?;
    let parent = srk(&mut tpm)?;
    let (public, duplicate, seed) = (fs::read(&public)?, fs::read(&duplicate)?, fs::read(&seed)?);
    let public = Reader::all(&public[2..], |reader| reader.read::<Public<'_>>("public"))?;
    let duplicate = Reader::all(&duplicate, |reader| reader.read("duplicate"))?;
    let seed = Reader::all(&seed, |reader| reader.read("seed"))?;
    let parent = parent.object();
    let inside = object::import(&mut tpm, parent, Auth::EMPTY, &public, duplicate, seed)?;
    let key = object::load(&mut tpm, parent, Auth::EMPTY, &inside)?;
    signs(&mut tpm, &key)
}
