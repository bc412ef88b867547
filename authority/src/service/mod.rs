//! What the authority does, one file for each service.

pub mod admin;
pub mod identity;
pub mod join;
pub mod refusal;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::audit::AuditLog;
use crate::clock::Clock;
use crate::issue::Issuer;
use crate::store::{Records, Store};

/// Joins that may be under way at a time.
const MAX_JOINS: usize = 4096;

/// All that the services decide with.
pub struct Authority {
    /// Who signs.
    pub issuer: Issuer,
    /// What is known.
    pub records: Records,
    /// What is told.
    pub audit: AuditLog,
    /// What time it is.
    pub clock: Clock,
    /// How long a join may take.
    pub join_timeout: Duration,
    joins: Arc<Semaphore>,
}

impl Authority {
    /// An authority that is ready to serve.
    pub fn new(
        issuer: Issuer,
        store: Arc<dyn Store>,
        audit: AuditLog,
        clock: Clock,
        join_timeout: Duration,
    ) -> Self {
        let (records, joins) = (Records::new(store), Arc::new(Semaphore::new(MAX_JOINS)));
        Self { issuer, records, audit, clock, join_timeout, joins }
    }
}
