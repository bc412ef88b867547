//! Moves the audit log's rows: they are written to the store with the records, appended to the file, and removed from the store
//! once the file is on the disk.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::Authority;
use crate::store::{Audited, StoreError};

/// How often lines are synchronized and their rows removed from the store.
const AUDIT_SYNC_INTERVAL: Duration = Duration::from_secs(10);

/// Rows that one batch removes, so that joins do not wait long behind it.
const BATCH: usize = 512;

impl Authority {
    /// Takes over the rows that a crash has left in the store: those that are not in the file are
    /// appended. To be called before anything is granted.
    pub async fn recover_audit(&self) -> Result<(), StoreError> {
        let rows = self.records.audit_rows().await?;
        if let Err(cause) = self.audit.recover(rows) {
            warn!(%cause, "events are waiting in the store to be written to the audit log");
        }
        Ok(())
    }

    /// Completes a write and appends its rows to the file even if the caller goes away: recorded changes must be logged.
    pub(super) async fn audited<T: Send + 'static>(
        self: &Arc<Self>,
        write: impl Future<Output = Result<Audited<T>, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let authority = Arc::clone(self);
        let written = tokio::spawn(async move {
            let Audited { value, rows } = write.await?;
            authority.audit.publish(rows);
            Ok(value)
        });
        written.await.unwrap_or_else(|cause| Err(StoreError::Failed(cause.to_string())))
    }

    /// Synchronizes the file to the disk and removes its rows from the store.
    pub async fn sync_audit_log(self: &Arc<Self>) {
        let authority = Arc::clone(self);
        let synchronized = tokio::task::spawn_blocking(move || authority.audit.synchronize());
        let mut keys = synchronized.await.unwrap_or_default();
        while !keys.is_empty() {
            let rest = keys.split_off(keys.len().min(BATCH));
            if let Err(cause) = self.records.clear_audit_rows(&keys).await {
                warn!(%cause, "events written to the audit log cannot be removed from the store yet");
                keys.extend(rest);
                self.audit.retry_removal(keys);
                return;
            }
            keys = rest;
        }
    }

    /// Runs [`Self::sync_audit_log`] periodically. Never returns.
    pub(crate) async fn sync_audit_log_periodically(self: Arc<Self>) {
        let mut times = tokio::time::interval(AUDIT_SYNC_INTERVAL);
        loop {
            tokio::select! {
                _ = times.tick() => {}
                () = self.audit.many_written() => {}
            }
            self.sync_audit_log().await;
        }
    }
}
