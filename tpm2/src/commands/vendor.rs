//! Part 3 §34: what vendors add.

use crate::types::Data;
use crate::wire::macros::command;

command! {
    /// Answers what it was asked: a command that shows how a vendor adds commands. Part 3 §34.2.
    VendorTcgTest<'a> = VENDOR_TCG_TEST "TPM2_Vendor_TCG_Test" {
        input_data: Data<'a>,
    } -> VendorTcgTestResponse<'r> {
        output_data: Data<'r>,
    }
}
