//! Child processes that never outlive their parent, and directories that never outlive both.

use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A child process in a process group of its own. It ends with this value, and also when this
/// process is killed: a shell that waits on a pipe from us then ends it.
#[derive(Debug)]
pub struct Guarded {
    child: Child,
    watchdog: Child,
}

impl Guarded {
    /// Starts `command`. If this process dies first, `scratch` is removed with it.
    pub fn spawn(command: &mut Command, scratch: Option<&Path>) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        match watch(child.id(), scratch) {
            Ok(watchdog) => Ok(Self { child, watchdog }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks it to end (SIGTERM) and waits; `None` when it did not listen and had to be killed.
    pub fn terminate(mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let pid = self.id().to_string();
        // The shell's own: a small system has no program of that name.
        let mut kill = Command::new("sh");
        kill.args(["-c", "kill -TERM \"$1\"", "kill", &pid]).stderr(Stdio::null());
        kill.status().context("cannot run sh")?;
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if let Some(status) = self.exited()? {
                return Ok(Some(status));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(None)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.watchdog.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.watchdog.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The watchdog ends the process group when its input does. A line before that says that the parent
/// lives and looks after the directory itself.
fn watch(pid: u32, scratch: Option<&Path>) -> Result<Child> {
    const SCRIPT: &str = r#"trap "" HUP INT TERM
        read -r line
        kill -KILL "-$1" 2>/dev/null
        [ -n "$line" ] || [ -z "$2" ] || rm -rf -- "$2""#;
    Command::new("sh")
        .args(["-c", SCRIPT, "watchdog", &pid.to_string()])
        .arg(scratch.unwrap_or(Path::new("")))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("cannot start sh")
}

/// A private directory (mode 0700) for a short time, with a name short enough for Unix sockets within.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// The longest name that leaves room for `/tpm.sock` in the 108 bytes of a socket's address.
    const MAX_PATH: usize = 90;

    /// Makes the directory, under the system's temporary directory.
    pub fn new(prefix: &str) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let temporary = std::env::temp_dir();
        let short = temporary.is_absolute()
            && temporary.as_os_str().len() + prefix.len() + 24 < Self::MAX_PATH;
        let parent = if short { temporary } else { PathBuf::from("/tmp") };
        for _ in 0..1000 {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{prefix}-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).context(format!("cannot create {}", path.display()));
                }
            }
        }
        bail!("{} is full of directories named {prefix}-*", parent.display())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory where it is.
    pub fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn alive(pid: u32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    }

    #[test]
    fn a_child_ends_with_its_guard() {
        let scratch = Scratch::new("endorse-child").unwrap();
        let guard = Guarded::spawn(Command::new("sleep").arg("600"), Some(scratch.path())).unwrap();
        let (child, watchdog) = (guard.id(), guard.watchdog.id());
        assert!(alive(child) && alive(watchdog));
        drop(guard);
        assert!(!alive(child) && !alive(watchdog));
        assert!(scratch.path().exists(), "the directory is its owner's while the owner lives");
    }

    #[test]
    fn the_watchdog_ends_a_whole_group_when_its_parent_is_gone() {
        let scratch = Scratch::new("endorse-child").unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 600 & echo $! >pid; wait"]).current_dir(scratch.path());
        let mut guard = Guarded::spawn(&mut shell, Some(scratch.path())).unwrap();
        let pid_file = scratch.path().join("pid");
        let grandchild: u32 = loop {
            let text = fs::read_to_string(&pid_file).unwrap_or_default();
            if let Some(pid) = text.strip_suffix('\n') {
                break pid.parse().unwrap();
            }
            thread::sleep(Duration::from_millis(2));
        };
        drop(guard.watchdog.stdin.take());
        guard.watchdog.wait().unwrap();
        guard.child.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while alive(grandchild) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        assert!(!alive(grandchild));
        assert!(!scratch.path().exists());
    }

    #[test]
    fn terminate_reports_whether_the_signal_was_handled() {
        let polite = Guarded::spawn(Command::new("sleep").arg("600"), None).unwrap();
        assert!(polite.terminate(Duration::from_secs(5)).unwrap().is_some());
        let scratch = Scratch::new("endorse-child").unwrap();
        let ready = scratch.path().join("ready");
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' TERM; : >\"$1\"; sleep 600", "deaf"]).arg(&ready);
        let deaf = Guarded::spawn(&mut shell, None).unwrap();
        while !ready.exists() {
            thread::sleep(Duration::from_millis(2));
        }
        assert!(deaf.terminate(Duration::from_millis(50)).unwrap().is_none());
    }

    #[test]
    fn scratch_directories_are_private_and_their_own() {
        let (one, other) = (Scratch::new("endorse-s").unwrap(), Scratch::new("endorse-s").unwrap());
        assert_ne!(one.path(), other.path());
        assert_eq!(fs::metadata(one.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let path = one.path().to_path_buf();
        drop(one);
        assert!(!path.exists());
        let kept = other.keep();
        assert!(kept.exists());
        fs::remove_dir(kept).unwrap();
    }
}
