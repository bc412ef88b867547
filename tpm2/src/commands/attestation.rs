//! Part 3 §12.5 and §20: what proves a key, and what a key signs.

use crate::types::{AsymScheme, Digest, EncryptedSecret, IdObject, Object, Signature, Ticket};
use crate::wire::macros::command;

command! {
    /// Opens a credential that was made for the object `activate_handle` in the TPM that holds the key `key_handle`.
    /// Part 3 §12.5.
    ActivateCredential<'a> = 0x147 "TPM2_ActivateCredential" {
        @activate_handle: Object,
        @key_handle: Object,
        credential_blob: IdObject<'a>,
        secret: EncryptedSecret<'a>,
    } -> ActivateCredentialResponse<'r> {
        cert_info: Digest<'r>,
    }

    /// Signs a digest. Part 3 §20.2.
    Sign<'a> = 0x15d "TPM2_Sign" {
        @key_handle: Object,
        digest: Digest<'a>,
        in_scheme: AsymScheme,
        validation: Ticket<'a>,
    } -> SignResponse<'r> {
        signature: Signature<'r>,
    }
}
