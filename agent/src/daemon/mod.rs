//! The daemon: keeps the host's credentials fresh for years, whatever happens to the network, the authority, the TPM, the
//! disk or the clock.
//!
//! [`machine`] decides what to do, `worker` runs jobs, [`health`] reports. The loop below passes events to the machine, its
//! jobs to the worker, and results to health and log. One thread runs it all, and wakes once a minute when there is nothing
//! to do.

pub mod alarm;
mod bound_socket;
pub mod diag;
mod file_check;
pub mod health;
mod health_socket;
pub mod machine;
mod pid_file;
mod signals;
mod ssh_agents;
mod stop;
mod worker;
mod workloads;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host::clock;
use host::exit::{Exit, Failure};
use host::service_manager::ServiceManager;
use tokio::task::JoinHandle;

use self::alarm::Alarm;
use self::file_check::{CheckResult, RunningCheck};
use self::health::{Health, IDENTITY};
use self::health_socket::Answers;
use self::machine::{Action, Event, Holder, Job, Machine, Moment, Outcome, Validity};
use self::pid_file::PidFile;
use self::signals::Signals;
use self::ssh_agents::SshAgents;
use self::stop::Stop;
use self::worker::{Ended, Inventory, Mismatch, Worker};
use self::workloads::sockets::Sockets;
use crate::attest::Reader;
use crate::ceremony::reissue::Reissue;
use crate::config::Settings;
use crate::credential::identity::rfc3339;
use crate::log::Log;
use crate::tpm::thread::Meter;

/// The socket in the storage that answers `agent status`.
pub const SOCKET: &str = "agent.sock";

/// The longest pause between two checks of files and clock, for changes without a notification.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// How long a start may take from each event on: something may be missing for days, and a restart would not help.
const START_EXTENSION: Duration = LOOK_AGAIN.saturating_mul(3);

/// Reads the configuration again; what it says in warnings was logged.
pub type Reread = Arc<dyn Fn() -> Result<Settings, Failure> + Send + Sync>;

/// Keeps credentials fresh until asked to stop; with `oneshot` once. `reader` reads the executables of workloads.
///
/// # Errors
/// What keeps it from beginning; with `oneshot`, whatever fails first. Later failures are logged, and the daemon continues.
pub async fn run(
    settings: Settings,
    reread: Reread,
    pid_file: Option<&Path>,
    reader: Option<Reader>,
    log: Log,
) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let alarm = Alarm::new()?;
    let settings = Arc::new(settings);
    let meter = Meter::default();
    let stop = Stop::new();
    let start = async {
        let worker = Worker::new(Arc::clone(&settings), reread, stop.clone(), meter.clone(), log);
        let worker = worker.await?;
        let found = worker.files().inventory().await;
        let socket = worker.bind_socket().await;
        let pid_file = match pid_file {
            Some(path) => Some(PidFile::write(path).await?),
            None => None,
        };
        Ok::<_, Failure>((worker, found, socket, pid_file))
    };
    let (worker, found, socket, _pid_file) = tokio::select! {
        started = start => started?,
        // The files that are read at a start may be on a file system that hangs.
        () = signals.stop_asked() => {
            let stopped = Failure::new(Exit::Busy, "stopped before anything was written", "");
            return if settings.oneshot { Err(stopped) } else { Ok(()) };
        }
    };
    let health = Health::of(&worker, &found, meter);
    let answers = Answers::begin(&settings, socket, &health).await?;
    let sockets = Sockets::begin(health.clone());
    if !settings.oneshot {
        sockets.serve(worker.workloads(reader.as_ref()));
    }
    let agents = match settings.oneshot {
        true => ssh_agents::Wanted { agents: Vec::new(), reader: None, log },
        false => worker.ssh_agents(reader.as_ref()),
    };
    let ssh_agents = SshAgents::begin(agents, health.clone()).await;
    let manager = ServiceManager::from_environment();
    manager.status("starting");
    if ssh_agents.offer_host_key() {
        // sshd waits for the agent, and has to start also while the authority is away.
        manager.ready("a host key is offered to sshd");
    }
    log.info(
        "started",
        &[("version", &env!("CARGO_PKG_VERSION")), ("services", &settings.services.len())],
    );
    let machine = machine(&worker, found)?;
    let machine = if settings.oneshot { machine.once() } else { machine };
    let (running_check, mismatch, reissue) = (None, worker.mismatch(), worker.reissue());
    let slot = Slot::Free(Box::new(worker));
    let mut daemon = Daemon {
        machine,
        slot,
        running_check,
        mismatch,
        reissue,
        health,
        answers,
        sockets,
        ssh_agents,
        reader,
        manager,
        signals,
        alarm,
        look_at: clock::boot().saturating_add(LOOK_AGAIN),
        stop,
        log,
    };
    let result = daemon.run(settings.oneshot).await;
    daemon.manager.stopping("stopped");
    match &result {
        Ok(()) => log.info("ended", &[]),
        Err(failure) => log.error("ended", &[("reason", &failure.message)]),
    }
    result
}

