//! The public keys of the cluster as documents, for the bundle endpoint and for operators.

use super::Authority;
use crate::issue::{IssueError, jwks, openid_configuration, spiffe_bundle};

/// A document with public keys, or about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Document {
    /// The SPIFFE bundle.
    SpiffeBundle,
    /// The keys that JWTs are verified by.
    Jwks,
    /// Where receivers of JWTs find them.
    OpenIdConfiguration,
}

impl Document {
    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SpiffeBundle => "spiffe_bundle",
            Self::Jwks => "jwks",
            Self::OpenIdConfiguration => "openid_configuration",
        }
    }
}

impl Authority {
    /// A document, JSON; `None` for the discovery document of an authority without an issuer.
    pub(crate) fn document(&self, document: Document) -> Result<Option<String>, IssueError> {
        let keys = self.issuer.keyring().keys();
        match (document, &self.issuer.jwt_settings().issuer) {
            (Document::SpiffeBundle, _) => spiffe_bundle(&keys).map(Some),
            (Document::Jwks, _) => jwks(&keys).map(Some),
            (Document::OpenIdConfiguration, Some(issuer)) => {
                openid_configuration(issuer, &keys).map(Some)
            }
            (Document::OpenIdConfiguration, None) => Ok(None),
        }
    }
}
