//! How sessions begin: of which kind, and what they share with the TPM. Part 1 §19.6, Part 3 §11.1.

use super::{Bind, Cipher, Proof, Random, Salted, Session, fresh_nonce, without_trailing_zeros};
use crate::commands::{StartAuthSession, StartAuthSessionResponse};
use crate::crypto::cfb::Aes;
use crate::crypto::{
    HashAlg, KdfTooLong, Label, NameError, Shared, kdfa, object_name, share_secret_with,
};
use crate::error::Fault;
use crate::types::{
    Alg, AnyEntity, AuthValue, BlockCipher, DigestBuf, EncryptedSecret, Entity, Handle, HashScheme,
    Id, Nonce, Object, Public, SecretBuf, SessionType, SymDef, SymDefObject,
};

/// A session that is to be started by [`Tpm::start`](crate::Tpm::start).
#[derive(Clone, Copy)]
pub struct NewSession<'p> {
    kind: SessionType,
    hash: HashAlg,
    salt: Option<&'p SaltKey<'p>>,
    bind: Option<(AnyEntity, &'p [u8])>,
    cipher: Option<Cipher>,
}

impl<'p> NewSession<'p> {
    /// A session that proves authorization values. `hash` makes its HMACs.
    #[must_use]
    pub const fn hmac(hash: HashAlg) -> Self {
        Self::of(SessionType::HMAC, hash)
    }

    /// A session that authorizes by a policy, whose commands are run in it. `hash` is the name algorithm of what it authorizes.
    #[must_use]
    pub const fn policy(hash: HashAlg) -> Self {
        Self::of(SessionType::POLICY, hash)
    }

    /// A session that computes the digest of a policy, and authorizes nothing.
    #[must_use]
    pub const fn trial(hash: HashAlg) -> Self {
        Self::of(SessionType::TRIAL, hash)
    }

    pub(crate) const fn of(kind: SessionType, hash: HashAlg) -> Self {
        Self { kind, hash, salt: None, bind: None, cipher: None }
    }

    /// Shares a salt with the TPM through a key.
    #[must_use]
    pub const fn salted(mut self, key: &'p SaltKey<'p>) -> NewSalted<'p> {
        self.salt = Some(key);
        NewSalted(self)
    }

    /// Binds the session to an entity: its authorization value enters the session key. An HMAC session then authorizes that
    /// entity without proving the value again, until the value changes. Part 1 §19.6.12.
    #[must_use]
    pub fn bound(mut self, entity: impl Into<AnyEntity>, value: &'p [u8]) -> Self {
        self.bind = Some((entity.into(), value));
        self
    }

    /// Encrypts first parameters. The key is made of what the session shares with the TPM, its salt and the value of its bound
    /// entity, and of the authorization value of what it authorizes: if none of these is secret, nothing is hidden.
    #[must_use]
    pub const fn encrypting(mut self, cipher: Cipher) -> Self {
        self.cipher = Some(cipher);
        self
    }
}

/// A session that is to be started with a salt.
#[derive(Clone, Copy)]
pub struct NewSalted<'p>(NewSession<'p>);

impl<'p> NewSalted<'p> {
    /// See [`NewSession::bound`].
    #[must_use]
    pub fn bound(self, entity: impl Into<AnyEntity>, value: &'p [u8]) -> Self {
        Self(self.0.bound(entity, value))
    }

    /// Encrypts first parameters.
    #[must_use]
    pub const fn encrypting(self, cipher: Cipher) -> Self {
        Self(self.0.encrypting(cipher))
    }
}

/// What [`Tpm::start`](crate::Tpm::start) takes: a [`NewSession`], from which a [`Session`] comes, or a [`NewSalted`],
/// from which a [`Salted`] one comes.
pub trait Plan: sealed::Sealed {}

impl Plan for NewSession<'_> {}
impl Plan for NewSalted<'_> {}

mod sealed {
    use super::{NewSalted, NewSession, Salted, Session};

    pub trait Sealed {
        type Started: Into<Session>;
        fn session(&self) -> &NewSession<'_>;
        fn started(session: Session) -> Self::Started;
    }

    impl Sealed for NewSession<'_> {
        type Started = Session;

        fn session(&self) -> &NewSession<'_> {
            self
        }

        fn started(session: Session) -> Session {
            session
        }
    }

    impl Sealed for NewSalted<'_> {
        type Started = Salted;

        fn session(&self) -> &NewSession<'_> {
            &self.0
        }

        fn started(session: Session) -> Salted {
            Salted(session)
        }
    }
}

