//! authority restore

use std::fs::File;
use std::path::{Path, PathBuf};

use host::clock::Clock;
use host::exit::{Exit, Failure};
use host::output::write;
use p256::SecretKey;
use pkcs8::DecodePrivateKey;
use serde_json::json;

use super::place::{Place, failure};
use crate::audit::Author;
use crate::backup::file::{Checked, FileError};
use crate::backup::stream::{Header, Malformed, Part, Parts};
use crate::cli::{ListFormat, Restore};
use crate::cluster;
use crate::config::{Settings, StoreSettings};
use crate::data_directory::{DATABASE, DataDirectory, Nascent, read_private};
use crate::keyring::{BackedUp, KeyringError, OpenedBackup, Opener, Own};
use crate::store::{Change, Import, Restored, StoreError, Summary};

pub(super) async fn restore(restore: Restore) -> Result<(), Failure> {
    let settings = restore.to.settings()?;
    let opener = opener(&restore)?;
    let mut backup = Backup::open(&restore.from)?;
    let unopened = |cause| backup.keyring_failure(&cause);
    let keyring = backup.keyring.open(&opener).map_err(unopened)?;
    let directory = DataDirectory::new(&settings.data_dir);
    if directory.cluster().exists() {
        return Err(Failure::new(
            Exit::Refused,
            format!("{} has a cluster already", directory.path().display()),
            "move it away, or restore into another data directory; nothing was changed",
        ));
    }
    let lock = directory.lock()?;
    let own = Own::of(&directory, &lock)?;
    let also = also(&backup, &keyring, &own)?;
    let target = Target::find(&directory, &settings).await?;
    target.fill(&mut backup, also).await?;
    let (made, summary, id) = (backup.header.made, &backup.summary, own.id());
    match restore.format {
        ListFormat::Text => write(format!(
            "restored a backup of {made} for the authority {id}, and compared all records\n{summary}\
             Locks, removals and other changes since {made} are lost. The authority does not start before `authority store \
             accept-restored`.\n"
        )),
        ListFormat::Json => {
            let report = json!({"made": made, "authority": id, "restored": summary});
            write(format!("{report:#}\n"))
        }
    }
}

fn opener(restore: &Restore) -> Result<Opener, Failure> {
    let key = |path: &PathBuf| {
        let key = SecretKey::from_pkcs8_pem(&read_private(path)?).map_err(|cause| {
            let message = format!("{}: {cause}", path.display());
            Failure::new(Exit::Data, message, "give a private key on P-256, in PEM (PRIVATE KEY)")
        });
        key.map(Box::new)
    };
    match (&restore.recovery_key, &restore.wrapping_key) {
        (Some(path), _) => key(path).map(Opener::Recovery),
        (None, Some(path)) => key(path).map(Opener::Authority),
        (None, None) => {
            let message = "nothing opens the CA keys in the backup";
            Err(Failure::new(Exit::Usage, message, "give --recovery-key or --wrapping-key"))
        }
    }
}

/// What is written together with the restored records: whose they are, and that they are from a backup.
fn also(backup: &Backup, keyring: &OpenedBackup, own: &Own) -> Result<Vec<Change>, Failure> {
    let now = Clock::system().now();
    let mut also = keyring.taken_over(own, now).map_err(|cause| backup.keyring_failure(&cause))?;
    let Header { made, format, .. } = &backup.header;
    let restored = Restored::changes(format, *made, own.id(), Author::of_command(now));
    also.extend(restored.map_err(|cause| failure(&backup.path.display().to_string(), &cause))?);
    Ok(also)
}

/// A backup that was read to its end and is whole.
struct Backup {
    path: PathBuf,
    file: Checked<File>,
    header: Header,
    keyring: BackedUp,
    summary: Summary,
}

