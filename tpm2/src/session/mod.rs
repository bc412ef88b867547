//! Sessions: who authorizes a command, and what protects it on its way. Part 1 §19 and §21.
//!
//! A [`Session`] is visible at every call that uses it: `tpm.run(&command, [session.auth(secret)])`. One that is
//! [`Salted`] to a key of the TPM also proves every answer, and encrypts what it can; it can ride along on commands that
//! it does not authorize, through [`Tpm::secured`](crate::Tpm::secured).

mod frame;

use std::fmt;

pub(crate) use frame::Frame;

use crate::commands::{StartAuthSession, StartAuthSessionResponse};
use crate::crypto::cfb::Aes;
use crate::crypto::{
    HashAlg, Label, NameError, NoRandomness, kdfa, object_name, random, share_secret,
};
use crate::error::Fault;
use crate::types::{
    Alg, BlockCipher, DigestBuf, EncryptedSecret, Entity, Handle, Id, Nonce, Object, Public,
    SecretBuf, SessionAttributes, SessionHandle, SessionType, SymDef, SymDefObject,
};

/// A session in the TPM and what this side knows of it.
pub struct Session {
    handle: SessionHandle,
    kind: SessionType,
    hash: HashAlg,
    key: SecretBuf,
    cipher: Option<Aes>,
    nonce_caller: DigestBuf,
    nonce_tpm: DigestBuf,
}

impl Session {
    /// The session as an entity, for policy commands.
    #[must_use]
    pub const fn handle(&self) -> SessionHandle {
        self.handle
    }

    /// Authorizes by this session; `secret` is the authorization value of the entity, which an HMAC session proves.
    pub const fn auth<'s>(&'s mut self, secret: &'s [u8]) -> Auth<'s> {
        Auth(Kind::Session {
            session: self,
            secret,
            continues: SessionAttributes::CONTINUE_SESSION,
        })
    }

    /// As [`Self::auth`], for the last time: the TPM forgets the session if the command succeeds.
    pub const fn last_auth<'s>(&'s mut self, secret: &'s [u8]) -> Auth<'s> {
        Auth(Kind::Session { session: self, secret, continues: SessionAttributes::NONE })
    }

    /// The key of the HMAC. A policy session takes part in no authorization value. Part 1 §19.6.5.
    fn hmac_key<'k>(&'k self, secret: &'k [u8]) -> [&'k [u8]; 2] {
        let secret =
            if self.kind == SessionType::HMAC { without_trailing_zeros(secret) } else { &[] };
        [self.key.expose(), secret]
    }

    /// Whether there is an HMAC at all: an unsalted policy session has none. Part 1 §19.6.5.
    fn has_hmac(&self) -> bool {
        self.kind == SessionType::HMAC || !self.key.expose().is_empty()
    }
}

/// Authorization values are compared without trailing zeros. Part 1 §17.6.4.3.
fn without_trailing_zeros(secret: &[u8]) -> &[u8] {
    let end = secret.iter().rposition(|octet| *octet != 0).map_or(0, |last| last.saturating_add(1));
    secret.get(..end).unwrap_or_default()
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session({:?}, {:?})", self.handle, self.kind)
    }
}

/// A session whose key only the TPM with a given key can know.
#[derive(Debug)]
pub struct Salted(Session);

impl Salted {
    /// The session, to authorize with.
    pub const fn session(&mut self) -> &mut Session {
        &mut self.0
    }

    /// The session as an entity, for policy commands.
    #[must_use]
    pub const fn handle(&self) -> SessionHandle {
        self.0.handle
    }
}

/// A key in the TPM that a session can be salted to, and its public area from a source that deserves trust: the
/// certificate of an endorsement key, not the TPM's own word. If it is not the key at the handle, the session's first
/// answer is [`Fault::Forged`].
#[derive(Clone, Copy, Debug)]
pub struct SaltKey<'k> {
    object: Object,
    public: Public<'k>,
}

impl<'k> SaltKey<'k> {
    /// The key at `handle`, whose Name is computed from `public`.
    ///
    /// # Errors
    /// `public` can have no Name.
    pub fn new(handle: Handle, public: Public<'k>) -> Result<Self, NameError> {
        Ok(Self { object: Object::named(handle, object_name(&public)?), public })
    }

    /// The key as an entity.
    #[must_use]
    pub const fn object(&self) -> Object {
        self.object
    }
}

/// Whether a salted session encrypts parameters, where commands allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// With the cipher of the key that it is salted to.
    On,
    /// Answers are proven but can be read on the bus.
    Off,
}

/// One authorization of a command.
#[derive(Debug)]
pub struct Auth<'s>(Kind<'s>);

pub(crate) enum Kind<'s> {
    Password(&'s [u8]),
    Session { session: &'s mut Session, secret: &'s [u8], continues: SessionAttributes },
}

