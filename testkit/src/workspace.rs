//! Where the workspace is, and what cargo builds from it.

use std::env;
use std::path::{Path, PathBuf};

/// The directory of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The directory that cargo builds in.
pub fn target_directory() -> PathBuf {
    let named = env::var_os("CARGO_TARGET_DIR").filter(|name| !name.is_empty());
    named.map_or_else(|| workspace().join("target"), |name| workspace().join(name))
}
