//! The workspace's own tools: gates that every change passes, and software TPMs for tests and the
//! demo.

pub mod attributes;
pub mod bench;
pub mod check;
pub mod child;
pub mod demo;
pub mod elf;
pub mod figures;
pub mod floors;
pub mod fuzz;
pub mod musl;
pub mod page;
#[cfg(any(test, feature = "protos"))]
pub mod protos;
pub mod release;
pub mod setup;
pub mod soak;
pub mod swtpm;
#[cfg(feature = "table")]
pub mod table;
pub mod test;
pub mod tokens;
pub mod tree;
pub mod vm;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The folder that cargo builds in.
pub fn target_folder() -> PathBuf {
    let named = env::var_os("CARGO_TARGET_DIR").filter(|name| !name.is_empty());
    named.map_or_else(|| workspace().join("target"), |name| workspace().join(name))
}

/// The cargo that runs us, in the folder of the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(workspace());
    command
}