impl<'s> Auth<'s> {
    /// Authorizes by the authorization value itself, which anyone on the bus can read. Part 1 §19.4.
    #[must_use]
    pub const fn password(password: &'s [u8]) -> Self {
        Self(Kind::Password(password))
    }

    /// The empty password, which most hierarchies and objects have.
    pub const EMPTY: Auth<'static> = Auth(Kind::Password(&[]));

    /// The session that ends with the command, if it does.
    pub(crate) fn ends(&self) -> Option<Handle> {
        match &self.0 {
            Kind::Session { session, continues: SessionAttributes::NONE, .. } => {
                Some(session.handle.handle())
            }
            _ => None,
        }
    }
}

impl fmt::Debug for Kind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password(_) => f.write_str("Password(..)"),
            Self::Session { session, .. } => session.fmt(f),
        }
    }
}

/// The beginning of a session: what was sent, kept until the TPM answers.
pub(crate) struct Starting {
    kind: SessionType,
    hash: HashAlg,
    key: Option<Object>,
    salt: Option<crate::crypto::Shared>,
    cipher: Option<Aes>,
    nonce_caller: DigestBuf,
}

impl Starting {
    pub(crate) fn unsalted(kind: SessionType, hash: HashAlg) -> Result<Self, Fault> {
        let nonce_caller = fresh_nonce(hash)?;
        Ok(Self { kind, hash, key: None, salt: None, cipher: None, nonce_caller })
    }

    /// Salted to `key`, whose name algorithm is the session's hash, as an EK's policy demands.
    pub(crate) fn salted(
        kind: SessionType,
        key: &SaltKey<'_>,
        encryption: Encryption,
    ) -> Result<Self, Fault> {
        let hash = HashAlg::try_from(key.public.name_alg)?;
        let symmetric = match key.public.id {
            Id::Rsa(rsa) => rsa.symmetric,
            Id::Ecc(ecc) => ecc.symmetric,
            Id::KeyedHash(_) | Id::SymCipher(_) => SymDefObject::Null,
        };
        let cipher = match encryption {
            Encryption::On => Some(Aes::try_from(symmetric)?),
            Encryption::Off => None,
        };
        let salt = share_secret(&key.public, Label::Secret)?;
        let nonce_caller = fresh_nonce(hash)?;
        Ok(Self { kind, hash, key: Some(key.object), salt: Some(salt), cipher, nonce_caller })
    }

    pub(crate) fn command(&self) -> Result<StartAuthSession<'_>, Fault> {
        Ok(StartAuthSession {
            tpm_key: self.key,
            bind: None,
            nonce_caller: Nonce::new(self.nonce_caller.octets())?,
            encrypted_salt: self
                .salt
                .as_ref()
                .map_or(EncryptedSecret::EMPTY, crate::crypto::Shared::encrypted),
            session_type: self.kind,
            symmetric: self.cipher.map_or(SymDef::Null, |aes| {
                SymDef::Aes(BlockCipher { key_bits: aes.key_bits(), mode: Alg::CFB })
            }),
            auth_hash: self.hash.alg(),
        })
    }

    /// sessionKey = KDFa(authHash, salt, "ATH", nonceTPM, nonceCaller, bits); none without salt. Part 1 §19.6.8.
    pub(crate) fn started(self, answer: &StartAuthSessionResponse<'_>) -> Result<Session, Fault> {
        let nonce_tpm = answer.nonce_tpm.octets();
        let key = match &self.salt {
            Some(salt) => kdfa(
                self.hash,
                &[salt.secret.expose()],
                b"ATH",
                nonce_tpm,
                self.nonce_caller.octets(),
                self.hash.bits(),
            ),
            None => SecretBuf::zeroed(0).ok_or(crate::crypto::KdfTooLong),
        };
        Ok(Session {
            handle: answer.session_handle,
            kind: self.kind,
            hash: self.hash,
            key: key.map_err(|_| Fault::TooLarge)?,
            cipher: self.cipher,
            nonce_caller: self.nonce_caller,
            nonce_tpm: DigestBuf::new(nonce_tpm).ok_or(Fault::TooLarge)?,
        })
    }

    pub(crate) fn salted_started(
        self,
        answer: &StartAuthSessionResponse<'_>,
    ) -> Result<Salted, Fault> {
        self.started(answer).map(Salted)
    }
}

/// As long as a digest, the most that the TPM takes.
fn fresh_nonce(hash: HashAlg) -> Result<DigestBuf, NoRandomness> {
    let mut nonce = DigestBuf::zeroed(hash.digest_len()).ok_or(NoRandomness)?;
    random(nonce.octets_mut())?;
    Ok(nonce)
}

impl From<NameError> for Fault {
    fn from(_: NameError) -> Self {
        Self::Unnamed
    }
}
