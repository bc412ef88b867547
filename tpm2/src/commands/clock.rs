//! Part 3 §29: clock and timers.

use crate::types::{ClockAdjust, Provision, TimeInfo};
use crate::wire::macros::command;

command! {
    /// Reads time and clock. Part 3 §29.1.
    ReadClock = READ_CLOCK "TPM2_ReadClock" {} -> ReadClockResponse {
        current_time: TimeInfo,
    }

    /// Sets the clock forward. Part 3 §29.2.
    ClockSet = CLOCK_SET "TPM2_ClockSet" {
        @auth: Provision,
        new_time: u64,
    } -> ClockSetResponse {}

    /// Lets the clock run faster or slower. Part 3 §29.3.
    ClockRateAdjust = CLOCK_RATE_ADJUST "TPM2_ClockRateAdjust" {
        @auth: Provision,
        rate_adjust: ClockAdjust,
    } -> ClockRateAdjustResponse {}
}
