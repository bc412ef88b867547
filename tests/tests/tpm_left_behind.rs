//! What a client leaves in a TPM without resource manager, however it ends: nothing.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use anyhow::{Context, Result};
use testkit::bus::{Interposer, command_code, forward, refusal, response_code};
use testkit::swtpm::Kind;
use tests::tpm::{
    RANDOM, client, create_join_key, ek_kind, hmac_session, join, load, lock_out, persistent_ek,
    start, way,
};
use tpm2::commands::{
    Clear, Command, EventSequenceComplete, FlushContext, HashSequenceStart, SequenceComplete,
};
use tpm2::crypto::HashAlg;
use tpm2::endorsement::{self, Passwords};
use tpm2::session::Auth;
use tpm2::transport::{Record, Recording, Transport};
use tpm2::types::*;
use tpm2::{Fault, Tpm};
use verifier::JoinKey;

const SECRET: [u8; 32] = [0x5a; 32];
const KINDS: [(Kind, &str); 3] =
    [(Kind::RsaAndP384, "rsa2048"), (Kind::P384Only, "p384"), (Kind::P256, "p256")];

/// Commands of a join, without those that clean up.
fn commands_of_a_join(kind: Kind, name: &str) -> Result<usize> {
    let swtpm = start(kind)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
    join(&mut tpm, ek_kind(name), &SECRET)?;
    let commands = recording.exchanges().len();
    drop(tpm);
    assert!(recording.exchanges().len() > commands, "something had to be flushed");
    Ok(commands)
}

#[test]
fn successful_join_leaves_no_objects() -> Result<()> {
    for (kind, name) in KINDS {
        let swtpm = start(kind)?;
        let before = swtpm.handles()?;
        for _ in 0..4 {
            join(&mut client(&swtpm)?, ek_kind(name), &SECRET)?;
            assert_eq!(swtpm.handles()?, before, "{name}");
        }
    }
    Ok(())
}

#[test]
fn a_join_that_is_refused_at_any_command_leaves_nothing() -> Result<()> {
    for (kind, name) in KINDS {
        let commands = commands_of_a_join(kind, name)?;
        let swtpm = start(kind)?;
        let before = swtpm.handles()?;
        for nth in 0..commands {
            let mut sent = 0;
            let mut tpm = Tpm::new(Interposer::new(way(&swtpm)?, move |command: &[u8], tpm| {
                sent += 1;
                if sent == nth + 1 {
                    return Ok(refusal(ResponseCode::FAILURE));
                }
                forward(tpm, command)
            }));
            let error = join(&mut tpm, ek_kind(name), &SECRET).unwrap_err();
            let refused = error.downcast_ref::<tpm2::Error>().and_then(tpm2::Error::refusal);
            assert_eq!(refused, Some(ResponseCode::FAILURE), "{name}, {nth}: {error:#}");
            drop(tpm);
            assert_eq!(swtpm.handles()?, before, "{name}, refused at command {nth}");
        }
        join(&mut client(&swtpm)?, ek_kind(name), &SECRET)?;
    }
    Ok(())
}

/// An answer that makes no sense, at any command. The TPM has executed it.
#[test]
fn a_join_that_is_answered_with_nonsense_at_any_command_leaves_nothing() -> Result<()> {
    for (kind, name) in KINDS {
        let commands = commands_of_a_join(kind, name)?;
        let swtpm = start(kind)?;
        let before = swtpm.handles()?;
        for nth in 0..commands {
            let mut sent = 0;
            let mut tpm = Tpm::new(Interposer::new(way(&swtpm)?, move |command: &[u8], tpm| {
                sent += 1;
                let mut answer = forward(tpm, command)?;
                if sent == nth + 1 {
                    answer.push(0);
                }
                Ok(answer)
            }));
            let error = join(&mut tpm, ek_kind(name), &SECRET).unwrap_err();
            let fault = error.downcast_ref::<tpm2::Error>().map(tpm2::Error::fault);
            assert!(matches!(fault, Some(Fault::Malformed(_))), "{name}, {nth}: {error:#}");
            drop(tpm);
            assert_eq!(swtpm.handles()?, before, "{name}, nonsense at command {nth}");
        }
    }
    Ok(())
}

