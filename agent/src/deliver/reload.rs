//! Runs reload hooks, after new files are in place.

use std::fmt;
use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use host::bounded;
use host::exit::{Exit, Failure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, getpid, kill_process_group, pidfd_open, pidfd_send_signal};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::config::{HOOK_PATH, Reload, ReloadAction, Signal};

/// Bytes of a program's output that are kept, from its end.
const MAX_OUTPUT: usize = 4096;

/// How long to wait after SIGTERM, and then after SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// A successful hook: what ran, and its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// What was done.
    pub what: String,
    /// The end of what the program wrote to its output and error output.
    pub output: String,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.output.is_empty() { Ok(()) } else { write!(f, ": {}", self.output) }
    }
}

/// Runs the hook. It blocks for at most the configured time and a few seconds.
///
/// # Errors
/// The hook failed: the reason, and the program's output. It can be retried.
pub fn run(reload: &Reload) -> Result<Reloaded, Failure> {
    match &reload.action {
        ReloadAction::Command { program, arguments } => {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            command(program, &arguments, reload.timeout)
        }
        ReloadAction::Signal { signal, pid_file } => send(*signal, pid_file),
        ReloadAction::SystemdUnit(unit) => {
            check_unit(unit)?;
            let arguments = ["--no-ask-password", "reload-or-restart", "--", unit];
            command("systemctl", &arguments, reload.timeout)
        }
    }
}

/// Runs a program for at most this time and a few seconds.
pub(super) fn command(
    program: &str,
    arguments: &[&str],
    limit: Duration,
) -> Result<Reloaded, Failure> {
    let what = format!("ran {}", [&[program], arguments].concat().join(" "));
    let failed = |cause: io::Error| Failure::io(&cause, format!("cannot run {program}"));
    let (child, output) = spawn(program, arguments).map_err(failed)?;
    let (end, output) = Watch::new(child, output).and_then(|w| w.wait(limit)).map_err(failed)?;
    let said = if output.is_empty() { String::new() } else { format!(": {output}") };
    let wrong = |how: String| {
        let advice = "check the program; the new files are in place, and the agent will retry";
        Err(Failure::new(Exit::Unavailable, format!("{program} {how}{said}"), advice))
    };
    match end {
        End::Of(status) if status.success() => Ok(Reloaded { what, output }),
        End::Of(status) => wrong(format!("failed ({status})")),
        End::TooLate => wrong(format!("took more than {} s and was killed", limit.as_secs_f32())),
        End::Never => wrong("took too long and cannot be killed".to_owned()),
    }
}

/// Starts a program in a process group of its own, without a shell, with next to no environment.
fn spawn(program: &str, arguments: &[&str]) -> io::Result<(Child, PipeReader)> {
    let (reader, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&reader, true)?;
    let child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", HOOK_PATH)
        .env("LANG", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()?;
    Ok((child, reader))
}

/// How a program ended.
enum End {
    Of(ExitStatus),
    TooLate,
    Never,
}

/// What has been done about the end of a program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    Asked,
    Killed,
}

/// A running program.
struct Watch {
    child: Child,
    group: Pid,
    pidfd: OwnedFd,
    timer: OwnedFd,
    output: Option<PipeReader>,
    said: Vec<u8>,
}