/// What the machine begins with: what the worker found.
fn machine(worker: &Worker, found: Inventory) -> Result<Machine, Failure> {
    let policy = worker::policy(worker.settings().lifetime);
    let mut seeds = vec![0; worker.settings().services.len().saturating_add(1)];
    tpm2::crypto::random(&mut seeds).map_err(Failure::bug)?;
    let mut seeds = seeds.into_iter();
    let seed = move || seeds.next().unwrap_or(128);
    let machine = Machine::new(worker.identity(), policy, found.services, seed);
    let machine = machine.rejoining(found.mismatch.is_some());
    worker.mismatch().note(found.mismatch);
    let machine = machine.storing(worker.is_storing_due());
    Ok(machine.renewing(worker.asks_for_another_ttl()))
}

/// The loop around the machine. Nothing is remembered here: `slot` is where the worker is, the rest are its surroundings.
struct Daemon {
    machine: Machine,
    slot: Slot,
    running_check: Option<RunningCheck>,
    mismatch: Mismatch,
    /// Whether the authority has asked to renew everything.
    reissue: Reissue,
    health: Health,
    answers: Answers,
    sockets: Sockets,
    ssh_agents: SshAgents,
    /// Who reads executables, if the configuration that the agent started with asks for it.
    reader: Option<Reader>,
    manager: ServiceManager,
    signals: Signals,
    alarm: Alarm,
    /// When to look at files and clock again, on the boot clock.
    look_at: Duration,
    stop: Stop,
    log: Log,
}

/// Where the worker is.
enum Slot {
    Free(Box<Worker>),
    /// At a job, for the component of this name.
    Busy(JoinHandle<(Worker, Ended)>, String),
    /// Never seen: the moment between the two.
    Moving,
}

impl Daemon {
    /// Lets the machine decide, carries out its actions, and waits for the next event, until [`Action::End`].
    async fn run(&mut self, oneshot: bool) -> Result<(), Failure> {
        let mut event = Event::Woke;
        while self.step(event)? {
            self.manager.alive();
            if !self.machine.has_started() {
                self.manager.still_starting(START_EXTENSION);
            }
            let until_look = self.look_at.saturating_sub(clock::boot());
            let pause = self.machine.time_until_due(now()).min(until_look);
            let pause = self.manager.watchdog().map_or(pause, |watchdog| pause.min(watchdog));
            event = tokio::select! {
                ended = self.slot.ended() => {
                    let ended = ended?;
                    self.rebind_socket();
                    self.note(&ended);
                    match ended.failure {
                        Some(failure) if oneshot => return Err(failure),
                        _ => self.event(ended)?,
                    }
                }
                // Never sooner than a moment from now, however late a renewal is.
                rung = self.alarm.ring(pause.max(Duration::from_millis(100))) => {
                    rung?;
                    self.look_at = clock::boot().saturating_add(LOOK_AGAIN);
                    self.check_sockets();
                    if self.running_check.take_if(|check| check.has_no_news()).is_some() {
                        self.machine = self.machine.clone().file_check_ended();
                        self.manager.status(&self.health.status(now().wall));
                    }
                    Event::AlarmRang
                }
                seen = RunningCheck::news(&mut self.running_check) => self.files_checked(seen),
                () = self.reissue.wanted() => {
                    self.log.warn("a CA of the cluster is tainted: renewing everything", &[]);
                    self.sockets.renew();
                    Event::RenewRequested
                }
                event = self.signals.next() => {
                    self.note_request(&event);
                    event
                }
            };
        }
        Ok(())
    }

