//! How authorization values of hierarchies are proven to a TPM without being said aloud.

use core::fmt;

use crate::client::Tpm;
use crate::commands::{Command, CreatePrimary};
use crate::error::Error;
use crate::object::{Loaded, kept};
use crate::session::{Auth, Encryption, Salted};
use crate::template;
use crate::transport::Transport;
use crate::types::{Data, Entity, Hierarchy, SensitiveCreate, SessionType};
use crate::wire::{List, Tpm2b};

/// The authorization values of a TPM's hierarchies, each empty if its hierarchy has none.
#[derive(Clone, Copy)]
pub struct Passwords<'p> {
    /// ownerAuth: for NV indices that only the owner may read.
    pub owner: &'p [u8],
    /// endorsementAuth: for keys of the endorsement hierarchy.
    pub endorsement: &'p [u8],
}

impl Passwords<'_> {
    /// Nothing has a password, as in most TPMs.
    pub const NONE: Passwords<'static> = Passwords { owner: &[], endorsement: &[] };
}

impl fmt::Debug for Passwords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords(..)")
    }
}

/// What authorizes by a password: an empty one is said, any other is proven in a session.
pub(super) struct Proof<'p> {
    session: Option<Salted>,
    password: &'p [u8],
}

impl<'p> Proof<'p> {
    /// Of the empty password.
    pub(super) const EMPTY: Self = Self { session: None, password: &[] };

    pub(super) fn prepare<T: Transport>(
        tpm: &mut Tpm<T>,
        password: &'p [u8],
    ) -> Result<Self, Error<T::Error>> {
        let session = match password {
            [] => None,
            _ => Some(ephemeral_session(tpm)?),
        };
        Ok(Self { session, password })
    }

    pub(super) fn auth(&mut self) -> Auth<'_> {
        match &mut self.session {
            None => Auth::EMPTY,
            Some(session) => session.session().auth(self.password),
        }
    }

    /// The session ends with the command.
    pub(super) fn last_auth(self) -> Auth<'p> {
        match self.session {
            None => Auth::EMPTY,
            Some(session) => session.last_auth(self.password),
        }
    }

    /// Ends the session, if there is one: a TPM has few.
    pub(super) fn leave<T: Transport>(self, tpm: &mut Tpm<T>) -> Result<(), Error<T::Error>> {
        match self.session {
            None => Ok(()),
            Some(session) => tpm.flush(session.handle().handle()),
        }
    }
}

/// An HMAC session for passwords, where no endorsement key is at hand yet: salted to a key of the null hierarchy, which needs
/// no authorization and is gone from the TPM again when this returns. Three commands.
///
/// Who listens on the bus can neither read a password that is proven in it nor try guesses against it. The key is the
/// TPM's word, so that who changes what passes can put in one of their own, and try guesses, but not read either. Answers
/// prove nothing.
///
/// # Errors
/// As [`Tpm::run`].
pub fn ephemeral_session<T: Transport>(tpm: &mut Tpm<T>) -> Result<Salted, Error<T::Error>> {
    let fail = |fault| Error::new(CreatePrimary::INFO.code, fault);
    let command = CreatePrimary {
        primary_handle: Hierarchy::Null,
        in_sensitive: Tpm2b(SensitiveCreate::EMPTY),
        in_public: Tpm2b(template::SRK_P256),
        outside_info: Data::EMPTY,
        creation_pcr: List::new(&[]),
    };
    let answer = tpm.run(&command, [Auth::EMPTY])?;
    let handle = answer.object_handle.handle();
    let key = Loaded::new(handle, &answer.out_public.0).map_err(|error| fail(error.into()));
    let key = kept(tpm, handle, key)?;
    let session = key.salt_key().map_err(|error| fail(error.into())).and_then(|salt_key| {
        tpm.start_salted_session(SessionType::HMAC, &salt_key, Encryption::On)
    });
    let session = kept(tpm, handle, session)?;
    tpm.flush(handle)?;
    Ok(session)
}
