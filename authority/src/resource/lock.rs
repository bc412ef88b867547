//! kind: lock

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::InstanceId;
use super::field::{EkHash, Invalid, Metadata, Name, Timestamp, user_name};
use super::printed::{self, Printed};

/// Refuses its target from the next call on, whatever certificate is presented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    kind: super::Kind,
    version: Version,
    /// Name, labels, expiry.
    #[serde(deserialize_with = "printed::part")]
    pub metadata: Metadata,
    /// Target, reason and end.
    #[serde(deserialize_with = "printed::part")]
    pub spec: LockSpec,
}

impl Printed for Lock {
    const IGNORED: &'static [&'static str] = &["status"];
    const UNSERVED: &'static [&'static str] = &["sub_kind", "scope"];
}

impl Printed for LockSpec {
    const IGNORED: &'static [&'static str] = &["created_at", "created_by"];
}

impl Printed for TargetFields {
    const UNSERVED: &'static [&'static str] = &[
        "role",
        "login",
        "node",
        "server_id",
        "mfa_device",
        "windows_desktop",
        "access_request",
        "device",
    ];
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Version {
    #[serde(rename = "v2")]
    V2,
}

/// The target of a lock, the reason, and its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockSpec {
    /// The target: exactly one field is set.
    #[serde(deserialize_with = "printed::part")]
    pub target: TargetFields,
    /// A description for operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The end of the lock. Without it, the lock applies until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

/// A target as a document has it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetFields {
    /// A bot with all its instances, by its user: `bot-` and its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// One instance of a bot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bot_instance_id: Option<InstanceId>,
    /// Who joined, or wants to, with this token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join_token: Option<Name>,
    /// Who has this endorsement key: one TPM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ek_public_hash: Option<EkHash>,
}

/// The target of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A bot with all its instances.
    Bot(Name),
    /// One instance of a bot.
    Instance(InstanceId),
    /// Who joined, or wants to, with this token.
    Token(Name),
    /// One TPM.
    Ek(EkHash),
}

impl Lock {
    /// A lock with this specification.
    pub fn new(metadata: Metadata, spec: LockSpec) -> Self {
        Self { kind: super::Kind::Lock, version: Version::V2, metadata, spec }
    }

    /// Checks what a single field cannot show.
    pub(super) fn complete(self) -> Result<Self, Invalid> {
        self.target().map(|_| self)
    }

    /// The target.
    pub fn target(&self) -> Result<Target, Invalid> {
        let fields = self.spec.target.clone();
        let bot = fields.user.map(|user| bot_of(&user)).transpose();
        let bot = bot.map_err(|cause| Invalid(format!("spec.target.user: {cause}")))?;
        let bot = bot.map(Target::Bot);
        let instance = fields.bot_instance_id.map(Target::Instance);
        let token = fields.join_token.map(Target::Token);
        let ek = fields.ek_public_hash.map(Target::Ek);
        let mut set = [bot, instance, token, ek].into_iter().flatten();
        match (set.next(), set.next()) {
            (Some(target), None) => Ok(target),
            _ => Err(Invalid(
                "spec.target: exactly one of 'user', 'bot_instance_id', 'join_token', \
                 'ek_public_hash' must be set"
                    .into(),
            )),
        }
    }

    /// When it ends; `None` if only by removal.
    pub fn ends(&self) -> Option<Timestamp> {
        self.metadata.expires.into_iter().chain(self.spec.expires).min()
    }

    /// Whether it applies at this time.
    pub fn in_force(&self, now: OffsetDateTime) -> bool {
        self.ends().is_none_or(|end| now < end.0)
    }
}

/// The bot that has this user.
pub fn bot_of(user: &str) -> Result<Name, Invalid> {
    let name = user.strip_prefix("bot-").and_then(|name| name.parse().ok());
    name.ok_or_else(|| Invalid(format!("{user:?} is not the user of a bot, such as bot-example")))
}

impl From<Target> for TargetFields {
    fn from(target: Target) -> Self {
        let none = Self::default();
        match target {
            Target::Bot(name) => Self { user: Some(user_name(&name)), ..none },
            Target::Instance(id) => Self { bot_instance_id: Some(id), ..none },
            Target::Token(name) => Self { join_token: Some(name), ..none },
            Target::Ek(hash) => Self { ek_public_hash: Some(hash), ..none },
        }
    }
}

/// The form by which the store finds a target's locks. No part of it holds a slash.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bot(name) => write!(f, "bot/{name}"),
            Self::Instance(id) => write!(f, "instance/{id}"),
            Self::Token(name) => write!(f, "token/{name}"),
            Self::Ek(hash) => write!(f, "ek/{hash}"),
        }
    }
}
