//! Comparing what is in place with what was written, beside the jobs.

use host::exit::Failure;
use tokio::task::JoinHandle;

use super::health_socket::Socket;
use super::machine::Holder;
use super::worker::Files;
use crate::deliver::destination::Change;

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
pub(super) struct RunningCheck(JoinHandle<CheckResult>);

impl RunningCheck {
    pub(super) fn begin(files: Files) -> Self {
        Self(tokio::spawn(async move { files.check().await }))
    }

    /// What was found; never, if no check runs. Cancel safe.
    pub(super) async fn ended(running_check: &mut Option<Self>) -> Result<CheckResult, Failure> {
        let Some(Self(task)) = running_check else { return std::future::pending().await };
        let result = task.await.map_err(Failure::bug);
        *running_check = None;
        result
    }
}
