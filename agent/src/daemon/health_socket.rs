//! Where the daemon answers questions about its health: the address of `diag_addr`, and a socket in the storage.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use host::exit::Failure;
use host::unix_socket;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::SOCKET;
use super::diag::{self, Listener};
use super::health::Health;
use crate::config::{self, Settings};
use crate::file_access;

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
    /// Answers at the address of `diag_addr`, and on the socket in the storage, if there is one.
    pub(super) async fn begin(
        settings: &Settings,
        socket: Option<Socket>,
        health: &Health,
    ) -> Result<Self, Failure> {
        let mut answers = Self { address: None, socket: None };
        if let Some(address) = settings.diag_addr {
            let listener = bind(address).await?;
            answers.address = Some(Answering::on(Listener::Tcp(listener), health));
        }
        if let Some(socket) = socket {
            let path = socket.path.clone();
            answers.socket = Some((path, Answering::at(socket.take()?, health)?));
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
    pub(super) fn replace_socket(&mut self, recreated: Socket, health: &Health) {
        let path = recreated.path.clone();
        if let Ok(answering) = recreated.take().and_then(|socket| Answering::at(socket, health)) {
            self.socket = Some((path, answering));
        }
    }
}

/// A socket in the storage on which nothing answers yet. If nothing ever does, its file goes with it.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    listener: Option<UnixListener>,
}

impl Socket {
    fn take(mut self) -> Result<UnixListener, Failure> {
        self.listener.take().ok_or_else(|| Failure::bug("a socket without a listener"))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.listener.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where the socket in the storage belongs.
#[derive(Clone, Debug)]
pub(super) struct SocketPlace {
    path: PathBuf,
    /// Whether it was made. Clones share this.
    is_bound: Arc<AtomicBool>,
}

impl SocketPlace {
    /// The place in the storage, if that is a directory.
    pub(super) fn of(settings: &Settings) -> Option<Self> {
        match &settings.storage {
            config::Storage::Directory(directory) => {
                Some(Self { path: directory.path.join(SOCKET), is_bound: Arc::default() })
            }
            config::Storage::Memory => None,
        }
    }

    /// Makes the socket.
    pub(super) fn bind(&self) -> Result<Socket, Failure> {
        let path = &self.path;
        let failed = |cause| Failure::io(&cause, path.display());
        // We hold the lock of the storage, so any previous listener is gone.
        match fs::remove_file(path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed(cause)),
            _ => {}
        }
        // Inside a directory that no other user can enter.
        let listener = unix_socket::bind_outside(path).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        self.is_bound.store(true, Ordering::Relaxed);
        Ok(Socket { path: path.clone(), listener: Some(listener) })
    }

    /// Makes the socket again if it was removed, with the storage for example, or could not be made before.
    pub(super) fn recreate(&self) -> Option<Socket> {
        let is_there = self.is_bound.load(Ordering::Relaxed) && self.path.exists();
        if is_there { None } else { self.bind().ok() }
    }
}

impl Drop for Answers {
    /// Removes the socket, unless the storage hangs.
    fn drop(&mut self) {
        let Some((path, _)) = self.socket.take() else { return };
        file_access::at_the_end(move || drop(fs::remove_file(path)));
    }
}
