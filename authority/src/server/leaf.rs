//! The certificates of the server: that of a public name for clients that ask for the name, for others the authority's
//! own, which is renewed while it runs. The server of the SPIFFE bundle has one of its own in the same way.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use host::clock::Clock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use tracing::{error, info};

use crate::issue::{ClusterName, ServerLeaf, X509Ca};
use crate::resource::Timestamp;
use crate::service::Authority;

/// Presents each client a certificate in the first half of its lifetime.
pub(super) struct Leaf {
    authority: Arc<Authority>,
    server: Server,
    clock: Clock,
    current: Mutex<Current>,
}

/// The server that a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    /// That of hosts, which has public names as well.
    Hosts,
    /// That of the SPIFFE bundle, by the profile https_spiffe.
    Bundle,
}

/// How long to wait after an attempt to issue. An expired CA cannot issue a fresh certificate, so without the wait each
/// ClientHello would cost a key generation and a signature.
const RETRY_INTERVAL: time::Duration = time::Duration::minutes(1);

struct Current {
    /// Who signed it.
    ca: Arc<X509Ca>,
    key: Arc<CertifiedKey>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    /// When this one, or one in its place, was last asked for, and from which CA.
    tried: (OffsetDateTime, Arc<X509Ca>),
}

impl Leaf {
    /// The certificate of this authority; the first one is made at once.
    pub(super) fn new(
        authority: Arc<Authority>,
        server: Server,
    ) -> Result<Arc<Self>, rustls::Error> {
        let clock = authority.clock.clone();
        let issuer = &authority.issuer;
        let first = issue(server, issuer.cluster(), issuer.x509(), clock.now())?;
        Ok(Arc::new(Self { authority, server, clock, current: Mutex::new(first) }))
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let now = self.clock.now();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let ca = self.authority.issuer.x509();
        // A retired CA will soon not be trusted any more.
        let is_good = Arc::ptr_eq(&current.ca, &ca) && current.is_fresh(now);
        if !is_good && !current.is_tried(&ca, now) {
            current.tried = (now, Arc::clone(&ca));
            match issue(self.server, self.authority.issuer.cluster(), ca, now) {
                Ok(next) => *current = next,
                Err(cause) => error!(%cause, "cannot issue a new server certificate"),
            }
        }
        Arc::clone(&current.key)
    }
}

impl Current {
    /// Whether it is in the first half of its lifetime. After the clock was set back it is not valid yet, and is replaced too.
    fn is_fresh(&self, now: OffsetDateTime) -> bool {
        let half = self.not_before + (self.not_after - self.not_before) / 2;
        (self.not_before..half).contains(&now)
    }

    /// Whether this CA was tried just now, by a clock that may have been set back since.
    fn is_tried(&self, ca: &Arc<X509Ca>, now: OffsetDateTime) -> bool {
        let (tried, by) = &self.tried;
        Arc::ptr_eq(by, ca) && (now - *tried).abs() < RETRY_INTERVAL
    }
}

fn issue(
    server: Server,
    cluster: &ClusterName,
    ca: Arc<X509Ca>,
    now: OffsetDateTime,
) -> Result<Current, rustls::Error> {
    let leaf = match server {
        Server::Hosts => ca.server(cluster, now),
        Server::Bundle => ca.bundle_server(cluster, now),
    };
    let ServerLeaf { chain, key, not_before, not_after } =
        leaf.map_err(|cause| rustls::Error::General(cause.to_string()))?;
    let key = tls::software_key(key.into())?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match()?;
    info!(?server, expires = %Timestamp(not_after), "issued a new server certificate");
    let tried = (now, Arc::clone(&ca));
    Ok(Current { ca, key: Arc::new(certified), not_before, not_after, tried })
}

impl ResolvesServerCert for Leaf {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().filter(|_| self.server == Server::Hosts);
        let public = name.and_then(|name| self.authority.public_names.certificate(name));
        Some(public.unwrap_or_else(|| self.current()))
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Leaf")
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::assemble::{Parts, assemble};
    use crate::config::{Settings, Start};
    use crate::issue::{CaKey, Keys};

    /// A leaf of a new authority, by a clock that is this many seconds after its start.
    async fn leaf(dir: &Path) -> (Arc<Leaf>, OffsetDateTime, Arc<AtomicI64>) {
        let start = Clock::system().now();
        let seconds = Arc::new(AtomicI64::new(0));
        let clock = {
            let seconds = Arc::clone(&seconds);
            Clock::new(move || start + time::Duration::seconds(seconds.load(Ordering::SeqCst)))
        };
        let settings = Settings {
            data_dir: dir.join("data"),
            listen: "127.0.0.1:0".parse().unwrap(),
            cluster_name: Some("a".parse().unwrap()),
            ..Settings::new(&Start::default()).unwrap()
        };
        let assembled = assemble(settings, Parts { clock, ..Parts::system() }).await.unwrap();
        (Leaf::new(assembled.authority, Server::Hosts).unwrap(), start, seconds)
    }

    #[tokio::test]
    async fn the_certificate_is_renewed_in_time_and_after_the_clock_was_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let (leaf, start, seconds) = leaf(dir.path()).await;
        let at = |hour: i64| {
            seconds.store(hour * 3600, Ordering::SeqCst);
            let key = leaf.current();
            assert_eq!(key.cert.len(), 2, "leaf and authority");
            let now = start + time::Duration::hours(hour);
            let held = leaf.current.lock().unwrap();
            (key.cert[0].clone(), held.not_before <= now && now < held.not_after)
        };
        let first = at(0);
        assert_eq!(at(11), first);
        let mut before = first;
        for hour in [12, 30, 1000, 24 * 365 * 5, -3] {
            let next = at(hour);
            assert!(next.1 && next != before, "hour {hour}");
            before = next;
        }
        // At the very end of the authority itself there is nothing to renew for.
        assert!(!at(24 * 3660).1);
    }

    #[tokio::test]
    async fn after_the_end_of_the_authority_one_certificate_is_made_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let (leaf, _, seconds) = leaf(dir.path()).await;
        let end = 24 * 3660 * 3600;
        let at = |second: i64| {
            seconds.store(end + second, Ordering::SeqCst);
            leaf.current().cert[0].clone()
        };
        let first = at(0);
        for second in [0, 1, 30, 59, -59] {
            assert_eq!(at(second), first, "second {second}");
        }
        let next = at(60);
        assert_ne!(next, first);
        assert_eq!(at(119), next);
        assert_ne!(at(-3600), next, "the clock was set back");
    }

    #[tokio::test]
    async fn certificate_is_from_a_new_ca_as_soon_as_it_signs() {
        let dir = tempfile::tempdir().unwrap();
        let (leaf, now, _) = leaf(dir.path()).await;
        let issuer = &leaf.authority.issuer;
        let next = X509Ca::create(issuer.cluster(), CaKey::generate().unwrap(), now).unwrap();
        let keys = Keys::clone(&issuer.keyring().keys());
        let x509 = keys.x509.with_next(next, now).activated(now);
        issuer.keyring().replace(Keys { x509, ..keys }).unwrap();
        assert_eq!(leaf.current().cert[1], *issuer.x509().certificate());
        assert_eq!(leaf.current().cert[0], leaf.current().cert[0]);
    }
}
