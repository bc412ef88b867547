//! Comparing what is in place with what was written. It runs on a thread of its own: where a file system hangs, it never
//! ends, and signals, `/readyz` and the watchdog go on.

use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::sys::signal::SigSet;
use tokio::sync::oneshot::{self, Receiver};

use super::health::IDENTITY;
use super::machine::Part;
use super::worker::Files;
use super::{health_socket, name};
use crate::deliver::destination::Change;

/// What a comparison has found.
pub(super) struct Seen {
    /// What is not as it was written any more, and its name.
    pub(super) changed: Vec<(Part, String, Change)>,
    /// Why the configuration asks for another identity than the one there is.
    pub(super) departure: Option<String>,
    /// The socket in the storage, made again because it was gone.
    pub(super) socket: Option<UnixListener>,
}

/// A comparison that goes on.
pub(super) struct Looking {
    thread: Receiver<Seen>,
    /// The name of what is being looked at.
    at: Arc<Mutex<String>>,
}

impl Looking {
    pub(super) fn begin(files: Files) -> Self {
        let at = Arc::new(Mutex::new(String::new()));
        let now_at = Arc::clone(&at);
        let (reply, thread) = oneshot::channel();
        // If there can be no thread now, nothing is seen: there may be one in a minute.
        let _ = thread::Builder::new().name("look".into()).spawn(move || {
            // Signals are for the thread that waits for them.
            let _ = SigSet::all().thread_block();
            // The daemon may have ended.
            let _ = reply.send(look(&files, &now_at));
        });
        Self { thread, at }
    }

    /// What is being looked at now.
    pub(super) fn at(&self) -> String {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was found, `None` if it was not possible to look; never, if nothing is being looked at. Nothing is lost if this
    /// is dropped.
    pub(super) async fn ended(looking: &mut Option<Self>) -> Option<Seen> {
        let Some(Self { thread, .. }) = looking else { return std::future::pending().await };
        let seen = thread.await.ok();
        *looking = None;
        seen
    }
}

fn look(files: &Files, at: &Mutex<String>) -> Seen {
    let note = |name: &str| name.clone_into(&mut at.lock().unwrap_or_else(PoisonError::into_inner));
    let parts = files.parts();
    let changed = parts.filter_map(|part| {
        let name = name(files.settings(), part);
        note(&name);
        Some((part, name, files.check(part).err()?))
    });
    let changed = changed.collect();
    note(IDENTITY);
    let departure = files.departure();
    let socket = health_socket::socket(files.settings());
    let socket = socket.and_then(|path| health_socket::recreate_socket(&path));
    Seen { changed, departure, socket }
}
