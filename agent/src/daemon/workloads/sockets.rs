//! The sockets that workloads connect to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use host::exit::{Exit, Failure};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::Workloads;
use super::link::{CurrentIdentity, Link};
use crate::attest::{Attestor, Caller, Peer, Reader, Refused};
use crate::ceremony::client::Client;
use crate::config::{Listen, Settings, WorkloadApi};
use crate::daemon::bound_socket::BoundSocket;
use crate::daemon::health::Health;
use crate::daemon::timestamp;
use crate::log::Log;
use crate::parts;
use crate::tpm::thread::Meter;
use crate::workload_api::{
    Answer, Attest, Connected, Counts, Limits, Listener, Serving, WorkloadApi as Server,
};

/// How long to wait before the authority is asked again for the trust bundle, after a failure.
const REFRESH_PAUSE: Duration = Duration::from_secs(60);

/// Serves workloads, in a task of its own, until it is dropped.
pub(crate) struct Sockets {
    wanted: watch::Sender<Option<Wanted>>,
    /// How many times the operator has asked to renew.
    renewals: Arc<AtomicU64>,
    /// None in a build without the Workload API.
    task: Option<JoinHandle<()>>,
}

/// What to serve.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) settings: Arc<Settings>,
    pub(crate) client: Client,
    pub(crate) identity: CurrentIdentity,
    pub(crate) meter: Meter,
    /// Who reads executables, if rules are about them.
    pub(crate) reader: Option<Reader>,
    pub(crate) log: Log,
}

/// A socket that is served.
struct Open {
    /// The file, unless it listens on TCP.
    socket: Option<BoundSocket>,
    /// Where workloads find it.
    address: Listen,
    _server: Server,
}

/// A task that ends with this value.
struct Refreshing(JoinHandle<()>);

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Sockets {
    /// Serves nothing yet. `health` learns how it goes.
    pub(crate) fn begin(health: Health) -> Self {
        let (wanted, changes) = watch::channel(None);
        let renewals = Arc::default();
        let task = parts::WORKLOAD_API.is_built;
        let task = task.then(|| tokio::spawn(serve(changes, Arc::clone(&renewals), health)));
        Self { wanted, renewals, task }
    }

    /// Serves this from now on. If nothing changes for workloads, their connections stay.
    pub(crate) fn serve(&self, wanted: Wanted) {
        self.wanted.send_if_modified(|now| {
            let same = now
                .as_ref()
                .map_or(wanted.settings.workload_apis.is_empty(), |now| now.is_same(&wanted));
            if !same {
                *now = Some(wanted);
            }
            !same
        });
    }

    /// Looks at the sockets, and at the clock: a socket that was removed is made again, and so is one that could not be made.
    pub(crate) fn check(&self) {
        let has_any = |wanted: &Wanted| !wanted.settings.workload_apis.is_empty();
        self.wanted.send_if_modified(|now| now.as_ref().is_some_and(has_any));
    }

    /// Renews what workloads watch.
    pub(crate) fn renew(&self) {
        self.renewals.fetch_add(1, Ordering::Relaxed);
        self.check();
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.task.iter().for_each(JoinHandle::abort);
    }
}

impl Wanted {
    fn is_same(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.settings, &other.settings);
        ours.workload_apis == theirs.workload_apis
            && ours.authorities == theirs.authorities
            && ours.trust == theirs.trust
            && ours.tpm == theirs.tpm
    }
}

/// Never ends.
async fn serve(
    mut changes: watch::Receiver<Option<Wanted>>,
    renewals: Arc<AtomicU64>,
    health: Health,
) {
    let mut served: Option<Served> = None;
    while changes.changed().await.is_ok() {
        let Some(wanted) = changes.borrow_and_update().clone() else { continue };
        let is_same = served.as_ref().is_some_and(|served| served.wanted.is_same(&wanted));
        if !is_same {
            // The former sockets make room first.
            drop(served.take());
            served = Some(Served::new(wanted));
        }
        if let Some(served) = &mut served {
            served.link.look(renewals.load(Ordering::Relaxed));
            served.open(&health).await;
        }
    }
}

/// What is served of a configuration.
struct Served {
    wanted: Wanted,
    link: Arc<Link>,
    /// By the number of the service; `None` where it cannot be served now.
    open: Vec<Option<Open>>,
    _refreshing: Refreshing,
}

impl Served {
    fn new(wanted: Wanted) -> Self {
        raise_open_files();
        let Wanted { settings, client, identity, meter, log, .. } = wanted.clone();
        let link = Link::new(settings, client, identity, meter, log);
        let open = wanted.settings.workload_apis.iter().map(|_| None).collect();
        let refreshing = Refreshing(tokio::spawn(refresh(Arc::clone(&link))));
        Self { wanted, link, open, _refreshing: refreshing }
    }