/// A client whose connection died can flush nothing. What it left is at most one object and one session, and the next
/// client has room to work.
#[test]
fn after_a_connection_that_died_at_any_command_another_client_can_join() -> Result<()> {
    for (kind, name) in KINDS {
        let commands = commands_of_a_join(kind, name)?;
        for executed in [false, true] {
            for nth in 0..commands {
                let swtpm = start(kind)?;
                let before = swtpm.handles()?;
                let mut sent = 0;
                let mut tpm =
                    Tpm::new(Interposer::new(way(&swtpm)?, move |command: &[u8], tpm| {
                        sent += 1;
                        if sent <= nth {
                            return forward(tpm, command);
                        }
                        if executed && sent == nth + 1 {
                            forward(tpm, command)?;
                        }
                        Err(io::ErrorKind::BrokenPipe.into())
                    }));
                let error = join(&mut tpm, ek_kind(name), &SECRET).unwrap_err();
                let fault = error.downcast_ref::<tpm2::Error>().map(tpm2::Error::fault);
                assert!(matches!(fault, Some(Fault::Transport)), "{name}, {nth}: {error:#}");
                let next = tpm.run(&RANDOM, []).unwrap_err();
                assert!(matches!(next.fault(), Fault::Poisoned), "{next}");
                drop(tpm);
                let left = swtpm.handles()?;
                assert!(left.transient.len() <= 1 && left.loaded_sessions.len() <= 1, "{left:?}");
                assert_eq!(left.persistent, before.persistent);
                join(&mut client(&swtpm)?, ek_kind(name), &SECRET)?;
                assert_eq!(swtpm.handles()?, left, "the second left nothing of its own");
            }
        }
    }
    Ok(())
}

#[test]
fn a_flush_that_is_refused_does_not_keep_the_others_from_being_flushed() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let before = swtpm.handles()?;
    let refused = Rc::new(Cell::new(0));
    let counter = refused.clone();
    let mut tpm = Tpm::new(Interposer::new(way(&swtpm)?, move |command: &[u8], tpm| {
        if command_code(command) == FlushContext::INFO.code && counter.get() == 0 {
            counter.set(1);
            return Ok(refusal(ResponseCode::FAILURE));
        }
        forward(tpm, command)
    }));
    load(&mut tpm, &create_join_key(&[1; 32]))?;
    load(&mut tpm, &create_join_key(&[2; 32]))?;
    hmac_session(&mut tpm)?;
    let error = tpm.flush_all().unwrap_err();
    assert_eq!(error.refusal(), Some(ResponseCode::FAILURE));
    drop(tpm);
    assert_eq!(refused.get(), 1);
    let left = swtpm.handles()?;
    let count =
        |handles: &testkit::swtpm::Handles| handles.transient.len() + handles.loaded_sessions.len();
    assert_eq!(count(&left), count(&before) + 1);
    Ok(())
}

#[test]
fn objects_flushed_by_the_caller_are_not_flushed_again() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
    let key = load(&mut tpm, &create_join_key(&[1; 32]))?;
    tpm.flush(key.handle())?;
    let before = recording.exchanges().len();
    tpm.flush_all()?;
    drop(tpm);
    assert_eq!(recording.exchanges().len(), before);
    Ok(())
}

/// Searching for the key that a certificate names makes keys that are not it.
/// Of a sequence that has ended, and of what was flushed by the command itself, there is nothing to flush.
#[test]
fn sequences_that_ended_are_not_flushed() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
    for hash_alg in [Alg::SHA256, Alg::NULL] {
        let begin = HashSequenceStart { auth: AuthValue::EMPTY, hash_alg };
        let sequence_handle = tpm.run(&begin, [])?.sequence_handle.sequence();
        let buffer = MaxBuffer::from(b"a message");
        if hash_alg == Alg::NULL {
            let end = EventSequenceComplete { pcr_handle: None, sequence_handle, buffer };
            tpm.run(&end, [Auth::EMPTY, Auth::EMPTY])?;
        } else {
            let hierarchy = Hierarchy::Owner;
            tpm.run(&SequenceComplete { sequence_handle, buffer, hierarchy }, [Auth::EMPTY])?;
        }
    }
    let session = tpm.start_session(SessionType::HMAC, HashAlg::Sha256)?;
    tpm.run(&FlushContext { flush_handle: session.handle().handle() }, [])?;
    let count = recording.exchanges().len();
    tpm.flush_all()?;
    assert_eq!(recording.exchanges().len(), count, "something was flushed");
    Ok(())
}

