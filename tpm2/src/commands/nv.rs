//! Part 3 §31: non-volatile memory.

use crate::types::{MaxNvBuffer, Name, NvAuth, NvIndex, NvPublic};
use crate::wire::Tpm2b;
use crate::wire::macros::command;

command! {
    /// Reads the public area of an NV index. Part 3 §31.6.
    NvReadPublic = 0x169 "TPM2_NV_ReadPublic" {
        #nv_index: NvIndex,
    } -> NvReadPublicResponse<'r> {
        nv_public: Tpm2b<NvPublic<'r>>,
        nv_name: Name<'r>,
    }

    /// Reads from an NV index. Part 3 §31.13.
    NvRead = 0x14e "TPM2_NV_Read" {
        @auth_handle: NvAuth,
        #nv_index: NvIndex,
        size: u16,
        offset: u16,
    } -> NvReadResponse<'r> {
        data: MaxNvBuffer<'r>,
    }
}
