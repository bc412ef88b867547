//! Runs the daemon's jobs, one at a time, and reports how each ended.

mod access;
mod configure;
mod found;
mod identity;
mod service;
mod ssh;
mod tpm_key;
mod workload_identity;

use std::collections::HashMap;
use std::sync::Arc;

use host::clock;
use host::exit::{Exit, Failure};
use tokio::sync::watch;

use self::access::Access;
use self::found::restore;
pub(crate) use self::found::{Files, Inventory, Mismatch};
use self::service::sinks;
use self::tpm_key::UsedTpmKey;
use super::Reread;
use super::health_socket::{DiagChange, Socket, SocketPlace};
use super::machine::{FailureKind, Job, Outcome, RenewalPolicy, Validity};
use super::stop::Stop;
use super::workloads;
use crate::attest::Reader;
use crate::ceremony::authenticated::{Authenticated, Denied};
use crate::ceremony::client::Client;
use crate::ceremony::reissue::Reissue;
use crate::config::{self, Lifetime, Renewal, ServiceName, Settings};
use crate::credential::cache::Cache;
use crate::credential::identity::Identity;
use crate::deliver::files::FileSink;
use crate::log::Log;
use crate::ssh_agent::Offered;
use crate::storage::Storage;
use crate::tpm::access::{OpenTpm, TpmAccess};
use crate::tpm::thread::{Audience, Meter};

/// A connection is used while the certificate that it was authenticated with is valid for this long, in seconds: longer than a
/// call to the authority takes.
const MIN_VALIDITY: i64 = 30;

/// How a job ended, and why, if it failed.
pub(crate) struct Ended {
    pub(crate) job: Job,
    pub(crate) outcome: Outcome,
    pub(crate) failure: Option<Failure>,
    /// Where to answer from now on.
    pub(super) diag: DiagChange,
    /// After a reload: what was found under the new configuration.
    pub(super) inventory: Option<Inventory>,
}

impl Ended {
    fn new(job: Job, outcome: Outcome, failure: Option<Failure>) -> Self {
        Self { job, outcome, failure, diag: DiagChange::None, inventory: None }
    }
}

/// Everything that jobs need.
pub(crate) struct Worker {
    settings: Arc<Settings>,
    reread: Reread,
    client: Client,
    store: Store,
    /// What services were issued, for their sinks.
    cache: Cache,
    /// The sink of each service.
    sinks: Vec<Arc<FileSink>>,
    /// Keys of services that programs use on sockets.
    offers: Cache<Offered>,
    access: Access,
    identity: Option<Identity>,
    /// The same, for those who ask the authority besides.
    shared_identity: watch::Sender<Option<Arc<Identity>>>,
    /// Whether the identity is in the storage too.
    is_stored: bool,
    mismatch: Mismatch,
    /// Why the last attempt to join again failed, and for which mismatch it was made.
    not_joined: Option<(String, Failure)>,
    socket_place: Option<SocketPlace>,
    /// The socket in the storage, if it was created again, for the daemon to answer on.
    socket: Option<Socket>,
    /// Kept while one job follows another, so that a renewal and what it brings take one handshake.
    connection: Option<Authenticated>,
    tpm: TpmAccess,
    /// Keys of services in the TPM that are in use.
    tpm_keys: HashMap<ServiceName, UsedTpmKey>,
    /// Whether the authority has asked to renew everything.
    reissue: Reissue,
    stop: Stop,
    meter: Meter,
    log: Log,
}

/// Where the identity is kept.
enum Store {
    Directory(Arc<Storage>),
    Memory,
}

impl Worker {
    /// Takes the storage and looks at what is there.
    pub(crate) async fn new(
        settings: Arc<Settings>,
        reread: Reread,
        stop: Stop,
        meter: Meter,
        log: Log,
    ) -> Result<Self, Failure> {
        let access = Access::new(&settings);
        let (read, reissue) = (Arc::clone(&settings), Reissue::default());
        let telling = reissue.clone();
        let client = access.configuration.run(move || client(&read, telling, log)).await?;
        let read = Arc::clone(&settings);
        let (store, identity) = access.storage.run(move || open(&read, log)).await?;
        let cache = Cache::default();
        let sinks = sinks(&settings, &cache, &[]);
        let socket_place = SocketPlace::of(&settings);
        let tpm = tpm(&settings, &access, &meter, log);
        let mut worker = Self {
            settings,
            reread,
            client,
            store,
            cache,
            sinks,
            offers: Cache::default(),
            access,
            shared_identity: watch::Sender::new(identity.clone().map(Arc::new)),
            identity,
            is_stored: true,
            mismatch: Mismatch::default(),
            not_joined: None,
            socket_place,
            socket: None,
            connection: None,
            tpm,
            tpm_keys: HashMap::new(),
            reissue,
            stop,
            meter,
            log,
        };
        worker.offer_stored_keys().await;
        Ok(worker)
    }

