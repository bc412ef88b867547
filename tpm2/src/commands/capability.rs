//! Part 3 §30: what a TPM says of itself.

use crate::types::{Capability, CapabilityData, HierarchyAuth, PublicParms, SetCapabilityData};
use crate::wire::Tpm2b;
use crate::wire::macros::command;

command! {
    /// Asks for capabilities, from `property` on. Part 3 §30.2.
    GetCapability = GET_CAPABILITY "TPM2_GetCapability" {
        capability: Capability,
        property: u32,
        property_count: u32,
    } -> GetCapabilityResponse<'r> {
        more_data: bool,
        capability_data: CapabilityData<'r>,
    }

    /// Asks whether the TPM has this kind of key. Part 3 §30.3.
    TestParms = TEST_PARMS "TPM2_TestParms" {
        parameters: PublicParms,
    } -> TestParmsResponse {}

    /// Sets a capability. Part 3 §30.4.
    SetCapability<'a> = SET_CAPABILITY "TPM2_SetCapability" {
        @auth_handle: Option<HierarchyAuth>,
        set_capability_data: Tpm2b<SetCapabilityData<'a>>,
    } -> SetCapabilityResponse {}
}
