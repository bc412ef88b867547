//! Simulated hosts: a TPM in software and the host's end of the connection to an authority. They join as an agent does,
//! and can also send what no agent would.

mod software_tpm;
pub mod teleport;
mod wire;

pub use software_tpm::{SoftwareTpm, identity, service_key_public};
pub use teleport::TeleportHost;
pub use wire::{Bytes, Join, TIMEOUT, Wire};
