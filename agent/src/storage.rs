//! The directory that holds the bot's identity: a [set of files](crate::deliver::destination) that change as one, and no private key.
//!
//! `identity.json` is the truth, and the only one of them that the agent reads; the others are copies for other programs.
//! Beside them is a mark for each service whose reload hook is pending, and in `manifests.json` what
//! was written last, here and to each destination.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use host::bounded;
use host::exit::{Exit, Failure};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::ceremony::JoinAttempt;
use crate::config::{self, ServiceName};
use crate::credential::identity::Identity;
use crate::deliver::destination::{Change, Directory, FileSet, Manifest, Notices, Writer};
use crate::file_access;
use crate::tpm::inventory::pem;

const IDENTITY: &str = "identity.json";

/// An empty file with this prefix and a service's name: the service's reload hook is pending.
const RELOAD_MARK: &str = "reload-due-";

/// The start of the name of a file with a service's key in the TPM.
const TPM_KEY: &str = "tpm-key-";

/// The join that was begun last.
const JOIN: &str = "join.json";

/// What was written to each destination, and to this directory.
const MANIFESTS: &str = "manifests.json";
const MANIFESTS_VERSION: u32 = 1;

/// No identity is larger, and no manifests are.
const MAX_IDENTITY_FILE: u64 = 1024 * 1024;

/// What was written last, read leniently: what cannot be understood is unknown, and then it is written again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Manifests {
    version: u32,
    identity: Option<Written>,
    services: BTreeMap<String, IssuedRecord>,
}

/// What was written last, or was about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    now: Manifest,
    /// The previous name, which remains if the agent is killed at the switch.
    before: Option<Manifest>,
}

impl Written {
    /// The newest first.
    pub fn candidates(self) -> impl Iterator<Item = Manifest> {
        std::iter::once(self.now).chain(self.before)
    }
}

/// What a service was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedRecord {
    /// What was asked for, and how it was to be delivered.
    pub asked: String,
    /// The bot instance that it was issued to; empty in records of older agents.
    #[serde(default)]
    pub instance: String,
    /// The files.
    pub written: Written,
}

/// The directory, locked: one agent at a time has it.
#[derive(Debug)]
pub struct Storage {
    writer: Writer,
    manifests: Mutex<Manifests>,
    /// Held while the manifests are written, by one thread after the other.
    writing: Mutex<()>,
}

impl Storage {
    /// Opens the directory, making it if it is not there.
    ///
    /// # Errors
    /// It cannot be made, others can write to it, or another agent has it.
    pub fn open(directory: &Path) -> Result<Self, Failure> {
        Self::open_directory(&config::Directory {
            path: directory.to_owned(),
            symlinks: config::Symlinks::default(),
            acls: config::Acls::default(),
        })
    }

    /// Opens the directory of a configuration, making it if it is not there.
    ///
    /// # Errors
    /// As [`Storage::open`].
    pub fn open_directory(directory: &config::Directory) -> Result<Self, Failure> {
        let writer = Directory::new(directory.clone(), Vec::new()).lock_to_read()?;
        let manifests = read_bounded(&directory.path.join(MANIFESTS)).ok();
        let manifests: Manifests =
            manifests.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        if let Some(written) = &manifests.identity {
            writer.expect(written.clone().candidates());
        }
        Ok(Self { writer, manifests: Mutex::new(manifests), writing: Mutex::new(()) })
    }

    /// The identity stored in a directory; `None` without one.
    ///
    /// # Errors
    /// It cannot be read, or is not one.
    pub fn identity(directory: &Path) -> Result<Option<Identity>, Failure> {
        let path = directory.join(IDENTITY);
        let bytes = match read_bounded(&path) {
            Ok(bytes) => bytes,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => {
                let is_loop = cause.raw_os_error() == Some(Errno::LOOP.raw_os_error());
                return Err(match cause.kind() {
                    io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput => {
                        damaged(&path, &cause)
                    }
                    _ if is_loop => damaged(&path, &cause),
                    _ => Failure::io(&cause, path.display()),
                });
            }
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string());
        text.and_then(Identity::from_json).map(Some).map_err(|error| damaged(&path, &error))
    }

