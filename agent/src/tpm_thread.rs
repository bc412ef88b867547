//! The thread that owns the TPM. A TPM does one thing at a time and takes its time for it; whoever needs it hands work to
//! this thread and waits, without holding anything else up.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use std::{io, thread};

use nix::sys::signal::SigSet;
use tokio::sync::oneshot;
use tpm2::transport::{Retry, Tcti, Transport};

use crate::clock;
use crate::exit::{Exit, Failure};
use crate::log::Log;

/// How a TPM is reached.
pub type HostTransport = Metered<Retry<Box<dyn Transport + Send>>>;

/// The TPM of this host.
pub type Tpm = tpm2::Tpm<HostTransport>;

/// Work waiting for the TPM.
const WAITING: usize = 8;

/// After this long a person is told what is going on.
const PATIENCE: Duration = Duration::from_secs(2);

/// The kernel gives a chip five minutes for an RSA key; nothing takes longer.
const DEADLINE: Duration = Duration::from_secs(300);

/// How long the end waits for the TPM to be as it was.
const FAREWELL: Duration = Duration::from_secs(10);

enum Job {
    Run(Box<dyn FnOnce(&mut Tpm) + Send>),
    End,
}

/// Hands work to the thread.
#[derive(Clone, Debug)]
pub struct TpmThread {
    jobs: SyncSender<Job>,
    audience: Audience,
}

/// Who is told that the TPM takes its time.
#[derive(Clone, Copy, Debug)]
pub enum Audience {
    /// A person at a terminal, who waits.
    Person,
    /// Whoever reads the daemon's log.
    Log(Log),
}

impl Audience {
    fn hear(self, doing: &str) {
        match self {
            Self::Person => {
                let _ = writeln!(std::io::stderr(), "{doing} ...");
            }
            Self::Log(log) => log.info(doing, &[]),
        }
    }

    fn heed(self, remark: &str) {
        match self {
            Self::Person => {
                let _ = writeln!(std::io::stderr(), "{remark}");
            }
            Self::Log(log) => log.warn(remark, &[]),
        }
    }
}

impl TpmThread {
    /// Opens the TPM and starts its thread.
    ///
    /// # Errors
    /// The TPM cannot be opened, or there can be no thread.
    pub fn open(tcti: &Tcti, meter: Meter, audience: Audience) -> Result<(Self, End), Failure> {
        let transport = Metered { inner: tcti.open()?, meter };
        let (jobs, waiting) = sync_channel(WAITING);
        let (ending, ended) = sync_channel(1);
        thread::Builder::new()
            .name("tpm".into())
            .spawn(move || {
                // A signal would abort a command in the driver and leave it unknown whether it executed.
                let _ = SigSet::all().thread_block();
                work(tpm2::Tpm::new(transport), &waiting);
                // The one who waits may have given up.
                let _ = ending.send(());
            })
            .map_err(|cause| Failure::io(&cause, "cannot start the TPM's thread"))?;
        Ok((Self { jobs: jobs.clone(), audience }, End { jobs, ended }))
    }

    /// Runs `job` with the TPM and waits for what it returns. `doing` is what a person is told if it takes long.
    ///
    /// # Errors
    /// The job's own, or the TPM did not answer in five minutes.
    pub async fn call<R: Send + 'static>(
        &self,
        doing: &'static str,
        job: impl FnOnce(&mut Tpm) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, Failure> {
        let (reply, mut replied) = oneshot::channel();
        let job = Box::new(move |tpm: &mut Tpm| {
            // Nobody may be waiting any more; the work was done all the same.
            let _ = reply.send(job(tpm));
        });
        self.jobs.try_send(Job::Run(job)).map_err(|_| stuck())?;
        let answer = match tokio::time::timeout(PATIENCE, &mut replied).await {
            Ok(answer) => answer,
            Err(_) => {
                self.audience.hear(doing);
                tokio::time::timeout(DEADLINE, replied).await.map_err(|_| stuck())?
            }
        };
        answer.map_err(|_| Failure::bug("the TPM's thread ended"))?
    }

    /// Says what is odd about the TPM, though it is no failure.
    pub fn remark(&self, what: &str) {
        self.audience.heed(what);
    }

    /// As [`Self::call`], for a caller that cannot wait otherwise than by blocking.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub fn call_blocking<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Tpm) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, Failure> {
        let (reply, replied) = sync_channel(1);
        let job = Box::new(move |tpm: &mut Tpm| {
            let _ = reply.send(job(tpm));
        });
        self.jobs.try_send(Job::Run(job)).map_err(|_| stuck())?;
        replied.recv_timeout(DEADLINE).map_err(|_| stuck())?
    }
}

/// Counts commands, and the time that the TPM takes for them. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    commands: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Meter {
    /// Commands so far, and their time.
    #[must_use]
    pub fn read(&self) -> (u64, Duration) {
        let nanoseconds = self.0.nanoseconds.load(Ordering::Relaxed);
        (self.0.commands.load(Ordering::Relaxed), Duration::from_nanos(nanoseconds))
    }
}

/// A transport whose commands are counted.
#[derive(Debug)]
pub struct Metered<T> {
    inner: T,
    meter: Meter,
}

impl<T: Transport> Transport for Metered<T> {
    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        let before = clock::boot();
        let result = self.inner.exchange(command, response);
        let took = clock::boot().saturating_sub(before).as_nanos();
        self.meter.0.commands.fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        self.meter.0.nanoseconds.fetch_add(took, Ordering::Relaxed);
        result
    }

    fn is_managed(&self) -> bool {
        self.inner.is_managed()
    }
}

fn work(mut tpm: Tpm, waiting: &Receiver<Job>) {
    while let Ok(Job::Run(job)) = waiting.recv() {
        job(&mut tpm);
    }
}

fn stuck() -> Failure {
    Failure::new(
        Exit::Busy,
        "the TPM does not answer",
        "another program may be using it; `dmesg | grep -i tpm` may say more",
    )
}

/// Ends the thread when dropped, and waits until it has flushed what it loaded, so that the TPM is as it was. Work that
/// is handed in afterwards is refused.
#[derive(Debug)]
pub struct End {
    jobs: SyncSender<Job>,
    ended: Receiver<()>,
}

impl Drop for End {
    fn drop(&mut self) {
        // A thread that has no room for this word does not answer; the kernel cleans up behind it.
        if self.jobs.try_send(Job::End).is_ok() {
            let _ = self.ended.recv_timeout(FAREWELL);
        }
    }
}
