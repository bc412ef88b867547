//! One authorization of a command, and what else its session does.

use core::fmt;

use super::Session;
use crate::types::{Entity, Handle, HandleKind, SessionAttributes};

/// One authorization of a command, or a session that rides along.
#[derive(Debug)]
pub struct Auth<'s>(pub(super) Kind<'s>);

#[allow(clippy::large_enum_variant, reason = "on the stack, for the time of one command")]
pub(super) enum Kind<'s> {
    Password(&'s [u8]),
    Session(SessionAuth<'s>),
}

/// A session in one command.
pub(super) struct SessionAuth<'s> {
    pub(super) session: Held<'s>,
    pub(super) secret: &'s [u8],
    pub(super) direction: Direction,
    pub(super) audit: Option<Audit>,
}

/// A session is lent to each command but its last.
#[allow(clippy::large_enum_variant, reason = "on the stack, for the time of one command")]
pub(super) enum Held<'s> {
    Lent(&'s mut Session),
    Given(Session),
}

/// Which parameters a session with a cipher encrypts, where the command allows it. Of two sessions, each can take one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both ways.
    #[default]
    Both,
    /// The first parameter of the command: the TPM decrypts.
    Command,
    /// The first parameter of the answer: the TPM encrypts.
    Answer,
    /// Nothing: another session does it.
    Neither,
}

/// What becomes of the audit digest of an HMAC session. Part 1 §31.3, Part 2 §8.4.
#[doc(alias = "TPMA_SESSION_audit")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// Command and answer extend it.
    Extend,
    /// They extend it, if no other command was executed since the digest began; else the TPM refuses the command.
    Exclusive,
    /// The audit restarts with this command, and from here on the session is exclusive.
    Reset,
    /// The session does not audit: where it rides along and has nothing to encrypt, the command is refused before it is sent.
    Never,
}

impl<'s> Auth<'s> {
    /// The empty password, which most hierarchies and objects have.
    pub const EMPTY: Auth<'static> = Auth(Kind::Password(&[]));

    /// Authorizes by the authorization value itself, which anyone on the bus can read. Part 1 §19.4.
    #[must_use]
    pub const fn password(password: &'s [u8]) -> Self {
        Self(Kind::Password(password))
    }

    pub(super) const fn lent(session: &'s mut Session, secret: &'s [u8]) -> Self {
        Self::used(Held::Lent(session), secret)
    }

    pub(super) const fn given(session: Session, secret: &'s [u8]) -> Self {
        Self::used(Held::Given(session), secret)
    }

    const fn used(session: Held<'s>, secret: &'s [u8]) -> Self {
        Self(Kind::Session(SessionAuth {
            session,
            secret,
            direction: Direction::Both,
            audit: None,
        }))
    }

    /// Encrypts one way only. Nothing changes for a password or a session without a cipher.
    #[must_use]
    pub fn encrypting(mut self, direction: Direction) -> Self {
        if let Kind::Session(used) = &mut self.0 {
            used.direction = direction;
        }
        self
    }

    /// Audits the command. Only an HMAC session can do that; with anything else the command is not sent.
    #[must_use]
    pub fn audited(mut self, audit: Audit) -> Self {
        if let Kind::Session(used) = &mut self.0 {
            used.audit = Some(audit);
        }
        self
    }

    pub(crate) fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.0 {
            Kind::Password(_) => None,
            Kind::Session(used) => Some(used.session.get_mut()),
        }
    }

    /// The session that ends with the command.
    pub(crate) fn ends(&self) -> Option<Handle> {
        match &self.0 {
            Kind::Session(SessionAuth { session: Held::Given(session), .. }) => {
                Some(session.handle.handle())
            }
            _ => None,
        }
    }

    /// The policy session whose policy is reset after the command.
    pub(crate) fn policy(&self) -> Option<Handle> {
        match &self.0 {
            Kind::Session(used) => {
                let handle = used.session.get().handle.handle();
                (handle.kind() == HandleKind::POLICY_SESSION).then_some(handle)
            }
            Kind::Password(_) => None,
        }
    }
}

impl Held<'_> {
    pub(super) const fn get(&self) -> &Session {
        match self {
            Self::Lent(session) => session,
            Self::Given(session) => session,
        }
    }

    pub(super) const fn get_mut(&mut self) -> &mut Session {
        match self {
            Self::Lent(session) => session,
            Self::Given(session) => session,
        }
    }

    pub(super) const fn continues(&self) -> SessionAttributes {
        match self {
            Self::Lent(_) => SessionAttributes::CONTINUE_SESSION,
            Self::Given(_) => SessionAttributes::NONE,
        }
    }
}

impl Audit {
    pub(super) const fn attributes(self) -> SessionAttributes {
        match self {
            Self::Extend => SessionAttributes::AUDIT,
            Self::Exclusive => SessionAttributes::AUDIT.with(SessionAttributes::AUDIT_EXCLUSIVE),
            Self::Reset => SessionAttributes::AUDIT.with(SessionAttributes::AUDIT_RESET),
            Self::Never => SessionAttributes::NONE,
        }
    }
}

impl fmt::Debug for Kind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password(_) => f.write_str("Password(..)"),
            Self::Session(used) => used.session.get().fmt(f),
        }
    }
}
