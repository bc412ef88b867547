//! What was there before: files that may have been changed, and an identity that may be another than the configuration asks
//! for.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use host::exit::{Exit, Failure};
use tls::CaPin;

use super::{Store, Worker, policy};
use crate::config::{Service, Settings};
use crate::credential::identity::Identity;
use crate::daemon::machine::{Found, Holder, Validity};
use crate::deliver::destination::Change;
use crate::deliver::files::FileSink;
use crate::log::Log;
use crate::storage::Storage;

/// What is believed to be in place. It is compared with what is there where nothing else waits for the disk.
#[derive(Clone)]
pub(crate) struct Files {
    settings: Arc<Settings>,
    storage: Option<Arc<Storage>>,
    sinks: Vec<Arc<FileSink>>,
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
}

/// Why the configuration asks for another identity than the one there is, as far as is known. The worker asks for it in
/// the middle of a job, which should not wait for a disk.
#[derive(Clone, Default)]
pub(crate) struct Mismatch(Arc<Mutex<Option<String>>>);

impl Mismatch {
    pub(crate) fn note(&self, mismatch: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = mismatch;
    }

    pub(super) fn reason(&self) -> Option<String> {
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
            sinks: self.sinks.clone(),
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
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn holders(&self) -> impl Iterator<Item = Holder> + use<> {
        let services = (0..self.settings.services.len()).map(Holder::Service);
        std::iter::once(Holder::Identity).chain(services)
    }

    /// Takes stock under a configuration that is new.
    pub(crate) fn inventory(&self) -> Inventory {
        if let (Some(_), Err(failure)) = (&self.identity, self.settings.token.read()) {
            let fields: [(&str, &dyn Display); 2] =
                [("reason", &failure.message), ("advice", &failure.advice)];
            self.log.warn("the token cannot be read: the stored identity is kept", &fields);
        }
        let pending = |service: &Service| {
            self.storage.as_ref().is_some_and(|storage| storage.is_reload_pending(&service.name))
        };
        let services = self.settings.services.iter().zip(&self.sinks);
        let services = services.map(|(service, sink)| Found {
            key: service.key(),
            validity: self.found(service, sink),
            policy: policy(service.lifetime),
            hook_pending: pending(service),
        });
        Inventory { services: services.collect(), mismatch: self.mismatch() }
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
        let found = self.expect(service, sink).and_then(|()| sink.validity());
        found.unwrap_or_else(|change| {
            let fields: [(&str, &dyn Display); 2] = [("name", &service.name), ("reason", &change)];
            self.log.warn("existing credentials are not used", &fields);
            None
        })
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
    pub(crate) fn mismatch(&self) -> Option<String> {
        let token = self.settings.token.read().ok();
        let identity = self.identity.as_ref()?;
        identity.mismatch(token.as_deref(), &self.pins, self.settings.tpm.ek)
    }

    /// Compares what was put in place with what is there now.
    pub(crate) fn check(&self, holder: Holder) -> Result<(), Change> {
        match holder {
            Holder::Identity => self.storage.as_ref().map_or(Ok(()), |storage| storage.check()),
            Holder::Service(index) => {
                self.sinks.get(index).map_or(Ok(()), |sink| sink.destination().check())
            }
        }
    }
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
        "if the join is refused, see the reason above, or restore the previous configuration";
    Failure::new(Exit::Config, mismatch, advice)
}
