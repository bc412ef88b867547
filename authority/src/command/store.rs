//! authority store

use host::exit::{Exit, Failure};
use host::output::write;

use crate::assemble::database_failure;
use crate::cli::StoreMigrate;
use crate::config::{Settings, Start, StoreSettings};
use crate::store::PostgresStore;

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
