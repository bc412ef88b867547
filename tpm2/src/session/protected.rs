//! How a command and its answer are laid out with their authorizations, and how sessions protect both. Part 1 §18.

use core::ops::Range;

use subtle::ConstantTimeEq;

use super::auth::{Kind, SessionAuth};
use super::parameter::{crypt, first_parameter};
use super::{
    Audit, AuditTrail, Auth, Direction, Proof, Random, Session, fresh_nonce, without_trailing_zeros,
};
use crate::commands::{AnyCommand, CommandInfo, Effect};
use crate::crypto::HashAlg;
use crate::error::{Fault, Protection};
use crate::types::{
    AuthCommand, AuthResponse, AuthValue, DigestBuf, Entity, Handle, NameBuf, ResponseCode,
    SecretBuf, SessionAttributes, SessionType, Structure,
};
use crate::wire::{Malformed, Reader, Unmarshal, Why, Writer};

/// Handles that a command can have at most, and as many sessions. Part 1 §18.4 and §18.5.
const MAX_SESSIONS: usize = 3;

/// A command with its sessions, from its marshalling to the reading of its answer.
pub(crate) struct Protected<'a, 's> {
    info: &'static CommandInfo,
    entities: Entities,
    auths: &'a mut [Auth<'s>],
    decisions: [Decision; MAX_SESSIONS],
    /// The new authorization value of the first entity, if the command changes it: the TPM computes the response's HMAC with it.
    renewed: Option<SecretBuf>,
}

/// What was decided about one authorization.
#[derive(Clone, Copy)]
struct Decision {
    attributes: SessionAttributes,
    /// Whether the authorization value enters the key of the HMAC.
    includes_value: bool,
    cp_hash: DigestBuf,
}

impl Decision {
    const NONE: Self = Self {
        attributes: SessionAttributes::NONE,
        includes_value: false,
        cp_hash: DigestBuf::EMPTY,
    };
}

/// Where the handle and the parameters of a response are.
pub(crate) struct Layout {
    pub(crate) handle: Handle,
    pub(crate) parameters: Range<usize>,
}