    /// What an operator's request means besides the machine's credentials.
    fn note_request(&self, event: &Event) {
        match event {
            Event::RenewRequested => {
                self.log.info("asked to renew", &[]);
                self.sockets.renew();
            }
            Event::ReloadRequested => self.log.info("asked to reload the configuration", &[]),
            _ => {}
        }
    }

    /// What the machine learns from the end of a job.
    fn event(&mut self, ended: Ended) -> Result<Event, Failure> {
        match (ended.outcome, &self.slot) {
            (Outcome::Configured, Slot::Free(worker)) => {
                self.answers.change(ended.diag, &self.health);
                self.log = worker.settings().log();
                let none = || Failure::bug("a configuration without inventory");
                let found = ended.inventory.ok_or_else(none)?;
                self.health.replace_with(worker, &found);
                self.sockets.serve(worker.workloads(self.reader.as_ref()));
                self.sockets.check();
                self.ssh_agents.serve(worker.ssh_agents(self.reader.as_ref()));
                // A check that goes on is about the former configuration.
                self.running_check = None;
                Ok(Event::Configured(Box::new(machine(worker, found)?)))
            }
            _ => {
                if let (Job::Join, Outcome::Valid(_) | Outcome::NotStored(_)) =
                    (ended.job, ended.outcome)
                {
                    // What workloads have is of another bot instance, perhaps of a CA that was revoked.
                    self.sockets.renew();
                }
                Ok(Event::Ended(ended.job, ended.outcome))
            }
        }
    }

    /// Lets the tasks of sockets look at them and at the clock. No job delays that, as one that waits for the TPM.
    fn check_sockets(&self) {
        self.sockets.check();
        self.ssh_agents.check();
    }

    /// Checks for changes without a notification: files that were changed or removed. They are written again.
    fn check_files(&mut self) {
        if let Slot::Free(worker) = &self.slot {
            let (health, mismatch) = (self.health.clone(), self.mismatch.clone());
            let is_rejoining = self.machine.is_rejoining();
            let is_news = move |found: &CheckResult| {
                !found.changed.is_empty()
                    || found.socket.is_some()
                    || found.mismatch.is_some() != is_rejoining
                    || found.mismatch != mismatch.reason()
                    || !health.are_unreadable(&found.unreadable)
            };
            self.running_check = Some(RunningCheck::begin(worker.files(), is_news));
        }
    }

    /// Answers on the socket in the storage again, if that was made again.
    fn rebind_socket(&mut self) {
        let Slot::Free(worker) = &mut self.slot else { return };
        if let Some(socket) = worker.take_socket() {
            self.answers.replace_socket(socket, &self.health);
        }
    }

    fn files_checked(&mut self, seen: CheckResult) -> Event {
        if let Some(socket) = seen.socket {
            self.answers.replace_socket(socket, &self.health);
        }
        self.report_unreadable(seen.unreadable);
        let judged =
            seen.changed.into_iter().filter(|(holder, ..)| self.machine.is_checked(*holder));
        let changed = judged.map(|(holder, name, change)| {
            let what = "the files were changed: writing them again";
            self.log.warn(what, &[("name", &name), ("reason", &change)]);
            self.health.changed(&name, &change.to_string(), &timestamp());
            holder
        });
        let (changed, mismatched) = (changed.collect(), seen.mismatch.is_some());
        if self.machine.is_same_identity() {
            self.mismatch.note(seen.mismatch);
        }
        Event::FilesChecked { changed, mismatched }
    }

