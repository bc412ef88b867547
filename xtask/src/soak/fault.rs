//! What can go wrong around a daemon, and how it is brought about and ended.

use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::host::{Host, INTERVAL, ON_SMALL_DISK, SERVICES, Whose};
use super::random::Random;

/// The file that fills a disk.
const FILLER: &str = "filler";

/// Seconds by which clocks are stepped.
const CLOCK_STEPS: [i64; 8] = [-7200, -3600, -300, -30, 30, 300, 3600, 7200];

/// Configurations that the agent refuses.
const INVALID: [&str; 4] = ["nonsense: 1\n", "version: v2\nservices: [\n", "", "\0\u{7f}"];

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    AuthorityKilled,
    AuthorityPaused,
    AuthorityClockStepped,
    TpmHeld,
    TpmPaused,
    TpmReset,
    DiskFull,
    StorageReadOnly,
    AgentClockStepped,
    ValidReload,
    InvalidReload,
    RenewalsAsked,
    FileDamaged,
    FilesRemoved,
    HookFails,
    HookHangs,
}

/// What a fault is about: two of the same do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Authority,
    Tpm,
    Clock,
    Configuration,
    Files,
    Disk,
    Storage,
    Hook,
}

/// A fault that was brought about.
#[derive(Debug)]
pub(super) struct Injected {
    /// For a line of the log.
    pub(super) detail: String,
    /// How long it lasts.
    pub(super) lasts: Duration,
    /// By how many seconds it sets a clock wrong.
    pub(super) step: i64,
}

impl Fault {
    pub(super) const ALL: [Self; 16] = [
        Self::AuthorityKilled,
        Self::AuthorityPaused,
        Self::AuthorityClockStepped,
        Self::TpmHeld,
        Self::TpmPaused,
        Self::TpmReset,
        Self::DiskFull,
        Self::StorageReadOnly,
        Self::AgentClockStepped,
        Self::ValidReload,
        Self::InvalidReload,
        Self::RenewalsAsked,
        Self::FileDamaged,
        Self::FilesRemoved,
        Self::HookFails,
        Self::HookHangs,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AuthorityKilled => "authority killed",
            Self::AuthorityPaused => "authority paused",
            Self::AuthorityClockStepped => "authority's clock stepped",
            Self::TpmHeld => "TPM held by another client",
            Self::TpmPaused => "TPM paused",
            Self::TpmReset => "TPM reset",
            Self::DiskFull => "disk full",
            Self::StorageReadOnly => "storage read-only",
            Self::AgentClockStepped => "agent's clock stepped",
            Self::ValidReload => "SIGHUP, valid configuration",
            Self::InvalidReload => "SIGHUP, invalid configuration",
            Self::RenewalsAsked => "SIGUSR1",
            Self::FileDamaged => "file damaged",
            Self::FilesRemoved => "files removed",
            Self::HookFails => "reload hook fails",
            Self::HookHangs => "reload hook hangs",
        }
    }

    pub(super) const fn subject(self) -> Subject {
        match self {
            Self::AuthorityKilled | Self::AuthorityPaused => Subject::Authority,
            Self::AgentClockStepped | Self::AuthorityClockStepped => Subject::Clock,
            Self::TpmHeld | Self::TpmPaused | Self::TpmReset => Subject::Tpm,
            Self::DiskFull => Subject::Disk,
            Self::StorageReadOnly => Subject::Storage,
            Self::ValidReload | Self::InvalidReload | Self::RenewalsAsked => Subject::Configuration,
            Self::FileDamaged | Self::FilesRemoved => Subject::Files,
            Self::HookFails | Self::HookHangs => Subject::Hook,
        }
    }

    /// Whether the agent sees it only when it looks, once a minute: files that others changed, and a clock of which
    /// libfaketime does not tell it, as the kernel would.
    pub(super) const fn is_seen_late(self) -> bool {
        matches!(self, Self::FileDamaged | Self::FilesRemoved | Self::AgentClockStepped)
    }

    /// Why it cannot be brought about here, if so.
    pub(super) fn unavailable(self, host: &Host) -> Option<String> {
        match self {
            Self::DiskFull | Self::StorageReadOnly => host.mounts.refused().map(str::to_owned),
            Self::AuthorityClockStepped | Self::AgentClockStepped if !host.has_clocks() => {
                Some("no libfaketime; `cargo xtask setup` installs it".into())
            }
            _ => None,
        }
    }

    /// How long it lasts, if not only for a moment.
    fn length(self, random: &mut Random) -> Duration {
        match self {
            // Now and then longer than credentials are valid.
            Self::AuthorityKilled => random.seconds(5, 90),
            Self::TpmReset => random.seconds(0, 20),
            // The agent looks once a minute.
            Self::AgentClockStepped | Self::AuthorityClockStepped => random.seconds(20, 120),
            Self::ValidReload | Self::RenewalsAsked | Self::FileDamaged | Self::FilesRemoved => {
                Duration::ZERO
            }
            _ => random.seconds(5, 45),
        }
    }

    /// Brings it about.
    pub(super) fn inject(self, host: &mut Host, random: &mut Random) -> Result<Injected> {
        let lasts = self.length(random);
        let mut injected = Injected { detail: String::new(), lasts, step: 0 };
        match self {
            Self::AuthorityKilled => host.kill_authority(),
            Self::AuthorityPaused => host.signal_authority(Signal::SIGSTOP)?,
            Self::TpmHeld => host.occupied = Some(host.tpm()?.occupy()?),
            Self::TpmPaused => host.signal_tpm(Signal::SIGSTOP)?,
            Self::TpmReset => host.power_off(),
            Self::DiskFull => fill(&host.path(ON_SMALL_DISK).join(FILLER))?,
            Self::StorageReadOnly => {
                let storage = host.path("storage");
                host.mounts.read_only(&storage)?;
            }
            Self::AgentClockStepped | Self::AuthorityClockStepped => {
                injected.step = random.pick(&CLOCK_STEPS).context("no step")?;
                injected.detail = format!("{:+} s", injected.step);
                host.step_clock(self.whose(), injected.step)?;
            }
            Self::ValidReload => injected.detail = reload(host, random)?,
            Self::InvalidReload => {
                let text = random.pick(&INVALID).context("no configuration")?;
                injected.detail = format!("{text:?}");
                host.configure_with(text)?;
                host.signal_agent(Signal::SIGHUP)?;
            }
            Self::RenewalsAsked => injected.detail = ask_for_renewals(host, random)?,
            Self::FileDamaged => injected.detail = damage(host, random)?,
            Self::FilesRemoved => injected.detail = remove(host, random)?,
            Self::HookFails => host.hook("fail")?,
            Self::HookHangs => host.hook("hang")?,
        }
        let used = [Subject::Tpm, Subject::Disk, Subject::Storage, Subject::Hook];
        if used.contains(&self.subject()) {
            // A renewal, so that what fails is needed.
            host.signal_agent(Signal::SIGUSR1)?;
        }
        Ok(injected)
    }

    /// Ends it.
    pub(super) fn end(self, host: &mut Host) -> Result<()> {
        match self {
            Self::AuthorityKilled => host.start_authority(),
            Self::AuthorityPaused => host.signal_authority(Signal::SIGCONT),
            Self::TpmHeld => {
                host.occupied = None;
                Ok(())
            }
            Self::TpmPaused => host.signal_tpm(Signal::SIGCONT),
            Self::TpmReset => host.power_on(),
            Self::DiskFull => Ok(fs::remove_file(host.path(ON_SMALL_DISK).join(FILLER))?),
            Self::StorageReadOnly => {
                let storage = host.path("storage");
                host.mounts.remove(&storage)
            }
            Self::AgentClockStepped | Self::AuthorityClockStepped => {
                host.step_clock(self.whose(), 0)
            }
            Self::InvalidReload => {
                host.configure(INTERVAL)?;
                host.signal_agent(Signal::SIGHUP)
            }
            Self::HookFails | Self::HookHangs => host.hook("succeed"),
            Self::ValidReload | Self::RenewalsAsked | Self::FileDamaged | Self::FilesRemoved => {
                Ok(())
            }
        }
    }

    const fn whose(self) -> Whose {
        match self {
            Self::AuthorityClockStepped => Whose::Authority,
            _ => Whose::Agent,
        }
    }
}

