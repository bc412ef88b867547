//! A directory whose files are replaced as a set.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use host::exit::{Exit, Failure};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::access::{self, Access};
use super::links::{self, Existing, Version};
use super::manifest::{Change, Manifest};
use super::walk;
use super::{FileSet, MAX_FILE_SIZE, MAX_FILES, Notices};
use crate::config::{self, Reader};

/// The file that the agent which writes here has locked.
pub(super) const LOCK: &str = "lock";

/// After so many changes under a reader, the set is reported as damaged.
const MAX_CHANGES: usize = 100;

/// A directory, and who may read in it. Nothing is done to it before the first lock.
#[derive(Clone, Debug)]
pub struct Directory {
    settings: config::Directory,
    readers: Vec<Reader>,
}

impl Directory {
    /// The directory of a configuration.
    #[must_use]
    pub const fn new(settings: config::Directory, readers: Vec<Reader>) -> Self {
        Self { settings, readers }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.settings.path
    }

    /// Creates the directory if it does not exist, and locks out other writers until the [`Writer`] is dropped.
    ///
    /// # Errors
    /// It cannot be created, others can write to it, or another agent uses it ([`Exit::Busy`]).
    pub fn lock(&self) -> Result<Writer, Failure> {
        self.lock_by(Opened::lock)
    }

    /// The same; on a read-only file system, too, if the directory is there: then it can be read, and each write fails.
    ///
    /// # Errors
    /// As [`Directory::lock`].
    pub fn lock_to_read(&self) -> Result<Writer, Failure> {
        self.lock_by(Opened::lock_to_read)
    }

    fn lock_by(
        &self,
        lock: fn(&Opened, &Path) -> Result<Lock, Failure>,
    ) -> Result<Writer, Failure> {
        let opened = Opened::new(self)?;
        let lock = lock(&opened, self.path())?;
        Ok(Writer { directory: self.clone(), held: Mutex::new(Held { lock, manifest: None }) })
    }

    /// Whether a set exists; `true` if that cannot be determined.
    #[must_use]
    pub fn has_set(&self) -> bool {
        let data = std::fs::metadata(self.path().join(links::DATA));
        !data.is_err_and(|cause| cause.kind() == io::ErrorKind::NotFound)
    }

    /// The set that is there: all of one version. Nothing but ours is read.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self) -> Result<Option<FileSet>, Failure> {
        let failed = |cause: io::Error| Failure::io(&cause, self.path().display());
        for _ in 0..MAX_CHANGES {
            match read_once(self.path()) {
                // What was being read is gone: two sets were written in the meantime.
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                    let data = self.path().join(links::DATA);
                    match std::fs::symlink_metadata(data) {
                        Ok(_) => {}
                        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
                        Err(cause) => return Err(failed(cause)),
                    }
                }
                read => return read.map(Some).map_err(failed),
            }
        }
        Err(failed(io::Error::other(format!(
            "it changed {MAX_CHANGES} times while it was read, or is damaged"
        ))))
    }
}

/// The right to write to a directory: one agent at a time has it.
#[derive(Debug)]
pub struct Writer {
    directory: Directory,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    lock: Lock,
    /// What was written last, if that is known.
    manifest: Option<Manifest>,
}

impl Writer {
    /// Where the directory is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Whether the set that was written last still exists; `true` if that cannot be determined.
    #[must_use]
    pub fn has_set(&self) -> bool {
        self.directory.has_set()
    }

    /// Replaces the whole set that is there by this one. When it returns, the set is on the disk.
    ///
    /// The path is resolved each time, so that the directory may be replaced under a running agent.
    ///
    /// # Errors
    /// Those of the operating system. The previous set then stays complete.
    pub fn write(&self, set: &FileSet) -> Result<Notices, Failure> {
        self.write_announced(set, &mut |_| {})
    }

