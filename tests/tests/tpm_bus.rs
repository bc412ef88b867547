//! Whoever holds the bus between a client and its TPM: what he can read, and what comes of what he changes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context, Result};
use tests::bus::{Interposer, Scripted, changed, command_code, forward, response_code};
use tests::tpm::{
    RANDOM, activate, client, create_join_key, ek_kind, load, persistent_ek, policy_secret, read_public,
    satisfy, sign, start, way,
};
use tpm2::commands::{
    ActivateCredential, Authorized, Command, CreatePrimary, FlushContext, GetCapability,
    LoadExternal, NvRead, NvReadPublic, PcrRead, PolicyGetDigest, PolicyOr, SelfTest,
    SensitiveArea, Shutdown, Start, StartAuthSession,
};
use tpm2::crypto::{HashAlg, make_credential, object_name};
use tpm2::endorsement::{self, EndorsementKey};
use tpm2::session::{Auth, Encryption};
use tpm2::template::{join_key, policy};
use tpm2::transport::{Record, Recording, Transport};
use tpm2::types::*;
use tpm2::wire::{List, Tpm2b};
use tpm2::{Error, Fault, Tpm};
use xtask::swtpm::{Kind, Swtpm};

const SECRET: [u8; 32] = *b"the secret of one activation....";

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn the_secret_of_an_activation_is_not_on_the_bus_unless_encryption_is_off() -> Result<()> {
    for (kind, name) in [(Kind::RsaAndP384, "rsa2048"), (Kind::RsaAndP384, "p384"), (Kind::P256, "p256")] {
        for encryption in [Encryption::On, Encryption::Off] {
            let swtpm = start(kind)?;
            let recording = Recording::default();
            let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
            let ek = persistent_ek(&mut tpm, name)?;
            let salt = ek.salt_key()?;
            let mut session = tpm.start_salted_session(SessionType::POLICY, &salt, encryption)?;
            let answer = tpm.run(&create_join_key(&[1; 32]), [Auth::EMPTY])?;
            let join_name = object_name(&answer.out_public.0)?;
            let key = answer.object_handle.named(join_name);
            satisfy(&mut tpm, ek_kind(name), session.handle())?;
            let credential = make_credential(&ek.public()?, &join_name, &SECRET)?;
            let command = activate(key, salt.object(), &credential);
            let answer = tpm.run(&command, [Auth::EMPTY, session.session().last_auth(b"")])?;
            assert_eq!(answer.cert_info.octets(), SECRET);
            drop(tpm);
            let bus = recording.exchanges();
            assert!(bus.len() > 5);
            let seen = bus
                .iter()
                .any(|e| contains(&e.response, &SECRET) || contains(&e.command, &SECRET));
            assert_eq!(seen, encryption == Encryption::Off, "{name}, {encryption:?}");
        }
    }
    Ok(())
}

#[test]
fn the_public_area_of_a_protected_creation_is_not_on_the_bus() -> Result<()> {
    let swtpm = start(Kind::P256)?;
    for encryption in [Encryption::On, Encryption::Off] {
        let recording = Recording::default();
        let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
        let ek = persistent_ek(&mut tpm, "p256")?;
        let salt = ek.salt_key()?;
        let mut session = tpm.start_salted_session(SessionType::HMAC, &salt, encryption)?;
        let answer =
            tpm.secured(&mut session).run(&create_join_key(&[1; 32]), [Auth::EMPTY])?;
        let Id::Ecc(public) = answer.out_public.0.id else { panic!("no elliptic curve") };
        let x = public.unique.x.octets().to_vec();
        let seen = recording.exchanges().iter().any(|e| contains(&e.response, &x));
        assert_eq!(seen, encryption == Encryption::Off);
    }
    Ok(())
}

/// Whoever changes octets of answers to one command, one answer at a time.
#[derive(Clone, Default)]
struct Forger(Rc<ForgerState>);

#[derive(Default)]
struct ForgerState {
    code: Cell<u32>,
    change: Cell<Option<(usize, u8)>>,
    /// The true answer to the command.
    truth: RefCell<Vec<u8>>,
}

