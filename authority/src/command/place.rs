//! A store that no running authority uses, wherever it is.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use host::exit::{Exit, Failure};

use crate::assemble::database_failure;
use crate::config::{PostgresSettings, Settings, Start, StoreSettings};
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
        Self::configured(&Settings::new(&start)?, missing).await
    }

    /// The store of an authority.
    pub(super) async fn of(settings: &Settings) -> Result<Self, Failure> {
        Self::configured(settings, Missing::Refused).await
    }

    async fn configured(settings: &Settings, missing: Missing) -> Result<Self, Failure> {
        match &settings.store {
            StoreSettings::Embedded => Self::embedded(&settings.data_dir, missing),
            StoreSettings::Postgresql(database) => Self::database(database).await,
        }
    }

    /// A database.
    pub(super) async fn database(database: &PostgresSettings) -> Result<Self, Failure> {
        let store = PostgresStore::open_alone(database, ID).await;
        let store = store.map_err(|cause| database_failure(&cause))?;
        Ok(Self { store: Arc::new(store), shown: database.url.to_string(), _lock: None })
    }

    /// A database that other authorities may use, for the authority with this ID, whose data directory the caller has locked.
    pub(super) async fn beside_others(
        database: &PostgresSettings,
        id: &str,
    ) -> Result<Self, Failure> {
        let store = PostgresStore::open(database, id).await;
        let store = store.map_err(|cause| database_failure(&cause))?;
        Ok(Self { store: Arc::new(store), shown: database.url.to_string(), _lock: None })
    }

    /// A database file, whose data directory the caller has locked; created if it is missing.
    pub(super) fn file(path: &Path) -> Result<Self, Failure> {
        let shown = path.display().to_string();
        let failed = |cause| failure(&shown, &cause);
        if !path.try_exists().map_err(|cause| Failure::io(&cause, &shown))? {
            create(path).map_err(failed)?;
        }
        let store = Arc::new(RedbStore::open(path).map_err(failed)?);
        Ok(Self { store, shown, _lock: None })
    }

    /// A database file that exists.
    pub(super) fn existing_file(path: &Path) -> Result<Self, Failure> {
        check_own(path)?;
        if !path.try_exists().is_ok_and(|exists| exists) {
            let cause = StoreError::Damaged("it is missing".to_owned());
            return Err(failure(&path.display().to_string(), &cause));
        }
        Self::file(path)
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
        let file = directory.database();
        check_own(&file)?;
        let place = match missing {
            Missing::Refused => Self::existing_file(&file)?,
            Missing::Created => Self::file(&file)?,
        };
        Ok(Self { _lock: Some(lock), ..place })
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
