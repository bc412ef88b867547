//! Access to files with a time limit.
//!
//! A file system can hang: a network or FUSE mount whose server is gone does not answer, and nothing can end a thread that
//! waits for it. The caller waits for a limited time, and then continues without the files.

use std::collections::{BTreeMap, VecDeque};
use std::io;
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

/// After this long without a result, another thread goes on with a [`Batch`].
const STALL_TIMEOUT: Duration = Duration::from_secs(1);

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
        let access = self.clone();
        let abandoned = Arc::new(AtomicBool::new(false));
        let waiting = Waiting(Arc::clone(&abandoned));
        let started = spawn(move || access.take_turn(&abandoned, work));
        started.map_err(|cause| Failure::io(&cause, format!("access to {}", self.name)))?;
        Ok(waiting)
    }

    /// Does the work after what began before it, unless nothing waits for it any more.
    fn take_turn(&self, abandoned: &AtomicBool, work: Work) {
        let _turn = lock(&self.turn);
        if abandoned.load(Ordering::Acquire) {
            return;
        }
        *lock(&self.begun) = Some(clock::monotonic());
        work();
        *lock(&self.begun) = None;
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

/// Several short accesses, for a caller that has a thread of its own. They share a thread, and are done one after the other;
/// only if one does not end soon does another thread go on with the next, so that one that hangs delays no other for long.
#[derive(Default)]
pub struct Batch {
    works: VecDeque<Box<dyn FnOnce() -> usize + Send>>,
    /// How long each may take.
    timeouts: BTreeMap<usize, Duration>,
    abandoned: Arc<AtomicBool>,
}

/// The result of an access in a [`Batch`], once that has run.
pub struct Pending<T> {
    access: FileAccess,
    timeout: Duration,
    result: mpsc::Receiver<Result<T, Failure>>,
}

impl Batch {
    /// Adds an access, as [`FileAccess::run_within`].
    pub fn add<T: Send + 'static>(
        &mut self,
        access: &FileAccess,
        timeout: Duration,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Pending<T> {
        let (reply, result) = mpsc::channel();
        let number = self.timeouts.len();
        let (files, abandoned) = (access.clone(), Arc::clone(&self.abandoned));
        self.works.push_back(Box::new(move || {
            match files.check() {
                Ok(()) => files.take_turn(
                    &abandoned,
                    Box::new(move || {
                        let _ = reply.send(work());
                    }),
                ),
                Err(failure) => {
                    let _ = reply.send(Err(failure));
                }
            }
            number
        }));
        self.timeouts.insert(number, timeout);
        Pending { access: access.clone(), timeout, result }
    }

    /// Does everything, and waits for each access as long as that may take.
    pub fn run(self) {
        let Self { works, timeouts: mut missing, abandoned } = self;
        let _waiting = Waiting(abandoned);
        let begun = clock::monotonic();
        let works = Arc::new(Mutex::new(works));
        let (done, ends) = mpsc::channel();
        let mut is_stalled = true;
        while let Some(timeout) = missing.values().max()
            && clock::monotonic().saturating_sub(begun) < *timeout
        {
            if is_stalled && !lock(&works).is_empty() {
                let (works, done) = (Arc::clone(&works), done.clone());
                let all = move || {
                    let next = || lock(&works).pop_front();
                    for work in std::iter::from_fn(next) {
                        let _ = done.send(work());
                    }
                };
                if spawn(all.clone()).is_err() {
                    all();
                }
            }
            let ended = ends.recv_timeout(STALL_TIMEOUT.min(*timeout));
            is_stalled = ended.is_err();
            ended.ok().and_then(|number| missing.remove(&number));
        }
    }
}

impl<T> Pending<T> {
    /// What the access resulted in.
    ///
    /// # Errors
    /// As [`FileAccess::run_within`].
    pub fn result(self) -> Result<T, Failure> {
        self.result.try_recv().unwrap_or_else(|_| Err(self.access.late(self.timeout)))
    }
}

/// Begins a thread for files. Signals are for the thread that waits for them.
pub fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let work = move || {
        let _ = SigSet::all().thread_block();
        work();
    };
    thread::Builder::new().name("files".into()).spawn(work).map(drop)
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
    fn accesses_of_a_batch_share_a_thread() {
        let access = ["/a", "/b", "/c"].map(|name| FileAccess::new(name, TIMEOUT));
        let mut batch = Batch::default();
        let [first, second] = [0, 1]
            .map(|at| batch.add(&access[at], TIMEOUT, move || Ok((at, thread::current().id()))));
        let refused = batch.add(&access[2], TIMEOUT, || -> Result<(), _> {
            Err(Failure::new(Exit::Io, "no", ""))
        });
        batch.run();
        let (first, second) = (first.result().unwrap(), second.result().unwrap());
        assert_eq!((first.0, second.0, first.1), (0, 1, second.1));
        assert_ne!(first.1, thread::current().id());
        assert_eq!(refused.result().unwrap_err().message, "no");
    }

    #[test]
    fn access_that_hangs_does_not_keep_the_others_of_its_batch() {
        let [hangs, works] = ["/mnt", "/srv"].map(|name| FileAccess::new(name, TIMEOUT));
        let (answer, waits) = mpsc::channel::<()>();
        let mut batch = Batch::default();
        // It ends only after the next one has been done.
        let first = batch.add(&hangs, TIMEOUT, move || waits.recv().map_err(Failure::bug));
        let second = batch.add(&works, TIMEOUT, move || answer.send(()).map_err(Failure::bug));
        batch.run();
        assert_eq!((first.result(), second.result()), (Ok(()), Ok(())));
    }

    #[test]
    fn late_access_of_a_batch_is_named() {
        let [hangs, works] = ["/mnt", "/srv"].map(|name| FileAccess::new(name, SHORT));
        let (_answer, waits) = mpsc::channel::<()>();
        let mut batch = Batch::default();
        let second = batch.add(&works, TIMEOUT, || Ok(7));
        let first = batch.add(&hangs, SHORT, move || waits.recv().map_err(Failure::bug));
        batch.run();
        let failure = first.result().unwrap_err();
        assert_eq!(failure.message, "access to /mnt did not finish within 0 seconds");
        assert_eq!(second.result().unwrap(), 7);
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
