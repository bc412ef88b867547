//! What was there before: files that may have been changed, and an identity that may be another than the configuration asks
//! for.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use host::exit::{Exit, Failure};
use tls::CaPin;

use super::access::Access;
use super::{Store, Worker, policy};
use crate::config::{Service, Settings};
use crate::credential::identity::Identity;
use crate::daemon::file_check::CheckResult;
use crate::daemon::health::IDENTITY;
use crate::daemon::health_socket::SocketPlace;
use crate::daemon::machine::{Found, Holder, Validity};
use crate::daemon::name;
use crate::deliver::destination::Change;
use crate::deliver::files::FileSink;
use crate::file_access::{Batch, Pending, SHORT_TIMEOUT, TIMEOUT};
use crate::log::Log;
use crate::storage::Storage;

/// What is believed to be in place, and how it is compared with what is there.
#[derive(Clone)]
pub(crate) struct Files {
    settings: Arc<Settings>,
    storage: Option<Arc<Storage>>,
    socket_place: Option<SocketPlace>,
    sinks: Vec<Arc<FileSink>>,
    access: Access,
    identity: Option<Identity>,
    pins: Vec<CaPin>,
    log: Log,
}

/// What was found when a configuration came into force.
pub(crate) struct Inventory {
    /// Each service.
    pub(crate) services: Vec<Found>,
    /// As [`Files::mismatch`].
    pub(crate) mismatch: Option<String>,
    /// As [`CheckResult::unreadable`].
    pub(crate) unreadable: Vec<(String, Failure)>,
}

/// Why the configuration asks for another identity than the one there is, as far as is known. The worker asks for it in
/// the middle of a job, which should not wait for a disk.
#[derive(Clone, Default)]
pub(crate) struct Mismatch(Arc<Mutex<Option<String>>>);

impl Mismatch {
    pub(crate) fn note(&self, mismatch: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = mismatch;
    }

    pub(crate) fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Worker {
    pub(crate) fn files(&self) -> Files {
        let storage = match &self.store {
            Store::Directory(storage) => Some(Arc::clone(storage)),
            Store::Memory => None,
        };
        Files {
            settings: Arc::clone(&self.settings),
            storage,
            socket_place: self.socket_place.clone(),
            sinks: self.sinks.clone(),
            access: self.access.clone(),
            identity: self.identity.clone(),
            pins: self.client.pins().to_vec(),
            log: self.log,
        }
    }

    /// Whether the identity was asked for with another lifetime.
    pub(crate) fn asks_for_another_ttl(&self) -> bool {
        let asked = self.identity.as_ref().and_then(|identity| identity.ttl_seconds);
        asked.is_some_and(|asked| asked != self.settings.lifetime.ttl.as_secs())
    }
}

impl Files {
    /// Takes stock under a configuration that is new.
    pub(crate) async fn inventory(&self) -> Inventory {
        let token = self.token().await;
        if let (Some(_), Err(failure)) = (&self.identity, &token) {
            let fields: [(&str, &dyn Display); 2] =
                [("reason", &failure.message), ("advice", &failure.advice)];
            self.log.warn("the token cannot be read: the stored identity is kept", &fields);
        }
        let unreadable = unreadable(&token).into_iter().collect();
        let pending = self.pending_reloads().await;
        let validities = self.each(Self::found).await;
        let services = self.settings.services.iter().zip(pending).zip(validities);
        let services = services.map(|((service, hook_pending), validity)| Found {
            key: service.key(),
            validity: validity.unwrap_or_else(|failure| self.not_used(service, &failure.message)),
            policy: policy(service.lifetime),
            hook_pending,
        });
        let mismatch = self.mismatch(token.ok().as_deref());
        Inventory { services: services.collect(), mismatch, unreadable }
    }

    /// Which services' reload hooks have yet to run; if the storage hangs, every hook.
    async fn pending_reloads(&self) -> Vec<bool> {
        let files = self.clone();
        let names = move || {
            let services = files.settings.services.iter();
            let pending = |service: &Service| {
                files
                    .storage
                    .as_ref()
                    .is_some_and(|storage| storage.is_reload_pending(&service.name))
            };
            Ok(services.map(pending).collect())
        };
        let pending = self.access.storage.run(names).await;
        let services = self.settings.services.iter();
        pending.unwrap_or_else(|_| services.map(|service| service.reload.is_some()).collect())
    }

    async fn token(&self) -> Result<String, Failure> {
        let settings = Arc::clone(&self.settings);
        self.access.token.run_within(SHORT_TIMEOUT, move || settings.token.read()).await
    }

    /// What `look` finds at each service. All are looked at together, so that one that hangs delays no other.
    async fn each<T: Send + 'static>(
        &self,
        look: fn(&Self, &Service, &FileSink) -> T,
    ) -> Vec<Result<T, Failure>> {
        let begin = |(index, sink): (usize, &Arc<FileSink>)| {
            let (files, sink) = (self.clone(), Arc::clone(sink));
            tokio::spawn(async move {
                let access = sink.access().clone();
                let service = move || {
                    let service = files.settings.services.get(index);
                    let service = service.ok_or_else(|| Failure::bug("no such service"))?;
                    Ok(look(&files, service, &sink))
                };
                access.run(service).await
            })
        };
        let looks: Vec<_> = self.sinks.iter().enumerate().map(begin).collect();
        let mut found = Vec::with_capacity(looks.len());
        for look in looks {
            found.push(look.await.unwrap_or_else(|error| Err(Failure::bug(error))));
        }
        found
    }

