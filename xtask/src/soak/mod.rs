//! `cargo xtask soak`: a daemon that renews all the time, while faults are injected into everything that it depends on. Once
//! a second it has to be alive and to answer, and everything it delivered has to be valid, or the reason stated.

mod credential;
mod fault;
mod host;
mod ledger;
mod mounts;
mod observe;
mod random;

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{SigSet, Signal};

use self::credential::Judge;
use self::fault::{Fault, Injected};
use self::host::{Host, INTERVAL, Programs};
use self::ledger::{Ledger, MAX_RECOVERY, clock, names, trouble};
use self::observe::{Observation, observe, renewals};
use self::random::Random;
use crate::setup::{self, Action, Purpose};
use crate::{cargo, target_directory};

/// How often everything is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often a line of progress is printed, and the TPM's handles are counted.
const PROGRESS: Duration = Duration::from_secs(60);

/// What to run, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How long faults are injected
    #[arg(long, value_name = "N", default_value_t = 60)]
    minutes: u64,
    /// Repeat the faults of an earlier run, which printed this number [default: another each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The agent to run [default: build it]
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// The authority to run [default: build it]
    #[arg(long, value_name = "PATH")]
    authority: Option<PathBuf>,
}

/// Runs it, shows a table, and fails if anything was violated or grew.
pub fn run(options: &Options) -> Result<()> {
    setup::run(Purpose::Soak, Action::Install)?;
    let programs = programs(options)?;
    let interrupted = interrupts()?;
    let seed = options.seed.map_or_else(|| Ok(unix_seconds()? % 1_000_000), anyhow::Ok)?;
    let logs = target_directory().join("soak");
    println!("soak: seed {seed}, {} min, renewals every {INTERVAL} s", options.minutes);
    println!("soak: logs in {}", logs.display());
    let host = Host::start(programs, &logs)?;
    let mut soak = Soak::new(host, Random::new(seed), interrupted);
    let result = soak.run(Duration::from_secs(60 * options.minutes));
    let Soak { host, ledger, .. } = soak;
    drop(host);
    println!("\n{ledger}");
    result?;
    let faults = ledger.violations() + ledger.grown().len();
    ensure!(faults == 0, "{faults} violations, see above; seed {seed}");
    println!("soak: passed");
    Ok(())
}

/// The programs that are named, or built.
fn programs(options: &Options) -> Result<Programs> {
    let find = |named: &Option<PathBuf>, package: &str| match named {
        Some(path) => {
            fs::canonicalize(path).with_context(|| format!("no program {}", path.display()))
        }
        None => {
            eprintln!("Building {package} ...");
            let mut build = cargo();
            build.args(["build", "--package", package]).stdin(Stdio::null());
            ensure!(build.status()?.success(), "{package} does not build");
            Ok(target_directory().join("debug").join(package))
        }
    };
    let directories = fs::read_dir("/usr/lib")?.flatten().map(|directory| directory.path());
    let mut clocks = directories.map(|directory| directory.join("faketime/libfaketimeMT.so.1"));
    Ok(Programs {
        agent: find(&options.agent, "agent")?,
        authority: find(&options.authority, "authority")?,
        clock: clocks.find(|library| library.exists()),
    })
}

/// Becomes true with SIGINT or SIGTERM, from which nothing else happens any more.
fn interrupts() -> Result<Arc<AtomicBool>> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&interrupted);
    thread::spawn(move || {
        if signals.wait().is_ok() {
            set.store(true, Ordering::Relaxed);
        }
    });
    Ok(interrupted)
}

/// A fault that is active.
#[derive(Debug)]
struct Active {
    fault: Fault,
    until: Instant,
}

struct Soak {
    host: Host,
    judge: Judge,
    ledger: Ledger,
    random: Random,
    interrupted: Arc<AtomicBool>,
    begun: Instant,
    active: Vec<Active>,
    /// By how many seconds the agent's clock is wrong.
    step: i64,
    last: Option<Observation>,
}

impl Soak {
    fn new(host: Host, random: Random, interrupted: Arc<AtomicBool>) -> Self {
        let judge = Judge::new(host.ca());
        let mut ledger = Ledger::default();
        let unavailable = |fault: &Fault| Some((*fault, fault.unavailable(&host)?));
        ledger.skipped = Fault::ALL.iter().filter_map(unavailable).collect();
        Self {
            host,
            judge,
            ledger,
            random,
            interrupted,
            begun: Instant::now(),
            active: Vec::new(),
            step: 0,
            last: None,
        }
    }

