use core::{error, fmt};

use crate::commands::{Command, by_code};
use crate::transport::SystemError;
use crate::types::{CommandCode, Handle, ResponseCode, Subject};
use crate::wire::{Malformed, TooLarge, TooLong};

mod refusal;

/// A command that failed: which one, and who is at fault. `E` is the error of the [`Transport`](crate::transport::Transport):
/// where it is the operating system's, as for all transports of this crate, `Error` alone is the whole type.
pub struct Error<E = SystemError> {
    command: CommandCode,
    cause: Cause<E>,
}

enum Cause<E> {
    Fault(Fault),
    Transport(E),
}

/// Who is at fault.
#[derive(Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The TPM said no.
    Refused(ResponseCode),
    /// The TPM's answer makes no sense.
    Malformed(Malformed),
    /// Data that the caller gave makes no sense; nothing was sent.
    Input(Malformed),
    /// This NV index holds something else than the certificate that it is for.
    NoCertificate(Handle),
    /// This NV index is defined, and nothing was written to it: it holds only zeros, or only ones.
    Unwritten(Handle),
    /// The answer is not the TPM's: its HMAC is wrong. The bus is tampered with, or the key that the session
    /// is salted to is not in this TPM.
    Forged,
    /// The way to the TPM failed, as [`Error::transport`] says. It is not known whether the command executed.
    Transport,
    /// An earlier command failed on the way; this client can no longer tell which answer belongs to which command.
    Poisoned,
    /// The command does not fit its buffer; nothing was sent.
    TooLarge,
    /// A value is longer than its field or NV index; nothing was sent.
    TooLong(TooLong),
    /// A handle that is not persistent was given where only a persistent one can be meant; nothing was sent.
    NotPersistent(Handle),
    /// An entity without a Name was used under a session.
    Unnamed,
    /// A session cannot protect this command, which was therefore not sent.
    Unprotectable(Protection),
    /// Not sent: a policy without a step protects nothing.
    NoPolicy,
    /// A policy has no digest, which is needed here; nothing was sent.
    Policy(crate::crypto::PolicyError),
    /// A policy asks for something that its [`Responder`](crate::policy::Responder) does not have; nothing was sent.
    Unanswered(&'static str),
    /// The operating system gave no randomness.
    NoRandomness,
    /// A key of the caller's has no algorithm of this kind, or one that this crate does not compute; nothing was sent.
    Unsupported(&'static str),
    /// No secret can be shared through the key that the session was to be salted to.
    Salt(crate::crypto::SharingError),
}

/// Why a session cannot protect a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protection {
    /// The command cannot have sessions, or not so many.
    NoRoom,
    /// A password authorizes, and can do nothing else.
    Password,
    /// A trial session computes a policy's digest only.
    Trial,
    /// Only HMAC sessions audit.
    NotHmac,
    /// Another session of the command audits.
    SecondAudit,
    /// A session that rides along must do something. This one finds nothing to encrypt, and cannot audit, since it is a policy
    /// session, or may not ([`Audit::Never`](crate::session::Audit::Never)).
    Idle,
    /// The session's policy asks for a password in the clear: a session that is salted, bound or has a cipher would lose its
    /// HMAC, and one that rides along has no password to show.
    PasswordInClear,
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoom => "the command cannot have this session",
            Self::Password => "a password cannot protect a command",
            Self::Trial => "a trial session cannot protect a command",
            Self::NotHmac => "only an HMAC session can audit",
            Self::SecondAudit => "only one session can audit",
            Self::Idle => "the session has nothing to encrypt and does not audit",
            Self::PasswordInClear => {
                "the session's policy asks for a password in the clear, which such a session cannot give"
            }
        })
    }
}

impl<E> Error<E> {
    /// An error of a command.
    #[must_use]
    pub const fn new(command: CommandCode, fault: Fault) -> Self {
        Self { command, cause: Cause::Fault(fault) }
    }

    /// An error of the command `C`.
    pub(crate) fn of<C: Command>(fault: impl Into<Fault>) -> Self {
        Self::new(C::INFO.code, fault.into())
    }

    /// An error on the way of a command to the TPM, or of its answer back.
    pub(crate) const fn on_the_way(command: CommandCode, error: E) -> Self {
        Self { command, cause: Cause::Transport(error) }
    }

    /// The command.
    #[must_use]
    pub const fn command(&self) -> CommandCode {
        self.command
    }

    /// Who is at fault.
    #[must_use]
    pub const fn fault(&self) -> &Fault {
        match &self.cause {
            Cause::Fault(fault) => fault,
            Cause::Transport(_) => &Fault::Transport,
        }
    }

    /// The transport's error, if it is at fault.
    #[must_use]
    pub const fn transport(&self) -> Option<&E> {
        match &self.cause {
            Cause::Fault(_) => None,
            Cause::Transport(error) => Some(error),
        }
    }

    /// What the TPM said, if it refused, without the number of handle, parameter or session.
    #[must_use]
    pub const fn refusal(&self) -> Option<ResponseCode> {
        match self.fault() {
            Fault::Refused(code) => Some(code.base()),
            _ => None,
        }
    }

    fn subject(&self, f: &mut fmt::Formatter<'_>, subject: Subject) -> fmt::Result {
        let command = by_code(self.command);
        let (word, number, names) = match subject {
            Subject::Command => return Ok(()),
            Subject::Handle(n) => ("handle", n, command.map(|command| command.handles)),
            Subject::Parameter(n) => ("parameter", n, command.map(|command| command.parameters)),
            Subject::Session(n) => ("session", n, None),
        };
        write!(f, ", {word}")?;
        if number == 0 {
            return Ok(());
        }
        write!(f, " {number}")?;
        let name = usize::from(number).checked_sub(1).and_then(|index| names?.get(index));
        name.map_or(Ok(()), |name| write!(f, " ({name})"))
    }
}

