//! The cluster, which the first start creates.

mod keyring_files;
mod public_files;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::exit::{Exit, Failure};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tracing::info;

use self::keyring_files::KeyringFiles;
use self::public_files::PublicFiles;
use crate::data_directory::{
    DATABASE, DataDirectory, Lock, Nascent, check_own, check_owner, read_private, replace_private,
};
use crate::issue::{
    CaKey, ClusterName, IssueError, Issuer, JwtAlgorithm, JwtKey, JwtKeyChange, JwtSettings, Keys,
    Ring, SshCa, Tainted, TrustChain, X509Ca,
};
use crate::keyring::{KeyringError, Opened, Own, StoredKeyring};
use crate::store::{Records, RedbStore, Store, StoreError, has_records, present_format};

const RECORD: &str = "cluster.json";

/// A cluster, open.
pub struct Cluster {
    /// Its CAs.
    pub issuer: Issuer,
    /// Where they are stored.
    pub keyring: Arc<StoredKeyring>,
    /// Its records.
    pub store: Arc<dyn Store>,
    /// Whether this start created it.
    pub origin: Origin,
}

/// Where a cluster comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This start made it.
    Created,
    /// An earlier one did, or another authority.
    Found,
}

/// The record that marks a directory as a cluster's, and its layout.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    layout: u32,
    name: String,
}

/// The layout that this program creates: the private keys are in the store. Programs with another layout refuse the directory by
/// this number, so the record must not change otherwise.
const LAYOUT: u32 = 3;

/// Those of older versions, whose private keys are in files: of version 0.1.0, and with a CA for SSH certificates of hosts.
const LAYOUTS_WITH_KEY_FILES: [u32; 2] = [1, 2];

/// What the start of a cluster needs.
struct Opening<'a> {
    directory: &'a DataDirectory,
    own: Own,
    /// The name that is asked for.
    name: Option<ClusterName>,
    algorithm: JwtAlgorithm,
    now: OffsetDateTime,
}

/// What was opened.
struct Found {
    keyring: Opened,
    store: Arc<dyn Store>,
    origin: Origin,
}

impl Cluster {
    /// Opens the cluster of the directory, or that in a database; creates one with this name if there is none.
    ///
    /// # Errors
    /// The directory, the store or the keys in it cannot be used; another authority must admit this one.
    pub async fn open(
        directory: &DataDirectory,
        lock: &Lock,
        database: Option<Arc<dyn Store>>,
        name: Option<ClusterName>,
        jwt: JwtSettings,
        now: OffsetDateTime,
    ) -> Result<Self, Failure> {
        jwt.algorithm.check_supported().map_err(unsupported)?;
        let path = directory.cluster();
        let own = Own::of(directory, lock)?;
        let opening = Opening { directory, own, name, algorithm: jwt.algorithm, now };
        let is_shared = database.is_some();
        let Found { keyring, store, origin } = match local(&path)? {
            Some(record) => opening.existing(record, database).await?,
            None => opening.created(database).await?,
        };
        let cluster = cluster_name(keyring.cluster())?;
        let public = PublicFiles::of(&path);
        let on_change = Box::new(move |keys: &Keys| public.replace(keys));
        let keyring = keyring.ready(opening.own, is_shared, on_change);
        let changes = keyring.maintain_jwt_keys(now).await.map_err(keyring_failure)?;
        log_changes(&changes);
        let issuer = Issuer::with(cluster, Arc::clone(keyring.keyring()), jwt);
        Ok(Self { issuer, keyring: Arc::new(keyring), store, origin })
    }

    /// Whether the private keys of the cluster in this directory are in files, which the next start moves into the store.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn has_key_files(directory: &DataDirectory) -> Result<bool, Failure> {
        Ok(local(&directory.cluster())?.is_some_and(|record| record.layout != LAYOUT))
    }
}