impl Forger {
    fn at<T: Transport>(&self, code: CommandCode, way: T) -> impl Transport + use<T> {
        self.0.code.set(code.0);
        let forger = self.clone();
        Interposer::new(way, move |command, tpm| {
            let mut answer = forward(tpm, command)?;
            if command_code(command).0 == forger.0.code.get() {
                *forger.0.truth.borrow_mut() = answer.clone();
                if let Some((at, mask)) = forger.0.change.get()
                    && let Some(octet) = answer.get_mut(at)
                {
                    *octet ^= mask;
                }
            }
            Ok(answer)
        })
    }

    fn change(&self, at: usize, mask: u8) {
        self.0.change.set(Some((at, mask)));
    }

    fn rest(&self) {
        self.0.change.set(None);
    }

    /// What the TPM said.
    fn truth(&self) -> Vec<u8> {
        self.0.truth.borrow().clone()
    }
}

const MASKS: [u8; 3] = [0x01, 0x80, 0xff];

/// Where the handle of an answer is.
const HANDLE: std::ops::Range<usize> = 10..14;

#[test]
fn any_changed_octet_of_the_answer_to_a_protected_creation_is_noticed() -> Result<()> {
    let swtpm = start(Kind::P256)?;
    let before = swtpm.handles()?;
    let forger = Forger::default();
    let mut tpm = Tpm::new(forger.at(CreatePrimary::INFO.code, way(&swtpm)?));
    let ek = persistent_ek(&mut tpm, "p256")?;
    create_protected(&mut tpm, &ek)?.context("the truth was refused")?;
    tpm.flush_all()?;
    let len = forger.truth().len();
    assert!(len > 300);
    let mut outcomes = BTreeMap::new();
    for at in (0..len).filter(|at| !HANDLE.contains(at)) {
        for mask in MASKS {
            forger.change(at, mask);
            let fault = match create_protected(&mut tpm, &ek)? {
                Ok(_) => panic!("octet {at} ^ {mask:#04x} was not noticed"),
                Err(error) => verdict(&error),
            };
            *outcomes.entry(fault).or_insert(0) += 1;
            // Nor is anything left behind: the object is in the TPM, and its handle was in the answer.
            let truth = forger.truth();
            assert_eq!(response_code(&truth), ResponseCode::SUCCESS);
            forger.rest();
            tpm.flush_all()?;
            if (6..10).contains(&at) {
                flush_handle_in(&mut tpm, &truth)?;
            }
        }
    }
    drop(tpm);
    assert_eq!(swtpm.handles()?, before);
    assert_eq!(outcomes.values().sum::<u32>() as usize, (len - 4) * MASKS.len());
    assert!(outcomes["forged"] > outcomes["malformed"], "{outcomes:?}");
    Ok(())
}

/// A fresh session each time, since both sides' nonces part when an answer is forged.
fn create_protected<T: Transport>(
    tpm: &mut Tpm<T>,
    ek: &EndorsementKey,
) -> Result<Result<Object, Error>> {
    let salt = ek.salt_key()?;
    let mut session = tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::On)?;
    let created = match tpm.secured(&mut session).run(&create_join_key(&[1; 32]), [Auth::EMPTY]) {
        Ok(answer) => Ok(answer.object_handle.named(object_name(&answer.out_public.0)?)),
        Err(error) => Err(error),
    };
    tpm.flush(session.handle().handle())?;
    Ok(created)
}

/// To a response code that was forged the client answers as if nothing was created.
fn flush_handle_in<T: Transport>(tpm: &mut Tpm<T>, answer: &[u8]) -> Result<()> {
    let handle = Handle(u32::from_be_bytes(answer[HANDLE].try_into()?));
    Ok(tpm.flush(handle)?)
}

fn verdict(error: &Error) -> &'static str {
    match error.fault() {
        Fault::Forged => "forged",
        Fault::Malformed(_) => "malformed",
        Fault::Refused(_) => "refused",
        other => panic!("neither forged nor malformed nor refused: {other:?}"),
    }
}

