//! A test double of a TPM: it has a TPM's sessions and nothing else, and gives prepared answers. A test that knows what a
//! true TPM said hears it again, under a session of any kind, as often as he likes, with a byte changed.

use std::io;

use aes::{Aes128, Aes192, Aes256};
use anyhow::{Context, Result, ensure};
use cfb_mode::Encryptor;
use cfb_mode::cipher::KeyIvInit;
use tpm2::commands::{
    Authorized, Command, CommandInfo, Effect, FlushContext, Response, StartAuthSession, by_code,
};
use tpm2::crypto::{HashAlg, kdfa};
use tpm2::session::{Audit, Auth, Cipher, NewSession};
use tpm2::transport::Transport;
use tpm2::types::{CommandCode, Handle, NameBuf, Nonce, Object, SessionAttributes, SymDef};
use tpm2::wire::{Malformed, Reader, Writer};
use tpm2::{Error, Fault, Tpm};

use crate::bus::command_code;

const HASH: HashAlg = HashAlg::Sha256;
/// The value of what the session is bound to, and of whatever it authorizes.
const VALUE: &[u8] = b"an authorization value";
const SESSION: Handle = Handle(0x0200_0000);

/// What the session does on the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It rides along and encrypts.
    Encrypts(Cipher),
    /// It rides along and audits.
    Audits,
    /// It rides along, and its audit restarts.
    AuditsAnew,
    /// It authorizes the first handle.
    Authorizes,
    /// It authorizes the first handle and encrypts.
    AuthorizesAndEncrypts,
}

/// All parts that a session can have.
pub const PARTS: [Part; 8] = [
    Part::Encrypts(Cipher::Aes128),
    Part::Encrypts(Cipher::Aes192),
    Part::Encrypts(Cipher::Aes256),
    Part::Encrypts(Cipher::Xor),
    Part::Audits,
    Part::AuditsAnew,
    Part::Authorizes,
    Part::AuthorizesAndEncrypts,
];

impl Part {
    fn plan(self) -> NewSession<'static> {
        let key = Object::named(Handle(0x8000_0001), NameBuf::new(&[7; 34]).expect("34 bytes"));
        let plan = NewSession::hmac(HASH).bound(key, VALUE);
        match self {
            Self::Encrypts(cipher) => plan.encrypting(cipher),
            Self::AuthorizesAndEncrypts => plan.encrypting(Cipher::Aes128),
            Self::Audits | Self::AuditsAnew | Self::Authorizes => plan,
        }
    }

    fn authorizes(self) -> bool {
        matches!(self, Self::Authorizes | Self::AuthorizesAndEncrypts)
    }

    /// Whether it has anything to do for this command. The answers of some commands are proven with a new value, which
    /// the double does not know.
    fn is_possible(self, info: &CommandInfo) -> bool {
        let renews = matches!(info.effect, Effect::SetsAuth | Effect::ClearsAuth);
        match self {
            Self::Audits | Self::AuditsAnew => info.sessions,
            Self::Encrypts(_) => {
                info.sessions && (info.first_parameter_sized || info.response.first_parameter_sized)
            }
            Self::Authorizes | Self::AuthorizesAndEncrypts => info.authorizations > 0 && !renews,
        }
    }
}

/// What became of the bytes of an answer that were changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// The HMAC was wrong.
    pub forged: usize,
    /// It was no answer to the command.
    pub malformed: usize,
    /// It looked like a refusal.
    pub refused: usize,
    /// Bytes of a handle that was believed: no HMAC covers it. Part 1 §18.8.
    pub handle: usize,
}

/// Runs `command` once for each byte of its answer, which is changed on the way, under a session that has this part.
/// `None` if it can have no part in it.
///
/// # Errors
/// A byte was changed and the answer believed; or the answer was not believed as it is.
pub fn forge<C: Authorized<N>, const N: usize>(
    command: &C,
    answer: &Spoken,
    part: Part,
) -> Result<Option<Tally>> {
    if !part.is_possible(&C::INFO) {
        return Ok(None);
    }
    let truth = run(command, answer, part, None)?;
    let heard = truth.result.with_context(|| format!("{} {part:?}", C::INFO.name))?;
    ensure!(heard == answer.parameters, "{} {part:?}: other parameters", C::INFO.name);
    let mut tally = Tally::default();
    for at in 0..truth.len {
        let mask = [0x01, 0x80, 0xff, 0x40][at % 4];
        let outcome = run(command, answer, part, Some((at, mask)))?;
        let handle = answer.handle.is_some() && (10..14).contains(&at);
        let count = match outcome.result.as_ref().map_err(Error::fault) {
            Err(Fault::Forged) => &mut tally.forged,
            Err(Fault::Malformed(_)) => &mut tally.malformed,
            Err(Fault::Refused(_)) => &mut tally.refused,
            Ok(heard) if handle && *heard == answer.parameters => &mut tally.handle,
            other => {
                let (name, len) = (C::INFO.name, truth.len);
                anyhow::bail!("{name} {part:?}, byte {at} of {len} ^ {mask:#04x}: {other:?}");
            }
        };
        *count += 1;
    }
    Ok(Some(tally))
}