#[test]
fn endorsement_keys_that_were_made_in_vain_are_flushed() -> Result<()> {
    let swtpm = start(Kind::P384Only)?;
    let before = swtpm.handles()?;
    let mut tpm = client(&swtpm)?;
    let unknown = endorsement::EkPublicKey::Ecc(&[1; 48], &[2; 48]);
    assert!(
        endorsement::create(&mut tpm, ek_kind("p384"), Some(unknown), Passwords::NONE)?.is_none()
    );
    drop(tpm);
    assert_eq!(swtpm.handles()?, before);
    // Its commands are: the template index, then a creation and a flush for each way to fill the template.
    for refused in [0, 1, 3] {
        let mut sent = 0;
        let mut tpm = Tpm::new(Interposer::new(way(&swtpm)?, move |command: &[u8], tpm| {
            sent += 1;
            if sent == refused + 1 {
                assert_ne!(command_code(command), FlushContext::INFO.code);
                return Ok(refusal(ResponseCode::FAILURE));
            }
            forward(tpm, command)
        }));
        let error = endorsement::create(&mut tpm, ek_kind("p384"), Some(unknown), Passwords::NONE)
            .unwrap_err();
        assert_eq!(error.refusal(), Some(ResponseCode::FAILURE));
        drop(tpm);
        assert_eq!(swtpm.handles()?, before, "refused at command {refused}");
    }
    Ok(())
}

/// The kernel's resource manager flushes what a client leaves, and every flush would cost the swapping of all else.
#[test]
fn a_resource_manager_is_left_to_do_it() -> Result<()> {
    struct Managed<T>(T);
    impl<T: Transport> Transport for Managed<T> {
        type Error = T::Error;

        fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, T::Error> {
            self.0.exchange(command, response)
        }
        fn is_managed(&self) -> bool {
            true
        }
    }
    let swtpm = start(Kind::NoCertificates)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Managed(Record::new(way(&swtpm)?, recording.clone())));
    let key = load(&mut tpm, &create_join_key(&[1; 32]))?;
    tpm.flush_all()?;
    assert_eq!(recording.exchanges().len(), 1);
    tpm.flush(key.handle())?;
    assert_eq!(recording.exchanges().len(), 2, "what the caller asks for is done");
    drop(tpm);
    assert_eq!(recording.exchanges().len(), 2);
    Ok(())
}

/// TPM2_Clear removes what a client has loaded, and it removed a persistent handle or an object of its own too.
#[test]
fn what_others_removed_is_passed_over() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let (owner, empty) = (Hierarchy::Owner, tpm2::types::SensitiveCreate::EMPTY);
    let template = JoinKey::template(&[1; 32]);
    let key = tpm2::object::create_primary(&mut tpm, owner, Auth::EMPTY, &template, empty)?.0;
    hmac_session(&mut tpm)?;
    tpm.run(&Clear { auth_handle: ClearAuth::Lockout }, [Auth::EMPTY])?;
    let gone = tpm.flush(key.handle()).unwrap_err();
    assert_eq!(gone.refusal(), Some(ResponseCode::HANDLE), "what the caller asks for is done");
    tpm2::object::create_primary(&mut tpm, owner, Auth::EMPTY, &template, empty)?;
    tpm.run(&Clear { auth_handle: ClearAuth::Lockout }, [Auth::EMPTY])?;
    tpm.flush_all()?;
    drop(tpm);
    assert!(swtpm.handles()?.loaded_sessions.is_empty(), "the rest is flushed");
    Ok(())
}

/// A connection that fails on demand.
struct Breaks {
    inner: tests::tpm::Way,
    is_broken: bool,
}

impl Transport for Breaks {
    type Error = io::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        if self.is_broken {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.inner.exchange(command, response)
    }
}