    /// As [`Storage::identity`], for a command: it ends in time even if the file system hangs.
    ///
    /// # Errors
    /// As [`Storage::identity`]; [`Exit::Busy`].
    pub fn read_identity(directory: &Path) -> Result<Option<Identity>, Failure> {
        let (name, directory) = (directory.display().to_string(), directory.to_owned());
        file_access::limited(name, move || Self::identity(&directory))
    }

    /// Compares the files of the identity with what was written last.
    ///
    /// # Errors
    /// How they differ; also if it is not known what was written.
    pub fn check(&self) -> Result<(), Change> {
        self.writer.check()
    }

    /// What a service was issued last, if that is on record.
    #[must_use]
    pub fn issued(&self, service: &ServiceName) -> Option<IssuedRecord> {
        self.manifests().services.get(service.as_str()).cloned()
    }

    /// Records what a service is about to have, and what it has now. When this returns it is on the disk.
    ///
    /// # Errors
    /// The operating system's; the next agent then issues it again.
    pub fn record(
        &self,
        service: &ServiceName,
        asked: String,
        instance: String,
        manifest: &Manifest,
        before: Option<&Manifest>,
    ) -> Result<(), Failure> {
        self.write_manifests(|manifests| {
            let last = manifests.services.remove(service.as_str());
            let is_same = |last: IssuedRecord| last.asked == asked && last.instance == instance;
            let before = before.filter(|_| last.is_some_and(is_same)).cloned();
            let written = Written { now: manifest.clone(), before };
            manifests
                .services
                .insert(service.to_string(), IssuedRecord { asked, instance, written });
        })
    }

