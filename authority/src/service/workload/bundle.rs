//! What workloads trust.

use std::sync::Arc;

use crate::audit::{Action, Attempt};
use crate::issue::{ClusterName, Keys};
use crate::service::caller::Caller;
use crate::service::refusal::Refusal;
use crate::service::{Authority, Peer};

/// The CAs of the trust domain.
pub(crate) struct TrustBundle {
    pub(crate) cluster: ClusterName,
    pub(crate) cas: Arc<Keys>,
}

impl Authority {
    /// The trust bundle, for a bot instance whose key is in its TPM. A refusal is recorded for the operator.
    pub(crate) async fn trust_bundle(&self, peer: &Peer) -> Result<TrustBundle, Refusal> {
        let mut attempt = Attempt::from(peer.remote);
        let result = self.bundle_for(peer, &mut attempt).await;
        self.count(Action::TrustBundle, &result);
        result.inspect_err(|refusal| {
            self.record_refusal(Action::TrustBundle, peer, attempt, refusal);
        })
    }

    async fn bundle_for(&self, peer: &Peer, attempt: &mut Attempt) -> Result<TrustBundle, Refusal> {
        let caller = Caller::of(peer, self)?;
        attempt.bot_name = Some(caller.subject.bot.clone());
        attempt.bot_instance_id = Some(caller.subject.instance.to_string());
        let records = self.caller_records(&caller, self.clock.now()).await?;
        records.check_is_instance(&caller)?;
        records.check_key_in_tpm()?;
        let (cluster, cas) = (self.issuer.cluster().clone(), self.issuer.keyring().keys());
        Ok(TrustBundle { cluster, cas })
    }
}
