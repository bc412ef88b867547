//! Where the daemon answers questions about its health: the address of `diag_addr`, and a socket in the storage.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use host::exit::Failure;
use host::unix_socket;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::SOCKET;
use super::diag::{self, Listener};
use super::health::Health;
use crate::config::{self, Settings};

/// How long the end of the agent waits for the removal of the socket.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(1);

/// What becomes of `diag_addr` when the configuration is read again.
#[derive(Debug, Default)]
pub(super) enum DiagChange {
    #[default]
    None,
    Off,
    /// Bound already, so that an address that cannot be had is refused with the whole configuration.
    To(TcpListener),
}

impl DiagChange {
    pub(super) async fn prepare(old: &Settings, new: &Settings) -> Result<Self, Failure> {
        Ok(match new.diag_addr {
            same if same == old.diag_addr => Self::None,
            Some(address) => Self::To(bind(address).await?),
            None => Self::Off,
        })
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|cause| {
        let mut failure = Failure::io(&cause, format!("diag_addr {address}"));
        if cause.kind() == io::ErrorKind::AddrInUse {
            failure.advice =
                "choose another address; `ss -ltnp` shows the program that uses this one".into();
        }
        failure
    })
}

/// Who answers questions about our health, until it is dropped.
pub(super) struct Answers {
    address: Option<Answering>,
    socket: Option<(PathBuf, Answering)>,
}

/// A task that ends with this value.
struct Answering(JoinHandle<()>);

impl Answering {
    fn on(listener: Listener, health: &Health) -> Self {
        Self(tokio::spawn(diag::serve_all(listener, health.clone())))
    }

    fn at(socket: UnixListener, health: &Health) -> Result<Self, Failure> {
        let listener = tokio::net::UnixListener::from_std(socket);
        let listener = listener.map_err(|cause| Failure::io(&cause, SOCKET))?;
        Ok(Self::on(Listener::Unix(listener), health))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Answers {
    pub(super) async fn begin(settings: &Settings, health: &Health) -> Result<Self, Failure> {
        let mut answers = Self { address: None, socket: None };
        if let Some(address) = settings.diag_addr {
            let listener = bind(address).await?;
            answers.address = Some(Answering::on(Listener::Tcp(listener), health));
        }
        if let Some(path) = socket(settings) {
            let answering = Answering::at(bind_socket(&path)?, health)?;
            answers.socket = Some((path, answering));
        }
        Ok(answers)
    }

    /// Answers at another address from now on, or at none.
    pub(super) fn change(&mut self, address: DiagChange, health: &Health) {
        match address {
            DiagChange::None => {}
            DiagChange::Off => self.address = None,
            DiagChange::To(listener) => {
                self.address = Some(Answering::on(Listener::Tcp(listener), health));
            }
        }
    }

    /// Answers on a socket that was made again.
    pub(super) fn mend(&mut self, recreated: UnixListener, health: &Health) {
        if let Some((_, answering)) = &mut self.socket
            && let Ok(recreated) = Answering::at(recreated, health)
        {
            *answering = recreated;
        }
    }
}

/// Where the socket in the storage is, if there is one.
pub(super) fn socket(settings: &Settings) -> Option<PathBuf> {
    match &settings.storage {
        config::Storage::Directory(directory) => Some(directory.path.join(SOCKET)),
        config::Storage::Memory => None,
    }
}

/// Removing the storage removes its socket. The socket is created again with the storage.
pub(super) fn recreate_socket(path: &Path) -> Option<UnixListener> {
    if path.exists() { None } else { bind_socket(path).ok() }
}

/// Makes the socket in the storage.
fn bind_socket(path: &Path) -> Result<UnixListener, Failure> {
    let failed = |cause| Failure::io(&cause, path.display());
    // We hold the lock of the storage, so any previous listener is gone.
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed(cause)),
        _ => {}
    }
    // Inside a directory that no other user can enter.
    let listener = unix_socket::bind_outside(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

impl Drop for Answers {
    /// Removes the socket, unless the storage hangs.
    fn drop(&mut self) {
        let Some((path, _)) = self.socket.take() else { return };
        let (ended, end) = mpsc::channel();
        let remove = move || {
            let _ = fs::remove_file(path);
            let _ = ended.send(());
        };
        if thread::Builder::new().name("remove-socket".into()).spawn(remove).is_ok() {
            let _ = end.recv_timeout(REMOVE_TIMEOUT);
        }
    }
}
