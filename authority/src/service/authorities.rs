//! The operators' requests about authorities and the recovery key.

use p256::PublicKey;
use pkcs8::DecodePublicKey;
use tracing::info;

use super::admin::{Admin, AdminError};
use crate::audit::Author;
use crate::keyring::{AdmissionRequest, KeyringError, Member, RecoverySlot, StoredKeyring};
use crate::resource::{Invalid, Name, Timestamp};

/// The authorities of a cluster.
pub(crate) struct Members {
    pub(crate) members: Vec<Member>,
    /// The revision of the keyring.
    pub(crate) keyring: u64,
}

impl Admin {
    pub(super) fn keyring(&self) -> Result<&StoredKeyring, AdminError> {
        let missing = || AdminError::Internal("the CA keys are in memory only".to_owned());
        self.0.keyring.as_deref().ok_or_else(missing)
    }

    /// The authorities, by name.
    pub(crate) async fn authorities(&self) -> Result<Members, AdminError> {
        let keyring = self.keyring()?;
        let members = keyring.members(self.0.clock.now()).await?;
        Ok(Members { members, keyring: keyring.revision().await })
    }

    /// The authorities, if several can share the store.
    pub(crate) async fn sharing(&self) -> Result<Vec<Member>, AdminError> {
        match &self.0.keyring {
            Some(keyring) if keyring.is_shared() => Ok(keyring.members(self.0.clock.now()).await?),
            _ => Ok(Vec::new()),
        }
    }

    /// Since when there is a recovery key.
    pub(crate) async fn recovery_since(&self) -> Result<Option<Timestamp>, AdminError> {
        match &self.0.keyring {
            Some(keyring) => Ok(keyring.recovery_since().await),
            None => Ok(None),
        }
    }

    pub(crate) async fn add_authority(
        &self,
        line: &str,
        author: Author,
    ) -> Result<AdmissionRequest, AdminError> {
        let request: AdmissionRequest =
            line.parse().map_err(|cause: Invalid| AdminError::InvalidArgument(cause.0))?;
        let keyring = self.keyring()?;
        if !keyring.is_shared() {
            let why = "the store is embedded, which no other authority can use: configure PostgreSQL first";
            return Err(AdminError::InvalidArgument(why.to_owned()));
        }
        keyring.admit(&request, author).await?;
        self.0.deliver_audit().await;
        info!(name = %request.name, id = request.id, "another authority can use the CA keys");
        Ok(request)
    }

    pub(crate) async fn remove_authority(
        &self,
        which: &str,
        author: Author,
    ) -> Result<Name, AdminError> {
        let name = self.keyring()?.remove(which, author).await?;
        self.0.deliver_audit().await;
        info!(%name, "another authority cannot use the CA keys any more");
        Ok(name)
    }

    /// Wraps the private keys to this SubjectPublicKeyInfo.
    pub(crate) async fn set_recovery_key(
        &self,
        spki: &[u8],
        author: Author,
    ) -> Result<(), AdminError> {
        let key = PublicKey::from_public_key_der(spki).map_err(|cause| {
            AdminError::InvalidArgument(format!("it is not a public key on P-256: {cause}"))
        })?;
        self.keyring()?.set_recovery(&key, author).await?;
        self.0.deliver_audit().await;
        info!("the CA keys are wrapped to a new recovery key");
        Ok(())
    }

    pub(crate) async fn recovery_slots(&self) -> Result<Vec<RecoverySlot>, AdminError> {
        Ok(self.keyring()?.recovery_slots().await?)
    }
}

impl From<KeyringError> for AdminError {
    fn from(cause: KeyringError) -> Self {
        match cause {
            KeyringError::Store(cause) => Self::Store(cause),
            KeyringError::Refused(why) => Self::InvalidArgument(why),
            other => Self::Internal(other.to_string()),
        }
    }
}
