//! Part 3 §23: policies.

use crate::types::{Digest, Hierarchy, Nonce, SessionHandle, Ticket, Timeout};
use crate::wire::List;
use crate::wire::macros::command;

command! {
    /// Adds to a policy that the secret of an entity is known. Part 3 §23.4.
    PolicySecret<'a> = 0x151 "TPM2_PolicySecret" {
        @auth_handle: Hierarchy,
        #policy_session: SessionHandle,
        nonce_tpm: Nonce<'a>,
        cp_hash_a: Digest<'a>,
        policy_ref: Nonce<'a>,
        expiration: i32,
    } -> PolicySecretResponse<'r> {
        timeout: Timeout<'r>,
        policy_ticket: Ticket<'r>,
    }

    /// Lets any of several policies do. Part 3 §23.6.
    PolicyOr<'a> = 0x171 "TPM2_PolicyOR" {
        #policy_session: SessionHandle,
        p_hash_list: List<'a, Digest<'a>>,
    } -> PolicyOrResponse {}

    /// The digest that a policy session has reached. Part 3 §23.10.
    PolicyGetDigest = 0x189 "TPM2_PolicyGetDigest" {
        #policy_session: SessionHandle,
    } -> PolicyGetDigestResponse<'r> {
        policy_digest: Digest<'r>,
    }
}
