//! Issuing a service's credentials, delivering them, and running its reload hook.

use std::sync::Arc;

use host::exit::{Exit, Failure};

use super::{Ended, Store, Worker, call};
use crate::ceremony::SubjectForm;
use crate::ceremony::authenticated::Denied;
use crate::config::{
    self, KeyRotation, KeyStorage, Protocol, Reload, Selector, Service, ServiceKind, ServiceName,
    Settings,
};
use crate::credential::cache::{Cache, Certificates, Issued};
use crate::credential::identity::Identity;
use crate::daemon::machine::{FailureKind, Job, Outcome, Validity};
use crate::deliver::destination::Manifest;
use crate::deliver::files::FileSink;
use crate::deliver::reload::{self, Reloaded};
use crate::deliver::sshd;
use crate::file_access::SHORT_TIMEOUT;
use crate::keys::{Key, SoftwareKey};
use crate::storage::Storage;

/// Whether the storage may have the mark that a service's reload hook is pending.
pub(super) type IsMarked = bool;

impl Worker {
    /// New credentials for a service, in the cache and delivered.
    pub(super) async fn issue(&mut self, index: usize) -> Result<(Validity, IsMarked), Denied> {
        let settings = Arc::clone(&self.settings);
        let missing = || Failure::bug("no such service");
        let service = settings.services.get(index).ok_or_else(missing)?;
        let sink = self.sinks.get(index).cloned().ok_or_else(missing)?;
        // Nothing is asked for that could not be delivered.
        let wanted = Arc::clone(&sink);
        let lock = move || wanted.destination().lock();
        let lock = sink.access().run_within(SHORT_TIMEOUT, lock);
        self.stop.limit_files(lock).await?;
        let validity = self.obtain(service, &sink).await?;
        Ok((validity, self.deliver(service, sink).await?))
    }

    /// The service's key and certificates for it, or what else it is issued.
    async fn obtain(
        &mut self,
        service: &Service,
        sink: &Arc<FileSink>,
    ) -> Result<Validity, Denied> {
        let identity = self.identity.clone().ok_or_else(|| Failure::bug("no identity"))?;
        if identity.protocol == Protocol::Teleport {
            return Err(not_of_teleport(service).into());
        }
        if let ServiceKind::Jwt { audiences, identity: whose } = &service.kind {
            let svid = self.request_jwt(&identity, service, whose, audiences).await?;
            let validity = svid.validity;
            self.cache.publish(&service.name, Issued::Jwt(svid));
            return Ok(validity);
        }
        let (key, certificates): (Arc<dyn Key>, Certificates) = match service.key_storage {
            KeyStorage::Software => {
                let key = self.software_key(service, sink).await?;
                let certificates = self.request(&identity, service, &key).await?;
                (Arc::new(key), certificates)
            }
            KeyStorage::Tpm => {
                let (key, certificates) = self.request_for_tpm_key(&identity, service).await?;
                (key, certificates)
            }
        };
        let validity = certificates.validity();
        let issued = Issued::Certificates { key, certificates, cluster: identity.cluster };
        self.offer(service, &issued);
        self.cache.publish(&service.name, issued);
        Ok(validity)
    }

    /// The key in the files of a service that keeps it, or a new one.
    async fn software_key(
        &self,
        service: &Service,
        sink: &Arc<FileSink>,
    ) -> Result<SoftwareKey, Failure> {
        let is_kept =
            matches!(service.kind, ServiceKind::X509 { key_rotation: KeyRotation::Never, .. });
        if is_kept {
            let files = Arc::clone(sink);
            let read = sink.access().run_within(SHORT_TIMEOUT, move || Ok(files.software_key()));
            if let Some(key) = self.stop.limit_files(read).await? {
                return Ok(key);
            }
        }
        SoftwareKey::generate()
    }

    /// Certificates for this key of a service.
    pub(super) async fn request(
        &mut self,
        identity: &Identity,
        service: &Service,
        key: &dyn Key,
    ) -> Result<Certificates, Denied> {
        // The files of an identity are for Teleport's software, those of `x509` for any.
        let subject = match &service.kind {
            ServiceKind::X509 { identity: whose, .. } if whose.selector != Selector::Own => {
                return self.request_svid(identity, service, whose, key).await;
            }
            ServiceKind::X509 { .. } | ServiceKind::SshAgent(_) => SubjectForm::Plain,
            ServiceKind::SshHost(host) => {
                return self.request_ssh_host(identity, service, host, key).await;
            }
            ServiceKind::Identity { .. } => SubjectForm::Full,
            ServiceKind::Jwt { .. } => return Err(Failure::bug("a JWT has no key").into()),
        };
        let ttl = service.lifetime.ttl;
        let (stop, log) = (self.stop.clone(), self.log);
        let connection = self.connection(identity).await?;
        let issued = connection.issue(key, service.name.as_str(), subject, ttl);
        Ok(Certificates::Bot(Box::new(call(log, "issue", stop.limit(issued)).await?)))
    }

