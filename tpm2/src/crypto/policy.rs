//! Policies, computed without a TPM: the digest that goes into an object's public area. Part 1 §19.7, Part 3 §23.
//!
//! A policy reads as it would be executed. The policy of an endorsement key of the high range (EK profile §2.2) asks for
//! the secret of the endorsement hierarchy, or for what an NV index holds:
//!
//! ```
//! use tpm2::crypto::{HashAlg, PolicyDigest, PolicyError};
//! use tpm2::types::{Handle, NameBuf};
//!
//! fn endorsement(index: &NameBuf) -> Result<PolicyDigest, PolicyError> {
//!     let by_secret = PolicyDigest::new(HashAlg::Sha256).secret(&Handle::ENDORSEMENT.as_name(), b"");
//!     let by_index = PolicyDigest::new(HashAlg::Sha256).authorize_nv(index);
//!     by_secret.or(&[by_index])
//! }
//! ```

use core::fmt;

use super::HashAlg;
use crate::types::{
    Capability, CommandCode, Comparison, Digest, DigestBuf, Locality, NameBuf, PcrSelections,
};
use crate::wire::Writer;

/// The digest of a policy as far as it goes. Each method is the policy command of the same name, and says what a session
/// in the TPM would have after it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PolicyDigest {
    hash: HashAlg,
    digest: DigestBuf,
}

/// Why a policy can have no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// `PolicyOR` takes two to eight branches; more must be nested.
    Branches(usize),
    /// A branch, or a digest that was given, is of another hash than the policy.
    OtherHash,
    /// A selection of PCRs that is larger than any the specification describes.
    TooLarge,
    /// Not one value for each PCR of the selection, as long as a digest of its bank; or no digest of the values.
    Values,
    /// A key, entity or index without a Name.
    Unnamed,
}

impl PolicyDigest {
    /// The policy that asks for nothing yet. `hash` is the name algorithm of the object that the policy is for.
    #[must_use]
    pub fn new(hash: HashAlg) -> Self {
        Self { hash, digest: hash.zeros() }
    }

    /// A policy of which only the digest is known, such as one that a specification prints.
    ///
    /// # Errors
    /// [`PolicyError::OtherHash`] if `digest` is not as long as one of this hash.
    pub fn known(hash: HashAlg, digest: &[u8]) -> Result<Self, PolicyError> {
        let digest = DigestBuf::new(digest).filter(|it| it.octets().len() == hash.digest_len());
        digest.map(|digest| Self { hash, digest }).ok_or(PolicyError::OtherHash)
    }

    /// The hash: the name algorithm of the object or NV index that the policy is for.
    #[must_use]
    pub const fn hash(&self) -> HashAlg {
        self.hash
    }