/// What a TPM answered to a command.
#[derive(Clone, Debug)]
pub struct Spoken {
    /// The handle, of those that have one.
    pub handle: Option<Handle>,
    /// The parameters in the clear.
    pub parameters: Vec<u8>,
}

/// The parameters of an answer, as a TPM writes them.
pub fn parameters(answer: &impl Response) -> Vec<u8> {
    let mut bytes = [0; 4096];
    let mut writer = Writer::new(&mut bytes);
    answer.marshal_parameters(&mut writer).expect("it came in a buffer of this size");
    writer.into_written().to_vec()
}

struct Outcome {
    result: Result<Vec<u8>, Error>,
    /// Of the answer.
    len: usize,
}

fn run<C: Authorized<N>, const N: usize>(
    command: &C,
    answer: &Spoken,
    part: Part,
    change: Option<(usize, u8)>,
) -> Result<Outcome> {
    let mut len = 0;
    let double = Double {
        code: C::INFO.code,
        answer,
        value: if part.authorizes() { VALUE } else { &[] },
        session: None,
        change,
        len: &mut len,
    };
    let mut tpm = Tpm::new(double);
    let mut session = tpm.start(&part.plan())?;
    let result = if part.authorizes() {
        let mut first = Some(session.auth(VALUE));
        let auths = std::array::from_fn(|_| first.take().unwrap_or(Auth::EMPTY));
        tpm.run(command, auths).map(|answer| parameters(&answer))
    } else {
        let rider = match part {
            Part::Audits => session.ride().audited(Audit::Extend),
            Part::AuditsAnew => session.ride().audited(Audit::Reset),
            _ => session.ride(),
        };
        tpm.run_with(command, [const { Auth::EMPTY }; N], [rider]).map(|answer| parameters(&answer))
    };
    drop(tpm);
    Ok(Outcome { result, len })
}

struct Double<'d> {
    code: CommandCode,
    answer: &'d Spoken,
    /// What the session authorizes has this value.
    value: &'d [u8],
    session: Option<Keys>,
    /// A byte of the answer, and what of it.
    change: Option<(usize, u8)>,
    len: &'d mut usize,
}

struct Keys {
    key: Vec<u8>,
    cipher: SymDef,
}

impl Transport for Double<'_> {
    type Error = io::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        let answer = match command_code(command) {
            code if self.session.is_none() && code == StartAuthSession::INFO.code => {
                self.start(command)
            }
            code if code == self.code => self.speak(command),
            code if code == FlushContext::INFO.code => Ok(message(&[], false)),
            code => panic!("unexpected command {code}"),
        }
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        response[..answer.len()].copy_from_slice(&answer);
        Ok(answer.len())
    }
}

