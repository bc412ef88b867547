//! Access to files with a time limit.
//!
//! A file system can hang: a network or FUSE mount whose server is gone does not answer, and nothing can end a thread that
//! waits for it. The caller waits for a limited time, and then continues without the files.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use host::clock;
use host::exit::{Exit, Failure};

/// How long access to a few small files may take: a disk that is busy or has to spin up needs less.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Access to the files of one directory, or to files that are read together: one at a time. Clones share it.
#[derive(Clone, Debug)]
pub struct FileAccess {
    /// What is accessed, for errors.
    name: Arc<str>,
    timeout: Duration,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// When the access that goes on began, on the monotonic clock.
    begun: Arc<Mutex<Option<Duration>>>,
}

impl FileAccess {
    /// Access to what has this name in errors.
    pub fn new(name: impl Into<Arc<str>>, timeout: Duration) -> Self {
        Self { name: name.into(), timeout, turn: Arc::default(), begun: Arc::default() }
    }

    /// The result of `work`, which runs on a thread of its own, after what began before it.
    ///
    /// # Errors
    /// Those of `work`; [`Exit::Busy`] if it does not end in time. Then it may still end later. Until it does, every other
    /// access fails at once.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let result = Arc::new(Mutex::new(None));
        let to = Arc::clone(&result);
        self.run_to_end(Box::new(move || *lock(&to) = Some(work()))).await?;
        let result = lock(&result).take();
        result.ok_or_else(|| Failure::bug("no result of an access to files"))?
    }

    async fn run_to_end(&self, work: Box<dyn FnOnce() + Send>) -> Result<(), Failure> {
        self.check()?;
        let begun = Arc::clone(&self.begun);
        let end = async {
            let turn = Arc::clone(&self.turn).lock_owned().await;
            let work = move || {
                *lock(&begun) = Some(clock::monotonic());
                work();
                *lock(&begun) = None;
                drop(turn);
            };
            tokio::task::spawn_blocking(work).await.map_err(Failure::bug)
        };
        tokio::time::timeout(self.timeout, end).await.unwrap_or_else(|_| Err(self.late()))
    }

    /// Whether an access is possible now, as far as is known.
    ///
    /// # Errors
    /// [`Exit::Busy`] while one takes longer than it may.
    pub fn check(&self) -> Result<(), Failure> {
        let is_late = |begun| clock::monotonic().saturating_sub(begun) >= self.timeout;
        if lock(&self.begun).is_some_and(is_late) { Err(self.late()) } else { Ok(()) }
    }

    fn late(&self) -> Failure {
        let seconds = self.timeout.as_secs();
        let what = format!("access to {} did not finish within {seconds} seconds", self.name);
        let advice = "check that the file system responds, and that the file is no pipe";
        Failure::new(Exit::Busy, what, advice)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn access_that_hangs_fails_in_time_and_later_ones_at_once_until_it_ends() {
        let access = FileAccess::new("/mnt", SHORT);
        let (answer, hangs) = mpsc::channel::<()>();
        let stuck = access.run(move || hangs.recv().map_err(Failure::bug));
        assert_eq!(stuck.await.unwrap_err().exit, Exit::Busy);
        access.check().unwrap_err();
        let failure = access.clone().run(|| Ok(())).await.unwrap_err();
        assert_eq!(failure.message, "access to /mnt did not finish within 0 seconds");
        answer.send(()).unwrap();
        // The thread ends soon; until then the access is refused.
        while access.run(|| Ok(())).await.is_err() {
            tokio::time::sleep(SHORT).await;
        }
        access.check().unwrap();
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
    async fn waiting_for_another_access_ends_in_time_too() {
        let access = FileAccess::new("/mnt", SHORT);
        let (answer, hangs) = mpsc::channel::<()>();
        let first = access.run(move || hangs.recv().map_err(Failure::bug));
        let second = access.run(|| Ok(()));
        let (first, second) = tokio::join!(first, second);
        assert_eq!([first.unwrap_err().exit, second.unwrap_err().exit], [Exit::Busy; 2]);
        drop(answer);
    }
}