/// No HMAC covers a handle in an answer (Part 1 §19.6.6: rpHash is over the parameters). But a handle means nothing by
/// itself: the next command under a session computes its HMAC over the Name that was created, the TPM over the Name of
/// what is at the handle.
#[test]
fn a_changed_handle_is_noticed_when_it_is_used() -> Result<()> {
    let swtpm = start(Kind::P256)?;
    let forger = Forger::default();
    let mut tpm = Tpm::new(forger.at(CreatePrimary::INFO.code, way(&swtpm)?));
    let ek = persistent_ek(&mut tpm, "p256")?;
    let salt = ek.salt_key()?;
    // Something else of the same kind is at 0x80000000, so that what is created next is at 0x80000001.
    for at in HANDLE {
        for mask in MASKS {
            let other = load(&mut tpm, &create_join_key(&[2; 32]))?;
            assert_eq!(other.handle(), Handle(0x8000_0000));
            forger.change(at, mask);
            let created = create_protected(&mut tpm, &ek)?;
            forger.rest();
            let truth = forger.truth();
            let real = Handle(u32::from_be_bytes(truth[HANDLE].try_into()?));
            if let Ok(key) = created {
                assert_ne!(key.handle(), real);
                assert_eq!(key.handle().kind(), HandleKind::Transient, "no other kind is an object");
                let mut session =
                    tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::On)?;
                let name = key.name().context("no Name")?;
                let credential = make_credential(&ek.public()?, &name, &SECRET)?;
                let mut policy = tpm.start_session(SessionType::POLICY, HashAlg::Sha256)?;
                tpm.run(&policy_secret(policy.handle()), [Auth::EMPTY])?;
                let command = activate(key, salt.object(), &credential);
                let auths = [session.session().auth(b""), policy.auth(b"")];
                let error = tpm.run(&command, auths).unwrap_err();
                assert!(matches!(error.fault(), Fault::Refused(_)), "{error}");
                tpm.flush(session.handle().handle())?;
                tpm.flush(policy.handle().handle())?;
            }
            // What the client believes to have loaded is not there; what is there it does not know.
            let _ = tpm.flush_all();
            for handle in swtpm_objects(&mut tpm)? {
                tpm.flush(handle)?;
            }
        }
    }
    Ok(())
}

fn swtpm_objects<T: Transport>(tpm: &mut Tpm<T>) -> Result<Vec<Handle>> {
    let ask = GetCapability {
        capability: Capability::HANDLES,
        property: 0x8000_0000,
        property_count: 16,
    };
    match tpm.run(&ask, [])?.capability_data {
        CapabilityData::Handles(handles) => Ok(handles.iter().collect()),
        other => panic!("{other:?}"),
    }
}

/// Even the same template: the handle of another key of the same kind, with another unique.
#[test]
fn a_handle_swapped_for_that_of_a_sibling_activates_nothing() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let forger = Forger::default();
    let mut tpm = Tpm::new(forger.at(CreatePrimary::INFO.code, way(&swtpm)?));
    let ek = persistent_ek(&mut tpm, "p384")?;
    let salt = ek.salt_key()?;
    let sibling = tpm.run(&create_join_key(&[2; 32]), [Auth::EMPTY])?.object_handle;
    forger.change(13, 0x01);
    let mut session = tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::On)?;
    let answer = tpm.secured(&mut session).run(&create_join_key(&[1; 32]), [Auth::EMPTY])?;
    let name = object_name(&answer.out_public.0)?;
    assert_eq!(answer.object_handle, sibling);
    let key = answer.object_handle.named(name);
    let credential = make_credential(&ek.public()?, &name, &SECRET)?;
    let command = activate(key, salt.object(), &credential);
    let error = tpm.secured(&mut session).run(&command, [Auth::EMPTY, Auth::EMPTY]).unwrap_err();
    assert!(matches!(error.fault(), Fault::Refused(_)), "{error}");
    Ok(())
}

