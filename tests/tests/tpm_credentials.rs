//! Credentials both ways with tpm2-tools, and what a TPM says to wrong ones.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use p256::elliptic_curve::sec1::ToSec1Point;
use testkit::bus::response_code;
use testkit::swtpm::{Kind, Swtpm};
use tests::tpm::{
    RANDOM, activate, client, create_join_key, ek_kind, load, persistent_ek, satisfy, sign, start,
    start_tcp,
};
use tpm2::commands::{ActivateCredential, Command, HierarchyChangeAuth, LoadExternal, Shutdown};
use tpm2::crypto::{HashAlg, make_credential, object_name};
use tpm2::endorsement::{self, Passwords, ek_public_key};
use tpm2::object::Loaded;
use tpm2::session::{Auth, Encryption, SaltKey};
use tpm2::transport::{Record, Recording, Retry, Swtpm as Socket, Tcti, Transport};
use tpm2::types::*;
use tpm2::wire::{Tpm2b, Unmarshal, Writer};
use tpm2::{Fault, Tpm, capability};
use verifier::JoinKey;

/// TPMs with each kind of endorsement key at a persistent handle.
const KEYS: [(Kind, &str, &str); 3] = [
    (Kind::RsaAndP384, "rsa2048", "0x81010001"),
    (Kind::RsaAndP384, "p384", "0x81010016"),
    (Kind::P256, "p256", "0x8101000a"),
];

/// The file of tpm2_makecredential and tpm2_activatecredential: magic, version, then the two structures as they are on
/// the wire.
const MAGIC: [u8; 8] = [0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1];

const SECRET: [u8; 32] = *b"a credential that is thirty-two.";

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

