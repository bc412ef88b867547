//! Part 3 §15: symmetric primitives.

use crate::types::{Alg, Digest, Hierarchy, Iv, MaxBuffer, Object, Ticket};
use crate::wire::macros::command;

command! {
    /// Encrypts or decrypts with a symmetric key; no session can protect the data. Part 3 §15.2.
    EncryptDecrypt<'a> = ENCRYPT_DECRYPT "TPM2_EncryptDecrypt" {
        @key_handle: Object,
        decrypt: bool,
        mode: Alg,
        iv_in: Iv<'a>,
        in_data: MaxBuffer<'a>,
    } -> EncryptDecryptResponse<'r> {
        out_data: MaxBuffer<'r>,
        iv_out: Iv<'r>,
    }

    /// Encrypts or decrypts with a symmetric key. Part 3 §15.3.
    EncryptDecrypt2<'a> = ENCRYPT_DECRYPT2 "TPM2_EncryptDecrypt2" {
        @key_handle: Object,
        in_data: MaxBuffer<'a>,
        decrypt: bool,
        mode: Alg,
        iv_in: Iv<'a>,
    } -> EncryptDecrypt2Response<'r> {
        out_data: MaxBuffer<'r>,
        iv_out: Iv<'r>,
    }

    /// Hashes in one piece. Part 3 §15.4.
    Hash<'a> = HASH "TPM2_Hash" {
        data: MaxBuffer<'a>,
        hash_alg: Alg,
        hierarchy: Hierarchy,
    } -> HashResponse<'r> {
        out_hash: Digest<'r>,
        validation: Ticket<'r>,
    }

    /// Computes an HMAC in one piece. A TPM that has `TPM2_MAC` in its place, as [`Mac`], takes a MAC scheme where the
    /// hash stands. Part 3 §15.5.
    Hmac<'a> = HMAC "TPM2_HMAC" {
        @handle: Object,
        buffer: MaxBuffer<'a>,
        hash_alg: Alg,
    } -> HmacResponse<'r> {
        out_hmac: Digest<'r> as secret,
    }
}

/// [`Hmac`] by the name that it has in a TPM which knows more schemes: code and layout are the same. Part 3 §15.6.
#[doc(alias = "TPM2_MAC")]
pub type Mac<'a> = Hmac<'a>;