#[test]
fn any_changed_octet_of_the_answer_to_an_activation_is_noticed() -> Result<()> {
    for (kind, name) in [(Kind::P256, "p256"), (Kind::RsaAndP384, "p384")] {
        let swtpm = start(kind)?;
        let before = swtpm.handles()?;
        let forger = Forger::default();
        let mut tpm = Tpm::new(forger.at(ActivateCredential::INFO.code, way(&swtpm)?));
        let ek = persistent_ek(&mut tpm, name)?;
        let answer = tpm.run(&create_join_key(&[1; 32]), [Auth::EMPTY])?;
        let join_name = object_name(&answer.out_public.0)?;
        let key = answer.object_handle.named(join_name);
        assert_eq!(activate_protected(&mut tpm, &ek, name, key)??, SECRET);
        let len = forger.truth().len();
        assert!(len > 100);
        for at in 0..len {
            for mask in MASKS {
                forger.change(at, mask);
                match activate_protected(&mut tpm, &ek, name, key)? {
                    Ok(secret) => panic!("octet {at} ^ {mask:#04x} made {secret:02x?}"),
                    Err(error) => verdict(&error),
                };
                assert_eq!(response_code(&forger.truth()), ResponseCode::SUCCESS);
            }
        }
        drop(tpm);
        assert_eq!(swtpm.handles()?, before);
    }
    Ok(())
}

fn activate_protected<T: Transport>(
    tpm: &mut Tpm<T>,
    ek: &EndorsementKey,
    kind: &str,
    key: Object,
) -> Result<Result<Vec<u8>, Error>> {
    let salt = ek.salt_key()?;
    let mut session = tpm.start_salted_session(SessionType::POLICY, &salt, Encryption::On)?;
    satisfy(tpm, ek_kind(kind), session.handle())?;
    let name = key.name().context("no Name")?;
    let credential = make_credential(&ek.public()?, &name, &SECRET)?;
    let command = activate(key, salt.object(), &credential);
    let opened = tpm
        .run(&command, [Auth::EMPTY, session.session().auth(b"")])
        .map(|answer| answer.cert_info.octets().to_vec());
    // Some never come to know that the session goes on; most do.
    tpm.flush(session.handle().handle())?;
    Ok(opened)
}

/// Runs one command against a TPM, and then against every corruption of its true answer.
struct Corruption {
    recording: Recording,
    tpm: Tpm<Record<tests::tpm::Way>>,
    /// Answers that differed from the truth and were believed, of commands that nothing protects.
    believed: BTreeMap<&'static str, usize>,
    refused: usize,
}

impl Corruption {
    fn new(swtpm: &Swtpm) -> Result<Self> {
        let recording = Recording::default();
        let tpm = Tpm::new(Record::new(way(swtpm)?, recording.clone()));
        Ok(Self { recording, tpm, believed: BTreeMap::new(), refused: 0 })
    }

    /// `show` says what a caller would see of an answer, all of it.
    fn of<C: Authorized<N>, const N: usize>(
        &mut self,
        command: &C,
        show: impl Fn(&C::Response<'_>) -> String,
    ) -> Result<()> {
        let name = C::INFO.name;
        self.tpm.run(command, [const { Auth::EMPTY }; N])?;
        let truth = self.recording.exchanges().pop().context("nothing recorded")?.response;
        let against = |answer: Vec<u8>| {
            let mut tpm = Tpm::new(Scripted::new([answer]));
            tpm.run(command, [const { Auth::EMPTY }; N]).map(|answer| show(&answer))
        };
        against(truth.clone()).with_context(|| format!("{name}: the truth"))?;
        for len in 0..truth.len() {
            let error = against(truth[..len].to_vec()).unwrap_err();
            assert!(matches!(error.fault(), Fault::Malformed(_)), "{name}, {len} octets: {error}");
            // The same, by someone who also corrects the size.
            if len >= 10 {
                let mut shorter = truth[..len].to_vec();
                shorter[2..6].copy_from_slice(&u32::try_from(len)?.to_be_bytes());
                let error = against(shorter).unwrap_err();
                assert!(matches!(error.fault(), Fault::Malformed(_)), "{name}, {len}: {error}");
            }
        }
        for extra in [1, 100] {
            let mut longer = truth.clone();
            longer.resize(truth.len() + extra, 0);
            against(longer.clone()).unwrap_err();
            longer[2..6].copy_from_slice(&u32::try_from(truth.len() + extra)?.to_be_bytes());
            against(longer).unwrap_err();
        }
        for (at, answer) in changed(&truth) {
            match against(answer) {
                Ok(_) => {
                    assert!(at >= 10, "{name}: octet {at} of the header");
                    *self.believed.entry(name).or_default() += 1;
                }
                Err(error) => {
                    verdict(&error);
                    self.refused += 1;
                }
            }
        }
        Ok(())
    }
}

#[test]
fn every_truncation_and_one_octet_change_of_every_unprotected_answer_is_refused_or_harmless()
-> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut run = Corruption::new(&swtpm)?;
    let nv_index = NvIndex::unnamed(Handle(0x01c0_0002));
    run.of(&NvReadPublic { nv_index }, |a| format!("{a:?}"))?;
    let auth_handle = NvAuth::Index(nv_index);
    run.of(&NvRead { auth_handle, nv_index, size: 64, offset: 0 }, |a| format!("{a:?}"))?;
    run.of(&read_public(Handle(0x8101_0001)), |a| format!("{a:?}"))?;
    run.of(&read_public(Handle(0x8101_0016)), |a| format!("{a:?}"))?;
    run.of(&RANDOM, |a| format!("{a:?}"))?;
    run.of(&SelfTest { full_test: false }, |a| format!("{a:?}"))?;
    for (capability, property) in [
        (Capability::ALGS, 0),
        (Capability::HANDLES, 0x8100_0000),
        (Capability::COMMANDS, 0x100),
        (Capability::PCRS, 0),
        (Capability::TPM_PROPERTIES, 0x100),
        (Capability::ECC_CURVES, 0),
        (Capability::PP_COMMANDS, 0x100),
        (Capability::AUDIT_COMMANDS, 0x100),
    ] {
        run.of(&GetCapability { capability, property, property_count: 5 }, |a| format!("{a:?}"))?;
    }
    let pcrs = [PcrSelection::new(Alg::SHA256, &[3, 0, 0])?];
    run.of(&PcrRead { pcr_selection_in: List::new(&pcrs) }, |a| format!("{a:?}"))?;

