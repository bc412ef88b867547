//! Part 3 §11: sessions.

use crate::types::{
    Alg, AnyEntity, EncryptedSecret, Nonce, Object, SessionHandle, SessionType, SymDef,
};
use crate::wire::macros::command;

command! {
    /// Starts a session. Part 3 §11.1.
    StartAuthSession<'a> = START_AUTH_SESSION "TPM2_StartAuthSession" {
        #tpm_key: Option<Object>,
        #bind: Option<AnyEntity>,
        nonce_caller: Nonce<'a>,
        encrypted_salt: EncryptedSecret<'a>,
        session_type: SessionType,
        symmetric: SymDef,
        auth_hash: Alg,
    } -> StartAuthSessionResponse<'r> {
        #session_handle: SessionHandle,
        nonce_tpm: Nonce<'r>,
    }

    /// Brings a policy session back to where it began. Part 3 §11.2.
    PolicyRestart = POLICY_RESTART "TPM2_PolicyRestart" {
        #session_handle: SessionHandle,
    } -> PolicyRestartResponse {}
}
