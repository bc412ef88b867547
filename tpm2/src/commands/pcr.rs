//! Part 3 §22: platform configuration registers.

use crate::types::{Digest, PcrSelection};
use crate::wire::List;
use crate::wire::macros::command;

command! {
    /// Reads as many of the selected PCRs as fit one answer. Part 3 §22.4.
    PcrRead<'a> = 0x17e "TPM2_PCR_Read" {
        pcr_selection_in: List<'a, PcrSelection<'a>>,
    } -> PcrReadResponse<'r> {
        pcr_update_counter: u32,
        pcr_selection_out: List<'r, PcrSelection<'r>>,
        pcr_values: List<'r, Digest<'r>>,
    }
}
