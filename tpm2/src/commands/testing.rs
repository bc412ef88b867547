//! Part 3 §10: tests of the TPM by itself.

use crate::types::{Alg, MaxBuffer, ResponseCode};
use crate::wire::List;
use crate::wire::macros::command;

command! {
    /// Tests what has not been tested yet, or everything. Part 3 §10.2.
    SelfTest = SELF_TEST "TPM2_SelfTest" {
        full_test: bool,
    } -> SelfTestResponse {}

    /// Tests some algorithms, and says which are still to be tested. Part 3 §10.3.
    IncrementalSelfTest<'a> = INCREMENTAL_SELF_TEST "TPM2_IncrementalSelfTest" {
        to_test: List<'a, Alg>,
    } -> IncrementalSelfTestResponse<'r> {
        to_do_list: List<'r, Alg>,
    }

    /// How the tests went, in the words of the manufacturer. Part 3 §10.4.
    GetTestResult = GET_TEST_RESULT "TPM2_GetTestResult" {} -> GetTestResultResponse<'r> {
        out_data: MaxBuffer<'r>,
        test_result: ResponseCode,
    }
}
