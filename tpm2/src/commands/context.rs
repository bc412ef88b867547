//! Part 3 §28: contexts.

use crate::types::Handle;
use crate::wire::macros::command;

command! {
    /// Removes an object or a session from the TPM. Its handle is a parameter, not in the handle area. Part 3 §28.4.
    FlushContext = 0x165 "TPM2_FlushContext" no_sessions {
        flush_handle: Handle,
    } -> FlushContextResponse {}
}
