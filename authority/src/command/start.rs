//! authority start

use std::io;
use std::sync::Arc;
use std::time::Duration;

use host::exit::{Exit, Failure};
use host::output::write;
use host::service_manager::ServiceManager;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::assemble::{Parts, assemble};
use crate::cluster::{Origin, keyring_failure};
use crate::config::{Cryptography, Settings};
use crate::keyring::{KeyringError, NO_RECOVERY_KEY};
use crate::server::raise_open_files;
use crate::service::Authority;

/// How often the store is asked whether it answers, for the log.
const STORE_INTERVAL: Duration = Duration::from_secs(30);

pub(super) async fn start(settings: Settings) -> Result<(), Failure> {
    // Before any key is read, since that decides who computes.
    if settings.cryptography == Cryptography::Portable {
        ecc::refuse_graviola().map_err(Failure::bug)?;
    }
    // So that no signal is missed.
    let signals = Signals::new().map_err(|cause| Failure::io(&cause, "cannot wait for signals"))?;
    raise_open_files();
    let directory = settings.data_dir.clone();
    let assembled = assemble(settings, Parts::system()).await?;

    let authority = Arc::clone(&assembled.authority);
    let name = authority.issuer.cluster();
    let (address, pin) = (assembled.address, &assembled.ca_pin);
    if assembled.origin == Origin::Created {
        info!(cluster = %name, data_dir = %directory.display(), "new cluster");
    }
    let cryptography = ecc::implementation();
    info!(cluster = %name, listen = %address, ca_pin = %pin, %cryptography, "authority started");
    let public_names = authority.public_names.warnings(authority.clock.now());
    for warning in name.warning().into_iter().chain(public_names) {
        warn!("{warning}");
    }
    if let Some(keyring) = &authority.keyring
        && keyring.recovery_since().await.is_none()
    {
        warn!("there is no recovery key: {NO_RECOVERY_KEY}");
    }
    let mut said = format!("Cluster  {name}\nListen   {address}\nCA pin   {pin}\n");
    if let Some(public) = authority.public_names.address() {
        said.push_str(&format!("Public   {}\n", public.with_port(address.port())));
    }
    if let Some(address) = assembled.diag_address {
        said.push_str(&format!("Diag     {address}\n"));
    }
    if let Some(address) = assembled.bundle_address {
        said.push_str(&format!("Bundle   https://{address}/\n"));
    }
    // Serve hosts even if this cannot be written.
    if let Err(failure) = write(said) {
        warn!(cause = failure.message, "started, but cannot print the address and the CA pin");
    }

    let (stop, stopped) = watch::channel(false);
    let manager = Arc::new(ServiceManager::from_environment());
    manager.ready(&format!("serving hosts on {address}"));
    tokio::spawn(watchdog(Arc::clone(&manager)));
    tokio::spawn(watch_store(Arc::clone(&authority)));
    let served = Arc::clone(&authority);
    tokio::spawn(signals.wait(stop, manager, authority));
    let keyring = served.keyring.clone();
    assembled.serve(stopped).await.map_err(|cause| {
        Failure::new(Exit::Io, format!("the server failed: {cause}"), "see the log")
    })?;
    if keyring.is_some_and(|keyring| keyring.is_removed()) {
        return Err(keyring_failure(KeyringError::Removed));
    }
    info!("authority stopped");
    Ok(())
}

/// Notifies the service manager's watchdog as long as this process runs its tasks. The store has no part in that: a restart does not
/// repair a database on another machine, and `/readyz` says what is wrong with it.
async fn watchdog(manager: Arc<ServiceManager>) {
    let Some(period) = manager.watchdog() else { return };
    let mut times = tokio::time::interval(period);
    loop {
        times.tick().await;
        manager.alive();
    }
}

/// Logs that the store cannot be used, and that it can be again.
async fn watch_store(authority: Arc<Authority>) {
    let mut times = tokio::time::interval(STORE_INTERVAL);
    let mut was = Ok(());
    loop {
        times.tick().await;
        let is = authority.store_answers().await;
        match &is {
            Err(cause) if is != was => error!(cause, "the store is unusable"),
            Ok(()) if was.is_err() => info!("the store is usable again"),
            _ => {}
        }
        was = is;
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

    /// SIGHUP opens the audit log again and reads the certificates of public names again. The first signal to end does so in order, the second one
    /// at once.
    async fn wait(
        mut self,
        stop: watch::Sender<bool>,
        manager: Arc<ServiceManager>,
        authority: Arc<Authority>,
    ) {
        while self.one().await == Signaled::Reopen {
            match authority.audit.reopen() {
                Ok(()) => info!("the audit log is open again"),
                Err(cause) => error!(%cause, "the audit log cannot be opened again"),
            }
            authority.reload_certificates();
        }
        info!("stopping");
        manager.stopping("waiting for calls in progress");
        // An error means that all servers have stopped.
        let _ = stop.send(true);
        while self.one().await == Signaled::Reopen {}
        warn!("stopping immediately");
        host::log::flush();
        std::process::exit(0);
    }

    async fn one(&mut self) -> Signaled {
        tokio::select! {
            _ = self.terminate.recv() => Signaled::End,
            _ = self.interrupt.recv() => Signaled::End,
            _ = self.hang_up.recv() => Signaled::Reopen,
        }
    }
}

/// What a signal asks for.
#[derive(Debug, PartialEq, Eq)]
enum Signaled {
    End,
    Reopen,
}
