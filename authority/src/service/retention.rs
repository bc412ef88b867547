//! Removes the oldest entries of the authority's log, as far as its operator wants that.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::Authority;
use crate::audit::{Author, Row};
use crate::config::Retention;
use crate::store::StoreError;

/// How often entries are removed.
const INTERVAL: Duration = Duration::from_secs(600);

/// Entries that are read at once.
const PAGE: usize = 512;

/// Which entries are removed, and how much there is.
#[derive(Debug, Default)]
pub(super) struct Retaining {
    pub(super) settings: Retention,
    measured: Mutex<Measured>,
}

/// The entries that are there.
#[derive(Debug, Default)]
struct Measured {
    /// The number of the first one that is not counted yet.
    next: u64,
    bytes: u64,
}

impl Authority {
    /// The same, which removes the oldest entries of its log.
    #[must_use]
    pub fn retaining(self, settings: Retention) -> Self {
        Self { retaining: Retaining { settings, measured: Mutex::default() }, ..self }
    }

    /// Runs [`Self::retain`] periodically. Never returns.
    pub(crate) async fn retain_periodically(self: Arc<Self>) {
        let mut times = tokio::time::interval(INTERVAL);
        loop {
            times.tick().await;
            if let Err(cause) = self.retain().await {
                warn!(%cause, "cannot remove old entries of the log");
            }
        }
    }

    /// Removes all entries that are too old or too many, and have been written everywhere.
    ///
    /// # Errors
    /// The store fails.
    pub async fn retain(&self) -> Result<(), StoreError> {
        let Retention { age, size } = self.retaining.settings;
        if (age, size) == (None, None) {
            return Ok(());
        }
        self.summarize_grants().await;
        let mut measured = self.retaining.measured.lock().await;
        if size.is_some() {
            self.measure(&mut measured).await?;
        }
        let mut removed = 0_usize;
        while let Some(entries) = self.records.oldest_entries().await? {
            let now = self.clock.now();
            let is_old = |entry: &Row| age.is_some_and(|age| is_older(entry, now, age));
            let is_large = size.is_some_and(|size| measured.bytes > size);
            if !is_large && !entries.iter().all(is_old) {
                break;
            }
            let last = entries.last().map_or(u64::MAX, Row::sequence);
            if last >= self.records.undelivered().await? {
                break;
            }
            self.records.remove_bodies(&entries, Author::system(now)).await?;
            let bytes = entries.iter().map(|entry| self.records.stored_size(entry)).sum();
            measured.bytes = measured.bytes.saturating_sub(bytes);
            removed = removed.saturating_add(entries.len());
        }
        if removed > 0 {
            info!(removed, "old entries of the log were removed; their hashes are kept");
        }
        Ok(())
    }

    /// Counts the entries that have come since the last time.
    async fn measure(&self, measured: &mut Measured) -> Result<(), StoreError> {
        loop {
            let log = self.records.log_id();
            let page = self.records.log_entries(log, measured.next, PAGE).await?;
            for entry in &page {
                let bytes = self.records.stored_size(entry);
                measured.bytes = measured.bytes.saturating_add(bytes);
                measured.next = entry.sequence().saturating_add(1);
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }
}

/// Whether an entry is of before so long. One that does not say is as old as those around it.
fn is_older(entry: &Row, now: OffsetDateTime, age: Duration) -> bool {
    entry.time().is_none_or(|time| time + age < now)
}
