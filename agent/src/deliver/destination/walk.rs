//! Finds and creates directories in paths that other users may change: each name is opened relative to the directory opened
//! before, so that it cannot be replaced in between.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use host::exit::{Exit, Failure};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::access::Access;
use crate::config::Symlinks;

/// What Linux itself follows before it says ELOOP.
const MAX_LINKS: u32 = 40;

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const READ: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directory at `path`, made if it is not there; `access` decides about a directory that is made.
///
/// `secure` follows no symbolic link; `try-secure` only one that only root and we could have created;
/// `insecure` every one, and accepts a directory of another user.
pub(super) fn open(
    path: &Path,
    links: Symlinks,
    access: impl Fn(&OwnedFd) -> Result<Access, Failure>,
) -> Result<OwnedFd, Failure> {
    let failed = |cause: io::Error, at: &Path| Failure::io(&cause, at.display());
    let absolute = std::path::absolute(path).map_err(|cause| failed(cause, path))?;
    let mut way: VecDeque<OsString> = names(&absolute).collect();
    let (mut dir, mut at) = (root().map_err(|cause| failed(cause, path))?, PathBuf::from("/"));
    let mut followed = 0;
    while let Some(name) = way.pop_front() {
        let here = at.join(&name);
        let next = match look(&dir, &name) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => match make(&dir, &name) {
                // Another process was faster.
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => look(&dir, &name),
                Err(cause) => Err(cause),
                Ok(made) => {
                    let access = access(&made)?;
                    access.admit_to_directory(&made).and_then(|()| sync_parent(&dir)).map(|()| made)
                }
            }
            .map_err(|cause| failed(cause, &here))?,
            found => found.map_err(|cause| failed(cause, &here))?,
        };
        let stat = stat(&next).map_err(|cause| failed(cause, &here))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => (dir, at) = (next, here),
            FileType::Symlink => {
                followed += 1;
                if followed > MAX_LINKS {
                    return Err(failed(Errno::LOOP.into(), path));
                }
                may_follow(&dir, &stat, links).map_err(|why| refused_link(&here, why))?;
                let target = read_link(&dir, &name).map_err(|cause| failed(cause, &here))?;
                let target = PathBuf::from(target);
                if target.is_absolute() {
                    dir = root().map_err(|cause| failed(cause, &here))?;
                    at = PathBuf::from("/");
                }
                names(&target).rev().for_each(|name| way.push_front(name));
            }
            _ => return Err(not_a_directory(&here)),
        }
    }
    check_owner(&dir, path, links)?;
    readable(&dir).map_err(|cause| failed(cause, path))
}

/// Makes a directory that is not there yet, 0700 whatever the umask.
pub(super) fn make(parent: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    let parent = parent.as_fd();
    rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
    let dir = rustix::fs::openat(parent, name, LOOK, Mode::empty())?;
    let made = stat(&dir)?;
    if FileType::from_raw_mode(made.st_mode) != FileType::Directory
        || made.st_uid != geteuid().as_raw()
    {
        return Err(io::Error::other("it was replaced while it was created"));
    }
    if made.st_mode & 0o777 != 0o700 {
        // Under a umask that removes the owner's permissions it cannot be opened otherwise.
        let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
        rustix::fs::chmod(path, Mode::RWXU)?;
    }
    readable(&dir)
}

/// The names in a directory, without `.` and `..`.
pub(super) fn entries(dir: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// What a name is, itself: a link is not followed. `None` if there is nothing.
pub(super) fn kind(dir: impl AsFd, name: &OsStr) -> io::Result<Option<FileType>> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Where a link points to.
pub(super) fn read_link(dir: impl AsFd, name: &OsStr) -> io::Result<OsString> {
    let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
    Ok(OsString::from_vec(target.into_bytes()))
}

/// A directory below another.
pub(super) fn enter(dir: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, name, READ, Mode::empty())?)
}

fn root() -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(CWD, "/", LOOK, Mode::empty())?)
}

fn readable(dir: &OwnedFd) -> io::Result<OwnedFd> {
    enter(dir, OsStr::new("."))
}

fn stat(dir: impl AsFd) -> io::Result<Stat> {
    Ok(rustix::fs::fstat(dir)?)
}

fn names(path: &Path) -> impl DoubleEndedIterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

fn look(dir: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, name, LOOK, Mode::empty())?)
}

/// Synchronizes the new directory's name to the disk, if permitted.
fn sync_parent(dir: &OwnedFd) -> io::Result<()> {
    match readable(dir) {
        Ok(dir) => Ok(rustix::fs::fsync(dir)?),
        Err(_) => Ok(()),
    }
}

/// Whether a symbolic link in `directory` may be followed; why not.
fn may_follow(dir: &OwnedFd, link: &Stat, links: Symlinks) -> Result<(), &'static str> {
    match links {
        Symlinks::Insecure => Ok(()),
        Symlinks::Secure => Err("is a symbolic link"),
        Symlinks::TrySecure => {
            let dir =
                stat(dir).map_err(|_| "is a symbolic link in a directory that does not exist")?;
            // In a sticky directory only the owner of a link can replace it.
            let closed = dir.st_mode & 0o022 == 0 || dir.st_mode & 0o1000 != 0;
            if is_trusted(link.st_uid) && is_trusted(dir.st_uid) && closed {
                Ok(())
            } else {
                Err("is a symbolic link that other users control")
            }
        }
    }
}

fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}

/// Refuses a directory that others can write to, or that belongs to another user.
pub(super) fn check_owner(dir: &OwnedFd, path: &Path, links: Symlinks) -> Result<(), Failure> {
    let shown = path.display();
    let stat = stat(dir).map_err(|cause| Failure::io(&cause, path.display()))?;
    if stat.st_mode & 0o022 != 0 {
        return Err(Failure::new(
            Exit::Permission,
            format!("other users can write to {shown}"),
            format!("chmod go-w {shown}, or choose another directory"),
        ));
    }
    if links != Symlinks::Insecure && !is_trusted(stat.st_uid) {
        return Err(Failure::new(
            Exit::Permission,
            format!("{shown} belongs to another user (uid {})", stat.st_uid),
            format!("chown it to uid {}, or set `symlinks: insecure`", geteuid().as_raw()),
        ));
    }
    Ok(())
}

fn refused_link(path: &Path, why: &str) -> Failure {
    Failure::new(
        Exit::Permission,
        format!("{} {why}", path.display()),
        "give the path without the link, or set `symlinks: insecure`",
    )
}

fn not_a_directory(path: &Path) -> Failure {
    Failure::new(
        Exit::Config,
        format!("{} is not a directory", path.display()),
        "remove it, or choose another directory",
    )
}
