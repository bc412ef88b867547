//! Part 3 §30: what a TPM says of itself.

use crate::types::{Capability, CapabilityData};
use crate::wire::macros::command;

command! {
    /// Asks for capabilities, from `property` on. Part 3 §30.2.
    GetCapability = 0x17a "TPM2_GetCapability" {
        capability: Capability,
        property: u32,
        property_count: u32,
    } -> GetCapabilityResponse<'r> {
        more_data: bool,
        capability_data: CapabilityData<'r>,
    }
}
