//! Access to files with a time limit.
//!
//! A file system can hang: a network or FUSE mount whose server is gone does not answer, and nothing can end a thread that
//! waits for it. The caller waits for a limited time, and then continues without the files.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use host::clock;
use host::exit::{Exit, Failure};
use nix::sys::signal::SigSet;
use tokio::sync::oneshot;

/// How long access to a set of files may take: a disk that is busy or has to spin up needs less.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// How long it may take to read, lock or mark one small file. What is due elsewhere waits meanwhile.
pub const SHORT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an end that is otherwise complete waits for a last removal.
const LAST_TIMEOUT: Duration = Duration::from_secs(1);

type Work = Box<dyn FnOnce() + Send>;

/// Access to the files of one directory, or to files that are read together: one at a time. Clones share it.
#[derive(Clone, Debug)]
pub struct FileAccess {
    /// What is accessed, for errors.
    name: Arc<str>,
    timeout: Duration,
    turn: Arc<Mutex<()>>,
    /// When the access that goes on began, on the monotonic clock.
    begun: Arc<Mutex<Option<Duration>>>,
}

/// Work that nothing waits for any more does not begin.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl FileAccess {
    /// Access to what has this name in errors.
    pub fn new(name: impl Into<Arc<str>>, timeout: Duration) -> Self {
        Self { name: name.into(), timeout, turn: Arc::default(), begun: Arc::default() }
    }

    /// The result of `work`, which runs on a thread of its own, after what began before it.
    ///
    /// # Errors
    /// Those of `work`; [`Exit::Busy`] if it does not end in time. Then it may still end later. Once an access has taken that
    /// long, every other one fails at once until it ends.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.run_within(self.timeout, work).await
    }

    /// The same, for work that is expected to take a shorter time.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_within<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, result) = oneshot::channel();
        let _waiting = self.begin(Box::new(move || {
            let _ = reply.send(work());
        }))?;
        match tokio::time::timeout(timeout, result).await {
            Ok(result) => result.map_err(Failure::bug)?,
            Err(_) => Err(self.late(timeout)),
        }
    }

    /// The same for a caller that may block, because it has a thread of its own.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_blocking<T: Send + 'static>(
        &self,
        timeout: Duration,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, result) = mpsc::channel();
        let _waiting = self.begin(Box::new(move || {
            let _ = reply.send(work());
        }))?;
        result.recv_timeout(timeout).unwrap_or_else(|_| Err(self.late(timeout)))
    }

    fn begin(&self, work: Work) -> Result<Waiting, Failure> {
        self.check()?;
        let (turn, begun) = (Arc::clone(&self.turn), Arc::clone(&self.begun));
        let abandoned = Arc::new(AtomicBool::new(false));
        let waiting = Waiting(Arc::clone(&abandoned));
        let in_turn = move || {
            // Signals are for the thread that waits for them.
            let _ = SigSet::all().thread_block();
            let _turn = lock(&turn);
            if abandoned.load(Ordering::Acquire) {
                return;
            }
            *lock(&begun) = Some(clock::monotonic());
            work();
            *lock(&begun) = None;
        };
        let started = thread::Builder::new().name("files".into()).spawn(in_turn);
        started.map_err(|cause| Failure::io(&cause, format!("access to {}", self.name)))?;
        Ok(waiting)
    }

    /// Whether an access is possible now, as far as is known.
    ///
    /// # Errors
    /// [`Exit::Busy`] while one takes longer than it may.
    pub fn check(&self) -> Result<(), Failure> {
        let is_late = |begun| clock::monotonic().saturating_sub(begun) >= self.timeout;
        if lock(&self.begun).is_some_and(is_late) { Err(self.late(self.timeout)) } else { Ok(()) }
    }

    /// This access, if it still has the name; the other one otherwise.
    #[must_use]
    pub fn or(&self, other: Self) -> Self {
        if self.name == other.name { self.clone() } else { other }
    }

    fn late(&self, timeout: Duration) -> Failure {
        let seconds = timeout.as_secs();
        let what = format!("access to {} did not finish within {seconds} seconds", self.name);
        let advice = "check that the file system responds, and that the file is not a pipe";
        Failure::new(Exit::Busy, what, advice)
    }
}