    /// Lets the machine decide, and carries out its actions. False at [`Action::End`].
    fn step(&mut self, event: Event) -> Result<bool, Failure> {
        let mut seed = [0];
        tpm2::crypto::random(&mut seed).map_err(Failure::bug)?;
        let [seed] = seed;
        let shown = match &event {
            Event::Configured(_) => "Configured".to_owned(),
            event => format!("{event:?}"),
        };
        let (machine, actions) = self.machine.clone().next(event, now(), seed);
        self.machine = machine;
        self.log.debug("event", &[("event", &shown), ("actions", &format!("{actions:?}"))]);
        for action in actions {
            match action {
                Action::Begin(job) => self.begin(job)?,
                Action::CheckFiles => self.check_files(),
                Action::Ready => {
                    self.log.info("all credentials are valid", &[]);
                    self.manager.ready(&self.health.status(now().wall));
                }
                Action::ReportOverdue(job) => self.report_overdue(job),
                Action::NotifyReloading => self.manager.reloading(clock::monotonic()),
                Action::NotifyReloaded => self.manager.ready(&self.health.status(now().wall)),
                Action::NotifyStopping(job) => {
                    self.stop.ask();
                    let waiting = job.map(|job| format!("waiting for the running job: {job}"));
                    let waiting = waiting.unwrap_or_default();
                    self.log.info("stopping", &[("status", &waiting)]);
                    self.manager.stopping(&waiting);
                }
                Action::End => return Ok(false),
                Action::Abort(job) => {
                    let what = format!("stopped during a job: {job}");
                    return Err(Failure::new(Exit::Busy, what, ""));
                }
            }
        }
        if let Slot::Free(worker) = &mut self.slot {
            worker.close_connection();
        }
        Ok(true)
    }

    fn begin(&mut self, job: Job) -> Result<(), Failure> {
        if job == Job::Configure {
            self.log.info("reloading the configuration", &[]);
        }
        match std::mem::replace(&mut self.slot, Slot::Moving) {
            Slot::Free(worker) => {
                let name =
                    job.holder().map_or_else(String::new, |holder| name(worker.settings(), holder));
                self.slot = Slot::Busy(tokio::spawn(worker.run(job)), name);
            }
            _ => return Err(Failure::bug(format!("{job} cannot begin before another job ends"))),
        }
        Ok(())
    }

    /// Reports how a job ended: health, log and service manager.
    fn note(&self, ended: &Ended) {
        let at = timestamp();
        let Slot::Free(worker) = &self.slot else { return };
        let what = match ended.job {
            Job::Join => "joined",
            Job::Renew => "renewed",
            Job::Store => "stored",
            Job::Issue(_) => "issued",
            Job::RunHook(_) => "reloaded",
            Job::Configure => "configured",
        };
        let Some(holder) = ended.job.holder() else {
            return self.note_configuration(ended.failure.as_ref());
        };
        let name = name(worker.settings(), holder);
        match (ended.outcome, &ended.failure) {
            (Outcome::Valid(validity), Some(failure)) => {
                self.health.kept(&name, validity, failure, &at);
                self.warn(&format!("{what}, but superseded"), &name, failure);
            }
            (Outcome::Valid(validity), None) => {
                self.health.succeeded(&name, validity, &at);
                let until = rfc3339(validity.not_after).unwrap_or_default();
                self.log.info(what, &[("name", &name), ("until", &until)]);
            }
            (Outcome::NotStored(validity), Some(failure)) => {
                self.health.kept(&name, validity, failure, &at);
                self.warn(&format!("{what}, but not stored"), &name, failure);
            }
            (Outcome::HookRan, _) => self.health.completed(&name, &at),
            (Outcome::Stored, None) => {
                self.health.completed(&name, &at);
                self.log.info(what, &[("name", &name)]);
            }
            (Outcome::Stored, Some(failure)) => {
                self.health.degraded(&name, failure, &at);
                self.warn(&format!("{what}, but superseded"), &name, failure);
            }
            (Outcome::Failed(_), Some(failure)) if ended.job == Job::Store => {
                self.health.degraded(&name, failure, &at);
                self.warn(&format!("not {what}"), &name, failure);
            }
            (Outcome::HookFailed(validity), Some(failure)) => {
                self.health.reload_failed(&name, validity, failure, &at);
                self.warn("credentials written, but the reload hook failed", &name, failure);
            }
            (_, Some(failure)) => {
                self.health.failed(&name, failure, &at);
                self.warn(&format!("not {what}"), &name, failure);
            }
            (_, None) => {}
        }
        self.manager.status(&self.health.status(now().wall));
    }

