//! Part 3 §26: miscellaneous management.

use crate::types::{CommandCode, Platform};
use crate::wire::List;
use crate::wire::macros::command;

command! {
    /// Chooses which commands need physical presence. Part 3 §26.2.
    PpCommands<'a> = PP_COMMANDS "TPM2_PP_Commands" {
        @auth: Platform,
        set_list: List<'a, CommandCode>,
        clear_list: List<'a, CommandCode>,
    } -> PpCommandsResponse {}

    /// Chooses among the sets of algorithms that the vendor has made. Part 3 §26.3.
    SetAlgorithmSet = SET_ALGORITHM_SET "TPM2_SetAlgorithmSet" {
        @auth_handle: Platform,
        algorithm_set: u32,
    } -> SetAlgorithmSetResponse {}
}
