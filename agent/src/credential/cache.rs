//! What services were issued. The daemon publishes it; each sink of a service watches for the next.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Credentials;
use super::svid::{Bundle, JwtSvid, X509Svid};
use super::validity::Validity;
use crate::config::ServiceName;
use crate::keys::Key;

/// What a service was issued, verified.
#[derive(Clone, Debug)]
pub enum Issued {
    /// Certificates.
    Certificates {
        /// The key that they are for.
        key: Arc<dyn Key>,
        /// The certificates.
        certificates: Certificates,
        /// The cluster's name.
        cluster: String,
    },
    /// A JWT.
    Jwt(JwtSvid),
}

/// Certificates for the key of a service.
#[derive(Clone, Debug)]
pub enum Certificates {
    /// Those of the bot itself, X.509 and SSH.
    Bot(Credentials),
    /// The X.509-SVID of a workload identity, and what peers are verified with.
    Workload(X509Svid, Bundle),
}

impl Certificates {
    /// From when to when they are valid.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        match self {
            Self::Bot(credentials) => credentials.validity,
            Self::Workload(svid, _) => svid.validity,
        }
    }

    /// X.509, leaf first, DER.
    #[must_use]
    pub fn x509(&self) -> &[Vec<u8>] {
        match self {
            Self::Bot(credentials) => &credentials.certificates,
            Self::Workload(svid, _) => &svid.certificates,
        }
    }

    /// The X.509 CAs that peers are verified with, DER.
    #[must_use]
    pub fn x509_cas(&self) -> &[Vec<u8>] {
        match self {
            Self::Bot(credentials) => credentials.bundle.certificates(),
            Self::Workload(_, bundle) => &bundle.x509,
        }
    }
}

/// The newest credentials of one service; `None` until the daemon has been issued some.
pub type Watch = watch::Receiver<Option<Arc<Issued>>>;

type Publisher = watch::Sender<Option<Arc<Issued>>>;

/// The newest credentials of each service.
#[derive(Clone, Debug, Default)]
pub struct Cache(Arc<Mutex<HashMap<ServiceName, Publisher>>>);

impl Cache {
    /// Replaces the credentials and wakes their watchers.
    pub fn publish(&self, service: &ServiceName, issued: Issued) {
        self.with(service, |sender| sender.send_replace(Some(Arc::new(issued))));
    }

    /// Watches the credentials of a service, whether there are any yet or not.
    #[must_use]
    pub fn watch(&self, service: &ServiceName) -> Watch {
        self.with(service, |sender| sender.subscribe())
    }

    /// Forgets services that are not among these. Their watches end.
    pub fn keep_only<'s>(&self, services: impl Iterator<Item = &'s ServiceName>) {
        let names: Vec<&ServiceName> = services.collect();
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        senders.retain(|name, _| names.contains(&name));
    }

    fn with<R>(&self, service: &ServiceName, run: impl FnOnce(&mut Publisher) -> R) -> R {
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        run(senders.entry(service.clone()).or_default())
    }
}
