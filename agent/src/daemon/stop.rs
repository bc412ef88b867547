//! What a job does not wait for any more when the daemon was asked to stop.

use std::time::Duration;

use host::exit::{Exit, Failure};
use tokio::sync::watch;

/// How long the authority may still be waited for: a healthy one answers in that time, and what it grants is not lost.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the daemon was asked to stop. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    asked: watch::Sender<bool>,
    timeout: Duration,
}

impl Stop {
    pub(crate) fn new() -> Self {
        Self { asked: watch::Sender::new(false), timeout: STOP_TIMEOUT }
    }

    /// The daemon was asked to stop.
    pub(crate) fn ask(&self) {
        self.asked.send_replace(true);
    }

    pub(crate) fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// The result of `work`, which waits for the network; it is dropped [`STOP_TIMEOUT`] after the daemon was asked to stop.
    ///
    /// # Errors
    /// Those of `work`; [`Exit::Unavailable`] if it was dropped.
    pub(crate) async fn limit<T, E: From<Failure>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut asked = self.asked.subscribe();
        let stopped = async {
            // This value is a sender, so there is no error.
            let _ = asked.wait_for(|asked| *asked).await;
            tokio::time::sleep(self.timeout).await;
        };
        tokio::select! {
            biased;
            result = work => result,
            () = stopped => {
                let what = "the agent was asked to stop before there was an answer";
                Err(Failure::new(Exit::Unavailable, what, "check that the authority is running and reachable").into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn work_is_dropped_after_the_daemon_was_asked_to_stop_and_not_before() {
        let stop = Stop { timeout: Duration::from_millis(1), ..Stop::new() };
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
    }
}
