//! Comparing what is in place with what was written, beside the jobs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use host::exit::Failure;
use tokio::sync::Notify;

use super::health_socket::Socket;
use super::machine::Holder;
use super::worker::Files;
use crate::deliver::destination::Change;
use crate::file_access;

/// What a comparison has found.
#[derive(Default)]
pub(super) struct CheckResult {
    /// What is not as it was written any more, and its name.
    pub(super) changed: Vec<(Holder, String, Change)>,
    /// The names of what cannot be read because its file system hangs.
    pub(super) unreadable: Vec<(String, Failure)>,
    /// Why the configuration asks for another identity than the one there is.
    pub(super) mismatch: Option<String>,
    /// The socket in the storage, made again because it was gone.
    pub(super) socket: Option<Socket>,
}

/// A comparison that goes on. It ends in a minute or two at the latest: each access to files has a time limit.
pub(super) struct RunningCheck(Arc<Progress>);

/// How far a comparison is.
#[derive(Default)]
struct Progress {
    state: Mutex<State>,
    has_news: Notify,
}

#[derive(Default)]
enum State {
    #[default]
    Running,
    WithoutNews,
    WithNews(Box<CheckResult>),
}

impl Progress {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunningCheck {
    /// Begins a comparison, on a thread of its own. `is_news` says whether the daemon has to act on what was found.
    pub(super) fn begin(
        files: Files,
        is_news: impl FnOnce(&CheckResult) -> bool + Send + 'static,
    ) -> Self {
        let progress = Arc::new(Progress::default());
        let running = Arc::clone(&progress);
        let started = file_access::spawn(move || {
            let found = files.check();
            let is_news = is_news(&found);
            *running.lock() = match is_news {
                true => State::WithNews(Box::new(found)),
                false => State::WithoutNews,
            };
            if is_news {
                running.has_news.notify_one();
            }
        });
        if started.is_err() {
            // The next one may have a thread.
            *progress.lock() = State::WithoutNews;
        }
        Self(progress)
    }

    /// What was found that is news; never, if no check runs or it has found none. Cancel safe.
    pub(super) async fn news(running_check: &mut Option<Self>) -> CheckResult {
        let Some(Self(progress)) = running_check else { return std::future::pending().await };
        loop {
            progress.has_news.notified().await;
            let state = std::mem::take(&mut *progress.lock());
            if let State::WithNews(found) = state {
                *running_check = None;
                return *found;
            }
        }
    }

    /// Whether it has ended and found no news, which does not wake the daemon.
    pub(super) fn has_no_news(&self) -> bool {
        matches!(*self.0.lock(), State::WithoutNews)
    }
}
