//! Part 3 §22: platform configuration registers.

use crate::types::{Alg, Digest, Digests, Event, HashValues, Pcr, PcrSelections, Platform};
use crate::wire::macros::command;

command! {
    /// Extends a PCR with digests, each in its bank. Part 3 §22.2.
    PcrExtend<'a> = PCR_EXTEND "TPM2_PCR_Extend" {
        @pcr_handle: Option<Pcr>,
        digests: HashValues<'a>,
    } -> PcrExtendResponse {}

    /// Hashes data and extends a PCR with the result in every bank. Part 3 §22.3.
    PcrEvent<'a> = PCR_EVENT "TPM2_PCR_Event" {
        @pcr_handle: Option<Pcr>,
        event_data: Event<'a>,
    } -> PcrEventResponse<'r> {
        digests: HashValues<'r>,
    }

    /// Reads as many of the selected PCRs as fit one answer. Part 3 §22.4.
    PcrRead<'a> = PCR_READ "TPM2_PCR_Read" {
        pcr_selection_in: PcrSelections<'a>,
    } -> PcrReadResponse<'r> {
        pcr_update_counter: u32,
        pcr_selection_out: PcrSelections<'r>,
        pcr_values: Digests<'r>,
    }

    /// Chooses which PCRs there are in each bank from the next reset on. Part 3 §22.5.
    PcrAllocate<'a> = PCR_ALLOCATE "TPM2_PCR_Allocate" {
        @auth_handle: Platform,
        pcr_allocation: PcrSelections<'a>,
    } -> PcrAllocateResponse {
        allocation_success: bool,
        max_pcr: u32,
        size_needed: u32,
        size_available: u32,
    }

    /// Gives a group of PCRs a policy. Part 3 §22.6.
    PcrSetAuthPolicy<'a> = PCR_SET_AUTH_POLICY "TPM2_PCR_SetAuthPolicy" {
        @auth_handle: Platform,
        auth_policy: Digest<'a>,
        hash_alg: Alg,
        pcr_num: Pcr,
    } -> PcrSetAuthPolicyResponse {}

    /// Gives a group of PCRs an authorization value. Part 3 §22.7.
    PcrSetAuthValue<'a> = PCR_SET_AUTH_VALUE "TPM2_PCR_SetAuthValue" sets_auth {
        @pcr_handle: Pcr,
        auth: Digest<'a> as secret,
    } -> PcrSetAuthValueResponse {}

    /// Sets a PCR to zero, if its attributes and the locality allow it. Part 3 §22.8.
    PcrReset = PCR_RESET "TPM2_PCR_Reset" {
        @pcr_handle: Pcr,
    } -> PcrResetResponse {}
}