impl Watch {
    fn new(child: Child, output: PipeReader) -> io::Result<Self> {
        let group = Pid::from_child(&child);
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC);
        match pidfd_open(group, PidfdFlags::empty()).and_then(|pidfd| Ok((pidfd, timer?))) {
            Ok((pidfd, timer)) => {
                Ok(Self { child, group, pidfd, timer, output: Some(output), said: Vec::new() })
            }
            Err(error) => {
                let mut child = child;
                let _ = kill_process_group(group, rustix::process::Signal::KILL);
                child.wait()?;
                Err(error.into())
            }
        }
    }

    fn wait(mut self, limit: Duration) -> io::Result<(End, String)> {
        let mut stage = Stage::Running;
        self.arm(limit)?;
        let end = loop {
            let [ended, late] = self.next_event()?;
            if ended {
                if stage != Stage::Running {
                    // The leader is not reaped yet, so the group is still this one.
                    self.kill(rustix::process::Signal::KILL)?;
                }
                let status = self.child.wait()?;
                break if stage == Stage::Running { End::Of(status) } else { End::TooLate };
            }
            if late {
                stage = match stage {
                    Stage::Running => {
                        self.kill(rustix::process::Signal::TERM)?;
                        Stage::Asked
                    }
                    Stage::Asked => {
                        self.kill(rustix::process::Signal::KILL)?;
                        Stage::Killed
                    }
                    Stage::Killed => break End::Never,
                };
                self.arm(GRACE)?;
            }
        };
        self.listen();
        Ok((end, String::from_utf8_lossy(&self.said).trim().to_owned()))
    }

    /// Waits; whether the program has ended, and whether the time is over.
    fn next_event(&mut self) -> io::Result<[bool; 2]> {
        let mut watched =
            vec![PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(&self.timer, PollFlags::IN)];
        watched.extend(self.output.iter().map(|output| PollFd::new(output, PollFlags::IN)));
        match poll(&mut watched, None) {
            Err(Errno::INTR) => return Ok([false, false]),
            polled => polled?,
        };
        let mut ready = watched.iter().map(|fd| !fd.revents().is_empty());
        let ended = ready.next() == Some(true);
        let late = ready.next() == Some(true);
        let output = ready.next() == Some(true);
        if output {
            self.listen();
        }
        Ok([ended, late])
    }

    /// Reads available output, so that the program is never blocked; keeps its end.
    fn listen(&mut self) {
        let mut chunk = [0; MAX_OUTPUT];
        // Bounded: the program may write as fast as we read.
        for _ in 0..16 {
            let Some(output) = &mut self.output else { return };
            match output.read(&mut chunk) {
                Ok(length) if length > 0 => {
                    self.said.extend(chunk.iter().take(length));
                    let old = self.said.len().saturating_sub(MAX_OUTPUT);
                    self.said.drain(..old);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => self.output = None,
            }
        }
    }

    fn arm(&self, limit: Duration) -> io::Result<()> {
        // A timer that is set to nothing never ends.
        let limit = limit.max(Duration::from_millis(1));
        let once = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let time = Itimerspec { it_interval: never, it_value: once };
        timerfd_settime(self.timer.as_fd(), TimerfdTimerFlags::empty(), &time)?;
        Ok(())
    }

    fn kill(&self, signal: rustix::process::Signal) -> io::Result<()> {
        match kill_process_group(self.group, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Sends a signal to the process whose ID is in the file, and not to another process that has the ID since.
fn send(signal: Signal, pid_file: &Path) -> Result<Reloaded, Failure> {
    let shown = pid_file.display();
    let (pid, owner) = read_pid(pid_file)?;
    let gone = || {
        let advice = "start it, or check that it writes this file; the agent will retry";
        let message = format!("no process has the ID {} from {shown}", pid.as_raw_pid());
        Failure::new(Exit::Unavailable, message, advice)
    };
    let failed = |error: Errno| match error {
        Errno::SRCH => gone(),
        error => Failure::io(&error.into(), format!("signalling process {}", pid.as_raw_pid())),
    };
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
    // The pidfd refers to the process, not to a number. It is the right one if the file still has its ID.
    if read_pid(pid_file)? != (pid, owner) {
        let message = format!("{shown} changed while it was read");
        return Err(Failure::new(Exit::Unavailable, message, "wait until the agent retries"));
    }
    if owner != 0 && user_of(pid).ok_or_else(gone)? != owner {
        return Err(Failure::new(
            Exit::Permission,
            format!("process {} does not belong to the owner of {shown}", pid.as_raw_pid()),
            "change the owner of the file or of the process: a pid file can only name processes of its owner",
        ));
    }
    if pid == getpid() {
        return Err(Failure::new(
            Exit::Config,
            format!("{shown} contains the agent's own process ID"),
            "",
        ));
    }
    pidfd_send_signal(&process, number(signal)).map_err(failed)?;
    let what = format!("sent {signal:?} to process {} of {shown}", pid.as_raw_pid());
    Ok(Reloaded { what, output: String::new() })
}

/// The process id in a file that only its owner can have written, and that owner.
/// Some programs write more than their process id: postmaster.pid has the data directory in it.
const MAX_PID_FILE: u64 = 64 * 1024;

fn read_pid(path: &Path) -> Result<(Pid, u32), Failure> {
    let failed = |cause: io::Error| Failure::io(&cause, path.display());
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).map_err(Failure::bug)?;
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() || metadata.mode() & 0o022 != 0 {
        return Err(Failure::new(
            Exit::Permission,
            format!("{} is not a regular file, or other users can write to it", path.display()),
            "let only its program write to it",
        ));
    }
    let text = bounded::read_text(file, MAX_PID_FILE).map_err(failed)?;
    let pid = text.lines().next().and_then(|line| line.trim().parse::<i32>().ok());
    let pid = pid.filter(|pid| *pid > 0).and_then(Pid::from_raw).ok_or_else(|| {
        Failure::new(
            Exit::Data,
            format!("{} does not start with a process ID", path.display()),
            "check that it is the right file; the agent will retry",
        )
    })?;
    Ok((pid, metadata.uid()))
}

/// The real user of a process, from proc_pid_status(5).
fn user_of(pid: Pid) -> Option<u32> {
    let status = File::open(format!("/proc/{}/status", pid.as_raw_pid())).ok()?;
    let text = bounded::read_text(status, 64 * 1024).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

const fn number(signal: Signal) -> rustix::process::Signal {
    use rustix::process::Signal as Number;
    match signal {
        Signal::Hup => Number::HUP,
        Signal::Usr1 => Number::USR1,
        Signal::Usr2 => Number::USR2,
        Signal::Int => Number::INT,
        Signal::Term => Number::TERM,
        Signal::Quit => Number::QUIT,
        Signal::Winch => Number::WINCH,
    }
}

/// systemd.unit(5): what a unit's name may consist of.
fn check_unit(unit: &str) -> Result<(), Failure> {
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@');
    if unit.is_empty() || unit.len() > 255 || !unit.chars().all(allowed) {
        let message = format!("{unit:?} is not a valid systemd unit name");
        return Err(Failure::new(Exit::Config, message, "use a name such as nginx.service"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