impl<'a, 's> Protected<'a, 's> {
    /// A command with the authorizations of its handles, and after them sessions that only protect.
    pub(crate) fn new(
        command: &dyn AnyCommand,
        auths: &'a mut [Auth<'s>],
        random: &mut Random<'_>,
    ) -> Result<Self, Fault> {
        let entities = Entities::of(command);
        let mut frame = Self {
            info: command.info(),
            entities,
            auths,
            decisions: [Decision::NONE; MAX_SESSIONS],
            renewed: None,
        };
        if frame.auths.len() > MAX_SESSIONS || (!frame.auths.is_empty() && !frame.info.sessions) {
            return Err(Fault::Unprotectable(Protection::NoRoom));
        }
        frame.decide(random)?;
        Ok(frame)
    }

    /// In each direction where the command allows it, the first session that has a cipher and may encrypt does so. A
    /// session that does not authorize must encrypt or audit. Part 1 §18.6 and §21.
    fn decide(&mut self, random: &mut Random<'_>) -> Result<(), Fault> {
        let mut request = self.info.first_parameter_sized;
        let mut response = self.info.response.first_parameter_sized;
        let mut audited = false;
        for (index, (auth, decision)) in self.auths.iter_mut().zip(&mut self.decisions).enumerate()
        {
            let authorizes = index < self.info.authorizations;
            let Kind::Session(used) = &mut auth.0 else {
                if authorizes {
                    continue;
                } else {
                    return Err(Fault::Unprotectable(Protection::Password));
                }
            };
            AuthValue::new(used.secret)?;
            let base = used.session.continues();
            decision.attributes = base;
            if used.may(Direction::Command) && core::mem::take(&mut request) {
                decision.attributes = decision.attributes.with(SessionAttributes::DECRYPT);
            }
            if used.may(Direction::Answer) && core::mem::take(&mut response) {
                decision.attributes = decision.attributes.with(SessionAttributes::ENCRYPT);
            }
            let idle = !authorizes && decision.attributes == base;
            let audit = match used.audit {
                None if idle && used.session.get().kind == SessionType::HMAC => Some(Audit::Extend),
                None | Some(Audit::Never) if idle => {
                    return Err(Fault::Unprotectable(Protection::Idle));
                }
                Some(Audit::Never) | None => None,
                audit => audit,
            };
            if let Some(audit) = audit {
                decision.attributes = decision.attributes.with(audit.attributes());
                if used.session.get().kind != SessionType::HMAC {
                    return Err(Fault::Unprotectable(Protection::NotHmac));
                }
                if core::mem::replace(&mut audited, true) {
                    return Err(Fault::Unprotectable(Protection::SecondAudit));
                }
            }
            if !authorizes {
                used.secret = &[];
            }
            let session = used.session.get_mut();
            if session.kind == SessionType::TRIAL {
                return Err(Fault::Unprotectable(Protection::Trial));
            }
            let password_rides = !authorizes && session.proof == Proof::Password;
            if session.loses_hmac() || password_rides {
                return Err(Fault::Unprotectable(Protection::PasswordInClear));
            }
            let name = self.entities.name(index);
            decision.includes_value = authorizes && session.includes(name, used.secret);
            session.nonce_caller = fresh_nonce(session.hash, random)?;
        }
        Ok(())
    }

    /// Lays the command out in `buffer` and returns its length.
    pub(crate) fn marshal(
        &mut self,
        command: &dyn AnyCommand,
        buffer: &mut [u8],
    ) -> Result<usize, Fault> {
        let mut writer = Writer::new(buffer);
        let tag = if self.auths.is_empty() { Structure::NO_SESSIONS } else { Structure::SESSIONS };
        writer.write(&tag)?;
        writer.write(&u32::MAX)?;
        writer.write(&self.info.code)?;
        for handle in self.entities.handles() {
            writer.write(handle)?;
        }
        let mut hmacs = [0; MAX_SESSIONS];
        if !self.auths.is_empty() {
            let size_at = writer.len();
            writer.write(&u32::MAX)?;
            for ((auth, decision), hmac) in self.auths.iter().zip(&self.decisions).zip(&mut hmacs) {
                *hmac = write_authorization(&auth.0, decision.attributes, &mut writer)?;
            }
            let size = writer.len().saturating_sub(size_at).saturating_sub(4);
            writer
                .patch(size_at, &u32::try_from(size).map_err(|_| Fault::TooLarge)?.to_be_bytes())?;
        }
        let parameters_at = writer.len();
        command.write_parameters(&mut writer)?;
        let len = writer.len();
        writer.patch(2, &u32::try_from(len).map_err(|_| Fault::TooLarge)?.to_be_bytes())?;

        let written = writer.into_written();
        let parameters = written.get_mut(parameters_at..).ok_or(Fault::TooLarge)?;
        self.renewed = self.renewed_value(parameters);
        self.encrypt(parameters)?;
        for (index, at) in (0..self.auths.len()).zip(hmacs) {
            let parameters = written.get(parameters_at..).ok_or(Fault::TooLarge)?;
            let Some(hmac) = self.request_hmac(index, parameters)? else { continue };
            let hole = written.get_mut(at..).and_then(|tail| tail.get_mut(..hmac.octets().len()));
            hole.ok_or(Fault::TooLarge)?.copy_from_slice(hmac.octets());
        }
        Ok(len)
    }

    /// For commands that change the authorization value of their first entity: the new value, with which the TPM computes
    /// the HMAC of the response.
    fn renewed_value(&self, parameters: &mut [u8]) -> Option<SecretBuf> {
        match self.info.effect {
            Effect::SetsAuth => SecretBuf::new(first_parameter(parameters).ok()?),
            Effect::ClearsAuth if self.entities.handles().first() != Some(&Handle::PLATFORM) => {
                SecretBuf::new(&[])
            }
            _ => None,
        }
    }

    /// The session that encrypts in this direction.
    fn encrypting(&self, direction: SessionAttributes) -> Option<(usize, &SessionAuth<'s>)> {
        let chosen =
            self.decisions.iter().position(|decision| decision.attributes.contains(direction))?;
        match &self.auths.get(chosen)?.0 {
            Kind::Session(used) => Some((chosen, used)),
            Kind::Password(_) => None,
        }
    }

    fn encrypt(&self, parameters: &mut [u8]) -> Result<(), Fault> {
        let Some((_, used)) = self.encrypting(SessionAttributes::DECRYPT) else { return Ok(()) };
        let session = used.session.get();
        let nonces = [session.nonce_caller.octets(), session.nonce_tpm.octets()];
        crypt(session, used.secret, nonces, first_parameter(parameters)?, Direction::Command)
    }

    fn request_hmac(
        &mut self,
        index: usize,
        parameters: &[u8],
    ) -> Result<Option<DigestBuf>, Fault> {
        let Some(Auth(Kind::Session(used))) = self.auths.get(index) else { return Ok(None) };
        let session = used.session.get();
        if !session.has_hmac() {
            return Ok(None);
        }
        let cp_hash = self.cp_hash(session.hash, parameters)?;
        let [decrypts, encrypts] =
            [SessionAttributes::DECRYPT, SessionAttributes::ENCRYPT].map(|direction| {
                let first = index == 0 && self.info.authorizations > 0;
                self.encrypting(direction).filter(|(other, _)| first && *other != 0)
            });
        let encrypts =
            encrypts.filter(|(other, _)| decrypts.is_none_or(|(same, _)| same != *other));
        let nonce = |other: Option<(usize, &SessionAuth<'_>)>| {
            other.map_or(DigestBuf::EMPTY, |(_, used)| used.session.get().nonce_tpm)
        };
        let decision = self.decisions.get(index).copied().unwrap_or(Decision::NONE);
        let hmac = session.hash.hmac(
            &hmac_key(session, decision, used.secret),
            &[
                cp_hash.octets(),
                session.nonce_caller.octets(),
                session.nonce_tpm.octets(),
                nonce(decrypts).octets(),
                nonce(encrypts).octets(),
                &[decision.attributes.0],
            ],
        );
        if let Some(decision) = self.decisions.get_mut(index) {
            decision.cp_hash = cp_hash;
        }
        Ok(Some(hmac))
    }

    /// cpHash = H(commandCode ‖ Names ‖ parameters as they are sent). Part 1 §16.7.
    fn cp_hash(&self, hash: HashAlg, parameters: &[u8]) -> Result<DigestBuf, Fault> {
        let code = self.info.code.0.to_be_bytes();
        let mut names = [&[][..]; MAX_SESSIONS];
        for (octets, name) in names.iter_mut().zip(self.entities.names()) {
            *octets = name.as_ref().ok_or(Fault::Unnamed)?.octets();
        }
        let [first, second, third] = names;
        Ok(hash.digest(&[&code, first, second, third, parameters]))
    }

    /// Verifies a response and decrypts it in place. Parameters are used only after every HMAC was verified; error codes
    /// are not authenticated.
    pub(crate) fn unmarshal(self, answer: &mut [u8]) -> Result<Layout, Fault> {
        let (framed, auth_area) = self.layout(answer)?;
        let truncated = Malformed::new(Why::Truncated, 0);
        let parameters = answer.get(framed.parameters.clone()).ok_or(truncated)?;
        let mut reader = Reader::new(answer.get(auth_area).unwrap_or_default());
        let code = self.info.code.0.to_be_bytes();
        let mut renewed = self.renewed.as_ref();
        for (auth, decision) in self.auths.iter_mut().zip(self.decisions) {
            let answered = AuthResponse::unmarshal(&mut reader)?;
            match &mut auth.0 {
                Kind::Password(_) => check_password(&answered)?,
                Kind::Session(used) => {
                    let secret = renewed.map_or(used.secret, SecretBuf::expose);
                    let session = used.session.get_mut();
                    check(&answered, session, secret, decision, &code, parameters)?;
                }
            }
            renewed = None;
        }
        reader.finish().map_err(|malformed| malformed.named("authorizations"))?;
        let parameters = answer.get_mut(framed.parameters.clone()).ok_or(truncated)?;
        if let Some((_, used)) = self.encrypting(SessionAttributes::ENCRYPT) {
            let session = used.session.get();
            let nonces = [session.nonce_tpm.octets(), session.nonce_caller.octets()];
            crypt(session, used.secret, nonces, first_parameter(parameters)?, Direction::Answer)?;
        }
        Ok(framed)
    }

    /// Splits a successful answer into handle, parameters and authorizations; a refusal becomes its code.
    fn layout(&self, answer: &[u8]) -> Result<(Layout, Range<usize>), Fault> {
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
        let handle = match self.info.response.handle {
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
        Ok((Layout { handle, parameters: start..end }, end..answer.len()))
    }
}

