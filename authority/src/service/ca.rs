//! The operators' requests about CAs, and the steps that authorities take without them.

use time::OffsetDateTime;
use tracing::{info, warn};

use super::Authority;
use super::admin::{Admin, AdminError};
use crate::audit::Author;
use crate::issue::{CaState, CaType};
use crate::keyring::{CaOverview, Caution, KeyringError, MemberState, Step, StoredKeyring};
use crate::resource::{BotInstanceStatus, Kind, Resource};
use crate::store::StoreError;

/// Bot instances that are named to an operator.
const MAX_NAMED: usize = 10;

/// How long after its publication another authority may still give hosts a bundle without a CA: its clock may be ahead, and it looks for
/// changes every other second.
const SPREAD: time::Duration = time::Duration::minutes(5);

/// Bot instances that are read at once.
const PAGE: usize = 256;

/// Who does not have a CA that is to sign yet, or has not renewed since a CA was tainted.
#[derive(Debug)]
pub(crate) struct Behind {
    /// Live authorities that have not loaded it, by name.
    pub(crate) authorities: Vec<String>,
    /// How many bot instances have got no certificate since.
    pub(crate) instances: u64,
    /// Some of them, as `BOT/UUID`.
    pub(crate) named: Vec<String>,
    /// What they lack.
    lacks: &'static str,
}

/// What was done, and what was not.
pub(crate) struct CaChanges {
    pub(crate) changes: Vec<CaChange>,
    /// Why the step was not taken with CAs of other types.
    pub(crate) left: Vec<String>,
}

/// What was done to a CA.
pub(crate) struct CaChange {
    pub(crate) ca_type: CaType,
    pub(crate) step: Step,
    pub(crate) key_id: String,
}

impl Admin {
    /// The CAs, and who does not have the next ones yet.
    pub(crate) async fn cas(&self) -> Result<Vec<(CaOverview, Option<Behind>)>, AdminError> {
        let keyring = self.keyring()?;
        let mut cas = Vec::new();
        for ca in keyring.cas().await {
            let behind = match (ca.state, ca.tainted) {
                (CaState::Next, _) => Some(self.0.behind(keyring, &ca).await?),
                (_, Some(version)) => Some(self.0.not_renewed(version).await?),
                (CaState::Active | CaState::Retired, None) => None,
            };
            cas.push((ca, behind));
        }
        Ok(cas)
    }

    /// Takes a step with the CAs of these types. With `rotate` the steps after it follow by themselves.
    pub(crate) async fn change_cas(
        &self,
        types: &[CaType],
        step: Step,
        caution: Caution,
        rotates: bool,
        author: Author,
    ) -> Result<CaChanges, AdminError> {
        let keyring = self.keyring()?;
        if matches!(step, Step::Activate | Step::Revoke) && caution == Caution::Wait {
            self.check_ready(keyring, types, step).await?;
        }
        // Each type is a write of its own. One that the step does not fit, perhaps because it was taken before, keeps no other back.
        let (mut changes, mut left) = (Vec::new(), Vec::new());
        for ca_type in types {
            let stepped = keyring.step(*ca_type, step, caution, rotates, author).await;
            self.0.deliver_audit().await;
            let key_id = match stepped {
                Ok(key_id) => key_id,
                Err(KeyringError::Refused(why)) => {
                    left.push(format!("{}: {why}", ca_type.as_str()));
                    continue;
                }
                Err(cause) => return Err(cause.into()),
            };
            let (ca_type, taken) = (*ca_type, step.as_str());
            info!(ca = ca_type.as_str(), step = taken, key_id, "an operator changed the CAs");
            changes.push(CaChange { ca_type, step, key_id });
        }
        match changes.is_empty() {
            true => Err(AdminError::InvalidArgument(left.join("; "))),
            false => Ok(CaChanges { changes, left }),
        }
    }

    async fn check_ready(
        &self,
        keyring: &StoredKeyring,
        types: &[CaType],
        step: Step,
    ) -> Result<(), AdminError> {
        for ca in keyring.cas().await.into_iter().filter(|ca| types.contains(&ca.ca_type)) {
            let behind = match (step, ca.state, ca.tainted) {
                (Step::Activate, CaState::Next, _) => self.0.behind(keyring, &ca).await?,
                (Step::Revoke, _, Some(version)) => self.0.not_renewed(version).await?,
                _ => continue,
            };
            if !behind.is_none() {
                return Err(AdminError::InvalidArgument(format!(
                    "{}: {behind}; wait until they have, or add --force",
                    ca.ca_type.as_str()
                )));
            }
        }
        Ok(())
    }
}

