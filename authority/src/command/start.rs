//! authority start

use std::sync::Arc;

use tls::CaPin;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{bug, print};
use crate::audit::AuditLog;
use crate::cli::Start;
use crate::clock::Clock;
use crate::cluster::{Cluster, Origin};
use crate::exit::{Exit, Failure};
use crate::folder::DataFolder;
use crate::server::{AdminSocket, Leaf, PublicListener, serve};
use crate::service::Authority;

pub(super) async fn start(start: Start) -> Result<(), Failure> {
    // Before anything else, so that no signal finds nobody listening.
    let signals = Signals::new().map_err(|cause| Failure::io(&cause, "cannot wait for signals"))?;
    let folder = DataFolder::new(&start.data.data_dir);
    let lock = folder.lock()?;
    let clock = Clock::system();
    let cluster = Cluster::open(&folder, &lock, start.cluster_name, clock.now())?;
    let audit = folder.audit();
    let audit = AuditLog::open(&audit)
        .map_err(|cause| Failure::io(&cause, format!("cannot open {}", audit.display())))?;
    let certificate = cluster.issuer.x509().certificate().clone();
    let pin = CaPin::of_certificate(&certificate).map_err(bug)?;
    let store = Arc::new(cluster.store);
    let authority =
        Arc::new(Authority::new(cluster.issuer, store, audit, clock, start.join_timeout));

    let leaf = Leaf::new(Arc::clone(&authority)).map_err(bug)?;
    let config = tls::server_config(leaf, &[certificate]).map_err(bug)?;
    let admin = AdminSocket::bind(&folder, &lock).map_err(|cause| {
        Failure::io(&cause, format!("cannot listen on {}", folder.socket().display()))
    })?;
    let public = PublicListener::bind(start.listen, config).await.map_err(|cause| Failure {
        exit: Exit::Unavailable,
        advice: "see what else listens there, or choose another address with --listen".into(),
        ..Failure::io(&cause, format!("cannot listen on {}", start.listen))
    })?;
    let address = public.address().map_err(bug)?;

    let name = authority.issuer.cluster();
    if cluster.origin == Origin::Created {
        info!(cluster = %name, folder = %folder.path().display(), "new cluster");
    }
    info!(cluster = %name, listen = %address, ca_pin = %pin, "authority started");
    print(format!("Cluster  {name}\nListen   {address}\nCA pin   {pin}\n"))?;

    let (stop, stopped) = watch::channel(false);
    tokio::spawn(signals.wait(stop));
    serve(authority, public, admin, stopped).await.map_err(|cause| {
        Failure::new(Exit::Io, format!("the server failed: {cause}"), "see the log")
    })?;
    drop(lock);
    info!("authority stopped");
    Ok(())
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The first signal ends the service in order, the second one at once.
    async fn wait(mut self, stop: watch::Sender<bool>) {
        self.one().await;
        info!("stopping");
        // An error means that nobody serves any more.
        let _ = stop.send(true);
        self.one().await;
        warn!("stopping at once");
        std::process::exit(0);
    }

    async fn one(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
