//! Settings to a running authority: its parts, created in the order in which they need each other.
//! `authority start` and the tests use this, so that the tests run what is shipped.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use host::clock::Clock;
use host::exit::{Exit, Failure};
use tls::CaPin;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tracing::warn;

use crate::audit::checkpoint::Origin;
use crate::audit::{AuditLog, log_key};
use crate::cluster::{self, Cluster, records_left_behind};
use crate::config::{PostgresSettings, Settings, StoreSettings};
use crate::data_directory::{DataDirectory, Lock};
use crate::public_names::PublicNames;
use crate::server::{
    AdminSocket, BundleListener, DiagListener, PublicListener, TlsSettings, bind, serve,
};
use crate::service::{Authority, LogSigner};
use crate::store::{PostgresStore, Restored, Store, StoreError};

/// Opens an audit log; the path is that in the data directory.
pub type OpenAudit = dyn FnOnce(&Path) -> io::Result<AuditLog> + Send;

/// Makes the authority's store of the one that is configured.
pub type WrapStore = dyn FnOnce(Arc<dyn Store>) -> Arc<dyn Store> + Send;

/// The parts that no setting chooses. Tests replace them.
pub struct Parts {
    /// The clock of the authority.
    pub clock: Clock,
    /// What stands before the store.
    pub store: Box<WrapStore>,
    /// Opens the audit log.
    pub audit: Box<OpenAudit>,
}

impl Parts {
    /// The system's clock, the database itself and the audit log of the data directory.
    pub fn system() -> Self {
        Self {
            clock: Clock::system(),
            store: Box::new(|store| store),
            audit: Box::new(AuditLog::open),
        }
    }
}

/// An authority that holds its data directory and its sockets. It accepts no connection before
/// [`Assembled::serve`].
pub struct Assembled {
    /// The service behind the sockets.
    pub authority: Arc<Authority>,
    /// Where it listens for hosts.
    pub address: SocketAddr,
    /// Where it listens for monitoring.
    pub diag_address: Option<SocketAddr>,
    /// Where it serves the public keys.
    pub bundle_address: Option<SocketAddr>,
    /// The pin of the active CA.
    pub ca_pin: CaPin,
    /// Whether the cluster was created now.
    pub origin: cluster::Origin,
    public: PublicListener,
    admin: AdminSocket,
    diag: Option<DiagListener>,
    bundle: Option<BundleListener>,
    lock: Lock,
}

/// Opens the data directory, creates a cluster in it if it has none, and listens.
///
/// # Errors
/// The data directory, the cluster, its store, the audit log or an address cannot be used.
pub async fn assemble(settings: Settings, parts: Parts) -> Result<Assembled, Failure> {
    let directory = DataDirectory::new(&settings.data_dir);
    let public_names = PublicNames::of(&settings)?;
    let lock = directory.lock()?;
    // Before a cluster is created: a start that cannot serve creates none.
    let addresses = Addresses::bind(&settings)?;
    let id = directory.store_id(&lock)?;
    let database = match &settings.store {
        StoreSettings::Embedded => None,
        StoreSettings::Postgresql(database) => Some(open_database(database, &id).await?),
    };
    let Parts { clock, store, audit } = parts;
    if database.is_some()
        && let Some(warning) = records_left_behind(&directory).await
    {
        warn!("{warning}");
    }
    let database = database.map(|database| Arc::new(database) as Arc<dyn Store>);
    let (name, jwt) = (settings.cluster_name, settings.jwt);
    let cluster = Cluster::open(&directory, &lock, database, name, jwt, clock.now()).await?;
    let store = store(cluster.store);
    let log = directory.audit();
    let audit = audit(&log)
        .map_err(|cause| Failure::io(&cause, format!("cannot open {}", log.display())))?;
    let ca_pin =
        CaPin::of_certificate(cluster.issuer.x509().certificate()).map_err(Failure::bug)?;
    let origin = Origin::of(cluster.issuer.cluster().as_str(), &id).map_err(Failure::bug)?;
    let signer = LogSigner { key: log_key(&directory, &lock, origin)?, file: directory.log_head() };
    let authority = Authority::new(cluster.issuer, store, audit, clock, settings.join_timeout);
    let authority = authority.judging_by(settings.ek_policy).known_as(public_names).logging_as(&id);
    let authority = authority.serving(settings.teleport).with_keyring(cluster.keyring);
    let authority = Arc::new(authority.signing_heads(signer).retaining(settings.audit.retention));
    recover(&authority).await?;

    let tls = TlsSettings::new(Arc::clone(&authority)).map_err(Failure::bug)?;
    let admin = AdminSocket::bind(&directory, &lock).map_err(|cause| {
        Failure::io(&cause, format!("cannot listen on {}", directory.socket().display()))
    })?;
    let public = PublicListener::listen(addresses.public, tls)
        .map_err(|cause| occupied(&cause, settings.listen, LISTEN))?;
    let diag = match (addresses.diag, settings.diag_addr) {
        (Some(socket), Some(address)) => Some(
            DiagListener::listen(socket).map_err(|cause| occupied(&cause, address, DIAG_ADDR))?,
        ),
        _ => None,
    };
    let bundle = match (addresses.bundle, &settings.bundle_endpoint) {
        (Some(socket), Some(endpoint)) => {
            let listener = BundleListener::listen(socket, &endpoint.profile, &authority);
            Some(listener.map_err(|cause| occupied(&cause, endpoint.listen, BUNDLE_ENDPOINT))?)
        }
        _ => None,
    };
    let address = public.address().map_err(Failure::bug)?;
    if let Some(keyring) = &authority.keyring {
        keyring.listens_on(address.to_string());
    }
    Ok(Assembled {
        bundle_address: bundle
            .as_ref()
            .map(BundleListener::address)
            .transpose()
            .map_err(Failure::bug)?,
        authority,
        address,
        diag_address: diag.as_ref().map(DiagListener::address).transpose().map_err(Failure::bug)?,
        ca_pin,
        origin: cluster.origin,
        public,
        admin,
        diag,
        bundle,
        lock,
    })
}

