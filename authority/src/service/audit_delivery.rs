//! Delivers the log to the file of the audit log: what was written to the store is appended to the file next, and how far that is on
//! disk is on record in the store. Brief entries are not in the file; an event a minute summarizes them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tracing::warn;

use super::Authority;
use crate::audit::checkpoint::LogKey;
use crate::audit::tree::Head;
use crate::audit::{Author, Granted, Row};
use crate::data_directory::replace_private;
use crate::store::{StoreError, TOGETHER};

/// How often lines are synchronized.
const AUDIT_SYNC_INTERVAL: Duration = Duration::from_secs(10);

/// Entries that are read at once.
const PAGE: usize = 512;

/// How far the log has been delivered.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// Counts those who want something delivered.
    wanted: AtomicU64,
    done: Mutex<Delivered>,
}

#[derive(Debug, Default)]
struct Delivered {
    /// The last of those who wanted it before the log was read.
    wanted: u64,
    /// The number of the next entry.
    next: u64,
    /// The cursor that is on record.
    cursor: u64,
    /// The size of the log when its head was signed last.
    signed: Option<u64>,
    /// The number of the first entry that no event summarizes.
    summarized: u64,
    /// The brief entries since.
    granted: Granted,
}

/// Signs the heads of the log.
#[derive(Debug)]
pub(crate) struct LogSigner {
    pub(crate) key: LogKey,
    /// Where the latest one is.
    pub(crate) file: PathBuf,
}

impl Delivered {
    /// Entries were read.
    fn read(&mut self, page: &[Row]) {
        self.next = page.last().map_or(self.next, |last| last.sequence().saturating_add(1));
        page.iter().for_each(|row| self.granted.read(row));
    }
}

impl Authority {
    /// Takes over what a crash or an older version has left: entries that are not in the file are appended to it. To be called
    /// before anything is granted.
    pub async fn recover_audit(&self) -> Result<(), StoreError> {
        self.records.take_over_audit_rows().await?;
        let mut done = self.delivery.done.lock().await;
        done.cursor = self.records.file_cursor().await?;
        done.summarized = self.records.summary_cursor().await?;
        done.granted = Granted::from(done.summarized);
        done.next = done.cursor.min(done.summarized);
        let (mut rows, cursor) = (Vec::new(), done.cursor);
        loop {
            let page = self.records.log_entries(self.records.log_id(), done.next, PAGE).await?;
            let is_last = page.len() < PAGE;
            done.read(&page);
            rows.extend(page.into_iter().filter(|row| row.sequence() >= cursor));
            if is_last {
                break;
            }
        }
        if let Err(cause) = self.audit.recover(rows) {
            warn!(%cause, "events are waiting in the store to be written to the audit log");
        }
        self.sign_head(&mut done).await;
        Ok(())
    }

    /// Completes a write and appends its events to the file even if the caller goes away: recorded changes must be logged.
    pub(super) async fn audited<T: Send + 'static>(
        self: &Arc<Self>,
        write: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let authority = Arc::clone(self);
        let written = tokio::spawn(async move {
            let value = write.await?;
            authority.deliver_audit().await;
            Ok(value)
        });
        written.await.unwrap_or_else(|cause| Err(StoreError::Failed(cause.to_string())))
    }

    /// Appends to the file what the log has beyond it. Of many who want it at the same time, one reads for all.
    pub(super) async fn deliver_audit(&self) {
        let mine = self.delivery.wanted.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        let mut done = self.delivery.done.lock().await;
        if done.wanted >= mine {
            return;
        }
        let wanted = self.delivery.wanted.load(Ordering::Acquire);
        loop {
            let page = match self.records.log_entries(self.records.log_id(), done.next, PAGE).await
            {
                Ok(page) => page,
                Err(cause) => {
                    warn!(%cause, "the log cannot be read; its events are written to the file later");
                    return;
                }
            };
            let is_last = page.len() < PAGE;
            done.read(&page);
            self.audit.publish(page);
            if is_last {
                break;
            }
        }
        done.wanted = wanted;
    }

    /// Synchronizes the file to the disk, and puts on record how far it is.
    pub async fn sync_audit_log(self: &Arc<Self>) {
        self.deliver_audit().await;
        self.store_refused_evidence().await;
        let authority = Arc::clone(self);
        let synchronized = tokio::task::spawn_blocking(move || authority.audit.synchronize());
        let Ok(cursor) = synchronized.await else { return };
        let mut done = self.delivery.done.lock().await;
        self.sign_head(&mut done).await;
        if cursor <= done.cursor {
            return;
        }
        match self.records.set_file_cursor(cursor).await {
            Ok(()) => done.cursor = cursor,
            Err(cause) => warn!(%cause, "cannot put on record how far the audit log is written"),
        }
    }

    /// Appends the events that summarize what was granted and refused since the last time.
    pub(crate) async fn record_summaries(&self) {
        self.summarize_refusals().await;
        self.summarize_grants().await;
        self.deliver_audit().await;
    }

    pub(super) async fn summarize_grants(&self) {
        self.deliver_audit().await;
        let mut done = self.delivery.done.lock().await;
        let next = done.granted.next();
        let written = match done.granted.entry(self.clock.now()) {
            Some(Ok(entry)) => self.records.summarize(Some(entry), done.summarized, next).await,
            Some(Err(cause)) => Err(StoreError::Unreadable(cause.to_string())),
            // Entries with nothing to summarize are not kept for it either.
            None if next.saturating_sub(done.summarized) >= TOGETHER as u64 => {
                self.records.summarize(None, done.summarized, next).await
            }
            None => return,
        };
        match written {
            Ok(()) => {
                done.summarized = next;
                done.granted = Granted::from(next);
            }
            Err(cause) => warn!(%cause, "cannot record a summary of what was granted"),
        }
    }

    /// To be called before the authority stops. What was granted is in the log, so that the next start summarizes it.
    pub(crate) async fn summarize_refusals(&self) {
        let refused = self.refusals.take_summary();
        let Some(entry) = refused.entry(self.clock.now()) else { return };
        if self.audit.has_reserve().is_ok_and(|reserve| !reserve) {
            return;
        }
        let written = match entry {
            Ok(entry) => self.records.append(entry).await,
            Err(cause) => Err(StoreError::Unreadable(cause.to_string())),
        };
        if let Err(cause) = written {
            warn!(%cause, "cannot record a summary of what was refused");
            self.refusals.keep_summary(refused);
        }
    }

    /// Signs the head of the log if it has grown, and puts it where operators find it.
    async fn sign_head(&self, done: &mut Delivered) {
        let Some(LogSigner { key, file }) = &self.log_signer else { return };
        let tree = match self.records.log_head(self.records.log_id()).await {
            Ok(tree) => tree,
            Err(cause) => return warn!(%cause, "the head of the log cannot be read"),
        };
        if done.signed == Some(tree.size()) {
            return;
        }
        let note = key.sign(&Head { size: tree.size(), root: tree.root() });
        match replace_private(file, note.as_bytes()) {
            Ok(()) => done.signed = Some(tree.size()),
            Err(cause) => warn!(%cause, file = %file.display(), "cannot write the head of the log"),
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

    /// Converts a store of an older version, before anything else uses it.
    ///
    /// # Errors
    /// As [`crate::store::Records::migrate`].
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.records.migrate(Author::system(self.clock.now())).await
    }
}