impl Authority {
    /// Who does not have this CA.
    async fn behind(
        &self,
        keyring: &StoredKeyring,
        ca: &CaOverview,
    ) -> Result<Behind, KeyringError> {
        let now = self.clock.now();
        let mut behind = Behind::who("do not have the next CA yet");
        for member in keyring.members(now).await? {
            let has_loaded = member.keyring.is_some_and(|keyring| keyring >= ca.revision);
            if member.state == MemberState::Live && !has_loaded {
                behind.authorities.push(member.name.to_string());
            }
        }
        // Who verifies JWTs asks for the keys; agents only pass them on.
        if ca.ca_type != CaType::Jwt {
            let spread = if keyring.is_shared() { SPREAD } else { time::Duration::ZERO };
            let since = ca.since.0 + spread;
            // An agent reports which document of the trust chain it has. Of one that does not, a join or a renewal since then has
            // brought the CA.
            let has_it = |status: &BotInstanceStatus| match status.trust_version {
                0 => status.renewed.unwrap_or(status.joined).0 >= since,
                version => version >= ca.version,
            };
            self.instances_behind(has_it, &mut behind).await?;
        }
        Ok(behind)
    }

    /// Who has certificates from before this document of the trust chain.
    async fn not_renewed(&self, version: u64) -> Result<Behind, KeyringError> {
        let mut behind = Behind::who("have not renewed since");
        let has_renewed = |status: &BotInstanceStatus| status.issued_version >= version;
        self.instances_behind(has_renewed, &mut behind).await?;
        Ok(behind)
    }

    /// An instance without a valid certificate is not waited for.
    async fn instances_behind(
        &self,
        has_it: impl Fn(&BotInstanceStatus) -> bool,
        behind: &mut Behind,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut after = None;
        loop {
            let page = self.records.page(Kind::BotInstance, None, after.as_deref(), PAGE).await?;
            let is_last = page.len() < PAGE;
            for (path, resource) in page {
                if let Resource::BotInstance(instance) = resource
                    && !instance.metadata.expired(now)
                    && !has_it(&instance.status)
                {
                    behind.instances = behind.instances.saturating_add(1);
                    if behind.named.len() < MAX_NAMED {
                        behind.named.push(path.clone());
                    }
                }
                after = Some(path);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Takes the steps of CAs that are due without an operator.
    pub(super) async fn take_due_steps(&self, keyring: &StoredKeyring, now: OffsetDateTime) {
        for (ca_type, step, is_urgent) in keyring.due(now).await {
            if let Err(cause) = self.take_due_step(keyring, ca_type, step, is_urgent, now).await {
                warn!(%cause, ca = ca_type.as_str(), step = step.as_str(), "cannot change the CAs");
            }
        }
    }

    async fn take_due_step(
        &self,
        keyring: &StoredKeyring,
        ca_type: CaType,
        step: Step,
        is_urgent: bool,
        now: OffsetDateTime,
    ) -> Result<(), KeyringError> {
        let cas = keyring.cas().await;
        let next = cas.iter().find(|ca| ca.ca_type == ca_type && ca.state == CaState::Next);
        if step == Step::Activate
            && !is_urgent
            && let Some(next) = next
            && !self.behind(keyring, next).await?.is_none()
        {
            return Ok(());
        }
        let caution = if is_urgent { Caution::Force } else { Caution::Wait };
        match keyring.step(ca_type, step, caution, true, Author::system(now)).await {
            Ok(key_id) => {
                self.deliver_audit().await;
                info!(ca = ca_type.as_str(), step = step.as_str(), key_id, "changed the CAs");
                Ok(())
            }
            // Another authority was first, or it is too early.
            Err(KeyringError::Refused(_)) => Ok(()),
            Err(cause) => Err(cause),
        }
    }
}

impl Behind {
    fn who(lacks: &'static str) -> Self {
        Self { authorities: Vec::new(), instances: 0, named: Vec::new(), lacks }
    }

    pub(crate) fn is_none(&self) -> bool {
        self.authorities.is_empty() && self.instances == 0
    }
}

impl std::fmt::Display for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        if !self.authorities.is_empty() {
            parts.push(format!("the authorities {}", self.authorities.join(", ")));
        }
        if self.instances > 0 {
            let more = if self.named.len() < MAX_NAMED { "" } else { ", .." };
            let named = self.named.join(", ");
            parts.push(format!("{} bot instances ({named}{more})", self.instances));
        }
        write!(f, "{} {}", parts.join(" and "), self.lacks)
    }
}
