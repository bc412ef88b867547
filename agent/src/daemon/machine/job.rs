//! What the daemon does, for whose credentials, and how it ends.

use std::fmt;

use super::Validity;

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Join: there is no valid identity.
    Join,
    /// Renew the identity by itself.
    Renew,
    /// Store the identity again, after that failed.
    Store,
    /// Issue and write a service's credentials, and run its reload hook.
    Issue(usize),
    /// Run a service's reload hook again, after it failed.
    RunHook(usize),
    /// Read the configuration again and take it over.
    Configure,
}

impl Job {
    /// Whose credentials it is about; `None` if about all of them.
    #[must_use]
    pub const fn holder(self) -> Option<Holder> {
        match self {
            Self::Join | Self::Renew | Self::Store => Some(Holder::Identity),
            Self::Issue(index) | Self::RunHook(index) => Some(Holder::Service(index)),
            Self::Configure => None,
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Join => "join",
            Self::Renew => "renew the identity",
            Self::Store => "store the identity",
            Self::Issue(_) => "issue a service's credentials",
            Self::RunHook(_) => "run a reload hook",
            Self::Configure => "reload the configuration",
        })
    }
}

/// Why a job failed: what decides when it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// A retry may succeed at any time: no response, or something was busy.
    Transient,
    /// A retry fails until someone changes something: refused, locked out, no permission, a full disk.
    Lasting,
    /// The identity is no longer good: join, whatever its dates say.
    IdentityGone,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Success: these are the credentials now.
    Valid(Validity),
    /// There is a new identity, but it could not be written to the storage.
    NotStored(Validity),
    /// The credentials are written, but the reload hook failed.
    HookFailed(Validity),
    /// The reload hook succeeded.
    HookRan,
    /// The identity is stored.
    Stored,
    /// The configuration was read again, and is in force.
    Configured,
    /// Failure.
    Failed(FailureKind),
}

/// Whose credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The identity.
    Identity,
    /// A service.
    Service(usize),
}
