//! Part 3 §23: policies.
//!
//! Each command adds one condition to a policy session. What digest a policy has is computed without a TPM by
//! [`PolicyDigest`](crate::crypto::PolicyDigest), whose methods have the names of these commands.

use crate::types::{
    AnyEntity, Capability, CommandCode, Comparison, Digest, Digests, Locality, Name, Nonce, NvAuth,
    NvIndex, Object, PcrSelections, SessionHandle, Signature, Ticket, Timeout, VerifiedTicket,
};
use crate::wire::macros::command;

command! {
    /// Adds that the holder of a key agrees, by a signature over `crypto::signed_authorization`. Part 3 §23.3.
    PolicySigned<'a> = POLICY_SIGNED "TPM2_PolicySigned" {
        #auth_object: Object,
        #policy_session: SessionHandle,
        nonce_tpm: Nonce<'a>,
        cp_hash_a: Digest<'a>,
        policy_ref: Nonce<'a>,
        expiration: i32,
        auth: Signature<'a>,
    } -> PolicySignedResponse<'r> {
        timeout: Timeout<'r>,
        policy_ticket: Ticket<'r>,
    }

    /// Adds that the secret of an entity is known. Part 3 §23.4.
    PolicySecret<'a> = POLICY_SECRET "TPM2_PolicySecret" {
        @auth_handle: AnyEntity,
        #policy_session: SessionHandle,
        nonce_tpm: Nonce<'a>,
        cp_hash_a: Digest<'a>,
        policy_ref: Nonce<'a>,
        expiration: i32,
    } -> PolicySecretResponse<'r> {
        timeout: Timeout<'r>,
        policy_ticket: Ticket<'r>,
    }

    /// Takes the place of a PolicySigned or PolicySecret that gave the ticket. Part 3 §23.5.
    PolicyTicket<'a> = POLICY_TICKET "TPM2_PolicyTicket" {
        #policy_session: SessionHandle,
        timeout: Timeout<'a>,
        cp_hash_a: Digest<'a>,
        policy_ref: Nonce<'a>,
        auth_name: Name<'a>,
        ticket: Ticket<'a>,
    } -> PolicyTicketResponse {}

    /// Lets any of several policies do. Part 3 §23.6.
    PolicyOr<'a> = POLICY_OR "TPM2_PolicyOR" {
        #policy_session: SessionHandle,
        p_hash_list: Digests<'a>,
    } -> PolicyOrResponse {}

    /// Adds that PCRs have values; an empty digest stands for those that they have now. Part 3 §23.7.
    PolicyPcr<'a> = POLICY_PCR "TPM2_PolicyPCR" {
        #policy_session: SessionHandle,
        pcr_digest: Digest<'a>,
        pcrs: PcrSelections<'a>,
    } -> PolicyPcrResponse {}

    /// Adds that the command comes from one of some localities. Part 3 §23.8.
    PolicyLocality = POLICY_LOCALITY "TPM2_PolicyLocality" {
        #policy_session: SessionHandle,
        locality: Locality,
    } -> PolicyLocalityResponse {}

    /// Adds that what an NV index holds compares as said with an operand. Part 3 §23.9.
    PolicyNv<'a> = POLICY_NV "TPM2_PolicyNV" {
        @auth_handle: NvAuth,
        #nv_index: NvIndex,
        #policy_session: SessionHandle,
        operand_b: Digest<'a>,
        offset: u16,
        operation: Comparison,
    } -> PolicyNvResponse {}

    /// Adds that the TPM's clocks and counters compare as said with an operand. Part 3 §23.10.
    PolicyCounterTimer<'a> = POLICY_COUNTER_TIMER "TPM2_PolicyCounterTimer" {
        #policy_session: SessionHandle,
        operand_b: Digest<'a>,
        offset: u16,
        operation: Comparison,
    } -> PolicyCounterTimerResponse {}

    /// Adds that it is a certain command. Part 3 §23.11.
    PolicyCommandCode = POLICY_COMMAND_CODE "TPM2_PolicyCommandCode" {
        #policy_session: SessionHandle,
        code: CommandCode,
    } -> PolicyCommandCodeResponse {}

    /// Adds that physical presence is asserted. Part 3 §23.12.
    PolicyPhysicalPresence = POLICY_PHYSICAL_PRESENCE "TPM2_PolicyPhysicalPresence" {
        #policy_session: SessionHandle,
    } -> PolicyPhysicalPresenceResponse {}

    /// Adds that it is a certain command with certain entities and parameters. Part 3 §23.13.
    PolicyCpHash<'a> = POLICY_CP_HASH "TPM2_PolicyCpHash" {
        #policy_session: SessionHandle,
        cp_hash_a: Digest<'a>,
    } -> PolicyCpHashResponse {}

    /// Adds that the command is about certain entities. Part 3 §23.14.
    PolicyNameHash<'a> = POLICY_NAME_HASH "TPM2_PolicyNameHash" {
        #policy_session: SessionHandle,
        name_hash: Digest<'a>,
    } -> PolicyNameHashResponse {}

    /// Adds that it is a duplication to a certain new parent, perhaps of a certain object. Part 3 §23.15.
    PolicyDuplicationSelect<'a> = POLICY_DUPLICATION_SELECT "TPM2_PolicyDuplicationSelect" {
        #policy_session: SessionHandle,
        object_name: Name<'a>,
        new_parent_name: Name<'a>,
        include_object: bool,
    } -> PolicyDuplicationSelectResponse {}

    /// Replaces a policy that the holder of a key has approved, by a signature over `crypto::policy_approval`, with the key.
    /// Part 3 §23.16.
    PolicyAuthorize<'a> = POLICY_AUTHORIZE "TPM2_PolicyAuthorize" {
        #policy_session: SessionHandle,
        approved_policy: Digest<'a>,
        policy_ref: Nonce<'a>,
        key_sign: Name<'a>,
        check_ticket: VerifiedTicket<'a>,
    } -> PolicyAuthorizeResponse {}

    /// Adds that the authorization value of the entity is proven by the session's HMAC. Part 3 §23.17.
    PolicyAuthValue = POLICY_AUTH_VALUE "TPM2_PolicyAuthValue" {
        #policy_session: SessionHandle,
    } -> PolicyAuthValueResponse {}

    /// Adds that the authorization value of the entity is given in the clear. Part 3 §23.18.
    PolicyPassword = POLICY_PASSWORD "TPM2_PolicyPassword" {
        #policy_session: SessionHandle,
    } -> PolicyPasswordResponse {}

    /// The digest that a policy session has reached. Part 3 §23.19.
    PolicyGetDigest = POLICY_GET_DIGEST "TPM2_PolicyGetDigest" {
        #policy_session: SessionHandle,
    } -> PolicyGetDigestResponse<'r> {
        policy_digest: Digest<'r>,
    }

    /// Adds that the NV index has been written, or has not. Part 3 §23.20.
    PolicyNvWritten = POLICY_NV_WRITTEN "TPM2_PolicyNvWritten" {
        #policy_session: SessionHandle,
        written_set: bool,
    } -> PolicyNvWrittenResponse {}

    /// Adds that an object is created from a certain template. Part 3 §23.21.
    PolicyTemplate<'a> = POLICY_TEMPLATE "TPM2_PolicyTemplate" {
        #policy_session: SessionHandle,
        template_hash: Digest<'a>,
    } -> PolicyTemplateResponse {}

    /// Replaces a policy that is written in an NV index with the index. Part 3 §23.22.
    PolicyAuthorizeNv = POLICY_AUTHORIZE_NV "TPM2_PolicyAuthorizeNV" {
        @auth_handle: NvAuth,
        #nv_index: NvIndex,
        #policy_session: SessionHandle,
    } -> PolicyAuthorizeNvResponse {}

    /// Adds that what the TPM says of itself compares as said with an operand. Part 3 §23.23.
    PolicyCapability<'a> = POLICY_CAPABILITY "TPM2_PolicyCapability" {
        #policy_session: SessionHandle,
        operand_b: Digest<'a>,
        offset: u16,
        operation: Comparison,
        capability: Capability,
        property: u32,
    } -> PolicyCapabilityResponse {}

    /// Adds that the command has certain parameters. Part 3 §23.24.
    PolicyParameters<'a> = POLICY_PARAMETERS "TPM2_PolicyParameters" {
        #policy_session: SessionHandle,
        p_hash: Digest<'a>,
    } -> PolicyParametersResponse {}

    /// Adds that the command comes over a secure channel, perhaps between certain keys. Part 3 §23.25.
    PolicyTransportSpdm<'a> = POLICY_TRANSPORT_SPDM "TPM2_PolicyTransportSPDM" {
        #policy_session: SessionHandle,
        req_key_name: Name<'a>,
        tpm_key_name: Name<'a>,
    } -> PolicyTransportSpdmResponse {}
}
