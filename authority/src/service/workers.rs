//! Threads for what takes processor time before a host has proven anything.
//!
//! A reactor thread that computes serves nobody else meanwhile. These leave one core to the
//! reactor, and turn work away rather than let it pile up.

use std::num::NonZero;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::refusal::{Code, Refusal};

/// Jobs that run or wait. One takes some milliseconds at worst.
const MAX_JOBS: usize = 1024;

/// A bounded number of threads with a bounded queue.
pub(super) struct Workers {
    running: Arc<Semaphore>,
    places: Semaphore,
}

impl Default for Workers {
    /// One for each core but one; at least one.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::new(cores.saturating_sub(1).max(1), MAX_JOBS)
    }
}

impl Workers {
    fn new(threads: usize, jobs: usize) -> Self {
        Self { running: Arc::new(Semaphore::new(threads)), places: Semaphore::new(jobs) }
    }

    /// Runs a job on one of the threads, after those that came before it.
    ///
    /// # Errors
    /// [`Code::Busy`] if too many wait already.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let busy = |_| Refusal::new(Code::Busy, "too many claims wait for their appraisal");
        let _place = self.places.try_acquire().map_err(busy)?;
        let turn = Arc::clone(&self.running).acquire_owned().await;
        let turn = turn.map_err(Refusal::because(Code::Internal))?;
        let job = tokio::task::spawn_blocking(move || {
            // The job's, not the caller's: who no longer waits does not end the job.
            let _turn = turn;
            job()
        });
        job.await.map_err(Refusal::because(Code::Internal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread::{self, ThreadId};

    #[tokio::test]
    async fn jobs_do_not_run_on_the_reactor() {
        let workers = Workers::new(1, 1);
        let there: ThreadId = workers.run(|| thread::current().id()).await.unwrap();
        assert_ne!(there, thread::current().id());
    }

    #[tokio::test]
    async fn jobs_beyond_the_queue_are_refused_and_those_in_it_run() {
        let workers = Arc::new(Workers::new(1, 2));
        let (release, released) = channel::<()>();
        let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
        let held = {
            let workers = Arc::clone(&workers);
            tokio::spawn(async move {
                let job = move || {
                    let _ = started.send(());
                    released.recv().is_ok()
                };
                workers.run(job).await
            })
        };
        starts.recv().await.unwrap();
        let mut waiting = Box::pin(workers.run(|| true));
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(waiting.as_mut().poll(context).is_pending())
        });
        assert!(polled.await, "one thread, and it is taken");
        assert_eq!(workers.run(|| true).await.unwrap_err().code, Code::Busy);
        release.send(()).unwrap();
        assert!(held.await.unwrap().unwrap());
        assert!(waiting.await.unwrap());
        assert!(workers.run(|| true).await.unwrap());
    }
}