impl Opening<'_> {
    /// The cluster of a directory.
    async fn existing(
        &self,
        record: Record,
        database: Option<Arc<dyn Store>>,
    ) -> Result<Found, Failure> {
        let path = self.directory.cluster();
        let name = cluster_name(&record.name)?;
        self.check_name(&name)?;
        let store = match database {
            Some(database) => database,
            None => embedded(&path)?,
        };
        let keyring = match self.keyring(&store).await? {
            Some(keyring) => keyring,
            None if record.layout == LAYOUT => return Err(no_keys(&path)),
            None => {
                let keys = KeyringFiles::of(&path).keys(&name, self.algorithm, self.now)?;
                self.found(&store, &name, &keys).await?;
                // What can be read back can be relied on when the files are gone.
                self.keyring(&store).await?.ok_or_else(|| no_keys(&path))?
            }
        };
        if keyring.cluster() != name.as_str() {
            return Err(another(&path, &name, keyring.cluster()));
        }
        if record.layout != LAYOUT {
            KeyringFiles::of(&path).check_known(|key_id| keyring.knows(key_id))?;
        }
        PublicFiles::of(&path).update(keyring.keys(), |key_id| keyring.knows(key_id))?;
        if record.layout != LAYOUT {
            write_record(&path, &name)?;
            let (data_dir, layout) = (self.directory.path().display(), LAYOUT);
            info!(%data_dir, layout, "data directory of an older version: upgraded, the private keys of the CAs are in the store");
        }
        // Also those that a start which was killed has left.
        KeyringFiles::of(&path).remove().map_err(|cause| {
            Failure::io(&cause, format!("cannot remove a private key from {}", path.display()))
        })?;
        Ok(Found { keyring, store, origin: Origin::Found })
    }

    /// A directory for the cluster in the database, or for a new one.
    async fn created(&self, database: Option<Arc<dyn Store>>) -> Result<Found, Failure> {
        let path = self.directory.cluster();
        let Some(store) = database else { return self.created_embedded(&path).await };
        let (keyring, origin) = match self.keyring(&store).await? {
            Some(keyring) => (keyring, Origin::Found),
            None => {
                let name = self.new_name()?;
                let keys = new_keys(&name, self.algorithm, self.now).map_err(issue_failure)?;
                self.found(&store, &name, &keys).await?;
                let keyring = self.keyring(&store).await?;
                (keyring.ok_or_else(|| no_keys(&path))?, Origin::Created)
            }
        };
        let name = cluster_name(keyring.cluster())?;
        self.check_name(&name)?;
        create(&path, &name, keyring.keys(), |_| Ok(()))?;
        Ok(Found { keyring, store, origin })
    }

    async fn created_embedded(&self, path: &Path) -> Result<Found, Failure> {
        let name = self.new_name()?;
        let keys = new_keys(&name, self.algorithm, self.now).map_err(issue_failure)?;
        let founding = StoredKeyring::founding(&self.own, name.as_str(), &keys, self.now);
        let mut founding = founding.map_err(keyring_failure)?;
        founding.push(present_format().map_err(store_failure)?);
        create(path, &name, &keys, |nascent| {
            RedbStore::create_with(&nascent.path.join(DATABASE), &founding).map_err(store_failure)
        })?;
        let store = embedded(path)?;
        let keyring = self.keyring(&store).await?.ok_or_else(|| no_keys(path))?;
        Ok(Found { keyring, store, origin: Origin::Created })
    }

    async fn keyring(&self, store: &Arc<dyn Store>) -> Result<Option<Opened>, Failure> {
        let usable = Records::new(Arc::clone(store)).check_usable().await;
        usable.map_err(|cause| keyring_failure(cause.into()))?;
        let opened = StoredKeyring::open(Arc::clone(store), &self.own, self.algorithm).await;
        opened.map_err(keyring_failure)
    }

    async fn found(
        &self,
        store: &Arc<dyn Store>,
        name: &ClusterName,
        keys: &Keys,
    ) -> Result<(), Failure> {
        let founding = StoredKeyring::founding(&self.own, name.as_str(), keys, self.now);
        let mut founding = founding.map_err(keyring_failure)?;
        let failed = |cause: StoreError| keyring_failure(cause.into());
        if !has_records(&**store).await.map_err(failed)? {
            founding.push(present_format().map_err(failed)?);
        }
        store.write(founding).await.map_err(failed)
    }

    fn new_name(&self) -> Result<ClusterName, Failure> {
        self.name.clone().map_or_else(host_name, Ok)
    }

    fn check_name(&self, found: &ClusterName) -> Result<(), Failure> {
        match &self.name {
            Some(name) if name != found => Err(Failure::new(
                Exit::Config,
                format!(
                    "{} holds the cluster {found}, not {name}",
                    self.directory.path().display()
                ),
                "omit --cluster-name, or give another --data-dir for another cluster",
            )),
            _ => Ok(()),
        }
    }
}

