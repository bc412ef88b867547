//! Part 3 §25: the protection against guessing.

use crate::types::Lockout;
use crate::wire::macros::command;

command! {
    /// Ends a lockout and forgets the failures. Part 3 §25.2.
    DictionaryAttackLockReset = DICTIONARY_ATTACK_LOCK_RESET "TPM2_DictionaryAttackLockReset" {
        @lock_handle: Lockout,
    } -> DictionaryAttackLockResetResponse {}

    /// Sets how many failures lock a TPM out, and for how many seconds. Part 3 §25.3.
    DictionaryAttackParameters = DICTIONARY_ATTACK_PARAMETERS "TPM2_DictionaryAttackParameters" {
        @lock_handle: Lockout,
        new_max_tries: u32,
        new_recovery_time: u32,
        lockout_recovery: u32,
    } -> DictionaryAttackParametersResponse {}
}
