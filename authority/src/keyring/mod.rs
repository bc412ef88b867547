//! The CAs in the store, where several authorities share them. Their private keys are wrapped for each authority, and for a recovery key.
//!
//! Every change is a compare-and-set on one record, with the wrapped keys in the same batch. So two authorities never change the CAs
//! at the same time, and whoever is admitted meanwhile gets all keys.

mod load;
mod members;
mod own;
mod record;
mod rotation;
pub mod wrap;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use p256::PublicKey;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::info;
use zeroize::Zeroizing;

use self::load::load;
pub use self::members::{AdmissionRequest, HEARTBEAT_INTERVAL, Member, MemberState};
use self::members::{HeartbeatRecord, MemberRecord, Observed, decode_key, encode_key};
pub use self::own::Own;
use self::record::{Record, RecoveryRecord};
pub use self::rotation::{Caution, RETIRED_FOR, Step};
use self::rotation::{Situation, after};
use self::wrap::{Unwrap, WrapError, wrap};
use crate::issue::{
    CaKey, CaState, CaType, ClusterName, IssueError, JwtAlgorithm, JwtKey, JwtKeyChange, Keyring,
    Keys, PUBLISHED_BEFORE_USE, Ring, SshCa, X509Ca,
};
use crate::resource::{Invalid, Name, Timestamp};
use crate::store::{Change, Pages, Store, StoreError, Table, decode, encode};

/// The slot of the recovery key. No authority has it as its ID, which is a UUID.
pub const RECOVERY: &str = "recovery";

/// What it means that there is no recovery key.
pub const NO_RECOVERY_KEY: &str = "if the data directories of all authorities are lost, the CA keys are lost; run `authority recovery create`";

/// How often a change is decided again because another one came first.
const MAX_RETRIES: usize = 5;

/// A private key, PKCS #8 PEM.
type Pem = Zeroizing<String>;

/// Called with the CAs after they have changed.
pub type OnChange = dyn Fn(&Keys) + Send + Sync;

/// The keyring of a cluster, in its store.
pub struct StoredKeyring {
    store: Arc<dyn Store>,
    own: Own,
    /// By which JWTs are to be signed.
    algorithm: JwtAlgorithm,
    keyring: Arc<Keyring>,
    on_change: Box<OnChange>,
    address: OnceLock<String>,
    /// Whether other authorities may use the store.
    is_shared: bool,
    /// The heartbeats of all authorities.
    observed: Observed,
    /// Whether another authority has removed this one.
    is_removed: AtomicBool,
    /// What [`Self::keyring`] was made of. Changes wait for each other here.
    loaded: Mutex<Loaded>,
}

/// The record, as it is stored.
struct Loaded {
    bytes: Vec<u8>,
    record: Record,
}

/// Why a keyring cannot be used or changed.
#[derive(Debug)]
pub enum KeyringError {
    /// The store failed.
    Store(StoreError),
    /// No authority has admitted this one.
    NotAdmitted,
    /// This authority was removed.
    Removed,
    /// What is in the store cannot be used.
    Damaged(String),
    /// The processor cannot sign by the algorithm of JWTs.
    Unsupported(String),
    /// It must not be done, and why.
    Refused(String),
    /// No certificate or key could be made.
    Issue(IssueError),
}

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
    /// The newest document of the trust chain.
    pub version: u64,
    /// Whether the next steps follow by themselves.
    pub is_rotating: bool,
}

/// A private key that is wrapped to the recovery key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoverySlot {
    /// What the CA is for.
    pub ca_type: CaType,
    /// Its state.
    pub state: CaState,
    /// The ID of its key.
    pub key_id: String,
    /// The private key, wrapped; `None` if it is not wrapped to the recovery key.
    pub wrapped: Option<Vec<u8>>,
}