/// A warning if the embedded store has records, while another store is configured.
pub async fn records_left_behind(directory: &DataDirectory) -> Option<String> {
    let path = directory.database();
    if !path.try_exists().is_ok_and(|exists| exists) {
        return None;
    }
    let shown = path.display();
    let found = match RedbStore::open(&path) {
        Ok(store) => has_records(&store).await,
        Err(cause) => Err(cause),
    };
    match found {
        Ok(false) => None,
        Ok(true) => Some(format!(
            "the records in {shown} are not used, since `store` is a database: copy them to it with `authority store copy`, or move the \
             file away"
        )),
        Err(cause) => Some(format!(
            "`store` is a database, and whether records are left in {shown} is not known: {cause}"
        )),
    }
}

/// Opens the database of an authority that does not run.
///
/// # Errors
/// It is missing or damaged.
pub fn stopped_store(directory: &DataDirectory, _lock: &Lock) -> Result<RedbStore, Failure> {
    let path = directory.database();
    check_own(&path)?;
    RedbStore::open(&path).map_err(|cause| unusable(&path, &cause))
}

/// The record of a directory, if it is there.
fn local(path: &Path) -> Result<Option<Record>, Failure> {
    if !path.is_dir() {
        return Ok(None);
    }
    check_owner(path)?;
    let file = path.join(RECORD);
    let record: Record = serde_json::from_str(&read_private(&file)?).map_err(|cause| {
        let message = format!("{}: {cause}", file.display());
        Failure::new(Exit::Data, message, "restore the directory from a backup")
    })?;
    let layout = record.layout;
    if layout == LAYOUT || LAYOUTS_WITH_KEY_FILES.contains(&layout) {
        return Ok(Some(record));
    }
    let message =
        format!("{} has layout {layout}, but this version needs {LAYOUT}", path.display());
    Err(Failure::new(Exit::Config, message, "use the version of authority that created it"))
}

fn write_record(path: &Path, name: &ClusterName) -> Result<(), Failure> {
    let path = path.join(RECORD);
    replace_private(&path, &record(name)?)
        .map_err(|cause| Failure::io(&cause, format!("cannot write {}", path.display())))
}

fn record(name: &ClusterName) -> Result<Vec<u8>, Failure> {
    let record = Record { layout: LAYOUT, name: name.to_string() };
    serde_json::to_vec(&record).map_err(|cause| bug(cause.to_string()))
}

/// Puts the record into a directory that a backup is restored to. The first start writes the other files.
///
/// # Errors
/// The name is not that of a cluster; the disk.
pub fn restored(nascent: &Nascent, name: &str) -> Result<(), Failure> {
    let record = record(&cluster_name(name)?)?;
    let failed = |cause| Failure::io(&cause, format!("cannot create {}", nascent.path.display()));
    nascent.write(RECORD, &record).map_err(failed)
}

/// Makes the directory, and with `store` what else is in it.
fn create(
    path: &Path,
    name: &ClusterName,
    keys: &Keys,
    store: impl FnOnce(&Nascent) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let failed =
        |cause: io::Error| Failure::io(&cause, format!("cannot create {}", path.display()));
    let nascent = Nascent::begin(path.to_owned()).map_err(failed)?;
    for (file, text) in PublicFiles::contents(keys)? {
        nascent.write(file, text.as_bytes()).map_err(failed)?;
    }
    store(&nascent)?;
    nascent.write(RECORD, &record(name)?).map_err(failed)?;
    nascent.finish().map_err(failed)
}

/// The database in the cluster's directory.
fn embedded(path: &Path) -> Result<Arc<dyn Store>, Failure> {
    let path: PathBuf = path.join(DATABASE);
    check_own(&path)?;
    Ok(Arc::new(RedbStore::open(&path).map_err(|cause| unusable(&path, &cause))?))
}

/// One CA of each kind.
fn new_keys(
    name: &ClusterName,
    algorithm: JwtAlgorithm,
    now: OffsetDateTime,
) -> Result<Keys, IssueError> {
    let x509 = X509Ca::create(name, CaKey::generate()?, now)?;
    let ssh = SshCa::new(name, &CaKey::generate()?)?;
    let ssh_host = SshCa::of_hosts(name, &CaKey::generate()?)?;
    let since = x509.not_before();
    let mut keys = Keys {
        x509: Ring::new(x509, since),
        ssh: Ring::new(ssh, since),
        ssh_host: Ring::new(ssh_host, since),
        jwt: Ring::new(JwtKey::generate(algorithm)?, now),
        sequence: 1,
        chain: TrustChain::default(),
        tainted: Tainted::default(),
    };
    keys.chain = TrustChain::begin(&keys)?;
    Ok(keys)
}

