//! Part 3 §27: new firmware.

use crate::types::{Digest, HashValue, MaxBuffer, Object, Platform, Signature};
use crate::wire::macros::command;

command! {
    /// Begins an upgrade of the firmware. Part 3 §27.2.
    FieldUpgradeStart<'a> = FIELD_UPGRADE_START "TPM2_FieldUpgradeStart" {
        @authorization: Platform,
        #key_handle: Object,
        fu_digest: Digest<'a>,
        manifest_signature: Signature<'a>,
    } -> FieldUpgradeStartResponse {}

    /// A piece of new firmware. Part 3 §27.3.
    FieldUpgradeData<'a> = FIELD_UPGRADE_DATA "TPM2_FieldUpgradeData" {
        fu_data: MaxBuffer<'a>,
    } -> FieldUpgradeDataResponse<'r> {
        next_digest: HashValue<'r>,
        first_digest: HashValue<'r>,
    }

    /// Reads a piece of the firmware that could be loaded again. Part 3 §27.4.
    FirmwareRead = FIRMWARE_READ "TPM2_FirmwareRead" {
        sequence_number: u32,
    } -> FirmwareReadResponse<'r> {
        fu_data: MaxBuffer<'r>,
    }
}
