//! authority start

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use host::clock::Clock;
use host::exit::{Exit, Failure};
use host::output::write;
use host::service_manager::ServiceManager;
use tls::CaPin;
use tokio::net::TcpSocket;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::audit::AuditLog;
use crate::cluster::{Cluster, Origin};
use crate::config::Settings;
use crate::folder::DataFolder;
use crate::server::{
    AdminSocket, DiagListener, PublicListener, TlsSettings, bind, raise_open_files, serve,
};
use crate::service::Authority;
use crate::store::StoreError;

pub(super) async fn start(settings: Settings) -> Result<(), Failure> {
    // Before anything else, so that no signal is missed.
    let signals = Signals::new().map_err(|cause| Failure::io(&cause, "cannot wait for signals"))?;
    raise_open_files();
    let folder = DataFolder::new(&settings.data_dir);
    let lock = folder.lock()?;
    // Before a cluster is made: a start that cannot serve makes none.
    let addresses = Addresses::bind(&settings)?;
    let clock = Clock::system();
    let cluster = Cluster::open(&folder, &lock, settings.cluster_name, clock.now())?;
    let audit = folder.audit();
    let audit = AuditLog::open(&audit)
        .map_err(|cause| Failure::io(&cause, format!("cannot open {}", audit.display())))?;
    let pin = CaPin::of_certificate(cluster.issuer.x509().certificate()).map_err(Failure::bug)?;
    let store = Arc::new(cluster.store);
    let timeout = settings.join_timeout.duration();
    let authority = Authority::new(cluster.issuer, store, audit, clock, timeout);
    let authority = Arc::new(authority.judging_by(settings.ek_policy));
    authority.records.migrate().await.map_err(|cause| {
        let advice = match cause {
            StoreError::Newer(_) => "use the version that wrote it, or a later one",
            _ => "check that the disk has space and works",
        };
        Failure::new(Exit::Data, format!("the indexes of the store: {cause}"), advice)
    })?;
    authority.recover_audit().await.map_err(|cause| {
        let advice = "restore the data directory from a backup, as docs/authority.md describes";
        Failure::new(Exit::Data, format!("the audit log's events in the store: {cause}"), advice)
    })?;

    let tls = TlsSettings::new(Arc::clone(&authority)).map_err(Failure::bug)?;
    let admin = AdminSocket::bind(&folder, &lock).map_err(|cause| {
        Failure::io(&cause, format!("cannot listen on {}", folder.socket().display()))
    })?;
    let public = PublicListener::listen(addresses.public, tls)
        .map_err(|cause| occupied(&cause, settings.listen, LISTEN))?;
    let address = public.address().map_err(Failure::bug)?;

    let name = authority.issuer.cluster();
    if cluster.origin == Origin::Created {
        info!(cluster = %name, folder = %folder.path().display(), "new cluster");
    }
    info!(cluster = %name, listen = %address, ca_pin = %pin, "authority started");
    let (stop, stopped) = watch::channel(false);
    let mut said = format!("Cluster  {name}\nListen   {address}\nCA pin   {pin}\n");
    if let (Some(socket), Some(address)) = (addresses.diag, settings.diag_addr) {
        let diag =
            DiagListener::listen(socket).map_err(|cause| occupied(&cause, address, DIAG_ADDR))?;
        said.push_str(&format!("Diag     {}\n", diag.address().map_err(Failure::bug)?));
        tokio::spawn(diag.serve(Arc::clone(&authority), stopped.clone()));
    }
    // Serve hosts even if this cannot be written.
    if let Err(failure) = write(said) {
        warn!(cause = failure.message, "started, but cannot print the address and the CA pin");
    }

    let manager = Arc::new(ServiceManager::from_environment());
    manager.ready(&format!("serving hosts on {address}"));
    tokio::spawn(watchdog(Arc::clone(&manager), Arc::clone(&authority)));
    tokio::spawn(signals.wait(stop, manager, Arc::clone(&authority)));
    serve(authority, public, admin, stopped).await.map_err(|cause| {
        Failure::new(Exit::Io, format!("the server failed: {cause}"), "see the log")
    })?;
    drop(lock);
    info!("authority stopped");
    Ok(())
}

/// Binds the configured addresses. No one can connect before there is an authority
/// that answers.
struct Addresses {
    public: TcpSocket,
    diag: Option<TcpSocket>,
}

const LISTEN: &str = "--listen";
const DIAG_ADDR: &str = "--diag-addr";

impl Addresses {
    fn bind(settings: &Settings) -> Result<Self, Failure> {
        let one = |address: SocketAddr, flag| {
            bind(address).map_err(|cause| occupied(&cause, address, flag))
        };
        let diag = settings.diag_addr.map(|address| one(address, DIAG_ADDR)).transpose()?;
        Ok(Self { public: one(settings.listen, LISTEN)?, diag })
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

/// Notifies the service manager as long as the store responds: an authority whose store hangs
/// serves no host, and is better restarted.
async fn watchdog(manager: Arc<ServiceManager>, authority: Arc<Authority>) {
    let Some(period) = manager.watchdog() else { return };
    let mut times = tokio::time::interval(period);
    loop {
        times.tick().await;
        match authority.store_answers().await {
            Ok(()) => manager.alive(),
            Err(cause) => error!(cause, "the store is unusable"),
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// SIGHUP opens the audit log again. The first signal to end does so in order, the second one
    /// at once.
    async fn wait(
        mut self,
        stop: watch::Sender<bool>,
        manager: Arc<ServiceManager>,
        authority: Arc<Authority>,
    ) {
        while self.one().await == Asked::Reopen {
            match authority.audit.reopen() {
                Ok(()) => info!("the audit log is open again"),
                Err(cause) => error!(%cause, "the audit log cannot be opened again"),
            }
        }
        info!("stopping");
        manager.stopping("waiting for calls in progress");
        // An error means that all servers have stopped.
        let _ = stop.send(true);
        while self.one().await == Asked::Reopen {}
        warn!("stopping immediately");
        host::log::flush();
        std::process::exit(0);
    }

    async fn one(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.hang_up.recv() => Asked::Reopen,
        }
    }
}

/// What a signal asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    End,
    Reopen,
}
