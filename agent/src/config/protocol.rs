//! By which protocol a host joins.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A protocol by which a host joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// `endorse.v1`: the key in the TPM is the key that is certified.
    Endorse,
    /// Those of Teleport's join services: an attestation key vouches for the TPM.
    Teleport,
}

impl Protocol {
    /// What files and messages call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Endorse => "endorse",
            Self::Teleport => "teleport",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the configuration and the command line say of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProtocolChoice {
    /// Found out at the first join, and kept
    #[default]
    Auto,
    /// endorse.v1
    Endorse,
    /// Teleport's join services
    Teleport,
}

impl ProtocolChoice {
    /// All of them, with their names.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("auto", Self::Auto),
        (Protocol::Endorse.name(), Self::Endorse),
        (Protocol::Teleport.name(), Self::Teleport),
    ];

    /// The one protocol to join by; without, the server decides it.
    #[must_use]
    pub const fn fixed(self) -> Option<Protocol> {
        match self {
            Self::Auto => None,
            Self::Endorse => Some(Protocol::Endorse),
            Self::Teleport => Some(Protocol::Teleport),
        }
    }
}
