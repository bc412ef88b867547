//! What an operator writes: bots, tokens, locks and workload identities, in the YAML that Teleport's documents use; and
//! what the authority writes in the same form: bot instances.
//!
//! A value of these types is well-formed: names, hashes, serials, times and certificates were
//! checked and brought into one form when it was read.

mod attributes;
mod bot;
mod document;
mod field;
mod instance;
mod join_id;
mod lock;
mod printed;
mod record;
mod spiffe;
mod token;
mod workload_identity;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use attributes::Attributes;
pub use bot::{Bot, BotSpec, SessionTtl, Trait};
pub use document::{DocumentError, Unreadable, read, read_with, to_yaml};
pub use field::{
    EkHash, Invalid, IssuerName, Labels, Metadata, Name, Role, Serial, Timestamp, user_name,
};
pub use instance::{
    AgentInfo, BotInstance, BotInstanceSpec, BotInstanceStatus, Heartbeat, InstanceId, KeyLocation,
    ProvenEk, ProvenKey, ServiceRecord, instance_path,
};
pub use join_id::JoinId;
pub use lock::{Lock, LockSpec, Target, TargetFields, bot_of};
pub use record::{from_record, from_value};
pub use spiffe::{DnsName, HostPrincipal, SpiffeId};
pub use token::{Join, JoinMethod, PurposePolicy, Rule, SystemRole, Token, TokenSpec, TpmSpec};
pub use workload_identity::{RenderError, SvidAttributes, WorkloadIdentity};

/// What kinds of resource there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A machine's identity, and the roles that it carries.
    Bot,
    /// Who may join as which bot, and how.
    Token,
    /// Denies joins and renewals.
    Lock,
    /// A host that joined.
    BotInstance,
    /// What workloads are called, and which may have the identity.
    WorkloadIdentity,
}

/// A resource of any kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Resource {
    /// See [`Kind::Bot`].
    Bot(Bot),
    /// See [`Kind::Token`].
    Token(Token),
    /// See [`Kind::Lock`].
    Lock(Lock),
    /// See [`Kind::BotInstance`].
    BotInstance(Box<BotInstance>),
    /// See [`Kind::WorkloadIdentity`].
    WorkloadIdentity(Box<WorkloadIdentity>),
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Bot, Self::Token, Self::Lock, Self::WorkloadIdentity, Self::BotInstance];

    /// All of them, for messages.
    pub const NAMES: &str = "bot, token, lock, workload_identity, bot_instance";

    /// As `kind:` in a document has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bot => "bot",
            Self::Token => "token",
            Self::Lock => "lock",
            Self::BotInstance => "bot_instance",
            Self::WorkloadIdentity => "workload_identity",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Bot => "bots",
            Self::Token => "tokens",
            Self::Lock => "locks",
            Self::BotInstance => "bot_instances",
            Self::WorkloadIdentity => "workload_identities",
        }
    }

    /// Also takes the plural, as command lines do.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| [kind.as_str(), kind.plural()].contains(&word))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Resource {
    /// Reads what was stored, maybe by another version. It was checked when it was created, by the
    /// rules of its time.
    pub fn from_json(kind: Kind, json: &str) -> serde_json::Result<Self> {
        let json = json.as_bytes();
        match kind {
            Kind::Bot => from_record(json).map(Self::Bot),
            Kind::Token => from_record(json).map(Self::Token),
            Kind::Lock => from_record(json).map(Self::Lock),
            Kind::BotInstance => from_record(json).map(Self::BotInstance),
            Kind::WorkloadIdentity => from_record(json).map(Self::WorkloadIdentity),
        }
    }

    /// Which kind it is of.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Bot(_) => Kind::Bot,
            Self::Token(_) => Kind::Token,
            Self::Lock(_) => Kind::Lock,
            Self::BotInstance(_) => Kind::BotInstance,
            Self::WorkloadIdentity(_) => Kind::WorkloadIdentity,
        }
    }

    /// Unique within the kind.
    pub fn name(&self) -> &Name {
        &self.metadata().name
    }

    /// Name, labels, expiry.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Bot(bot) => &bot.metadata,
            Self::Token(token) => &token.metadata,
            Self::Lock(lock) => &lock.metadata,
            Self::BotInstance(instance) => &instance.metadata,
            Self::WorkloadIdentity(identity) => &identity.metadata,
        }
    }
}

#[cfg(test)]
mod tests;