impl StoredKeyring {
    /// The batch that stores the first CAs of a cluster, for this authority alone. It fails if there are some already.
    ///
    /// # Errors
    /// The keys cannot be encoded.
    pub fn founding(
        own: &Own,
        cluster: &str,
        keys: &Keys,
        now: OffsetDateTime,
    ) -> Result<Vec<Change>, KeyringError> {
        let record = encode(&Record::first(cluster, keys)?)?;
        let AdmissionRequest { id, name, wrapping_key } = own.request(None);
        let mut batch = vec![Change::Insert(Table::Keyring, String::new(), record)];
        for (key_id, pem) in secrets(keys)? {
            batch.push(slot(&key_id, &id, &wrapping_key, &pem)?);
        }
        batch.push(member(&id, name, &wrapping_key, now)?);
        Ok(batch)
    }

    /// Loads the CAs of the cluster in a store; `None` if there is none.
    ///
    /// # Errors
    /// This authority is not admitted, or cannot use what is stored.
    pub async fn open(
        store: Arc<dyn Store>,
        own: &Own,
        algorithm: JwtAlgorithm,
    ) -> Result<Option<Opened>, KeyringError> {
        let Some(bytes) = store.read(Table::Keyring, "").await? else { return Ok(None) };
        let record: Record = decode(Table::Keyring, "", &bytes)?;
        let keys = load(&*store, own, &record, algorithm).await?;
        Ok(Some(Opened { store, algorithm, loaded: Loaded { bytes, record }, keys }))
    }

    /// The CAs in memory, which follow those in the store.
    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    /// The ID of this authority.
    pub fn own_id(&self) -> &str {
        &self.own.id
    }

    /// Loads the CAs again if they have changed in the store.
    ///
    /// # Errors
    /// The store fails; this authority was removed. The CAs in memory stay.
    pub async fn refresh(&self) -> Result<(), KeyringError> {
        let refreshed = self.refreshed(&mut *self.loaded.lock().await).await;
        let is_removed =
            matches!(refreshed, Err(KeyringError::Removed | KeyringError::NotAdmitted));
        self.is_removed.store(is_removed, Ordering::Relaxed);
        refreshed
    }

