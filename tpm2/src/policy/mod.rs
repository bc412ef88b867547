//! Policies as values: one description computes the digest that goes into an object's public area, and is run in a session
//! when the object is to be used. Part 1 §19.7, Part 3 §23.
//!
//! Data that the TPM unseals while PCR 7 holds what it holds now, given a PIN:
//!
//! ```no_run
//! # use tpm2::{Tpm, object::Loaded, pcr, transport::Transport};
//! use tpm2::crypto::HashAlg;
//! use tpm2::policy::{Policy, Step};
//! use tpm2::seal::{seal, unseal};
//! use tpm2::session::Auth;
//! use tpm2::types::{Alg, Digest, PcrBits};
//! use tpm2::wire::List;
//!
//! # fn example<T: Transport>(tpm: &mut Tpm<T>, srk: &Loaded) -> Result<(), Box<dyn std::error::Error>> {
//! let selected = PcrBits::of(&[7]).ok_or("a PCR")?;
//! let pcrs = [selected.bank(Alg::SHA256)];
//! let now = pcr::digest(tpm, HashAlg::Sha256, &pcrs)?;
//! let steps = [Step::Pcr { pcrs: List::new(&pcrs), digest: Digest::from(&now) }, Step::AuthValue];
//! let digest = Policy::new(&steps).digest(HashAlg::Sha256)?;
//! let sealed = seal(tpm, srk, Auth::EMPTY, b"secret", &digest, b"PIN")?;
//!
//! let data = unseal(tpm, srk, Auth::EMPTY, &sealed, &Policy::new(&steps), b"PIN")?;
//! # let _ = data;
//! # Ok(())
//! # }
//! ```
//!
//! What a policy cannot know by itself, such as passwords, signatures and which of several branches is to be taken, it asks
//! of a [`Responder`] when it runs; [`Prepared`] is one with answers that are there before.

mod prepared;
mod run;

pub use prepared::Prepared;
pub use run::{Consent, Responder, SignedRequest, Unaided};
#[cfg(feature = "key-file")]
pub(crate) use run::{StepVisitor, visit};

use crate::crypto::{HashAlg, PolicyDigest, PolicyError};
use crate::types::{
    AnyEntity, Capability, CommandCode, Comparison, Digest, Entity, Locality, Name, NameBuf, Nonce,
    NvAuth, NvIndex, Object, PcrSelections,
};

/// A policy: all of its steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy<'p> {
    steps: &'p [Step<'p>],
}

