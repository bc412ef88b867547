//! Services' keys in the TPM: created once, stored, and proven to the authority.

use std::sync::Arc;

use host::exit::Failure;

use super::{Store, Worker, call};
use crate::ceremony::authenticated::Denied;
use crate::config::Service;
use crate::credential::cache::Certificates;
use crate::credential::identity::Identity;
use crate::file_access::SHORT_TIMEOUT;
use crate::keys::TpmKey;

/// A key in the TPM that is in use.
#[derive(Clone)]
pub(super) struct UsedTpmKey {
    key: Arc<TpmKey>,
    /// Whether the storage has it too.
    is_stored: bool,
}

impl Worker {
    /// Certificates for a service's key in the TPM, and the key. If the TPM cannot load the one that is stored, there is another one
    /// from now on.
    pub(super) async fn request_for_tpm_key(
        &mut self,
        identity: &Identity,
        service: &Service,
    ) -> Result<(Arc<TpmKey>, Certificates), Denied> {
        let key = match self.tpm_key(service).await? {
            Some(key) => key,
            None => self.create_tpm_key(service).await?,
        };
        match self.prove_and_request(identity, service, &key).await {
            Err(_) if key.is_lost() => {
                let reason = "the TPM cannot load the key: it was cleared, or it is another TPM";
                self.log_of_service(service, "creating another key in the TPM", reason);
                let key = self.create_tpm_key(service).await?;
                let certificates = self.prove_and_request(identity, service, &key).await?;
                Ok((key, certificates))
            }
            result => Ok((key, result?)),
        }
    }

    async fn prove_and_request(
        &mut self,
        identity: &Identity,
        service: &Service,
        key: &TpmKey,
    ) -> Result<Certificates, Denied> {
        let (stop, log) = (self.stop.clone(), self.log);
        let connection = self.connection(identity).await?;
        let proven = connection.prove_key(key, identity, service.name.as_str());
        call(log, "prove_key", stop.limit(proven)).await?;
        self.request(identity, service, key).await
    }

    /// The key that the service has; `None` if it has none, or if an operator has removed the stored one to have another.
    pub(super) async fn tpm_key(
        &mut self,
        service: &Service,
    ) -> Result<Option<Arc<TpmKey>>, Failure> {
        let used = self.tpm_keys.get(&service.name).cloned();
        let Store::Directory(storage) = &self.store else { return Ok(used.map(|used| used.key)) };
        let (storage, name) = (Arc::clone(storage), service.name.clone());
        let read = self.access.storage.run_within(SHORT_TIMEOUT, move || storage.tpm_key(&name));
        let text = match (self.stop.limit_files(read).await, used) {
            // A storage that cannot be read does not cost the key.
            (Err(_), Some(used)) => return Ok(Some(used.key)),
            (Ok(None), Some(used)) if !used.is_stored => return Ok(Some(used.key)),
            (Ok(Some(text)), Some(used)) if used.key.to_text()? == text => {
                return Ok(Some(used.key));
            }
            (read, _) => read?,
        };
        let Some(text) = text else { return Ok(None) };
        match TpmKey::stored(&text, self.tpm.clone()) {
            Ok(key) => {
                let key = Arc::new(key);
                let used = UsedTpmKey { key: Arc::clone(&key), is_stored: true };
                self.tpm_keys.insert(service.name.clone(), used);
                Ok(Some(key))
            }
            Err(reason) => {
                self.log_of_service(service, "the stored key in the TPM is not used", &reason);
                Ok(None)
            }
        }
    }

    /// A new key. It is used even if it cannot be stored; then a restart creates another one.
    async fn create_tpm_key(&mut self, service: &Service) -> Result<Arc<TpmKey>, Failure> {
        let key = self.stop.limit(TpmKey::create(self.tpm.clone())).await?;
        self.log.info("created a key in the TPM", &[("service", &service.name)]);
        let mut is_stored = false;
        if let Store::Directory(storage) = &self.store {
            let (storage, name) = (Arc::clone(storage), service.name.clone());
            let text = key.to_text()?;
            let write = move || storage.store_tpm_key(&name, &text);
            let written = self.access.storage.run_within(SHORT_TIMEOUT, write);
            match self.stop.limit_files(written).await {
                Ok(()) => is_stored = true,
                Err(failure) => {
                    let what = "the key in the TPM is not stored: a restart creates another one";
                    self.log_of_service(service, what, &failure.message);
                }
            }
        }
        let key = Arc::new(key);
        let used = UsedTpmKey { key: Arc::clone(&key), is_stored };
        self.tpm_keys.insert(service.name.clone(), used);
        Ok(key)
    }

    fn log_of_service(&self, service: &Service, what: &str, reason: &str) {
        let fields: [(&str, &dyn std::fmt::Display); 2] =
            [("service", &service.name), ("reason", &reason)];
        self.log.warn(what, &fields);
    }
}
