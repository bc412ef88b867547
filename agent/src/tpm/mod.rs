//! The TPM: the thread that owns it, and what the agent asks of it.

pub mod access;
mod address;
pub mod attester;
mod ek_certificate;
pub(crate) mod failure;
pub mod inventory;
pub mod passwords;
pub mod service_key;
pub mod thread;

pub use address::address;