#[test]
fn client_goes_on_over_another_connection_and_gives_it_back() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = Tpm::new(Breaks { inner: way(&swtpm)?, is_broken: false });
    hmac_session(&mut tpm)?;
    tpm.transport_mut().is_broken = true;
    let lost = tpm.run(&RANDOM, []).unwrap_err();
    assert!(matches!(lost.fault(), Fault::Transport), "{lost}");
    tpm.transport_mut().is_broken = false;
    let poisoned = tpm.run(&RANDOM, []).unwrap_err();
    assert!(matches!(poisoned.fault(), Fault::Poisoned), "{poisoned}");
    drop(tpm.replace(Breaks { inner: way(&swtpm)?, is_broken: false }));
    load(&mut tpm, &create_join_key(&[1; 32]))?;
    let connection = tpm.into_transport();
    drop(connection);
    assert!(swtpm.handles()?.transient.is_empty(), "flushed before");
    Ok(())
}

/// A session that was given away is no one's, whatever the command came to.
#[test]
fn session_of_a_last_command_that_is_not_sent_is_flushed() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let key = load(&mut tpm, &create_join_key(&[1; 32]))?;
    let unnamed = Object::unnamed(key.handle());
    for _ in 0..5 {
        let session = hmac_session(&mut tpm)?;
        let refused =
            tpm.run(&tests::tpm::sign(unnamed, &[1; 32]), [session.last_auth(b"")]).unwrap_err();
        assert!(matches!(refused.fault(), tpm2::Fault::Unnamed), "{refused}");
    }
    Ok(())
}

#[test]
fn no_room_is_said_in_words_with_advice_and_costs_nothing() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let before = swtpm.handles()?;
    let mut tpm = client(&swtpm)?;
    for unique in 1..=3 {
        load(&mut tpm, &create_join_key(&[unique; 32]))?;
        hmac_session(&mut tpm)?;
    }
    let error = tpm.run(&create_join_key(&[4; 32]), [Auth::EMPTY]).unwrap_err();
    assert_eq!(error.refusal(), Some(ResponseCode::OBJECT_MEMORY));
    assert!(error.advice().is_some_and(|advice| advice.contains("/dev/tpmrm0")), "{error}");
    let error = hmac_session(&mut tpm).unwrap_err();
    assert_eq!(error.refusal(), Some(ResponseCode::SESSION_MEMORY));
    assert!(error.advice().is_some());
    drop(tpm);
    assert_eq!(swtpm.handles()?, before);
    Ok(())
}

#[test]
fn nothing_is_ever_made_persistent() -> Result<()> {
    const EVICT_CONTROL: u32 = 0x120;
    const NV_DEFINE_SPACE: u32 = 0x12a;
    for (kind, name) in KINDS {
        let swtpm = start(kind)?;
        let recording = Recording::default();
        let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
        join(&mut tpm, ek_kind(name), &SECRET)?;
        drop(tpm);
        for exchange in recording.exchanges() {
            let code = command_code(&exchange.command).0;
            assert!(code != EVICT_CONTROL && code != NV_DEFINE_SPACE);
            assert_eq!(response_code(&exchange.response), ResponseCode::SUCCESS);
        }
    }
    Ok(())
}

/// A locked-out TPM still joins: the join key asks for no dictionary-attack protection, and a low-range endorsement key is
/// used by its policy. A high-range key is too, by its policy, when its password is locked out.
#[test]
fn a_join_goes_through_while_the_tpm_is_locked_out() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let locked = lock_out(&swtpm)?;
    assert!(locked.advice().is_some_and(|advice| advice.contains("wait")), "{locked}");
    for name in ["rsa2048", "p384"] {
        join(&mut client(&swtpm)?, ek_kind(name), &SECRET)?;
    }
    // It is the policy that does it: by password the high range's key is out of reach.
    let mut tpm = client(&swtpm)?;
    let ek = persistent_ek(&mut tpm, "p384")?;
    let key = load(&mut tpm, &create_join_key(&[1; 32]))?;
    let name = key.name().context("no Name")?;
    let credential = tpm2::crypto::make_credential(&ek.public()?, &name, &SECRET)?;
    let object = ek.salt_key()?.object();
    let activate = tests::tpm::activate(key, object, &credential);
    let error = tpm.run(&activate, [Auth::EMPTY, Auth::EMPTY]).unwrap_err();
    assert_eq!(error.refusal(), Some(ResponseCode::LOCKOUT), "{error}");
    Ok(())
}
