//! The checks that joins and renewals share: bot, token and its rules, locks.

use std::sync::Arc;

use time::OffsetDateTime;

use super::Authority;
use super::refusal::{Code, Refusal};
use super::token_cache::OpenToken;
use crate::resource::{Bot, BotInstance, Name, Target};
use crate::store::StoreError;

impl Authority {
    /// The bot of this name.
    pub(super) async fn bot(&self, name: &Name, now: OffsetDateTime) -> Result<Bot, Refusal> {
        let bot = self.records.bot(name).await.map_err(store_failed)?;
        bot.filter(|bot| !bot.metadata.expired(now)).ok_or_else(|| {
            Refusal::new(Code::BotUnknown, format!("the bot {name} does not exist or has expired"))
        })
    }

    /// Refuses if a lock is in force on one of these targets.
    pub(super) async fn check_locks(
        &self,
        targets: &[Target],
        now: OffsetDateTime,
    ) -> Result<(), Refusal> {
        match self.records.lock_on(targets, now).await.map_err(store_failed)? {
            None => Ok(()),
            Some(lock) => {
                let message = lock.spec.message.as_deref().unwrap_or("no message");
                let reason = format!("the lock {} is in force: {message}", lock.metadata.name);
                Err(Refusal::new(Code::Locked, reason))
            }
        }
    }

    /// Refuses if the token with which an instance joined does not allow its EK any more. The EK was proven at the join; what
    /// the token requires is read again. Returns the token.
    pub(super) async fn check_token(
        &self,
        instance: &BotInstance,
        now: OffsetDateTime,
    ) -> Result<Arc<OpenToken>, Refusal> {
        let ek = &instance.status.ek;
        let token = self.open_token(instance.status.join_token.as_str(), now).await?;
        if token.bot != instance.spec.bot_name {
            let reason = format!("the token {} is now for the bot {}", token.name, token.bot);
            return Err(Refusal::new(Code::TokenBot, reason));
        }
        token.check_ca(ek)?;
        token.check_rules(ek)?;
        Ok(token)
    }
}

/// The targets of all locks that apply to an instance.
pub(super) fn targets(instance: &BotInstance) -> [Target; 4] {
    [
        Target::Bot(instance.spec.bot_name.clone()),
        Target::Instance(instance.spec.instance_id.clone()),
        Target::Token(instance.status.join_token.clone()),
        Target::Ek(instance.status.ek.public_hash.clone()),
    ]
}

/// A refusal because the store failed, or has too much to do.
pub(super) fn store_failed(cause: StoreError) -> Refusal {
    let code = match cause {
        StoreError::Overloaded(_) => Code::Busy,
        _ => Code::Internal,
    };
    Refusal::new(code, cause)
}
