//! Part 3 §17: sequences of hashes, HMACs, events and signatures.

use crate::types::{
    Alg, AuthValue, Digest, HashValues, Hierarchy, MaxBuffer, Object, Pcr, SignatureContext,
    SignatureHint, Ticket, Transient,
};
use crate::wire::macros::command;

command! {
    /// Starts an HMAC sequence. A TPM that has `TPM2_MAC_Start` in its place, as [`MacStart`], takes a MAC scheme where
    /// the hash stands. Part 3 §17.2.
    HmacStart<'a> = HMAC_START "TPM2_HMAC_Start" {
        @handle: Object,
        auth: AuthValue<'a>,
        hash_alg: Alg,
    } -> HmacStartResponse {
        #sequence_handle: Transient,
    }

    /// Starts a hash sequence or, with the null algorithm, an event sequence. Part 3 §17.4.
    HashSequenceStart<'a> = HASH_SEQUENCE_START "TPM2_HashSequenceStart" {
        auth: AuthValue<'a>,
        hash_alg: Alg,
    } -> HashSequenceStartResponse {
        #sequence_handle: Transient,
    }

    /// Starts a sequence at whose end a message is signed. Part 3 §17.5.
    SignSequenceStart<'a> = SIGN_SEQUENCE_START "TPM2_SignSequenceStart" {
        #key_handle: Object,
        auth: AuthValue<'a>,
        context: SignatureContext<'a>,
    } -> SignSequenceStartResponse {
        #sequence_handle: Transient,
    }

    /// Starts a sequence at whose end the signature of a message is verified. Part 3 §17.6.
    VerifySequenceStart<'a> = VERIFY_SEQUENCE_START "TPM2_VerifySequenceStart" {
        #key_handle: Object,
        auth: AuthValue<'a>,
        hint: SignatureHint<'a>,
        context: SignatureContext<'a>,
    } -> VerifySequenceStartResponse {
        #sequence_handle: Transient,
    }

    /// Adds data to a sequence. Part 3 §17.7.
    SequenceUpdate<'a> = SEQUENCE_UPDATE "TPM2_SequenceUpdate" {
        @sequence_handle: Object,
        buffer: MaxBuffer<'a>,
    } -> SequenceUpdateResponse {}

    /// Adds the last data to a hash or HMAC sequence, ends it and says the result. Part 3 §17.8.
    SequenceComplete<'a> = SEQUENCE_COMPLETE "TPM2_SequenceComplete" ends_sequence {
        @sequence_handle: Object,
        buffer: MaxBuffer<'a>,
        hierarchy: Hierarchy,
    } -> SequenceCompleteResponse<'r> {
        result: Digest<'r> as secret,
        validation: Ticket<'r>,
    }

    /// Adds the last data to an event sequence, ends it, and extends a PCR with the result in every bank. Part 3 §17.9.
    EventSequenceComplete<'a> = EVENT_SEQUENCE_COMPLETE "TPM2_EventSequenceComplete" ends_sequence {
        @pcr_handle: Option<Pcr>,
        @sequence_handle: Object,
        buffer: MaxBuffer<'a>,
    } -> EventSequenceCompleteResponse<'r> {
        results: HashValues<'r>,
    }
}

/// [`HmacStart`] by the name that it has in a TPM which knows more schemes: code and layout are the same. Part 3 §17.3.
#[doc(alias = "TPM2_MAC_Start")]
pub type MacStart<'a> = HmacStart<'a>;