    /// For the public area of an object or NV index.
    #[must_use]
    pub fn digest(&self) -> Digest<'_> {
        Digest::from(&self.digest)
    }

    /// The octets.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        self.digest.octets()
    }

    /// `TPM2_PolicySigned` by the key of this Name; also a `TPM2_PolicyTicket` that it gave. Part 3 §23.3.
    #[doc(alias = "TPM2_PolicySigned")]
    #[must_use]
    pub fn signed(self, key: &NameBuf, policy_ref: &[u8]) -> Self {
        self.with_reference(0x160, key, policy_ref)
    }

    /// `TPM2_PolicySecret` of the entity of this Name; also a `TPM2_PolicyTicket` that it gave. Part 3 §23.4.
    #[doc(alias = "TPM2_PolicySecret")]
    #[must_use]
    pub fn secret(self, entity: &NameBuf, policy_ref: &[u8]) -> Self {
        self.with_reference(0x151, entity, policy_ref)
    }

    /// `TPM2_PolicyOR`: this policy, or one of the others. In the TPM the branch that was taken is found among them, so
    /// that the order counts but not which was taken. Part 3 §23.6.
    ///
    /// # Errors
    /// See [`PolicyError`].
    #[doc(alias = "TPM2_PolicyOR")]
    pub fn or(self, others: &[Self]) -> Result<Self, PolicyError> {
        let count = others.len().saturating_add(1);
        if !(2..=8).contains(&count) {
            return Err(PolicyError::Branches(count));
        }
        if others.iter().any(|other| other.hash != self.hash) {
            return Err(PolicyError::OtherHash);
        }
        let mut branches = [&[][..]; 8];
        for (slot, branch) in branches.iter_mut().zip(core::iter::once(&self).chain(others)) {
            *slot = branch.octets();
        }
        let [a, b, c, d, e, f, g, h] = branches;
        Ok(Self::new(self.hash).extended(0x171, &[a, b, c, d, e, f, g, h]))
    }

    /// `TPM2_PolicyPCR`: the selected PCRs, in the selection's order, digest to `digest`. Part 3 §23.7.
    ///
    /// # Errors
    /// [`PolicyError::TooLarge`].
    #[doc(alias = "TPM2_PolicyPCR")]
    pub fn pcr(self, pcrs: &PcrSelections<'_>, digest: &DigestBuf) -> Result<Self, PolicyError> {
        let mut octets = [0; 1024];
        let mut writer = Writer::new(&mut octets);
        writer.write(pcrs).map_err(|_| PolicyError::TooLarge)?;
        Ok(self.extended(0x17f, &[writer.into_written(), digest.octets()]))
    }

    /// As [`Self::pcr`], of the values of the PCRs, one for each that is selected. Part 3 §23.7.
    ///
    /// # Errors
    /// [`PolicyError::TooLarge`], [`PolicyError::Values`].
    pub fn pcr_values(
        self,
        pcrs: &PcrSelections<'_>,
        values: &[&[u8]],
    ) -> Result<Self, PolicyError> {
        let selected =
            pcrs.iter().flat_map(|bank| bank.pcrs().map(move |_| bank.hash.digest_len()));
        if !selected.eq(values.iter().map(|value| Some(value.len()))) {
            return Err(PolicyError::Values);
        }
        self.pcr(pcrs, &self.hash.digest(values))
    }

    /// `TPM2_PolicyLocality`. Part 3 §23.8.
    #[doc(alias = "TPM2_PolicyLocality")]
    #[must_use]
    pub fn locality(self, locality: Locality) -> Self {
        self.extended(0x16f, &[&[locality.0]])
    }

    /// `TPM2_PolicyNV`: what the index of this Name holds at `offset` compares so with `operand`. Part 3 §23.9.
    #[doc(alias = "TPM2_PolicyNV")]
    #[must_use]
    pub fn nv(self, index: &NameBuf, operand: &[u8], offset: u16, operation: Comparison) -> Self {
        let arguments = self.comparison(operand, offset, operation, &[]);
        self.extended(0x149, &[arguments.octets(), index.octets()])
    }

    /// `TPM2_PolicyCounterTimer`: the `TPMS_TIME_INFO` at `offset` compares so with `operand`. Part 3 §23.10.
    #[doc(alias = "TPM2_PolicyCounterTimer")]
    #[must_use]
    pub fn counter_timer(self, operand: &[u8], offset: u16, operation: Comparison) -> Self {
        let arguments = self.comparison(operand, offset, operation, &[]);
        self.extended(0x16d, &[arguments.octets()])
    }

    /// `TPM2_PolicyCommandCode`. Part 3 §23.11.
    #[doc(alias = "TPM2_PolicyCommandCode")]
    #[must_use]
    pub fn command_code(self, code: CommandCode) -> Self {
        self.extended(0x16c, &[&code.0.to_be_bytes()])
    }

    /// `TPM2_PolicyPhysicalPresence`. Part 3 §23.12.
    #[doc(alias = "TPM2_PolicyPhysicalPresence")]
    #[must_use]
    pub fn physical_presence(self) -> Self {
        self.extended(0x187, &[])
    }

    /// `TPM2_PolicyCpHash`, of a command's cpHash. Part 3 §23.13.
    #[doc(alias = "TPM2_PolicyCpHash")]
    #[must_use]
    pub fn cp_hash(self, cp_hash: &DigestBuf) -> Self {
        self.extended(0x16e, &[cp_hash.octets()])
    }

    /// `TPM2_PolicyNameHash`, of the digest of all Names in a command's handle area. Part 3 §23.14.
    #[doc(alias = "TPM2_PolicyNameHash")]
    #[must_use]
    pub fn name_hash(self, name_hash: &DigestBuf) -> Self {
        self.extended(0x170, &[name_hash.octets()])
    }

    /// `TPM2_PolicyDuplicationSelect`: to the parent of this Name; of the object if one is named. Part 3 §23.15.
    #[doc(alias = "TPM2_PolicyDuplicationSelect")]
    #[must_use]
    pub fn duplication_select(self, object: Option<&NameBuf>, new_parent: &NameBuf) -> Self {
        let object_name = object.map_or(&[][..], NameBuf::octets);
        let included = [u8::from(object.is_some())];
        self.extended(0x188, &[object_name, new_parent.octets(), &included])
    }

    /// `TPM2_PolicyAuthorize`: whatever the holder of the key of this Name approves. What was there before is forgotten:
    /// it is the policy that needs approval. Part 3 §23.16.
    #[doc(alias = "TPM2_PolicyAuthorize")]
    #[must_use]
    pub fn authorize(self, key: &NameBuf, policy_ref: &[u8]) -> Self {
        Self::new(self.hash).with_reference(0x16a, key, policy_ref)
    }

    /// `TPM2_PolicyAuthValue`. Part 3 §23.17.
    #[doc(alias = "TPM2_PolicyAuthValue")]
    #[must_use]
    pub fn auth_value(self) -> Self {
        self.extended(0x16b, &[])
    }

    /// `TPM2_PolicyPassword`, whose digest is that of [`Self::auth_value`]: how the value is proven is left to whatever
    /// uses the policy. Part 3 §23.18.
    #[doc(alias = "TPM2_PolicyPassword")]
    #[must_use]
    pub fn password(self) -> Self {
        self.auth_value()
    }

    /// `TPM2_PolicyNvWritten`: the index has been written. Part 3 §23.20.
    #[doc(alias = "TPM2_PolicyNvWritten")]
    #[must_use]
    pub fn nv_written(self) -> Self {
        self.extended(0x18f, &[&[1]])
    }

    /// `TPM2_PolicyNvWritten`: the index has not been written yet. Part 3 §23.20.
    #[doc(alias = "TPM2_PolicyNvWritten")]
    #[must_use]
    pub fn nv_not_written(self) -> Self {
        self.extended(0x18f, &[&[0]])
    }

    /// `TPM2_PolicyTemplate`, of the digest of a template's octets. Part 3 §23.21.
    #[doc(alias = "TPM2_PolicyTemplate")]
    #[must_use]
    pub fn template(self, template_hash: &DigestBuf) -> Self {
        self.extended(0x190, &[template_hash.octets()])
    }

    /// `TPM2_PolicyAuthorizeNV`: whatever policy is written in the index of this Name. What was there before is
    /// forgotten. Part 3 §23.22.
    #[doc(alias = "TPM2_PolicyAuthorizeNV")]
    #[must_use]
    pub fn authorize_nv(self, index: &NameBuf) -> Self {
        Self::new(self.hash).extended(0x192, &[index.octets()])
    }

    /// `TPM2_PolicyCapability`: what the TPM says of this property compares so with `operand`. Part 3 §23.23.
    #[doc(alias = "TPM2_PolicyCapability")]
    #[must_use]
    pub fn capability(
        self,
        operand: &[u8],
        offset: u16,
        operation: Comparison,
        capability: Capability,
        property: u32,
    ) -> Self {
        let subject = [capability.0.to_be_bytes(), property.to_be_bytes()];
        let arguments = self.comparison(operand, offset, operation, subject.as_flattened());
        self.extended(0x19b, &[arguments.octets()])
    }

    /// `TPM2_PolicyParameters`, of the digest of a command's code and parameters. Part 3 §23.24.
    #[doc(alias = "TPM2_PolicyParameters")]
    #[must_use]
    pub fn parameters(self, p_hash: &DigestBuf) -> Self {
        self.extended(0x19c, &[p_hash.octets()])
    }

    /// `TPM2_PolicyTransportSPDM`: over a secure channel; between these keys, of those that are named. Part 3 §23.25.
    #[doc(alias = "TPM2_PolicyTransportSPDM")]
    #[must_use]
    pub fn transport_spdm(self, requester: Option<&NameBuf>, tpm: Option<&NameBuf>) -> Self {
        if requester.is_none() && tpm.is_none() {
            return self.extended(0x1a1, &[]);
        }
        let octets = |name: Option<&NameBuf>| name.copied().unwrap_or(NameBuf::EMPTY);
        let (requester, tpm) = (octets(requester), octets(tpm));
        // No Name has 256 octets.
        let size = |name: &NameBuf| [0, u8::try_from(name.octets().len()).unwrap_or(u8::MAX)];
        let parts = [&size(&requester), requester.octets(), &size(&tpm), tpm.octets()];
        let keys = self.hash.digest(&parts);
        self.extended(0x1a1, &[keys.octets()])
    }

    /// `TPM2_Policy_AC_SendSelect`: to the attached component of this Name by an authority of this Name; of the object if
    /// one is named. Part 3 §32.4.
    #[doc(alias = "TPM2_Policy_AC_SendSelect")]
    #[must_use]
    pub fn ac_send_select(
        self,
        object: Option<&NameBuf>,
        auth_handle: &NameBuf,
        ac: &NameBuf,
    ) -> Self {
        let object_name = object.map_or(&[][..], NameBuf::octets);
        let included = [u8::from(object.is_some())];
        self.extended(0x196, &[object_name, auth_handle.octets(), ac.octets(), &included])
    }

    /// H(policyDigest ‖ code ‖ arguments): what all have in common.
    fn extended(self, code: u32, arguments: &[&[u8]]) -> Self {
        let code = code.to_be_bytes();
        let mut parts = [&[][..]; 10];
        let all = [self.octets(), &code].into_iter().chain(arguments.iter().copied());
        for (slot, part) in parts.iter_mut().zip(all) {
            *slot = part;
        }
        Self { hash: self.hash, digest: self.hash.digest(&parts) }
    }

    /// H(H(policyDigest ‖ code ‖ Name) ‖ policyRef), the latter even if it is empty. Part 3 §23.2.3.
    fn with_reference(self, code: u32, name: &NameBuf, policy_ref: &[u8]) -> Self {
        let named = self.extended(code, &[name.octets()]);
        Self { hash: self.hash, digest: self.hash.digest(&[named.octets(), policy_ref]) }
    }

    fn comparison(
        self,
        operand: &[u8],
        offset: u16,
        operation: Comparison,
        subject: &[u8],
    ) -> DigestBuf {
        let (offset, operation) = (offset.to_be_bytes(), operation.0.to_be_bytes());
        self.hash.digest(&[operand, &offset, &operation, subject])
    }
}

