//! authority store

use std::sync::Arc;

use host::clock::Clock;
use host::exit::{Exit, Failure};
use host::output::write;
use serde_json::json;

use super::place::{Place, failure};
use crate::assemble::{age_of, database_failure};
use crate::audit::Author;
use crate::cli::{Configured, ListFormat, StoreCopy, StoreMigrate};
use crate::config::{Settings, Start, StoreSettings};
use crate::data_directory::DataDirectory;
use crate::resource::Timestamp;
use crate::store::{CopyError, Moved, Pages, PostgresStore, Records, StoreError, Summary, Table};

pub(super) async fn migrate(migrate: StoreMigrate) -> Result<(), Failure> {
    let StoreMigrate { config, runtime_role } = migrate;
    let settings = Settings::new(&Start { config: Some(config), ..Start::default() })?;
    let StoreSettings::Postgresql(database) = settings.store else {
        return Err(Failure::new(
            Exit::Config,
            "the configured store is embedded: it has no tables to create",
            "set `store.type: postgresql` and `store.url`",
        ));
    };
    PostgresStore::migrate(&database, runtime_role.as_deref())
        .await
        .map_err(|cause| database_failure(&cause))?;
    let granted = runtime_role.map(|role| format!("; {role} may use them")).unwrap_or_default();
    write(format!("tables created or up to date: {}{granted}\n", database.url))
}

pub(super) async fn copy(copy: StoreCopy) -> Result<(), Failure> {
    let StoreCopy { from, to, format } = copy;
    let source = Place::existing(&from).await?;
    let target = Place::to_fill(&to).await?;
    let moved = Moved { to: target.shown.clone(), at: Timestamp(Clock::system().now()) };
    let copied = crate::store::copy(&*source.store, &*target.store, &moved).await;
    let summary = copied.map_err(|error| match error {
        CopyError::Source(cause) => failure(&source.shown, &cause),
        CopyError::Target(StoreError::Exists(table, key)) => Failure::new(
            Exit::Refused,
            format!("{} is not empty: {}", target.shown, StoreError::Exists(table, key)),
            "copy to an empty store; nothing was changed",
        ),
        CopyError::Target(cause) => failure(&target.shown, &cause),
    })?;
    match format {
        ListFormat::Text => write(format!(
            "copied from {} to {}, and compared\n{summary}",
            source.shown, target.shown
        )),
        ListFormat::Json => {
            let report = json!({"from": source.shown, "to": target.shown, "copied": summary});
            write(format!("{report:#}\n"))
        }
    }
}

pub(super) async fn accept_restored(which: Configured) -> Result<(), Failure> {
    let settings = which.settings()?;
    let directory = DataDirectory::new(&settings.data_dir);
    let id = directory.store_id(&directory.lock()?)?;
    let place = Place::of(&settings).await?;
    let failed = |cause: StoreError| failure(&place.shown, &cause);
    let records = Records::new(Arc::clone(&place.store)).logging_as(&id);
    let Some(restored) = records.restored().await.map_err(failed)? else {
        return Err(Failure::new(
            Exit::Refused,
            format!("the records in {} are not from a backup", place.shown),
            "start the authority; nothing was changed",
        ));
    };
    let locks = Pages::new(&*place.store, Table::Locks, "").all().await.map_err(failed)?;
    let locks: Vec<_> = locks.into_iter().map(|(name, _)| name).collect();
    let locks = if locks.is_empty() { "none".to_owned() } else { locks.join(", ") };
    let summary = Summary::of(&*place.store).await.map_err(failed)?;
    let (now, made) = (Clock::system().now(), restored.made);
    let age = age_of(now - made.0);
    records.accept(restored, Author::of_command(now)).await.map_err(failed)?;
    write(format!(
        "Backup   {made}, {age} old\nLocks    {locks}\nLost     locks, removals and other changes since then: repeat them\n{summary}\
         accepted: the authority can be started\n"
    ))
}