impl<E: error::Error + 'static> Error<E> {
    /// What a person can do about it, where there is something.
    #[must_use]
    pub fn advice(&self) -> Option<&'static str> {
        match &self.cause {
            Cause::Fault(Fault::Refused(code)) => refusal::advice(self.command, *code),
            Cause::Fault(fault) => fault.advice(),
            Cause::Transport(error) => transport_advice(error),
        }
    }
}

impl Fault {
    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Forged => Some(
                "compare the key in the TPM with the one that the session was salted to; if they \
                 are the same, the bus is tampered with",
            ),
            Self::Malformed(_) => Some("the TPM, its firmware or its driver is faulty"),
            _ => None,
        }
    }
}

/// What the kernel's driver means by its errors.
#[cfg(feature = "std")]
fn transport_advice(error: &(dyn error::Error + 'static)) -> Option<&'static str> {
    const ENOMEM: i32 = 12;
    const ETIME: i32 = 62;
    match error.downcast_ref::<std::io::Error>()?.raw_os_error()? {
        ENOMEM => Some(
            "check `dmesg`: a connection to the kernel's resource manager is limited to \
             three objects and three sessions",
        ),
        ETIME => Some("power-cycle the machine; the TPM did not respond in time"),
        _ => None,
    }
}

#[cfg(not(feature = "std"))]
fn transport_advice(_: &(dyn error::Error + 'static)) -> Option<&'static str> {
    None
}

/// What failed; `{:#}` has what it is due to as well, down to the last [source](error::Error::source).
impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.command)?;
        match &self.cause {
            Cause::Fault(Fault::Refused(code)) => {
                write!(f, "{code}")?;
                self.subject(f, code.subject())?;
                write!(f, ": {}", refusal::meaning(self.command, *code))
            }
            Cause::Fault(fault) => fault.fmt(f),
            Cause::Transport(error) => {
                Fault::Transport.fmt(f)?;
                if f.alternate() { write!(f, ": {error:#}") } else { Ok(()) }
            }
        }
    }
}

/// As in an [`Error`], which can say more of a refusal, since it knows the command.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => write!(f, "{code}: {}", code.meaning()),
            Self::Malformed(_) => f.write_str("the TPM's answer is malformed"),
            Self::Input(_) => f.write_str("not sent, since the given data is malformed"),
            Self::NoCertificate(index) => {
                write!(f, "NV index {:#010x} does not hold a certificate", index.0)
            }
            Self::Unwritten(index) => {
                write!(f, "NV index {:#010x} is provisioned but was never written", index.0)
            }
            Self::Forged => {
                f.write_str("the answer's HMAC is wrong: it is not from the TPM that was expected")
            }
            Self::Transport => f.write_str("the TPM cannot be reached"),
            Self::Poisoned => f.write_str("not sent, since an earlier command failed on the way"),
            Self::TooLarge => f.write_str("the command does not fit its buffer"),
            Self::TooLong(_) => f.write_str("not sent, since a value is too long"),
            Self::NotPersistent(handle) => {
                write!(f, "not sent: {:#010x} is not a persistent handle", handle.0)
            }
            Self::Unnamed => f.write_str("not sent: an entity without a Name under a session"),
            Self::Unprotectable(reason) => write!(f, "not sent: {reason}"),
            Self::NoPolicy => f.write_str("not sent: a policy without a step protects nothing"),
            Self::Policy(_) => f.write_str("not sent, since the policy has no digest"),
            Self::Unanswered(what) => write!(f, "not sent: the policy asks for {what}"),
            Self::NoRandomness => f.write_str("the operating system provided no randomness"),
            Self::Unsupported(what) => {
                write!(f, "not sent: the key has no {what}, or one that is not supported")
            }
            Self::Salt(_) => f.write_str("the session cannot be salted"),
        }?;
        match error::Error::source(self) {
            Some(source) if f.alternate() => write!(f, ": {source:#}"),
            _ => Ok(()),
        }
    }
}

/// The message with all that it is due to, and the advice if there is some: `main` shows an error this way.
impl<E: error::Error + 'static> fmt::Debug for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#}")?;
        self.advice().map_or(Ok(()), |advice| write!(f, " ({advice})"))
    }
}

/// The message does not have that of the source.
impl<E: error::Error + 'static> error::Error for Error<E> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.cause {
            Cause::Fault(fault) => fault.source(),
            Cause::Transport(error) => Some(error),
        }
    }
}

/// The message does not have that of the source.
impl error::Error for Fault {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Malformed(error) | Self::Input(error) => Some(error),
            Self::TooLong(error) => Some(error),
            Self::Policy(error) => Some(error),
            Self::Salt(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<TooLarge> for Fault {
    fn from(_: TooLarge) -> Self {
        Self::TooLarge
    }
}

impl From<TooLong> for Fault {
    fn from(error: TooLong) -> Self {
        Self::TooLong(error)
    }
}

impl From<crate::crypto::UnknownHash> for Fault {
    fn from(_: crate::crypto::UnknownHash) -> Self {
        Self::Unsupported("hash algorithm")
    }
}

impl From<crate::crypto::NoRandomness> for Fault {
    fn from(_: crate::crypto::NoRandomness) -> Self {
        Self::NoRandomness
    }
}

impl From<crate::crypto::SharingError> for Fault {
    fn from(error: crate::crypto::SharingError) -> Self {
        Self::Salt(error)
    }
}