/// Has the agent read another valid configuration.
fn reload(host: &mut Host, random: &mut Random) -> Result<String> {
    let interval = random.between(INTERVAL - 2, INTERVAL + 2);
    host.configure(interval)?;
    host.signal_agent(Signal::SIGHUP)?;
    Ok(format!("renewal_interval {interval} s"))
}

fn ask_for_renewals(host: &mut Host, random: &mut Random) -> Result<String> {
    let times = random.between(1, 5);
    for _ in 0..times {
        host.signal_agent(Signal::SIGUSR1)?;
    }
    Ok(format!("{times} times"))
}

/// Writes the file until the disk is full.
fn fill(path: &Path) -> Result<()> {
    let mut file = File::create(path)?;
    loop {
        match file.write(&[0; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error).context("filling a disk"),
        }
    }
}

/// Damages one file of one service. One that is not there for lack of an earlier repair is passed over.
fn damage(host: &Host, random: &mut Random) -> Result<String> {
    let (service, names) = random.pick(&SERVICES).context("no service")?;
    let directory = host.path(service);
    let file = random.pick(&[names.certificate, names.key, names.bundle]).context("no file")?;
    let path = directory.join(file);
    let ways = ["emptied", "cut short", "foreign", "readable by all", "not a link", "removed"];
    let way = random.pick(&ways).unwrap_or("removed");
    let done = match way {
        "emptied" => fs::write(&path, ""),
        "cut short" => {
            fs::read(&path).and_then(|all| fs::write(&path, all.split_at(all.len() / 2).0))
        }
        "foreign" => fs::read(host.path("tbot.yaml")).and_then(|other| fs::write(&path, other)),
        "readable by all" => {
            fs::set_permissions(directory.join(names.key), Permissions::from_mode(0o666))
        }
        "not a link" => fs::remove_file(&path).and_then(|()| symlink("/dev/null", &path)),
        _ => fs::remove_file(&path),
    };
    match done {
        Err(error)
            if error.kind() != ErrorKind::NotFound && error.kind() != ErrorKind::StorageFull =>
        {
            bail!("damaging {}: {error}", path.display())
        }
        _ => Ok(format!("{service}/{file} {way}")),
    }
}

/// Removes everything in the destination of one service, or the destination too. The agent may write there meanwhile: what
/// cannot be removed stays.
fn remove(host: &Host, random: &mut Random) -> Result<String> {
    let (service, _) = random.pick(&SERVICES).context("no service")?;
    let directory = host.path(service);
    if service != ON_SMALL_DISK && random.between(0, 1) == 0 {
        let _ = fs::remove_dir_all(&directory);
        return Ok(format!("{service}, and its directory"));
    }
    for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let _ = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(path),
            _ if path.ends_with(FILLER) => Ok(()),
            _ => fs::remove_file(path),
        };
    }
    Ok(service.to_owned())
}
