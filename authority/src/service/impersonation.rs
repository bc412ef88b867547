//! Certificates that an agent of Teleport asks for with its identity: for another key, with roles of its bot.

use time::OffsetDateTime;

use super::caller::Caller;
use super::refusal::{Code, Refusal};
use super::request::Parsed;
use crate::audit::bounded;
use crate::issue::{ClusterName, SubjectKey, Ttl};
use crate::resource::{Bot, user_name};

/// What such certificates are recorded as, in the place of a service's name, which agents of Teleport do not tell.
pub(crate) const SERVICE: &str = "tbot";

/// The request of such certificates.
pub(crate) struct Impersonation {
    /// The user that they are for: only the bot's own.
    pub(crate) user: String,
    /// The roles that they are to have.
    pub(crate) roles: Vec<String>,
    /// The cluster that they are for; its own if none is named.
    pub(crate) cluster: String,
    /// The key to certify. Nothing proves that the caller has it; without it, the certificates are of no use.
    pub(crate) key: Parsed<SubjectKey>,
    /// When they are to end, in seconds since 1970.
    pub(crate) expires: Option<i64>,
    /// Whether the holder is to get further certificates with them.
    pub(crate) reissuable: bool,
}

impl Impersonation {
    /// The bot with the roles that were asked for.
    ///
    /// # Errors
    /// The request is for more than the bot may have, or for what is not supported.
    pub(super) fn narrow(&self, mut bot: Bot, cluster: &ClusterName) -> Result<Bot, Refusal> {
        let user = user_name(&bot.metadata.name);
        let shown = |text: &str| format!("{:?}", bounded(text).unwrap_or_default());
        if self.user != user {
            let reason = format!("the certificates are to be for the user {}", shown(&self.user));
            return Err(Refusal::new(Code::ImpersonationRefused, reason));
        }
        if ![cluster.as_str(), ""].contains(&self.cluster.as_str()) {
            let reason = format!("the cluster {} does not exist", shown(&self.cluster));
            return Err(Refusal::new(Code::Malformed, reason));
        }
        if self.reissuable {
            let reason =
                "certificates that can ask for others are not supported: remove allow_reissue";
            return Err(Refusal::new(Code::Malformed, reason));
        }
        // The role that a bot has by itself allows nothing.
        let is_own =
            |role: &str| role == user || bot.spec.roles.iter().any(|own| own.as_str() == role);
        if let Some(role) = self.roles.iter().find(|role| !is_own(role)) {
            let reason = format!("the bot does not have the role {}", shown(role));
            return Err(Refusal::new(Code::ImpersonationRefused, reason));
        }
        bot.spec.roles.retain(|own| self.roles.iter().any(|role| role == own.as_str()));
        Ok(bot)
    }

    /// The lifetime that was asked for, at most that of the caller's certificate: its TPM has proven no more.
    pub(super) fn ttl(&self, caller: &Caller, now: OffsetDateTime) -> Parsed<Ttl> {
        let ends = [self.expires.unwrap_or(i64::MAX), caller.not_after.unix_timestamp()];
        Ttl::until(ends, now).map_err(Refusal::because(Code::Malformed))
    }
}
