//! `cargo xtask check`: every gate, reported by name; all run even when one fails.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::{attributes, built_with, cargo, features, floors, package, tree, workspace};

struct Gate {
    name: &'static str,
    run: fn() -> Result<()>,
}

const GATES: [Gate; 11] = [
    Gate { name: "format", run: format },
    Gate { name: "floors", run: || floors::check(workspace()) },
    Gate { name: "no build results in git", run: no_build_results },
    Gate { name: "no lint lifted for a whole file", run: || attributes::check(workspace()) },
    Gate { name: "no C in agent and authority", run: || tree::check_c(workspace()) },
    Gate { name: "one generation of RustCrypto", run: || tree::check_duplicates(workspace()) },
    Gate { name: "clippy", run: clippy },
    Gate { name: "documentation", run: documentation },
    Gate { name: "features of the libraries", run: features::check },
    Gate { name: "packages of the libraries", run: package::check },
    Gate { name: "public interface", run: || api(false) },
];
const FUZZ: Gate = Gate { name: "fuzz targets on their seeds", run: fuzz };

/// Every gate, and the fuzz targets on their seeds.
pub fn run() -> Result<()> {
    through(GATES.iter().chain([&FUZZ]))
}

/// Every gate that `cargo test` does not contain.
pub fn gates() -> Result<()> {
    through(GATES.iter())
}

fn through<'a>(gates: impl Iterator<Item = &'a Gate>) -> Result<()> {
    let mut failed = Vec::new();
    for gate in gates {
        eprintln!("check: {}", gate.name);
        let started = Instant::now();
        match (gate.run)() {
            Ok(()) => eprintln!("check: {}: passed, {} s", gate.name, started.elapsed().as_secs()),
            Err(error) => {
                eprintln!("check: {}: FAILED\n{error:#}", gate.name);
                failed.push(gate.name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("check failed: {}", failed.join("; "));
    }
    Ok(())
}

fn format() -> Result<()> {
    component("fmt", "rustfmt")?;
    finish(cargo().args(["fmt", "--all", "--check"]), "`cargo fmt` puts it right")
}

/// A directory named `target` is cargo's, wherever it is.
fn no_build_results() -> Result<()> {
    let mut git = Command::new("git");
    git.current_dir(workspace()).args(["ls-files", "-z", "--", ":(glob)**/target/**"]);
    // An unpacked archive has no repository, and so nothing in it.
    let Ok(output) = git.output() else { return Ok(()) };
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    match listed.split('\0').find(|file| !file.is_empty()) {
        Some(file) if output.status.success() => {
            bail!("{file:?} is in the repository; `git rm -r --cached` takes it out")
        }
        _ => Ok(()),
    }
}

fn clippy() -> Result<()> {
    component("clippy", "clippy")?;
    let mut command = cargo();
    command.args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    finish(&mut command, "see above")
}

fn documentation() -> Result<()> {
    let mut command = cargo();
    command.args(["doc", "--quiet", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
    finish(&mut command, "see above")
}

/// Compares the public interface of the libraries with what is recorded, or records it.
pub fn api(accept: bool) -> Result<()> {
    let accept = accept.then_some("--accept");
    let arguments: Vec<&str> = ["api"].into_iter().chain(accept).collect();
    match built_with("api", &arguments)? {
        true => Ok(()),
        false => bail!("the public interface was not found as recorded; see above"),
    }
}

fn fuzz() -> Result<()> {
    finish(cargo().args(["test", "--quiet", "--package", "fuzz"]), "see above")
}

/// Rust can be installed without these.
fn component(command: &str, name: &str) -> Result<()> {
    let mut probe = cargo();
    probe.args([command, "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !probe.status().context("cannot run cargo")?.success() {
        bail!("{name} is not installed; `rustup component add {name}` installs it");
    }
    Ok(())
}

fn finish(command: &mut Command, advice: &str) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo failed ({status}); {advice}");
    }
    Ok(())
}