    /// Injects faults for `length`, ends them all and waits until everything is in place.
    fn run(&mut self, length: Duration) -> Result<()> {
        self.wait_until_healthy(MAX_RECOVERY)?;
        ensure!(self.is_healthy(), "the agent does not start: {}", self.trouble());
        self.begun = Instant::now();
        let (mut next_fault, mut next_progress) = (Instant::now(), Instant::now() + PROGRESS);
        while self.at() < length && !self.is_over() {
            self.end_faults(Instant::now())?;
            if self.active.is_empty() && self.ledger.is_recovered() && Instant::now() >= next_fault
            {
                self.inject()?;
                next_fault = Instant::now() + self.random.seconds(10, 30);
            }
            self.look()?;
            if Instant::now() >= next_progress {
                self.progress()?;
                next_progress = Instant::now() + PROGRESS;
            }
        }
        self.end_faults(Instant::now() + Duration::from_secs(3600))?;
        self.wait_until_healthy(MAX_RECOVERY)?;
        if !self.is_healthy() {
            self.ledger.violated(self.at(), format!("at the end: {}", self.trouble()));
        }
        self.progress()
    }

    /// Injects a fault, and now and then a second one about something else.
    fn inject(&mut self) -> Result<()> {
        let pair = self.random.between(0, 2) == 0;
        for _ in 0..if pair { 2 } else { 1 } {
            let taken: Vec<_> = self.active.iter().map(|active| active.fault.subject()).collect();
            let available = |fault: &Fault| {
                let skipped = &self.ledger.skipped;
                !taken.contains(&fault.subject()) && skipped.iter().all(|(it, _)| it != fault)
            };
            let available: Vec<_> = Fault::ALL.into_iter().filter(available).collect();
            let fault = self.random.pick(&available).context("no fault is available")?;
            let injected = fault.inject(&mut self.host, &mut self.random);
            let Injected { detail, lasts, step } =
                injected.with_context(|| format!("injecting: {}", fault.name()))?;
            if fault == Fault::AgentClockStepped {
                self.step = step;
            }
            let comma = if detail.is_empty() { "" } else { ": " };
            self.say(&format!("+ {}{comma}{detail}, for {} s", fault.name(), lasts.as_secs()));
            self.ledger.injected(fault, self.at());
            self.active.push(Active { fault, until: Instant::now() + lasts });
        }
        Ok(())
    }

    /// Ends the faults that have lasted long enough.
    fn end_faults(&mut self, now: Instant) -> Result<()> {
        while let Some(index) = self.active.iter().position(|active| active.until <= now) {
            let Active { fault, .. } = self.active.remove(index);
            fault.end(&mut self.host).with_context(|| format!("ending: {}", fault.name()))?;
            if fault == Fault::AgentClockStepped {
                self.step = 0;
            }
            self.ledger.ended(fault, self.at(), !self.active.is_empty());
            self.say(&format!("- {}", fault.name()));
        }
        Ok(())
    }

    /// Looks at everything, and waits for the rest of the second.
    fn look(&mut self) -> Result<()> {
        let begun = Instant::now();
        let seen = observe(&mut self.host, &mut self.judge, self.step)?;
        let violations = self.ledger.violations();
        if let Some((faults, took)) = self.ledger.record(self.at(), &seen) {
            self.say(&format!("  recovered from {} in {} s", names(&faults), took.as_secs()));
        }
        if self.ledger.violations() > violations {
            self.say(&format!("! {}", self.ledger.last_violation().unwrap_or_default()));
        }
        self.last = Some(seen);
        thread::sleep(LOOK.saturating_sub(begun.elapsed()));
        Ok(())
    }

    fn wait_until_healthy(&mut self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            self.look()?;
            if self.is_healthy() || self.has_ended() || Instant::now() > deadline {
                return Ok(());
            }
        }
    }

    /// A line for people; the TPM's handles, where no other program uses the TPM.
    fn progress(&mut self) -> Result<()> {
        self.ledger.renewals = renewals(self.host.diag()).unwrap_or_default();
        if self.active.is_empty() && self.ledger.is_recovered() {
            let handles = self.host.tpm()?.handles()?;
            let sessions = handles.loaded_sessions.len() + handles.saved_sessions.len();
            self.ledger.handles(self.at(), handles.transient.len(), sessions);
        }
        let usage = self.last.as_ref().and_then(|seen| seen.agent).unwrap_or_default();
        self.say(&format!(
            "= {} descriptors, {} threads, {} KiB, {} of them private; renewals: {}; violations: {}",
            usage.descriptors,
            usage.threads,
            usage.resident / 1024,
            usage.private / 1024,
            self.ledger.renewals,
            self.ledger.violations()
        ));
        Ok(())
    }

    fn is_healthy(&self) -> bool {
        self.last.as_ref().is_some_and(Observation::is_healthy)
    }

    fn has_ended(&self) -> bool {
        self.last.as_ref().is_some_and(|seen| seen.ended.is_some())
    }

    fn is_over(&self) -> bool {
        self.has_ended() || self.interrupted.load(Ordering::Relaxed)
    }

    fn trouble(&self) -> String {
        self.last.as_ref().map(trouble).unwrap_or_default()
    }

    fn at(&self) -> Duration {
        self.begun.elapsed()
    }

    fn say(&self, line: &str) {
        println!("{} {line}", clock(self.at()));
    }
}

fn unix_seconds() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}
