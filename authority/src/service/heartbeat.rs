//! What agents of Teleport say about themselves every half hour, for operators.

use super::caller::Caller;
use super::checks::store_failed;
use super::grant::{MAX_RETRIES, overtaken};
use super::refusal::Refusal;
use super::{Authority, Peer};
use crate::audit::bounded;
use crate::resource::{AgentInfo, Heartbeat, Timestamp};
use crate::store::StoreError;

/// A heartbeat that says the same as the one before is not stored again within this time: each costs a write.
const MIN_INTERVAL: time::Duration = time::Duration::minutes(1);

impl Authority {
    /// Records a heartbeat of the caller's instance.
    pub(crate) async fn heartbeat(&self, peer: &Peer, agent: AgentInfo) -> Result<(), Refusal> {
        let caller = self.identify(peer).await?;
        let text = |text: &str| bounded(text).unwrap_or_default();
        let agent = AgentInfo {
            version: text(&agent.version),
            hostname: text(&agent.hostname),
            os: text(&agent.os),
            architecture: text(&agent.architecture),
            join_method: text(&agent.join_method),
        };
        self.call_queues.run(&caller.key_hash, self.record_heartbeat(&caller, &agent)).await
    }

    async fn record_heartbeat(&self, caller: &Caller, agent: &AgentInfo) -> Result<(), Refusal> {
        for _ in 0..=MAX_RETRIES {
            let now = self.clock.now();
            let records = self.caller_records(caller, now).await?;
            records.check_is_instance(caller)?;
            let before = records.recorded;
            let is_repeated = |last: &Heartbeat| {
                last.agent == *agent && (now - last.recorded.0).abs() < MIN_INTERVAL
            };
            if before.instance.status.heartbeat.as_ref().is_some_and(is_repeated) {
                return Ok(());
            }
            let mut instance = before.instance.clone();
            let recorded = Timestamp(now);
            instance.status.heartbeat = Some(Heartbeat { recorded, agent: agent.clone() });
            instance.status.last_seen = recorded;
            match self.records.update(&before, &instance).await {
                Err(StoreError::Changed(..)) => {}
                result => return result.map_err(store_failed),
            }
        }
        Err(overtaken())
    }
}
