//! Who a caller with a certificate of the cluster is.

use super::caller::Caller;
use super::refusal::Refusal;
use super::{Authority, Peer};
use crate::audit::{Action, Attempt};
use crate::resource::Bot;

impl Authority {
    /// The caller's identity, for the caller. Agents that have no certificate yet call this to find out whether the server is an
    /// authority. They are refused nothing that they ask for, so such a call is counted, but is no refusal for the operator.
    pub(crate) async fn who_am_i(&self, peer: &Peer) -> Result<Caller, Refusal> {
        if peer.certificate.is_some() {
            return self.identify(peer).await;
        }
        let result = Caller::of(peer, self);
        self.count(Action::WhoAmI, &result);
        result
    }

    /// The caller of a call that needs one. A refusal is recorded for the operator.
    pub(crate) async fn identify(&self, peer: &Peer) -> Result<Caller, Refusal> {
        let mut attempt = Attempt::from(peer.remote);
        let result = self.known(peer, &mut attempt).await;
        self.count(Action::WhoAmI, &result);
        result.inspect_err(|refusal| {
            self.record_refusal(Action::WhoAmI, peer, attempt, refusal);
        })
    }

    /// The bot of a caller, with its present roles.
    pub(crate) async fn bot_of(&self, caller: &Caller) -> Result<Bot, Refusal> {
        self.bot(&caller.subject.bot, self.clock.now()).await
    }

    async fn known(&self, peer: &Peer, attempt: &mut Attempt) -> Result<Caller, Refusal> {
        let caller = Caller::of(peer, self)?;
        attempt.bot_name = Some(caller.subject.bot.clone());
        attempt.bot_instance_id = Some(caller.subject.instance.to_string());
        self.caller_records(&caller, self.clock.now()).await?;
        Ok(caller)
    }
}
