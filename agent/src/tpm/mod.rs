//! The TPM: the thread that owns it, and what the agent asks of it.

mod address;
pub mod attester;
mod ek_certificate;
pub(crate) mod failure;
pub mod inventory;
pub mod passwords;
pub mod thread;

pub use address::address;
