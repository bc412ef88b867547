//! One answer of a TPM, or of an attacker on the bus, to each command.

use std::cell::RefCell;
use std::fmt::Debug;
use std::io;
use std::rc::Rc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use tpm2::Tpm;
use tpm2::commands::frame::Answer;
use tpm2::commands::{
    ActivateCredential, Authorized, Command, CreatePrimary, FlushContext, GetCapability, GetRandom,
    LoadExternal, NvRead, NvReadPublic, PcrRead, PolicyGetDigest, PolicyOr, PolicySecret,
    ReadPublic, Response, SelfTest, Shutdown, Sign, Start, StartAuthSession, Visitor, visit,
};
use tpm2::crypto::HashAlg;
use tpm2::session::{Auth, Encryption, SaltKey};
use tpm2::transport::Transport;
use tpm2::types::{
    Alg, AsymScheme, Capability, CommandCode, Data, Digest, EncryptedSecret, Handle, Hierarchy,
    IdObject, NameBuf, Nonce, NvAuth, NvIndex, Object, Public, SensitiveCreate, SessionHandle,
    SessionType, Startup, SymDef, Ticket,
};
use tpm2::wire::{List, Tpm2b, Unmarshal, Writer};
use verifier::JoinKey;

use crate::{Verdict, assert_harmless, fixtures};

/// Two octets choose the command by its code, the third how it is authorized, the rest is the answer.
pub(crate) fn run(data: &[u8]) -> Verdict {
    let [high, low, how, answer @ ..] = data else { return Verdict::Refused };
    let how = match how % 4 {
        0 => How::Password,
        1 => How::Policy,
        2 => How::Hmac,
        _ => How::Salted,
    };
    let code = u16::from_be_bytes([*high, *low]);
    Case { how, answer }.ask_command(code).unwrap_or(Verdict::Refused)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Password,
    /// A policy session that is not salted: answers have no HMAC.
    Policy,
    /// An HMAC session without salt: anyone can make the HMAC, and here it is made right.
    Hmac,
    /// A session salted to a key that the answers' maker does not have.
    Salted,
}

/// Any other command: what is read of its answer is written again to the same octets.
struct Reread<'a>(&'a [u8]);

impl Visitor for Reread<'_> {
    type Output = Verdict;

    fn visit<C: Command>(self) -> Verdict {
        let Ok(answer) = Answer::split::<C>(self.0) else { return Verdict::Refused };
        match answer.read::<C>() {
            Ok(response) => {
                let mut octets = vec![0; answer.parameters.len()];
                let mut writer = Writer::new(&mut octets);
                response.marshal_parameters(&mut writer).expect("there is as much room");
                assert_eq!(writer.into_written(), answer.parameters);
                Verdict::Accepted
            }
            Err(error) => {
                assert_harmless(&error.to_string());
                Verdict::Refused
            }
        }
    }
}

const SESSION: [u8; 2] = [0x03, 0x02];

struct Case<'a> {
    how: How,
    answer: &'a [u8],
}

