//! The thread that owns the TPM. A TPM runs one command at a time, and may be slow; the other threads hand work to
//! this thread and wait, without holding anything else up.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use host::clock;
use host::exit::{Exit, Failure};
use nix::sys::signal::SigSet;
use tokio::sync::oneshot;
use tpm2::transport::{AnyTransport, Tcti, Transport};
use tpm2::types::CommandCode;

use crate::log::Log;
use crate::tpm::failure;

/// How a TPM is reached.
pub type HostTransport = Metered<AnyTransport>;

/// The TPM of this host.
pub type Tpm = tpm2::Tpm<HostTransport>;

/// Work waiting for the TPM.
const WAITING: usize = 8;

/// After this time the user is notified of the delay.
const NOTICE_AFTER: Duration = Duration::from_secs(2);

/// Time limit of a call: the kernel's own limit for creating an RSA key, the slowest command.
const CALL_TIMEOUT: Duration = Duration::from_secs(300);

/// Commands by which a chip makes a key, and takes half a minute for it.
const CREATING: [CommandCode; 3] =
    [CommandCode::CREATE_PRIMARY, CommandCode::CREATE, CommandCode::CREATE_LOADED];

/// How long it may take to open the TPM, before anything is asked of it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the end waits for the TPM to be as it was.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// A command that has run for longer is not waited for at the end: a chip makes a key, or hangs.
const MAX_LAST_COMMAND: Duration = Duration::from_secs(2);

enum Job {
    Run(Box<dyn FnOnce(&mut Tpm) + Send>),
    End,
}

/// Hands work to the thread.
#[derive(Clone, Debug)]
pub struct TpmThread {
    jobs: SyncSender<Job>,
    audience: Audience,
    meter: Meter,
}

/// A thread that opens its TPM, and whether it could.
type Starting = (TpmThread, End, oneshot::Receiver<Result<(), Failure>>);

/// The TPM's address now. A device that vanished and came back has another number (`/dev/tpmrm1`): where `/dev/tpmrm0`, which
/// is the default, is not there and there is exactly one other, it is that one. Whose it is, its endorsement key shows. Another
/// number was asked for by someone who has several TPMs, and is meant.
fn present(tcti: &Tcti, devices: &Path) -> Tcti {
    let Tcti::Device(wanted) = tcti else { return tcti.clone() };
    let is_managed = |name: &OsStr| {
        let number = name.to_str().and_then(|name| name.strip_prefix("tpmrm"));
        number.is_some_and(|number| {
            !number.is_empty() && number.chars().all(|digit| digit.is_ascii_digit())
        })
    };
    if *wanted != devices.join("tpmrm0") || wanted.exists() {
        return tcti.clone();
    }
    let there = fs::read_dir(devices).into_iter().flatten().flatten();
    let others: Vec<_> = there.filter(|entry| is_managed(&entry.file_name())).take(2).collect();
    match others.as_slice() {
        [only] => Tcti::Device(only.path()),
        _ => tcti.clone(),
    }
}

/// Where to report that the TPM is slow.
#[derive(Clone, Copy, Debug)]
pub enum Audience {
    /// A person at a terminal, who waits.
    Person,
    /// The daemon's log.
    Log(Log),
}

impl Audience {
    fn info(self, doing: &str) {
        match self {
            Self::Person => {
                let _ = writeln!(std::io::stderr(), "{doing} ...");
            }
            Self::Log(log) => log.info(doing, &[]),
        }
    }

    /// Its name and how long it took. What a command contains can be secret.
    fn executed(self, command: CommandCode, took: Duration) {
        if let Self::Log(log) = self {
            let fields: [(&str, &dyn Display); 2] =
                [("command", &command), ("milliseconds", &took.as_millis())];
            log.debug("TPM command", &fields);
        }
    }

