//! What an operator writes: bots and tokens, in the YAML that Teleport's documents use.
//!
//! A value of these types is well-formed: names, hashes, serials, times and certificates were
//! checked and brought into one form when it was read.

mod bot;
mod document;
mod field;
mod token;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use bot::{Bot, BotSpec, SessionTtl, Trait};
pub use document::{DocumentError, read, to_yaml};
pub use field::{EkHash, Invalid, Labels, Metadata, Name, Role, Serial, Timestamp};
pub use token::{JoinMethod, Rule, SystemRole, Token, TokenSpec, TpmSpec};

/// What kinds of resource there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A machine's identity, and the roles that it carries.
    Bot,
    /// Who may join as which bot, and how.
    Token,
}

/// A resource of any kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Resource {
    /// See [`Kind::Bot`].
    Bot(Bot),
    /// See [`Kind::Token`].
    Token(Token),
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Bot, Self::Token];

    /// As `kind:` in a document has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bot => "bot",
            Self::Token => "token",
        }
    }

    /// Also takes the plural, as command lines do.
    pub fn from_word(word: &str) -> Option<Self> {
        let singular = word.strip_suffix('s').unwrap_or(word);
        Self::ALL.into_iter().find(|kind| kind.as_str() == singular)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Resource {
    /// Reads what was stored. It was checked when it was created, by the rules of its time.
    pub fn from_json(kind: Kind, json: &str) -> serde_json::Result<Self> {
        match kind {
            Kind::Bot => serde_json::from_str(json).map(Self::Bot),
            Kind::Token => serde_json::from_str(json).map(Self::Token),
        }
    }

    /// Which kind it is of.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Bot(_) => Kind::Bot,
            Self::Token(_) => Kind::Token,
        }
    }

    /// Unique within the kind.
    pub fn name(&self) -> &Name {
        match self {
            Self::Bot(bot) => &bot.metadata.name,
            Self::Token(token) => &token.metadata.name,
        }
    }
}

#[cfg(test)]
mod tests;