/// The result of `work` on the files of this name, for a command: it ends in time even if their file system hangs.
///
/// # Errors
/// As [`FileAccess::run`].
pub fn limited<T: Send + 'static>(
    name: impl Into<Arc<str>>,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    FileAccess::new(name, SHORT_TIMEOUT).run_blocking(SHORT_TIMEOUT, work)
}

/// Waits a moment for `work`, a removal at the end of the agent.
pub fn at_the_end(work: impl FnOnce() + Send + 'static) {
    let access = FileAccess::new("a file", LAST_TIMEOUT);
    let work = move || {
        work();
        Ok(())
    };
    // Nothing can be done about a file that stays.
    let _ = access.run_blocking(LAST_TIMEOUT, work);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    /// Begins an access that does not end before the result is used or dropped.
    async fn hang(access: &FileAccess) -> mpsc::Sender<()> {
        loop {
            let (answer, hangs) = mpsc::channel::<()>();
            let (begin, begun) = mpsc::channel();
            let stuck = access.run_within(SHORT, move || {
                begin.send(()).map_err(Failure::bug)?;
                hangs.recv().map_err(Failure::bug)
            });
            assert_eq!(stuck.await.unwrap_err().exit, Exit::Busy);
            // On a busy machine the thread may not even have begun.
            if begun.recv().is_ok() {
                return answer;
            }
        }
    }

    #[tokio::test]
    async fn access_that_hangs_fails_in_time_and_later_ones_at_once_until_it_ends() {
        let access = FileAccess::new("/mnt", SHORT);
        let answer = hang(&access).await;
        // It began a moment after it was asked for.
        while access.check().is_ok() {
            tokio::time::sleep(SHORT).await;
        }
        let failure = access.clone().run(|| Ok(())).await.unwrap_err();
        assert_eq!(failure.message, "access to /mnt did not finish within 0 seconds");
        answer.send(()).unwrap();
        // The thread ends soon; until then the access is refused.
        while access.run(|| Ok(())).await.is_err() {
            tokio::time::sleep(SHORT).await;
        }
    }

    #[tokio::test]
    async fn accesses_take_turns_and_errors_are_those_of_the_work() {
        let access = FileAccess::new("/mnt", TIMEOUT);
        let count = Arc::new(Mutex::new(0));
        let begin = |_| {
            let (access, count) = (access.clone(), Arc::clone(&count));
            tokio::spawn(async move {
                let alone = move || {
                    *count.try_lock().map_err(Failure::bug)? += 1;
                    Ok(())
                };
                access.run(alone).await
            })
        };
        for access in (0..8).map(begin).collect::<Vec<_>>() {
            access.await.unwrap().unwrap();
        }
        assert_eq!(*lock(&count), 8);
        let refused = access.run(|| -> Result<(), _> { Err(Failure::new(Exit::Io, "no", "")) });
        assert_eq!(refused.await.unwrap_err().message, "no");
    }

    #[tokio::test]
    async fn work_that_nothing_waits_for_any_more_does_not_begin() {
        let access = FileAccess::new("/mnt", TIMEOUT);
        let answer = hang(&access).await;
        let (ran, runs) = mpsc::channel();
        let ran_late = ran.clone();
        let second = access.run_within(SHORT, move || ran_late.send(2).map_err(Failure::bug));
        assert_eq!(second.await.unwrap_err().exit, Exit::Busy);
        answer.send(()).unwrap();
        access.run(move || ran.send(3).map_err(Failure::bug)).await.unwrap();
        assert_eq!(runs.recv().unwrap(), 3);
    }

    #[test]
    fn caller_with_a_thread_of_its_own_waits_no_longer() {
        let access = FileAccess::new("/mnt", TIMEOUT);
        assert_eq!(access.run_blocking(TIMEOUT, || Ok(7)).unwrap(), 7);
        let (answer, hangs) = mpsc::channel::<()>();
        let stuck = access.run_blocking(SHORT, move || hangs.recv().map_err(Failure::bug));
        assert_eq!(stuck.unwrap_err().exit, Exit::Busy);
        drop(answer);
    }

    #[test]
    fn access_is_kept_while_its_name_is() {
        let access = FileAccess::new("/mnt", TIMEOUT);
        let same = access.or(FileAccess::new("/mnt", TIMEOUT));
        assert!(Arc::ptr_eq(&same.turn, &access.turn));
        let other = access.or(FileAccess::new("/srv", TIMEOUT));
        assert!(!Arc::ptr_eq(&other.turn, &access.turn));
    }
}
