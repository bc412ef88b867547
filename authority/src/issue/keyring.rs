//! The CAs of a cluster over time. Peers trust each CA before it becomes active, and after it was retired. The keys that sign
//! JWTs are among them.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{IssueError, JwtKey, SshCa, TrustChain, X509Ca};

/// What a CA is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaType {
    /// X.509 certificates.
    X509,
    /// SSH certificates of users.
    Ssh,
    /// SSH certificates of hosts.
    SshHost,
    /// JWTs.
    Jwt,
}

impl CaType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::X509, Self::Ssh, Self::SshHost, Self::Jwt];

    /// Its name on the command line and in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::Ssh => "ssh",
            Self::SshHost => "ssh_host",
            Self::Jwt => "jwt",
        }
    }
}

/// The state of a CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaState {
    /// Peers trust it; it signs nothing yet.
    Next,
    /// It signs.
    Active,
    /// It signs nothing any more. Peers trust it until its certificates have expired.
    Retired,
}

impl CaState {
    /// Its name in records and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }
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

    /// CAs in the states that were stored; `None` unless exactly one of them is active.
    pub fn stored(all: impl IntoIterator<Item = (CaState, Dated<A>)>) -> Option<Self> {
        let (mut active, mut next, mut retired) = (None, None, Vec::new());
        for (state, one) in all {
            let place = match state {
                CaState::Active => &mut active,
                CaState::Next => &mut next,
                CaState::Retired => {
                    retired.push(one);
                    continue;
                }
            };
            if place.replace(one).is_some() {
                return None;
            }
        }
        Some(Self { active: active?, next, retired })
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

    /// A new CA signs at once. A next one is dropped: whoever has one private key of an authority may have them all.
    #[must_use]
    pub fn replaced(self, ca: A, now: OffsetDateTime) -> Self {
        self.with_next(ca, now).activated(now)
    }

    /// Without these of the retired.
    #[must_use]
    pub fn without_retired(mut self, is_gone: impl Fn(&A) -> bool) -> Self {
        self.retired.retain(|one| !is_gone(&one.ca));
        self
    }

    /// Without the next CA.
    #[must_use]
    pub fn without_next(self) -> Self {
        Self { next: None, ..self }
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

    /// The CA that is to sign later.
    pub fn next(&self) -> Option<&Dated<A>> {
        self.next.as_ref()
    }

    /// Those that sign nothing any more.
    pub fn retired(&self) -> &[Dated<A>] {
        &self.retired
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

impl Ring<SshCa> {
    /// What peers are to trust, one authorized_keys line each.
    pub fn public_keys(&self) -> Vec<String> {
        self.trusted().map(|ca| ca.public_key().to_owned()).collect()
    }
}

/// The CAs of a cluster at one moment.
#[derive(Debug, Clone)]
pub struct Keys {
    /// For X.509.
    pub x509: Ring<X509Ca>,
    /// For SSH certificates of users.
    pub ssh: Ring<SshCa>,
    /// For SSH certificates of hosts.
    pub ssh_host: Ring<SshCa>,
    /// For JWTs.
    pub jwt: Ring<JwtKey>,
    /// Grows with each change: readers of the trust bundle tell an older one by it.
    pub sequence: u64,
    /// How peers get from the CAs of the past to these.
    pub chain: TrustChain,
    /// Which of them others may have the private keys of.
    pub tainted: Tainted,
}

/// The CAs whose private keys may be known to others. They sign nothing, and what they have signed is renewed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tainted {
    /// Their keys.
    pub key_ids: Vec<String>,
    /// The document of the trust chain that came with the last of them; 0 if there was none. What was issued before it is renewed.
    pub version: u64,
}

impl Tainted {
    /// Whether this key is one of them.
    pub fn has(&self, key_id: &str) -> bool {
        self.key_ids.iter().any(|tainted| tainted == key_id)
    }
}

impl Keys {
    /// The SSH CAs of users and then those of hosts, as Teleport's messages have them: in one list.
    pub fn ssh_trusted(&self) -> impl Iterator<Item = &Arc<SshCa>> {
        self.ssh.trusted().chain(self.ssh_host.trusted())
    }

    /// The IDs of all keys.
    fn key_ids(&self) -> Vec<&str> {
        let x509 = self.x509.trusted().map(|ca| ca.key_id());
        let ssh = self.ssh_trusted().map(|ca| ca.key_id());
        let jwt = self.jwt.trusted().map(|key| key.public().key_id());
        x509.chain(ssh).chain(jwt).collect()
    }

    /// The same, with the sequence number and the chain that come after those of the CAs before.
    ///
    /// # Errors
    /// The chain cannot be extended.
    pub fn following(self, before: &Self) -> Result<Self, IssueError> {
        let sequence = before.sequence.saturating_add(1);
        let trusted = self.key_ids();
        let mut tainted = self.tainted.clone();
        tainted.key_ids.retain(|tainted| trusted.contains(&tainted.as_str()));
        let is_new = |key_id: &String| !before.tainted.key_ids.contains(key_id);
        let is_tainted = tainted.key_ids.iter().any(is_new);
        let is_revoked =
            |ca: &Arc<X509Ca>| before.tainted.has(ca.key_id()) && !trusted.contains(&ca.key_id());
        let chain = match before.x509.trusted().any(is_revoked) {
            // Who has its key could lead hosts anywhere.
            true => before.chain.begun_again(&self)?,
            false => before.chain.extended(before, &self, is_tainted)?,
        };
        if is_tainted {
            tainted.version = chain.version();
        }
        drop(trusted);
        Ok(Self { sequence, chain, tainted, ..self })
    }

    /// A digest of all that peers are to trust, by which a start notices a change.
    pub fn fingerprint(&self) -> Result<[u8; 32], IssueError> {
        let mut trusted = Vec::new();
        for ca in self.x509.trusted() {
            trusted.push(ca.certificate().to_vec());
        }
        for ca in self.ssh_trusted() {
            trusted.push(ca.public_key().as_bytes().to_vec());
        }
        for key in self.jwt.trusted() {
            trusted.push(key.public().to_spki()?);
        }
        trusted.sort();
        let mut digest = Sha256::new();
        for one in trusted {
            digest.update(u64::try_from(one.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(one);
        }
        Ok(digest.finalize().into())
    }
}

/// The CAs of a cluster. They are asked for at each use, because they change while the authority
/// runs.
pub struct Keyring {
    keys: RwLock<Arc<Keys>>,
}

impl Keyring {
    /// A keyring with these.
    pub fn new(keys: Keys) -> Self {
        Self { keys: RwLock::new(Arc::new(keys)) }
    }

    /// The present CAs. The same `Arc` is returned until they change.
    pub fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Uses these CAs, as they are stored, from now on.
    pub fn load(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// Uses these CAs from now on, in memory only. The sequence number and the chain follow the present ones, whatever these have.
    ///
    /// # Errors
    /// The chain cannot be extended; the old ones stay in use.
    pub fn replace(&self, keys: Keys) -> Result<(), IssueError> {
        let keys = keys.following(&self.keys())?;
        self.load(keys);
        Ok(())
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.keys()).finish()
    }
}
