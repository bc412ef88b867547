//! Sessions: who authorizes a command, and what protects it on its way. Part 1 §19 and §21.
//!
//! Which session protects what, and against whom:
//!
//! | session | proves to the TPM | proves to the caller | hides |
//! |---|---|---|---|
//! | [password](Auth::password) | the authorization value, by sending it in the clear | nothing | nothing |
//! | HMAC | the authorization value, without showing it | that answers are the TPM's, unless others know or guess that value | nothing |
//! | policy | that the policy was satisfied | nothing | nothing |
//! | [bound](NewSession::bound) to an entity | the entity's value, once at the start | that all answers are the TPM's, unless others know that value | with a cipher, the first parameter |
//! | [salted](NewSession::salted) to a key | | that all answers are from the TPM with that key | with a cipher, the first parameter, from all others |
//!
//! An attacker who can modify the bus, not only read it, is defeated by a session that is salted to a key
//! whose public part is known from elsewhere, such as from the certificate of an endorsement key. Only such a
//! [`Salted`] session serves for [`Tpm::secured`](crate::Tpm::secured), which proves and hides what other sessions or
//! passwords authorize. A binding helps as far as the authorization value cannot be guessed.
//!
//! ```no_run
//! # use tpm2::{Error, Tpm, commands::Sign, session::{Cipher, NewSession, SaltKey}, transport::Transport, types::Object};
//! # use tpm2::crypto::HashAlg;
//! # fn example<T: Transport>(tpm: &mut Tpm<T>, ek: &SaltKey<'_>, key: Object, sign: &Sign<'_>) -> Result<(), Error<T::Error>> {
//! let plan = NewSession::hmac(HashAlg::Sha256).salted(ek).encrypting(Cipher::Aes128);
//! let mut salted = tpm.start(&plan)?;
//! let mut bound = tpm.start(&NewSession::hmac(HashAlg::Sha256).bound(key, b"value"))?;
//! tpm.secured(&mut salted).run(sign, [bound.auth(b"value")])?;
//! # Ok(())
//! # }
//! ```
//!
//! A session is visible at every call that uses it. Its last use takes it, so that it cannot be used again:
//!
//! ```compile_fail,E0382
//! # use tpm2::{Error, Tpm, commands::Sign, session::Session, transport::Transport};
//! fn twice<T: Transport>(tpm: &mut Tpm<T>, sign: &Sign<'_>, session: Session) -> Result<(), Error<T::Error>> {
//!     tpm.run(sign, [session.last_auth(b"")])?;
//!     tpm.run(sign, [session.last_auth(b"")])?;
//!     Ok(())
//! }
//! ```
//!
//! and one session cannot be two authorizations of one command:
//!
//! ```compile_fail,E0499
//! # use tpm2::{Error, Tpm, commands::ActivateCredential, session::Session, transport::Transport};
//! fn both<T: Transport>(
//!     tpm: &mut Tpm<T>,
//!     command: &ActivateCredential<'_>,
//!     session: &mut Session,
//! ) -> Result<(), Error<T::Error>> {
//!     tpm.run(command, [session.auth(b""), session.auth(b"")])?;
//!     Ok(())
//! }
//! ```

mod auth;
mod hash;
mod parameter;
mod protected;
mod start;

use core::fmt;

pub use auth::{Audit, Auth, Direction};
pub use hash::{cp_hash, name_hash, parameter_hash, rp_hash};
pub(crate) use protected::{Layout, Protected};
pub(crate) use start::Starting;
pub use start::{Encryption, NewSalted, NewSession, Plan, SaltKey};

use crate::crypto::cfb::Aes;
use crate::crypto::{HashAlg, NoRandomness};
use crate::error::Fault;
use crate::types::{
    DigestBuf, Entity, Handle, NameBuf, Nonce, SecretBuf, SessionHandle, SessionType,
};

/// A session in the TPM and what this side knows of it.
pub struct Session {
    handle: SessionHandle,
    kind: SessionType,
    hash: HashAlg,
    key: SecretBuf,
    cipher: Option<Cipher>,
    bind: Option<Bind>,
    proof: Proof,
    audit: Option<AuditTrail>,
    nonce_caller: DigestBuf,
    nonce_tpm: DigestBuf,
}

/// What a session encrypts with. Part 1 §21.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cipher {
    /// AES in CFB mode, 128 bits.
    Aes128,
    /// AES in CFB mode, 192 bits. Few TPMs have it.
    Aes192,
    /// AES in CFB mode, 256 bits.
    Aes256,
    /// A key stream made with the session's hash.
    Xor,
}

impl From<Aes> for Cipher {
    fn from(aes: Aes) -> Self {
        match aes {
            Aes::Aes128 => Self::Aes128,
            Aes::Aes192 => Self::Aes192,
            Aes::Aes256 => Self::Aes256,
        }
    }
}

/// What a session is bound to: an entity as long as its authorization value is the same. Part 1 §19.6.12.
struct Bind {
    name: NameBuf,
    value: SecretBuf,
}

/// What a policy session asks of the authorization value. The client knows it, since it sees `TPM2_PolicyAuthValue`,
/// `TPM2_PolicyPassword` and what puts a policy back. Part 3 §23.17 and §23.18.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Proof {
    #[default]
    None,
    AuthValue,
    Password,
}

