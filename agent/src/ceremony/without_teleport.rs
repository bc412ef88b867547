//! The calls of `rejoin` and `confirm` in a build without Teleport's protocols, which refuses them.

use host::exit::Failure;

use crate::ceremony::approach::{Approach, Reached};
use crate::ceremony::authenticated::Denied;
use crate::ceremony::client::Client;
use crate::ceremony::{Granted, JoinParameters};
use crate::credential::identity::Identity;
use crate::parts;
use crate::tpm::passwords::Passwords;
use crate::tpm::thread::TpmThread;

impl Client {
    pub(super) async fn auth_service(&self, _: &Identity) -> Result<Approach, Failure> {
        Err(parts::TELEPORT.refusal())
    }

    pub(super) async fn join_teleport(
        &self,
        _: Reached,
        _: &TpmThread,
        _: JoinParameters,
    ) -> Result<(Granted, String), Failure> {
        Err(parts::TELEPORT.refusal())
    }

    /// Refused.
    ///
    /// # Errors
    /// Always.
    pub async fn rejoin(
        &self,
        _: &TpmThread,
        _: &Identity,
        _: JoinParameters,
    ) -> Result<Identity, Denied> {
        Err(parts::TELEPORT.refusal().into())
    }

    /// Refused.
    ///
    /// # Errors
    /// Always.
    pub async fn confirm(&self, _: &TpmThread, _: &Identity, _: Passwords) -> Result<(), Failure> {
        Err(parts::TELEPORT.refusal())
    }
}
