//! How parts of the agent that work at the same time use one TPM.

use std::path::Path;
use std::sync::Arc;

use host::exit::Failure;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tpm2::transport::Tcti;

use crate::file_access::{FileAccess, SHORT_TIMEOUT};
use crate::tpm::passwords::{PasswordFiles, Passwords};
use crate::tpm::thread::{Audience, End, Meter, TpmThread};

/// The way to the TPM. It is opened for each use, since others use it too.
#[derive(Clone, Debug)]
pub struct TpmAccess {
    address: Tcti,
    password_files: PasswordFiles,
    /// The file system of the password files may hang.
    files: FileAccess,
    meter: Meter,
    audience: Audience,
    /// Held while the TPM is open, if only one program can have it open.
    turn: Arc<Mutex<()>>,
}

/// An open TPM.
#[derive(Debug)]
pub struct OpenTpm {
    /// Its thread.
    pub thread: TpmThread,
    /// Until it is closed.
    open: Option<(End, Turn)>,
}

/// The turn of one that has a TPM open that only one program can have open.
type Turn = Option<OwnedMutexGuard<()>>;

impl TpmAccess {
    /// The way to the TPM at this address.
    #[must_use]
    pub fn new(
        address: Tcti,
        password_files: PasswordFiles,
        files: FileAccess,
        meter: Meter,
        audience: Audience,
    ) -> Self {
        Self { address, password_files, files, meter, audience, turn: Arc::default() }
    }

    /// The same under another configuration. What is open under this one is waited for.
    #[must_use]
    pub fn or(&self, other: Self) -> Self {
        Self { turn: Arc::clone(&self.turn), ..other }
    }

    /// Opens the TPM, when no other part of the agent has it open, if only one can.
    ///
    /// # Errors
    /// As [`TpmThread::open_async`].
    pub async fn open(&self) -> Result<OpenTpm, Failure> {
        let turn = match is_shared(&self.address) {
            true => None,
            false => Some(Arc::clone(&self.turn).lock_owned().await),
        };
        let opened = TpmThread::open_async(&self.address, self.meter.clone(), self.audience);
        let (thread, end) = opened.await?;
        Ok(OpenTpm { thread, open: Some((end, turn)) })
    }

    /// The passwords of the TPM's hierarchies.
    ///
    /// # Errors
    /// As [`PasswordFiles::read`].
    pub async fn passwords(&self) -> Result<Passwords, Failure> {
        let files = self.password_files.clone();
        self.files.run_within(SHORT_TIMEOUT, move || files.read()).await
    }
}

impl OpenTpm {
    /// Closes it, and waits until it is as it was.
    pub async fn close(mut self) {
        if let Some((end, turn)) = self.open.take() {
            end.close().await;
            drop(turn);
        }
    }
}

/// Without blocking: one that gave up waiting for the TPM drops it.
impl Drop for OpenTpm {
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            tokio::task::spawn_blocking(move || drop(open));
        }
    }
}

/// Whether the kernel's resource manager lets several programs have the TPM open at the same time.
fn is_shared(address: &Tcti) -> bool {
    let Tcti::Device(path) = address else { return false };
    let name = path.file_name().map(Path::new);
    name.and_then(Path::to_str).is_some_and(|name| name.starts_with("tpmrm"))
}