    /// The same; calls `announce` with what is about to become current, so that a killed agent has it on record.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn write_announced(
        &self,
        set: &FileSet,
        announce: &mut dyn FnMut(&Manifest),
    ) -> Result<Notices, Failure> {
        set.check()?;
        let path = self.directory.path();
        let opened = Opened::new(&self.directory)?;
        let mut held = self.held();
        // If the directory was removed and created again, our lock has no effect.
        if !opened.is_locked_by(&held.lock) {
            held.lock = opened.lock(path)?;
        }
        let (manifest, notices) =
            opened.write(set, held.manifest.as_ref(), announce).map_err(|failure| Failure {
                message: format!("cannot write to {}: {}", path.display(), failure.message),
                ..failure
            })?;
        held.manifest = Some(manifest);
        Ok(notices)
    }

    /// What was written last, if that is known.
    #[must_use]
    pub fn manifest(&self) -> Option<Manifest> {
        self.held().manifest.clone()
    }

    /// Sets what an earlier agent wrote last: the first candidate that matches the directory, or else the first of all,
    /// which is the newest.
    pub fn expect(&self, candidates: impl IntoIterator<Item = Manifest>) {
        let mut newest = None;
        for manifest in candidates {
            self.held().manifest = Some(manifest.clone());
            if self.check().is_ok() {
                return;
            }
            newest.get_or_insert(manifest);
        }
        self.held().manifest = newest;
    }

    /// Compares what is there with what was written last.
    ///
    /// # Errors
    /// How it differs; also if it is not known what was written.
    pub fn check(&self) -> Result<(), Change> {
        let held = self.held();
        let unknown =
            || Change::new("there is no manifest: an older version wrote them, or it was removed");
        let manifest = held.manifest.as_ref().ok_or_else(unknown)?;
        let config::Directory { path, symlinks, .. } = &self.directory.settings;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|error| {
            Change::new(format!("{}: {}", path.display(), io::Error::from(error)))
        })?;
        walk::check_owner(&dir, path, *symlinks).map_err(|failure| Change::new(failure.message))?;
        if !Opened::is_lock(&dir, &held.lock) {
            return Err(Change::new(format!("{LOCK} was removed or replaced")));
        }
        manifest.compare(&dir)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lock, released when dropped even if a child process still has a copy of the descriptor.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // If this fails, the kernel unlocks when the last copy of the descriptor is closed.
        let _ = self.0.unlock();
    }
}

/// The directory at one instant.
struct Opened {
    dir: OwnedFd,
    access: Access,
    notice: Option<String>,
}

impl Opened {
    fn new(directory: &Directory) -> Result<Self, Failure> {
        let config::Directory { path, symlinks, acls } = &directory.settings;
        let dir = walk::open(path, *symlinks, |made| {
            access::decide(made, *acls, &directory.readers).map(|(access, _)| access)
        })?;
        let (access, notice) = access::decide(&dir, *acls, &directory.readers)?;
        access.admit_to_existing(&dir).map_err(|cause| {
            Failure::io(&cause, format!("giving the readers access to {}", path.display()))
        })?;
        Ok(Self { dir, access, notice })
    }

    fn lock(&self, path: &Path) -> Result<Lock, Failure> {
        Self::locked(self.open_lock(), path)
    }