    pub(crate) const fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// What to serve workloads with.
    pub(crate) fn workloads(&self, reader: Option<&Reader>) -> workloads::sockets::Wanted {
        workloads::sockets::Wanted {
            settings: Arc::clone(&self.settings),
            client: self.client.clone(),
            identity: self.shared_identity.subscribe(),
            meter: self.meter.clone(),
            reader: reader.cloned(),
            log: self.log,
        }
    }

    /// Whether the authority has asked to renew everything.
    pub(crate) fn reissue(&self) -> Reissue {
        self.reissue.clone()
    }

    /// What was found: the identity's validity.
    pub(crate) fn identity(&self) -> Option<Validity> {
        self.identity.as_ref().and_then(|identity| identity.validity().ok())
    }

    /// Whether the identity has yet to be stored.
    pub(crate) const fn is_storing_due(&self) -> bool {
        !self.is_stored
    }

    /// Where what is found out about the identity is noted.
    pub(crate) fn mismatch(&self) -> Mismatch {
        self.mismatch.clone()
    }

    /// The socket in the storage, if it was made again with it.
    pub(crate) const fn take_socket(&mut self) -> Option<Socket> {
        self.socket.take()
    }

    /// Makes the socket in the storage. The agent works without it.
    pub(crate) async fn bind_socket(&self) -> Option<Socket> {
        let place = self.socket_place.clone()?;
        let bound = self.access.storage.run(move || place.bind()).await;
        let warn = |failure: &Failure| {
            let fields: [(&str, &dyn std::fmt::Display); 2] =
                [("reason", &failure.message), ("advice", &failure.advice)];
            self.log.warn("`agent status` cannot ask this agent yet", &fields);
        };
        bound.inspect_err(warn).ok()
    }

    /// Closes the connection: no job follows.
    pub(crate) fn close_connection(&mut self) {
        self.connection = None;
    }

    pub(crate) async fn run(mut self, job: Job) -> (Self, Ended) {
        let result = match job {
            Job::Join | Job::Renew => {
                let renewed = if job == Job::Join { self.join().await } else { self.renew().await };
                match renewed {
                    Ok((validity, Some(failure))) => {
                        let outcome = Outcome::NotStored(validity);
                        return (self, Ended::new(job, outcome, Some(failure)));
                    }
                    Ok((validity, None)) => {
                        let failure = self.superseded();
                        return (self, Ended::new(job, Outcome::Valid(validity), failure));
                    }
                    Err(denied) => Err(denied),
                }
            }
            Job::Store => {
                let (outcome, failure) = match self.store().await {
                    Ok(()) => (Outcome::Stored, self.superseded()),
                    Err(failure) => (Outcome::Failed(FailureKind::Transient), Some(failure)),
                };
                return (self, Ended::new(job, outcome, failure));
            }
            Job::Issue(index) => {
                let issued = self.issue(index).await;
                match issued {
                    Ok((validity, is_marked)) => {
                        return self.run_hook(job, index, Some(validity), is_marked).await;
                    }
                    Err(denied) => Err(denied),
                }
            }
            Job::RunHook(index) => return self.run_hook(job, index, None, true).await,
            Job::Configure => match self.configure().await {
                Ok((diag, inventory)) => {
                    let ended = Ended::new(job, Outcome::Configured, None);
                    return (self, Ended { diag, inventory: Some(inventory), ..ended });
                }
                Err(failure) => Err(Denied::Failed(failure)),
            },
        };
        let ended = match result {
            Ok(outcome) => Ended::new(job, outcome, None),
            Err(denied) => {
                let failure_kind = match failure_kind(&denied) {
                    // The authority judged a certificate that has been renewed since.
                    FailureKind::IdentityGone if self.is_connection_outdated() => {
                        FailureKind::Transient
                    }
                    failure_kind => failure_kind,
                };
                self.connection = None;
                Ended::new(job, Outcome::Failed(failure_kind), Some(denied.into()))
            }
        };
        (self, ended)
    }

