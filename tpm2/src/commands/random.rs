//! Part 3 §16: random numbers.

use crate::types::{Digest, SensitiveData};
use crate::wire::macros::command;

command! {
    /// Random octets, at most as many as the largest digest. Part 3 §16.1.
    GetRandom = GET_RANDOM "TPM2_GetRandom" {
        bytes_requested: u16,
    } -> GetRandomResponse<'r> {
        random_bytes: Digest<'r> as secret,
    }

    /// Gives the random number generator something more to stir in. Part 3 §16.2.
    StirRandom<'a> = STIR_RANDOM "TPM2_StirRandom" {
        in_data: SensitiveData<'a>,
    } -> StirRandomResponse {}
}
