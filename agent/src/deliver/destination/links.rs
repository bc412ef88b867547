//! The links of a destination: which names in the directory are the agent's, and how they are switched in one step.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use host::exit::{Exit, Failure};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::walk;

/// The link to the version that is current.
pub(super) const DATA: &str = "..data";
/// A link before it has its name.
const NEW: &str = "..new";
const PREFIX: &str = "..v";

/// A version of the set: one more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u64);

impl Version {
    pub(super) fn after(current: Option<Self>) -> Option<Self> {
        current.map_or(Some(1), |version| version.0.checked_add(1)).map(Self)
    }

    pub(super) fn dir(self) -> OsString {
        format!("{PREFIX}{}", self.0).into()
    }

    pub(super) fn parse(dir: &OsStr) -> Option<Self> {
        let digits = dir.to_str()?.strip_prefix(PREFIX)?;
        digits.parse().ok().map(Self).filter(|version| version.dir() == dir)
    }
}

/// What stands where a file of the set belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// Nothing.
    Free,
    /// Our link.
    Linked,
    /// A regular file of another program.
    Plain,
    /// A link that replaced ours. It is replaced, and never followed.
    Replaced,
}

/// The version that is current; `None` before the first. A link that leads elsewhere is not ours, unless we wrote
/// `last` here: then it was ours, and was damaged.
pub(super) fn current(dir: &OwnedFd, last: Option<Version>) -> Result<Option<Version>, Failure> {
    let target = match walk::read_link(dir, OsStr::new(DATA)) {
        Ok(target) => target,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) if cause.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            return Err(foreign(DATA, "is not a link"));
        }
        Err(cause) => return Err(Failure::io(&cause, DATA)),
    };
    match Version::parse(&target) {
        // The newest version counts even if the link was turned back to an older one.
        Some(version) => Ok(Some(last.map_or(version, |last| last.max(version)))),
        None if last.is_some() => Ok(last),
        None => Err(foreign(DATA, "is not one of the agent's links")),
    }
}

/// What stands at a name of the set, which `is_ours` if we wrote it last.
pub(super) fn place(dir: &OwnedFd, name: &str, is_ours: bool) -> Result<Existing, Failure> {
    let at = OsStr::new(name);
    let failed = |cause: io::Error| Failure::io(&cause, name);
    match walk::kind(dir, at).map_err(failed)? {
        None => Ok(Existing::Free),
        Some(FileType::RegularFile) => Ok(Existing::Plain),
        Some(FileType::Symlink) => {
            let target = walk::read_link(dir, at).map_err(failed)?;
            if target == into_data(name) {
                Ok(Existing::Linked)
            } else if is_ours {
                Ok(Existing::Replaced)
            } else {
                Err(foreign(name, "is not one of the agent's links"))
            }
        }
        Some(_) => Err(foreign(name, "is not a regular file")),
    }
}

/// The next version: one whose name no file has.
pub(super) fn next(dir: &OwnedFd, current: Option<Version>) -> Result<Version, Failure> {
    let after = |version| Version::after(version).ok_or_else(|| Failure::bug("too many versions"));
    let kind = |version: Version| {
        walk::kind(dir, &version.dir()).map_err(|cause| Failure::io(&cause, DATA))
    };
    let mut version = after(current)?;
    while kind(version)? == Some(FileType::RegularFile) {
        version = after(Some(version))?;
    }
    Ok(version)
}

/// Makes a name show what is current.
pub(super) fn show(dir: &OwnedFd, name: &str) -> io::Result<()> {
    put(dir, &into_data(name), name)
}

/// Makes a version the current one, for all names at once.
pub(super) fn switch(dir: &OwnedFd, version: Version) -> io::Result<()> {
    put(dir, &version.dir(), DATA)
}

/// Removes our links to files that are in the set no longer.
pub(super) fn retire(dir: &OwnedFd, keep: impl Fn(&str) -> bool) -> io::Result<()> {
    for name in walk::entries(dir)? {
        let Some(name) = name.to_str().filter(|name| !keep(name)) else { continue };
        let ours = walk::kind(dir, OsStr::new(name))? == Some(FileType::Symlink)
            && walk::read_link(dir, OsStr::new(name))? == into_data(name);
        if ours {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Removes all versions but those to keep, including incomplete ones of killed writers.
pub(super) fn sweep(dir: &OwnedFd, keep: impl Fn(Version) -> bool) -> io::Result<()> {
    remove_link(dir)?;
    for name in walk::entries(dir)? {
        // A file of that name is not ours.
        if Version::parse(&name).is_some_and(|version| !keep(version))
            && walk::kind(dir, &name)? != Some(FileType::RegularFile)
        {
            remove_version(dir, &name)?;
        }
    }
    Ok(())
}

/// Removes a version's directory and the files in it. A directory in it was not put there by us: then both stay.
pub(super) fn remove_version(dir: &OwnedFd, name: &OsStr) -> io::Result<()> {
    // An empty one can be removed even if it was never given its permissions.
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        done => return Ok(done?),
    }
    let version = walk::enter(dir, name)?;
    for file in walk::entries(&version)? {
        match rustix::fs::unlinkat(&version, file, AtFlags::empty()) {
            Err(Errno::ISDIR) => {}
            done => done?,
        }
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        done => Ok(done?),
    }
}

fn put(dir: &OwnedFd, target: &OsStr, name: &str) -> io::Result<()> {
    remove_link(dir)?;
    rustix::fs::symlinkat(target, dir, NEW)?;
    Ok(rustix::fs::renameat(dir, NEW, dir, name)?)
}

fn remove_link(dir: impl AsFd) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, NEW, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn into_data(name: &str) -> OsString {
    format!("{DATA}/{name}").into()
}

fn foreign(name: &str, what: &str) -> Failure {
    Failure::new(
        Exit::Config,
        format!("{name} {what}"),
        "remove it or choose another directory: the agent does not change files it did not create",
    )
}
