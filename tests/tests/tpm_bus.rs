//! An attacker on the bus between a client and its TPM: what it can read, and the effect of its changes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use anyhow::{Context, Result};
use testkit::bus::{Interposer, command_code, forward, response_code};
use testkit::swtpm::Kind;
use tests::tpm::{
    activate, create_join_key, ek_kind, load, persistent_ek, policy_secret, satisfy, start, way,
};
use tpm2::commands::{ActivateCredential, Command, CreatePrimary, GetCapability};
use tpm2::crypto::{HashAlg, make_credential, object_name};
use tpm2::object::Loaded;
use tpm2::session::{Auth, Encryption};
use tpm2::transport::{Record, Recording, Transport};
use tpm2::types::*;
use tpm2::{Error, Fault, Tpm};

const SECRET: [u8; 32] = *b"the secret of one activation....";

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn the_secret_of_an_activation_is_not_on_the_bus_unless_encryption_is_off() -> Result<()> {
    for (kind, name) in
        [(Kind::RsaAndP384, "rsa2048"), (Kind::RsaAndP384, "p384"), (Kind::P256, "p256")]
    {
        for encryption in [Encryption::On, Encryption::Off] {
            let swtpm = start(kind)?;
            let recording = Recording::default();
            let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
            let ek = persistent_ek(&mut tpm, name)?;
            let salt = ek.salt_key()?;
            let session = tpm.start_salted_session(SessionType::POLICY, &salt, encryption)?;
            let answer = tpm.run(&create_join_key(&[1; 32]), [Auth::EMPTY])?;
            let join_name = object_name(&answer.out_public.0)?;
            let key = answer.object_handle.named(join_name);
            satisfy(&mut tpm, ek_kind(name), session.handle())?;
            let credential = make_credential(&ek.public()?, &join_name, &SECRET)?;
            let command = activate(key, salt.object(), &credential);
            let answer = tpm.run(&command, [Auth::EMPTY, session.last_auth(b"")])?;
            assert_eq!(answer.cert_info.octets(), SECRET);
            drop(tpm);
            let bus = recording.exchanges();
            assert!(bus.len() > 5);
            let seen =
                bus.iter().any(|e| contains(&e.response, &SECRET) || contains(&e.command, &SECRET));
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
        let answer = tpm.secured(&mut session).run(&create_join_key(&[1; 32]), [Auth::EMPTY])?;
        let Id::Ecc(public) = answer.out_public.0.id else { panic!("no elliptic curve") };
        let x = public.unique.x.octets().to_vec();
        let seen = recording.exchanges().iter().any(|e| contains(&e.response, &x));
        assert_eq!(seen, encryption == Encryption::Off);
    }
    Ok(())
}

/// An attacker that changes bytes of answers to one command, one answer at a time.
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
    fn at<T: Transport<Error = io::Error>>(
        &self,
        code: CommandCode,
        way: T,
    ) -> impl Transport<Error = io::Error> + use<T> {
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
    ek: &Loaded,
) -> Result<Result<Object, Error<T::Error>>> {
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

fn verdict<E>(error: &Error<E>) -> &'static str {
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
                assert_eq!(
                    key.handle().kind(),
                    HandleKind::TRANSIENT,
                    "no other kind is an object"
                );
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
    ek: &Loaded,
    kind: &str,
    key: Object,
) -> Result<Result<Vec<u8>, Error<T::Error>>> {
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
