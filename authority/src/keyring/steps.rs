//! The CAs as operators see them, and the steps that replace them.

use std::sync::Arc;

use time::OffsetDateTime;

use super::record::{CaRecord, Record};
use super::rotation::{self, Caution, Situation, Step, after};
use super::{KeyringError, StoredKeyring, about_ca, damaged};
use crate::audit::{Author, KeyringSubject};
use crate::issue::{
    CaKey, CaState, CaType, ClusterName, JwtAlgorithm, JwtKey, Keys, PUBLISHED_BEFORE_USE, Ring,
    SshCa, X509Ca,
};
use crate::resource::Timestamp;

/// A CA as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct CaOverview {
    /// What it is for.
    pub ca_type: CaType,
    /// Its state.
    pub state: CaState,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// The end of its certificate, if it has one.
    pub not_after: Option<Timestamp>,
    /// The ID of its key.
    pub key_id: String,
    /// The certificate or SubjectPublicKeyInfo, DER in base64, or the line of authorized_keys.
    pub public: String,
    /// The revision of the keyring in which the CAs changed last.
    pub revision: u64,
    /// The first document of the trust chain that has it; 0 if it is in none, as keys for JWTs.
    pub version: u64,
    /// Whether the next steps follow by themselves.
    pub is_rotating: bool,
    /// The document of the trust chain before which everything is to be renewed, if it is tainted.
    pub tainted: Option<u64>,
}

impl StoredKeyring {
    /// Takes a step with the CAs of a type, and returns the ID of the key that it is about. With `rotates` the steps after it are due by
    /// themselves.
    ///
    /// # Errors
    /// The step is not possible now; the store fails.
    pub async fn step(
        &self,
        ca_type: CaType,
        step: Step,
        caution: Caution,
        rotates: bool,
        author: Author,
    ) -> Result<String, KeyringError> {
        let (algorithm, now) = (self.algorithm, author.time().0);
        let cluster: ClusterName = self.cluster().await.parse().map_err(damaged)?;
        let decide = move |keys: &Keys| {
            let maker = Maker { cluster: &cluster, algorithm, now };
            let (next, key_id) = maker.after(step, ca_type, keys, caution)?;
            Ok(Some((next, key_id)))
        };
        let amend = move |record: &mut Record| {
            let is_last = !matches!(step, Step::Prepare | Step::Activate);
            record.rotating.retain(|one| *one != ca_type || (rotates && !is_last));
            if rotates && !is_last && !record.rotating.contains(&ca_type) {
                record.rotating.push(ca_type);
            }
        };
        let events = |key_id: &String| {
            let forced = caution == Caution::Force;
            let subject = KeyringSubject { forced, ..about_ca(ca_type, key_id.clone()) };
            vec![author.keyring_event(step.deed(), subject)]
        };
        Ok(self.change(decide, amend, events).await?.unwrap_or_default())
    }

    async fn cluster(&self) -> String {
        self.loaded.lock().await.record.cluster.clone()
    }

    /// All CAs, the one of each type that signs first.
    pub async fn cas(&self) -> Vec<CaOverview> {
        let loaded = self.loaded.lock().await;
        let keys = self.keyring.keys();
        let end = |key_id: &str| {
            let ca = keys.x509.trusted().find(|ca| ca.key_id() == key_id)?;
            Some(Timestamp(ca.not_after()))
        };
        let overview = |ca: &CaRecord| CaOverview {
            ca_type: ca.ca_type,
            state: ca.state,
            since: ca.since,
            not_after: end(&ca.key_id),
            public: ca.public.clone(),
            key_id: ca.key_id.clone(),
            revision: loaded.record.changed,
            version: keys.chain.first_with(ca.ca_type, &ca.public),
            is_rotating: loaded.record.rotating.contains(&ca.ca_type),
            tainted: keys.tainted.has(&ca.key_id).then_some(keys.tainted.version),
        };
        loaded.record.cas.iter().map(overview).collect()
    }

    /// The steps that are due without an operator, and whether each is too urgent to wait. The keys for JWTs have a schedule of their own,
    /// but for a rotation.
    pub async fn due(&self, now: OffsetDateTime) -> Vec<(CaType, Step, bool)> {
        let rotating = self.loaded.lock().await.record.rotating.clone();
        let keys = self.keyring.keys();
        let mut due = Vec::new();
        for ca_type in CaType::ALL {
            let situation = situation(&keys, ca_type, rotating.contains(&ca_type));
            if let Some(step) = rotation::due(situation, now) {
                let is_urgent = step == Step::Activate && rotation::is_urgent(situation, now);
                due.push((ca_type, step, is_urgent));
            }
        }
        due
    }
}

