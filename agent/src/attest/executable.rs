//! The executable of a process, as the process that reads executables sees it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use host::clock;
use rustix::fs::{
    AtFlags, CWD, FileType, FsWord, Mode, OFlags, Stat, fstat, fstatfs, openat, readlinkat, statat,
};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::{Executable, Path};

/// The longest file that is hashed; a longer one has no hash. It bounds what a caller can make us read.
const MAX_HASHED: u64 = 256 * 1024 * 1024;

/// The hashes that are kept.
const MAX_CACHED: usize = 256;

/// A file that was changed less than this many seconds ago may be changed again without a new time of change, since
/// file systems count in steps; then its hash is not kept.
const UNSETTLED: i64 = 3;

/// FUSE: a program that some user runs says what is in the file, and may say something else each time.
const FUSE_SUPER_MAGIC: FsWord = 0x6573_5546;

/// What to do with the content of an executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Hash it, if that is possible.
    Hash,
    /// Leave it.
    Ignore,
}

/// An executable, and which file it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The device of the file.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// What it is.
    pub executable: Executable,
}

impl Found {
    /// Whether the process still executes it.
    #[must_use]
    pub fn is_same_file(&self, later: &Self) -> bool {
        (self.device, self.inode, &self.executable.path)
            == (later.device, later.inode, &later.executable.path)
    }
}

/// Reads executables.
#[derive(Debug)]
pub(super) struct Executables {
    /// The mount namespaces in which a path is one of this host: ours, and that of the first process.
    of_host: Vec<(u64, u64)>,
    hashes: Mutex<VecDeque<(Version, [u8; 32])>>,
}

/// A file and its content: changing the content changes the time of change, which no user can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, u64),
    changed: (i64, u64),
}

impl Executables {
    pub(super) fn new() -> Self {
        let processes = ["/proc/self", "/proc/1"];
        let of = |process: &str| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = openat(CWD, process, flags, Mode::empty()).ok()?;
            mount_namespace(directory.as_fd()).ok()
        };
        Self { of_host: processes.into_iter().filter_map(of).collect(), hashes: Mutex::default() }
    }

    /// What the process of a directory executes.
    pub(super) fn read(&self, process: BorrowedFd<'_>, content: Content) -> Result<Found, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let file = openat(process, "exe", flags, Mode::empty())?;
        let version = Version::of(&fstat(&file)?)?;
        let path = readlinkat(process, "exe", Vec::new())?.into_bytes();
        let is_removed = fstat(&file)?.st_nlink == 0;
        let path = host_text(path, is_removed);
        let is_of_host = self.of_host.contains(&mount_namespace(process)?);
        let path = path.map(if is_of_host { Path::OfHost } else { Path::OfNamespace });
        let sha256 = match content {
            Content::Hash => self.hash(&file, version)?,
            Content::Ignore => None,
        };
        let executable = Executable { path, sha256 };
        Ok(Found { device: version.device, inode: version.inode, executable })
    }

    /// The hash, if there is one.
    fn hash(&self, file: &OwnedFd, version: Version) -> Result<Option<[u8; 32]>, Errno> {
        if version.size > MAX_HASHED || fstatfs(file)?.f_type == FUSE_SUPER_MAGIC {
            return Ok(None);
        }
        if let Some(hash) = self.cached(version) {
            return Ok(Some(hash));
        }
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = match openat(CWD, path, flags, Mode::empty()) {
            // It may be executed, but not read.
            Err(Errno::ACCESS | Errno::PERM) => return Ok(None),
            opened => File::from(opened?),
        };
        let hash = hash_of(&opened, version.size)?;
        if Version::of(&fstat(&opened)?)? != version {
            return Err(Errno::STALE);
        }
        self.keep(version, hash);
        Ok(Some(hash))
    }

    fn cached(&self, version: Version) -> Option<[u8; 32]> {
        let hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        hashes.iter().find(|(of, _)| *of == version).map(|(_, hash)| *hash)
    }

    fn keep(&self, version: Version, hash: [u8; 32]) {
        let settled = clock::now().unix_timestamp().saturating_sub(UNSETTLED);
        if version.changed.0 >= settled {
            return;
        }
        let mut hashes = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        hashes.retain(|(of, _)| (of.device, of.inode) != (version.device, version.inode));
        if hashes.len() >= MAX_CACHED {
            hashes.pop_front();
        }
        hashes.push_back((version, hash));
    }
}

impl Version {
    #[expect(clippy::useless_conversion, reason = "the types differ between platforms")]
    fn of(stat: &Stat) -> Result<Self, Errno> {
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(Errno::INVAL);
        }
        Ok(Self {
            device: stat.st_dev.into(),
            inode: stat.st_ino.into(),
            size: stat.st_size.try_into().map_err(|_| Errno::INVAL)?,
            modified: (stat.st_mtime.into(), stat.st_mtime_nsec.into()),
            changed: (stat.st_ctime.into(), stat.st_ctime_nsec.into()),
        })
    }
}

