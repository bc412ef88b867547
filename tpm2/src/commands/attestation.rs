//! Part 3 §18: what a TPM attests.

use crate::types::{
    AsymScheme, AttestData, Data, Digest, Endorsement, MaxBuffer, Object, PcrSelections,
    SessionHandle, Signature, Ticket,
};
use crate::wire::macros::command;

command! {
    /// Attests that an object with this Name is loaded. Part 3 §18.2.
    Certify<'a> = CERTIFY "TPM2_Certify" {
        @object_handle: Object,
        @sign_handle: Option<Object>,
        qualifying_data: Data<'a>,
        in_scheme: AsymScheme,
    } -> CertifyResponse<'r> {
        certify_info: AttestData<'r>,
        signature: Signature<'r>,
    }

    /// Attests that this TPM created an object. Part 3 §18.3.
    CertifyCreation<'a> = CERTIFY_CREATION "TPM2_CertifyCreation" {
        @sign_handle: Option<Object>,
        #object_handle: Object,
        qualifying_data: Data<'a>,
        creation_hash: Digest<'a>,
        in_scheme: AsymScheme,
        creation_ticket: Ticket<'a>,
    } -> CertifyCreationResponse<'r> {
        certify_info: AttestData<'r>,
        signature: Signature<'r>,
    }

    /// Attests the values of PCRs. Part 3 §18.4.
    Quote<'a> = QUOTE "TPM2_Quote" {
        @sign_handle: Option<Object>,
        qualifying_data: Data<'a>,
        in_scheme: AsymScheme,
        pcrselect: PcrSelections<'a>,
    } -> QuoteResponse<'r> {
        quoted: AttestData<'r>,
        signature: Signature<'r>,
    }

    /// Attests which commands ran in a session. Part 3 §18.5.
    GetSessionAuditDigest<'a> = GET_SESSION_AUDIT_DIGEST "TPM2_GetSessionAuditDigest" {
        @privacy_admin_handle: Endorsement,
        @sign_handle: Option<Object>,
        #session_handle: SessionHandle,
        qualifying_data: Data<'a>,
        in_scheme: AsymScheme,
    } -> GetSessionAuditDigestResponse<'r> {
        audit_info: AttestData<'r>,
        signature: Signature<'r>,
    }

    /// Attests which audited commands ran, and resets the audit digest. Part 3 §18.6.
    GetCommandAuditDigest<'a> = GET_COMMAND_AUDIT_DIGEST "TPM2_GetCommandAuditDigest" {
        @privacy_handle: Endorsement,
        @sign_handle: Option<Object>,
        qualifying_data: Data<'a>,
        in_scheme: AsymScheme,
    } -> GetCommandAuditDigestResponse<'r> {
        audit_info: AttestData<'r>,
        signature: Signature<'r>,
    }

    /// Attests the time. Part 3 §18.7.
    GetTime<'a> = GET_TIME "TPM2_GetTime" {
        @privacy_admin_handle: Endorsement,
        @sign_handle: Option<Object>,
        qualifying_data: Data<'a>,
        in_scheme: AsymScheme,
    } -> GetTimeResponse<'r> {
        time_info: AttestData<'r>,
        signature: Signature<'r>,
    }

    /// Signs an X.509 certificate of which the caller makes the rest. Deprecated. Part 3 §18.8.
    CertifyX509<'a> = CERTIFY_X509 "TPM2_CertifyX509" {
        @object_handle: Object,
        @sign_handle: Object,
        reserved: Data<'a>,
        in_scheme: AsymScheme,
        partial_certificate: MaxBuffer<'a>,
    } -> CertifyX509Response<'r> {
        added_to_certificate: MaxBuffer<'r>,
        tbs_digest: Digest<'r>,
        signature: Signature<'r>,
    }
}