    fn warn(self, remark: &str) {
        match self {
            Self::Person => {
                let _ = writeln!(std::io::stderr(), "{remark}");
            }
            Self::Log(log) => log.warn(remark, &[]),
        }
    }
}

impl TpmThread {
    /// Starts the TPM's thread, opens the TPM there, and blocks until it is open.
    ///
    /// # Errors
    /// The TPM cannot be opened, or there can be no thread.
    pub fn open(tcti: &Tcti, meter: Meter, audience: Audience) -> Result<(Self, End), Failure> {
        let (thread, mut end, opened) = Self::start(tcti, meter, audience)?;
        opened.blocking_recv().map_err(Failure::bug)??;
        end.timeout = END_TIMEOUT;
        Ok((thread, end))
    }

    /// As [`Self::open`], without blocking.
    ///
    /// # Errors
    /// As [`Self::open`]; or it cannot be opened for a minute, as with a socket whose listener does not accept.
    pub async fn open_async(
        tcti: &Tcti,
        meter: Meter,
        audience: Audience,
    ) -> Result<(Self, End), Failure> {
        let (thread, mut end, opened) = Self::start(tcti, meter, audience)?;
        let opened = tokio::time::timeout(OPEN_TIMEOUT, opened).await.map_err(|_| stuck())?;
        opened.map_err(Failure::bug)??;
        end.timeout = END_TIMEOUT;
        Ok((thread, end))
    }

    fn start(tcti: &Tcti, meter: Meter, audience: Audience) -> Result<Starting, Failure> {
        let (jobs, waiting) = sync_channel(WAITING);
        let (ending, ended) = sync_channel(1);
        let (opening, opened) = oneshot::channel();
        let (tcti, metering) = (present(tcti, Path::new("/dev")), meter.clone());
        thread::Builder::new()
            .name("tpm".into())
            .spawn(move || {
                // A signal would abort a command in the driver and leave it unknown whether it executed.
                let _ = SigSet::all().thread_block();
                match tcti.open() {
                    Ok(inner) => {
                        let _ = opening.send(Ok(()));
                        work(
                            tpm2::Tpm::new(Metered { inner, meter: metering, audience }),
                            &waiting,
                        );
                    }
                    Err(error) => drop(opening.send(Err(failure::open(&error)))),
                }
                // The one who waits may have given up.
                let _ = ending.send(());
            })
            .map_err(|cause| Failure::io(&cause, "cannot start the TPM thread"))?;
        let end = End { jobs: jobs.clone(), ended, meter: meter.clone(), timeout: Duration::ZERO };
        Ok((Self { jobs, audience, meter }, end, opened))
    }

    /// Runs `job` with the TPM and waits for what it returns. If it takes long, reports what it waits for.
    ///
    /// # Errors
    /// The job's own, or the TPM did not answer in five minutes.
    pub async fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Tpm) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, Failure> {
        let (reply, mut replied) = oneshot::channel();
        let job = Box::new(move |tpm: &mut Tpm| {
            // The caller may have gone; drop the result.
            let _ = reply.send(job(tpm));
        });
        self.jobs.try_send(Job::Run(job)).map_err(|_| stuck())?;
        let answer = match tokio::time::timeout(NOTICE_AFTER, &mut replied).await {
            Ok(answer) => answer,
            Err(_) => {
                self.audience.info(&waiting_for(self.meter.running()));
                tokio::time::timeout(CALL_TIMEOUT, replied).await.map_err(|_| stuck())?
            }
        };
        answer.map_err(|_| Failure::bug("the TPM thread has stopped"))?
    }

    /// Waits until the TPM has nothing left to do for callers that gave up waiting.
    ///
    /// # Errors
    /// As [`Self::call`].
    pub async fn idle(&self) -> Result<(), Failure> {
        self.call(|_| Ok(())).await
    }

    /// Logs a warning about the TPM.
    pub fn remark(&self, what: &str) {
        self.audience.warn(what);
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
        replied.recv_timeout(NOTICE_AFTER).unwrap_or_else(|_| {
            self.audience.info(&waiting_for(self.meter.running()));
            replied.recv_timeout(CALL_TIMEOUT).map_err(|_| stuck())?
        })
    }
}

