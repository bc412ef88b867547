//! How a command and its answer are laid out with their authorizations, and how sessions protect both. Part 1 §18.

use core::ops::Range;

use subtle::ConstantTimeEq;

use super::{Auth, Kind, Session, fresh_nonce};
use crate::commands::{Command, CommandInfo, Response};
use crate::crypto::cfb::Aes;
use crate::crypto::kdfa;
use crate::error::Fault;
use crate::types::{
    AuthValue, DigestBuf, Entity, Handle, NameBuf, Nonce, ResponseCode, SessionAttributes,
    SessionType, Structure,
};
use crate::wire::{Malformed, Reader, Why, Writer};

/// Handles that a command can have, and sessions. Part 1 §18.4 and §18.5.
const MOST: usize = 3;

/// The sessions of one command, from its marshalling to the reading of its answer.
pub(crate) struct Frame<'f, 's> {
    info: CommandInfo,
    auths: &'f mut [Auth<'s>],
    attributes: [SessionAttributes; MOST],
}

/// Where the parts of an answer lie that were checked and decrypted.
pub(crate) struct Framed {
    pub(crate) handle: Handle,
    pub(crate) parameters: Range<usize>,
}

impl<'f, 's> Frame<'f, 's> {
    /// A command with the authorizations of its handles, and after them sessions that only protect.
    pub(crate) fn new<C: Command>(auths: &'f mut [Auth<'s>]) -> Result<Self, Fault> {
        let mut frame = Self { info: C::INFO, auths, attributes: [SessionAttributes::NONE; MOST] };
        if frame.auths.len() > MOST || (!frame.auths.is_empty() && !frame.info.sessions) {
            return Err(Fault::Unprotectable);
        }
        frame.choose_attributes()?;
        Ok(frame)
    }

    /// The first session with a cipher encrypts, in each direction where the command allows it. A session that does
    /// not authorize must do something: encrypt, or else audit, which no policy session can. Part 1 §18.6 and §21.
    fn choose_attributes(&mut self) -> Result<(), Fault> {
        let mut request = self.info.first_parameter_sized;
        let mut response = self.info.response.first_parameter_sized;
        for (index, (auth, attributes)) in
            self.auths.iter_mut().zip(&mut self.attributes).enumerate()
        {
            let Kind::Session { session, secret, continues } = &mut auth.0 else { continue };
            AuthValue::new(secret)?;
            *attributes = *continues;
            if session.cipher.is_some() {
                if core::mem::take(&mut request) {
                    *attributes = attributes.with(SessionAttributes::DECRYPT);
                }
                if core::mem::take(&mut response) {
                    *attributes = attributes.with(SessionAttributes::ENCRYPT);
                }
            }
            if index >= self.info.authorizations && *attributes == *continues {
                if session.kind != SessionType::HMAC {
                    return Err(Fault::Unprotectable);
                }
                *attributes = attributes.with(SessionAttributes::AUDIT);
            }
            session.nonce_caller = fresh_nonce(session.hash)?;
        }
        Ok(())
    }

    /// Lays the command out in `buffer` and returns its length.
    pub(crate) fn marshal<C: Command>(
        &self,
        command: &C,
        buffer: &mut [u8],
    ) -> Result<usize, Fault> {
        let mut writer = Writer::new(buffer);
        let tag = if self.auths.is_empty() { Structure::NO_SESSIONS } else { Structure::SESSIONS };
        writer.write(&tag)?;
        writer.write(&u32::MAX)?;
        writer.write(&self.info.code)?;
        let names = handles(command, &mut writer)?;
        let mut hmacs = [0; MOST];
        if !self.auths.is_empty() {
            let size_at = writer.len();
            writer.write(&u32::MAX)?;
            for ((auth, attributes), hmac) in self.auths.iter().zip(self.attributes).zip(&mut hmacs)
            {
                *hmac = reserve(&auth.0, attributes, &mut writer)?;
            }
            let size = writer.len().saturating_sub(size_at).saturating_sub(4);
            writer
                .patch(size_at, &u32::try_from(size).map_err(|_| Fault::TooLarge)?.to_be_bytes())?;
        }
        let parameters_at = writer.len();
        command.marshal_parameters(&mut writer)?;
        let len = writer.len();
        writer.patch(2, &u32::try_from(len).map_err(|_| Fault::TooLarge)?.to_be_bytes())?;

        let written = writer.into_written();
        let parameters = written.get_mut(parameters_at..).ok_or(Fault::TooLarge)?;
        self.encrypt(parameters)?;
        for index in 0..self.auths.len() {
            let parameters = written.get(parameters_at..).ok_or(Fault::TooLarge)?;
            let Some(hmac) = self.request_hmac(index, &names, parameters)? else { continue };
            let hole = hmacs.get(index).and_then(|at| written.get_mut(*at..));
            let hole = hole.and_then(|tail| tail.get_mut(..hmac.octets().len()));
            hole.ok_or(Fault::TooLarge)?.copy_from_slice(hmac.octets());
        }
        Ok(len)
    }

    /// The session that encrypts in this direction, with its secret: only one that authorizes brings a secret into the
    /// key. Part 1 §21.2.
    fn encrypting(&self, direction: SessionAttributes) -> Option<(usize, &Session, &[u8])> {
        let chosen =
            self.attributes.iter().position(|attributes| attributes.contains(direction))?;
        match &self.auths.get(chosen)?.0 {
            Kind::Session { session, secret, .. } => Some((chosen, session, secret)),
            Kind::Password(_) => None,
        }
    }

    fn encrypt(&self, parameters: &mut [u8]) -> Result<(), Fault> {
        let Some((_, session, secret)) = self.encrypting(SessionAttributes::DECRYPT) else {
            return Ok(());
        };
        let nonces = [session.nonce_caller.octets(), session.nonce_tpm.octets()];
        with_cipher(session, secret, nonces, |aes, key, iv| {
            aes.encrypt(key, iv, first_parameter(parameters)?).map_err(|_| Fault::Unprotectable)
        })
    }

    fn request_hmac(
        &self,
        index: usize,
        names: &[Option<NameBuf>],
        parameters: &[u8],
    ) -> Result<Option<DigestBuf>, Fault> {
        let Some(Auth(Kind::Session { session, secret, .. })) = self.auths.get(index) else {
            return Ok(None);
        };
        if !session.has_hmac() {
            return Ok(None);
        }
        let code = self.info.code.0.to_be_bytes();
        let mut name_octets = [&[][..]; MOST];
        for (octets, name) in name_octets.iter_mut().zip(names) {
            *octets = name.as_ref().ok_or(Fault::Unnamed)?.octets();
        }
        let [name1, name2, name3] = name_octets;
        let cp_hash = session.hash.digest(&[&code, name1, name2, name3, parameters]);
        let other_nonce = |direction| match self.encrypting(direction) {
            Some((other, session, _)) if index == 0 && other != 0 => session.nonce_tpm,
            _ => DigestBuf::EMPTY,
        };
        let decrypt_nonce = other_nonce(SessionAttributes::DECRYPT);
        let mut encrypt_nonce = other_nonce(SessionAttributes::ENCRYPT);
        let same = |direction| self.encrypting(direction).map(|(index, ..)| index);
        if same(SessionAttributes::DECRYPT) == same(SessionAttributes::ENCRYPT) {
            encrypt_nonce = DigestBuf::EMPTY;
        }
        let attributes = self.attributes.get(index).copied().unwrap_or(SessionAttributes::NONE);
        Ok(Some(session.hash.hmac(
            &session.hmac_key(secret),
            &[
                cp_hash.octets(),
                session.nonce_caller.octets(),
                session.nonce_tpm.octets(),
                decrypt_nonce.octets(),
                encrypt_nonce.octets(),
                &[attributes.0],
            ],
        )))
    }

    /// Checks an answer and decrypts it in place. Nothing of it is believed before every HMAC was found right.
    pub(crate) fn unmarshal<C: Command>(self, answer: &mut [u8]) -> Result<Framed, Fault> {
        let (framed, auth_area) = self.layout::<C>(answer)?;
        let parameters =
            answer.get(framed.parameters.clone()).ok_or(Malformed::new(Why::Truncated, 0))?;
        let mut reader = Reader::new(answer.get(auth_area).unwrap_or_default());
        let code = self.info.code.0.to_be_bytes();
        for (auth, attributes) in self.auths.iter_mut().zip(self.attributes) {
            let answered = ResponseAuth::read(&mut reader)?;
            match &mut auth.0 {
                Kind::Password(_) => answered.check_password()?,
                Kind::Session { session, secret, .. } => {
                    answered.check(session, secret, attributes, &code, parameters)?;
                }
            }
        }
        reader.finish().map_err(|malformed| malformed.named("authorizations"))?;
        let parameters =
            answer.get_mut(framed.parameters.clone()).ok_or(Malformed::new(Why::Truncated, 0))?;
        let encrypting = self
            .attributes
            .iter()
            .position(|attributes| attributes.contains(SessionAttributes::ENCRYPT))
            .and_then(|index| self.auths.get(index));
        if let Some(Auth(Kind::Session { session, secret, .. })) = encrypting {
            let nonces = [session.nonce_tpm.octets(), session.nonce_caller.octets()];
            with_cipher(session, secret, nonces, |aes, key, iv| {
                let content = first_parameter(parameters)?;
                aes.decrypt(key, iv, content).map_err(|_| Fault::Unprotectable)
            })?;
        }
        Ok(framed)
    }

    /// Splits a successful answer into handle, parameters and authorizations; a refusal becomes its code.
    fn layout<C: Command>(&self, answer: &[u8]) -> Result<(Framed, Range<usize>), Fault> {
        let mut reader = Reader::new(answer);
        let tag: Structure = reader.read("tag")?;
        let size_at = reader.position();
        let size: u32 = reader.read("size")?;
        if usize::try_from(size) != Ok(answer.len()) {
            return Err(Malformed::new(Why::Unexpected, size_at).named("size").into());
        }
        let code: ResponseCode = reader.read("response code")?;
        if code != ResponseCode::SUCCESS {
            reader.finish().map_err(|malformed| malformed.named("refusal"))?;
            return Err(Fault::Refused(code));
        }
        let sent = if self.auths.is_empty() { Structure::NO_SESSIONS } else { Structure::SESSIONS };
        if tag != sent {
            return Err(Malformed::new(Why::Unexpected, 0).named("tag").into());
        }
        let handle = match <C::Response<'static> as Response>::INFO.handle {
            Some(name) => reader.read(name)?,
            None => Handle::NULL,
        };
        let parameters_len = if self.auths.is_empty() {
            reader.peek().len()
        } else {
            let len: u32 = reader.read("parameter size")?;
            usize::try_from(len).unwrap_or(usize::MAX)
        };
        let start = reader.position();
        reader.take(parameters_len).map_err(|malformed| malformed.named("parameters"))?;
        let end = reader.position();
        Ok((Framed { handle, parameters: start..end }, end..answer.len()))
    }
}

