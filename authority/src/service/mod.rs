//! What the authority decides, without a protocol: claims and calls in, `Result<_, Refusal>` out.

pub(crate) mod admin;
pub(crate) mod allowance;
mod audit_delivery;
pub(crate) mod authorities;
pub(crate) mod ca;
pub(crate) mod call;
mod call_queues;
pub(crate) mod caller;
mod checks;
pub(crate) mod chosen_id;
mod clock_watch;
pub(crate) mod documents;
pub(crate) mod evidence;
pub mod explain;
pub(crate) mod grant;
mod heartbeat;
pub(crate) mod impersonation;
pub(crate) mod join;
pub(crate) mod peer;
pub mod refusal;
pub(crate) mod refusal_log;
pub(crate) mod reissue;
mod rejoin;
pub(crate) mod request;
pub(crate) mod residency;
mod retention;
mod source;
mod token_cache;
mod warnings;
mod whoami;
mod workers;
pub(crate) mod workload;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use host::clock::Clock;
use time::OffsetDateTime;
use tracing::{info, warn};
use verifier::KnownSignatures;
use verifier::chain::ChainPolicy;

use self::audit_delivery::Delivery;
pub(crate) use self::audit_delivery::LogSigner;
use self::call_queues::CallQueues;
use self::clock_watch::ClockDoubt;
use self::evidence::{EvidencePruning, RefusedEvidence};
pub use self::peer::Peer;
use self::refusal::Refusal;
use self::refusal_log::Refusals;
use self::retention::Retaining;
pub(crate) use self::source::Source;
use self::token_cache::TokenCache;
pub(crate) use self::workers::Workers;
use self::workload::identities::IdentityCache;
use crate::audit::{Action, Attempt, AuditLog, Author};
use crate::config::TeleportServices;
use crate::issue::{Issuer, JwtKeyChange};
use crate::keyring::StoredKeyring;
use crate::metrics::Metrics;
use crate::public_names::PublicNames;
use crate::resource::{BotInstance, Timestamp};
use crate::store::{Measured, Records, Snapshot, Store, StoreError};

/// The state of the authority that all services use.
pub struct Authority {
    /// Issues certificates.
    pub issuer: Issuer,
    /// Where the keys of the issuer are stored; `None` if they are in memory only.
    pub keyring: Option<Arc<StoredKeyring>>,
    /// The records.
    pub records: Records,
    /// The audit log.
    pub audit: AuditLog,
    /// The clock.
    pub clock: Clock,
    /// How long a join may take.
    pub join_timeout: Duration,
    /// How chains of EK certificates are judged.
    pub ek_policy: ChainPolicy,
    /// The public names, and their certificates.
    pub public_names: PublicNames,
    /// Which of Teleport's services are served.
    pub teleport: TeleportServices,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    delivery: Delivery,
    log_signer: Option<LogSigner>,
    retaining: Retaining,
    refusals: Refusals,
    refused_evidence: RefusedEvidence,
    evidence_pruning: tokio::sync::Mutex<EvidencePruning>,
    store: Arc<Measured>,
    tokens: TokenCache,
    identities: IdentityCache,
    pub(crate) workers: Workers,
    known_signatures: Arc<KnownSignatures>,
    /// Renewals and issues in progress, by the callers' keys.
    call_queues: CallQueues,
    clock_doubt: ClockDoubt,
    /// How often the records were restored from a backup.
    epoch: AtomicU64,
    /// Serializes health checks, since each may try a write.
    trial: tokio::sync::Mutex<()>,
}

/// How long expired records are kept: if the clock was ahead and is set back, they apply again.
const KEPT_AFTER_END: time::Duration = time::Duration::days(7);

/// The health of the authority's parts, with the reason of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether the store answers, and takes what is written.
    pub store: Result<(), String>,
    /// Whether the file of the audit log takes what is written. If not, its lines wait in the store,
    /// and when many do, nothing is granted.
    pub audit: Result<(), String>,
    /// Whether certificates can be issued.
    pub certificates: Result<(), String>,
}

