//! The folder that holds the identity: 0700, its files 0600 from the first instant, each whole or not there.
//!
//! `identity.json` is the truth, and the only file that the agent reads; the others are copies for other programs, written
//! before it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};
use crate::identity::Identity;
use crate::inventory::pem;

const IDENTITY: &str = "identity.json";

/// No identity is larger.
const LARGEST: u64 = 1024 * 1024;

/// The folder, locked: one program at a time changes it.
#[derive(Debug)]
pub struct Storage {
    folder: PathBuf,
    _lock: File,
}

impl Storage {
    /// Opens the folder, making it if it is not there.
    ///
    /// # Errors
    /// It cannot be made, others can write to it, or another agent has it.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let shown = folder.display();
        let failed = |cause: io::Error| Failure::io(&cause, format!("the storage {shown}"));
        if !folder.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let metadata = fs::metadata(folder).map_err(failed)?;
        if !metadata.is_dir() {
            return Err(Failure::new(
                Exit::Config,
                format!("{shown} is not a folder"),
                "choose another with --storage",
            ));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(Failure::new(
                Exit::Permission,
                format!("others can write to {shown}"),
                format!("chmod 700 {shown}, or choose another folder with --storage"),
            ));
        }
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))
            .map_err(failed)?;
        lock.set_permissions(fs::Permissions::from_mode(0o600)).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => Failure::new(
                Exit::Busy,
                format!("another agent is using {shown}"),
                "wait for it to end, or choose another folder with --storage",
            ),
            fs::TryLockError::Error(cause) => failed(cause),
        })?;
        Ok(Self { folder: folder.to_owned(), _lock: lock })
    }

    /// The identity that is stored in a folder; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is not one.
    pub fn identity(folder: &Path) -> Result<Option<Identity>, Failure> {
        let path = folder.join(IDENTITY);
        let text = match read_bounded(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(Failure::io(&cause, path.display())),
        };
        Identity::from_json(&text).map(Some).map_err(|error| {
            Failure::new(
                Exit::Data,
                format!("{} is damaged: {error}", path.display()),
                "remove it and join anew",
            )
        })
    }

    /// Makes `identity` the stored one. When this returns it is on the disk.
    ///
    /// # Errors
    /// The operating system's; the stored identity is then the one from before.
    pub fn store(&self, identity: &Identity) -> Result<(), Failure> {
        let certificates: String =
            identity.certificates().map(|der| pem("CERTIFICATE", der)).collect();
        let authorities: String =
            identity.x509_authorities().map(|der| pem("CERTIFICATE", der)).collect();
        let ssh_authorities: String =
            identity.ssh_authorities.iter().map(|line| format!("{line}\n")).collect();
        let json = serde_json::to_string_pretty(identity).map_err(Failure::bug)?;
        for (name, content) in [
            ("tlscert", certificates),
            ("tlscacerts", authorities),
            ("key-cert.pub", format!("{}\n", identity.ssh_certificate)),
            ("sshcacerts", ssh_authorities),
            (IDENTITY, format!("{json}\n")),
        ] {
            self.write(name, content.as_bytes()).map_err(|cause| {
                Failure::io(&cause, format!("cannot write {}", self.folder.join(name).display()))
            })?;
        }
        Ok(())
    }

    /// A file appears under its name only once all of it is on the disk.
    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(&self.folder)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(self.folder.join(name)).map_err(|error| error.error)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    File::open(path)?.take(LARGEST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_private_from_the_first_instant_and_replaced_as_a_whole() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("a/b");
        let storage = Storage::open(&folder).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        storage.write("x", b"one").unwrap();
        let open = File::open(folder.join("x")).unwrap();
        storage.write("x", b"two").unwrap();
        assert_eq!(fs::metadata(folder.join("x")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(io::read_to_string(open).unwrap(), "one");
        assert_eq!(fs::read_to_string(folder.join("x")).unwrap(), "two");
        let names: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn one_agent_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let first = Storage::open(folder.path()).unwrap();
        assert_eq!(Storage::open(folder.path()).unwrap_err().exit, Exit::Busy);
        drop(first);
        Storage::open(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o770)).unwrap();
        assert_eq!(Storage::open(folder.path()).unwrap_err().exit, Exit::Permission);
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
    }
}
