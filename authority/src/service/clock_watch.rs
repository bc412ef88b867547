//! Compares the clock with the last record.

use std::sync::{Mutex, PoisonError};

use time::OffsetDateTime;
use tracing::warn;

use super::Authority;
use crate::store::{ClockRecord, StoreError};

/// Why the clock is implausible, as of the last check.
#[derive(Debug, Default)]
pub(super) struct ClockDoubt(Mutex<Option<String>>);

impl ClockDoubt {
    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Authority {
    /// Compares the clock with the last record and records it. Returns whether it is plausible.
    pub(super) async fn believes_clock(&self, now: OffsetDateTime) -> Result<bool, StoreError> {
        let record = ClockRecord::next(self.records.clock().await?, now);
        let doubt = record.doubt();
        if let Some(cause) = &doubt {
            warn!(cause, "implausible clock");
        }
        self.metrics.set_clock_implausible(doubt.is_some());
        let believed = doubt.is_none();
        *self.clock_doubt.0.lock().unwrap_or_else(PoisonError::into_inner) = doubt;
        self.records.set_clock(&record).await?;
        Ok(believed)
    }
}
