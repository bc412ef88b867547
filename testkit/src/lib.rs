//! What tests, fuzzing and xtask run the programs with. It knows neither agent nor authority, so that their own tests can
//! use it.

pub mod child;
pub mod program;
pub mod swtpm;

#[cfg(feature = "tpm")]
pub mod bus;
#[cfg(feature = "tpm")]
pub mod double;
#[cfg(feature = "tpm")]
pub mod tap;

use std::env;
use std::path::{Path, PathBuf};

/// The directory of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The directory that cargo builds in.
pub fn target_folder() -> PathBuf {
    let named = env::var_os("CARGO_TARGET_DIR").filter(|name| !name.is_empty());
    named.map_or_else(|| workspace().join("target"), |name| workspace().join(name))
}
