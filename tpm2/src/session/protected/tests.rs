//! Every answer on record, as it would come under a session, and with each of its octets changed.

use std::vec;
use std::vec::Vec;

use super::*;
use crate::commands::frame::Answer;
use crate::commands::{Command, Visitor, visit};
use crate::tests::golden::{Golden, code, golden, sessions};
use crate::types::{CommandCode, Nonce, SessionHandle};

/// A session as its start would leave it.
fn session() -> Session {
    Session {
        handle: SessionHandle::from_handle(Handle(0x0200_0000)).unwrap(),
        kind: SessionType::HMAC,
        hash: HashAlg::Sha256,
        key: SecretBuf::new(&[0x77; 32]).unwrap(),
        cipher: None,
        bind: None,
        proof: Proof::None,
        audit: None,
        nonce_caller: DigestBuf::EMPTY,
        nonce_tpm: DigestBuf::new(&[0x55; 32]).unwrap(),
    }
}

/// The answer of a TPM: what is on record, and behind it the passwords' authorizations and that of the session.
fn answer<C: Command>(recorded: &Answer<'_>, frame: &Protected<'_, '_>) -> Vec<u8> {
    const NONCE_TPM: [u8; 32] = [0x66; 32];
    let Some(Auth(Kind::Session(used))) = frame.auths.last() else { panic!("no session") };
    let session = used.session.get();
    let attributes = frame.decisions[frame.auths.len() - 1].attributes;
    let code = C::INFO.code.0.to_be_bytes();
    let rp_hash = session.hash.digest(&[&[0; 4], &code, recorded.parameters]);
    let nonces = [&NONCE_TPM, session.nonce_caller.octets()];
    let proven = [rp_hash.octets(), nonces[0], nonces[1], &[attributes.0]];
    let hmac = session.hash.hmac(&[session.key.expose()], &proven);

    let mut octets = vec![0; 4096 + 512];
    let mut writer = Writer::new(&mut octets);
    writer.write(&Structure::SESSIONS).unwrap();
    writer.write(&0_u32).unwrap();
    writer.write(&ResponseCode::SUCCESS).unwrap();
    if C::INFO.response.handle.is_some() {
        writer.write(&recorded.handle).unwrap();
    }
    writer.write(&u32::try_from(recorded.parameters.len()).unwrap()).unwrap();
    writer.put(recorded.parameters).unwrap();
    for _ in 0..C::INFO.authorizations {
        writer.put(&[0, 0, SessionAttributes::CONTINUE_SESSION.0, 0, 0]).unwrap();
    }
    writer.write(&Nonce::new(&NONCE_TPM).unwrap()).unwrap();
    writer.write(&attributes).unwrap();
    writer.write(&Nonce::new(hmac.octets()).unwrap()).unwrap();
    let len = writer.len();
    writer.patch(2, &u32::try_from(len).unwrap().to_be_bytes()).unwrap();
    writer.into_written().to_vec()
}

/// Frames a command, lets its answer pass through `change`, and says what is made of it.
fn received<C: Command>(
    command: &C,
    recorded: &Answer<'_>,
    change: impl FnOnce(&mut Vec<u8>),
) -> Result<(Handle, Vec<u8>), Fault> {
    let mut session = session();
    let mut auths: Vec<_> = (0..C::INFO.authorizations).map(|_| Auth::EMPTY).collect();
    auths.push(session.ride());
    let frame = Protected::new(command, &mut auths, &mut crate::crypto::random)?;
    let mut answer = answer::<C>(recorded, &frame);
    change(&mut answer);
    let framed = frame.unmarshal(&mut answer)?;
    Ok((framed.handle, answer[framed.parameters].to_vec()))
}

/// Changes each octet of the answer to one command; how many changes there were.
struct Forge<'g>(&'g Golden);

impl Visitor for Forge<'_> {
    type Output = usize;

    fn visit<C: Command>(self) -> usize {
        let Golden { title, command, response } = self.0;
        let recorded = Answer::split::<C>(response).unwrap();
        // Commands recorded with an additional session are also here without it.
        let rides = sessions(command) > C::INFO.authorizations;
        if recorded.code != ResponseCode::SUCCESS || !C::INFO.sessions || rides {
            return 0;
        }
        let handles = 10..10 + 4 * C::INFO.handles.len();
        let mut reader = Reader::new(&command[handles.end..]);
        if command.starts_with(&Structure::SESSIONS.0.to_be_bytes()) {
            let size: u32 = reader.read("authorizationSize").unwrap();
            reader.take(size as usize).unwrap();
        }
        let command = C::unmarshal(&mut Reader::new(&command[handles]), &mut reader).unwrap();
        let right = (recorded.handle, recorded.parameters.to_vec());
        let mut len = 0;
        let unchanged = received(&command, &recorded, |answer| len = answer.len());
        assert_eq!(unchanged.unwrap(), right, "{title}");

        let masks = [0x01, 0x80];
        for (at, mask) in (0..len).flat_map(|at| masks.map(|mask| (at, mask))) {
            match received(&command, &recorded, |answer| answer[at] ^= mask) {
                Err(Fault::Forged | Fault::Malformed(_) | Fault::Refused(_)) => {}
                Err(other) => panic!("{title}, octet {at} ^ {mask:#04x}: {other:?}"),
                // No HMAC covers the handle of an answer; that of an object is as good as the Name that goes with it.
                Ok((_, parameters)) => {
                    let of_handle = C::INFO.response.handle.is_some() && (10..14).contains(&at);
                    assert!(
                        of_handle && parameters == right.1,
                        "{title}, octet {at} ^ {mask:#04x}"
                    );
                }
            }
        }
        len * masks.len()
    }
}

#[test]
fn no_octet_of_any_answer_can_be_changed_under_a_session() {
    let mut commands = std::collections::BTreeSet::new();
    let exchanges = golden();
    for exchange in &exchanges {
        let code = code(&exchange.command);
        if visit(CommandCode(code), Forge(exchange)).expect("a known command") > 0 {
            commands.insert(code);
        }
    }
    assert!(exchanges.is_empty() || commands.len() >= 105, "{} commands", commands.len());
}
