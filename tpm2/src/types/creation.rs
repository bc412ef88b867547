use super::{Alg, Data, Digest, Locality, Name, PcrSelections};
use crate::wire::macros::structure;

structure! {
    /// Where and how an object was created. Part 2 §15.1.
    #[doc(alias("TPMS_CREATION_DATA", "TPM2B_CREATION_DATA"))]
    CreationData<'a> {
        /// The PCRs that the digest covers.
        pcr_select: PcrSelections<'a>,
        /// Their digest at creation.
        pcr_digest: Digest<'a>,
        /// The locality of the creation.
        locality: Locality,
        /// Name algorithm of the parent; the null algorithm if it is a hierarchy.
        parent_name_alg: Alg,
        /// Name of the parent.
        parent_name: Name<'a>,
        /// Qualified Name of the parent.
        parent_qualified_name: Name<'a>,
        /// What the creator said.
        outside_info: Data<'a>,
    }
}