    let start = StartAuthSession {
        tpm_key: None,
        bind: None,
        nonce_caller: Nonce::new(&[7; 32])?,
        encrypted_salt: EncryptedSecret::EMPTY,
        session_type: SessionType::POLICY,
        symmetric: SymDef::Null,
        auth_hash: Alg::SHA256,
    };
    run.of(&start, |a| format!("{a:?}"))?;
    let session = run.tpm.start_session(SessionType::POLICY, HashAlg::Sha256)?.handle();
    run.of(&policy_secret(session), |a| format!("{a:?}"))?;
    let branches = [&policy::A_SHA256, &policy::C_SHA256].map(|d| Digest::new(d).expect("fits"));
    let or = PolicyOr { policy_session: session, p_hash_list: List::new(&branches) };
    run.of(&or, |a| format!("{a:?}"))?;
    run.of(&PolicyGetDigest { policy_session: session }, |a| format!("{a:?}"))?;

    run.of(&create_join_key(&[1; 32]), |a| format!("{a:?}"))?;
    run.tpm.flush_all()?;
    let public = Tpm2b(software_key());
    let load = LoadExternal {
        in_private: SensitiveArea::None,
        in_public: public,
        hierarchy: Hierarchy::Null,
    };
    run.of(&load, |a| format!("{a:?}"))?;
    run.tpm.flush_all()?;

    let ek = persistent_ek(&mut run.tpm, "p384")?;
    let answer = run.tpm.run(&create_join_key(&[1; 32]), [Auth::EMPTY])?;
    let name = object_name(&answer.out_public.0)?;
    let key = answer.object_handle.named(name);
    run.of(&sign(key, &[1; 32]), |a| format!("{a:?}"))?;
    let credential = make_credential(&ek.public()?, &name, &SECRET)?;
    run.of(&activate(key, ek.salt_key()?.object(), &credential), |a| format!("{a:?}"))?;
    run.of(&FlushContext { flush_handle: key.handle() }, |a| format!("{a:?}"))?;
    run.of(&Shutdown { shutdown_type: Startup::CLEAR }, |a| format!("{a:?}"))?;
    run.tpm.run(&Start { startup_type: Startup::CLEAR }, []).unwrap_err();
    assert!(run.refused > 1000, "{}", run.refused);
    // What is believed is content: a digest, a number, a name. Where it matters a session protects it, see above.
    assert!(run.believed.contains_key("TPM2_GetRandom"));
    assert!(!run.believed.contains_key("TPM2_FlushContext"));
    Ok(())
}

