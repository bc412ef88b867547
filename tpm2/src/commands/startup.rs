//! Part 3 §9: start and shutdown.

use crate::types::Startup;
use crate::wire::macros::command;

command! {
    /// Starts the TPM after a reset. Part 3 §9.3.
    Start = STARTUP "TPM2_Startup" no_sessions {
        startup_type: Startup,
    } -> StartResponse {}

    /// Prepares the TPM for the loss of power. Part 3 §9.4.
    Shutdown = SHUTDOWN "TPM2_Shutdown" {
        shutdown_type: Startup,
    } -> ShutdownResponse {}
}