/// One policy command, without what is known only when it runs. Part 3 §23.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step<'p> {
    /// `TPM2_PolicySigned`: the holder of a key agrees.
    #[doc(alias = "TPM2_PolicySigned")]
    Signed {
        /// The key; its handle counts only when the policy runs.
        key: Object,
        /// What the signer says it is good for.
        policy_ref: Nonce<'p>,
    },
    /// `TPM2_PolicySecret`: the authorization value of an entity is known.
    #[doc(alias = "TPM2_PolicySecret")]
    Secret {
        /// The entity.
        entity: AnyEntity,
        /// What it is good for.
        policy_ref: Nonce<'p>,
    },
    /// `TPM2_PolicyOR`: the steps so far, and those of one of two to eight branches. More are nested.
    #[doc(alias = "TPM2_PolicyOR")]
    Or(&'p [Policy<'p>]),
    /// `TPM2_PolicyPCR`.
    #[doc(alias = "TPM2_PolicyPCR")]
    Pcr {
        /// The PCRs.
        pcrs: PcrSelections<'p>,
        /// The digest of their values; empty for those that they have when the policy runs, which has no digest then.
        digest: Digest<'p>,
    },
    /// `TPM2_PolicyLocality`.
    #[doc(alias = "TPM2_PolicyLocality")]
    Locality(Locality),
    /// `TPM2_PolicyNV`: what an index holds compares so with an operand.
    #[doc(alias = "TPM2_PolicyNV")]
    Nv {
        /// Who may read the index.
        by: NvAuth,
        /// The index.
        index: NvIndex,
        /// What is compared with.
        operand: Digest<'p>,
        /// Where in the index, in octets.
        offset: u16,
        /// How.
        operation: Comparison,
    },
    /// `TPM2_PolicyCounterTimer`: a part of `TPMS_TIME_INFO` compares so with an operand.
    #[doc(alias = "TPM2_PolicyCounterTimer")]
    CounterTimer {
        /// What is compared with.
        operand: Digest<'p>,
        /// Where in the structure, in octets.
        offset: u16,
        /// How.
        operation: Comparison,
    },
    /// `TPM2_PolicyCapability`: a property of the TPM compares so with an operand.
    #[doc(alias = "TPM2_PolicyCapability")]
    Capability {
        /// What is compared with.
        operand: Digest<'p>,
        /// Where in the property, in octets.
        offset: u16,
        /// How.
        operation: Comparison,
        /// The kind of property.
        capability: Capability,
        /// The property.
        property: u32,
    },
    /// `TPM2_PolicyCommandCode`.
    #[doc(alias = "TPM2_PolicyCommandCode")]
    CommandCode(CommandCode),
    /// `TPM2_PolicyPhysicalPresence`.
    #[doc(alias = "TPM2_PolicyPhysicalPresence")]
    PhysicalPresence,
    /// `TPM2_PolicyCpHash`, of [`cp_hash`](crate::session::cp_hash).
    #[doc(alias = "TPM2_PolicyCpHash")]
    CpHash(Digest<'p>),
    /// `TPM2_PolicyNameHash`, of [`name_hash`](crate::session::name_hash).
    #[doc(alias = "TPM2_PolicyNameHash")]
    NameHash(Digest<'p>),
    /// `TPM2_PolicyTemplate`, of the digest of a template.
    #[doc(alias = "TPM2_PolicyTemplate")]
    Template(Digest<'p>),
    /// `TPM2_PolicyParameters`, of [`parameter_hash`](crate::session::parameter_hash).
    #[doc(alias = "TPM2_PolicyParameters")]
    Parameters(Digest<'p>),
    /// `TPM2_PolicyDuplicationSelect`: to this new parent; of this object if there is one.
    #[doc(alias = "TPM2_PolicyDuplicationSelect")]
    DuplicationSelect {
        /// The object, if it must be this one.
        object: Option<Name<'p>>,
        /// The new parent.
        new_parent: Name<'p>,
    },
    /// `TPM2_PolicyAuthorize`: the holder of a key has approved the steps so far, which the digest forgets: any other
    /// steps that are approved do as well.
    #[doc(alias = "TPM2_PolicyAuthorize")]
    Authorize {
        /// The key.
        key: Name<'p>,
        /// What the approval is good for.
        policy_ref: Nonce<'p>,
    },
    /// `TPM2_PolicyAuthorizeNV`: the digest of the steps so far is written in an index. The digest forgets them.
    #[doc(alias = "TPM2_PolicyAuthorizeNV")]
    AuthorizeNv {
        /// Who may read the index.
        by: NvAuth,
        /// The index.
        index: NvIndex,
    },
    /// `TPM2_PolicyAuthValue`: the authorization value of the object, by HMAC.
    #[doc(alias = "TPM2_PolicyAuthValue")]
    AuthValue,
    /// `TPM2_PolicyPassword`: the authorization value of the object, in the clear. The digest is that of
    /// [`Self::AuthValue`].
    #[doc(alias = "TPM2_PolicyPassword")]
    Password,
    /// `TPM2_PolicyNvWritten`: the index has been written, or has not.
    #[doc(alias = "TPM2_PolicyNvWritten")]
    NvWritten(bool),
    /// `TPM2_PolicyTransportSPDM`: over a secure channel, between these keys if they are named.
    #[doc(alias = "TPM2_PolicyTransportSPDM")]
    TransportSpdm {
        /// The requester's key.
        requester: Option<Name<'p>>,
        /// The TPM's key.
        tpm: Option<Name<'p>>,
    },
    /// `TPM2_Policy_AC_SendSelect`: to this attached component by this authority; of this object if there is one.
    #[doc(alias = "TPM2_Policy_AC_SendSelect")]
    AcSendSelect {
        /// The object, if it must be this one.
        object: Option<Name<'p>>,
        /// The authority.
        auth_handle: Name<'p>,
        /// The component.
        ac: Name<'p>,
    },
}

impl<'p> Policy<'p> {
    /// A policy of these steps.
    #[must_use]
    pub const fn new(steps: &'p [Step<'p>]) -> Self {
        Self { steps }
    }

    /// The steps.
    #[must_use]
    pub const fn steps(&self) -> &'p [Step<'p>] {
        self.steps
    }

    /// The digest, for the public area of an object whose name algorithm is `hash`.
    ///
    /// # Errors
    /// See [`PolicyError`].
    pub fn digest(&self, hash: HashAlg) -> Result<PolicyDigest, PolicyError> {
        self.extend(PolicyDigest::new(hash))
    }

    /// The digest after these steps, if it was `before` before them.
    pub(crate) fn extend(&self, before: PolicyDigest) -> Result<PolicyDigest, PolicyError> {
        self.steps.iter().try_fold(before, |digest, step| step.extend(digest))
    }
}

impl Step<'_> {
    /// The digest after this step.
    pub(crate) fn extend(&self, before: PolicyDigest) -> Result<PolicyDigest, PolicyError> {
        let named = |entity: &dyn Entity| entity.name().ok_or(PolicyError::Unnamed);
        Ok(match *self {
            Self::Signed { key, policy_ref } => before.signed(&named(&key)?, policy_ref.octets()),
            Self::Secret { entity, policy_ref } => {
                before.secret(&named(&entity)?, policy_ref.octets())
            }
            Self::Or(branches) => either(before, branches)?,
            Self::Pcr { digest, .. } if digest.octets().len() != before.hash().digest_len() => {
                return Err(PolicyError::Values);
            }
            Self::Pcr { pcrs, digest } => before.pcr(&pcrs, &digest.into())?,
            Self::Nv { index, operand, offset, operation, .. } => {
                before.nv(&named(&index)?, operand.octets(), offset, operation)
            }
            Self::CounterTimer { operand, offset, operation } => {
                before.counter_timer(operand.octets(), offset, operation)
            }
            Self::Capability { operand, offset, operation, capability, property } => {
                before.capability(operand.octets(), offset, operation, capability, property)
            }
            Self::Authorize { key, policy_ref } => {
                before.authorize(&key.into(), policy_ref.octets())
            }
            Self::AuthorizeNv { index, .. } => before.authorize_nv(&named(&index)?),
            _ => self.extend_by_use(before),
        })
    }

    /// Of the steps that restrict what the object is used for, and how.
    fn extend_by_use(&self, before: PolicyDigest) -> PolicyDigest {
        let buf = |name: Option<Name<'_>>| name.map(NameBuf::from);
        match *self {
            Self::Locality(locality) => before.locality(locality),
            Self::CommandCode(code) => before.command_code(code),
            Self::PhysicalPresence => before.physical_presence(),
            Self::CpHash(digest) => before.cp_hash(&digest.into()),
            Self::NameHash(digest) => before.name_hash(&digest.into()),
            Self::Template(digest) => before.template(&digest.into()),
            Self::Parameters(digest) => before.parameters(&digest.into()),
            Self::DuplicationSelect { object, new_parent } => {
                before.duplication_select(buf(object).as_ref(), &new_parent.into())
            }
            Self::AuthValue => before.auth_value(),
            Self::Password => before.password(),
            Self::NvWritten(true) => before.nv_written(),
            Self::NvWritten(false) => before.nv_not_written(),
            Self::TransportSpdm { requester, tpm } => {
                before.transport_spdm(buf(requester).as_ref(), buf(tpm).as_ref())
            }
            Self::AcSendSelect { object, auth_handle, ac } => {
                before.ac_send_select(buf(object).as_ref(), &auth_handle.into(), &ac.into())
            }
            Self::Signed { .. }
            | Self::Secret { .. }
            | Self::Or(_)
            | Self::Pcr { .. }
            | Self::Nv { .. }
            | Self::CounterTimer { .. }
            | Self::Capability { .. }
            | Self::Authorize { .. }
            | Self::AuthorizeNv { .. } => before,
        }
    }
}

/// The most branches of a PolicyOR. Part 3 §23.6.
const MAX_BRANCHES: usize = 8;

/// The digest of each branch, from the same beginning; the rest are empty.
fn branches(
    before: PolicyDigest,
    branches: &[Policy<'_>],
) -> Result<[PolicyDigest; MAX_BRANCHES], PolicyError> {
    if !(2..=MAX_BRANCHES).contains(&branches.len()) {
        return Err(PolicyError::Branches(branches.len()));
    }
    let mut digests = [before; MAX_BRANCHES];
    for (digest, branch) in digests.iter_mut().zip(branches) {
        *digest = branch.extend(before)?;
    }
    Ok(digests)
}

fn either(before: PolicyDigest, of: &[Policy<'_>]) -> Result<PolicyDigest, PolicyError> {
    let digests = branches(before, of)?;
    match digests.get(..of.len()) {
        Some([first, others @ ..]) => first.or(others),
        _ => Err(PolicyError::Branches(of.len())),
    }
}