    /// Forgets services that are not among these.
    pub fn keep_only<'s>(&self, services: impl Iterator<Item = &'s ServiceName>) {
        let names: Vec<&str> = services.map(ServiceName::as_str).collect();
        self.manifests().services.retain(|name, _| names.contains(&name.as_str()));
    }

    fn manifests(&self) -> MutexGuard<'_, Manifests> {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the record, and writes it. It can be read meanwhile: the file system may hang.
    fn write_manifests(&self, change: impl FnOnce(&mut Manifests)) -> Result<(), Failure> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let json = {
            let mut manifests = self.manifests();
            change(&mut manifests);
            serde_json::to_string_pretty(&*manifests).map_err(Failure::bug)?
        };
        let path = self.writer.path().join(MANIFESTS);
        self.replace(&path, json.as_bytes()).map_err(|cause| Failure::io(&cause, path.display()))
    }

    /// The join to make: a new one, or that which was begun and did not lead to `stored`, the identity that the agent has. It is on the
    /// disk before the authority hears of it.
    ///
    /// # Errors
    /// The operating system's.
    pub fn join_attempt(&self, stored: Option<&Identity>) -> Result<JoinAttempt, Failure> {
        let path = self.writer.path().join(JOIN);
        let begun = read_bounded(&path).ok();
        let begun: Option<JoinAttempt> = begun.and_then(|json| serde_json::from_slice(&json).ok());
        let unique = stored.and_then(|identity| identity.join_key().ok()).map(|key| key.unique);
        if let Some(begun) = begun.filter(|begun| Some(begun.unique) != unique) {
            return Ok(begun);
        }
        let attempt = JoinAttempt::new()?;
        let json = serde_json::to_vec(&attempt).map_err(Failure::bug)?;
        self.replace(&path, &json).map_err(|cause| Failure::io(&cause, path.display()))?;
        Ok(attempt)
    }

    /// The stored key of a service in the TPM, which only the TPM can read.
    ///
    /// # Errors
    /// The operating system's.
    pub fn tpm_key(&self, service: &ServiceName) -> Result<Option<String>, Failure> {
        let path = self.tpm_key_path(service);
        match read_bounded(&path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(Failure::io(&cause, path.display())),
        }
    }

    /// Stores the key of a service in the TPM. When this returns it is on the disk.
    ///
    /// # Errors
    /// The operating system's.
    pub fn store_tpm_key(&self, service: &ServiceName, pem: &str) -> Result<(), Failure> {
        let path = self.tpm_key_path(service);
        self.replace(&path, pem.as_bytes()).map_err(|cause| Failure::io(&cause, path.display()))
    }

    /// The names of the services that have a key in the TPM, as far as this directory tells.
    #[must_use]
    pub fn services_with_tpm_key(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let service =
            |name: &str| Some(name.strip_prefix(TPM_KEY)?.strip_suffix(".pem")?.to_owned());
        let names = entries.filter_map(|entry| service(entry.file_name().to_str()?));
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names
    }

    fn tpm_key_path(&self, service: &ServiceName) -> PathBuf {
        self.writer.path().join(format!("{TPM_KEY}{service}.pem"))
    }

    /// Replaces a file of this directory, synchronized to the disk.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let new = path.with_added_extension("new");
        match fs::remove_file(&new) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let written = write_new(&new, content).and_then(|()| fs::rename(&new, path));
        if written.is_err() {
            // On a full disk, a part of it is there.
            let _ = fs::remove_file(&new);
        }
        written?;
        File::open(self.writer.path())?.sync_all()
    }

    /// Marks a service's reload hook as pending, synchronized to the disk.
    ///
    /// # Errors
    /// The operating system's.
    pub fn mark_reload_pending(&self, service: &ServiceName) -> Result<(), Failure> {
        let path = self.reload_mark(service);
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let made = options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(&path);
        made.and_then(|file| file.sync_all())
            .and_then(|()| File::open(self.writer.path())?.sync_all())
            .map_err(|cause| Failure::io(&cause, path.display()))
    }

    /// Removes the mark after the hook succeeded.
    ///
    /// # Errors
    /// The operating system's.
    pub fn clear_reload_pending(&self, service: &ServiceName) -> Result<(), Failure> {
        let path = self.reload_mark(service);
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(Failure::io(&cause, path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Whether the hook is pending.
    #[must_use]
    pub fn is_reload_pending(&self, service: &ServiceName) -> bool {
        fs::symlink_metadata(self.reload_mark(service)).is_ok()
    }

    fn reload_mark(&self, service: &ServiceName) -> PathBuf {
        self.writer.path().join(format!("{RELOAD_MARK}{service}"))
    }

    /// Makes `identity` the stored one. When this returns it is on the disk.
    ///
    /// # Errors
    /// The operating system's; the stored identity is then the one from before.
    pub fn store(&self, identity: &Identity) -> Result<Notices, Failure> {
        let certificates = identity.certificates().map(|der| pem("CERTIFICATE", der));
        let certificates = certificates.collect::<Result<String, _>>()?;
        let cas = identity.x509_cas().map(|der| pem("CERTIFICATE", der));
        let cas = cas.collect::<Result<String, _>>()?;
        let ssh_cas = identity.ssh_cas.iter().chain(&identity.ssh_host_cas);
        let ssh_cas: String = ssh_cas.map(|line| format!("{line}\n")).collect();
        let json = serde_json::to_string_pretty(identity).map_err(Failure::bug)?;
        let set = FileSet::new()
            .with("tlscert", certificates)
            .with("tlscacerts", cas)
            .with("key-cert.pub", format!("{}\n", identity.ssh_certificate))
            .with("sshcacerts", ssh_cas)
            .with(IDENTITY, format!("{json}\n"));
        let mut recorded = Ok(());
        let before = self.writer.manifest();
        let mut notices = self.writer.write_announced(&set, &mut |manifest| {
            recorded = self.write_manifests(|manifests| {
                manifests.version = MANIFESTS_VERSION;
                let written = Written { now: manifest.clone(), before: before.clone() };
                manifests.identity = Some(written);
            });
        })?;
        // The identity is stored, which is what matters: the next agent writes its files once more.
        if let Err(failure) = recorded {
            notices.push(failure.message);
        }
        Ok(notices)
    }
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn damaged(path: &Path, why: &dyn Display) -> Failure {
    let message = format!("{} is damaged: {why}", path.display());
    Failure::new(Exit::Data, message, "remove it and join again")
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    bounded::read(bounded::open_regular(path)?, MAX_IDENTITY_FILE)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_agent_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        let first = Storage::open(directory.path()).unwrap();
        assert_eq!(Storage::open(directory.path()).unwrap_err().exit, Exit::Busy);
        drop(first);
        Storage::open(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o770)).unwrap();
        assert_eq!(Storage::open(directory.path()).unwrap_err().exit, Exit::Permission);
    }

    #[test]
    fn join_is_the_same_until_it_has_led_to_the_identity() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        let storage = Storage::open(directory.path()).unwrap();
        let first = storage.join_attempt(None).unwrap();
        assert_eq!(storage.join_attempt(None).unwrap(), first);
        drop(storage);
        let storage = Storage::open(directory.path()).unwrap();
        let identity = Identity::with_unique(&first.unique);
        let second = storage.join_attempt(Some(&identity)).unwrap();
        assert!(second.id != first.id && second.unique != first.unique);
        assert_eq!(storage.join_attempt(Some(&identity)).unwrap(), second);
        // What cannot be read is begun again.
        fs::write(directory.path().join(JOIN), "{").unwrap();
        assert_ne!(storage.join_attempt(None).unwrap(), second);
    }

    #[test]
    fn pending_reload_survives_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700)).unwrap();
        let [web, mail]: [ServiceName; 2] = ["web", "mail"].map(|name| name.parse().unwrap());
        let storage = Storage::open(directory.path()).unwrap();
        storage.clear_reload_pending(&web).unwrap();
        storage.mark_reload_pending(&web).unwrap();
        storage.mark_reload_pending(&web).unwrap();
        drop(storage);
        let storage = Storage::open(directory.path()).unwrap();
        assert!(storage.is_reload_pending(&web) && !storage.is_reload_pending(&mail));
        storage.clear_reload_pending(&web).unwrap();
        assert!(!storage.is_reload_pending(&web));
        fs::remove_dir_all(directory.path()).unwrap();
        assert_eq!(storage.mark_reload_pending(&web).unwrap_err().exit, Exit::Io);
        storage.clear_reload_pending(&web).unwrap();
    }

    #[test]
    fn damaged_identity_is_reported_with_its_path() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Storage::identity(directory.path()).unwrap().is_none());
        for text in ["", "{}", "{\"version\":1,\"later\":0}", "[1"] {
            fs::write(directory.path().join(IDENTITY), text).unwrap();
            let failure = Storage::identity(directory.path()).unwrap_err();
            assert_eq!(failure.exit, Exit::Data);
            assert!(failure.message.contains("line 1"), "{failure}");
        }
        // What a disk has made of it is no better, and no worse.
        fs::write(directory.path().join(IDENTITY), b"{\"version\":\xff}").unwrap();
        let failure = Storage::identity(directory.path()).unwrap_err();
        assert_eq!(failure.exit, Exit::Data);
        assert!(failure.message.contains("is damaged: invalid utf-8"), "{failure}");
        fs::write(directory.path().join(IDENTITY), " ".repeat(MAX_IDENTITY_FILE as usize + 1))
            .unwrap();
        let failure = Storage::identity(directory.path()).unwrap_err();
        assert!(failure.message.contains("is damaged: longer than"), "{failure}");
        let pipe = directory.path().join(IDENTITY);
        fs::remove_file(&pipe).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(Storage::identity(directory.path()).unwrap_err().exit, Exit::Data);
        fs::remove_file(&pipe).unwrap();
        std::os::unix::fs::symlink(IDENTITY, &pipe).unwrap();
        assert_eq!(Storage::identity(directory.path()).unwrap_err().exit, Exit::Data);
    }
}