impl Case<'_> {
    /// A command of this code, if there is one.
    fn ask_command(&self, code: u16) -> Option<Verdict> {
        let name = NameBuf::new(&[0x00, 0x0b]).expect("two octets");
        let object = Object::named(Handle(0x8000_0001), name);
        let index = NvIndex::named(Handle(0x01c0_0002), name);
        let session = SessionHandle::try_from(Handle(0x0300_0001)).expect("of its range");
        let digest = Digest::from(&[7; 32]);
        let public = JoinKey::template(&[7; 32]);
        let (startup_type, shutdown_type) = (Startup::CLEAR, Startup::CLEAR);
        Some(match code {
            0x131 => self.ask(&CreatePrimary {
                primary_handle: Hierarchy::Endorsement,
                in_sensitive: Tpm2b(SensitiveCreate::EMPTY),
                in_public: Tpm2b(public),
                outside_info: Data::EMPTY,
                creation_pcr: List::new(&[]),
            }),
            0x143 => self.ask(&SelfTest { full_test: true }),
            0x144 => self.ask(&Start { startup_type }),
            0x145 => self.ask(&Shutdown { shutdown_type }),
            0x147 => self.ask(&ActivateCredential {
                activate_handle: object,
                key_handle: object,
                credential_blob: IdObject::new(&[7; 68]).expect("68 octets"),
                secret: EncryptedSecret::new(&[7; 256]).expect("256 octets"),
            }),
            0x14e => self.ask(&NvRead {
                auth_handle: NvAuth::Owner,
                nv_index: index,
                size: 8,
                offset: 0,
            }),
            0x151 => self.ask(&PolicySecret {
                auth_handle: Hierarchy::Endorsement.into(),
                policy_session: session,
                nonce_tpm: Nonce::EMPTY,
                cp_hash_a: Digest::EMPTY,
                policy_ref: Nonce::EMPTY,
                expiration: 0,
            }),
            0x15d => self.ask(&Sign {
                key_handle: object,
                digest,
                in_scheme: AsymScheme::Null,
                validation: Ticket::NO_HASHCHECK,
            }),
            0x165 => self.ask(&FlushContext { flush_handle: Handle(0x8000_0001) }),
            0x167 => self.ask(&LoadExternal {
                in_private: None,
                in_public: Tpm2b(public),
                hierarchy: Hierarchy::Null,
            }),
            0x169 => self.ask(&NvReadPublic { nv_index: index }),
            0x171 => self.ask(&PolicyOr {
                policy_session: session,
                p_hash_list: List::new(&[digest, digest]),
            }),
            0x173 => self.ask(&ReadPublic { object_handle: object }),
            0x176 => self.ask(&StartAuthSession {
                tpm_key: None,
                bind: None,
                nonce_caller: Nonce::from(&[7; 32]),
                encrypted_salt: EncryptedSecret::EMPTY,
                session_type: SessionType::POLICY,
                symmetric: SymDef::Null,
                auth_hash: Alg::SHA256,
            }),
            0x17a => self.ask(&GetCapability {
                capability: Capability::TPM_PROPERTIES,
                property: 0x100,
                property_count: 16,
            }),
            0x17b => self.ask(&GetRandom { bytes_requested: 32 }),
            0x17e => self.ask(&PcrRead { pcr_selection_in: List::new(&[]) }),
            0x189 => self.ask(&PolicyGetDigest { policy_session: session }),
            _ => return visit(CommandCode(code.into()), Reread(self.answer)),
        })
    }

    fn ask<C: Authorized<N>, const N: usize>(&self, command: &C) -> Verdict
    where
        for<'r> C::Response<'r>: Debug,
    {
        let sent = Rc::new(RefCell::new(Vec::new()));
        let bus = Bus {
            answers: match self.how {
                How::Password => vec![self.answer.to_vec()],
                How::Hmac => vec![started(SESSION[1]), self.answer.to_vec()],
                How::Policy | How::Salted => vec![started(SESSION[0]), self.answer.to_vec()],
            },
            handles: C::INFO.handles.len(),
            has_handle: C::INFO.response.handle.is_some(),
            signs: self.how == How::Hmac && N > 0,
            sent: Rc::clone(&sent),
        };
        let mut tpm = Tpm::new(bus);
        let result = self.exchange(&mut tpm, command);
        drop(tpm);

        if self.answer.len() <= 4096 {
            for loaded in self.loaded::<C, N>() {
                let flush = [&[0x80, 0x01, 0, 0, 0, 14, 0, 0, 0x01, 0x65][..], &loaded].concat();
                assert!(sent.borrow().contains(&flush), "{loaded:x?} stays in the TPM");
            }
        }
        match result {
            Ok(said) => {
                assert_ne!(self.how, How::Salted, "a forged answer was believed: {said}");
                let size = u32::try_from(self.answer.len()).expect("it fits the buffer");
                assert_eq!(
                    self.answer.get(2..10),
                    Some(&[size.to_be_bytes(), [0; 4]].concat()[..])
                );
                Verdict::Accepted
            }
            Err(error) => {
                assert_harmless(&error.to_string());
                Verdict::Refused
            }
        }
    }

    fn exchange<C: Authorized<N>, const N: usize>(
        &self,
        tpm: &mut Tpm<Bus>,
        command: &C,
    ) -> Result<String, tpm2::Error>
    where
        for<'r> C::Response<'r>: Debug,
    {
        let kind = match self.how {
            How::Password => {
                let auths = [const { Auth::EMPTY }; N];
                return tpm.run(command, auths).map(|answer| format!("{answer:?}"));
            }
            How::Salted => {
                let public = Public::from_bytes(fixtures::EK_PUBLIC).expect("a real one");
                let key = SaltKey::new(Handle(0x8101_000a), public).expect("it has a Name");
                let policy = SessionType::POLICY;
                let mut session = tpm.start_salted_session(policy, &key, Encryption::On)?;
                let answer = tpm.secured(&mut session).run(command, [const { Auth::EMPTY }; N])?;
                return Ok(format!("{answer:?}"));
            }
            How::Policy => SessionType::POLICY,
            How::Hmac => SessionType::HMAC,
        };
        let mut session = tpm.start_session(kind, HashAlg::Sha256)?;
        let mut first = Some(session.auth(&[]));
        let auths = std::array::from_fn(|_| first.take().unwrap_or(Auth::EMPTY));
        tpm.run(command, auths).map(|answer| format!("{answer:?}"))
    }

    /// Handles of what the TPM says that it has loaded, wrong as the rest of the answer may be.
    fn loaded<C: Authorized<N>, const N: usize>(&self) -> Vec<[u8; 4]> {
        let mut loaded = Vec::new();
        match self.how {
            How::Password => {}
            How::Hmac => loaded.push([SESSION[1], 0, 0, 0]),
            How::Policy | How::Salted => loaded.push([SESSION[0], 0, 0, 0]),
        }
        // A command that the session cannot protect is not sent at all.
        let sent = self.how != How::Salted || N > 0;
        if let Some([0, 0, 0, 0, kind @ (0x02 | 0x03 | 0x80), a, b, c]) = self.answer.get(6..14)
            && C::INFO.response.handle.is_some()
            && sent
        {
            loaded.push([*kind, *a, *b, *c]);
        }
        loaded
    }
}

