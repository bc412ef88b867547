//! What was there before: files that may have been changed, and an identity that may be another than the configuration asks
//! for.

use std::fmt::Display;

use host::exit::{Exit, Failure};

use super::{Store, Worker};
use crate::config::{self, Service, ServiceKind, Settings, SshConfig, X509Files};
use crate::credentials;
use crate::daemon::machine::{Part, Validity};
use crate::destination::{Change, Destination};
use crate::identity::Identity;
use crate::log::Log;
use crate::storage::Storage;

impl Worker {
    /// How long the certificate holds that a service has from before, if its files are what was written for it as it is
    /// configured now.
    pub(super) fn found(&self, service: &Service, destination: &Destination) -> Option<Validity> {
        if !destination.has_set() {
            return None;
        }
        let intact = self.expect(service, destination).and_then(|()| destination.check());
        if let Err(change) = intact {
            let fields: [(&str, &dyn Display); 2] = [("name", &service.name), ("reason", &change)];
            self.log.warn("what is in place is not used", &fields);
            return None;
        }
        let set = destination.read().ok().flatten()?;
        credentials::validity_of_pem(set.content(certificate_name(service))?)
    }

    /// Tells the destination what was written to it, as far as that is known.
    fn expect(&self, service: &Service, destination: &Destination) -> Result<(), Change> {
        let Store::Directory(storage) = &self.store else { return Ok(()) };
        let Some(issued) = storage.issued(&service.name) else { return Ok(()) };
        if issued.asked != asked(service, &self.settings) {
            return Err(Change::new("the configuration of the service was changed"));
        }
        destination
            .expect(issued.written.candidates())
            .map_err(|failure| Change::new(failure.message))
    }

    /// Why the configuration asks for another identity than the one there is; `None` if it does not.
    pub(crate) fn departure(&self) -> Option<String> {
        let token = self.settings.token.read().ok();
        let identity = self.identity.as_ref()?;
        identity.departure(token.as_deref(), self.client.pins(), self.settings.tpm.ek)
    }

    /// Whether the identity was asked for with another lifetime.
    pub(crate) fn asks_for_another_ttl(&self) -> bool {
        let asked = self.identity.as_ref().and_then(|identity| identity.ttl_seconds);
        asked.is_some_and(|asked| asked != self.settings.lifetime.ttl.as_secs())
    }

    /// Compares what was put in place with what is there now.
    pub(crate) fn check(&self, part: Part) -> Result<(), Change> {
        match (part, &self.store) {
            (Part::Identity, Store::Directory(storage)) => storage.check(),
            (Part::Identity, Store::Memory) => Ok(()),
            (Part::Service(index), _) => {
                self.destinations.get(index).map_or(Ok(()), |destination| destination.check())
            }
        }
    }
}

/// Writes the files of the identity again if they are not what was written: they are copies of what is believed.
pub(super) fn restore(storage: &Storage, identity: &Identity, log: Log) {
    let Err(change) = storage.check() else { return };
    match storage.store(identity) {
        Ok(_) => log.warn("the stored files were changed: written again", &[("reason", &change)]),
        Err(failure) => log.warn(
            "the stored files were changed",
            &[("reason", &change), ("cause", &failure.message), ("advice", &failure.advice)],
        ),
    }
}

/// A join that failed while there is an identity still.
pub(super) fn superseded(failure: Failure, departure: &str) -> Failure {
    Failure { message: format!("{departure}; joining again: {}", failure.message), ..failure }
}

/// What is wrong with an identity that is valid, and not the one that is asked for.
pub(super) fn kept(departure: &str) -> Failure {
    let advice = "the agent joins again; if that is refused, see why above, or go back to the configuration before";
    Failure::new(Exit::Config, departure, advice)
}

/// What a service is issued, and how it is delivered: if any of it changes, it is issued again.
pub(super) fn asked(service: &Service, settings: &Settings) -> String {
    let kind = match service.kind {
        ServiceKind::X509 { files: X509Files::Svid } => "x509 svid",
        ServiceKind::X509 { files: X509Files::Tls } => "x509 tls",
        ServiceKind::Identity { ssh_config: SshConfig::On } => "identity ssh_config",
        ServiceKind::Identity { ssh_config: SshConfig::Off } => "identity",
    };
    let host = settings.authorities.first().map(config::Address::host).unwrap_or_default();
    let ttl = service.lifetime.ttl.as_secs();
    let place = match &service.destination {
        config::Destination::Directory { directory, readers } => {
            format!("{:?} acls={:?} readers={readers:?}", directory.path, directory.acls)
        }
        config::Destination::Memory => "memory".to_owned(),
    };
    format!("{kind} ttl={ttl}s authority={host:?} in {place}")
}

/// The file of a service whose dates are the service's.
const fn certificate_name(service: &Service) -> &'static str {
    match service.kind {
        ServiceKind::X509 { files: X509Files::Svid } => "svid.pem",
        ServiceKind::X509 { files: X509Files::Tls } => "tls.crt",
        ServiceKind::Identity { .. } => "tlscert",
    }
}
