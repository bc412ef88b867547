//! An attestation key that certifies its own creation, as go-attestation shows it: TPM2_CertifyCreation by the new key itself.
//!
//! A key that signs about itself proves nothing that software could not: that it is in a TPM, only the
//! [challenge](crate::Challenge) shows. What is checked here is what the key may do, and that its public area, creation data and
//! attestation belong together.

use std::fmt;

use tpm2::types::{CreationData, NameBuf};
use tpm2::wire::Unmarshal;

use crate::attestation::{Attestation, AttestationError};
use crate::attestation_key::{AttestationKey, AttestationKeyError};
use crate::effort::Effort;

/// An attestation key and what it says about its creation. Nothing in it is trusted.
#[derive(Clone, Copy, Debug)]
pub struct AkClaim<'a> {
    /// TPMT_PUBLIC.
    pub public: &'a [u8],
    /// TPMS_CREATION_DATA.
    pub creation_data: &'a [u8],
    /// What TPM2_CertifyCreation returned, without qualifying data: the challenge makes a join fresh.
    pub attestation: Attestation<'a>,
}

impl AkClaim<'_> {
    /// Appraises the key: RSASSA or ECDSA, and created as it says. Its signature is charged even if it is genuine, since
    /// software can make as many keys as it likes.
    pub(crate) fn appraise(&self, effort: &mut Effort) -> Result<AttestationKey, AkError> {
        let key = AttestationKey::appraise(self.public).map_err(AkError::Key)?;
        if key.is_pss() {
            return Err(AkError::Pss);
        }
        let malformed = |error| AkError::Creation(AttestationError::CreationData(error));
        let creation = CreationData::from_bytes(self.creation_data).map_err(malformed)?;
        let parent =
            NameBuf::new(creation.parent_qualified_name.octets()).ok_or(AkError::Parent)?;
        // The qualified Name of the signer contains that of its parent. Part 1, Qualified Name.
        let key = key.under(&parent).map_err(AkError::Key)?;
        effort.take_signature(&key.public_key()).ok_or(AkError::EffortSpent)?;
        key.created(self.attestation, &[], self.public, self.creation_data)
            .map_err(AkError::Creation)?;
        Ok(key)
    }
}

/// Why an attestation key and its creation are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AkError {
    /// The public area is not an attestation key's.
    Key(AttestationKeyError),
    /// RSAPSS, which no client uses for this, and Teleport refuses.
    Pss,
    /// Created under no parent.
    Parent,
    /// The attestation of its creation.
    Creation(AttestationError),
    /// Its signature would cost too much.
    EffortSpent,
}

impl AkError {
    /// A short word for logs, metrics and tests. Stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Key(AttestationKeyError::Attributes(_)) => "ak_attributes",
            Self::Key(AttestationKeyError::NameAlgorithm(_)) => "ak_name_algorithm",
            Self::Key(AttestationKeyError::SchemeHash(_) | AttestationKeyError::Template(_))
            | Self::Pss => "ak_template",
            Self::Key(_) => "ak_malformed",
            Self::Parent | Self::Creation(AttestationError::CreationData(_)) => {
                "ak_creation_malformed"
            }
            Self::Creation(AttestationError::OtherCreation) => "ak_creation_differs",
            Self::Creation(AttestationError::Signature) => "ak_signature",
            Self::Creation(AttestationError::Kind(_)) => "ak_attestation_kind",
            Self::Creation(AttestationError::Nonce) => "ak_attestation_nonce",
            Self::Creation(AttestationError::Signer) => "ak_attestation_signer",
            Self::Creation(AttestationError::OtherObject) => "ak_attestation_other_key",
            Self::Creation(_) => "ak_attestation_malformed",
            Self::EffortSpent => "effort_spent",
        }
    }
}

impl fmt::Display for AkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(error) => error.fmt(f),
            Self::Pss => f.write_str("the attestation key's scheme is RSAPSS, not RSASSA"),
            Self::Parent => f.write_str("the attestation key's creation data names no parent"),
            Self::Creation(error) => write!(f, "the attestation key's creation: {error}"),
            Self::EffortSpent => f.write_str("the signature check would cost too much"),
        }
    }
}

impl std::error::Error for AkError {}
