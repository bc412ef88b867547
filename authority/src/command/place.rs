//! A store that no running authority uses, wherever it is.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use host::exit::{Exit, Failure};

use crate::assemble::database_failure;
use crate::cluster;
use crate::config::{Settings, Start, StoreSettings};
use crate::data_directory::{DataDirectory, Lock, check_own};
use crate::store::{PostgresStore, RedbStore, Store, StoreError};

/// What the commands write to a database with. Of two that run at the same time, the second one stops the first.
const ID: &str = "authority store";

/// A store, and for an embedded one the lock of its data directory.
pub(super) struct Place {
    pub(super) store: Arc<dyn Store>,
    /// Where it is, for people.
    pub(super) shown: String,
    _lock: Option<Lock>,
}

/// Whether a database file that is missing is created.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    Refused,
    Created,
}

impl Place {
    /// The store of a data directory or a configuration file.
    pub(super) async fn existing(path: &Path) -> Result<Self, Failure> {
        Self::open(path, Missing::Refused).await
    }

    /// The same, to write records into it.
    pub(super) async fn to_fill(path: &Path) -> Result<Self, Failure> {
        Self::open(path, Missing::Created).await
    }

    async fn open(path: &Path, missing: Missing) -> Result<Self, Failure> {
        if path.is_dir() {
            return Self::embedded(path, missing);
        }
        let start = Start { config: Some(path.to_owned()), ..Start::default() };
        let settings = Settings::new(&start)?;
        match &settings.store {
            StoreSettings::Embedded => Self::embedded(&settings.data_dir, missing),
            StoreSettings::Postgresql(database) => {
                let store = PostgresStore::open_alone(database, ID).await;
                let store = store.map_err(|cause| database_failure(&cause))?;
                let shown = database.url.to_string();
                Ok(Self { store: Arc::new(store), shown, _lock: None })
            }
        }
    }

    fn embedded(path: &Path, missing: Missing) -> Result<Self, Failure> {
        let directory = DataDirectory::new(path);
        if !directory.cluster().is_dir() {
            return Err(Failure::new(
                Exit::Data,
                format!("{} has no cluster", path.display()),
                "give the data directory of the authority; its first start creates the cluster",
            ));
        }
        let lock = directory.lock()?;
        let file = cluster::database(&directory);
        check_own(&file)?;
        let shown = file.display().to_string();
        let is_missing = !file.try_exists().map_err(|cause| Failure::io(&cause, &shown))?;
        if is_missing && missing == Missing::Created {
            create(&file).map_err(|cause| failure(&shown, &cause))?;
        }
        let store = RedbStore::open(&file).map_err(|cause| failure(&shown, &cause))?;
        Ok(Self { store: Arc::new(store), shown, _lock: Some(lock) })
    }
}

/// Creates a database that appears under its name only when it is complete.
fn create(path: &Path) -> Result<(), StoreError> {
    let failed = |cause: io::Error| StoreError::Failed(cause.to_string());
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed(cause)),
        _ => {}
    }
    RedbStore::create(&new)?;
    fs::rename(&new, path).map_err(failed)
}

/// Why a store cannot be read or written.
pub(super) fn failure(shown: &str, cause: &StoreError) -> Failure {
    let (exit, advice) = match cause {
        StoreError::Failed(_) => (Exit::Io, "check that disk and database have space and work"),
        StoreError::Newer(_) => (Exit::Config, "use the version that wrote it, or a later one"),
        StoreError::Unusable(_) => (Exit::Config, "see docs/authority.md"),
        _ => (Exit::Data, "restore it from a backup"),
    };
    Failure::new(exit, format!("{shown}: {cause}"), advice)
}
