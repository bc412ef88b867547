//! By which protocol a host joins.

use std::fmt;

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
