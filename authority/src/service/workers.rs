//! Threads for work that takes processor time before a host has proven anything: handshakes and the verification of claims.
//!
//! A reactor thread that computes serves no one else meanwhile. These leave one core to the reactor,
//! take jobs from each source in turn, and turn work away rather than let it pile up. So a host waits
//! for one job of each other source at most, however many a single source sends.

use std::collections::{HashMap, VecDeque};
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::Source;
use super::refusal::{Code, Refusal};

/// Jobs that wait. One takes some milliseconds at worst.
const MAX_WAITING: usize = 2048;

/// A bounded number of threads with a bounded queue.
#[derive(Clone)]
pub(crate) struct Workers(Arc<Mutex<Queue>>);

/// What waits for a thread.
struct Queue {
    idle: usize,
    waiting: usize,
    max_waiting: usize,
    /// Sources with jobs that wait, in the order of their turns.
    turns: VecDeque<Source>,
    /// The jobs of each of them, in the order in which they came.
    jobs: HashMap<Source, VecDeque<oneshot::Sender<Thread>>>,
}

/// The right to one thread. It goes to the next job when this is dropped.
struct Thread(Workers);

impl Default for Workers {
    /// One thread for each core but one; at least one.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::new(cores.saturating_sub(1).max(1), MAX_WAITING)
    }
}

impl Workers {
    fn new(threads: usize, max_waiting: usize) -> Self {
        let (turns, jobs) = (VecDeque::new(), HashMap::new());
        Self(Arc::new(Mutex::new(Queue { idle: threads, waiting: 0, max_waiting, turns, jobs })))
    }

