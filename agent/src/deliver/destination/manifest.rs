//! A manifest of what was written to a directory, by which changes are detected: content, owner, mode, access control list, links.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use base16ct::lower::encode_string as hex;
use rustix::fs::{FileType, Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{FileSet, MAX_FILE_SIZE, MAX_FILES, access, links, walk};

/// A set as it was right after it had been written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Where `..data` leads.
    data: String,
    dir: Attributes,
    files: BTreeMap<String, FileEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileEntry {
    /// SHA-256 of the content, hexadecimal.
    sha256: String,
    #[serde(flatten)]
    attributes: Attributes,
}

/// Who may do what with a file or a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Attributes {
    uid: u32,
    gid: u32,
    /// The permission bits.
    mode: u32,
    /// SHA-256 of the access control list, hexadecimal; `None` without a list.
    acl: Option<String>,
}

/// How a directory differs from what was written to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What differs first.
    pub what: String,
    /// Whether another user may have read what is in it.
    pub is_exposed: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.is_exposed { f.write_str(" (other users may have read the key)") } else { Ok(()) }
    }
}

impl Change {
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Self { what: what.to_string(), is_exposed: false }
    }
}

impl Manifest {
    /// The manifest of `set`, which has just been written to the directory `data` below `parent`.
    pub(super) fn of(parent: &OwnedFd, data: &OsStr, set: &FileSet) -> io::Result<Self> {
        let dir = walk::enter(parent, data)?;
        let entry = |(name, content): (&str, &[u8])| {
            let attributes = Attributes::of(open(&dir, name)?)?;
            Ok((name.to_owned(), FileEntry { sha256: hex(&Sha256::digest(content)), attributes }))
        };
        let files = set.iter().map(entry).collect::<io::Result<_>>()?;
        let data = data.to_str().ok_or(io::ErrorKind::InvalidData)?.to_owned();
        Ok(Self { data, dir: Attributes::of(&dir)?, files })
    }

    /// Whether this name was one of ours.
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// The version that was current.
    pub(super) fn version(&self) -> Option<links::Version> {
        links::Version::parse(OsStr::new(&self.data))
    }

    /// Compares a directory with what was written to it.
    pub(super) fn compare(&self, parent: &OwnedFd) -> Result<(), Change> {
        links_to(parent, links::DATA, OsStr::new(&self.data))?;
        let unreadable = |cause: io::Error| Change::new(format!("{}: {cause}", self.data));
        let dir = walk::enter(parent, OsStr::new(&self.data)).map_err(unreadable)?;
        Attributes::of(&dir).map_err(unreadable)?.compare(&self.dir, &self.data)?;
        for (name, written) in self.files.iter().take(MAX_FILES) {
            links_to(parent, name, &links::into_data(name))?;
            written.compare(&dir, name)?;
        }
        Ok(())
    }
}

fn links_to(dir: &OwnedFd, name: &str, wanted: &OsStr) -> Result<(), Change> {
    match walk::read_link(dir, OsStr::new(name)) {
        Ok(target) if target == wanted => Ok(()),
        Ok(_) => Err(Change::new(format!("{name} links elsewhere"))),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            Err(Change::new(format!("{name} was removed")))
        }
        Err(_) => Err(Change::new(format!("{name} is no longer a link"))),
    }
}

impl FileEntry {
    fn compare(&self, dir: &OwnedFd, name: &str) -> Result<(), Change> {
        let failed = |cause: io::Error| match cause.kind() {
            io::ErrorKind::NotFound => Change::new(format!("{name} was removed")),
            _ => Change::new(format!("{name}: {cause}")),
        };
        let file = open(dir, name).map_err(failed)?;
        Attributes::of(&file).map_err(failed)?.compare(&self.attributes, name)?;
        let mut content = zeroize::Zeroizing::new(Vec::new());
        File::from(file).take(MAX_FILE_SIZE + 1).read_to_end(&mut content).map_err(failed)?;
        if content.is_empty() && self.sha256 != hex(&Sha256::digest([])) {
            return Err(Change::new(format!("{name} is empty")));
        }
        if hex(&Sha256::digest(content.as_slice())) != self.sha256 {
            return Err(Change::new(format!("the content of {name} was changed")));
        }
        Ok(())
    }
}

impl Attributes {
    fn of(file: impl AsFd) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&file)?;
        Ok(Self {
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            acl: access::list(&file)?.map(|bytes| hex(&Sha256::digest(bytes))),
        })
    }

    fn compare(&self, written: &Self, name: &str) -> Result<(), Change> {
        let differs = |what: String, is_exposed| Err(Change { what, is_exposed });
        if self.uid != written.uid {
            return differs(
                format!("{name} belongs to user {}, not {}", self.uid, written.uid),
                true,
            );
        }
        if self.mode != written.mode {
            let opened = self.mode & !written.mode & 0o077 != 0;
            let what = format!("the mode of {name} is {:04o}, not {:04o}", self.mode, written.mode);
            return differs(what, opened);
        }
        if self.gid != written.gid {
            let opened = self.mode & 0o070 != 0;
            return differs(
                format!("{name} belongs to group {}, not {}", self.gid, written.gid),
                opened,
            );
        }
        if self.acl != written.acl {
            let what = format!("the access control list of {name} was changed");
            return differs(what, self.acl.is_some());
        }
        Ok(())
    }
}

/// Opens a regular file; refuses everything else.
fn open(dir: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(io::Error::other("it is not a regular file")),
    }
}
