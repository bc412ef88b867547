//! Part 3 §19: ephemeral keys of elliptic curves.

use crate::types::{Curve, EccParameter, EccPoint, Object, SensitiveData};
use crate::wire::Tpm2b;
use crate::wire::macros::command;

command! {
    /// The first half of an anonymous signature. Part 3 §19.2.
    Commit<'a> = COMMIT "TPM2_Commit" {
        @sign_handle: Object,
        p1: Tpm2b<EccPoint<'a>>,
        s2: SensitiveData<'a>,
        y2: EccParameter<'a>,
    } -> CommitResponse<'r> {
        k: Tpm2b<EccPoint<'r>>,
        l: Tpm2b<EccPoint<'r>>,
        e: Tpm2b<EccPoint<'r>>,
        counter: u16,
    }

    /// Makes an ephemeral key for a key exchange in two phases. Part 3 §19.3.
    EcEphemeral = EC_EPHEMERAL "TPM2_EC_Ephemeral" {
        curve_id: Curve,
    } -> EcEphemeralResponse<'r> {
        q: Tpm2b<EccPoint<'r>>,
        counter: u16,
    }
}