impl Backup {
    fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |cause| unread(path, &cause);
        let file = File::open(path).map_err(|cause| failed(FileError::Io(cause)))?;
        let mut file = Checked::open(file).map_err(failed)?;
        let (mut header, mut keyring, mut summary) = (None, BackedUp::default(), None);
        let mut parts = Parts::default();
        let mut content = file.content().map_err(|cause| failed(cause.into()))?;
        while let Some(piece) = content.next_piece().map_err(|cause| failed(cause.into()))? {
            parts.push(&piece);
            while let Some(part) = parts.next_part().map_err(|cause| malformed(path, &cause))? {
                match part {
                    Part::Header(found) => header = Some(found),
                    Part::Records(table, page) => keyring.add(table, &page),
                    Part::End(found) => summary = Some(found),
                }
            }
        }
        parts.finish().map_err(|cause| malformed(path, &cause))?;
        let missing = || malformed(path, &Malformed("it is incomplete".to_owned()));
        let (header, summary) = header.zip(summary).ok_or_else(missing)?;
        Ok(Self { path: path.to_owned(), file, header, keyring, summary })
    }

    /// Adds all records.
    async fn records(&mut self, import: &mut Import<'_>, shown: &str) -> Result<(), Failure> {
        let failed = |cause: std::io::Error| unread(&self.path, &cause.into());
        let mut parts = Parts::default();
        let mut content = self.file.content().map_err(failed)?;
        while let Some(piece) = content.next_piece().map_err(failed)? {
            parts.push(&piece);
            while let Some(part) =
                parts.next_part().map_err(|cause| malformed(&self.path, &cause))?
            {
                if let Part::Records(table, page) = part {
                    import.add(table, page).await.map_err(|cause| failure(shown, &cause))?;
                }
            }
        }
        Ok(())
    }

    fn keyring_failure(&self, cause: &KeyringError) -> Failure {
        let message = format!("{}: {cause}", self.path.display());
        let (exit, advice) = match cause {
            KeyringError::Refused(_) => {
                (Exit::Refused, "give the key that the cluster had when the backup was made")
            }
            _ => (Exit::Data, "use another copy of the backup"),
        };
        Failure::new(exit, message, format!("{advice}; nothing was changed"))
    }
}

/// Where a backup is restored.
struct Target {
    place: Place,
    /// The cluster's directory, which an embedded store is in. With a database, the first start creates it.
    nascent: Option<Nascent>,
}

impl Target {
    async fn find(directory: &DataDirectory, settings: &Settings) -> Result<Self, Failure> {
        if let StoreSettings::Postgresql(database) = &settings.store {
            return Ok(Self { place: Place::database(database).await?, nascent: None });
        }
        let nascent = Nascent::begin(directory.cluster()).map_err(|cause| {
            Failure::io(&cause, format_args!("cannot create {}", directory.cluster().display()))
        })?;
        let place = Place::file(&nascent.path.join(DATABASE))?;
        Ok(Self { place, nascent: Some(nascent) })
    }

    async fn fill(self, backup: &mut Backup, also: Vec<Change>) -> Result<(), Failure> {
        let Self { place, nascent } = self;
        let Place { store, shown, .. } = &place;
        let failed = |cause: StoreError| match cause {
            StoreError::Exists(..) => Failure::new(
                Exit::Refused,
                format!("{shown} is not empty: {cause}"),
                "restore into an empty store; nothing was changed",
            ),
            cause => failure(shown, &cause),
        };
        let cluster = backup.keyring.cluster().map_err(|cause| backup.keyring_failure(&cause))?;
        let mut import = Import::begin(&**store, "authority restore").await.map_err(failed)?;
        backup.records(&mut import, shown).await?;
        import.verify().await.map_err(failed)?;
        import.complete(backup.header.format.clone(), also).await.map_err(failed)?;
        let Some(nascent) = nascent else { return Ok(()) };
        cluster::restored(&nascent, &cluster)?;
        nascent
            .finish()
            .map_err(|cause| Failure::io(&cause, "cannot create the cluster's directory"))
    }
}

fn unread(path: &Path, cause: &FileError) -> Failure {
    let message = format!("{}: {cause}", path.display());
    match cause {
        FileError::Io(cause) => Failure::io(cause, path.display()),
        FileError::Newer(_) => {
            Failure::new(Exit::Config, message, "use the version that wrote it, or a later one")
        }
        FileError::NoBackup | FileError::Damaged(_) => {
            Failure::new(Exit::Data, message, "use another copy of the backup; nothing was changed")
        }
    }
}

fn malformed(path: &Path, cause: &Malformed) -> Failure {
    let message = format!("{}: {cause}", path.display());
    Failure::new(Exit::Data, message, "use another copy of the backup; nothing was changed")
}