/// Writes the handle area and collects the Names for cpHash.
fn handles<C: Command>(command: &C, writer: &mut Writer<'_>) -> Result<HandleNames, Fault> {
    let mut names = HandleNames::default();
    let mut result = Ok(());
    command.entities(&mut |entity: &dyn Entity| {
        if result.is_ok() {
            result = writer.write(&entity.handle());
            names.push(entity.name());
        }
    });
    result?;
    Ok(names)
}

/// The Names of a command's handles, as far as they are known.
#[derive(Default)]
struct HandleNames {
    names: [Option<NameBuf>; MOST],
    len: usize,
}

impl HandleNames {
    fn push(&mut self, name: Option<NameBuf>) {
        if let Some(slot) = self.names.get_mut(self.len) {
            *slot = name;
            self.len = self.len.saturating_add(1);
        }
    }
}

impl core::ops::Deref for HandleNames {
    type Target = [Option<NameBuf>];

    fn deref(&self) -> &Self::Target {
        self.names.get(..self.len).unwrap_or_default()
    }
}

/// Writes one authorization with zeros where its HMAC will be, and returns where that is.
fn reserve(
    auth: &Kind<'_>,
    attributes: SessionAttributes,
    writer: &mut Writer<'_>,
) -> Result<usize, Fault> {
    match auth {
        Kind::Password(password) => {
            writer.write(&Handle::PASSWORD)?;
            writer.write(&Nonce::EMPTY)?;
            writer.write(&SessionAttributes::CONTINUE_SESSION)?;
            let at = writer.len().saturating_add(2);
            writer.write(&Nonce::new(password)?)?;
            Ok(at)
        }
        Kind::Session { session, .. } => {
            writer.write(&session.handle.handle())?;
            writer.write(&Nonce::new(session.nonce_caller.octets())?)?;
            writer.write(&attributes)?;
            let at = writer.len().saturating_add(2);
            let len = if session.has_hmac() { session.hash.digest_len() } else { 0 };
            let zeros = DigestBuf::zeroed(len).ok_or(Fault::TooLarge)?;
            writer.write(&Nonce::new(zeros.octets())?)?;
            Ok(at)
        }
    }
}

