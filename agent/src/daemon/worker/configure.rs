//! Reading the configuration again, while the daemon runs.

use std::sync::Arc;
use std::time::Duration;

use host::exit::{Exit, Failure};

use super::service::sinks;
use super::{Inventory, Worker, client, tpm};
use crate::config::Settings;
use crate::daemon::health_socket::DiagChange;

/// How long it may take to read the configuration: it may be on a file system that hangs, or a pipe.
pub(super) const CONFIGURATION_TIMEOUT: Duration = Duration::from_secs(10);

impl Worker {
    /// Reads the configuration again and takes it over. One that cannot be used changes nothing.
    pub(super) async fn configure(&mut self) -> Result<(DiagChange, Inventory), Failure> {
        let reread = Arc::clone(&self.reread);
        let settings = self.read(move || reread()).await?;
        let diag = DiagChange::prepare(&self.settings, &settings).await?;
        self.adopt(Arc::new(settings)).await?;
        if self.settings.oneshot {
            let fields: [(&str, &dyn std::fmt::Display); 1] = [("advice", &"restart the agent")];
            self.log.warn("`oneshot` takes effect at the next start", &fields);
        }
        let inventory = self.stop.limit_files(async { Ok(self.files().inventory().await) }).await?;
        Ok((diag, inventory))
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.stop.limit_files(self.access.configuration.run(read)).await
    }

    /// Continues with the same storage and identity under a reloaded configuration.
    async fn adopt(&mut self, settings: Arc<Settings>) -> Result<(), Failure> {
        if settings.storage != self.settings.storage {
            let what = "`storage` cannot be changed by a reload";
            return Err(Failure::new(Exit::Config, what, "restart the agent"));
        }
        let (read, log) = (Arc::clone(&settings), settings.log());
        let reissue = self.reissue.clone();
        self.client = self.read(move || client(&read, reissue, log)).await?;
        self.cache.keep_only(settings.services.iter().map(|service| &service.name));
        self.sinks = sinks(&settings, &self.cache, &self.sinks);
        self.access = self.access.under(&settings);
        // Keys have the way to the TPM as it was when they were taken up.
        self.tpm = self.tpm.or(tpm(&settings, &self.access, &self.meter, settings.log()));
        self.tpm_keys.clear();
        self.log = settings.log();
        self.settings = settings;
        self.connection = None;
        self.offer_stored_keys().await;
        Ok(())
    }
}