/// Counts commands, and the time that the TPM takes for them. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    commands: AtomicU64,
    nanoseconds: AtomicU64,
    /// The code of the command that the TPM has not answered yet; 0 when idle.
    running: AtomicU32,
    /// When that command began, milliseconds on the boot clock.
    began: AtomicU64,
}

impl Meter {
    /// Commands so far, and their time.
    #[must_use]
    pub fn read(&self) -> (u64, Duration) {
        let nanoseconds = self.0.nanoseconds.load(Ordering::Relaxed);
        (self.0.commands.load(Ordering::Relaxed), Duration::from_nanos(nanoseconds))
    }

    fn begin(&self, command: &[u8], now: Duration) {
        let began = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.0.began.store(began, Ordering::Relaxed);
        self.0.running.store(code(command), Ordering::Release);
    }

    /// How long the command runs that the TPM has not answered yet.
    fn running_for(&self, now: Duration) -> Option<Duration> {
        let began = Duration::from_millis(self.0.began.load(Ordering::Relaxed));
        self.running().map(|_| now.saturating_sub(began))
    }

    fn running(&self) -> Option<CommandCode> {
        let code = self.0.running.load(Ordering::Acquire);
        (code != 0).then_some(CommandCode(code))
    }
}

/// The message about a slow TPM, which usually names the running command.
fn waiting_for(command: Option<CommandCode>) -> String {
    match command {
        Some(command) if CREATING.contains(&command) => {
            "the TPM is creating a key; some chips take half a minute".to_owned()
        }
        Some(command) => format!("the TPM has not responded to {command} yet"),
        None => "the TPM is slow".to_owned(),
    }
}

/// The code of a command. Part 1 §18.
fn code(command: &[u8]) -> u32 {
    let code = command.get(6..10).and_then(|bytes| bytes.try_into().ok());
    code.map_or(0, u32::from_be_bytes)
}

/// A transport whose commands are counted.
#[derive(Debug)]
pub struct Metered<T> {
    inner: T,
    meter: Meter,
    audience: Audience,
}

impl<T: Transport> Transport for Metered<T> {
    type Error = T::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, T::Error> {
        let before = clock::boot();
        self.meter.begin(command, before);
        let result = self.inner.exchange(command, response);
        self.meter.0.running.store(0, Ordering::Relaxed);
        let took = clock::boot().saturating_sub(before);
        self.audience.executed(CommandCode(code(command)), took);
        self.meter.0.commands.fetch_add(1, Ordering::Relaxed);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
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
        "the TPM does not respond",
        "check whether another program uses it; see `dmesg | grep -i tpm`",
    )
}

/// Ends the thread when dropped, and waits until it has flushed what it loaded, so that the TPM is as it was. Work that
/// is handed in afterwards is refused.
#[derive(Debug)]
pub struct End {
    jobs: SyncSender<Job>,
    ended: Receiver<()>,
    meter: Meter,
    /// How long to wait for it; nothing is loaded before the TPM is open.
    timeout: Duration,
}

impl End {
    /// Ends the thread as dropping does, without blocking.
    pub async fn close(self) {
        let _ = tokio::task::spawn_blocking(move || drop(self)).await;
    }
}

