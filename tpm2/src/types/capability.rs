use super::{
    Alg, AlgorithmAttributes, Capability, CommandAttributes, CommandCode, Curve, Handle,
    PcrSelection, Property,
};
use crate::wire::List;
use crate::wire::macros::{structure, union};

union! {
    /// What a TPM says of itself. Part 2 §10.10.
    #[doc(alias = "TPMS_CAPABILITY_DATA")]
    CapabilityData<'a>: Capability {
        /// Algorithms.
        Algs(list: List<'a, AlgProperty>) = ALGS,
        /// Handles in use.
        Handles(list: List<'a, Handle>) = HANDLES,
        /// Commands.
        Commands(list: List<'a, CommandAttributes>) = COMMANDS,
        /// Commands that need physical presence.
        PpCommands(list: List<'a, CommandCode>) = PP_COMMANDS,
        /// Commands under audit.
        AuditCommands(list: List<'a, CommandCode>) = AUDIT_COMMANDS,
        /// PCR banks.
        Pcrs(list: List<'a, PcrSelection<'a>>) = PCRS,
        /// Properties.
        TpmProperties(list: List<'a, TaggedProperty>) = TPM_PROPERTIES,
        /// Curves.
        EccCurves(list: List<'a, Curve>) = ECC_CURVES,
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
}