/// One authorization of an answer. Part 1 §18.8.
struct ResponseAuth<'r> {
    nonce_tpm: Nonce<'r>,
    attributes: SessionAttributes,
    hmac: Nonce<'r>,
}

impl<'r> ResponseAuth<'r> {
    fn read(reader: &mut Reader<'r>) -> Result<Self, Malformed> {
        Ok(Self {
            nonce_tpm: reader.read("nonceTPM")?,
            attributes: reader.read("sessionAttributes")?,
            hmac: reader.read("hmac")?,
        })
    }

    fn check_password(&self) -> Result<(), Fault> {
        let empty = self.nonce_tpm.octets().is_empty() && self.hmac.octets().is_empty();
        if empty && self.attributes == SessionAttributes::CONTINUE_SESSION {
            Ok(())
        } else {
            Err(Malformed::new(Why::Unexpected, 0).named("password authorization").into())
        }
    }

    /// rpHash = H(responseCode ‖ commandCode ‖ parameters); the nonces have changed places. Part 1 §19.6.6.
    fn check(
        &self,
        session: &mut Session,
        secret: &[u8],
        sent: SessionAttributes,
        code: &[u8],
        parameters: &[u8],
    ) -> Result<(), Fault> {
        if session.has_hmac() {
            let rp_hash = session.hash.digest(&[&[0; 4], code, parameters]);
            let expected = session.hash.hmac(
                &session.hmac_key(secret),
                &[
                    rp_hash.octets(),
                    self.nonce_tpm.octets(),
                    session.nonce_caller.octets(),
                    &[self.attributes.0],
                ],
            );
            if !bool::from(expected.octets().ct_eq(self.hmac.octets())) {
                return Err(Fault::Forged);
            }
        } else if !self.hmac.octets().is_empty() {
            return Err(Malformed::new(Why::Unexpected, 0).named("hmac").into());
        }
        if self.attributes.without(SessionAttributes::AUDIT_EXCLUSIVE) != sent {
            return Err(Malformed::new(Why::Unexpected, 0).named("sessionAttributes").into());
        }
        session.nonce_tpm =
            DigestBuf::new(self.nonce_tpm.octets()).ok_or(Malformed::new(Why::TooLong, 0))?;
        Ok(())
    }
}

