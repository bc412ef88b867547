//! Comparing what is in place with what was written. It runs on a thread of its own: where a file system hangs, it never
//! ends, and signals, `/readyz` and the watchdog go on.

use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::SigSet;
use tokio::sync::oneshot::{self, Receiver};

use super::health::IDENTITY;
use super::machine::Holder;
use super::worker::Files;
use super::{health_socket, name};
use crate::deliver::destination::Change;

/// What a comparison has found.
pub(super) struct CheckResult {
    /// What is not as it was written any more, and its name.
    pub(super) changed: Vec<(Holder, String, Change)>,
    /// Why the configuration asks for another identity than the one there is.
    pub(super) mismatch: Option<String>,
    /// The socket in the storage, made again because it was gone.
    pub(super) socket: Option<UnixListener>,
}

/// A comparison that goes on.
pub(super) struct RunningCheck {
    thread: Receiver<CheckResult>,
    /// The name of what is being checked.
    at: Arc<Mutex<String>>,
}

impl RunningCheck {
    pub(super) fn begin(files: Files) -> Self {
        let at = Arc::new(Mutex::new(String::new()));
        let now_at = Arc::clone(&at);
        let (reply, thread) = oneshot::channel();
        // If there can be no thread now, nothing is seen: there may be one in a minute.
        let _ = thread::Builder::new().name("file-check".into()).spawn(move || {
            // Signals are for the thread that waits for them.
            let _ = SigSet::all().thread_block();
            // The daemon may have ended.
            let _ = reply.send(compare(&files, &now_at));
        });
        Self { thread, at }
    }

    /// What is being checked now.
    pub(super) fn at(&self) -> String {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was found, `None` if it was not possible to check; never, if no check runs. Nothing is lost if this
    /// is dropped.
    pub(super) async fn ended(running_check: &mut Option<Self>) -> Option<CheckResult> {
        let Some(Self { thread, .. }) = running_check else { return std::future::pending().await };
        let seen = thread.await.ok();
        *running_check = None;
        seen
    }
}

fn compare(files: &Files, at: &Mutex<String>) -> CheckResult {
    let note = |name: &str| name.clone_into(&mut at.lock().unwrap_or_else(PoisonError::into_inner));
    let holders = files.holders();
    let changed = holders.filter_map(|holder| {
        let name = name(files.settings(), holder);
        note(&name);
        Some((holder, name, files.check(holder).err()?))
    });
    let changed = changed.collect();
    note(IDENTITY);
    let mismatch = files.mismatch();
    let socket = health_socket::socket(files.settings());
    let socket = socket.and_then(|path| health_socket::recreate_socket(&path));
    CheckResult { changed, mismatch, socket }
}
