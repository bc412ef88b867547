//! The daemon: keeps the host's credentials fresh for years, whatever happens to the network, the authority, the TPM, the
//! disk or the clock.
//!
//! [`machine`] decides, `worker` does, [`health`] tells. The loop below carries events to the first, jobs to the second
//! and words to the third. One thread runs it all, and wakes at most once a minute when there is nothing to do.

pub mod alarm;
pub mod diag;
pub mod health;
pub mod machine;
pub mod notify;
mod pid_file;
mod worker;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use self::alarm::Alarm;
use self::diag::Listener;
use self::health::{Health, IDENTITY};
use self::machine::{Action, Event, Job, Machine, Moment, Outcome, Part};
use self::notify::ServiceManager;
use self::pid_file::PidFile;
use self::worker::{Ended, Worker};
use crate::clock;
use crate::config::{self, Settings};
use crate::destination::Change;
use crate::exit::{Exit, Failure};
use crate::identity::rfc3339;
use crate::log::Log;
use crate::socket;
use crate::tpm_thread::Meter;

/// The socket in the storage that answers `agent status`.
pub const SOCKET: &str = "agent.sock";

/// Files may be removed, and where nobody tells of a clock that was set it must be seen: look at least this often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Reads the configuration again; what it says in warnings was logged.
pub type Reread = Box<dyn Fn() -> Result<Settings, Failure>>;

/// Keeps credentials fresh until told to stop; with `oneshot` once.
///
/// # Errors
/// What keeps it from beginning; with `oneshot`, whatever fails first. Later failures are logged and outlived.
pub async fn run(
    settings: Settings,
    reread: Reread,
    pid_file: Option<&Path>,
    log: Log,
) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let settings = Arc::new(settings);
    let meter = Meter::default();
    let worker = Worker::new(Arc::clone(&settings), meter.clone(), log)?;
    let _pid_file = pid_file.map(PidFile::write).transpose()?;
    let health = Health::of(&worker, meter);
    let answers = Answers::begin(&settings, &health).await?;
    let manager = ServiceManager::from_environment();
    manager.status("starting");
    log.info(
        "started",
        &[("version", &env!("CARGO_PKG_VERSION")), ("services", &settings.services.len())],
    );
    let machine = mind(&worker)?;
    let hands = Hands::Free(Box::new(worker));
    let mut daemon = Daemon { machine, hands, health, answers, manager, reread, log };
    let result =
        if settings.oneshot { daemon.once().await } else { daemon.live(&mut signals).await };
    daemon.manager.stopping();
    match &result {
        Ok(()) => log.info("ended", &[]),
        Err(failure) => log.error("ended", &[("reason", &failure.message)]),
    }
    result
}

/// What the machine begins with: what the worker found.
fn mind(worker: &Worker) -> Result<Machine, Failure> {
    let pace = worker::pace(worker.settings().lifetime);
    let mut seeds = vec![0; worker.settings().services.len().saturating_add(1)];
    tpm2::crypto::random(&mut seeds).map_err(Failure::bug)?;
    let mut seeds = seeds.into_iter();
    let seed = move || seeds.next().unwrap_or(128);
    let machine = Machine::new(worker.identity(), pace, worker.services(), seed);
    Ok(machine.owing(worker.owed()))
}

struct Daemon {
    machine: Machine,
    hands: Hands,
    health: Health,
    answers: Answers,
    manager: ServiceManager,
    reread: Reread,
    log: Log,
}

/// The worker: here, or at work.
enum Hands {
    Free(Box<Worker>),
    Busy(JoinHandle<(Worker, Ended)>),
    /// Never seen: the moment between the two.
    Gone,
}

impl Daemon {
    /// Everything once: the first failure ends it.
    async fn once(&mut self) -> Result<(), Failure> {
        let mut event = Event::Woke;
        loop {
            self.think(event)?;
            let Hands::Busy(work) = &mut self.hands else { return Ok(()) };
            let (worker, ended) = work.await.map_err(Failure::bug)?;
            self.hands = Hands::Free(Box::new(worker));
            self.note(&ended);
            if let Some(failure) = ended.failure {
                return Err(failure);
            }
            event = Event::Ended(ended.job, ended.outcome);
        }
    }

