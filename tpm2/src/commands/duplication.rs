//! Part 3 §13: objects on their way from one parent to another.

use crate::types::{Data, EncryptedSecret, Name, Object, Private, Public, SymDefObject};
use crate::wire::Tpm2b;
use crate::wire::macros::command;

command! {
    /// Makes a copy of an object for another parent. Part 3 §13.1.
    Duplicate<'a> = DUPLICATE "TPM2_Duplicate" {
        @object_handle: Object,
        #new_parent_handle: Option<Object>,
        encryption_key_in: Data<'a> as secret,
        symmetric_alg: SymDefObject,
    } -> DuplicateResponse<'r> {
        encryption_key_out: Data<'r> as secret,
        duplicate: Private<'r>,
        out_sym_seed: EncryptedSecret<'r>,
    }

    /// Turns a copy for one parent into a copy for another. Part 3 §13.2.
    Rewrap<'a> = REWRAP "TPM2_Rewrap" {
        @old_parent: Option<Object>,
        #new_parent: Option<Object>,
        in_duplicate: Private<'a>,
        name: Name<'a>,
        in_sym_seed: EncryptedSecret<'a>,
    } -> RewrapResponse<'r> {
        out_duplicate: Private<'r>,
        out_sym_seed: EncryptedSecret<'r>,
    }

    /// Turns a copy for this parent into an object that can be loaded under it. Part 3 §13.3.
    Import<'a> = IMPORT "TPM2_Import" {
        @parent_handle: Object,
        encryption_key: Data<'a> as secret,
        object_public: Tpm2b<Public<'a>>,
        duplicate: Private<'a>,
        in_sym_seed: EncryptedSecret<'a>,
        symmetric_alg: SymDefObject,
    } -> ImportResponse<'r> {
        out_private: Private<'r>,
    }
}
