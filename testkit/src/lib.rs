//! What tests, fuzzing and xtask run the programs with. It knows neither agent nor authority, so that their own tests can
//! use it.

pub mod child;
pub mod postgresql;
pub mod program;
pub mod swtpm;
mod workspace;

#[cfg(feature = "tpm")]
pub mod bus;
#[cfg(feature = "tpm")]
pub mod double;
#[cfg(feature = "forge")]
pub mod forge;
#[cfg(feature = "hosts")]
pub mod simulated;
#[cfg(feature = "tpm")]
pub mod tap;

pub use workspace::{target_directory, workspace};
