//! One grant for join, renew and issue: judged by the records as they are now, and recorded only if
//! they have not changed meanwhile.
//!
//! A join may wait for its host for a minute between its first judgement and its grant, and an
//! operator may remove a bot between a call's judgement and its write. So each grant judges by the
//! records as they are, and its transaction requires them unchanged: if one has changed, nothing is
//! written, and the call is judged again.

use std::sync::Arc;

use time::OffsetDateTime;

use super::Authority;
use super::checks::{store_failed, targets};
use super::refusal::{Code, Refusal};
use crate::audit::Event;
use crate::issue::{ClusterName, Credentials, Keys};
use crate::resource::{Bot, BotInstance};
use crate::store::{Basis, EvidenceToKeep, Recorded, StoreError, Table};

/// How often a call is judged again because a record that it depends on was changed.
pub(super) const MAX_RETRIES: usize = 5;

/// A bot that exists and is not locked, and the records that say so.
pub(super) struct CheckedBot {
    /// As it is now: with its present roles.
    pub(super) bot: Bot,
    pub(super) basis: Basis,
}

/// A grant that is not recorded yet. The caller receives it after that.
pub(super) struct PendingGrant<I = Credentials> {
    pub(super) issued: I,
    /// What the audit log will say.
    pub(super) event: Event,
    /// What the instance becomes.
    pub(super) instance: BotInstance,
    pub(super) basis: Basis,
    /// The evidence of a join.
    pub(super) evidence: Option<EvidenceToKeep>,
    /// What the instance was; none for a join.
    pub(super) before: Option<Recorded>,
}

/// What a host gets: the recorded certificates, and the CAs to trust.
pub(crate) struct Grant<I = Credentials> {
    pub(crate) issued: I,
    /// The instance that they were issued to.
    pub(crate) instance: BotInstance,
    pub(crate) cluster: ClusterName,
    /// The cluster's CAs: those that sign, and those that did or will.
    pub(crate) cas: Arc<Keys>,
}

impl Authority {
    /// Checks that an instance's bot exists, and that neither the instance nor its bot, token and EK are locked. Returns the bot,
    /// and the records that were read.
    pub(super) async fn check_bot_and_locks(
        &self,
        instance: &BotInstance,
        now: OffsetDateTime,
    ) -> Result<CheckedBot, Refusal> {
        let (bot, token) = (&instance.spec.bot_name, &instance.status.join_token);
        let targets = targets(instance);
        // Read first, so that a change while the rest is read is noticed.
        let basis = self.records.basis(bot, token, &targets).await.map_err(store_failed)?;
        let bot = self.bot(bot, now).await?;
        self.check_locks(&targets, now).await?;
        Ok(CheckedBot { bot, basis })
    }

    /// Records a grant with its entry of the log, in one write. `None` if what it depends on
    /// has changed: the call must be judged again.
    pub(super) async fn record<I>(
        self: &Arc<Self>,
        pending: PendingGrant<I>,
    ) -> Result<Option<Grant<I>>, Refusal> {
        let PendingGrant { issued, event, instance, basis, evidence, before } = pending;
        self.audit.check_room().map_err(Refusal::because(Code::Internal))?;
        let event = event.entry().map_err(Refusal::because(Code::Internal))?;
        let records = self.records.clone();
        let recorded = self.audited(async move {
            let recorded = records.grant(before.as_ref(), instance, basis, evidence, event).await?;
            Ok(recorded.instance)
        });
        match recorded.await {
            Ok(instance) => Ok(Some(Grant {
                issued,
                instance,
                cluster: self.issuer.cluster().clone(),
                cas: self.issuer.keyring().keys(),
            })),
            // The instance exists if the same join was granted meanwhile, on another connection.
            Err(StoreError::Changed(..) | StoreError::Exists(Table::Instances, _)) => Ok(None),
            Err(cause) => Err(store_failed(cause)),
        }
    }
}

/// The refusal of a call that was overtaken each time that it was judged.
pub(super) fn overtaken() -> Refusal {
    Refusal::new(Code::Busy, "the resources that decide this call kept changing")
}