/// The handle area, and the Names for cpHash as far as they are known.
struct Entities {
    handles: [Handle; MAX_SESSIONS],
    names: [Option<NameBuf>; MAX_SESSIONS],
    len: usize,
}

impl Entities {
    fn of(command: &dyn AnyCommand) -> Self {
        let mut entities =
            Self { handles: [Handle::NULL; MAX_SESSIONS], names: [None; MAX_SESSIONS], len: 0 };
        command.each_entity(&mut |entity: &dyn Entity| {
            let at = entities.len;
            if let (Some(handle), Some(name)) =
                (entities.handles.get_mut(at), entities.names.get_mut(at))
            {
                (*handle, *name) = (entity.handle(), entity.name());
                entities.len = at.saturating_add(1);
            }
        });
        entities
    }

    fn handles(&self) -> &[Handle] {
        self.handles.get(..self.len).unwrap_or_default()
    }

    fn names(&self) -> &[Option<NameBuf>] {
        self.names.get(..self.len).unwrap_or_default()
    }

    fn name(&self, index: usize) -> Option<&NameBuf> {
        self.names().get(index).and_then(Option::as_ref)
    }
}

impl SessionAuth<'_> {
    /// Whether the session may encrypt this way.
    fn may(&self, way: Direction) -> bool {
        let chosen = self.direction == way || self.direction == Direction::Both;
        chosen && self.session.get().cipher.is_some()
    }
}

