//! The CAs in the store, where several authorities share them. Their private keys are wrapped for each authority, and for a recovery key.
//!
//! Every change is a compare-and-set on one record, with the wrapped keys in the same batch. So two authorities never change the CAs
//! at the same time, and whoever is admitted meanwhile gets all keys.

mod access;
mod backed_up;
mod load;
mod members;
mod own;
mod record;
mod rotation;
mod steps;
pub mod wrap;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use p256::PublicKey;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use tracing::{info, warn};
use zeroize::Zeroizing;

pub use self::access::RecoverySlot;
pub use self::backed_up::{BackedUp, OpenedBackup, Opener};
use self::load::load;
pub use self::members::{AdmissionRequest, HEARTBEAT_INTERVAL, Member, MemberState};
use self::members::{MemberRecord, Observed, encode_key};
pub use self::own::Own;
use self::record::Record;
pub use self::rotation::{Caution, RETIRED_FOR, Step};
pub use self::steps::CaOverview;
use self::wrap::{Unwrap, WrapError, wrap};
use crate::audit::{Author, ChangeEvent, KeyringDeed, KeyringSubject};
use crate::issue::{
    CaState, CaType, IssueError, JwtAlgorithm, JwtKeyChange, JwtKeyStep, Keyring, Keys,
};
use crate::resource::{Invalid, Name, Timestamp};
use crate::store::{Change, Store, StoreError, Table, decode, encode, logged};

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
        let event =
            Author::system(now).keyring_event(KeyringDeed::Founded, KeyringSubject::default());
        Ok(logged(&id, batch, &[event])?)
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
    /// `amend` makes further changes of the record, and `events` says what the log tells of it all.
    ///
    /// # Errors
    /// `decide` fails, or its CAs cannot be stored; the old ones stay in use.
    async fn change<T: Send + 'static>(
        &self,
        decide: impl Fn(&Keys) -> Result<Option<(Keys, T)>, KeyringError> + Clone + Send + 'static,
        amend: impl Fn(&mut Record),
        events: impl Fn(&T) -> Vec<ChangeEvent<'static>>,
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
            match self.store.write(logged(&self.own.id, batch, &events(&value))?).await {
                Err(StoreError::Changed(..)) => {}
                written => {
                    written?;
                    // As every other authority: private keys of retired CAs are gone here too.
                    match load(&*self.store, &self.own, &record, self.algorithm).await {
                        Ok(keys) => self.apply(&mut loaded, Loaded { bytes, record }, keys),
                        Err(cause) => {
                            warn!(%cause, "the CAs have changed, but cannot be loaded yet")
                        }
                    }
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

    /// Makes the changes of the keys for JWTs that are due, and returns them.
    ///
    /// # Errors
    /// As `Self::change`.
    pub async fn maintain_jwt_keys(
        &self,
        now: OffsetDateTime,
    ) -> Result<Vec<JwtKeyChange>, KeyringError> {
        let algorithm = self.algorithm;
        let decide = move |keys: &Keys| {
            let changes = keys.jwt.all_due(algorithm, now)?;
            let last = changes.last().map(|change| change.ring.clone());
            Ok(last.map(|jwt| (Keys { jwt, ..keys.clone() }, changes)))
        };
        let events = |changes: &Vec<JwtKeyChange>| {
            let event = |change: &JwtKeyChange| {
                let deed = match change.what {
                    JwtKeyStep::Published => KeyringDeed::Prepared,
                    JwtKeyStep::Withdrawn => KeyringDeed::Withdrawn,
                    JwtKeyStep::Activated => KeyringDeed::Activated,
                    JwtKeyStep::Removed => KeyringDeed::Retired,
                };
                let subject = about_ca(CaType::Jwt, change.key_id.clone());
                Author::system(now).keyring_event(deed, subject)
            };
            changes.iter().map(event).collect()
        };
        Ok(self.change(decide, |_| {}, events).await?.unwrap_or_default())
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

fn about_ca(ca_type: CaType, key_id: String) -> KeyringSubject {
    let (ca_type, ca_key_id) = (Some(ca_type.as_str()), Some(key_id));
    KeyringSubject { ca_type, ca_key_id, ..KeyringSubject::default() }
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
