//! What services were issued. The daemon publishes it; each sink of a service watches for the next.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Credentials;
use super::ssh_host::HostCredentials;
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
    Bot(Box<Credentials>),
    /// The X.509-SVID of a workload identity, and what peers are verified with.
    Workload(X509Svid, Bundle),
    /// That of an SSH host.
    SshHost(HostCredentials),
}

impl Certificates {
    /// From when to when they are valid.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        match self {
            Self::Bot(credentials) => credentials.validity,
            Self::Workload(svid, _) => svid.validity,
            Self::SshHost(host) => host.validity,
        }
    }

    /// X.509, leaf first, DER.
    #[must_use]
    pub fn x509(&self) -> &[Vec<u8>] {
        match self {
            Self::Bot(credentials) => &credentials.certificates,
            Self::Workload(svid, _) => &svid.certificates,
            Self::SshHost(_) => &[],
        }
    }

    /// The X.509 CAs that peers are verified with, DER.
    #[must_use]
    pub fn x509_cas(&self) -> &[Vec<u8>] {
        match self {
            Self::Bot(credentials) => credentials.bundle.certificates(),
            Self::Workload(_, bundle) => &bundle.x509,
            Self::SshHost(_) => &[],
        }
    }

    /// The SSH certificate, one line of authorized_keys.
    #[must_use]
    pub fn ssh(&self) -> Option<&str> {
        match self {
            Self::Bot(credentials) => Some(&credentials.ssh_certificate),
            Self::Workload(..) => None,
            Self::SshHost(host) => Some(&host.certificate),
        }
    }
}

/// The newest credentials of one service; `None` until the daemon has been issued some.
pub type Watch<T = Issued> = watch::Receiver<Option<Arc<T>>>;

type Publisher<T> = watch::Sender<Option<Arc<T>>>;

/// The newest credentials of each service, or what else sinks wait for.
#[derive(Debug)]
pub struct Cache<T = Issued>(Arc<Mutex<HashMap<ServiceName, Publisher<T>>>>);

impl<T> Clone for Cache<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Cache<T> {
    /// Replaces the credentials and wakes their watchers.
    pub fn publish(&self, service: &ServiceName, issued: T) {
        self.with(service, |sender| sender.send_replace(Some(Arc::new(issued))));
    }

    /// Watches the credentials of a service, whether there are any yet or not.
    #[must_use]
    pub fn watch(&self, service: &ServiceName) -> Watch<T> {
        self.with(service, |sender| sender.subscribe())
    }

    /// Forgets services that are not among these. Their watches end.
    pub fn keep_only<'s>(&self, services: impl Iterator<Item = &'s ServiceName>) {
        let names: Vec<&ServiceName> = services.collect();
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        senders.retain(|name, _| names.contains(&name));
    }

    fn with<R>(&self, service: &ServiceName, run: impl FnOnce(&mut Publisher<T>) -> R) -> R {
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        run(senders.entry(service.clone()).or_default())
    }
}
