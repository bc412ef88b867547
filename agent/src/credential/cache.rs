//! What services were issued. The daemon publishes it; each sink of a service watches for the next.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Credentials;
use crate::config::ServiceName;
use crate::keys::Key;

/// The credentials of a service and the key that they are for.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The key.
    pub key: Arc<dyn Key>,
    /// The certificates, verified.
    pub credentials: Credentials,
    /// The cluster's name.
    pub cluster: String,
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