    /// Runs a job on one of the threads, when it is the turn of its source.
    ///
    /// # Errors
    /// [`Code::Busy`] if too many jobs wait already, and no source has more of them than this one.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        source: Source,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let busy = || Refusal::new(Code::Busy, "too many claims are waiting for verification");
        let thread = match self.enter(source).ok_or_else(busy)? {
            Turn::Now(thread) => thread,
            // An error means that the job had to give way to another source's.
            Turn::Later(turn) => turn.await.map_err(|_| busy())?,
        };
        let job = tokio::task::spawn_blocking(move || {
            // The job's, not the caller's: a caller that has gone does not end the job.
            let _thread = thread;
            job()
        });
        job.await.map_err(Refusal::because(Code::Internal))
    }

    /// A thread, or a position in the queue; `None` if the queue is full.
    fn enter(&self, source: Source) -> Option<Turn> {
        let mut queue = self.queue();
        if let Some(idle) = queue.idle.checked_sub(1) {
            queue.idle = idle;
            return Some(Turn::Now(Thread(self.clone())));
        }
        if queue.waiting >= queue.max_waiting && !queue.make_room(source) {
            return None;
        }
        let (turn, later) = oneshot::channel();
        queue.push(source, turn);
        Some(Turn::Later(later))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a job runs.
enum Turn {
    Now(Thread),
    Later(oneshot::Receiver<Thread>),
}

impl Queue {
    fn push(&mut self, source: Source, turn: oneshot::Sender<Thread>) {
        let jobs = self.jobs.entry(source).or_default();
        if jobs.is_empty() {
            self.turns.push_back(source);
        }
        jobs.push_back(turn);
        self.waiting += 1;
    }

    /// The first job of the source whose turn it is; the source's next turn comes after all others'.
    fn pop(&mut self) -> Option<oneshot::Sender<Thread>> {
        let source = self.turns.pop_front()?;
        let jobs = self.jobs.get_mut(&source)?;
        let turn = jobs.pop_front();
        if jobs.is_empty() {
            self.jobs.remove(&source);
        } else {
            self.turns.push_back(source);
        }
        self.waiting = self.waiting.saturating_sub(1);
        turn
    }

    /// Turns the newest job away of the source that has most; false if that is this source.
    fn make_room(&mut self, newcomer: Source) -> bool {
        let own = self.jobs.get(&newcomer).map_or(0, VecDeque::len);
        let most = self.jobs.values_mut().max_by_key(|jobs| jobs.len());
        // One that has more than a newcomer's next has two, and keeps its turn.
        let Some(most) = most.filter(|jobs| jobs.len() > own + 1) else { return false };
        most.pop_back();
        self.waiting = self.waiting.saturating_sub(1);
        true
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        // A job whose caller has gone is passed over.
        while let Some(turn) = queue.pop() {
            if turn.is_closed() {
                continue;
            }
            drop(queue);
            // If the caller goes at this moment, the right comes back and is dropped here again.
            drop(turn.send(Self(self.0.clone())));
            return;
        }
        queue.idle += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};
    use std::thread::{self, ThreadId};

    use tokio::task::{JoinHandle, yield_now};

    use super::*;

    type Job<T> = JoinHandle<Result<T, Refusal>>;

    fn source(host: u8) -> Source {
        Source::of([192, 0, 2, host].into())
    }

    /// Queues a job of this host, in a task of its own.
    async fn queued<T: Send + 'static>(
        workers: &Workers,
        host: u8,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Job<T> {
        let own = || workers.queue().jobs.get(&source(host)).map_or(0, VecDeque::len);
        let before = own();
        let task = workers.clone();
        let task = tokio::spawn(async move { task.run(source(host), job).await });
        while own() == before {
            yield_now().await;
        }
        task
    }

    /// Takes the one thread until the sender is used.
    async fn hold(workers: &Workers) -> (mpsc::Sender<()>, Job<bool>) {
        let (release, released) = mpsc::channel::<()>();
        let workers = workers.clone();
        let (started, starts) = oneshot::channel();
        let job = move || {
            let _ = started.send(());
            released.recv().is_ok()
        };
        let held = tokio::spawn(async move { workers.run(source(0), job).await });
        starts.await.unwrap();
        (release, held)
    }

    #[tokio::test]
    async fn jobs_do_not_run_on_the_reactor() {
        let workers = Workers::new(1, 1);
        let there: ThreadId = workers.run(source(1), || thread::current().id()).await.unwrap();
        assert_ne!(there, thread::current().id());
    }

    #[tokio::test]
    async fn jobs_beyond_the_queue_are_refused_and_those_in_it_run() {
        let workers = Workers::new(1, 1);
        let (release, held) = hold(&workers).await;
        let waiting = queued(&workers, 1, || true).await;
        for host in [1, 2] {
            let refused = workers.run(source(host), || true).await;
            assert_eq!(refused.unwrap_err().code, Code::Busy, "no source has more than another");
        }
        release.send(()).unwrap();
        assert!(held.await.unwrap().unwrap());
        assert!(waiting.await.unwrap().unwrap());
        assert!(workers.run(source(1), || true).await.unwrap());
    }

    #[tokio::test]
    async fn sources_take_turns() {
        let workers = Workers::new(1, 100);
        let (release, held) = hold(&workers).await;
        let (done, order) = mpsc::channel();
        let mut jobs = Vec::new();
        for host in [1, 1, 1, 1, 2, 3, 2] {
            let done = done.clone();
            jobs.push(queued(&workers, host, move || done.send(host).unwrap()).await);
        }
        release.send(()).unwrap();
        held.await.unwrap().unwrap();
        for job in jobs {
            job.await.unwrap().unwrap();
        }
        drop(done);
        assert_eq!(order.iter().collect::<Vec<_>>(), [1, 2, 3, 1, 2, 1, 1]);
        assert!(workers.queue().jobs.is_empty() && workers.queue().turns.is_empty());
    }

    #[tokio::test]
    async fn source_with_most_jobs_gives_way_when_the_queue_is_full() {
        let workers = Workers::new(1, 3);
        let (release, held) = hold(&workers).await;
        let mut crowd = Vec::new();
        for _ in 0..3 {
            crowd.push(queued(&workers, 1, || true).await);
        }
        let other = queued(&workers, 2, || true).await;
        release.send(()).unwrap();
        held.await.unwrap().unwrap();
        let mut ends = Vec::new();
        for job in crowd {
            ends.push(job.await.unwrap().map_err(|refusal| refusal.code));
        }
        assert_eq!(ends, [Ok(true), Ok(true), Err(Code::Busy)]);
        assert!(other.await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn thread_passes_over_jobs_whose_callers_have_gone() {
        let workers = Workers::new(1, 10);
        let (release, held) = hold(&workers).await;
        let gone = queued(&workers, 1, || true).await;
        gone.abort();
        assert!(gone.await.is_err());
        let next = queued(&workers, 2, || true).await;
        release.send(()).unwrap();
        held.await.unwrap().unwrap();
        assert!(next.await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn caller_that_goes_in_its_turn_leaves_the_thread_to_the_next() {
        let workers = Workers::new(1, 10);
        let (release, held) = hold(&workers).await;
        {
            let mut gone = pin!(workers.run(source(1), || true));
            let mut context = Context::from_waker(Waker::noop());
            assert!(matches!(gone.as_mut().poll(&mut context), Poll::Pending));
            release.send(()).unwrap();
            held.await.unwrap().unwrap();
            while workers.queue().waiting > 0 {
                yield_now().await;
            }
        }
        assert!(workers.run(source(2), || true).await.unwrap());
    }
}
