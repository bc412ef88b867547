//! What the metrics say of a Workload API.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The counts of one socket. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Open connections.
    pub connections: Gauge,
    /// Streams on them.
    pub streams: Gauge,
    /// Calls of processes that were attested, or that need not be.
    pub attested: Counter,
    /// Calls of processes that could not be attested.
    pub unattested: Counter,
    /// Calls of attested processes that match none of the rules.
    pub unmatched: Counter,
    /// Requests to the authority that were granted.
    pub granted: Counter,
    /// Requests to the authority that it refused.
    pub refused: Counter,
    /// Requests that the authority did not answer.
    pub failed: Counter,
}

/// What only rises.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

/// What rises and falls.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

/// Something that a gauge counts, until it is dropped.
#[derive(Debug)]
pub struct Counted(Arc<AtomicU64>);

impl Counter {
    /// Counts one more.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    /// Counts one more until the value is dropped.
    #[must_use]
    pub fn begin(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.0))
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
