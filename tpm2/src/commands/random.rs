//! Part 3 §16: random numbers.

use crate::types::Digest;
use crate::wire::macros::command;

command! {
    /// Random octets, at most as many as the largest digest. Part 3 §16.1.
    GetRandom = 0x17b "TPM2_GetRandom" {
        bytes_requested: u16,
    } -> GetRandomResponse<'r> {
        random_bytes: Digest<'r>,
    }
}