/// Writes one authorization with zeros where its HMAC will be, and returns where that is.
fn write_authorization(
    auth: &Kind<'_>,
    session_attributes: SessionAttributes,
    writer: &mut Writer<'_>,
) -> Result<usize, Fault> {
    let zeros;
    let authorization = match auth {
        Kind::Password(password) => AuthCommand::password(AuthValue::new(password)?),
        Kind::Session(used) => {
            let session = used.session.get();
            let hmac = if session.proof == Proof::Password {
                AuthValue::new(used.secret)?
            } else {
                let len = if session.has_hmac() { session.hash.digest_len() } else { 0 };
                zeros = DigestBuf::zeroed(len).ok_or(Fault::TooLarge)?;
                AuthValue::from(&zeros)
            };
            let (session_handle, nonce) = (session.handle.handle(), (&session.nonce_caller).into());
            AuthCommand { session_handle, nonce, session_attributes, hmac }
        }
    };
    writer.write(&authorization)?;
    Ok(writer.len().saturating_sub(authorization.hmac.octets().len()))
}

/// The answer to a password proves nothing. Part 1 §18.8.
fn check_password(answered: &AuthResponse<'_>) -> Result<(), Fault> {
    if *answered == AuthResponse::PASSWORD {
        return Ok(());
    }
    Err(Malformed::new(Why::Unexpected, 0).named("password authorization").into())
}

/// rpHash = H(responseCode ‖ commandCode ‖ parameters); the nonces have changed places. Part 1 §19.6.6.
fn check(
    answered: &AuthResponse<'_>,
    session: &mut Session,
    secret: &[u8],
    decision: Decision,
    code: &[u8],
    parameters: &[u8],
) -> Result<(), Fault> {
    let AuthResponse { nonce, session_attributes: attributes, hmac } = answered;
    let rp_hash = session.hash.digest(&[&[0; 4], code, parameters]);
    if session.has_hmac() {
        let expected = session.hash.hmac(
            &hmac_key(session, decision, secret),
            &[rp_hash.octets(), nonce.octets(), session.nonce_caller.octets(), &[attributes.0]],
        );
        if !bool::from(expected.octets().ct_eq(hmac.octets())) {
            return Err(Fault::Forged);
        }
    } else if !hmac.octets().is_empty() {
        return Err(Malformed::new(Why::Unexpected, 0).named("AuthResponse.hmac").into());
    }
    // The TPM reports whether the audit is exclusive; it need not repeat that the audit restarted. Part 2 §8.4.
    let exclusive = SessionAttributes::AUDIT_EXCLUSIVE;
    let free = exclusive.with(SessionAttributes::AUDIT_RESET);
    if attributes.without(free) != decision.attributes.without(free) {
        let malformed = Malformed::new(Why::Unexpected, 0);
        return Err(malformed.named("AuthResponse.session_attributes").into());
    }
    session.nonce_tpm = (*nonce).into();
    if decision.attributes.contains(SessionAttributes::AUDIT) {
        let began = decision.attributes.contains(SessionAttributes::AUDIT_RESET);
        let before = session.audit.filter(|_| !began);
        let before = before.map_or(session.hash.zeros(), |trail| trail.digest);
        let parts = [before.octets(), decision.cp_hash.octets(), rp_hash.octets()];
        let exclusive = attributes.contains(exclusive);
        session.audit = Some(AuditTrail { digest: session.hash.digest(&parts), exclusive });
        // A session that is used for audit is no longer bound to its entity.
        session.bind = None;
    }
    Ok(())
}

/// The key of an HMAC: sessionKey ‖ authValue. Part 1 §19.6.5.
fn hmac_key<'k>(session: &'k Session, decision: Decision, secret: &'k [u8]) -> [&'k [u8]; 2] {
    let value = if decision.includes_value { without_trailing_zeros(secret) } else { &[] };
    [session.key.expose(), value]
}

#[cfg(test)]
mod tests;