/// A public area that no TPM made: the base point of P-256.
fn software_key() -> Public<'static> {
    static X: [u8; 32] = [
        0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40,
        0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb, 0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98,
        0xc2, 0x96,
    ];
    static Y: [u8; 32] = [
        0x4f, 0xe3, 0x42, 0xe2, 0xfe, 0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e,
        0x16, 0x2b, 0xce, 0x33, 0x57, 0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf,
        0x51, 0xf5,
    ];
    let mut public = join_key(&X);
    public.attributes =
        ObjectAttributes::USER_WITH_AUTH.with(ObjectAttributes::SIGN).with(ObjectAttributes::NO_DA);
    let Id::Ecc(ref mut ecc) = public.id else { unreachable!("a join key is on a curve") };
    ecc.unique = EccPoint {
        x: EccParameter::new(&X).expect("32 octets"),
        y: EccParameter::new(&Y).expect("32 octets"),
    };
    public
}

#[test]
fn sizes_that_an_answer_only_claims_are_not_allocated_nor_read() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let _ = tpm.run(&RANDOM, [])?;
    // 65535 octets of random, 2^32 - 1 handles, a parameter area of 2^32 - 1 octets: none of them there.
    let random = vec![0x80, 0x01, 0, 0, 0, 14, 0, 0, 0, 0, 0xff, 0xff, 1, 2];
    let error = Tpm::new(Scripted::new([random])).run(&RANDOM, []).unwrap_err();
    assert!(matches!(error.fault(), Fault::Malformed(_)), "{error}");
    let mut handles = vec![0x80, 0x01, 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    handles.extend([0xff; 4]);
    let ask =
        GetCapability { capability: Capability::HANDLES, property: 0, property_count: u32::MAX };
    let error = Tpm::new(Scripted::new([handles])).run(&ask, []).unwrap_err();
    assert!(matches!(error.fault(), Fault::Malformed(_)), "{error}");
    let mut area = vec![0x80, 0x02, 0, 0, 0, 14, 0, 0, 0, 0];
    area.extend([0xff; 4]);
    let nv_index = NvIndex::unnamed(Handle(0x01c0_0002));
    let read = NvRead { auth_handle: NvAuth::Owner, nv_index, size: 8, offset: 0 };
    let error = Tpm::new(Scripted::new([area])).run(&read, [Auth::EMPTY]).unwrap_err();
    assert!(matches!(error.fault(), Fault::Malformed(_)), "{error}");
    Ok(())
}

#[test]
fn nv_memory_that_is_not_read_as_asked_for_is_refused_and_is_not_read_for_ever() -> Result<()> {
    let nv_answer = |content: &[u8]| -> Vec<u8> {
        let size = u16::try_from(content.len()).expect("short").to_be_bytes();
        let parameters = [&size[..], content].concat();
        let len = u32::try_from(10 + 4 + parameters.len() + 5).expect("short").to_be_bytes();
        let parameters_len = u32::try_from(parameters.len()).expect("short").to_be_bytes();
        [&[0x80, 0x02][..], &len, &[0; 4], &parameters_len, &parameters, &[0, 0, 1, 0, 0]].concat()
    };
    for given in [&[][..], &[0x30], &[0x30; 767], &[0x30; 769], &[0x30; 2048]] {
        let bus = Interposer::new(Scripted::new([]), |_, _| Ok(nv_answer(given)));
        let mut tpm = Tpm::new(bus);
        let error = endorsement::read(&mut tpm, Handle(0x01c0_0004)).unwrap_err();
        assert!(matches!(error.fault(), Fault::Malformed(_)), "{} octets: {error}", given.len());
    }
    // As many as it was asked for, and no end in sight.
    let asked = Rc::new(Cell::new(0));
    let counter = asked.clone();
    let bus = Interposer::new(Scripted::new([]), move |command: &[u8], _| {
        counter.set(counter.get() + 1);
        let size = u16::from_be_bytes([command[31], command[32]]);
        Ok(nv_answer(&vec![0x30; usize::from(size)]))
    });
    let mut tpm = Tpm::new(bus);
    let content = endorsement::read(&mut tpm, Handle(0x01c0_0004))?.context("nothing")?;
    assert_eq!((content.len(), asked.get()), (8192, 11));
    Ok(())
}