impl Double<'_> {
    fn start(&mut self, command: &[u8]) -> Result<Vec<u8>, Malformed> {
        let (handles, parameters) = command[10..].split_at(8);
        let start = Reader::all(handles, |handles| {
            Reader::all(parameters, |parameters| StartAuthSession::unmarshal(handles, parameters))
        })?;
        let nonce_tpm = [0x11; 32];
        let nonce_caller = start.nonce_caller.octets();
        let key = kdfa(HASH, &[VALUE], b"ATH", &nonce_tpm, nonce_caller, 256).expect("256 bits");
        self.session = Some(Keys { key: key.expose().to_vec(), cipher: start.symmetric });
        let body = [&SESSION.0.to_be_bytes()[..], &[0, 32], &nonce_tpm].concat();
        Ok(message(&body, false))
    }

    /// The answer, with a new nonce for each session, and one byte of it changed.
    fn speak(&mut self, command: &[u8]) -> Result<Vec<u8>, Malformed> {
        let info = by_code(self.code).expect("it is in the table");
        let mut reader = Reader::new(&command[10 + 4 * info.handles.len()..]);
        let size: u32 = reader.read("authorization size")?;
        let mut reader = reader.sub(size as usize)?;
        let mut parameters = self.answer.parameters.clone();
        let keys = self.session.as_ref().expect("it was started");
        let mut proofs = Vec::new();
        for nonce_tpm in [[0x22; 32], [0x33; 32], [0x44; 32]] {
            if reader.peek().is_empty() {
                break;
            }
            let handle: Handle = reader.read("session")?;
            let nonce_caller: Nonce<'_> = reader.read("nonceCaller")?;
            let attributes: SessionAttributes = reader.read("sessionAttributes")?;
            reader.read::<Nonce<'_>>("hmac")?;
            // In an answer it is always clear, Part 2 §8.4, though libtpms repeats it.
            let attributes = attributes.without(SessionAttributes::AUDIT_RESET);
            if handle != SESSION {
                proofs.push((None, attributes));
                continue;
            }
            if attributes.contains(SessionAttributes::ENCRYPT) {
                keys.encrypt(self.value, nonce_tpm, nonce_caller.octets(), &mut parameters);
            }
            proofs.push((Some((nonce_tpm, nonce_caller.octets())), attributes));
        }
        let rp_hash = HASH.digest(&[&[0; 4], &self.code.0.to_be_bytes(), &parameters]);
        let mut body = Vec::new();
        body.extend(self.answer.handle.iter().flat_map(|handle| handle.0.to_be_bytes()));
        body.extend(u32::try_from(parameters.len()).expect("short").to_be_bytes());
        body.extend(parameters);
        for (nonces, attributes) in proofs {
            let Some((nonce_tpm, nonce_caller)) = nonces else {
                body.extend([0, 0, attributes.0, 0, 0]);
                continue;
            };
            let said = [rp_hash.octets(), &nonce_tpm, nonce_caller, &[attributes.0]];
            let hmac = HASH.hmac(&[&keys.key, self.value], &said);
            body.extend([&[0, 32], &nonce_tpm[..], &[attributes.0, 0, 32], hmac.octets()].concat());
        }
        let mut answer = message(&body, true);
        *self.len = answer.len();
        if let Some((at, mask)) = self.change {
            answer[at] ^= mask;
        }
        Ok(answer)
    }
}

impl Keys {
    /// The first parameter, as Part 1 §21 has it.
    fn encrypt(&self, value: &[u8], newer: [u8; 32], older: &[u8], parameters: &mut [u8]) {
        let size = usize::from(u16::from_be_bytes([parameters[0], parameters[1]]));
        let content = &mut parameters[2..2 + size];
        let derive = |label, bits| {
            kdfa(HASH, &[&self.key, value], label, &newer, older, bits).expect("not much")
        };
        match self.cipher {
            SymDef::Aes(cipher) => {
                let derived = derive(b"CFB", cipher.key_bits + 128);
                let (key, iv) = derived.expose().split_at(usize::from(cipher.key_bits / 8));
                match key.len() {
                    16 => Encryptor::<Aes128>::new_from_slices(key, iv).map(|c| c.encrypt(content)),
                    24 => Encryptor::<Aes192>::new_from_slices(key, iv).map(|c| c.encrypt(content)),
                    _ => Encryptor::<Aes256>::new_from_slices(key, iv).map(|c| c.encrypt(content)),
                }
                .expect("a key and an IV");
            }
            _ => self.obfuscate(value, newer, older, content),
        }
    }

    /// Part 1 §11.4.7.3: the length of all is in each block of KDFa.
    fn obfuscate(&self, value: &[u8], newer: [u8; 32], older: &[u8], content: &mut [u8]) {
        let bits = u32::try_from(8 * content.len()).expect("short").to_be_bytes();
        for (counter, chunk) in (1_u32..).zip(content.chunks_mut(32)) {
            let block = [&counter.to_be_bytes()[..], b"XOR\0", &newer, older, &bits];
            let mask = HASH.hmac(&[&self.key, value], &block);
            chunk.iter_mut().zip(mask.octets()).for_each(|(byte, mask)| *byte ^= mask);
        }
    }
}

/// A success.
fn message(body: &[u8], sessions: bool) -> Vec<u8> {
    let size = u32::try_from(10 + body.len()).expect("short").to_be_bytes();
    [&[0x80, 0x01 + u8::from(sessions)][..], &size, &[0; 4], body].concat()
}
