//! Writes files as sets: readers never see a certificate with another key, or an incomplete file.
//!
//! # In a directory
//! ```text
//! svid.pem -> ..data/svid.pem      the path that programs are given; it never changes
//! svid.key -> ..data/svid.key
//! ..data   -> ..v42                replaced by one rename, which switches all files
//! ..v42/     svid.pem  svid.key    complete and on the disk before ..data points to it
//! ..v41/     svid.pem  svid.key    the previous set, for programs that are reading it
//! lock                             held by the writing agent
//! ```
//! Directories have mode 0700 and files 0600 from their creation, whatever the umask. Configured readers get access by an access
//! control list or the group. After a crash either the old set or the new one is complete, and the next writer removes the
//! remains.
//!
//! # Reading
//! *One* file can be read by its plain path at any time. A program that reads *several* and must not mix two sets
//! - reads them when notified ([`crate::deliver::reload`]): it is notified after the change, and the next change is a
//!   renewal later. So do
//!   nginx, PostgreSQL and most others; or
//! - opens the directory `..data` once and the files in it (`openat`); if one is gone, two sets have been written since
//!   then: begin again. [`Destination::read`] does so. Without `openat`, `readlink` of `..data` before and after does too.

mod access;
mod directory;
mod links;
mod manifest;
mod walk;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use host::exit::Failure;
use zeroize::Zeroizing;

use crate::config;

pub(crate) use self::access::{check_account, group_id};
pub use directory::{Directory, Writer};
pub use manifest::{Change, Manifest};

/// No file of a set is larger, and no set has more.
const MAX_FILE_SIZE: u64 = 1024 * 1024;
const MAX_FILES: usize = 64;

/// A set of files. The contents are wiped from memory when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FileSet(BTreeMap<String, Zeroizing<Vec<u8>>>);

impl FileSet {
    /// No files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file. Only a plain name can be written: not empty, no slash, not beginning with a dot, not `lock`.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        self.0.insert(name.into(), Zeroizing::new(content.into()));
        self
    }

    /// Adds a file whose content is a secret: it is not copied.
    #[must_use]
    pub fn with_secret(mut self, name: impl Into<String>, content: Zeroizing<Vec<u8>>) -> Self {
        self.0.insert(name.into(), content);
        self
    }

    /// What is in a file.
    #[must_use]
    pub fn content(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(|content| content.as_slice())
    }

    /// The files, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, content)| (name.as_str(), content.as_slice()))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn check(&self) -> Result<(), Failure> {
        let plain = |name: &&str| {
            (1..=255).contains(&name.len())
                && !name.starts_with('.')
                && !name.contains(['/', '\0'])
                && *name != directory::LOCK
        };
        if let Some(name) = self.names().find(|name| !plain(name)) {
            return Err(Failure::bug(format!("{name:?} is not a valid file name")));
        }
        let too_large = |content: &[u8]| {
            u64::try_from(content.len()).is_ok_and(|length| length > MAX_FILE_SIZE)
        };
        if self.0.len() > MAX_FILES || self.iter().any(|(_, content)| too_large(content)) {
            return Err(Failure::bug("at most 64 files of 1 MiB can be written"));
        }
        Ok(())
    }
}

/// Names and lengths only: some contents are secret.
impl fmt::Debug for FileSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, content)| (name, content.len()))).finish()
    }
}

/// Warnings about a set that was written.
pub type Notices = Vec<String>;

/// Where a service's files go.
#[derive(Debug)]
pub struct Destination {
    settings: config::Destination,
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// A directory, and the right to write to it once it has been taken.
    Directory(Directory, Mutex<Option<Arc<Writer>>>),
    /// The agent's memory.
    Memory(Memory),
}

impl Destination {
    /// The destination of a configuration. Nothing is done to it yet.
    #[must_use]
    pub fn new(settings: &config::Destination) -> Self {
        let target = match settings {
            config::Destination::Directory { directory, readers } => {
                let directory = Directory::new(directory.clone(), readers.clone());
                Target::Directory(directory, Mutex::default())
            }
            config::Destination::Memory => Target::Memory(Memory::default()),
        };
        Self { settings: settings.clone(), target }
    }

    /// The settings that it was made of.
    #[must_use]
    pub const fn settings(&self) -> &config::Destination {
        &self.settings
    }

    /// Locks out other agents until this value is dropped. A directory that does not exist is created, and locked, by the
    /// first write.
    ///
    /// # Errors
    /// Others can write to it, or another agent uses it ([`Exit::Busy`](host::exit::Exit::Busy)).
    pub fn lock(&self) -> Result<(), Failure> {
        match &self.target {
            Target::Directory(directory, writer) if directory.path().exists() => {
                Self::writer(directory, writer).map(drop)
            }
            Target::Directory(..) | Target::Memory(_) => Ok(()),
        }
    }

    fn writer(
        directory: &Directory,
        writer: &Mutex<Option<Arc<Writer>>>,
    ) -> Result<Arc<Writer>, Failure> {
        let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
        match &*writer {
            Some(writer) => Ok(Arc::clone(writer)),
            None => Ok(Arc::clone(writer.insert(Arc::new(directory.lock()?)))),
        }
    }

    /// Replaces the set of the destination, as [`Writer::write_announced`] does.
    ///
    /// # Errors
    /// As [`Writer::write_announced`].
    pub fn write(
        &self,
        set: &FileSet,
        announce: &mut dyn FnMut(&Manifest),
    ) -> Result<Notices, Failure> {
        match &self.target {
            Target::Directory(directory, writer) => {
                Self::writer(directory, writer)?.write_announced(set, announce)
            }
            Target::Memory(memory) => {
                set.check()?;
                memory.write(set.clone());
                Ok(Notices::new())
            }
        }
    }

    /// What was written last, if that is known.
    #[must_use]
    pub fn manifest(&self) -> Option<Manifest> {
        match &self.target {
            Target::Directory(_, writer) => {
                writer.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.manifest()
            }
            Target::Memory(_) => None,
        }
    }

    /// Sets what an earlier agent wrote last, the newest first, and locks out other agents.
    ///
    /// # Errors
    /// As [`Destination::lock`].
    pub fn expect(&self, candidates: impl IntoIterator<Item = Manifest>) -> Result<(), Failure> {
        if let Target::Directory(directory, writer) = &self.target {
            Self::writer(directory, writer)?.expect(candidates);
        }
        Ok(())
    }

    /// Compares what is there with what was written last.
    ///
    /// # Errors
    /// How it differs; also if it is not known what was written.
    pub fn check(&self) -> Result<(), Change> {
        match &self.target {
            Target::Directory(directory, writer) => Self::writer(directory, writer)
                .map_err(|failure| Change::new(failure.message))?
                .check(),
            Target::Memory(memory) => {
                memory.read().map(drop).ok_or_else(|| Change::new("nothing was written"))
            }
        }
    }

    /// Whether a set exists; `true` if that cannot be determined.
    #[must_use]
    pub fn has_set(&self) -> bool {
        match &self.target {
            Target::Directory(directory, _) => directory.has_set(),
            Target::Memory(memory) => memory.read().is_some(),
        }
    }

    /// The set that is there: always all of one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self) -> Result<Option<FileSet>, Failure> {
        match &self.target {
            Target::Directory(directory, _) => directory.read(),
            Target::Memory(memory) => Ok(memory.read()),
        }
    }
}

/// A set in memory.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Option<FileSet>>);

impl Memory {
    fn write(&self, set: FileSet) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(set);
    }

    fn read(&self) -> Option<FileSet> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests;