/// What the authority did to the keys for JWTs.
fn log_changes(changes: &[JwtKeyChange]) {
    for JwtKeyChange { what, key_id, .. } in changes {
        info!(key_id, "{what}");
    }
}

fn cluster_name(name: &str) -> Result<ClusterName, Failure> {
    name.parse().map_err(|cause| {
        let message = format!("the name of the cluster: {cause}");
        Failure::new(Exit::Data, message, "restore the data directory from a backup")
    })
}

/// The default name of a cluster: the host's, from the kernel, since a systemd unit may hide the files that have it.
fn host_name() -> Result<ClusterName, Failure> {
    let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    host.parse().map_err(|cause| {
        Failure::new(
            Exit::Usage,
            format!("the host name is not usable as the cluster name: {cause}"),
            "give the cluster's name with --cluster-name",
        )
    })
}

/// Why the keys of the cluster cannot be used, and what to do.
pub(crate) fn keyring_failure(cause: KeyringError) -> Failure {
    let (exit, advice) = match &cause {
        KeyringError::NotAdmitted => (
            Exit::Config,
            "run `authority authorities request` here, and `authority authorities add` with what it prints at an authority that runs",
        ),
        KeyringError::Removed => (
            Exit::Config,
            "to let it in again, run `authority authorities request` here, and `authority authorities add` at an authority that runs",
        ),
        KeyringError::Unsupported(_) => return unsupported(cause),
        KeyringError::Store(StoreError::Failed(_)) => {
            (Exit::Io, "check that the disk has space and works, or that the database runs")
        }
        KeyringError::Store(StoreError::Newer(_)) => {
            (Exit::Data, "use the version that wrote it, or a later one")
        }
        KeyringError::Issue(_) => (Exit::Bug, "report it"),
        KeyringError::Refused(_) => (Exit::Refused, "correct it; nothing was changed"),
        KeyringError::Store(_) | KeyringError::Damaged(_) => {
            (Exit::Data, "restore the store from a backup, as docs/authority.md describes")
        }
    };
    Failure::new(exit, cause.to_string(), advice)
}

/// The keys are in another store, or lost: new ones would shut out all hosts.
fn no_keys(path: &Path) -> Failure {
    Failure::new(
        Exit::Data,
        format!("the store has no CA keys of the cluster in {}", path.display()),
        "copy the store that the cluster has used with `authority store copy`, configure that store, or restore it from a backup",
    )
}

fn another(path: &Path, name: &ClusterName, found: &str) -> Failure {
    Failure::new(
        Exit::Config,
        format!("{} is of the cluster {name}, but the store holds {found}", path.display()),
        "give another --data-dir, or configure another store",
    )
}

/// Why RSA keys cannot be used here, and what to do.
fn unsupported(cause: impl std::fmt::Display) -> Failure {
    let advice = "set `jwt.algorithm: ES256`, or move the authority to a machine that has them";
    Failure::new(Exit::Config, format!("`jwt.algorithm: RS256`: {cause}"), advice)
}

fn issue_failure(cause: IssueError) -> Failure {
    bug(cause.to_string())
}

fn store_failure(cause: StoreError) -> Failure {
    Failure::new(Exit::Io, cause.to_string(), "check that the disk has space and works")
}

/// Why the database of a cluster cannot be used.
fn unusable(path: &Path, cause: &StoreError) -> Failure {
    let message = format!("{}: {cause}", path.display());
    match cause {
        StoreError::Failed(_) => {
            Failure::new(Exit::Io, message, "check that the disk has space and works")
        }
        _ => {
            let advice = "restore the data directory from a backup, or, if the records are in a database, copy them with `authority store \
                          copy`: see docs/authority.md";
            Failure::new(Exit::Data, message, advice)
        }
    }
}

fn bug(cause: String) -> Failure {
    Failure::new(Exit::Bug, cause, "report it")
}

#[cfg(test)]
mod tests;