impl Drop for End {
    fn drop(&mut self) {
        const POLL_INTERVAL: Duration = Duration::from_millis(50);
        // A thread that has no room for this does not answer; the kernel cleans up behind it.
        if self.jobs.try_send(Job::End).is_err() {
            return;
        }
        let begin = clock::boot();
        let mut now = begin;
        while now.saturating_sub(begin) < self.timeout
            && self.meter.running_for(now).is_none_or(|time| time < MAX_LAST_COMMAND)
            && self.ended.recv_timeout(POLL_INTERVAL) == Err(RecvTimeoutError::Timeout)
        {
            now = clock::boot();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_about_a_slow_tpm_names_the_command() {
        let header = |code: u32| [&[0x80, 1, 0, 0, 0, 10][..], &code.to_be_bytes()].concat();
        let message = |command: &[u8]| waiting_for(Some(CommandCode(code(command))));
        for creates in [0x131, 0x153, 0x191] {
            assert!(message(&header(creates)).starts_with("the TPM is creating a key"));
        }
        assert_eq!(message(&header(0x17a)), "the TPM has not responded to TPM2_GetCapability yet");
        assert_eq!(code(&[0x80, 1]), 0);
    }

    #[test]
    fn the_command_that_runs_is_known_while_it_runs() {
        struct Asks(Meter);
        impl Transport for Asks {
            type Error = std::io::Error;

            fn exchange(&mut self, _: &[u8], _: &mut [u8]) -> std::io::Result<usize> {
                assert_eq!(self.0.running(), Some(CommandCode(0x17a)));
                Ok(0)
            }
        }
        let meter = Meter::default();
        let mut metered = Metered {
            inner: Asks(meter.clone()),
            meter: meter.clone(),
            audience: Audience::Person,
        };
        let command = [0x80, 1, 0, 0, 0, 10, 0, 0, 1, 0x7a];
        metered.exchange(&command, &mut []).unwrap();
        assert_eq!((meter.running(), meter.read().0), (None, 1));
    }

    /// A software TPM that reads a command and never answers it.
    #[test]
    fn end_does_not_wait_for_a_command_that_hangs() {
        const TIMEOUT: Duration = Duration::from_secs(60);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tpm");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let tcti = Tcti::SwtpmUnix(path);
        let (thread, mut end) = TpmThread::open(&tcti, Meter::default(), Audience::Person).unwrap();
        end.timeout = Duration::MAX;
        let call = thread.clone();
        thread::spawn(move || {
            call.call_blocking(|tpm| {
                let asked = tpm.run(&tpm2::commands::GetRandom { bytes_requested: 1 }, []);
                asked.map(drop).map_err(failure::command)
            })
        });
        let (mut tpm, _) = listener.accept().unwrap();
        std::io::Read::read_exact(&mut tpm, &mut [0; 12]).unwrap();
        let (done, is_done) = sync_channel(1);
        thread::spawn(move || {
            drop(end);
            done.send(()).unwrap();
        });
        is_done.recv_timeout(TIMEOUT).expect("the end waits for the command");
    }

    #[test]
    fn device_that_came_back_under_another_number_is_found() {
        let devices = tempfile::tempdir().unwrap();
        let device = |name: &str| devices.path().join(name);
        let wanted = Tcti::Device(device("tpmrm0"));
        let found = || present(&wanted, devices.path()).to_string();
        assert_eq!(found(), wanted.to_string());
        for name in ["tpm0", "tpm1", "tpmrm", "tpmrmx"] {
            fs::write(device(name), "").unwrap();
        }
        assert_eq!(found(), wanted.to_string());
        fs::write(device("tpmrm1"), "").unwrap();
        assert_eq!(found(), Tcti::Device(device("tpmrm1")).to_string());
        fs::write(device("tpmrm2"), "").unwrap();
        assert_eq!(found(), wanted.to_string(), "the command is unknown");
        fs::remove_file(device("tpmrm2")).unwrap();
        fs::write(device("tpmrm0"), "").unwrap();
        assert_eq!(found(), wanted.to_string());
        // Nothing stands in for a device that was chosen among several.
        fs::remove_file(device("tpmrm1")).unwrap();
        for other in ["tpm9", "tpmrm7"].map(|name| Tcti::Device(device(name))) {
            assert_eq!(present(&other, devices.path()).to_string(), other.to_string());
        }
    }
}