    /// Has a service's sink deliver what is in the cache.
    async fn deliver(&self, service: &Service, sink: Arc<FileSink>) -> Result<IsMarked, Failure> {
        let files = sink.files()?;
        // Before the files change, so that it is not forgotten if we are killed.
        let without = "a restart before the next renewal may miss the reload hook";
        let is_marked = service.reload.is_none()
            || self.note(service, Storage::mark_reload_pending, without).await;
        let record = self.recorder(service, &sink);
        let access = sink.access().clone();
        let write = move || {
            let mut recorded = Ok(());
            let notices = sink.write(&files, &mut |now, before| recorded = record(now, before))?;
            Ok((recorded, notices))
        };
        let (recorded, notices) = self.stop.limit_files(access.run(write)).await?;
        for notice in notices {
            self.log.warn(&notice, &[("service", &service.name)]);
        }
        if let Err(failure) = recorded {
            let fields: [(&str, &dyn std::fmt::Display); 3] = [
                ("service", &service.name),
                ("reason", &failure.message),
                ("advice", &failure.advice),
            ];
            self.log.warn("a restart will reissue the credentials", &fields);
        }
        Ok(is_marked)
    }

    /// What records for the next agent what a service is about to have.
    fn recorder(
        &self,
        service: &Service,
        sink: &FileSink,
    ) -> impl Fn(&Manifest, Option<&Manifest>) -> Result<(), Failure> + use<> {
        let storage = match &self.store {
            Store::Directory(storage) => Some(Arc::clone(storage)),
            Store::Memory => None,
        };
        let access = self.access.storage.clone();
        let (name, asked) = (service.name.clone(), sink.asked());
        let instance = self.identity.as_ref().map(|identity| identity.instance.clone());
        let instance = instance.unwrap_or_default();
        move |manifest, before| match &storage {
            Some(storage) => {
                let storage = Arc::clone(storage);
                let (name, asked, instance) = (name.clone(), asked.clone(), instance.clone());
                let (manifest, before) = (manifest.clone(), before.cloned());
                access.run_blocking(SHORT_TIMEOUT, move || {
                    storage.record(&name, asked, instance, &manifest, before.as_ref())
                })
            }
            None => Ok(()),
        }
    }

    /// Notes in the storage what the next agent has to know. Where that fails, fresh certificates matter more, and a warning
    /// says what will happen `without` the note.
    async fn note(
        &self,
        service: &Service,
        noting: fn(&Storage, &ServiceName) -> Result<(), Failure>,
        without: &str,
    ) -> bool {
        let Store::Directory(storage) = &self.store else { return true };
        let (storage, name) = (Arc::clone(storage), service.name.clone());
        let noted = move || noting(&storage, &name);
        let noted = self.access.storage.run_within(SHORT_TIMEOUT, noted);
        let noted = self.stop.limit_files(noted).await;
        if let Err(failure) = &noted {
            let fields: [(&str, &dyn std::fmt::Display); 3] = [
                ("service", &service.name),
                ("reason", &failure.message),
                ("advice", &failure.advice),
            ];
            self.log.warn(without, &fields);
        }
        noted.is_ok()
    }

    /// Runs the service's reload hook; the files are in place.
    pub(super) async fn run_hook(
        mut self,
        job: Job,
        index: usize,
        placed: Option<Validity>,
        is_marked: IsMarked,
    ) -> (Self, Ended) {
        let service = self.settings.services.get(index);
        let reload = service.and_then(|service| service.reload.clone());
        let reloaded = match (reload, service) {
            (Some(reload), Some(service)) => {
                let access = self.access.hook(&service.name, &reload);
                let sink = self.sinks.get(index).cloned();
                access.run(move || hook(&reload, sink.as_deref())).await.map(Some)
            }
            _ => Ok(None),
        };
        let ended = match (reloaded, placed) {
            (Ok(reloaded), placed) => {
                if let Some(service) =
                    service.filter(|service| is_marked && service.reload.is_some())
                {
                    let without = "a restart may run the reload hook again";
                    self.note(service, Storage::clear_reload_pending, without).await;
                }
                if let (Some(reloaded), Some(service)) = (reloaded, service) {
                    self.log.info("reloaded", &[("service", &service.name), ("how", &reloaded)]);
                }
                let outcome = placed.map_or(Outcome::HookRan, Outcome::Valid);
                Ended::new(job, outcome, None)
            }
            (Err(failure), Some(validity)) => {
                Ended::new(job, Outcome::HookFailed(validity), Some(failure))
            }
            (Err(failure), None) => {
                let outcome = Outcome::Failed(FailureKind::Transient);
                Ended::new(job, outcome, Some(failure))
            }
        };
        (self, ended)
    }
}

/// Runs a reload hook: that of an sshd until it serves the certificate that is in the files.
fn hook(reload: &Reload, sink: Option<&FileSink>) -> Result<Reloaded, Failure> {
    let Some(sshd) = &reload.sshd else { return reload::run(reload) };
    let certificate = sink.and_then(FileSink::host_certificate);
    let missing = || Failure::bug("the certificate is not in the files");
    sshd::reload(reload, sshd, &certificate.ok_or_else(missing)?)
}

/// Services are certified by authorities of ours only.
fn not_of_teleport(service: &Service) -> Failure {
    Failure::new(
        Exit::Config,
        format!(
            "a Teleport cluster cannot issue the {} service to this agent",
            service.kind.name()
        ),
        "remove the service: of a Teleport cluster the agent keeps the bot's own identity only",
    )
}

/// The sinks of the services; destinations in which nothing changes stay locked.
pub(super) fn sinks(
    settings: &Settings,
    cache: &Cache,
    before: &[Arc<FileSink>],
) -> Vec<Arc<FileSink>> {
    let host = settings.authorities.first().map(config::Address::host).unwrap_or_default();
    let sink = |service: &Service| {
        Arc::new(FileSink::new(service, host, cache.watch(&service.name), before))
    };
    settings.services.iter().map(sink).collect()
}