/// What decides about the next step of the CAs of a type. Only certificates of X.509 CAs end; the others follow an operator.
fn situation(keys: &Keys, ca_type: CaType, is_rotating: bool) -> Situation {
    fn of<A>(
        ring: &Ring<A>,
        validity: Option<(OffsetDateTime, OffsetDateTime)>,
        is_rotating: bool,
    ) -> Situation {
        let next = ring.next().map(|one| one.since);
        let retired = ring.retired().iter().map(|one| one.since).max();
        Situation { validity, next, retired, is_rotating }
    }
    let ca = keys.x509.active();
    match ca_type {
        CaType::X509 => of(&keys.x509, Some((ca.not_before(), ca.not_after())), is_rotating),
        CaType::Ssh => of(&keys.ssh, None, is_rotating),
        CaType::SshHost => of(&keys.ssh_host, None, is_rotating),
        CaType::Jwt => of(&keys.jwt, None, is_rotating),
    }
}

/// Makes new CAs.
struct Maker<'a> {
    cluster: &'a ClusterName,
    algorithm: JwtAlgorithm,
    now: OffsetDateTime,
}

impl Maker<'_> {
    /// The CAs after a step, and the ID of the key that it is about.
    fn after(
        &self,
        step: Step,
        ca_type: CaType,
        keys: &Keys,
        caution: Caution,
    ) -> Result<(Keys, String), KeyringError> {
        let (cluster, now) = (self.cluster, self.now);
        if ca_type == CaType::Jwt && step == Step::Activate && caution == Caution::Wait {
            check_published(&keys.jwt, now)?;
        }
        let is_tainted = |key_id: &str| keys.tainted.has(key_id);
        let before = keys.clone();
        let (mut next, key_id) = match ca_type {
            CaType::X509 => {
                let make = || X509Ca::create(cluster, CaKey::generate()?, now);
                let key_id = |ca: &X509Ca| ca.key_id().to_owned();
                let is_tainted = |ca: &X509Ca| is_tainted(ca.key_id());
                let ring = after(step, &keys.x509, make, is_tainted, caution, now)?;
                let ca = about(step, &keys.x509, &ring, is_tainted);
                (Keys { x509: ring, ..before }, ca.as_deref().map(key_id))
            }
            CaType::Ssh => {
                let make = || SshCa::new(cluster, &CaKey::generate()?);
                let is_tainted = |ca: &SshCa| is_tainted(ca.key_id());
                let ring = after(step, &keys.ssh, make, is_tainted, caution, now)?;
                let ca = about(step, &keys.ssh, &ring, is_tainted);
                (Keys { ssh: ring, ..before }, ca.map(|ca| ca.key_id().to_owned()))
            }
            CaType::SshHost => {
                let make = || SshCa::of_hosts(cluster, &CaKey::generate()?);
                let is_tainted = |ca: &SshCa| is_tainted(ca.key_id());
                let ring = after(step, &keys.ssh_host, make, is_tainted, caution, now)?;
                let ca = about(step, &keys.ssh_host, &ring, is_tainted);
                (Keys { ssh_host: ring, ..before }, ca.map(|ca| ca.key_id().to_owned()))
            }
            CaType::Jwt => {
                let make = || JwtKey::generate(self.algorithm);
                let is_tainted = |key: &JwtKey| is_tainted(key.public().key_id());
                let ring = after(step, &keys.jwt, make, is_tainted, caution, now)?;
                let key = about(step, &keys.jwt, &ring, is_tainted);
                (Keys { jwt: ring, ..before }, key.map(|key| key.public().key_id().to_owned()))
            }
        };
        let key_id = key_id.unwrap_or_default();
        if step == Step::Taint {
            next.tainted.key_ids.push(key_id.clone());
        }
        Ok((next, key_id))
    }
}

/// The CA that a step is about.
fn about<A>(
    step: Step,
    before: &Ring<A>,
    after: &Ring<A>,
    is_tainted: impl Fn(&A) -> bool,
) -> Option<Arc<A>> {
    let mut retired = before.retired().iter().map(|one| Arc::clone(&one.ca));
    match step {
        Step::Prepare => after.next().map(|one| Arc::clone(&one.ca)),
        Step::Activate => Some(Arc::clone(after.active())),
        Step::Retire => retired.next(),
        Step::Taint => Some(Arc::clone(before.active())),
        Step::Revoke => retired.find(|ca| is_tainted(ca)),
    }
}

/// Who verifies JWTs polls for the keys.
fn check_published(ring: &Ring<JwtKey>, now: OffsetDateTime) -> Result<(), KeyringError> {
    match ring.next() {
        Some(next) if now - next.since < PUBLISHED_BEFORE_USE => {
            let until = Timestamp(next.since + PUBLISHED_BEFORE_USE);
            let why = format!("those who verify JWTs may not know the next key before {until}");
            Err(KeyringError::Refused(why))
        }
        _ => Ok(()),
    }
}