    fn lock_to_read(&self, path: &Path) -> Result<Lock, Failure> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match self.open_lock() {
            Err(Errno::ROFS) => rustix::fs::openat(&self.dir, LOCK, flags, Mode::empty()),
            opened => opened,
        };
        Self::locked(opened, path)
    }

    fn open_lock(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let lock = rustix::fs::openat(&self.dir, LOCK, flags, mode)?;
        // A process that can open it can block us.
        rustix::fs::fchmod(&lock, mode)?;
        Ok(lock)
    }

    fn locked(opened: Result<OwnedFd, Errno>, path: &Path) -> Result<Lock, Failure> {
        let shown = path.join(LOCK);
        let failed = |cause: io::Error| Failure::io(&cause, shown.display());
        let lock = File::from(opened.map_err(|error| failed(error.into()))?);
        match lock.try_lock() {
            Ok(()) => Ok(Lock(lock)),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                Exit::Busy,
                format!("another agent is using {}", path.display()),
                "wait until it has stopped, or choose another directory",
            )),
            Err(TryLockError::Error(cause)) => Err(failed(cause)),
        }
    }

    fn is_locked_by(&self, lock: &Lock) -> bool {
        Self::is_lock(&self.dir, lock)
    }

    /// Whether the lock of this directory is the one that we hold.
    fn is_lock(dir: &OwnedFd, lock: &Lock) -> bool {
        let there = rustix::fs::statat(dir, LOCK, AtFlags::SYMLINK_NOFOLLOW);
        there.is_ok_and(|there| {
            lock.0
                .metadata()
                .is_ok_and(|ours| (ours.dev(), ours.ino()) == (there.st_dev, there.st_ino))
        })
    }

    fn write(
        &self,
        set: &FileSet,
        last: Option<&Manifest>,
        announce: &mut dyn FnMut(&Manifest),
    ) -> Result<(Manifest, Notices), Failure> {
        let failed = |cause: io::Error| Failure::io(&cause, "the links");
        let before = links::current(&self.dir, last.and_then(Manifest::version))?;
        let is_recent = |version: Version, newest: Option<Version>| {
            newest.is_some_and(|newest| version <= newest && newest.0 - version.0 <= 1)
        };
        links::sweep(&self.dir, |version| is_recent(version, before)).map_err(failed)?;
        let mut free = Vec::new();
        let mut plain = Vec::new();
        for name in set.names() {
            match links::place(&self.dir, name, last.is_some_and(|last| last.has(name)))? {
                Existing::Free | Existing::Replaced => free.push(name),
                Existing::Plain => plain.push(name),
                Existing::Linked => {}
            }
        }
        let before = self.adopt(set, &plain, before)?;
        let version = links::next(&self.dir, before)?;
        self.fill(version, |dir| {
            set.iter().try_for_each(|(name, content)| self.create(dir, name, content))
        })?;
        let manifest = Manifest::of(&self.dir, &version.dir(), set).map_err(failed)?;
        announce(&manifest);
        // A new name is a dangling link until the switch, and appears together with the others.
        free.into_iter().try_for_each(|name| links::show(&self.dir, name)).map_err(failed)?;
        self.switch(version)?;

        // The new set is in place: what fails from here on is tried again with the next set.
        let swept = links::retire(&self.dir, |name| set.content(name).is_some())
            .and_then(|()| links::sweep(&self.dir, |at| is_recent(at, Some(version))));
        let unswept = swept.err().map(|cause| format!("cannot remove old versions: {cause}"));
        Ok((manifest, self.notice.clone().into_iter().chain(unswept).collect()))
    }

    /// Makes the plain files that another program wrote here one of our versions, so that they too are replaced as one.
    fn adopt(
        &self,
        set: &FileSet,
        plain: &[&str],
        before: Option<Version>,
    ) -> Result<Option<Version>, Failure> {
        if plain.is_empty() {
            return Ok(before);
        }
        let version = links::next(&self.dir, before)?;
        let current = before.map(Version::dir).unwrap_or_default();
        self.fill(version, |dir| {
            for name in set.names() {
                let shown = if plain.contains(&name) {
                    PathBuf::from(name)
                } else {
                    Path::new(&current).join(name)
                };
                match rustix::fs::linkat(&self.dir, shown, dir, name, AtFlags::empty()) {
                    Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                    Err(error) => return Err((format!("taking over {name}"), error.into())),
                }
            }
            Ok(())
        })?;
        self.switch(version)?;
        for name in plain {
            links::show(&self.dir, name).map_err(|cause| Failure::io(&cause, name))?;
        }
        Ok(Some(version))
    }

    /// Creates a version's directory and its files, synced to the disk; removes it on failure.
    fn fill(
        &self,
        version: Version,
        content: impl Fn(&OwnedFd) -> Result<(), (String, io::Error)>,
    ) -> Result<(), Failure> {
        let name = version.dir();
        let shown = name.display().to_string();
        let at_directory = |cause: io::Error| (shown.clone(), cause);
        let made = walk::make(&self.dir, &name).map_err(at_directory).and_then(|dir| {
            self.access.admit_to_directory(&dir).map_err(at_directory)?;
            content(&dir)?;
            rustix::fs::fsync(&dir).map_err(|error| at_directory(error.into()))?;
            rustix::fs::fsync(&self.dir).map_err(|error| at_directory(error.into()))
        });
        made.map_err(|(what, cause)| {
            // If that fails too, the next writer removes it.
            let _ = links::remove_version(&self.dir, &name);
            Failure::io(&cause, what)
        })
    }

    fn create(&self, dir: &OwnedFd, name: &str, content: &[u8]) -> Result<(), (String, io::Error)> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let write = || {
            let file = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
            self.access.admit_to_file(&file)?;
            let mut file = File::from(file);
            file.write_all(content)?;
            file.sync_all()
        };
        write().map_err(|cause| (name.to_owned(), cause))
    }

    fn switch(&self, version: Version) -> Result<(), Failure> {
        links::switch(&self.dir, version)
            .and_then(|()| Ok(rustix::fs::fsync(&self.dir)?))
            .map_err(|cause| Failure::io(&cause, links::DATA))
    }
}

/// All files of the version that is current, if it still is when they have been read.
fn read_once(path: &Path) -> io::Result<FileSet> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    let version = walk::read_link(&dir, OsStr::new(links::DATA))?;
    let data = walk::enter(&dir, &version)?;
    let mut set = FileSet::new();
    for name in walk::entries(&data)?.into_iter().take(MAX_FILES) {
        let name = name.into_string().map_err(|_| io::ErrorKind::InvalidData)?;
        let content = read_bounded(&data, OsStr::new(&name))?;
        set = set.with_secret(name, content);
    }
    // Versions only grow: what is current before and after was so in between, and nothing was removed from it.
    if walk::read_link(&dir, OsStr::new(links::DATA))? != version {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(set)
}

fn read_bounded(dir: &OwnedFd, name: &OsStr) -> io::Result<Zeroizing<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(dir, name, flags, Mode::empty())?);
    let mut content = Zeroizing::new(Vec::new());
    file.take(MAX_FILE_SIZE + 1).read_to_end(&mut content)?;
    if u64::try_from(content.len()).is_ok_and(|length| length > MAX_FILE_SIZE) {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{} is too large", name.display()),
        ));
    }
    Ok(content)
}
