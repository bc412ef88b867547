//! The folder that holds the bot's identity: a [set of files](crate::destination) that change as one, and no private key.
//!
//! `identity.json` is the truth, and the only one of them that the agent reads; the others are copies for other programs.
//! Beside them is a mark for each service whose users have not been told of its new files yet.

use std::fmt::Display;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::bounded;
use crate::config::{self, ServiceName};
use crate::destination::{Directory, FileSet, Notices, Writer};
use crate::exit::{Exit, Failure};
use crate::identity::Identity;
use crate::inventory::pem;

const IDENTITY: &str = "identity.json";

/// An empty file of this name and a service's: who uses the service's files has to be told of them still.
const DEBT: &str = "reload-due-";

/// No identity is larger.
const LARGEST: u64 = 1024 * 1024;

/// The folder, locked: one agent at a time has it.
#[derive(Debug)]
pub struct Storage {
    writer: Writer,
}

impl Storage {
    /// Opens the folder, making it if it is not there.
    ///
    /// # Errors
    /// It cannot be made, others can write to it, or another agent has it.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        Self::open_directory(&config::Directory {
            path: folder.to_owned(),
            symlinks: config::Symlinks::default(),
            acls: config::Acls::default(),
        })
    }

    /// Opens the folder of a configuration, making it if it is not there.
    ///
    /// # Errors
    /// As [`Storage::open`].
    pub fn open_directory(directory: &config::Directory) -> Result<Self, Failure> {
        let writer = Directory::new(directory.clone(), Vec::new()).lock()?;
        Ok(Self { writer })
    }

    /// The identity that is stored in a folder; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is not one.
    pub fn identity(folder: &Path) -> Result<Option<Identity>, Failure> {
        let path = folder.join(IDENTITY);
        let octets = match read_bounded(&path) {
            Ok(octets) => octets,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) if cause.kind() == io::ErrorKind::FileTooLarge => {
                return Err(damaged(&path, &cause));
            }
            Err(cause) => return Err(Failure::io(&cause, path.display())),
        };
        let text = std::str::from_utf8(&octets).map_err(|error| error.to_string());
        text.and_then(Identity::from_json).map(Some).map_err(|error| damaged(&path, &error))
    }

    /// Whether an identity is there still; also if it cannot be told.
    #[must_use]
    pub fn has_identity(&self) -> bool {
        self.writer.has_set()
    }

    /// Notes that those who use a service's files have to be told of new ones. When this returns it is on the disk.
    ///
    /// # Errors
    /// The operating system's.
    pub fn owe(&self, service: &ServiceName) -> Result<(), Failure> {
        let path = self.debt(service);
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let made = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(&path);
        made.and_then(|file| file.sync_all())
            .and_then(|()| File::open(self.writer.path())?.sync_all())
            .map_err(|cause| Failure::io(&cause, path.display()))
    }

    /// Notes that they have been told.
    ///
    /// # Errors
    /// The operating system's.
    pub fn settle(&self, service: &ServiceName) -> Result<(), Failure> {
        let path = self.debt(service);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(Failure::io(&cause, path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Whether they have to be told still.
    #[must_use]
    pub fn owes(&self, service: &ServiceName) -> bool {
        fs::symlink_metadata(self.debt(service)).is_ok()
    }

    fn debt(&self, service: &ServiceName) -> PathBuf {
        self.writer.path().join(format!("{DEBT}{service}"))
    }

    /// Makes `identity` the stored one. When this returns it is on the disk.
    ///
    /// # Errors
    /// The operating system's; the stored identity is then the one from before.
    pub fn store(&self, identity: &Identity) -> Result<Notices, Failure> {
        let certificates: String =
            identity.certificates().map(|der| pem("CERTIFICATE", der)).collect();
        let authorities: String =
            identity.x509_authorities().map(|der| pem("CERTIFICATE", der)).collect();
        let ssh_authorities: String =
            identity.ssh_authorities.iter().map(|line| format!("{line}\n")).collect();
        let json = serde_json::to_string_pretty(identity).map_err(Failure::bug)?;
        let set = FileSet::new()
            .with("tlscert", certificates)
            .with("tlscacerts", authorities)
            .with("key-cert.pub", format!("{}\n", identity.ssh_certificate))
            .with("sshcacerts", ssh_authorities)
            .with(IDENTITY, format!("{json}\n"));
        self.writer.write(&set)
    }
}

fn damaged(path: &Path, why: &dyn Display) -> Failure {
    let message = format!("{} is damaged: {why}", path.display());
    Failure::new(Exit::Data, message, "remove it and join anew")
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe must not hold us up.
    let mut options = File::options();
    options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    bounded::read(options.open(path)?, LARGEST)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_agent_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        let first = Storage::open(folder.path()).unwrap();
        assert_eq!(Storage::open(folder.path()).unwrap_err().exit, Exit::Busy);
        drop(first);
        Storage::open(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o770)).unwrap();
        assert_eq!(Storage::open(folder.path()).unwrap_err().exit, Exit::Permission);
    }

    #[test]
    fn what_is_owed_outlives_the_agent() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        let [web, mail]: [ServiceName; 2] = ["web", "mail"].map(|name| name.parse().unwrap());
        let storage = Storage::open(folder.path()).unwrap();
        storage.settle(&web).unwrap();
        storage.owe(&web).unwrap();
        storage.owe(&web).unwrap();
        drop(storage);
        let storage = Storage::open(folder.path()).unwrap();
        assert!(storage.owes(&web) && !storage.owes(&mail));
        storage.settle(&web).unwrap();
        assert!(!storage.owes(&web));
        fs::remove_dir_all(folder.path()).unwrap();
        assert_eq!(storage.owe(&web).unwrap_err().exit, Exit::Io);
        storage.settle(&web).unwrap();
    }

    #[test]
    fn what_is_no_identity_is_said_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Storage::identity(folder.path()).unwrap().is_none());
        for text in ["", "{}", "{\"version\":1,\"extra\":0}", "[1"] {
            fs::write(folder.path().join(IDENTITY), text).unwrap();
            let failure = Storage::identity(folder.path()).unwrap_err();
            assert_eq!(failure.exit, Exit::Data);
            assert!(failure.message.contains("line 1"), "{failure}");
        }
        // What a disk has made of it is no better, and no worse.
        fs::write(folder.path().join(IDENTITY), b"{\"version\":\xff}").unwrap();
        let failure = Storage::identity(folder.path()).unwrap_err();
        assert_eq!(failure.exit, Exit::Data);
        assert!(failure.message.contains("is damaged: invalid utf-8"), "{failure}");
        fs::write(folder.path().join(IDENTITY), " ".repeat(LARGEST as usize + 1)).unwrap();
        let failure = Storage::identity(folder.path()).unwrap_err();
        assert!(failure.message.contains("is damaged: longer than"), "{failure}");
        let pipe = folder.path().join(IDENTITY);
        fs::remove_file(&pipe).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(Storage::identity(folder.path()).unwrap_err().exit, Exit::Data);
    }
}