/// Key and IV of one parameter: KDFa(hash, sessionKey ‖ authValue, "CFB", nonceNewer, nonceOlder). Part 1 §21.3.
fn with_cipher(
    session: &Session,
    secret: &[u8],
    [newer, older]: [&[u8]; 2],
    run: impl FnOnce(Aes, &[u8], &[u8]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let aes = session.cipher.ok_or(Fault::Unprotectable)?;
    let bits = aes.key_bits().saturating_add(128);
    let value = [session.key.expose(), super::without_trailing_zeros(secret)];
    let derived =
        kdfa(session.hash, &value, b"CFB", newer, older, bits).map_err(|_| Fault::TooLarge)?;
    let (key, iv) = derived.expose().split_at_checked(aes.key_len()).ok_or(Fault::Unprotectable)?;
    run(aes, key, iv)
}

/// The content of the first parameter, without its size, which is never encrypted.
fn first_parameter(parameters: &mut [u8]) -> Result<&mut [u8], Fault> {
    let (size, rest) =
        parameters.split_first_chunk_mut().ok_or(Malformed::new(Why::Truncated, 0))?;
    rest.get_mut(..usize::from(u16::from_be_bytes(*size)))
        .ok_or_else(|| Malformed::new(Why::Truncated, 2).named("encrypted parameter").into())
}