    /// Whether other authorities may use the store.
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// Whether the last [`Self::refresh`] found that another authority has removed this one.
    pub fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Relaxed)
    }

    async fn refreshed(&self, loaded: &mut Loaded) -> Result<(), KeyringError> {
        let found = self.store.read(Table::Keyring, "").await?;
        let bytes = found.ok_or_else(|| KeyringError::Damaged("the CAs are gone".into()))?;
        if bytes == loaded.bytes {
            return Ok(());
        }
        let record: Record = decode(Table::Keyring, "", &bytes)?;
        let keys = load(&*self.store, &self.own, &record, self.algorithm).await?;
        info!(revision = record.revision, sequence = keys.sequence, "loaded the changed keyring");
        self.apply(loaded, Loaded { bytes, record }, keys);
        Ok(())
    }

    fn apply(&self, loaded: &mut Loaded, new: Loaded, keys: Keys) {
        (self.on_change)(&keys);
        self.keyring.load(keys);
        *loaded = new;
    }

    /// Replaces the CAs by what `decide` makes of them, if it makes anything; `decide` is asked again if they have changed meanwhile.
    ///
    /// # Errors
    /// `decide` fails, or its CAs cannot be stored; the old ones stay in use.
    pub async fn change<T: Send + 'static>(
        &self,
        decide: impl Fn(&Keys) -> Result<Option<(Keys, T)>, KeyringError> + Clone + Send + 'static,
    ) -> Result<Option<T>, KeyringError> {
        self.change_record(decide, |_| {}).await
    }

    /// The same, with further changes of the record.
    async fn change_record<T: Send + 'static>(
        &self,
        decide: impl Fn(&Keys) -> Result<Option<(Keys, T)>, KeyringError> + Clone + Send + 'static,
        amend: impl Fn(&mut Record),
    ) -> Result<Option<T>, KeyringError> {
        let mut loaded = self.loaded.lock().await;
        for _ in 0..=MAX_RETRIES {
            self.refreshed(&mut loaded).await?;
            let (keys, decide) = (self.keyring.keys(), decide.clone());
            let before = Arc::clone(&keys);
            // A new RSA key takes a moment.
            let decided = tokio::task::spawn_blocking(move || decide(&before)).await;
            let decided = decided.map_err(|cause| KeyringError::Damaged(cause.to_string()))??;
            let Some((next, value)) = decided else { return Ok(None) };
            let next = next.following(&keys)?;
            let mut record = loaded.record.next(&next)?;
            amend(&mut record);
            let bytes = encode(&record)?;
            let mut batch = self.slots(&loaded.record, &record, &next).await?;
            batch.push(replaced(&loaded.bytes, &bytes));
            match self.store.write(batch).await {
                Err(StoreError::Changed(..)) => {}
                written => {
                    written?;
                    // As every other authority: private keys of retired CAs are gone here too.
                    let keys = load(&*self.store, &self.own, &record, self.algorithm).await?;
                    self.apply(&mut loaded, Loaded { bytes, record }, keys);
                    return Ok(Some(value));
                }
            }
        }
        Err(busy())
    }

    /// The changes of the slots from one record to the next.
    async fn slots(
        &self,
        old: &Record,
        new: &Record,
        keys: &Keys,
    ) -> Result<Vec<Change>, KeyringError> {
        let mut batch = Vec::new();
        let recipients = self.recipients(old).await?;
        for (key_id, pem) in secrets(keys)? {
            if !old.stored_keys().any(|stored| stored == key_id) {
                for (id, recipient) in &recipients {
                    batch.push(slot(&key_id, id, recipient, &pem)?);
                }
            }
        }
        let is_gone = |key_id: &&str| !new.stored_keys().any(|stored| stored == *key_id);
        let gone = old.stored_keys().filter(is_gone);
        batch.extend(gone.map(|key_id| Change::RemoveAll(Table::KeySlots, format!("{key_id}/"))));
        Ok(batch)
    }

    /// To whom private keys are wrapped.
    async fn recipients(&self, record: &Record) -> Result<Vec<(String, PublicKey)>, KeyringError> {
        let mut recipients = Vec::new();
        for (id, member) in self.member_records().await? {
            if member.removed.is_none() {
                recipients.push((id, decode_key(&member.wrapping_key).map_err(damaged)?));
            }
        }
        if let Some(recovery) = &record.recovery {
            let key = decode_key(&recovery.public_key).map_err(damaged)?;
            recipients.push((RECOVERY.to_owned(), key));
        }
        Ok(recipients)
    }

    async fn member_records(&self) -> Result<Vec<(String, MemberRecord)>, StoreError> {
        let rows = Pages::new(&*self.store, Table::Authorities, "").all().await?;
        let read = |(id, row): (String, Vec<u8>)| {
            decode(Table::Authorities, &id, &row).map(|record| (id, record))
        };
        rows.into_iter().map(read).collect()
    }

    /// Makes the changes of the keys for JWTs that are due, and returns them.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub async fn maintain_jwt_keys(
        &self,
        now: OffsetDateTime,
    ) -> Result<Vec<JwtKeyChange>, KeyringError> {
        let algorithm = self.algorithm;
        let changed = self.change(move |keys| {
            let changes = keys.jwt.all_due(algorithm, now)?;
            let last = changes.last().map(|change| change.ring.clone());
            Ok(last.map(|jwt| (Keys { jwt, ..keys.clone() }, changes)))
        });
        Ok(changed.await?.unwrap_or_default())
    }

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
        now: OffsetDateTime,
    ) -> Result<String, KeyringError> {
        let algorithm = self.algorithm;
        let cluster: ClusterName = self.cluster().await.parse().map_err(damaged)?;
        let decide = move |keys: &Keys| {
            let maker = Maker { cluster: &cluster, algorithm, now };
            let (next, key_id) = maker.after(step, ca_type, keys, caution)?;
            Ok(Some((next, key_id)))
        };
        let amend = move |record: &mut Record| {
            let is_last = step == Step::Retire;
            record.rotating.retain(|one| *one != ca_type || (rotates && !is_last));
            if rotates && !is_last && !record.rotating.contains(&ca_type) {
                record.rotating.push(ca_type);
            }
        };
        Ok(self.change_record(decide, amend).await?.unwrap_or_default())
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
        let overview = |ca: &record::CaRecord| CaOverview {
            ca_type: ca.ca_type,
            state: ca.state,
            since: ca.since,
            not_after: end(&ca.key_id),
            public: ca.public.clone(),
            key_id: ca.key_id.clone(),
            revision: loaded.record.changed,
            version: keys.chain.version(),
            is_rotating: loaded.record.rotating.contains(&ca.ca_type),
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

    /// Lets an authority use the private keys.
    ///
    /// # Errors
    /// Another authority has the name; the store fails.
    pub async fn admit(
        &self,
        request: &AdmissionRequest,
        now: OffsetDateTime,
    ) -> Result<(), KeyringError> {
        let AdmissionRequest { id, name, wrapping_key } = request;
        self.rewrap(|found| {
            let is_taken = |(other, member): &&(String, MemberRecord)| {
                other != id && member.removed.is_none() && member.name == *name
            };
            if let Some((other, _)) = found.members.iter().find(is_taken) {
                return Err(KeyringError::Refused(format!(
                    "the authority {other} has the name {name}: repeat `authorities request` with another --name"
                )));
            }
            let mut batch = vec![member(id, name.clone(), wrapping_key, now)?];
            batch.extend(found.slots(id, wrapping_key)?);
            Ok(Rewrapped { batch, recovery: None, value: () })
        })
        .await
    }

    /// Takes the private keys from an authority, by name or ID. It has known them.
    ///
    /// # Errors
    /// There is none, or it is this one; the store fails.
    pub async fn remove(&self, which: &str, now: OffsetDateTime) -> Result<Name, KeyringError> {
        self.rewrap(|found| {
            let is_meant = |(id, member): &&(String, MemberRecord)| {
                member.removed.is_none() && (id == which || member.name.as_str() == which)
            };
            let Some((id, member)) = found.members.iter().find(is_meant) else {
                return Err(KeyringError::Refused(format!("there is no authority {which:?}")));
            };
            if *id == self.own.id {
                return Err(KeyringError::Refused(format!(
                    "{which:?} is this authority: remove it at another one"
                )));
            }
            let removed = MemberRecord { removed: Some(Timestamp(now)), ..member.clone() };
            let mut batch = vec![Change::Put(Table::Authorities, id.clone(), encode(&removed)?)];
            let slots = found.secrets.iter().map(|(key_id, _)| slot_key(key_id, id));
            batch.extend(slots.map(|key| Change::RemoveIfExists(Table::KeySlots, key)));
            Ok(Rewrapped { batch, recovery: None, value: removed.name })
        })
        .await
    }

    /// Wraps all private keys to a recovery key, in place of another one.
    ///
    /// # Errors
    /// The store fails.
    pub async fn set_recovery(
        &self,
        key: &PublicKey,
        now: OffsetDateTime,
    ) -> Result<(), KeyringError> {
        let public_key = encode_key(key).map_err(damaged)?;
        let recovery = RecoveryRecord { public_key, since: Timestamp(now) };
        self.rewrap(|found| {
            let batch = found.slots(RECOVERY, key)?;
            Ok(Rewrapped { batch, recovery: Some(recovery.clone()), value: () })
        })
        .await
    }

    /// Changes who can use the private keys, and leaves the CAs as they are. `decide` is asked again if the keyring has changed
    /// meanwhile.
    async fn rewrap<T>(
        &self,
        decide: impl Fn(&Wrapped) -> Result<Rewrapped<T>, KeyringError>,
    ) -> Result<T, KeyringError> {
        let mut loaded = self.loaded.lock().await;
        for _ in 0..=MAX_RETRIES {
            self.refreshed(&mut loaded).await?;
            let (members, secrets) =
                (self.member_records().await?, self.stored_secrets(&loaded.record).await?);
            let Rewrapped { mut batch, recovery, value } = decide(&Wrapped { members, secrets })?;
            let mut record = loaded.record.touched();
            record.recovery = recovery.or(record.recovery);
            let bytes = encode(&record)?;
            batch.push(replaced(&loaded.bytes, &bytes));
            match self.store.write(batch).await {
                Err(StoreError::Changed(..)) => {}
                written => {
                    written?;
                    *loaded = Loaded { bytes, record };
                    return Ok(value);
                }
            }
        }
        Err(busy())
    }

    /// All private keys, also those that this machine cannot use.
    async fn stored_secrets(&self, record: &Record) -> Result<Vec<(String, Pem)>, KeyringError> {
        let mut secrets = Vec::new();
        for key_id in record.stored_keys() {
            let wrapped = self.store.read(Table::KeySlots, &slot_key(key_id, &self.own.id)).await?;
            let wrapped = wrapped.ok_or(KeyringError::NotAdmitted)?;
            secrets.push((key_id.to_owned(), self.own.open(key_id, &wrapped)?));
        }
        Ok(secrets)
    }

    /// Since when there is a recovery key.
    pub async fn recovery_since(&self) -> Option<Timestamp> {
        self.loaded.lock().await.record.recovery.as_ref().map(|recovery| recovery.since)
    }

    /// What the recovery key opens.
    ///
    /// # Errors
    /// The store fails.
    pub async fn recovery_slots(&self) -> Result<Vec<RecoverySlot>, KeyringError> {
        let mut slots = Vec::new();
        let loaded = self.loaded.lock().await;
        for ca in loaded.record.cas.iter().filter(|ca| ca.has_private()) {
            let key = slot_key(&ca.key_id, RECOVERY);
            let wrapped = self.store.read(Table::KeySlots, &key).await?;
            let (ca_type, state, key_id) = (ca.ca_type, ca.state, ca.key_id.clone());
            slots.push(RecoverySlot { ca_type, state, key_id, wrapped });
        }
        Ok(slots)
    }

    /// Says that this authority is alive.
    ///
    /// # Errors
    /// The store fails.
    pub async fn beat(&self, now: OffsetDateTime) -> Result<(), KeyringError> {
        let row = encode(&self.heartbeat(now).await)?;
        let id = self.own.id.clone();
        self.store.write(vec![Change::Put(Table::Heartbeats, id, row)]).await?;
        let rows = Pages::new(&*self.store, Table::Heartbeats, "").all().await?;
        self.observed.note(rows, Instant::now());
        Ok(())
    }

    async fn heartbeat(&self, now: OffsetDateTime) -> HeartbeatRecord {
        HeartbeatRecord {
            time: Timestamp(now),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            keyring: self.revision().await,
            address: self.address.get().cloned().unwrap_or_default(),
        }
    }

    /// Says in the heartbeats where this authority listens.
    pub fn listens_on(&self, address: String) {
        // It listens once.
        let _ = self.address.set(address);
    }

    /// All authorities that are or were admitted, by name.
    ///
    /// # Errors
    /// The store fails.
    pub async fn members(&self, now: OffsetDateTime) -> Result<Vec<Member>, KeyringError> {
        let mut members = Vec::new();
        for (id, record) in self.member_records().await? {
            let is_self = id == self.own.id;
            let heartbeat = if is_self {
                Some(self.heartbeat(now).await)
            } else {
                let row = self.store.read(Table::Heartbeats, &id).await?;
                row.map(|row| decode(Table::Heartbeats, &id, &row)).transpose()?
            };
            let is_recent = heartbeat
                .as_ref()
                .is_some_and(|heartbeat: &HeartbeatRecord| heartbeat.is_recent(now));
            let is_live = is_self || self.observed.is_live(&id, is_recent, Instant::now());
            members.push(Member::new(id, record, heartbeat, is_live));
        }
        members.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        Ok(members)
    }

    /// The revision of the keyring that is loaded.
    pub async fn revision(&self) -> u64 {
        self.loaded.lock().await.record.revision
    }
}

/// A keyring that was found in a store.
pub struct Opened {
    store: Arc<dyn Store>,
    algorithm: JwtAlgorithm,
    loaded: Loaded,
    keys: Keys,
}

impl Opened {
    /// The name of the cluster.
    pub fn cluster(&self) -> &str {
        &self.loaded.record.cluster
    }

    /// The CAs.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Whether a key is or was one of a CA of this cluster.
    pub fn knows(&self, key_id: &str) -> bool {
        let Record { cas, former, .. } = &self.loaded.record;
        cas.iter().any(|ca| ca.key_id == key_id) || former.iter().any(|former| former == key_id)
    }

    /// To use from now on. Other authorities may use a store that is shared. `on_change` is called with the CAs after each change.
    pub fn ready(self, own: Own, is_shared: bool, on_change: Box<OnChange>) -> StoredKeyring {
        let Self { store, algorithm, loaded, keys } = self;
        StoredKeyring {
            store,
            own,
            algorithm,
            keyring: Arc::new(Keyring::new(keys)),
            on_change,
            address: OnceLock::new(),
            is_shared,
            observed: Observed::default(),
            is_removed: AtomicBool::new(false),
            loaded: Mutex::new(loaded),
        }
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
        let keys = keys.clone();
        let (keys, key_id) = match ca_type {
            CaType::X509 => {
                let make = || X509Ca::create(cluster, CaKey::generate()?, now);
                let ring = after(step, &keys.x509, make, caution, now)?;
                let ca = about(step, &keys.x509, &ring);
                (Keys { x509: ring, ..keys }, ca.map(|ca| ca.key_id().to_owned()))
            }
            CaType::Ssh => {
                let make = || SshCa::new(cluster, &CaKey::generate()?);
                let ring = after(step, &keys.ssh, make, caution, now)?;
                let ca = about(step, &keys.ssh, &ring);
                (Keys { ssh: ring, ..keys }, ca.map(|ca| ca.key_id().to_owned()))
            }
            CaType::SshHost => {
                let make = || SshCa::of_hosts(cluster, &CaKey::generate()?);
                let ring = after(step, &keys.ssh_host, make, caution, now)?;
                let ca = about(step, &keys.ssh_host, &ring);
                (Keys { ssh_host: ring, ..keys }, ca.map(|ca| ca.key_id().to_owned()))
            }
            CaType::Jwt => {
                let make = || JwtKey::generate(self.algorithm);
                let ring = after(step, &keys.jwt, make, caution, now)?;
                let key = about(step, &keys.jwt, &ring);
                (Keys { jwt: ring, ..keys }, key.map(|key| key.public().key_id().to_owned()))
            }
        };
        Ok((keys, key_id.unwrap_or_default()))
    }
}

/// The CA that a step is about.
fn about<A>(step: Step, before: &Ring<A>, after: &Ring<A>) -> Option<Arc<A>> {
    match step {
        Step::Prepare => after.next().map(|one| Arc::clone(&one.ca)),
        Step::Activate => Some(Arc::clone(after.active())),
        Step::Retire => before.retired().first().map(|one| Arc::clone(&one.ca)),
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

/// Who can use the private keys, and these.
struct Wrapped {
    members: Vec<(String, MemberRecord)>,
    secrets: Vec<(String, Pem)>,
}

impl Wrapped {
    /// All private keys, wrapped for one more.
    fn slots(&self, id: &str, recipient: &PublicKey) -> Result<Vec<Change>, KeyringError> {
        self.secrets.iter().map(|(key_id, pem)| slot(key_id, id, recipient, pem)).collect()
    }
}

/// A change of who can use the private keys.
struct Rewrapped<T> {
    batch: Vec<Change>,
    /// A new recovery key.
    recovery: Option<RecoveryRecord>,
    value: T,
}

impl fmt::Debug for StoredKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredKeyring").field("own", &self.own).finish_non_exhaustive()
    }
}

/// The key of a slot, and what its ciphertext is bound to.
fn slot_key(key_id: &str, slot: &str) -> String {
    format!("{key_id}/{slot}")
}

fn slot(
    key_id: &str,
    slot: &str,
    recipient: &PublicKey,
    pem: &Pem,
) -> Result<Change, KeyringError> {
    let key = slot_key(key_id, slot);
    let wrapped = wrap(recipient, key.as_bytes(), pem.as_bytes())?;
    Ok(Change::Put(Table::KeySlots, key, wrapped))
}

/// The private key in a slot, PKCS #8 PEM.
///
/// # Errors
/// It was wrapped to another key, or is of another slot.
pub fn open_slot(
    key: &dyn Unwrap,
    key_id: &str,
    slot: &str,
    wrapped: &[u8],
) -> Result<Pem, KeyringError> {
    let secret = key.unwrap(slot_key(key_id, slot).as_bytes(), wrapped)?;
    let pem = str::from_utf8(&secret).map_err(|_| KeyringError::Damaged("not PEM".into()))?;
    Ok(Zeroizing::new(pem.to_owned()))
}

/// The record of an authority that is admitted now.
fn member(
    id: &str,
    name: Name,
    wrapping_key: &PublicKey,
    now: OffsetDateTime,
) -> Result<Change, KeyringError> {
    let wrapping_key = encode_key(wrapping_key).map_err(damaged)?;
    let record = MemberRecord { name, wrapping_key, added: Timestamp(now), removed: None };
    Ok(Change::Put(Table::Authorities, id.to_owned(), encode(&record)?))
}

fn replaced(old: &[u8], new: &[u8]) -> Change {
    Change::Replace(Table::Keyring, String::new(), old.to_vec(), new.to_vec())
}

/// The private keys by ID: of all CAs that have signed nothing yet or still sign.
fn secrets(keys: &Keys) -> Result<Vec<(String, Pem)>, KeyringError> {
    let mut secrets = Vec::new();
    for (_, one) in keys.x509.all().filter(|one| one.0 != CaState::Retired) {
        secrets.push((one.ca.key_id().to_owned(), one.ca.private_pem()?));
    }
    for (_, one) in
        keys.ssh.all().chain(keys.ssh_host.all()).filter(|one| one.0 != CaState::Retired)
    {
        secrets.push((one.ca.key_id().to_owned(), one.ca.private_pem()?));
    }
    for (_, one) in keys.jwt.all().filter(|one| one.0 != CaState::Retired) {
        if let Some(pem) = one.ca.to_pem()? {
            secrets.push((one.ca.public().key_id().to_owned(), pem));
        }
    }
    Ok(secrets)
}

fn busy() -> KeyringError {
    KeyringError::Store(StoreError::Changed(Table::Keyring, String::new()))
}

fn damaged(cause: Invalid) -> KeyringError {
    KeyringError::Damaged(cause.0)
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(cause) => cause.fmt(f),
            Self::NotAdmitted => f.write_str("this authority is not admitted to the cluster"),
            Self::Removed => f.write_str("this authority was removed from the cluster"),
            Self::Damaged(what) => write!(f, "the keyring in the store is damaged: {what}"),
            Self::Unsupported(what) | Self::Refused(what) => f.write_str(what),
            Self::Issue(cause) => cause.fmt(f),
        }
    }
}

impl std::error::Error for KeyringError {}

impl From<StoreError> for KeyringError {
    fn from(cause: StoreError) -> Self {
        Self::Store(cause)
    }
}

impl From<IssueError> for KeyringError {
    fn from(cause: IssueError) -> Self {
        Self::Issue(cause)
    }
}

impl From<WrapError> for KeyringError {
    fn from(cause: WrapError) -> Self {
        Self::Damaged(cause.to_string())
    }
}

#[cfg(test)]
mod tests;
