//! A small disk and a read-only view of a directory, in a mount namespace of our own: no other process sees them, and they end
//! with this process however it ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, unshare};

/// What is mounted, by directory.
#[derive(Debug)]
pub(super) struct Mounts {
    /// Why nothing can be mounted.
    refused: Option<String>,
    mounted: Vec<PathBuf>,
}

impl Mounts {
    /// Moves the calling thread, and what it starts from now on, to a mount namespace of its own.
    pub(super) fn new() -> Self {
        let entered = unshare(CloneFlags::CLONE_NEWNS).context("no mount namespace of our own");
        let entered = entered.and_then(|()| run("mount", &["--make-rprivate", "/"]));
        Self { refused: entered.err().map(|error| format!("{error:#}")), mounted: Vec::new() }
    }

    /// Why nothing can be mounted, such as that we are not root.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Puts a file system of 256 KiB on the directory, if anything can be mounted.
    pub(super) fn small_disk(&mut self, directory: &Path) -> Result<()> {
        if self.refused.is_some() {
            return Ok(());
        }
        let path = text(directory)?;
        let options = "size=256k,mode=0700";
        match run("mount", &["-t", "tmpfs", "-o", options, "tmpfs", path]) {
            Ok(()) => self.mounted.push(directory.to_owned()),
            Err(error) => self.refused = Some(format!("{error:#}")),
        }
        Ok(())
    }

    /// Lays a read-only view of the directory over it: who has files open in it keeps them.
    pub(super) fn read_only(&mut self, directory: &Path) -> Result<()> {
        let path = text(directory)?;
        run("mount", &["--bind", path, path])?;
        self.mounted.push(directory.to_owned());
        run("mount", &["-o", "remount,bind,ro", path])
    }

    /// Removes what was mounted on the directory last.
    pub(super) fn remove(&mut self, directory: &Path) -> Result<()> {
        self.mounted.retain(|mounted| mounted != directory);
        run("umount", &["--lazy", text(directory)?])
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        while let Some(directory) = self.mounted.pop() {
            let _ = text(&directory).and_then(|path| run("umount", &["--lazy", path]));
        }
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let message = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", message.trim_end());
    Ok(())
}
