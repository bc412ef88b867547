//! What the agent asks for on behalf of an sshd.

use std::time::Duration;

use host::exit::Failure;
use proto::transcript;
use proto::v1::IssueSshHostRequest;

use super::authenticated::{Authenticated, Denied};
use super::connection::{CallTime, MAX_CALL};
use super::endorse_v1::seconds;
use super::workloads::{selector, unusable};
use crate::config::SshHost;
use crate::credential::ssh_host::{HostCredentials, UnverifiedHost};
use crate::keys::{Key, spki_der};

impl Authenticated {
    /// A host certificate for a service's key. A key in the TPM must have been proven: [`Self::prove_key`].
    ///
    /// # Errors
    /// Those of the authority: [`host::exit::Exit::Refused`] if no workload identity allows the names.
    pub async fn issue_ssh_host(
        &mut self,
        key: &dyn Key,
        host: &SshHost,
        service: &str,
        ttl: Duration,
    ) -> Result<HostCredentials, Denied> {
        let public_key = spki_der(&key.public())?;
        let digest = transcript::issue_digest(&self.exporter, &public_key);
        let request = IssueSshHostRequest {
            signature: key.sign(&digest).await?,
            public_key,
            principals: host.principals.clone(),
            ttl_seconds: seconds(ttl),
            service: service.to_owned(),
            selector: Some(selector(&host.selector, &self.cluster)),
            key_in_tpm: key.is_in_tpm(),
        };
        self.budget.set(Some(MAX_CALL));
        let issued = CallTime::new().wait(self.workloads.issue_ssh_host(request)).await;
        let issued = issued.map_err(|status| self.refused(&status))?.into_inner();
        let bundle = issued.bundle.unwrap_or_default();
        let (host_cas, user_cas) = (bundle.ssh_host_cas.clone(), bundle.ssh_user_cas.clone());
        // That it is vouched for by the CAs of the connection.
        self.bundle(bundle)?;
        let issued = UnverifiedHost { certificate: issued.certificate, host_cas, user_cas };
        let now = u64::try_from(host::clock::now().unix_timestamp()).map_err(Failure::bug)?;
        Ok(HostCredentials::verify(issued, key, &host.principals, now).map_err(unusable)?)
    }
}
