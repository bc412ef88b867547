//! The CAs of a cluster over time. Peers trust each CA before it becomes active, and after it was retired.

use std::sync::{Arc, PoisonError, RwLock};

use time::OffsetDateTime;

use super::{SshCa, X509Ca};

/// The state of a CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaState {
    /// Peers trust it; it signs nothing yet.
    Next,
    /// It signs.
    Active,
    /// It signs nothing any more. Peers trust it until its certificates have expired.
    Retired,
}

/// A CA, and since when it is in its state.
#[derive(Debug)]
pub struct Dated<A> {
    /// The CA.
    pub ca: Arc<A>,
    /// Since when.
    pub since: OffsetDateTime,
}

// Derived, it would demand that CAs can be cloned.
impl<A> Clone for Dated<A> {
    fn clone(&self) -> Self {
        Self { ca: Arc::clone(&self.ca), since: self.since }
    }
}

/// The CAs of one kind. Exactly one of them signs.
#[derive(Debug)]
pub struct Ring<A> {
    active: Dated<A>,
    next: Option<Dated<A>>,
    retired: Vec<Dated<A>>,
}

impl<A> Clone for Ring<A> {
    fn clone(&self) -> Self {
        let Self { active, next, retired } = self;
        Self { active: active.clone(), next: next.clone(), retired: retired.clone() }
    }
}

impl<A> Ring<A> {
    /// A CA alone, which signs.
    pub fn new(ca: A, since: OffsetDateTime) -> Self {
        let active = Dated { ca: Arc::new(ca), since };
        Self { active, next: None, retired: Vec::new() }
    }

    /// With a CA that is to sign later, in place of another one of that kind.
    #[must_use]
    pub fn with_next(self, ca: A, since: OffsetDateTime) -> Self {
        Self { next: Some(Dated { ca: Arc::new(ca), since }), ..self }
    }

    /// The next CA signs from now on. Without a next one nothing changes.
    #[must_use]
    pub fn activated(self, now: OffsetDateTime) -> Self {
        let Self { active, next, mut retired } = self;
        let Some(next) = next else { return Self { active, next, retired } };
        retired.push(Dated { since: now, ..active });
        Self { active: Dated { since: now, ..next }, next: None, retired }
    }

    /// Without those that have been retired since before then.
    #[must_use]
    pub fn without_retired_before(mut self, then: OffsetDateTime) -> Self {
        self.retired.retain(|one| one.since >= then);
        self
    }

    /// The CA that signs.
    pub fn active(&self) -> &Arc<A> {
        &self.active.ca
    }

    /// All with their states, the one that signs first: a peer that takes one only takes that.
    pub fn all(&self) -> impl Iterator<Item = (CaState, &Dated<A>)> {
        let next = self.next.iter().map(|one| (CaState::Next, one));
        let retired = self.retired.iter().map(|one| (CaState::Retired, one));
        [(CaState::Active, &self.active)].into_iter().chain(next).chain(retired)
    }

    /// What peers are to trust.
    pub fn trusted(&self) -> impl Iterator<Item = &Arc<A>> {
        self.all().map(|(_, one)| &one.ca)
    }
}

/// The CAs of a cluster at one moment.
#[derive(Debug, Clone)]
pub struct Keys {
    /// For X.509.
    pub x509: Ring<X509Ca>,
    /// For SSH.
    pub ssh: Ring<SshCa>,
}

impl Keys {
    /// A number that grows with each change of state: the time of the latest, in seconds since 1970.
    pub fn sequence(&self) -> u64 {
        let x509 = self.x509.all().map(|(_, one)| one.since);
        let ssh = self.ssh.all().map(|(_, one)| one.since);
        let latest = x509.chain(ssh).max().map_or(0, OffsetDateTime::unix_timestamp);
        latest.try_into().unwrap_or_default()
    }
}

/// The CAs of a cluster. They are asked for at each use, because they change while the authority
/// runs.
#[derive(Debug)]
pub struct Keyring(RwLock<Arc<Keys>>);

impl Keyring {
    /// A keyring with these.
    pub fn new(keys: Keys) -> Self {
        Self(RwLock::new(Arc::new(keys)))
    }

    /// The present CAs. The same `Arc` is returned until they change.
    pub fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the CAs. Certificates issued from now on are signed by the new ones.
    pub fn replace(&self, keys: Keys) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }
}