/// The public area that tpm2-tools wrote.
fn public_in(file: &str) -> Result<Vec<u8>> {
    let octets = fs::read(file)?;
    ensure!(Tpm2b::<Public<'_>>::from_bytes(&octets).is_ok(), "no TPM2B_PUBLIC");
    Ok(octets)
}

#[test]
fn tpm2_activatecredential_opens_what_we_made() -> Result<()> {
    for (kind, name, handle) in KEYS {
        let swtpm = start_tcp(kind)?;
        let directory = tempfile::tempdir()?;
        let file = |name: &str| path(directory.path(), name);
        let (key, key_public) = (file("key.ctx"), file("key.pub"));
        let (blob, opened, ek_public) = (file("blob"), file("opened"), file("ek.pub"));
        swtpm.tool("tpm2_createprimary", &["-C", "o", "-G", "ecc256", "-c", &key])?;
        swtpm.tool("tpm2_readpublic", &["-c", &key, "-o", &key_public])?;
        swtpm.tool("tpm2_readpublic", &["-c", handle, "-o", &ek_public])?;
        swtpm.tool("tpm2_flushcontext", &["-t"])?;

        let (ek, object) = (public_in(&ek_public)?, public_in(&key_public)?);
        let ek = Tpm2b::<Public<'_>>::from_bytes(&ek)?.0;
        let object = object_name(&Tpm2b::<Public<'_>>::from_bytes(&object)?.0)?;
        let credential = make_credential(&ek, &object, &SECRET)?;
        let mut octets = [0; 1024];
        let mut writer = Writer::new(&mut octets);
        writer.put(&MAGIC)?;
        writer.write(&credential.blob())?;
        writer.write(&credential.secret())?;
        fs::write(&blob, writer.into_written())?;

        let session = start_policy(&swtpm, directory.path(), name)?;
        let auth = format!("session:{session}");
        let key_files = ["-c", &key, "-C", handle, "-P", &auth];
        let files = ["-i", &blob, "-o", &opened];
        swtpm.tool("tpm2_activatecredential", &[&key_files[..], &files].concat())?;
        assert_eq!(fs::read(&opened)?, SECRET, "{name}");
    }
    Ok(())
}

/// A policy session that may use the endorsement key, made by tpm2-tools.
fn start_policy(swtpm: &Swtpm, directory: &Path, name: &str) -> Result<String> {
    let session = path(directory, "session.ctx");
    let hash = if name == "p384" { "sha384" } else { "sha256" };
    swtpm.tool("tpm2_startauthsession", &["--policy-session", "-g", hash, "-S", &session])?;
    swtpm.tool("tpm2_policysecret", &["-S", &session, "-c", "e"])?;
    if name == "p384" {
        let (a, c) = (path(directory, "a"), path(directory, "c"));
        fs::write(&a, tpm2::template::policy::A_SHA384)?;
        fs::write(&c, tpm2::template::policy::C_SHA384)?;
        swtpm.tool("tpm2_policyor", &["-S", &session, &format!("sha384:{a},{c}")])?;
    }
    Ok(session)
}

#[test]
fn we_open_what_tpm2_makecredential_made() -> Result<()> {
    for (kind, name, handle) in KEYS {
        let swtpm = start_tcp(kind)?;
        let directory = tempfile::tempdir()?;
        let file = |name: &str| path(directory.path(), name);
        let (blob, secret, ek_public) = (file("blob"), file("secret"), file("ek.pub"));
        swtpm.tool("tpm2_readpublic", &["-c", handle, "-o", &ek_public])?;
        let mut tpm = client(&swtpm)?;
        let key = load(&mut tpm, &create_join_key(&[1; 32]))?;
        let key_name = key.name().context("no Name")?.to_string();
        for len in [1, 16, 32] {
            fs::write(&secret, &SECRET[..len])?;
            // It needs no TPM.
            let output = std::process::Command::new("tpm2_makecredential")
                .args(["-T", "none", "-u", &ek_public, "-s", &secret, "-n", &key_name, "-o", &blob])
                .output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let octets = fs::read(&blob)?;
            let content = octets.strip_prefix(&MAGIC).context("another magic or version")?;
            let mut reader = tpm2::wire::Reader::new(content);
            let (credential_blob, encrypted): (IdObject<'_>, EncryptedSecret<'_>) =
                (reader.read("blob")?, reader.read("secret")?);
            reader.finish()?;

            let ek = persistent_ek(&mut tpm, name)?;
            let hash = HashAlg::try_from(ek.public()?.name_alg)?;
            let session = tpm.start_session(SessionType::POLICY, hash)?;
            satisfy(&mut tpm, ek_kind(name), session.handle())?;
            let command = ActivateCredential {
                activate_handle: key,
                key_handle: ek.salt_key()?.object(),
                credential_blob,
                secret: encrypted,
            };
            let answer = tpm.run(&command, [Auth::EMPTY, session.last_auth(b"")])?;
            assert_eq!(answer.cert_info.octets(), &SECRET[..len], "{name}");
        }
    }
    Ok(())
}

/// Before the first use of a DA-protected key by its authorization value after an orderly shutdown, the reference code
/// writes to NV memory that such a use is under way, and asks for the command again.
#[test]
fn retry_hides_what_a_tpm_that_was_just_switched_on_says() -> Result<()> {
    let shut_down = || -> Result<Swtpm> {
        let swtpm = start(Kind::P384Only)?;
        client(&swtpm)?.run(&Shutdown { shutdown_type: Startup::CLEAR }, [])?;
        swtpm.power_cycle()
    };
    let socket = |swtpm: &Swtpm| -> Result<Socket> {
        let Tcti::SwtpmUnix(path) = swtpm.tcti().parse()? else { panic!("not a unix socket") };
        Ok(Socket::connect_unix(&path)?)
    };
    let swtpm = shut_down()?;
    let error = activate_by_password(&mut Tpm::new(socket(&swtpm)?)).unwrap_err();
    let refused = error.downcast_ref::<tpm2::Error>().and_then(tpm2::Error::refusal);
    assert_eq!(refused, Some(ResponseCode::RETRY), "the bare transport sees it: {error:#}");

    let swtpm = shut_down()?;
    let recording = Recording::default();
    let bare = Record::new(socket(&swtpm)?, recording.clone());
    assert_eq!(activate_by_password(&mut Tpm::new(Retry::new(bare)))?, SECRET);
    let sent: Vec<_> = recording
        .exchanges()
        .into_iter()
        .filter(|e| testkit::bus::command_code(&e.command) == ActivateCredential::INFO.code)
        .collect();
    let codes: Vec<_> = sent.iter().map(|e| response_code(&e.response)).collect();
    assert_eq!(codes, [ResponseCode::RETRY, ResponseCode::SUCCESS]);
    assert_eq!(sent[0].command, sent[1].command, "octet for octet");
    Ok(())
}

fn activate_by_password<T: Transport>(tpm: &mut Tpm<T>) -> Result<Vec<u8>> {
    let ek = persistent_ek(tpm, "p384")?;
    let key = load(tpm, &create_join_key(&[1; 32]))?;
    let credential = make_credential(&ek.public()?, &key.name().context("no Name")?, &SECRET)?;
    let command = activate(key, ek.salt_key()?.object(), &credential);
    // The HMAC of the session that rides along stays right, since no nonce has moved.
    let salt = ek.salt_key()?;
    let mut session = tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::On)?;
    let answer = tpm.secured(&mut session).run(&command, [Auth::EMPTY, Auth::EMPTY])?;
    Ok(answer.cert_info.octets().to_vec())
}

/// In one call, with and without a password of the endorsement hierarchy; the secret is not on the bus, and nothing stays.
#[test]
fn credential_is_activated_in_one_call() -> Result<()> {
    for ((kind, name, _), password) in KEYS.into_iter().zip([&b""[..], b"", b"endorsement"]) {
        let swtpm = start(kind)?;
        let recording = Recording::default();
        let mut tpm = Tpm::new(Record::new(tests::tpm::way(&swtpm)?, recording.clone()));
        let new_auth = AuthValue::new(password)?;
        let change = HierarchyChangeAuth { auth_handle: HierarchyAuth::Endorsement, new_auth };
        tpm.run(&change, [Auth::EMPTY])?;
        let (kind, ek) = (ek_kind(name), persistent_ek(&mut tpm, name)?);
        let key = tpm.run(&create_join_key(&[1; 32]), [Auth::password(password)])?;
        let key = Loaded::new(key.object_handle.handle(), &key.out_public.0)?;
        let credential = make_credential(&ek.public()?, key.name(), &SECRET)?;
        let passwords = Passwords { endorsement: password, ..Passwords::NONE };
        let object = key.object();
        let mut open = |credential: &_| {
            endorsement::activate(&mut tpm, (kind, &ek), object, Auth::EMPTY, credential, passwords)
        };
        assert_eq!(open(&credential)?.expose(), SECRET);
        let other = make_credential(&ek.public()?, ek.name(), &SECRET)?;
        assert_eq!(open(&other).unwrap_err().refusal(), Some(ResponseCode::INTEGRITY));
        for exchange in recording.exchanges() {
            ensure!(!exchange.response.windows(32).any(|octets| octets == SECRET), "on the bus");
        }
        tpm.flush(key.handle())?;
        for kind in [HandleKind::TRANSIENT, HandleKind::HMAC_SESSION] {
            assert_eq!(capability::handles(&mut tpm, kind)?, [], "{kind:?}");
        }
    }
    Ok(())
}

#[test]
fn a_credential_opens_for_its_key_in_its_tpm_and_for_nothing_else() -> Result<()> {
    for (kind, name, _) in KEYS {
        let swtpm = start(kind)?;
        let mut tpm = client(&swtpm)?;
        let ek = persistent_ek(&mut tpm, name)?;
        let object = ek.salt_key()?.object();
        let hash = HashAlg::try_from(ek.public()?.name_alg)?;
        let key = load(&mut tpm, &create_join_key(&[1; 32]))?;
        let other = load(&mut tpm, &create_join_key(&[2; 32]))?;
        let key_name = key.name().context("no Name")?;
        let right = make_credential(&ek.public()?, &key_name, &SECRET)?;
        let open = |tpm: &mut Tpm<_>, command: &ActivateCredential<'_>| -> Result<_> {
            let mut session = tpm.start_session(SessionType::POLICY, hash)?;
            satisfy(tpm, ek_kind(name), session.handle())?;
            let opened = tpm
                .run(command, [Auth::EMPTY, session.auth(b"")])
                .map(|answer| answer.cert_info.octets().to_vec());
            tpm.flush(session.handle().handle())?;
            Ok(opened)
        };
        assert_eq!(open(&mut tpm, &activate(key, object, &right))??, SECRET);
        let error = open(&mut tpm, &activate(other, object, &right))?.unwrap_err();
        assert_eq!(error.refusal(), Some(ResponseCode::INTEGRITY), "{name}: {error}");

        let blob = right.blob().octets();
        for at in 0..blob.len() {
            let mut changed = blob.to_vec();
            changed[at] ^= 0x01;
            let credential_blob = IdObject::new(&changed)?;
            let command = ActivateCredential { credential_blob, ..activate(key, object, &right) };
            let error = open(&mut tpm, &command)?.unwrap_err();
            assert!(matches!(error.fault(), Fault::Refused(_)), "{name}, octet {at}: {error}");
        }
        // Made for the same Name, for the endorsement key of another TPM of the same kind.
        let factory = testkit::swtpm::Factory::shared();
        let foreign = factory.tpm(testkit::swtpm::Maker::Namesake, kind)?.start()?;
        let foreign_ek = persistent_ek(&mut client(&foreign)?, name)?;
        let wrong = make_credential(&foreign_ek.public()?, &key_name, &SECRET)?;
        let error = open(&mut tpm, &activate(key, object, &wrong))?.unwrap_err();
        assert!(matches!(error.fault(), Fault::Refused(_)), "{name}: {error}");
        assert_eq!(open(&mut tpm, &activate(key, object, &right))??, SECRET, "still");
    }
    Ok(())
}