impl Authority {
    /// Counts the end of a request.
    fn count<T>(&self, action: Action, result: &Result<T, Refusal>) {
        let code = result.as_ref().err().map(|refusal| refusal.code.as_str());
        self.metrics.count(action, code);
    }

    /// Notes a certificate that is not the latest of its instance.
    fn note_generation(&self, attempt: &Attempt) {
        if let Some(presented) = attempt.presented_generation {
            self.metrics.generation_mismatch();
            let instance = attempt.bot_instance_id.as_deref();
            warn!(
                instance,
                presented,
                "the certificate is not the latest: the host was cloned, or a response was lost"
            );
        }
    }

    /// An authority that is ready to serve.
    pub fn new(
        issuer: Issuer,
        store: Arc<dyn Store>,
        audit: AuditLog,
        clock: Clock,
        join_timeout: Duration,
    ) -> Self {
        let metrics = Arc::new(Metrics::with_audit(audit.counts()));
        let store = Arc::new(Measured::new(store, Arc::clone(&metrics)));
        Self {
            issuer,
            keyring: None,
            records: Records::new(Arc::<Measured>::clone(&store)),
            audit,
            clock,
            join_timeout,
            ek_policy: ChainPolicy::default(),
            public_names: PublicNames::default(),
            teleport: TeleportServices::default(),
            metrics,
            delivery: Delivery::default(),
            log_signer: None,
            retaining: Retaining::default(),
            refusals: Refusals::default(),
            refused_evidence: RefusedEvidence::default(),
            evidence_pruning: tokio::sync::Mutex::default(),
            store,
            tokens: TokenCache::default(),
            identities: IdentityCache::default(),
            workers: Workers::default(),
            known_signatures: Arc::default(),
            call_queues: CallQueues::default(),
            clock_doubt: ClockDoubt::default(),
            epoch: AtomicU64::default(),
            trial: tokio::sync::Mutex::default(),
        }
    }

    /// The same, with another policy for chains of EK certificates than the strict one.
    #[must_use]
    pub fn judging_by(self, ek_policy: ChainPolicy) -> Self {
        Self { ek_policy, ..self }
    }

    /// The same, with its keys in this store.
    #[must_use]
    pub fn with_keyring(self, keyring: Arc<StoredKeyring>) -> Self {
        Self { keyring: Some(keyring), ..self }
    }

    /// The same, with the ID of this authority, by which its log is known.
    #[must_use]
    pub fn logging_as(self, id: &str) -> Self {
        Self { records: self.records.logging_as(id), ..self }
    }

    /// The same, which signs the heads of its log.
    #[must_use]
    pub(crate) fn signing_heads(self, signer: LogSigner) -> Self {
        Self { log_signer: Some(signer), ..self }
    }

    /// The same, with public names.
    #[must_use]
    pub fn known_as(self, public_names: PublicNames) -> Self {
        Self { public_names, ..self }
    }

    /// The same, with these of Teleport's services instead of all.
    #[must_use]
    pub fn serving(self, teleport: TeleportServices) -> Self {
        Self { teleport, ..self }
    }

    /// Whether the store responds. A full disk is no reason to restart.
    pub async fn store_answers(&self) -> Result<(), String> {
        in_time(self.records.probe()).await
    }

    /// All records as they are now.
    pub(crate) async fn snapshot(&self) -> Result<Box<dyn Snapshot>, StoreError> {
        self.store.snapshot().await
    }

    /// Notes that an operator has made a backup.
    pub(crate) async fn backed_up(
        self: &Arc<Self>,
        made: Timestamp,
        author: Author,
    ) -> Result<(), StoreError> {
        let records = self.records.clone();
        self.audited(async move { records.backed_up(made, author).await }).await
    }

    /// How often the records were restored from a backup, from now on.
    pub fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// Brings an instance up to date whose generations since a backup are lost: once after each time that the records were
    /// restored, the host's certificate says which is its latest.
    fn excuse_generation(&self, instance: &mut BotInstance, presented: Option<u64>) {
        let (epoch, status) = (self.epoch(), &mut instance.status);
        if let Some(presented) = presented.filter(|_| status.epoch < epoch) {
            status.generation = status.generation.max(presented);
            status.epoch = epoch;
        }
    }

