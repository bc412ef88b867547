use super::{Alg, Digest, Handle, NvAttributes};
use crate::wire::macros::structure;

structure! {
    /// The public area of an NV index. Part 2 §13.5.
    #[doc(alias = "TPMS_NV_PUBLIC")]
    NvPublic<'a> {
        /// The index.
        index: Handle,
        /// The hash that makes the Name.
        name_alg: Alg,
        /// What may be done with it.
        attributes: NvAttributes,
        /// The policy that authorizes its use; empty if there is none.
        auth_policy: Digest<'a>,
        /// Octets of its data.
        data_size: u16,
    }
}
