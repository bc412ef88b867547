//! Part 3 §21: the audit of commands.

use crate::types::{Alg, CommandCode, Provision};
use crate::wire::List;
use crate::wire::macros::command;

command! {
    /// Chooses which commands are under audit, or the hash of the audit. Part 3 §21.2.
    SetCommandCodeAuditStatus<'a> = SET_COMMAND_CODE_AUDIT_STATUS "TPM2_SetCommandCodeAuditStatus" {
        @auth: Provision,
        audit_alg: Alg,
        set_list: List<'a, CommandCode>,
        clear_list: List<'a, CommandCode>,
    } -> SetCommandCodeAuditStatusResponse {}
}