    /// What is counted, in the text form of Prometheus.
    pub fn metrics_text(&self) -> String {
        self.metrics.text(self.issuer.x509().not_after(), &self.public_names.expiries())
    }

    /// Reads the certificates of public names again.
    pub fn reload_certificates(&self) {
        self.public_names.reload(self.clock.now());
    }

    /// Makes the changes of the CAs and of the keys for JWTs that are due, unless the clock is implausible, or they are not stored.
    pub async fn maintain_keys(self: &Arc<Self>) {
        let Some(keyring) = &self.keyring else { return };
        let now = self.clock.now();
        let changed = match self.believes_clock(now).await {
            Ok(true) => keyring.maintain_jwt_keys(now).await,
            Ok(false) => return,
            Err(cause) => return warn!(%cause, "cannot check the keys for JWTs"),
        };
        match changed {
            Ok(changes) => {
                for JwtKeyChange { what, key_id, .. } in changes {
                    info!(key_id, "{what}");
                }
            }
            Err(cause) => warn!(%cause, "cannot change the keys for JWTs"),
        }
        self.take_due_steps(keyring, now).await;
    }

    /// Whether the authority can do its work.
    pub async fn health(&self) -> Health {
        let store = in_time(async {
            let _turn = self.trial.lock().await;
            self.records.probe().await?;
            self.store.writable().await
        })
        .await;
        let audit = self.audit.writable().map_err(|cause| format!("the audit log: {cause}"));
        let certificates = self.issuer.x509().check_time(self.clock.now());
        let certificates = certificates.map_err(|cause| cause.to_string());
        Health { store, audit, certificates }
    }

    /// Warnings for operators.
    async fn warnings(&self) -> Vec<String> {
        let Health { store, audit, certificates } = self.health().await;
        let failed = [store, audit, certificates].into_iter().filter_map(Result::err);
        let public = self.public_names.warnings(self.clock.now());
        failed.chain(self.clock_doubt.get()).chain(public).collect()
    }

    /// Removes instances and locks that expired long ago, unless the clock is implausible or the audit log has no room.
    pub async fn prune(self: &Arc<Self>) {
        let now = self.clock.now();
        let mut count = 0;
        let pruned = match self.believes_clock(now).await {
            Ok(true) => self.remove_ended(now, &mut count).await,
            Ok(false) => Ok(()),
            Err(cause) => Err(cause),
        };
        if count > 0 {
            info!(count, "removed expired instances and locks");
        }
        if let Err(cause) = pruned {
            warn!(%cause, "cannot remove expired instances and locks");
        }
    }

    async fn remove_ended(
        self: &Arc<Self>,
        now: OffsetDateTime,
        count: &mut usize,
    ) -> Result<(), StoreError> {
        let mut next = None;
        while self.audit.check_room().is_ok() {
            let records = self.records.clone();
            let pruned = self.audited(async move {
                let author = Author::system(now);
                records.prune(now - KEPT_AFTER_END, author, next).await
            });
            let pruned = pruned.await?;
            *count = count.saturating_add(pruned.removed);
            for cause in pruned.unreadable {
                warn!(%cause, "cannot remove an expired record: it is unreadable");
            }
            next = pruned.next;
            if next.is_none() {
                break;
            }
        }
        let removed = self.prune_evidence().await?;
        if removed > 0 {
            info!(
                count = removed,
                "removed evidence of joins and certificates whose instances are gone"
            );
        }
        Ok(())
    }
}

/// The result of a store operation, or a failure after a timeout: a join cannot wait longer.
async fn in_time(answer: impl Future<Output = Result<(), StoreError>>) -> Result<(), String> {
    const STORE_TIMEOUT: Duration = Duration::from_secs(5);
    match tokio::time::timeout(STORE_TIMEOUT, answer).await {
        Ok(result) => result.map_err(|cause| cause.to_string()),
        Err(_) => Err("the store does not respond".to_owned()),
    }
}