/// SHA-256 of a file that has to be as long as it says.
fn hash_of(mut file: &File, size: u64) -> Result<[u8; 32], Errno> {
    const CHUNK: usize = 64 * 1024;
    let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let (mut hash, mut chunk, mut rest) = (Sha256::new(), vec![0; CHUNK], size);
    loop {
        let length = file.read(&mut chunk).map_err(failed)?;
        let read = chunk.get(..length).ok_or(Errno::IO)?;
        if read.is_empty() {
            break;
        }
        rest = rest.checked_sub(read.len() as u64).ok_or(Errno::STALE)?;
        hash.update(read);
    }
    if rest == 0 { Ok(hash.finalize().into()) } else { Err(Errno::STALE) }
}

/// A path that people can have written. The kernel says ` (deleted)` behind one whose file was removed, which is then the
/// path that it had; but a file may also be called that.
fn host_text(path: Vec<u8>, is_removed: bool) -> Option<String> {
    let path = String::from_utf8(path).ok().filter(|path| path.starts_with('/'))?;
    match path.strip_suffix(" (deleted)") {
        Some(former) if is_removed => Some(former.to_owned()),
        _ => Some(path),
    }
}

fn mount_namespace(process: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    let namespace = statat(process, "ns/mnt", AtFlags::empty())?;
    #[expect(clippy::useless_conversion, reason = "the types differ between platforms")]
    Ok((namespace.st_dev.into(), namespace.st_ino.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_a_removed_file_is_the_one_that_it_had() {
        for (path, is_removed, text) in [
            ("/bin/a", false, Some("/bin/a")),
            ("/bin/a (deleted)", true, Some("/bin/a")),
            ("/bin/a (deleted) (deleted)", true, Some("/bin/a (deleted)")),
            // A file with that name; and one that another name still leads to.
            ("/bin/a (deleted)", false, Some("/bin/a (deleted)")),
            ("(unreachable)/bin/a", false, None),
            ("", false, None),
        ] {
            assert_eq!(host_text(path.into(), is_removed).as_deref(), text, "{path}");
        }
        assert_eq!(host_text(b"/bin/\xff".to_vec(), false), None);
    }

    #[test]
    fn hash_of_another_length_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [7; 100_000]).unwrap();
        let hash = |size| hash_of(&File::open(file.path()).unwrap(), size);
        assert_eq!(hash(100_000), Ok(Sha256::digest([7; 100_000]).into()));
        assert_eq!(hash(99_999), Err(Errno::STALE));
        assert_eq!(hash(100_001), Err(Errno::STALE));
    }

    #[test]
    fn hash_is_kept_for_one_version_that_has_settled() {
        let executables = Executables { of_host: Vec::new(), hashes: Mutex::default() };
        let now = clock::now().unix_timestamp();
        let version = |inode: usize, changed| Version {
            device: 1,
            inode: inode as u64,
            size: 3,
            modified: (0, 0),
            changed: (changed, 0),
        };
        executables.keep(version(1, now - 1), [1; 32]);
        assert_eq!(executables.cached(version(1, now - 1)), None, "it may still change");
        executables.keep(version(1, now - 10), [1; 32]);
        assert_eq!(executables.cached(version(1, now - 10)), Some([1; 32]));
        assert_eq!(executables.cached(version(1, now - 9)), None);
        assert_eq!(executables.cached(Version { size: 4, ..version(1, now - 10) }), None);
        executables.keep(version(1, now - 9), [2; 32]);
        assert_eq!(executables.hashes.lock().unwrap().len(), 1, "a file has one version");
        for inode in 2..=MAX_CACHED + 1 {
            executables.keep(version(inode, now - 10), [3; 32]);
        }
        assert_eq!(executables.hashes.lock().unwrap().len(), MAX_CACHED);
        assert_eq!(executables.cached(version(1, now - 9)), None, "the oldest goes first");
    }

    #[test]
    fn own_executable_is_read() {
        let process = openat(CWD, "/proc/self", OFlags::PATH, Mode::empty()).unwrap();
        let executables = Executables::new();
        let found = executables.read(process.as_fd(), Content::Hash).unwrap();
        let path = std::env::current_exe().unwrap();
        assert_eq!(found.executable.host_path(), path.to_str());
        let hash: [u8; 32] = Sha256::digest(std::fs::read(path).unwrap()).into();
        assert_eq!(found.executable.sha256, Some(hash));
        let again = executables.read(process.as_fd(), Content::Ignore).unwrap();
        assert!(found.is_same_file(&again) && again.executable.sha256.is_none());
    }
}