    /// Opens what is not open.
    async fn open(&mut self, health: &Health) {
        let apis = self.wanted.settings.workload_apis.iter();
        for (api, open) in apis.zip(&mut self.open) {
            if open.as_mut().is_some_and(Open::is_there) {
                continue;
            }
            *open = None;
            let at = timestamp();
            let log = self.wanted.log;
            let counts = health.workloads(api.name.as_str());
            match Open::new(api, &self.link, self.wanted.reader.as_ref(), counts, log).await {
                Ok(opened) => {
                    health.completed(api.name.as_str(), &at);
                    let fields: [(&str, &dyn std::fmt::Display); 2] =
                        [("name", &api.name), ("socket", &opened.address)];
                    log.info("serving workloads", &fields);
                    *open = Some(opened);
                }
                Err(failure) => {
                    health.failed(api.name.as_str(), &failure, &at);
                    let fields: [(&str, &dyn std::fmt::Display); 3] = [
                        ("name", &api.name),
                        ("reason", &failure.message),
                        ("advice", &failure.advice),
                    ];
                    log.warn("cannot serve workloads", &fields);
                }
            }
        }
    }
}

impl Open {
    async fn new(
        api: &WorkloadApi,
        link: &Arc<Link>,
        reader: Option<&Reader>,
        counts: Counts,
        log: Log,
    ) -> Result<Self, Failure> {
        if api.needs_executable() && reader.is_none() {
            // Its process begins before the agent has threads.
            let what = "rules about executables take effect at the next start";
            return Err(Failure::new(Exit::Config, what, "restart the agent"));
        }
        let failed = |cause: io::Error| Failure::io(&cause, &api.listen);
        let reader = reader.filter(|_| api.needs_executable()).cloned();
        let (socket, address, listener): (_, _, Box<dyn Listener>) = match &api.listen {
            Listen::Unix(socket) => {
                let (bound, listener) = BoundSocket::bind(socket).await?;
                let attestor = Attestor::new(reader);
                (Some(bound), api.listen.clone(), Box::new(Attested { listener, attestor }))
            }
            Listen::Tcp(address) => {
                let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
                let address = Listen::Tcp(listener.local_addr().map_err(failed)?);
                (None, address, Box::new(Unattested(listener)))
            }
        };
        let source = Workloads::new(api.clone(), Arc::clone(link), counts.clone());
        let (sds_names, limits) = (api.sds.clone(), Limits::default());
        let server = Server::serve(listener, Serving { source, sds_names, limits, counts, log });
        Ok(Self { socket, address, _server: server })
    }

    /// Whether workloads can still find it.
    fn is_there(&mut self) -> bool {
        self.socket.as_mut().is_none_or(BoundSocket::is_there)
    }
}

/// A unix socket.
struct Attested {
    listener: tokio::net::UnixListener,
    attestor: Attestor,
}

impl Listener for Attested {
    fn accept(&self) -> Answer<'_, io::Result<Connected>> {
        Box::pin(async {
            let (stream, _) = self.listener.accept().await?;
            let process = self.attestor.peer(&stream).map(|peer| {
                Box::new(Process { attestor: self.attestor.clone(), peer }) as Box<dyn Attest>
            });
            Ok(Connected { stream: Box::new(stream), process })
        })
    }
}

/// The process at the other end of a connection.
struct Process {
    attestor: Attestor,
    peer: Peer,
}

impl Attest for Process {
    fn attest(&self) -> Answer<'_, Result<Option<Caller>, Refused>> {
        Box::pin(async { self.attestor.attest_peer(&self.peer).await.map(Some) })
    }

    fn ended(&self) -> Answer<'_, ()> {
        // An error is treated as the end.
        Box::pin(async { drop(self.peer.ended().await) })
    }

    fn uid(&self) -> Option<u32> {
        Some(self.peer.credentials().uid)
    }
}

/// A TCP socket, which says nothing about the process.
struct Unattested(tokio::net::TcpListener);

impl Listener for Unattested {
    fn accept(&self) -> Answer<'_, io::Result<Connected>> {
        Box::pin(async {
            let (stream, _) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok(Connected { stream: Box::new(stream), process: Ok(Box::new(Unknown)) })
        })
    }
}

/// A process of which nothing is known.
struct Unknown;

impl Attest for Unknown {
    fn attest(&self) -> Answer<'_, Result<Option<Caller>, Refused>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn ended(&self) -> Answer<'_, ()> {
        // Its connection ends with it.
        Box::pin(std::future::pending())
    }

    fn uid(&self) -> Option<u32> {
        None
    }
}

/// Each stream may be a connection of its own.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    // What cannot be raised limits connections, which are then refused.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Asks for the trust bundle as often as it says itself. Never ends.
async fn refresh(link: Arc<Link>) {
    let mut bundles = link.bundle();
    // It is not needed before the first workload has called.
    let _ = bundles.wait_for(Option::is_some).await;
    loop {
        let hint = bundles.borrow_and_update().as_ref().map(|bundle| bundle.refresh_hint);
        sleep(hint.unwrap_or(REFRESH_PAUSE)).await;
        if link.refresh_bundle().await.is_err() {
            sleep(REFRESH_PAUSE).await;
        }
    }
}
