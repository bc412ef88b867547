//! The workspace's own tools: gates that every change passes, the demo, releases and longer runs.

pub mod advice;
#[cfg(any(test, feature = "api"))]
pub mod api;
pub mod attributes;
pub mod bench;
pub mod check;
pub mod cookbook;
pub mod demo;
pub mod deny;
pub mod drills;
pub mod elf;
pub mod features;
pub mod figures;
pub mod floors;
pub mod fuzz;
pub mod musl;
pub mod package;
pub mod page;
pub mod platforms;
#[cfg(any(test, feature = "protos"))]
pub mod protos;
pub mod release;
pub mod setup;
pub mod soak;
pub mod source;
#[cfg(feature = "table")]
pub mod table;
pub mod test;
pub mod tree;
pub mod vm;

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
pub use testkit::{target_directory, workspace};

/// A library that others may build on.
pub(crate) struct Library {
    /// The crate's name in Rust, which is that of its directory.
    pub(crate) name: &'static str,
    /// The name under which it would be published.
    pub(crate) package: &'static str,
}

pub(crate) const LIBRARIES: [Library; 2] = [
    Library { name: "tpm2", package: "tpm2-client" },
    Library { name: "verifier", package: "tpm2-verifier" },
];

/// The cargo that runs us, in the directory of the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    command.current_dir(workspace());
    command
}

/// Whether a build of this program with the feature, which this one lacks, succeeds.
pub fn built_with(feature: &str, arguments: &[&str]) -> Result<bool> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "xtask", "--features", feature, "--"]);
    Ok(command.args(arguments).stdin(Stdio::null()).status()?.success())
}

/// Runs a command and returns what it wrote to stdout.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed ({}): {}", output.status, said.trim_end());
    Ok(String::from_utf8(output.stdout)?)
}
