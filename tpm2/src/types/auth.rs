use super::{AuthValue, Handle, Nonce, SessionAttributes};
use crate::wire::macros::structure;

structure! {
    /// One authorization of a command. Part 2 §10.13.2.
    #[doc(alias = "TPMS_AUTH_COMMAND")]
    AuthCommand<'a> {
        /// The session, or [`Handle::PASSWORD`].
        session_handle: Handle,
        /// The caller's nonce; empty with a password.
        nonce: Nonce<'a>,
        /// What the session does in this command.
        session_attributes: SessionAttributes,
        /// The HMAC, or the password.
        hmac: AuthValue<'a>,
    }

    /// The answer to one authorization. Part 2 §10.13.3.
    #[doc(alias = "TPMS_AUTH_RESPONSE")]
    AuthResponse<'a> {
        /// The TPM's nonce; empty with a password.
        nonce: Nonce<'a>,
        /// What the session did, and whether it continues.
        session_attributes: SessionAttributes,
        /// The HMAC; empty with a password.
        hmac: AuthValue<'a>,
    }
}

impl<'a> AuthCommand<'a> {
    /// An authorization by a password. Part 1 §19.4.
    #[must_use]
    pub const fn password(password: AuthValue<'a>) -> Self {
        Self {
            session_handle: Handle::PASSWORD,
            nonce: Nonce::EMPTY,
            session_attributes: SessionAttributes::CONTINUE_SESSION,
            hmac: password,
        }
    }
}

impl AuthResponse<'_> {
    /// The answer to a password. Part 1 §18.8.
    pub const PASSWORD: Self = Self {
        nonce: Nonce::EMPTY,
        session_attributes: SessionAttributes::CONTINUE_SESSION,
        hmac: AuthValue::EMPTY,
    };
}