/// The audit so far. Part 1 §19.6.11 and §31.3.
#[derive(Clone, Copy)]
struct AuditTrail {
    digest: DigestBuf,
    exclusive: bool,
}

impl Session {
    /// The session as an entity, for policy commands.
    #[must_use]
    pub const fn handle(&self) -> SessionHandle {
        self.handle
    }

    /// The hash of its HMACs, and of its policy.
    #[must_use]
    pub const fn hash(&self) -> HashAlg {
        self.hash
    }

    /// The TPM's latest nonce, nonceTPM. A signature over [`signed_authorization`](crate::crypto::signed_authorization) that
    /// includes it authorizes in this session only, and until the session is used.
    #[must_use]
    pub fn nonce_tpm(&self) -> Nonce<'_> {
        Nonce::from(&self.nonce_tpm)
    }

    /// The digest of all commands and answers that the session has audited, as
    /// `TPM2_GetSessionAuditDigest` would say it; `None` without any.
    #[must_use]
    pub fn audit_digest(&self) -> Option<DigestBuf> {
        self.audit.map(|trail| trail.digest)
    }

    /// Whether the TPM has executed no other command since the first that this session has audited, as the TPM said in
    /// its last answer.
    #[must_use]
    pub fn is_exclusive(&self) -> bool {
        self.audit.is_some_and(|trail| trail.exclusive)
    }

    /// Authorizes by this session; `secret` is the authorization value of the entity. An HMAC session proves it, a policy
    /// session where its policy asks for it. Part 1 §19.6.
    ///
    /// In a session that encrypts, `secret` is part of the key, also under a policy that does not ask for it. A wrong one, such
    /// as `b""` for an entity that has a value, may then decrypt to wrong octets without an error: always pass the value.
    /// Part 1 §21.2.
    pub const fn auth<'s>(&'s mut self, secret: &'s [u8]) -> Auth<'s> {
        Auth::lent(self, secret)
    }

    /// As [`Self::auth`], for the last time: the TPM forgets the session if the command succeeds. If it fails, or cannot be
    /// sent, the client flushes the session.
    #[must_use]
    pub const fn last_auth(self, secret: &[u8]) -> Auth<'_> {
        Auth::given(self, secret)
    }

    /// Goes along on a command that others authorize, to encrypt, prove or audit. See
    /// [`Tpm::run_with`](crate::Tpm::run_with).
    ///
    /// A session that rides along must do something. An HMAC session that finds nothing to encrypt therefore audits: its digest
    /// grows, the TPM no longer takes it as bound, and another session loses its exclusivity. Unless this is wanted, add
    /// [`audited(Audit::Never)`](Auth::audited): then such a command is refused before it is sent.
    pub const fn ride(&mut self) -> Auth<'_> {
        Auth::lent(self, &[])
    }

    /// Notes what its policy asks of the authorization value.
    pub(crate) fn learn(&mut self, proof: impl FnOnce(Handle) -> Proof) {
        self.proof = proof(self.handle.handle());
    }

    /// Whether the authorization value of the entity of this Name enters the key of the HMAC. Part 1 §19.6.5 and
    /// §19.6.12: a session that is bound to it has proven it at its start, unless it has changed since.
    fn includes(&self, name: Option<&NameBuf>, secret: &[u8]) -> bool {
        match (self.kind, &self.bind) {
            (SessionType::HMAC, Some(bind)) => {
                name != Some(&bind.name)
                    || SecretBuf::new(without_trailing_zeros(secret)).as_ref() != Some(&bind.value)
            }
            (SessionType::HMAC, None) => true,
            _ => self.proof == Proof::AuthValue,
        }
    }

    /// Whether there is an HMAC at all: a policy session without a key has none, unless its policy asks for one.
    /// Part 1 §19.6.5.
    fn has_hmac(&self) -> bool {
        match self.proof {
            Proof::Password => false,
            Proof::AuthValue => true,
            Proof::None => self.kind == SessionType::HMAC || !self.key.expose().is_empty(),
        }
    }

    /// A password in the clear beside a key would leave the answer without its HMAC: nothing is proven, and what is
    /// encrypted can be changed.
    fn loses_hmac(&self) -> bool {
        self.proof == Proof::Password && (self.cipher.is_some() || !self.key.expose().is_empty())
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

    /// See [`Session::nonce_tpm`].
    #[must_use]
    pub fn nonce_tpm(&self) -> Nonce<'_> {
        self.0.nonce_tpm()
    }

    /// See [`Session::last_auth`].
    #[must_use]
    pub fn last_auth(self, secret: &[u8]) -> Auth<'_> {
        self.0.last_auth(secret)
    }
}

impl From<Salted> for Session {
    fn from(salted: Salted) -> Self {
        salted.0
    }
}

/// Where nonces and salts come from.
pub(crate) type Random<'r> = dyn FnMut(&mut [u8]) -> Result<(), NoRandomness> + 'r;

/// As long as a digest, the most that the TPM takes.
fn fresh_nonce(hash: HashAlg, random: &mut Random<'_>) -> Result<DigestBuf, NoRandomness> {
    let mut nonce = hash.zeros();
    random(nonce.octets_mut())?;
    Ok(nonce)
}

impl From<crate::crypto::NameError> for Fault {
    fn from(_: crate::crypto::NameError) -> Self {
        Self::Unnamed
    }
}