    async fn live(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        let alarm = Alarm::new()?;
        let mut event = Event::Woke;
        let (mut stopping, mut reload_due) = (false, false);
        loop {
            if self.think(event)? {
                return Ok(());
            }
            self.manager.alive();
            self.answers.mend(&self.health);
            let pause = self.machine.idle(now()).min(LOOK_AGAIN);
            let pause = self.manager.watchdog().map_or(pause, |watchdog| pause.min(watchdog));
            event = tokio::select! {
                ended = self.hands.done() => {
                    let ended = ended?;
                    self.note(&ended);
                    match std::mem::take(&mut reload_due) && !stopping {
                        true => self.reload()?,
                        false => Event::Ended(ended.job, ended.outcome),
                    }
                }
                // Never sooner than a moment from now, however late a renewal is.
                rung = alarm.ring(pause.max(Duration::from_millis(100))) => {
                    rung?;
                    self.look()?
                }
                _ = signals.hangup.recv(), if !stopping => {
                    self.manager.reloading(clock::monotonic());
                    match self.hands {
                        Hands::Free(_) => self.reload()?,
                        // The job at hand has the configuration; whoever wants to end must not wait for it.
                        _ => {
                            reload_due = true;
                            Event::Woke
                        }
                    }
                }
                _ = signals.user1.recv() => {
                    self.log.info("asked to renew", &[]);
                    Event::RenewAsked
                }
                _ = signals.terminate.recv() => Event::StopAsked,
                _ = signals.interrupt.recv() => Event::StopAsked,
            };
            if event == Event::StopAsked {
                if stopping {
                    return Err(Failure::new(
                        Exit::Busy,
                        "stopped at once, in the middle of a job",
                        "",
                    ));
                }
                stopping = true;
                self.log.info("stopping", &[]);
            }
        }
    }

    /// What nobody tells us: whether files were changed or taken away. They are made again before they are missed.
    fn look(&mut self) -> Result<Event, Failure> {
        let Hands::Free(worker) = &self.hands else { return Ok(Event::Woke) };
        let services = (0..worker.settings().services.len()).map(Part::Service);
        let parts = std::iter::once(Part::Identity).chain(services);
        let settled = parts.filter(|part| self.machine.is_settled(*part));
        let changed = settled.filter_map(|part| Some((part, worker.check(part).err()?)));
        let changed: Vec<(Part, Change)> = changed.collect();
        for (part, change) in &changed {
            let name = name(worker.settings(), *part);
            let what = "somebody has changed the files: they are made again";
            self.log.warn(what, &[("name", &name), ("reason", change)]);
        }
        for (part, _) in changed {
            self.think(Event::Lost(part))?;
        }
        Ok(Event::Woke)
    }

    /// Lets the machine decide and begins what it wants done. True: end.
    fn think(&mut self, event: Event) -> Result<bool, Failure> {
        let mut seed = [0];
        tpm2::crypto::random(&mut seed).map_err(Failure::bug)?;
        let [seed] = seed;
        let (machine, actions) = self.machine.clone().next(event, now(), seed);
        self.machine = machine;
        for action in actions {
            match action {
                Action::Begin(job) => self.hands.begin(job),
                Action::Ready => {
                    self.log.info("everything is valid and in place", &[]);
                    self.manager.ready(&self.status());
                }
                Action::End => return Ok(true),
            }
        }
        if let Hands::Free(worker) = &mut self.hands {
            worker.rest();
        }
        Ok(false)
    }

    /// Says how a job ended, to everybody who wants to know.
    fn note(&self, ended: &Ended) {
        let at = timestamp();
        let Hands::Free(worker) = &self.hands else { return };
        let name = name(worker.settings(), ended.job.part());
        let what = match ended.job {
            Job::Join => "joined",
            Job::Renew => "renewed",
            Job::Issue(_) => "issued",
            Job::Reload(_) => "told",
        };
        match (ended.outcome, &ended.failure) {
            (Outcome::Valid(validity), _) => {
                self.health.well(&name, validity, &at);
                let until = rfc3339(validity.not_after).unwrap_or_default();
                self.log.info(what, &[("name", &name), ("until", &until)]);
            }
            (Outcome::Told, _) => self.health.told(&name, &at),
            (Outcome::Untold(validity), Some(failure)) => {
                self.health.untold(&name, validity, failure, &at);
                self.warn("issued, but not told", &name, failure);
            }
            (_, Some(failure)) => {
                self.health.failed(&name, failure, &at);
                self.warn(&format!("not {what}"), &name, failure);
            }
            (_, None) => {}
        }
        self.manager.status(&self.status());
    }

    fn warn(&self, what: &str, name: &str, failure: &Failure) {
        self.log.warn(
            what,
            &[("name", &name), ("reason", &failure.message), ("advice", &failure.advice)],
        );
    }

    fn status(&self) -> String {
        let report = self.health.report(now().wall);
        let unwell = report.services.iter().find_map(|(name, component)| {
            component.reason.as_ref().map(|reason| format!("{name}: {reason}"))
        });
        let names = || report.services.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        unwell.unwrap_or_else(|| format!("in place: {}", names()))
    }

