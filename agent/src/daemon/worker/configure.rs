//! Reading the configuration again, while the daemon runs.

use std::sync::Arc;
use std::time::Duration;

use host::exit::{Exit, Failure};

use super::{Inventory, Worker, blocking, client, sinks};
use crate::config::Settings;
use crate::daemon::health_socket::DiagChange;

/// How long it may take to read the configuration: it may be on a file system that hangs, or a pipe.
const CONFIGURATION_TIMEOUT: Duration = Duration::from_secs(10);

impl Worker {
    /// Reads the configuration again and takes it over. One that cannot be used changes nothing.
    pub(super) async fn configure(&mut self) -> Result<(DiagChange, Inventory), Failure> {
        let reread = Arc::clone(&self.reread);
        let read = blocking(move || reread());
        let late = |_| {
            let what = format!("not read within {} seconds", CONFIGURATION_TIMEOUT.as_secs());
            Failure::new(
                Exit::Io,
                what,
                "check that it is a regular file, and that its file system responds",
            )
        };
        let settings = tokio::time::timeout(CONFIGURATION_TIMEOUT, read).await.map_err(late)??;
        let diag = DiagChange::prepare(&self.settings, &settings).await?;
        self.adopt(Arc::new(settings)).await?;
        if self.settings.oneshot {
            let fields: [(&str, &dyn std::fmt::Display); 1] = [("advice", &"restart the agent")];
            self.log.warn("`oneshot` takes effect at the next start", &fields);
        }
        let files = self.files();
        let inventory = blocking(move || Ok(files.inventory())).await?;
        Ok((diag, inventory))
    }

    /// Continues with the same storage and identity under a reloaded configuration.
    async fn adopt(&mut self, settings: Arc<Settings>) -> Result<(), Failure> {
        if settings.storage != self.settings.storage {
            let what = "`storage` cannot be changed by a reload";
            return Err(Failure::new(Exit::Config, what, "restart the agent"));
        }
        let read = Arc::clone(&settings);
        self.client = blocking(move || client(&read)).await?;
        self.cache.keep_only(settings.services.iter().map(|service| &service.name));
        self.sinks = sinks(&settings, &self.cache, &self.sinks);
        self.log = settings.log();
        self.settings = settings;
        self.connection = None;
        Ok(())
    }
}
