//! Part 3 §20: signing and verifying.

use crate::types::{
    AsymScheme, Digest, MaxBuffer, Object, Signature, SignatureContext, Ticket, VerifiedTicket,
};
use crate::wire::macros::command;

command! {
    /// Verifies the signature of a digest. Part 3 §20.2.
    VerifySignature<'a> = VERIFY_SIGNATURE "TPM2_VerifySignature" {
        #key_handle: Object,
        digest: Digest<'a>,
        signature: Signature<'a>,
    } -> VerifySignatureResponse<'r> {
        validation: VerifiedTicket<'r>,
    }

    /// Ends a sequence and verifies the signature of its message. Part 3 §20.3.
    VerifySequenceComplete<'a> = VERIFY_SEQUENCE_COMPLETE "TPM2_VerifySequenceComplete" ends_sequence {
        @sequence_handle: Object,
        #key_handle: Object,
        signature: Signature<'a>,
    } -> VerifySequenceCompleteResponse<'r> {
        validation: VerifiedTicket<'r>,
    }

    /// Verifies the signature of a digest that was signed in a context. Part 3 §20.4.
    VerifyDigestSignature<'a> = VERIFY_DIGEST_SIGNATURE "TPM2_VerifyDigestSignature" {
        #key_handle: Object,
        context: SignatureContext<'a>,
        digest: Digest<'a>,
        signature: Signature<'a>,
    } -> VerifyDigestSignatureResponse<'r> {
        validation: VerifiedTicket<'r>,
    }

    /// Signs a digest. Part 3 §20.5.
    Sign<'a> = SIGN "TPM2_Sign" {
        @key_handle: Object,
        digest: Digest<'a>,
        in_scheme: AsymScheme,
        validation: Ticket<'a>,
    } -> SignResponse<'r> {
        signature: Signature<'r>,
    }

    /// Adds the last data to a sequence, ends it and signs its message. Part 3 §20.6.
    SignSequenceComplete<'a> = SIGN_SEQUENCE_COMPLETE "TPM2_SignSequenceComplete" ends_sequence {
        @sequence_handle: Object,
        @key_handle: Object,
        buffer: MaxBuffer<'a>,
    } -> SignSequenceCompleteResponse<'r> {
        signature: Signature<'r>,
    }

    /// Signs a digest in a context. Part 3 §20.7.
    SignDigest<'a> = SIGN_DIGEST "TPM2_SignDigest" {
        @key_handle: Object,
        context: SignatureContext<'a>,
        digest: Digest<'a>,
        validation: Ticket<'a>,
    } -> SignDigestResponse<'r> {
        signature: Signature<'r>,
    }
}