    fn not_used<T>(&self, service: &Service, reason: &dyn Display) -> Option<T> {
        let fields: [(&str, &dyn Display); 2] = [("name", &service.name), ("reason", reason)];
        self.log.warn("existing credentials are not used", &fields);
        None
    }

    /// How long the certificate holds that a service has from before, if its files are what was written for it as it is
    /// configured now.
    fn found(&self, service: &Service, sink: &FileSink) -> Option<Validity> {
        if !sink.destination().has_set() {
            return None;
        }
        let issued = self.storage.as_ref().and_then(|storage| storage.issued(&service.name));
        if issued.is_some_and(|issued| issued.asked != sink.asked()) {
            self.log
                .info("the configuration was changed: issuing again", &[("name", &service.name)]);
            return None;
        }
        if let Err(change) = self.expect(service, sink) {
            return self.not_used(service, &change);
        }
        let recorded = |change| format!("they are not what was recorded: {change}");
        let found = sink.validity().map_err(recorded);
        found.unwrap_or_else(|reason| self.not_used(service, &reason))
    }

    /// Tells the destination what was written to it, as far as that is known.
    fn expect(&self, service: &Service, sink: &FileSink) -> Result<(), Change> {
        let Some(storage) = &self.storage else { return Ok(()) };
        let Some(issued) = storage.issued(&service.name) else {
            return Err(Change::new("there is no record of the identity that they were issued to"));
        };
        if self.identity.as_ref().is_some_and(|identity| identity.instance != issued.instance) {
            return Err(Change::new("they were issued to another identity"));
        }
        let expected = sink.destination().expect(issued.written.candidates());
        expected.map_err(|failure| Change::new(failure.message))
    }

    /// Why the configuration asks for another identity than the one there is; `None` if it does not.
    fn mismatch(&self, token: Option<&str>) -> Option<String> {
        let (ek, protocol) = (self.settings.tpm.ek, self.settings.protocol);
        self.identity.as_ref()?.mismatch(token, &self.pins, ek, protocol)
    }

    /// Compares what was put in place with what is there now. Blocks until each access has ended or is late.
    pub(crate) fn check(&self) -> CheckResult {
        let mut batch = Batch::default();
        let settings = Arc::clone(&self.settings);
        let token = batch.add(&self.access.token, SHORT_TIMEOUT, move || settings.token.read());
        let (storage, place) = (self.storage.clone(), self.socket_place.clone());
        let identity = batch.add(&self.access.storage, TIMEOUT, move || {
            // The directory is opened first. Who looks up a name in one that hangs holds its lock, for which other processes would
            // wait and could not be killed.
            let checked = storage.map_or(Ok(()), |storage| storage.check());
            Ok((checked, place.and_then(|place| place.recreate())))
        });
        let check = |sink: &Arc<FileSink>| {
            let checked = Arc::clone(sink);
            batch.add(sink.access(), TIMEOUT, move || Ok(checked.destination().check()))
        };
        let services: Vec<_> = self.sinks.iter().map(check).collect();
        batch.run();
        let token = token.result();
        let unreadable = unreadable(&token).into_iter().collect();
        let mismatch = self.mismatch(token.ok().as_deref());
        let (identity, socket) = match identity.result() {
            Ok((identity, socket)) => (Ok(identity), socket),
            Err(failure) => (Err(failure), None),
        };
        let services: Vec<_> = services.into_iter().map(Pending::result).collect();
        let holders = (0..services.len()).map(Holder::Service);
        let checked = std::iter::once((Holder::Identity, identity)).chain(holders.zip(services));
        let mut result = CheckResult { mismatch, socket, unreadable, ..CheckResult::default() };
        for (holder, checked) in checked {
            let name = name(&self.settings, holder);
            match checked {
                Ok(Ok(())) => {}
                Ok(Err(change)) => result.changed.push((holder, name, change)),
                Err(failure) => result.unreadable.push((name, failure)),
            }
        }
        result
    }
}

/// The identity's component, if the file system of its token hangs.
fn unreadable(token: &Result<String, Failure>) -> Option<(String, Failure)> {
    let failure = token.as_ref().err().filter(|failure| failure.exit == Exit::Busy)?;
    Some((IDENTITY.to_owned(), failure.clone()))
}

/// Writes the files of the identity again if they are not what was written: they are copies of what is believed.
pub(super) fn restore(storage: &Storage, identity: &Identity, log: Log) {
    let Err(change) = storage.check() else { return };
    match storage.store(identity) {
        Ok(_) => log.warn(
            "the stored files are not as they were written: writing them again",
            &[("reason", &change)],
        ),
        Err(failure) => log.warn(
            "the stored files are not as they were written",
            &[("reason", &change), ("cause", &failure.message), ("advice", &failure.advice)],
        ),
    }
}

/// A join that failed while there is an identity still.
pub(super) fn superseded(failure: Failure, mismatch: &str) -> Failure {
    Failure { message: format!("{mismatch}; joining again: {}", failure.message), ..failure }
}

/// What is wrong with an identity that is valid, and not the one that is asked for.
pub(super) fn kept(mismatch: &str) -> Failure {
    let advice =
        "see the reason above if the join is refused, or restore the previous configuration";
    Failure::new(Exit::Config, mismatch, advice)
}
