//! What decides over joins and renewals alike: bot, token and its rules, locks.

use time::OffsetDateTime;

use super::Authority;
use super::refusal::{Code, Refusal};
use crate::resource::{
    Bot, BotInstance, EkHash, Name, ProvenEk, Rule, Serial, SystemRole, Target, TpmSpec,
};
use crate::store::StoreError;

/// A token that lets bots in by their TPMs, at this time.
pub(super) struct OpenToken {
    pub(super) name: Name,
    pub(super) bot: Name,
    pub(super) tpm: TpmSpec,
}

impl Authority {
    /// The token of this name.
    pub(super) async fn open_token(
        &self,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<OpenToken, Refusal> {
        let unknown = |cause: &dyn std::fmt::Display| Refusal::new(Code::TokenUnknown, cause);
        let name: Name = name.parse().map_err(|cause| unknown(&cause))?;
        let token = self.records.token(&name).await.map_err(store_failed)?;
        let token = token.ok_or_else(|| unknown(&format!("there is no token {name}")))?;
        if token.metadata.expired(now) {
            return Err(Refusal::new(Code::TokenExpired, format!("the token {name} has expired")));
        }
        let role = || Refusal::new(Code::TokenRole, "the token does not let bots join by TPM");
        if !token.spec.roles.contains(&SystemRole::Bot) {
            return Err(role());
        }
        match (token.spec.bot_name, token.spec.tpm) {
            (Some(bot), Some(tpm)) => Ok(OpenToken { name, bot, tpm }),
            _ => Err(role()),
        }
    }

    /// The bot of this name.
    pub(super) async fn bot(&self, name: &Name, now: OffsetDateTime) -> Result<Bot, Refusal> {
        let bot = self.records.bot(name).await.map_err(store_failed)?;
        bot.filter(|bot| !bot.metadata.expired(now)).ok_or_else(|| {
            Refusal::new(Code::BotUnknown, format!("there is no bot {name}, or it has expired"))
        })
    }

    /// Whether a lock keeps any of these out.
    pub(super) async fn unlocked(
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

    /// Whether the token by which an instance joined would still let it in. What was found of its
    /// EK is remembered; what the token demands is read anew.
    pub(super) async fn entitled(
        &self,
        instance: &BotInstance,
        now: OffsetDateTime,
    ) -> Result<(), Refusal> {
        let ek = &instance.status.ek;
        let token = self.open_token(instance.status.join_token.as_str(), now).await?;
        if token.bot != instance.spec.bot_name {
            let reason = format!("the token {} is for the bot {} now", token.name, token.bot);
            return Err(Refusal::new(Code::TokenRole, reason));
        }
        token.vouched(ek)?;
        token.tpm.admits(&ek.public_hash, ek.certificate_serial.as_ref())
    }
}

impl OpenToken {
    /// Whether the CA that vouched for the EK is one that the token names, if it names any.
    fn vouched(&self, ek: &ProvenEk) -> Result<(), Refusal> {
        let anchors = self.tpm.allowed_cas().map_err(Refusal::because(Code::Internal))?;
        let named = |by: &String| anchors.iter().any(|anchor| anchor.fingerprint() == *by);
        if anchors.is_empty() || ek.verified_by.as_ref().is_some_and(named) {
            return Ok(());
        }
        let reason = "no CA that the token names vouched for the EK when it joined";
        Err(Refusal::new(Code::EvidenceOutdated, reason))
    }
}

impl TpmSpec {
    /// Whether a rule matches: one of which everything that it sets is equal.
    pub(super) fn admits(&self, hash: &EkHash, serial: Option<&Serial>) -> Result<(), Refusal> {
        if self.allow.iter().any(|rule| rule.matches(hash, serial)) {
            return Ok(());
        }
        let reason = format!("no rule of the token allows the EK {hash}");
        Err(Refusal::new(Code::EkNotAllowed, reason))
    }
}

impl Rule {
    fn matches(&self, hash: &EkHash, serial: Option<&Serial>) -> bool {
        let hash = self.ek_public_hash.as_ref().map(|allowed| allowed == hash);
        let serial = self.ek_certificate_serial.as_ref().map(|allowed| Some(allowed) == serial);
        match (hash, serial) {
            // A rule that sets nothing is refused when it is made; here it would match everybody.
            (None, None) => false,
            (hash, serial) => hash.unwrap_or(true) && serial.unwrap_or(true),
        }
    }
}

/// All that can be locked of an instance.
pub(super) fn targets(instance: &BotInstance) -> [Target; 4] {
    [
        Target::Bot(instance.spec.bot_name.clone()),
        Target::Instance(instance.spec.instance_id.clone()),
        Target::Token(instance.status.join_token.clone()),
        Target::Ek(instance.status.ek.public_hash.clone()),
    ]
}

/// The authority's own trouble.
pub(super) fn store_failed(cause: StoreError) -> Refusal {
    Refusal::new(Code::Internal, cause)
}
