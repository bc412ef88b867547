//! Services for SSH: host certificates, and keys that programs use on sockets.

use std::sync::Arc;

use super::{Worker, call};
use crate::attest::Reader;
use crate::ceremony::authenticated::Denied;
use crate::config::{KeyStorage, Service, SshHost};
use crate::credential::cache::{Certificates, Issued};
use crate::credential::identity::Identity;
use crate::daemon::ssh_agents::{Agent, Wanted};
use crate::file_access::SHORT_TIMEOUT;
use crate::keys::Key;
use crate::ssh_agent::Offered;

impl Worker {
    /// What to serve on sockets.
    pub(in crate::daemon) fn ssh_agents(&self, reader: Option<&Reader>) -> Wanted {
        let agent = |service: &Service| {
            Agent::of(&service.name, &service.kind, self.offers.watch(&service.name))
        };
        let agents = self.settings.services.iter().filter_map(agent).collect();
        Wanted { agents, reader: reader.cloned(), log: self.log }
    }

    /// Offers a service's key with its new certificate, if programs use it on a socket.
    pub(super) fn offer(&self, service: &Service, issued: &Issued) {
        let Issued::Certificates { key, certificates, .. } = issued else { return };
        if service.kind.agent().is_some() {
            let (key, certificate) = (Arc::clone(key), certificates.ssh().map(str::to_owned));
            self.offers.publish(&service.name, Offered { key, certificate });
        }
    }

    /// A host certificate for this key of a service.
    pub(super) async fn request_ssh_host(
        &mut self,
        identity: &Identity,
        service: &Service,
        host: &SshHost,
        key: &dyn Key,
    ) -> Result<Certificates, Denied> {
        let (stop, log) = (self.stop.clone(), self.log);
        let (name, ttl) = (service.name.as_str(), service.lifetime.ttl);
        let connection = self.connection(identity).await?;
        let issued = connection.issue_ssh_host(key, host, name, ttl);
        Ok(Certificates::SshHost(call(log, "issue_ssh_host", stop.limit(issued)).await?))
    }

    /// Offers keys in the TPM as they are stored, before they are certified again: sshd needs its key also while the authority is
    /// away.
    pub(super) async fn offer_stored_keys(&mut self) {
        let settings = Arc::clone(&self.settings);
        self.offers.keep_only(settings.services.iter().map(|service| &service.name));
        for (index, service) in settings.services.iter().enumerate() {
            if service.kind.agent().is_none() || service.key_storage != KeyStorage::Tpm {
                continue;
            }
            // One that cannot be read is reported when the certificate is issued.
            let Ok(Some(key)) = self.tpm_key(service).await else { continue };
            let certificate = match self.sinks.get(index).cloned() {
                None => None,
                Some(sink) => {
                    let access = sink.access().clone();
                    let read = move || Ok(sink.host_certificate());
                    access.run_within(SHORT_TIMEOUT, read).await.ok().flatten()
                }
            };
            let before = self.offers.watch(&service.name).borrow().clone();
            let before = before.and_then(|before| before.certificate.clone());
            let certificate = certificate.or(before);
            self.offers.publish(&service.name, Offered { key, certificate });
        }
    }
}
