//! Reads: over a few connections, each for many reads at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::Row;

use super::connection::{Link, Parameter, Server};
use super::fault::{Fault, Kind};
use super::pause;
use crate::store::StoreError;

/// Connections for reads. More would not be faster: reads of one connection do not wait for each other's answers.
const CONNECTIONS: usize = 2;

/// Connections that are made when they are needed, and again when they are lost.
pub(super) struct Readers {
    server: Arc<Server>,
    slots: [Slot; CONNECTIONS],
    next: AtomicUsize,
}

/// A connection, while there is one.
#[derive(Default)]
struct Slot(Mutex<Option<Arc<Link>>>);

impl Readers {
    pub(super) fn new(server: Arc<Server>) -> Self {
        Self { server, slots: Default::default(), next: AtomicUsize::new(0) }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// The rows of a statement that changes nothing, which is repeated if its connection is lost.
    pub(super) async fn rows(
        &self,
        statement: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        let limit = self.server.limits.read;
        let deadline = Instant::now() + limit;
        let mut last: Option<Fault> = None;
        loop {
            let slot = self.slot();
            match slot.rows(&self.server, statement, parameters, deadline).await {
                Ok(rows) => return Ok(rows),
                Err(Some(fault)) if !matches!(fault.kind, Kind::Repeat | Kind::Lost) => {
                    return Err(fault.into());
                }
                Err(fault) => last = fault.or(last),
            }
            let pause = pause();
            if Instant::now() + pause >= deadline {
                let late = format!("the database did not answer within {limit:?}");
                let last = last.map(|fault| format!(": {fault}")).unwrap_or_default();
                return Err(StoreError::Failed(format!("{late}{last}")));
            }
            sleep(pause).await;
        }
    }

    fn slot(&self) -> &Slot {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % CONNECTIONS;
        let [first, second] = &self.slots;
        if number == 0 { first } else { second }
    }
}

impl Slot {
    /// The error is `None` if the deadline has passed.
    async fn rows(
        &self,
        server: &Server,
        statement: &str,
        parameters: &[Parameter<'_>],
        deadline: Instant,
    ) -> Result<Vec<Row>, Option<Fault>> {
        let link = timeout_at(deadline, self.link(server)).await.map_err(|_| None)??;
        let rows = timeout_at(deadline, link.rows(statement, parameters)).await;
        let fault = match rows {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(fault)) if fault.kind != Kind::Lost => return Err(Some(fault)),
            Ok(Err(fault)) => Some(fault),
            Err(_) => None,
        };
        // If it is locked, the connection is being replaced already.
        if let Ok(mut current) = self.0.try_lock()
            && current.as_ref().is_some_and(|current| Arc::ptr_eq(current, &link))
        {
            *current = None;
        }
        Err(fault)
    }

    async fn link(&self, server: &Server) -> Result<Arc<Link>, Fault> {
        let mut current = self.0.lock().await;
        if let Some(link) = current.as_ref().filter(|link| !link.is_closed()) {
            return Ok(Arc::clone(link));
        }
        *current = None;
        let link = Arc::new(server.connect().await?);
        Ok(Arc::clone(current.insert(link)))
    }
}
