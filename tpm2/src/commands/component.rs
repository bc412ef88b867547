//! Part 3 §32: attached components.

use crate::types::{AcOutput, AcTag, Handle, MaxBuffer, Name, NvAuth, Object, SessionHandle};
use crate::wire::List;
use crate::wire::macros::command;

command! {
    /// Asks an attached component what it can do. Part 3 §32.2.
    AcGetCapability = AC_GET_CAPABILITY "TPM2_AC_GetCapability" {
        #ac: Handle,
        capability: AcTag,
        count: u32,
    } -> AcGetCapabilityResponse<'r> {
        more_data: bool,
        capabilities_data: List<'r, AcOutput>,
    }

    /// Sends an object to an attached component. Part 3 §32.3.
    AcSend<'a> = AC_SEND "TPM2_AC_Send" {
        @send_object: Object,
        @auth_handle: NvAuth,
        #ac: Handle,
        ac_data_in: MaxBuffer<'a>,
    } -> AcSendResponse {
        ac_data_out: AcOutput,
    }

    /// Adds that an object, or any, is sent to an attached component. Part 3 §32.4.
    PolicyAcSendSelect<'a> = POLICY_AC_SEND_SELECT "TPM2_Policy_AC_SendSelect" {
        #policy_session: SessionHandle,
        object_name: Name<'a>,
        auth_handle_name: Name<'a>,
        ac_name: Name<'a>,
        include_object: bool,
    } -> PolicyAcSendSelectResponse {}
}
