//! The sockets that workloads connect to.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use host::exit::{Exit, Failure};
use host::unix_socket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::Workloads;
use super::link::{CurrentIdentity, Link};
use crate::attest::{Attestor, Caller, Peer, Reader, Refused};
use crate::ceremony::client::Client;
use crate::config::{Settings, Socket, WorkloadApi};
use crate::daemon::health::Health;
use crate::daemon::timestamp;
use crate::deliver::destination::group_id;
use crate::file_access::{self, FileAccess, SHORT_TIMEOUT};
use crate::log::Log;
use crate::tpm::thread::Meter;
use crate::workload_api::{Answer, Attest, Limits, WorkloadApi as Server};

/// How long to wait before the authority is asked again for the trust bundle, after a failure.
const REFRESH_PAUSE: Duration = Duration::from_secs(60);

/// Serves workloads, in a task of its own, until it is dropped.
pub(crate) struct Sockets {
    wanted: watch::Sender<Option<Wanted>>,
    task: JoinHandle<()>,
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
    socket: Bound,
    _server: Server,
}

/// A task that ends with this value.
struct Refreshing(JoinHandle<()>);

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A socket's file. It is removed with this value, unless another program has put its own there.
struct Bound {
    path: PathBuf,
    inode: u64,
}

impl Sockets {
    /// Serves nothing yet. `health` learns how it goes.
    pub(crate) fn begin(health: Health) -> Self {
        let (wanted, changes) = watch::channel(None);
        Self { wanted, task: tokio::spawn(serve(changes, health)) }
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

    /// Looks at the sockets: one that was removed is made again, and so is one that could not be made.
    pub(crate) fn check(&self) {
        let has_any = |wanted: &Wanted| !wanted.settings.workload_apis.is_empty();
        self.wanted.send_if_modified(|now| now.as_ref().is_some_and(has_any));
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.task.abort();
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
async fn serve(mut changes: watch::Receiver<Option<Wanted>>, health: Health) {
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
            if open.as_ref().is_some_and(|open| open.socket.is_there()) {
                continue;
            }
            *open = None;
            let at = timestamp();
            let log = self.wanted.log;
            match Open::new(api, &self.link, self.wanted.reader.as_ref(), log).await {
                Ok(opened) => {
                    *open = Some(opened);
                    health.completed(api.name.as_str(), &at);
                    let path = api.socket.path.display();
                    log.info("serving workloads", &[("name", &api.name), ("socket", &path)]);
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

impl Bound {
    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
    }
}

impl Open {
    async fn new(
        api: &WorkloadApi,
        link: &Arc<Link>,
        reader: Option<&Reader>,
        log: Log,
    ) -> Result<Self, Failure> {
        if api.needs_executable() && reader.is_none() {
            // Its process begins before the agent has threads.
            let what = "rules about executables take effect at the next start";
            return Err(Failure::new(Exit::Config, what, "restart the agent"));
        }
        let access = FileAccess::new(api.socket.path.display().to_string(), SHORT_TIMEOUT);
        let socket = api.socket.clone();
        let (bound, listener) = access.run(move || bind(&socket)).await?;
        let failed = |cause: io::Error| Failure::io(&cause, api.socket.path.display());
        let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
        let source = Workloads::new(api.clone(), Arc::clone(link));
        let reader = reader.filter(|_| api.needs_executable()).cloned();
        let attestor = Attestor::new(reader);
        let attest = move |stream: &tokio::net::UnixStream| {
            let peer = attestor.peer(stream)?;
            Ok(Process { attestor: attestor.clone(), peer })
        };
        let limits = Limits::default();
        let server = Server::serve(listener, attest, source, api.sds.clone(), limits, log);
        Ok(Self { socket: bound, _server: server })
    }
}

/// The process at the other end of a connection.
struct Process {
    attestor: Attestor,
    peer: Peer,
}

impl Attest for Process {
    fn attest(&self) -> Answer<'_, Result<Caller, Refused>> {
        Box::pin(self.attestor.attest_peer(&self.peer))
    }

    fn ended(&self) -> Answer<'_, ()> {
        // An error is treated as the end.
        Box::pin(async { drop(self.peer.ended().await) })
    }

    fn uid(&self) -> u32 {
        self.peer.credentials().uid
    }
}

/// Binds a socket under another name, and then moves it to its place: no process can connect before its mode is right, and one that
/// a dead agent left is replaced.
fn bind(socket: &Socket) -> Result<(Bound, UnixListener), Failure> {
    let path = &socket.path;
    let failed = |cause: io::Error| Failure::io(&cause, path.display());
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let what = format!("{} exists and is not a socket", path.display());
            return Err(Failure::new(
                Exit::Config,
                what,
                "remove it, or write another path in `listen`",
            ));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            let what = format!("another program listens on {}", path.display());
            return Err(Failure::new(
                Exit::Busy,
                what,
                "stop it, or write another path in `listen`",
            ));
        }
        _ => {}
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    remove(&temporary).map_err(failed)?;
    let listener = unix_socket::bind_outside(&temporary).map_err(failed)?;
    let placed = place(&temporary, socket);
    if placed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    placed?;
    let inode = fs::symlink_metadata(path).map_err(failed)?.ino();
    Ok((Bound { path: path.clone(), inode }, listener))
}

fn place(temporary: &Path, socket: &Socket) -> Result<(), Failure> {
    let failed = |cause: io::Error| Failure::io(&cause, socket.path.display());
    if let Some(group) = &socket.group {
        let gid = group_id(group)?;
        std::os::unix::fs::chown(temporary, None, Some(gid)).map_err(|cause| {
            let mut failure = failed(cause);
            failure.advice = "the agent's user must be root or a member of the group".into();
            failure
        })?;
    }
    fs::set_permissions(temporary, fs::Permissions::from_mode(socket.mode)).map_err(failed)?;
    fs::rename(temporary, &socket.path).map_err(failed)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let (path, inode) = (std::mem::take(&mut self.path), self.inode);
        file_access::at_the_end(move || {
            if fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == inode) {
                let _ = fs::remove_file(&path);
            }
        });
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
