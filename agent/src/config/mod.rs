//! The configuration file: version 2 of tbot's, with a section about the TPM.

pub mod address;
mod settings;

pub use address::Address;
pub use settings::*;