    fn report_overdue(&self, job: Job) {
        let Slot::Busy(_, name) = &self.slot else { return };
        let minutes = Machine::OVERDUE.as_secs() / 60;
        let what = format!("this job has run for {minutes} minutes: {job}");
        let advice = "check whether a disk, a program or the TPM hangs; send SIGTERM twice to stop the agent";
        let failure = Failure::new(Exit::Busy, what, advice);
        self.health.degraded(name, &failure, &timestamp());
        self.warn("a job does not finish", name, &failure);
        self.manager.status(&self.health.status(now().wall));
    }

    /// Reports files that hang: at every moment in the health, and once in the log.
    fn report_unreadable(&self, unreadable: Vec<(String, Failure)>) {
        for (name, failure) in self.health.note_unreadable(unreadable, &timestamp()) {
            self.warn("the files cannot be checked", &name, &failure);
        }
        self.manager.status(&self.health.status(now().wall));
    }

    fn note_configuration(&self, failure: Option<&Failure>) {
        self.health.configuration(failure);
        match failure {
            None => self.log.info("the configuration is in effect", &[]),
            Some(failure) => {
                self.warn("the configuration was not changed", "configuration", failure);
            }
        }
    }

    fn warn(&self, what: &str, name: &str, failure: &Failure) {
        self.log.warn(
            what,
            &[("name", &name), ("reason", &failure.message), ("advice", &failure.advice)],
        );
        if !failure.cause.is_empty() {
            self.log.debug("caused by", &[("name", &name), ("cause", &failure.cause)]);
        }
    }
}

impl Slot {
    /// Waits for the running job to end; forever without one. Cancel safe.
    async fn ended(&mut self) -> Result<Ended, Failure> {
        let Self::Busy(work, _) = self else { return std::future::pending().await };
        let (worker, ended) = work.await.map_err(Failure::bug)?;
        *self = Self::Free(Box::new(worker));
        Ok(ended)
    }
}

impl Health {
    fn of(worker: &Worker, inventory: &Inventory, meter: Meter) -> Self {
        let health =
            Self::new(found(worker, inventory), sockets(worker), meter, &timestamp(), now().wall);
        health.note_found(worker, inventory);
        health
    }

    fn replace_with(&self, worker: &Worker, inventory: &Inventory) {
        self.keep_only(found(worker, inventory), sockets(worker), &timestamp(), now().wall);
        self.note_found(worker, inventory);
    }

    fn note_found(&self, worker: &Worker, inventory: &Inventory) {
        // The inventory has written it to the log.
        let _ = self.note_unreadable(inventory.unreadable.clone(), &timestamp());
        let services = worker.settings().services.iter().zip(&inventory.services);
        for (service, _) in services.filter(|(_, found)| found.hook_pending) {
            self.reload_pending(service.name.as_str());
        }
    }
}

fn found(worker: &Worker, inventory: &Inventory) -> Vec<(String, Option<Validity>)> {
    let services = worker.settings().services.iter().zip(&inventory.services);
    let services = services.map(|(service, found)| (service.name.to_string(), found.validity));
    std::iter::once((IDENTITY.to_owned(), worker.identity())).chain(services).collect()
}

fn sockets(worker: &Worker) -> impl Iterator<Item = String> {
    worker.settings().workload_apis.iter().map(|api| api.name.to_string())
}

/// The name in logs and health reports.
fn name(settings: &Settings, holder: Holder) -> String {
    match holder {
        Holder::Identity => IDENTITY.to_owned(),
        Holder::Service(index) => {
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