/// aHash of `TPM2_PolicySigned`: what the holder of the key signs. `nonce_tpm` is the session's, or empty; the hash is
/// that of the signature's scheme. Part 3 §23.3.
#[must_use]
pub fn signed_authorization(
    hash: HashAlg,
    nonce_tpm: &[u8],
    expiration: i32,
    cp_hash_a: &[u8],
    policy_ref: &[u8],
) -> DigestBuf {
    hash.digest(&[nonce_tpm, &expiration.to_be_bytes(), cp_hash_a, policy_ref])
}

/// aHash of `TPM2_PolicyAuthorize`: what the holder of the key signs to approve a policy; the TPM verifies the signature
/// and gives a ticket for it. The hash is the key's name algorithm. Part 3 §23.16.
#[must_use]
pub fn policy_approval(hash: HashAlg, approved: Digest<'_>, policy_ref: &[u8]) -> DigestBuf {
    hash.digest(&[approved.octets(), policy_ref])
}

impl fmt::Display for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digest.fmt(f)
    }
}

impl fmt::Debug for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyDigest({:?}, {})", self.hash, self.digest)
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Branches(count) => {
                write!(f, "a policy of {count} branches: PolicyOR takes two to eight")
            }
            Self::OtherHash => f.write_str("a digest of another hash than the policy's"),
            Self::Values => f.write_str("not one value of the bank's length for each selected PCR"),
            Self::Unnamed => f.write_str("a key, entity or index without a Name"),
            Self::TooLarge => f.write_str("the selection of PCRs is too large"),
        }
    }
}

impl core::error::Error for PolicyError {}
