use core::fmt;

use super::{
    AcTag, ActAttributes, Alg, AlgorithmAttributes, Capability, CommandAttributes, CommandCode,
    Curve, Handle, HashValue, Name, PcrSelections, Property, Public, TaggedPcrSelect,
    VendorProperty,
};
use crate::wire::macros::{structure, union};
use crate::wire::{List, Malformed, Marshal, Reader, TooLarge, Tpm2b, Unmarshal, Writer};

union! {
    /// What a TPM says of itself. Part 2 §10.10.
    #[doc(alias("TPMS_CAPABILITY_DATA", "TPMU_CAPABILITIES"))]
    CapabilityData<'a>: Capability {
        /// Algorithms.
        #[doc(alias = "TPML_ALG_PROPERTY")]
        Algs(list: List<'a, AlgProperty>) = ALGS,
        /// Handles in use.
        #[doc(alias = "TPML_HANDLE")]
        Handles(list: List<'a, Handle>) = HANDLES,
        /// Commands.
        #[doc(alias = "TPML_CCA")]
        Commands(list: List<'a, CommandAttributes>) = COMMANDS,
        /// Commands that need physical presence.
        #[doc(alias = "TPML_CC")]
        PpCommands(list: List<'a, CommandCode>) = PP_COMMANDS,
        /// Commands under audit.
        #[doc(alias = "TPML_CC")]
        AuditCommands(list: List<'a, CommandCode>) = AUDIT_COMMANDS,
        /// PCR banks.
        Pcrs(list: PcrSelections<'a>) = PCRS,
        /// Properties.
        #[doc(alias = "TPML_TAGGED_TPM_PROPERTY")]
        TpmProperties(list: List<'a, TaggedProperty>) = TPM_PROPERTIES,
        /// What PCRs are like.
        #[doc(alias = "TPML_TAGGED_PCR_PROPERTY")]
        PcrProperties(list: List<'a, TaggedPcrSelect<'a>>) = PCR_PROPERTIES,
        /// Curves.
        #[doc(alias = "TPML_ECC_CURVE")]
        EccCurves(list: List<'a, Curve>) = ECC_CURVES,
        /// Policies of permanent entities.
        #[doc(alias = "TPML_TAGGED_POLICY")]
        AuthPolicies(list: List<'a, TaggedPolicy<'a>>) = AUTH_POLICIES,
        /// Authenticated countdown timers.
        #[doc(alias = "TPML_ACT_DATA")]
        Act(list: List<'a, ActData>) = ACT,
        /// Keys of the TPM's own.
        #[doc(alias = "TPML_PUB_KEY")]
        PubKeys(list: List<'a, Tpm2b<Public<'a>>>) = PUB_KEYS,
        /// The keys of the secure channel that the question came through.
        #[doc(alias = "TPML_SPDM_SESSION_INFO")]
        SpdmSessionInfo(list: List<'a, SpdmSessionInfo<'a>>) = SPDM_SESSION_INFO,
        /// What the vendor says.
        #[doc(alias = "TPML_VENDOR_PROPERTY")]
        VendorProperty(list: List<'a, VendorProperty<'a>>) = VENDOR_PROPERTY,
    }
}

structure! {
    /// An algorithm that a TPM has. Part 2 §10.8.1.
    #[doc(alias = "TPMS_ALG_PROPERTY")]
    AlgProperty {
        /// The algorithm.
        alg: Alg,
        /// What it is.
        properties: AlgorithmAttributes,
    }

    /// A property of a TPM. Part 2 §10.8.2.
    #[doc(alias = "TPMS_TAGGED_PROPERTY")]
    TaggedProperty {
        /// Which.
        property: Property,
        /// Its value.
        value: u32,
    }

    /// The policy of a permanent entity. Part 2 §10.8.4.
    #[doc(alias = "TPMS_TAGGED_POLICY")]
    TaggedPolicy<'a> {
        /// The entity.
        handle: Handle,
        /// The policy.
        policy_hash: HashValue<'a>,
    }

    /// The state of an authenticated countdown timer. Part 2 §10.8.5.
    #[doc(alias = "TPMS_ACT_DATA")]
    ActData {
        /// The timer.
        handle: Handle,
        /// Seconds that are left.
        timeout: u32,
        /// Whether it has run out.
        attributes: ActAttributes,
    }

    /// The ends of a secure channel. Part 2 §10.8.6.
    #[doc(alias = "TPMS_SPDM_SESSION_INFO")]
    SpdmSessionInfo<'a> {
        /// Name of the requester's key.
        req_key_name: Name<'a>,
        /// Name of the TPM's key.
        tpm_key_name: Name<'a>,
    }

    /// What an attached component says of itself, or answers. Part 2 §16.
    #[doc(alias("TPMS_AC_OUTPUT", "TPML_AC_CAPABILITIES"))]
    AcOutput {
        /// What the number is.
        tag: AcTag,
        /// The number.
        data: u32,
    }
}

/// A capability that is to be set. Which there are, and what is behind each, the library leaves to registries of their
/// own, and so they are octets here. Part 2 §10.10.
#[doc(alias("TPMS_SET_CAPABILITY_DATA", "TPMU_SET_CAPABILITIES", "TPM2B_SET_CAPABILITY_DATA"))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SetCapabilityData<'a> {
    /// Which.
    pub capability: Capability,
    /// What it is to be.
    pub data: &'a [u8],
}

/// Without the data: a registry may define a secret.
impl fmt::Debug for SetCapabilityData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetCapabilityData")
            .field("capability", &self.capability)
            .finish_non_exhaustive()
    }
}

impl Marshal for SetCapabilityData<'_> {
    fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
        writer.write(&self.capability)?;
        writer.put(self.data)
    }
}

/// Takes all that is left: it stands alone in a [`Tpm2b`].
impl<'a> Unmarshal<'a> for SetCapabilityData<'a> {
    fn unmarshal(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let capability = reader.read("SetCapabilityData.capability")?;
        Ok(Self { capability, data: reader.take_rest() })
    }
}