/// A key that was made elsewhere, loaded into the TPM, can activate: only its attributes tell. It is for the authority to
/// look at them, and they cannot be other: the TPM refuses to load a key from outside that claims to be fixed.
#[test]
fn a_key_from_outside_cannot_claim_to_be_the_tpms() -> Result<()> {
    let swtpm = start(Kind::P256)?;
    let mut tpm = client(&swtpm)?;
    let scalar = [0x11; 32];
    let secret = p256::SecretKey::from_slice(&scalar)?;
    let point = secret.public_key().to_sec1_point(false);
    let (x, y) = (&point.as_bytes()[1..33], &point.as_bytes()[33..65]);
    let mut public = JoinKey::template(&[0; 32]);
    let Id::Ecc(ref mut ecc) = public.id else { panic!("a join key is on a curve") };
    ecc.unique = EccPoint { x: EccParameter::new(x)?, y: EccParameter::new(y)? };
    let mut load = LoadExternal {
        in_private: Some(Tpm2b(Sensitive::of(SensitiveSecret::Ecc(PrivateKeyEcc::new(&scalar)?)))),
        in_public: Tpm2b(public),
        hierarchy: Hierarchy::Null,
    };
    let fixed = [
        ObjectAttributes::FIXED_TPM,
        ObjectAttributes::FIXED_PARENT,
        ObjectAttributes::SENSITIVE_DATA_ORIGIN,
    ];
    let none = fixed.iter().fold(public.attributes, |all, bit| all.without(*bit));
    for claim in fixed.iter().map(|bit| none.with(*bit)).chain([public.attributes]) {
        load.in_public.0.attributes = claim;
        match tpm.run(&load, []) {
            Ok(answer) => {
                // sensitiveDataOrigin is not checked on import; fixedTPM is refused.
                assert!(!claim.contains(ObjectAttributes::FIXED_TPM));
                assert!(!claim.contains(ObjectAttributes::FIXED_PARENT));
                let handle = answer.object_handle.handle();
                tpm.flush(handle)?;
            }
            Err(error) => {
                assert_eq!(error.refusal(), Some(ResponseCode::ATTRIBUTES), "{claim:?}: {error}");
            }
        }
    }
    load.in_public.0.attributes = none;
    let answer = tpm.run(&load, [])?;
    let key = answer.object_handle.named(object_name(&load.in_public.0)?);
    tpm.run(&sign(key, &[1; 32]), [Auth::EMPTY])?;
    Ok(())
}

#[test]
fn a_session_is_salted_to_the_key_of_a_certificate_by_its_kind_alone() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    for name in ["rsa2048", "p384"] {
        let ek = persistent_ek(&mut tpm, name)?;
        let public = ek.public()?;
        let rebuilt = ek_kind(name).public(ek_public_key(&public).expect("a key"))?;
        let salt = SaltKey::new(ek.handle(), rebuilt)?;
        assert_eq!(salt.object(), ek.salt_key()?.object());
        let mut session = tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::On)?;
        tpm.secured(&mut session).run(&RANDOM, [])?;
    }
    Ok(())
}
