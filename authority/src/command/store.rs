//! authority store

use host::exit::{Exit, Failure};
use host::output::write;

use host::clock::Clock;
use serde_json::json;

use super::place::{Place, failure};
use crate::assemble::database_failure;
use crate::cli::{ListFormat, StoreCopy, StoreMigrate};
use crate::config::{Settings, Start, StoreSettings};
use crate::resource::Timestamp;
use crate::store::{CopyError, Moved, PostgresStore, StoreError};

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