/// An answer to `TPM2_StartAuthSession`.
fn started(kind: u8) -> Vec<u8> {
    let header = [0x80, 0x01, 0, 0, 0, 48, 0, 0, 0, 0, kind, 0, 0, 0, 0, 32];
    [&header[..], &[0x55; 32]].concat()
}

/// Gives the answers, then success to whatever is flushed.
struct Bus {
    answers: Vec<Vec<u8>>,
    handles: usize,
    has_handle: bool,
    signs: bool,
    sent: Rc<RefCell<Vec<Vec<u8>>>>,
}

impl Transport for Bus {
    type Error = io::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        const DONE: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0];
        self.sent.borrow_mut().push(command.to_vec());
        let last = self.answers.len() == 1;
        let mut answer = match self.answers.is_empty() {
            true => DONE.to_vec(),
            false => self.answers.remove(0),
        };
        if last && self.signs {
            // It need not be long enough to have an HMAC.
            let _ = self.sign(command, &mut answer);
        }
        let room = response.get_mut(..answer.len());
        room.ok_or(io::ErrorKind::InvalidData)?.copy_from_slice(&answer);
        Ok(answer.len())
    }
}

impl Bus {
    /// Puts the right HMAC of a session without key where the answer's first one is. Part 1 §19.6.6.
    fn sign(&self, command: &[u8], answer: &mut [u8]) -> Option<()> {
        let (nonce_caller, _) = sized(command, 10 + 4 * self.handles + 4 + 4)?;
        let mut at = if self.has_handle { 14 } else { 10 };
        let size = u32::from_be_bytes(*answer.get(at..)?.first_chunk()?);
        let parameters = answer.get(at + 4..)?.get(..usize::try_from(size).ok()?)?;
        at += 4 + parameters.len();
        let rp_hash = Sha256::new_with_prefix([0; 4])
            .chain_update(command.get(6..10)?)
            .chain_update(parameters)
            .finalize();
        let (nonce_tpm, at) = sized(answer, at)?;
        let attributes = *answer.get(at)?;
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&[]).expect("any length will do");
        for part in [&rp_hash[..], nonce_tpm, nonce_caller, &[attributes]] {
            mac.update(part);
        }
        let place = answer.get_mut(at + 3..at + 3 + 32)?;
        place.copy_from_slice(&mac.finalize().into_bytes());
        Some(())
    }
}

/// The content of a `TPM2B` and where it ends.
fn sized(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let length = usize::from(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    let content = bytes.get(at + 2..)?.get(..length)?;
    Some((content, at + 2 + length))
}

#[cfg(test)]
mod tests {
    use tpm2::commands::COMMANDS;

    use super::*;

    #[test]
    fn no_command_is_left_out() {
        // Two octets choose the command, which leaves the vendors' out.
        let library = COMMANDS.iter().filter_map(|it| Some((it, u16::try_from(it.code.0).ok()?)));
        for (command, code) in library {
            let case = Case { how: How::Password, answer: &[] };
            assert_eq!(case.ask_command(code), Some(Verdict::Refused), "{}", command.name);
        }
    }
}
