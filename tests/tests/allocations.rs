//! Reading and writing messages, and framing them under sessions, allocates nothing: an allocator counts.

use std::io;

use allocation_counter::{measure, opt_out};
use anyhow::{Context, Result};
use testkit::bus::command_code;
use testkit::swtpm::Kind;
use tests::golden::{self, Entry};
use tests::tpm::{RANDOM, Way, load, persistent_ek, read_public, sign, start, way};
use tpm2::Tpm;
use tpm2::commands::frame::Answer;
use tpm2::commands::{Command, Hash, Response, StirRandom, Visitor, visit};
use tpm2::crypto::HashAlg;
use tpm2::session::{Audit, Auth, Cipher, Encryption, NewSession};
use tpm2::transport::Transport;
use tpm2::types::*;
use tpm2::wire::{Reader, Writer};

/// How often `run` asks for memory.
fn allocations(run: impl FnOnce()) -> u64 {
    measure(run).count_total
}

#[test]
fn the_allocator_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![0_u8; 16]))), 1);
    assert_eq!(allocations(|| opt_out(|| drop(std::hint::black_box(vec![0_u8; 16])))), 0);
}

/// Reads a message and writes it again; whether the bytes are the same.
struct Again<'m> {
    command: &'m [u8],
    response: &'m [u8],
}

impl Visitor for Again<'_> {
    type Output = Option<bool>;

    fn visit<C: Command>(self) -> Self::Output {
        let mut buffer = [0; 4096];
        let answer = Answer::split::<C>(self.response).ok()?;
        let mut same = true;
        if answer.code == ResponseCode::SUCCESS {
            let mut writer = Writer::new(&mut buffer);
            answer.read::<C>().ok()?.marshal_parameters(&mut writer).ok()?;
            same = writer.into_written() == answer.parameters;
        }
        let (handles, parameters) = split::<C>(self.command)?;
        let command =
            Reader::all(parameters, |reader| C::unmarshal(&mut Reader::new(handles), reader));
        let command = command.ok()?;
        let mut writer = Writer::new(&mut buffer);
        command.marshal_handles(&mut writer).ok()?;
        command.marshal_parameters(&mut writer).ok()?;
        let written = writer.into_written();
        Some(same && written.strip_prefix(handles) == Some(parameters))
    }
}

/// Handles and parameters of a command.
fn split<C: Command>(command: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, rest) = command.split_at_checked(10)?;
    let (handles, rest) = rest.split_at_checked(4 * C::INFO.handles.len())?;
    if header.starts_with(&Structure::NO_SESSIONS.0.to_be_bytes()) {
        return Some((handles, rest));
    }
    let (size, rest) = rest.split_first_chunk()?;
    Some((handles, rest.get(usize::try_from(u32::from_be_bytes(*size)).ok()?..)?))
}

#[test]
fn no_golden_message_needs_memory_to_be_read_and_written() -> Result<()> {
    let golden = golden::all()?;
    assert!(golden.len() >= 250, "{}", golden.len());
    for Entry { title, exchange, .. } in &golden {
        let code = command_code(&exchange.command);
        let mut same = None;
        let count = allocations(|| {
            let again = Again { command: &exchange.command, response: &exchange.response };
            same = visit(code, again);
        });
        let same = same.with_context(|| format!("{code} is not known"))?;
        assert_eq!(same, Some(true), "{code}: {title}");
        assert_eq!(count, 0, "{code}: {title}");
    }
    Ok(())
}

/// What a hostile message claims costs nothing either.
#[test]
fn no_changed_message_needs_memory_to_be_refused() -> Result<()> {
    for Entry { title, exchange, .. } in &golden::all()? {
        let code = command_code(&exchange.command);
        for at in 10..exchange.command.len().max(exchange.response.len()) {
            let mut changed = exchange.clone();
            for message in [&mut changed.command, &mut changed.response] {
                if let Some(octet) = message.get_mut(at) {
                    *octet = !*octet;
                }
            }
            let again = Again { command: &changed.command, response: &changed.response };
            let count = allocations(|| {
                std::hint::black_box(visit(code, again));
            });
            assert_eq!(count, 0, "{code}: {title}, octet {at}");
        }
    }
    Ok(())
}

/// A way to a TPM whose allocations are its own.
struct OptedOut(Way);

impl Transport for OptedOut {
    type Error = io::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        let mut result = Ok(0);
        opt_out(|| result = self.0.exchange(command, response));
        result
    }
}

#[test]
fn a_client_needs_no_memory_whatever_session_is_on_its_commands() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = Tpm::new(OptedOut(way(&swtpm)?));
    let key = load(&mut tpm, &tests::tpm::create_join_key(&[7; 32]))?;
    let stir = StirRandom { in_data: SensitiveData::from(&[1; 32]) };
    let hash = Hash {
        data: MaxBuffer::from(&[2; 512]),
        hash_alg: Alg::SHA256,
        hierarchy: Hierarchy::Null,
    };
    let signed = sign(key, &[3; 32]);
    let absent = read_public(Handle(0x8000_00ff));

    let count = allocations(|| {
        assert!(tpm.run(&RANDOM, []).is_ok());
        assert!(tpm.run(&signed, [Auth::password(b"")]).is_ok());
        assert!(tpm.run(&absent, []).is_err());
    });
    assert_eq!(count, 0, "without a session, by password, and refused");

    for (plan, what) in [
        (NewSession::hmac(HashAlg::Sha256), "an HMAC session"),
        (NewSession::hmac(HashAlg::Sha384).bound(key, b""), "a bound session"),
        (
            NewSession::hmac(HashAlg::Sha256).bound(key, b"").encrypting(Cipher::Aes256),
            "a bound session that encrypts",
        ),
        (
            NewSession::hmac(HashAlg::Sha256).bound(key, b"").encrypting(Cipher::Xor),
            "a bound session that obfuscates",
        ),
    ] {
        let mut session = tpm.start(&plan)?;
        let count = allocations(|| {
            assert!(tpm.run(&signed, [session.auth(b"")]).is_ok());
            assert!(tpm.run_with(&stir, [], [session.ride()]).is_ok());
            assert!(tpm.run_with(&RANDOM, [], [session.ride().audited(Audit::Extend)]).is_ok());
        });
        assert_eq!(count, 0, "under {what}");
        tpm.flush(session.handle().handle())?;
    }

    for (name, encryption) in [
        ("rsa2048", Encryption::On),
        ("rsa2048", Encryption::Off),
        ("p384", Encryption::On),
        ("p384", Encryption::Off),
    ] {
        for kind in [SessionType::HMAC, SessionType::POLICY] {
            let ek = persistent_ek(&mut tpm, name)?;
            let mut session = tpm.start_salted_session(kind, &ek.salt_key()?, encryption)?;
            // A policy session that does not encrypt cannot ride along.
            let rides = kind == SessionType::HMAC || encryption == Encryption::On;
            let count = allocations(|| {
                assert_eq!(tpm.secured(&mut session).run(&RANDOM, []).is_ok(), rides);
                assert_eq!(tpm.secured(&mut session).run(&stir, []).is_ok(), rides);
                assert_eq!(tpm.secured(&mut session).run(&hash, []).is_ok(), rides);
                assert!(tpm.secured(&mut session).run(&absent, []).is_err());
            });
            assert_eq!(count, 0, "under a session salted to {name}, {kind:?}, {encryption:?}");
            tpm.flush(session.handle().handle())?;
        }
    }
    Ok(())
}