    /// A connection on which the authority knows us: the one that is open, or a new one.
    async fn connection(&mut self, identity: &Identity) -> Result<&mut Authenticated, Denied> {
        let now = clock::now().unix_timestamp();
        let open = self.connection.take().filter(|open| open.not_after() > now + MIN_VALIDITY);
        let open = match open {
            Some(open) => open,
            None => {
                let passwords = self.passwords().await?;
                let tpm = self.open_tpm().await?;
                let authenticated = self.client.authenticate(&tpm.thread, identity, passwords);
                let authenticated = call(self.log, "connect", self.stop.limit(authenticated)).await;
                self.close(tpm).await;
                authenticated?
            }
        };
        Ok(self.connection.insert(open))
    }

    /// Whether the open connection was authenticated with a certificate that is not the identity's any more.
    fn is_connection_outdated(&self) -> bool {
        let shown = self.connection.as_ref().map(Authenticated::not_after);
        shown.is_some() && shown != self.identity().map(|validity| validity.not_after)
    }

    async fn open_tpm(&self) -> Result<OpenTpm, Failure> {
        self.stop.limit(self.tpm.open()).await
    }

    async fn close(&self, tpm: OpenTpm) {
        if self.stop.is_asked() {
            // What was dropped may have left the TPM at a command. If it hangs, the second stop ends the daemon.
            let _ = tpm.thread.idle().await;
        }
        tpm.close().await;
    }
}

/// The way to the TPM.
fn tpm(settings: &Settings, access: &Access, meter: &Meter, log: Log) -> TpmAccess {
    let (tpm, files) = (&settings.tpm, access.passwords.clone());
    let (address, passwords) = (tpm.address.clone(), tpm.passwords.clone());
    TpmAccess::new(address, passwords, files, meter.clone(), Audience::Log(log))
}

/// The storage, and the identity in it.
fn open(settings: &Settings, log: Log) -> Result<(Store, Option<Identity>), Failure> {
    let config::Storage::Directory(directory) = &settings.storage else {
        return Ok((Store::Memory, None));
    };
    let storage = Storage::open_directory(directory)?;
    let identity = match Storage::identity(&directory.path) {
        // An identity that cannot be parsed is not used: the host joins again.
        Err(failure) if failure.exit == Exit::Data => {
            log.warn("the stored identity is not used", &[("reason", &failure.message)]);
            None
        }
        identity => identity?,
    };
    storage.keep_only(settings.services.iter().map(|service| &service.name));
    if let Some(identity) = &identity {
        restore(&storage, identity, log);
    }
    Ok((Store::Directory(Arc::new(storage)), identity))
}

fn client(settings: &Settings, reissue: Reissue, log: Log) -> Result<Client, Failure> {
    let authorities = settings.authorities.iter().map(ToString::to_string).collect();
    let client = Client::new(authorities, &settings.trust)?.with_log(log).by(settings.protocol);
    Ok(client.reissuing(reissue))
}

/// A call to the authority, and its line in the log.
async fn call<T, E>(
    log: Log,
    name: &str,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let begin = clock::boot();
    let answer = answer.await;
    let took = clock::boot().saturating_sub(begin).as_millis();
    let fields: [(&str, &dyn std::fmt::Display); 3] =
        [("call", &name), ("milliseconds", &took), ("success", &answer.is_ok())];
    log.debug("called the authority", &fields);
    answer
}

/// How a configured lifetime is renewed.
pub(crate) const fn policy(lifetime: Lifetime) -> RenewalPolicy {
    match lifetime.renewal {
        Renewal::HalfLife => RenewalPolicy { interval: None },
        Renewal::Every(interval) => RenewalPolicy { interval: Some(interval) },
    }
}

fn failure_kind(denied: &Denied) -> FailureKind {
    match denied {
        Denied::IdentityGone(_) => FailureKind::IdentityGone,
        Denied::Failed(failure) => match failure.exit {
            Exit::Unavailable | Exit::Busy => FailureKind::Transient,
            _ => FailureKind::Lasting,
        },
    }
}