async fn open_database(settings: &PostgresSettings, id: &str) -> Result<PostgresStore, Failure> {
    let store =
        PostgresStore::open(settings, id).await.map_err(|cause| database_failure(&cause))?;
    match PostgresStore::durability(settings).await {
        Ok(durability) => durability.dangers().iter().for_each(|danger| warn!("{danger}")),
        Err(cause) => warn!(%cause, "cannot read the settings of the database"),
    }
    Ok(store)
}

/// Why a database cannot be used, and what to do.
pub(crate) fn database_failure(cause: &StoreError) -> Failure {
    let (exit, advice) = match cause {
        StoreError::Failed(_) => {
            (Exit::Unavailable, "check that the database runs and can be reached from this host")
        }
        StoreError::Newer(_) => (Exit::Config, "use the version that upgraded it, or a later one"),
        StoreError::Unusable(_) => (Exit::Config, "see docs/authority.md, section PostgreSQL"),
        _ => (Exit::Data, "restore the database from a backup"),
    };
    Failure::new(exit, cause.to_string(), advice)
}

/// Completes what an older version or a crash has left in the store.
async fn recover(authority: &Authority) -> Result<(), Failure> {
    authority.migrate().await.map_err(|cause| {
        let advice = match cause {
            StoreError::Newer(_) => "use the version that wrote it, or a later one",
            StoreError::Unusable(_) => "see docs/authority.md, section PostgreSQL",
            _ => "check that the disk has space and works",
        };
        Failure::new(Exit::Data, format!("the store: {cause}"), advice)
    })?;
    check_restored(authority).await?;
    match authority.records.moved().await {
        Ok(None) => {}
        Ok(Some(moved)) => warn!(
            "the records of this store were copied to {} on {}: what was changed there since is missing here",
            moved.to, moved.at
        ),
        Err(cause) => warn!(%cause, "cannot read where the records were copied to"),
    }
    authority.recover_audit().await.map_err(|cause| {
        let advice = "restore the data directory from a backup, as docs/authority.md describes";
        Failure::new(Exit::Data, format!("the log in the store: {cause}"), advice)
    })
}

/// Refuses records from a backup until an operator has said that what is missing in them is known.
async fn check_restored(authority: &Authority) -> Result<(), Failure> {
    let restored =
        authority.records.restored().await.map_err(|cause| {
            Failure::new(Exit::Data, cause.to_string(), "restore the backup again")
        })?;
    let Some(Restored { made, epoch, accepted, .. }) = restored else { return Ok(()) };
    authority.set_epoch(epoch);
    if accepted.is_some() {
        return Ok(());
    }
    let age = age_of(authority.clock.now() - made.0);
    Err(Failure::new(
        Exit::Config,
        format!(
            "the records are from a backup of {made}, {age} old: locks, removals and other changes since then are lost, and hosts that \
             were kept out may join"
        ),
        "keep the authority unreachable until you have repeated them, and run `authority store accept-restored`",
    ))
}

/// A duration, for people.
pub(crate) fn age_of(age: time::Duration) -> String {
    match (age.whole_days(), age.whole_hours(), age.whole_minutes()) {
        (2.., ..) => format!("{} days", age.whole_days()),
        (_, 2.., _) => format!("{} hours", age.whole_hours()),
        _ => format!("{} minutes", age.whole_minutes().max(0)),
    }
}

impl Assembled {
    /// Serves until `stop` is true or its sender is dropped, then until the calls in progress have
    /// ended. The data directory is locked until then.
    ///
    /// # Errors
    /// A listener failed.
    pub async fn serve(self, stop: watch::Receiver<bool>) -> Result<(), tonic::transport::Error> {
        let Self { authority, public, admin, diag, bundle, lock, .. } = self;
        if let Some(bundle) = bundle {
            tokio::spawn(bundle.serve(Arc::clone(&authority)));
        }
        if let Some(diag) = diag {
            tokio::spawn(diag.serve(Arc::clone(&authority), stop.clone()));
        }
        let served = serve(authority, public, admin, stop).await;
        drop(lock);
        served
    }
}

/// Binds the configured addresses. No one can connect before there is an authority
/// that answers.
struct Addresses {
    public: TcpSocket,
    diag: Option<TcpSocket>,
    bundle: Option<TcpSocket>,
}

const LISTEN: &str = "--listen";
const DIAG_ADDR: &str = "--diag-addr";
const BUNDLE_ENDPOINT: &str = "`bundle_endpoint`";

impl Addresses {
    fn bind(settings: &Settings) -> Result<Self, Failure> {
        let one = |address: SocketAddr, flag| {
            bind(address).map_err(|cause| occupied(&cause, address, flag))
        };
        let diag = settings.diag_addr.map(|address| one(address, DIAG_ADDR)).transpose()?;
        let endpoint = settings.bundle_endpoint.as_ref().map(|endpoint| endpoint.listen);
        let bundle = endpoint.map(|address| one(address, BUNDLE_ENDPOINT)).transpose()?;
        Ok(Self { bundle, public: one(settings.listen, LISTEN)?, diag })
    }
}

fn occupied(cause: &io::Error, address: SocketAddr, flag: &str) -> Failure {
    Failure {
        exit: Exit::Unavailable,
        advice: format!(
            "find the program that listens there, or choose another address with {flag}"
        ),
        ..Failure::io(cause, format!("cannot listen on {address}"))
    }
}
