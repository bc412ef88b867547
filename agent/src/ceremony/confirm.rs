//! Asks a Teleport cluster whether it accepts an identity.

use host::exit::{Exit, Failure};

use crate::ceremony::approach::Approach;
use crate::ceremony::authenticated::{certified, load_key};
use crate::ceremony::client::Client;
use crate::ceremony::teleport::ping;
use crate::credential::identity::Identity;
use crate::tpm::passwords::Passwords;
use crate::tpm::thread::TpmThread;

impl Client {
    /// Shows the certificate of an identity to the Auth Service that has issued it, with the TPM commands of
    /// [`Self::authenticate`]. Teleport has no call that says who the caller is. It has one that answers everybody, but a server
    /// that does not accept the certificate ends the connection before it answers.
    ///
    /// # Errors
    /// Those of the TPM and the network; [`Exit::Refused`] if the cluster does not accept the certificate.
    pub async fn confirm(
        &self,
        tpm: &TpmThread,
        identity: &Identity,
        passwords: Passwords,
    ) -> Result<(), Failure> {
        let auth_service = self.auth_service(identity).await?;
        // A server that is not the one that is meant costs no TPM command.
        match self.connect(&auth_service).await {
            Err(failure) if self.is_closed_proxy(&auth_service).await => {
                return Err(cannot_be_asked(&failure));
            }
            reached => reached.map(drop)?,
        }
        let key = load_key(tpm, identity, passwords).await?;
        let shown = auth_service.showing(certified(tpm, key, identity)?);
        let (connection, address) = self.connect(&shown).await?;
        let cluster = ping(&connection).await?;
        if cluster == identity.cluster {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Data,
            format!(
                "the server at {address} is of the cluster {cluster:?}, not {}",
                identity.cluster
            ),
            "check the address, and join again if the cluster was renamed",
        ))
    }

    /// Whether there is a Proxy that can be reached, but not the Auth Service through it.
    pub(super) async fn is_closed_proxy(&self, auth_service: &Approach) -> bool {
        match auth_service {
            Approach::AuthThroughProxy(roots, ..) => {
                self.connect(&Approach::Proxy(roots.clone())).await.is_ok()
            }
            _ => false,
        }
    }
}

fn cannot_be_asked(failure: &Failure) -> Failure {
    Failure::new(
        Exit::Unavailable,
        format!(
            "the Proxy does not pass on connections to the Auth Service, so it cannot be asked: {}",
            failure.message
        ),
        "run `agent status` to see the stored identity, or join at the address of the Auth Service",
    )
}
