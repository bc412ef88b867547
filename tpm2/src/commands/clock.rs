//! Part 3 §29: clock and timers.

use crate::types::{ClockAdjust, Provision, TimeInfo};
use crate::wire::macros::command;

command! {
    /// Reads time and clock. Part 3 §29.1.
    ReadClock = 0x181 "TPM2_ReadClock" {} -> ReadClockResponse {
        current_time: TimeInfo,
    }

    /// Sets the clock forward. Part 3 §29.2.
    ClockSet = 0x128 "TPM2_ClockSet" {
        @auth: Provision,
        new_time: u64,
    } -> ClockSetResponse {}

    /// Lets the clock run faster or slower. Part 3 §29.3.
    ClockRateAdjust = 0x130 "TPM2_ClockRateAdjust" {
        @auth: Provision,
        rate_adjust: ClockAdjust,
    } -> ClockRateAdjustResponse {}
}
