use super::{ContextData, Handle};
use crate::wire::macros::structure;

structure! {
    /// An object or a session outside of the TPM that it was in, which alone can load it again. Part 2 §14.5.
    #[doc(alias = "TPMS_CONTEXT")]
    Context<'a> {
        /// The order in which contexts were saved; of a session never used twice.
        sequence: u64,
        /// What was saved: the handle of a session, or for objects one of three that say what kind of object it is.
        saved_handle: Handle,
        /// The hierarchy of the object.
        hierarchy: Handle,
        /// The rest, encrypted.
        context_blob: ContextData<'a>,
    }
}
