use super::{Alg, Digest, Handle, HandleKind, NvAttributes, NvExpAttributes};
use crate::wire::macros::{structure, union};

structure! {
    /// The public area of an NV index. Part 2 §13.5.
    #[doc(alias("TPMS_NV_PUBLIC", "TPM2B_NV_PUBLIC"))]
    NvPublic<'a> {
        /// The index.
        index: Handle,
        /// The hash that makes the Name.
        name_alg: Alg,
        /// What may be done with it.
        attributes: NvAttributes,
        /// The policy that authorizes its use; empty without a policy.
        auth_policy: Digest<'a>,
        /// Octets of its data.
        data_size: u16,
    }

    /// The public area of an NV index outside of the TPM. Part 2 §13.
    #[doc(alias = "TPMS_NV_PUBLIC_EXP_ATTR")]
    NvPublicExp<'a> {
        /// The index.
        index: Handle,
        /// The hash that makes the Name.
        name_alg: Alg,
        /// What may be done with it.
        attributes: NvExpAttributes,
        /// The policy that authorizes its use; empty without a policy.
        auth_policy: Digest<'a>,
        /// Octets of its data.
        data_size: u16,
    }

    /// What an index with a PIN holds. Part 2 §13.3.
    #[doc(alias = "TPMS_NV_PIN_COUNTER_PARAMETERS")]
    NvPinCounter {
        /// How often the PIN has failed or passed.
        pin_count: u32,
        /// How often it may.
        pin_limit: u32,
    }
}

union! {
    /// The public area of an NV index of any kind. Part 2 §13.
    #[doc(alias("TPMT_NV_PUBLIC_2", "TPMU_NV_PUBLIC_2", "TPM2B_NV_PUBLIC_2"))]
    NvPublic2<'a>: HandleKind {
        /// One in the TPM.
        Index(public: NvPublic<'a>) = NV_INDEX,
        /// One outside of it.
        External(public: NvPublicExp<'a>) = EXTERNAL_NV,
        /// One that is always there.
        Permanent(public: NvPublic<'a>) = PERMANENT_NV,
    }
}
