//! Session tickets, RFC 8446 section 4.6.1. A client that resumes nothing needs none, but rustls derives a key for each that
//! the server sends, and has no limit on their number.

use std::fmt;
use std::sync::Arc;

use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls12Resumption,
    Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, NamedGroup};

/// The same configuration, which calls `on_ticket` for each session ticket that the server sends. Nothing is resumed.
#[must_use]
pub fn count_tickets(
    config: &ClientConfig,
    on_ticket: impl Fn() + Send + Sync + 'static,
) -> Arc<ClientConfig> {
    let mut config = config.clone();
    let counter = Arc::new(Counter(Box::new(on_ticket)));
    config.resumption = Resumption::store(counter).tls12_resumption(Tls12Resumption::Disabled);
    Arc::new(config)
}

/// A store that stores nothing.
struct Counter(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counter")
    }
}

impl ClientSessionStore for Counter {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        (self.0)();
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}
