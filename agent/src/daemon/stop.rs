//! What a job does not wait for any more when the daemon was asked to stop.

use std::time::Duration;

use host::exit::{Exit, Failure};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// How long the authority may still be waited for: a healthy one answers in that time, and what it grants is not lost.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long files may still be waited for: what is being written is completed, unless the file system hangs.
const STOP_FILES_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether the daemon was asked to stop. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    /// Since when.
    asked: watch::Sender<Option<Instant>>,
    timeout: Duration,
    files_timeout: Duration,
}

impl Stop {
    pub(crate) fn new() -> Self {
        Self {
            asked: watch::Sender::new(None),
            timeout: STOP_TIMEOUT,
            files_timeout: STOP_FILES_TIMEOUT,
        }
    }

    /// The daemon was asked to stop.
    pub(crate) fn ask(&self) {
        self.asked.send_replace(Some(Instant::now()));
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.borrow().is_some()
    }

    /// The result of `work`, which waits for the network; it is dropped [`STOP_TIMEOUT`] after the daemon was asked to stop.
    ///
    /// # Errors
    /// Those of `work`; [`Exit::Unavailable`] if it was dropped.
    pub(crate) async fn limit<T, E: From<Failure>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::select! {
            biased;
            result = work => result,
            () = self.after_asked(|_| sleep(self.timeout)) => {
                let what = "the agent was asked to stop before there was an answer";
                Err(Failure::new(Exit::Unavailable, what, "check that the authority is running and reachable").into())
            }
        }
    }

    /// The result of `work`, which waits for files; it is dropped [`STOP_FILES_TIMEOUT`] after the daemon was asked to stop, or
    /// [`STOP_TIMEOUT`] after it began.
    ///
    /// # Errors
    /// Those of `work`; [`Exit::Busy`] if it was dropped.
    pub(crate) async fn limit_files<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            result = work => result,
            () = self.after_asked(|asked| sleep_until(
                (asked + self.files_timeout).max(Instant::now() + self.timeout)
            )) => {
                let what = "the agent was asked to stop while it waited for files";
                Err(Failure::new(Exit::Busy, what, "check that their file system responds"))
            }
        }
    }

    /// Ends after `pause`, which begins once the daemon was asked to stop.
    async fn after_asked<P: Future<Output = ()>>(&self, pause: impl FnOnce(Instant) -> P) {
        // This value is a sender, so there is no error.
        let asked = self.asked.subscribe().wait_for(Option::is_some).await.map(|asked| *asked);
        pause(asked.ok().flatten().unwrap_or_else(Instant::now)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn work_is_dropped_after_the_daemon_was_asked_to_stop_and_not_before() {
        let short = Duration::from_millis(1);
        let stop = Stop { timeout: short, files_timeout: short, ..Stop::new() };
        let work = async {
            tokio::time::sleep(stop.timeout * 20).await;
            Ok::<_, Failure>(7)
        };
        assert_eq!(stop.limit(work).await.unwrap(), 7);
        let limited = stop.limit(pending::<Result<(), Failure>>());
        let ask = async {
            tokio::time::sleep(stop.timeout).await;
            stop.ask();
        };
        let (dropped, ()) = tokio::join!(limited, ask);
        assert_eq!(dropped.unwrap_err().exit, Exit::Unavailable);
        // What begins now has the same time.
        assert_eq!(stop.limit(async { Ok::<_, Failure>(8) }).await.unwrap(), 8);
        stop.limit(pending::<Result<(), Failure>>()).await.unwrap_err();
        assert_eq!(stop.limit_files(async { Ok(9) }).await.unwrap(), 9);
        let files = stop.limit_files(pending::<Result<(), Failure>>());
        assert_eq!(files.await.unwrap_err().exit, Exit::Busy);
    }
}
