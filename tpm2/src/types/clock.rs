use crate::wire::macros::structure;

structure! {
    /// What a TPM's clock says, and how often it was reset. Part 2 §10.11.1.
    #[doc(alias = "TPMS_CLOCK_INFO")]
    ClockInfo {
        /// Milliseconds that the TPM has been powered since it was last cleared.
        clock: u64,
        /// TPM Resets since then.
        reset_count: u32,
        /// TPM Restarts and Resumes since the last reset.
        restart_count: u32,
        /// Whether the clock cannot have reported a higher value before.
        safe: bool,
    }

    /// The time since the TPM has had power, and its clock. Part 2 §10.11.6.
    #[doc(alias = "TPMS_TIME_INFO")]
    TimeInfo {
        /// Milliseconds since the last reset.
        time: u64,
        /// The clock.
        clock_info: ClockInfo,
    }
}