/// A key in the TPM that a session can be salted to, and its public area from a source that deserves trust: the
/// certificate of an endorsement key, not the TPM's own word.
///
/// If the key at the handle is another one, the session cannot be used, and the error depends on who notices first. A TPM
/// that holds another key refuses the salt at the start of the session
/// ([`VALUE`](crate::types::ResponseCode::VALUE), an RSA key), or the HMAC of the first command that the session rides on
/// ([`BAD_AUTH`](crate::types::ResponseCode::BAD_AUTH), an ECC key). What answers in the TPM's place without the key
/// causes [`Fault::Forged`].
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

    /// A key whose Name was computed from `public` before.
    pub(crate) const fn named(object: Object, public: Public<'k>) -> Self {
        Self { object, public }
    }

    /// The key as an entity.
    #[must_use]
    pub const fn object(&self) -> Object {
        self.object
    }

    /// A session salted to this key as the key itself suggests: its name algorithm, which an EK's policy demands, and its
    /// cipher.
    ///
    /// # Errors
    /// [`Fault::Unsupported`] if the key has no cipher, or a name algorithm that this crate does not compute.
    pub fn new_session(
        &self,
        kind: SessionType,
        encryption: Encryption,
    ) -> Result<NewSalted<'_>, Fault> {
        let hash = HashAlg::try_from(self.public.name_alg);
        let hash = hash.map_err(|_| Fault::Unsupported("name algorithm"))?;
        let plan = NewSession::of(kind, hash).salted(self);
        let symmetric = match self.public.id {
            Id::Rsa(rsa) => rsa.symmetric,
            Id::Ecc(ecc) => ecc.symmetric,
            _ => SymDefObject::Null,
        };
        if encryption == Encryption::Off {
            return Ok(plan);
        }
        let aes = Aes::try_from(symmetric).map_err(|_| Fault::Unsupported("symmetric cipher"))?;
        Ok(plan.encrypting(aes.into()))
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

/// The beginning of a session: what was sent, kept until the TPM answers.
pub(crate) struct Starting<'p> {
    plan: &'p NewSession<'p>,
    salt: Option<Shared>,
    bind: Option<Bind>,
    nonce_caller: DigestBuf,
}

impl<'p> Starting<'p> {
    pub(crate) fn new(plan: &'p NewSession<'p>, random: &mut Random<'_>) -> Result<Self, Fault> {
        let bind = plan.bind.map(|(entity, value)| bind(entity, value)).transpose()?;
        let salt = plan
            .salt
            .map(|key| share_secret_with(&key.public, Label::Secret, random))
            .transpose()?;
        Ok(Self { plan, salt, bind, nonce_caller: fresh_nonce(plan.hash, random)? })
    }

    pub(crate) fn command(&self) -> Result<StartAuthSession<'_>, Fault> {
        let aes = |key_bits| SymDef::Aes(BlockCipher { key_bits, mode: Alg::CFB });
        Ok(StartAuthSession {
            tpm_key: self.plan.salt.map(|key| key.object),
            bind: self.plan.bind.map(|(entity, _)| entity),
            nonce_caller: Nonce::from(&self.nonce_caller),
            encrypted_salt: self.salt.as_ref().map_or(EncryptedSecret::EMPTY, Shared::encrypted),
            session_type: self.plan.kind,
            symmetric: match self.plan.cipher {
                None => SymDef::Null,
                Some(Cipher::Aes128) => aes(128),
                Some(Cipher::Aes192) => aes(192),
                Some(Cipher::Aes256) => aes(256),
                Some(Cipher::Xor) => SymDef::Xor(HashScheme { hash: self.plan.hash.alg() }),
            },
            auth_hash: self.plan.hash.alg(),
        })
    }

    /// sessionKey = KDFa(authHash, bindAuth ‖ salt, "ATH", nonceTPM, nonceCaller, bits); none with neither.
    /// Part 1 §19.6.8.
    pub(crate) fn started(self, answer: &StartAuthSessionResponse<'_>) -> Result<Session, Fault> {
        let hash = self.plan.hash;
        let nonce_tpm = answer.nonce_tpm.octets();
        let key = match &self.salt {
            None if self.bind.is_none() => SecretBuf::zeroed(0).ok_or(KdfTooLong),
            salt => {
                let value = self.bind.as_ref().map_or(&[][..], |bind| bind.value.expose());
                let salt = salt.as_ref().map_or(&[][..], |salt| salt.secret.expose());
                let nonce_caller = self.nonce_caller.octets();
                kdfa(hash, &[value, salt], b"ATH", nonce_tpm, nonce_caller, hash.bits())
            }
        };
        Ok(Session {
            handle: answer.session_handle,
            kind: self.plan.kind,
            hash,
            key: key.map_err(|_| Fault::TooLarge)?,
            cipher: self.plan.cipher,
            bind: self.bind,
            proof: Proof::None,
            audit: None,
            nonce_caller: self.nonce_caller,
            nonce_tpm: answer.nonce_tpm.into(),
        })
    }
}

fn bind(entity: AnyEntity, value: &[u8]) -> Result<Bind, Fault> {
    AuthValue::new(value)?;
    let value = SecretBuf::new(without_trailing_zeros(value)).ok_or(Fault::TooLarge)?;
    Ok(Bind { name: entity.name().ok_or(Fault::Unnamed)?, value })
}
