//! The data directory: private from its creation, used by one authority at a time.
//!
//! ```text
//! DATA/lock          held by the authority that runs
//! DATA/cluster/      name, public keys, database: made as a whole, at the first start
//! DATA/audit.jsonl   every join, granted or refused
//! DATA/admin.sock    the operators' socket
//! DATA/store-id      the ID of this authority, by which its log is known
//! DATA/wrapping.key  what opens the keys of the CAs in the store
//! DATA/log.key       the key that signs the heads of the log
//! DATA/log.pub       its public part, for those who verify
//! DATA/log.head      the latest signed head
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use host::exit::{Exit, Failure};
use rustix::fs::OFlags;
use rustix::io::Errno;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The owner only.
const PRIVATE_DIRECTORY: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
const OTHERS: u32 = 0o077;

/// The user ID of root.
const ROOT: u32 = 0;

const NO_FILE: &str = "it is not a regular file";

/// The default data directory.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/endorse";

/// The database of the embedded store, in the cluster's directory.
pub const DATABASE: &str = "store.redb";

/// More than any file of ours that is read as a whole.
const MAX_FILE: u64 = 64 * 1024;

/// The data directory of an authority.
#[derive(Debug, Clone)]
pub struct DataDirectory(PathBuf);

/// Exclusive use of a data directory; ends with the value, or with the process.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl DataDirectory {
    /// A directory that may not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Creates the directory if needed, checks that it is private, and takes the lock.
    pub fn lock(&self) -> Result<Lock, Failure> {
        let shown = self.0.display();
        if !self.0.is_dir() {
            let made = DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(&self.0);
            made.map_err(|cause| io_failure(&cause, format!("cannot create {shown}")))?;
        }
        self.check()?;
        let path = self.0.join("lock");
        let file = open_own(&path, private().create(true).truncate(false));
        let file =
            file.map_err(|cause| io_failure(&cause, format!("cannot open {}", path.display())))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                Exit::Unavailable,
                format!("{shown} is in use by another authority"),
                "stop it first, or give another directory with --data-dir",
            )),
            Err(TryLockError::Error(cause)) => {
                Err(io_failure(&cause, format!("cannot lock {}", path.display())))
            }
        }
    }

    fn check(&self) -> Result<(), Failure> {
        let shown = self.0.display();
        let metadata = fs::metadata(&self.0)
            .map_err(|cause| io_failure(&cause, format!("cannot access {shown}")))?;
        check_owner(&self.0)?;
        if metadata.mode() & OTHERS == 0 {
            return Ok(());
        }
        let empty = fs::read_dir(&self.0).is_ok_and(|mut entries| entries.next().is_none());
        if empty {
            let mode = fs::Permissions::from_mode(PRIVATE_DIRECTORY);
            return fs::set_permissions(&self.0, mode)
                .map_err(|cause| io_failure(&cause, format!("cannot restrict access to {shown}")));
        }
        Err(Failure::new(
            Exit::Permission,
            format!("other users have access to {shown} (mode {:o})", metadata.mode() & 0o7777),
            format!("check that no one has changed its contents, then: chmod 700 {shown}"),
        ))
    }

    /// The cluster's directory.
    pub fn cluster(&self) -> PathBuf {
        self.0.join("cluster")
    }

    /// The database of the embedded store.
    pub fn database(&self) -> PathBuf {
        self.cluster().join(DATABASE)
    }

    /// The audit log.
    pub fn audit(&self) -> PathBuf {
        self.0.join("audit.jsonl")
    }

    /// The operator's socket.
    pub fn socket(&self) -> PathBuf {
        self.0.join("admin.sock")
    }

    /// The ID of this authority, by which its log and its writes are known, made at the first use.
    ///
    /// # Errors
    /// It cannot be read or made, or is damaged.
    pub fn store_id(&self, _lock: &Lock) -> Result<String, Failure> {
        let path = self.0.join("store-id");
        let shown = path.display();
        match open_own(&path, OpenOptions::new().read(true)) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let id = Uuid::new_v4().to_string();
                replace_private(&path, format!("{id}\n").as_bytes())
                    .map_err(|cause| io_failure(&cause, format!("cannot create {shown}")))?;
                Ok(id)
            }
            file => {
                let failed = |cause| io_failure(&cause, format!("cannot read {shown}"));
                let mut text = String::new();
                let file = file.map_err(failed)?;
                file.take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
                let id: Result<Uuid, _> = text.trim_end().parse();
                id.map(|id| id.to_string()).map_err(|_| {
                    let advice = "remove it: the next start makes another";
                    Failure::new(Exit::Data, format!("{shown} is damaged"), advice)
                })
            }
        }
    }

    /// The key that the heads of the log are signed with.
    pub fn log_key(&self) -> PathBuf {
        self.0.join("log.key")
    }

    /// What the heads of the log are verified with.
    pub fn log_public_key(&self) -> PathBuf {
        self.0.join("log.pub")
    }

    /// The latest signed head of the log.
    pub fn log_head(&self) -> PathBuf {
        self.0.join("log.head")
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// A directory that appears under its name only when it is complete.
pub struct Nascent {
    /// Where it is made.
    pub path: PathBuf,
    name: PathBuf,
}

impl Nascent {
    /// Begins to create the directory `name`, and removes what a killed start has left.
    pub fn begin(name: PathBuf) -> io::Result<Self> {
        let path = name.with_extension("new");
        match fs::remove_dir_all(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        DirBuilder::new().mode(PRIVATE_DIRECTORY).create(&path)?;
        Ok(Self { path, name })
    }

    /// Puts a file into it that only its owner can read.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut file = private().create_new(true).open(self.path.join(name))?;
        file.write_all(content)?;
        file.sync_all()
    }

    /// Gives the directory its name. It is on disk then.
    pub fn finish(self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()?;
        fs::rename(&self.path, &self.name)?;
        match self.name.parent() {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// Replaces the content of a file that only its owner can read. After a crash the file has the old or the new content.
pub fn replace_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = private().create(true).truncate(true).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Reads a file that only its owner may read; refuses one that others can read, or that is too long.
pub fn read_private(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let shown = path.display();
    let failed = |cause: io::Error| io_failure(&cause, format!("cannot read {shown}"));
    let file = open_own(path, OpenOptions::new().read(true)).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.mode() & OTHERS != 0 {
        return Err(Failure::new(
            Exit::Permission,
            format!("other users have access to {shown} (mode {:o})", metadata.mode() & 0o7777),
            "create a new cluster: other users may have read the key",
        ));
    }
    let mut text = Zeroizing::new(String::with_capacity(metadata.len().min(MAX_FILE) as usize + 1));
    let length = file.take(MAX_FILE).read_to_string(&mut text).map_err(failed)?;
    if length as u64 == MAX_FILE {
        return Err(Failure::new(Exit::Data, format!("{shown} is too long"), "restore it"));
    }
    Ok(text)
}

/// Whether a user may write files that this program trusts, and use the admin socket: its own user, and root.
pub fn is_trusted(uid: u32) -> bool {
    uid == ROOT || uid == rustix::process::geteuid().as_raw()
}

/// Refuses a file or directory that belongs to an untrusted user, who could change its content at any time.
pub fn check_owner(path: &Path) -> Result<(), Failure> {
    let failed = |cause| Failure::io(&cause, format!("cannot use {}", path.display()));
    let metadata = fs::metadata(path).map_err(failed)?;
    trusted_owner(&metadata).map_err(failed)
}

/// Refuses a file that is not read here but handed on, where [`open_own`] would refuse it. One that is
/// missing is no fault.
pub fn check_own(path: &Path) -> Result<(), Failure> {
    match open_own(path, OpenOptions::new().read(true)) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(cause) => Err(Failure::io(&cause, format!("cannot use {}", path.display()))),
        Ok(_) => Ok(()),
    }
}

/// Opens a file of the data directory. It waits for no pipe.
///
/// # Errors
/// The operating system's; it is a symbolic link or no file at all (a pipe takes what it is given and
/// keeps nothing), or belongs to a user who is not trusted.
pub fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.custom_flags(flags.bits().cast_signed()).open(path);
    let file = file.map_err(|cause| match cause.raw_os_error() {
        Some(code) if code == Errno::LOOP.raw_os_error() => untrusted("it is a symbolic link"),
        // A socket.
        Some(code) if code == Errno::NXIO.raw_os_error() => untrusted(NO_FILE),
        _ => cause,
    })?;
    let metadata = file.metadata()?;
    trusted_owner(&metadata)?;
    if !metadata.is_file() {
        return Err(untrusted(NO_FILE));
    }
    Ok(file)
}

fn trusted_owner(metadata: &fs::Metadata) -> io::Result<()> {
    match metadata.uid() {
        uid if is_trusted(uid) => Ok(()),
        uid => Err(untrusted(format!("it belongs to another user (uid {uid})"))),
    }
}

fn untrusted(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why.into())
}

/// Options to open a file that only its owner can read and write.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(PRIVATE_FILE);
    options
}

fn io_failure(cause: &io::Error, what: String) -> Failure {
    Failure::io(cause, what)
}
