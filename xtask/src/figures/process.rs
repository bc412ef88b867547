//! What the kernel knows of a process. proc(5).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// In RAM.
    pub(crate) resident: u64,
    /// Of them, those not shared with other processes or backed by the file: heap, stacks, what was
    /// written to.
    pub(crate) private: u64,
}

/// A process, by its directory in /proc.
#[derive(Debug)]
pub(crate) struct Process(PathBuf);

impl Process {
    pub(crate) fn of(id: u32) -> Self {
        Self(Path::new("/proc").join(id.to_string()))
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        let status = read(&self.0.join("status"))?;
        let pages = read(&self.0.join("smaps_rollup"))?;
        Ok(Memory {
            resident: number(&status, "VmRSS:")? * 1024,
            private: number(&pages, "Private_Dirty:")? * 1024,
        })
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> Result<usize> {
        self.entries("fd")
    }

    pub(crate) fn threads(&self) -> Result<usize> {
        self.entries("task")
    }

    fn entries(&self, name: &str) -> Result<usize> {
        let directory = self.0.join(name);
        let entries =
            fs::read_dir(&directory).with_context(|| format!("{}", directory.display()))?;
        Ok(entries.count())
    }

    /// How often its threads have gone to sleep of their own will, and so woken up.
    pub(crate) fn sleeps(&self) -> Result<u64> {
        let directory = self.0.join("task");
        let tasks = fs::read_dir(&directory).with_context(|| format!("{}", directory.display()))?;
        let mut sleeps = 0;
        for task in tasks {
            sleeps += number(&read(&task?.path().join("status"))?, "voluntary_ctxt_switches:")?;
        }
        Ok(sleeps)
    }
}

/// The processor's time that our children took which have ended, in hundredths of a second.
pub(crate) fn children() -> Result<Duration> {
    const TICKS_PER_SECOND: u32 = 100;
    let stat = read(Path::new("/proc/self/stat"))?;
    // The name in parentheses may have anything in it; after it cutime and cstime are numbers 14 and 15.
    let (_, fields) = stat.rsplit_once(')').context("/proc/self/stat has no name")?;
    let mut times = fields.split_whitespace().skip(13).map(str::parse::<u32>);
    match (times.next(), times.next()) {
        (Some(Ok(user)), Some(Ok(system))) => {
            Ok(Duration::from_secs(1) * (user + system) / TICKS_PER_SECOND)
        }
        _ => bail!("/proc/self/stat has no times: {stat}"),
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// The number behind a label at the start of a line.
fn number(text: &str, label: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(label));
    let value = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
    value.with_context(|| format!("no number behind {label}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_whole_one() {
        let text = "voluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t9\nVmRSS:\t  12 kB\n";
        assert_eq!(number(text, "voluntary_ctxt_switches:").unwrap(), 7);
        assert_eq!(number(text, "VmRSS:").unwrap(), 12);
        assert!(number(text, "Rss:").is_err());
    }

    #[test]
    fn our_own_process_has_memory_and_sleeps() {
        let ours = Process::of(std::process::id());
        let memory = ours.memory().unwrap();
        assert!(memory.private > 0 && memory.private < memory.resident, "{memory:?}");
        let before = ours.sleeps().unwrap();
        std::thread::sleep(Duration::from_millis(1));
        assert!(ours.sleeps().unwrap() > before);
    }

    #[test]
    fn a_child_that_computes_takes_time() {
        let before = children().unwrap();
        let busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        std::process::Command::new("sh").args(["-c", busy]).status().unwrap();
        assert!(children().unwrap() > before);
    }
}
