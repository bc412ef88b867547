//! Part 3 §33: authenticated countdown timers.

use crate::types::Act;
use crate::wire::macros::command;

command! {
    /// Sets how many seconds are left until the timer runs out. Part 3 §33.2.
    ActSetTimeout = ACT_SET_TIMEOUT "TPM2_ACT_SetTimeout" {
        @act_handle: Act,
        start_timeout: u32,
    } -> ActSetTimeoutResponse {}
}