    /// Reads the configuration again, while no job has it. One that cannot be used changes nothing.
    fn reload(&mut self) -> Result<Event, Failure> {
        self.log.info("reading the configuration again", &[]);
        let settings = (self.reread)();
        let Hands::Free(worker) = &mut self.hands else {
            return Err(Failure::bug("a worker that is nowhere"));
        };
        match settings.and_then(|settings| worker.adopt(Arc::new(settings))) {
            Ok(()) => {
                self.health.become_that_of(worker);
                self.machine = mind(worker)?;
            }
            Err(failure) => {
                self.warn("the configuration stays as it was", "configuration", &failure)
            }
        }
        Ok(Event::RenewAsked)
    }
}

impl Hands {
    fn begin(&mut self, job: Job) {
        match std::mem::replace(self, Self::Gone) {
            Self::Free(worker) => *self = Self::Busy(tokio::spawn(worker.run(job))),
            other => *self = other,
        }
    }

    /// How the job at hand ended; never, if there is none.
    async fn done(&mut self) -> Result<Ended, Failure> {
        let Self::Busy(work) = self else { return std::future::pending().await };
        let (worker, ended) = work.await.map_err(Failure::bug)?;
        *self = Self::Free(Box::new(worker));
        Ok(ended)
    }
}

impl Health {
    fn of(worker: &Worker, meter: Meter) -> Self {
        let health = Self::new(found(worker), meter, &timestamp(), now().wall);
        health.note_owed(worker);
        health
    }

    fn become_that_of(&self, worker: &Worker) {
        self.keep_only(found(worker), &timestamp(), now().wall);
        self.note_owed(worker);
    }

    fn note_owed(&self, worker: &Worker) {
        let services = worker.settings().services.iter().zip(worker.owed());
        for (service, _) in services.filter(|(_, owed)| *owed) {
            self.owed(service.name.as_str());
        }
    }
}

fn found(worker: &Worker) -> Vec<(String, Option<machine::Validity>)> {
    let services = worker.settings().services.iter().zip(worker.services());
    let services = services.map(|(service, (validity, _))| (service.name.to_string(), validity));
    std::iter::once((IDENTITY.to_owned(), worker.identity())).chain(services).collect()
}

/// What a part is called.
fn name(settings: &Settings, part: Part) -> String {
    match part {
        Part::Identity => IDENTITY.to_owned(),
        Part::Service(index) => {
            let service = settings.services.get(index);
            service.map(|service| service.name.to_string()).unwrap_or_default()
        }
    }
}

fn now() -> Moment {
    Moment { wall: clock::now().unix_timestamp(), boot: clock::boot() }
}

fn timestamp() -> String {
    rfc3339(now().wall).unwrap_or_default()
}

/// The signals that the daemon listens to.
struct Signals {
    hangup: Signal,
    user1: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|cause| Failure::io(&cause, "signals"));
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            user1: listen(SignalKind::user_defined1())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }
}

/// Who answers questions about our health, until it is dropped.
struct Answers {
    address: Option<Answering>,
    socket: Option<(PathBuf, Answering)>,
}

/// A task that ends with this value.
struct Answering(JoinHandle<()>);

impl Answering {
    fn on(listener: Listener, health: &Health) -> Self {
        Self(tokio::spawn(diag::serve_all(listener, health.clone())))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Answers {
    async fn begin(settings: &Settings, health: &Health) -> Result<Self, Failure> {
        let mut answers = Self { address: None, socket: None };
        if let Some(address) = settings.diag_addr {
            let listener = TcpListener::bind(address)
                .await
                .map_err(|cause| Failure::io(&cause, format!("diag_addr {address}")))?;
            answers.address = Some(Answering::on(Listener::Tcp(listener), health));
        }
        if let config::Storage::Directory(directory) = &settings.storage {
            let path = directory.path.join(SOCKET);
            let answering = listen(&path, health)?;
            answers.socket = Some((path, answering));
        }
        Ok(answers)
    }

    /// Whoever removes the storage removes the socket in it. There is one again once there is a storage again.
    fn mend(&mut self, health: &Health) {
        if let Some((path, answering)) = &mut self.socket
            && !path.exists()
            && let Ok(anew) = listen(path, health)
        {
            *answering = anew;
        }
    }
}

fn listen(path: &Path, health: &Health) -> Result<Answering, Failure> {
    let failed = |cause| Failure::io(&cause, path.display());
    // The storage is locked by us, so whoever listened there before is gone.
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => return Err(failed(cause)),
        _ => {}
    }
    // Inside of a folder that nobody else can enter.
    let listener = socket::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(Answering::on(Listener::Unix(listener), health))
}

impl Drop for Answers {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.socket {
            let _ = fs::remove_file(path);
        }
    }
}
