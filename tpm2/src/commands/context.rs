//! Part 3 §28: contexts.

use crate::types::{Context, Handle, Object, Provision};
use crate::wire::macros::command;

command! {
    /// Saves an object or a session outside of the TPM. Part 3 §28.2.
    ContextSave = CONTEXT_SAVE "TPM2_ContextSave" no_sessions {
        #save_handle: Handle,
    } -> ContextSaveResponse<'r> {
        context: Context<'r>,
    }

    /// Loads what was saved. Part 3 §28.3.
    ContextLoad<'a> = CONTEXT_LOAD "TPM2_ContextLoad" no_sessions {
        context: Context<'a>,
    } -> ContextLoadResponse {
        #loaded_handle: Handle,
    }

    /// Removes an object or a session from the TPM. Its handle is a parameter, not in the handle area. Part 3 §28.4.
    FlushContext = FLUSH_CONTEXT "TPM2_FlushContext" no_sessions flushes {
        flush_handle: Handle,
    } -> FlushContextResponse {}

    /// Makes an object persistent, or removes a persistent one. Part 3 §28.5.
    EvictControl = EVICT_CONTROL "TPM2_EvictControl" {
        @auth: Provision,
        #object_handle: Object,
        persistent_handle: Handle,
    } -> EvictControlResponse {}
}
