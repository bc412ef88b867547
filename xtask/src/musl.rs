//! `cargo xtask static`: the agent as one file that runs on a kernel alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::elf::Needs;
use crate::setup::{self, Action, Purpose};
use crate::{cargo, target_directory, workspace};

pub(crate) const TARGET: &str = "x86_64-unknown-linux-musl";
/// The agent with all of its parts, which is shipped.
pub(crate) const FULL: Edition =
    Edition { name: "agent", arguments: &["--package", "agent", UNTRACED], limit: 4_000_000 };
/// The agent without the parts that a build can leave out (`agent/src/parts.rs`): it identifies the TPM, joins and keeps files fresh.
pub(crate) const SMALL: Edition = Edition {
    name: "agent-small",
    arguments: &["--package", "agent", UNTRACED, "--no-default-features"],
    limit: 3_400_000,
};

/// Without what libraries trace: nothing reads it.
const UNTRACED: &str = "--features=untraced";

/// An agent to build.
pub(crate) struct Edition {
    /// Its file in `static` in the target directory.
    name: &'static str,
    /// What cargo is told.
    arguments: &'static [&'static str],
    /// The most that it may weigh.
    pub(crate) limit: u64,
}

/// Debian's compiler, which comes with the source of its library.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

const FLAGS: &str = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS";
/// A panic ends the process, so nothing is ever unwound: a tenth of the program less.
const NO_TABLES: &str = "-Cforce-unwind-tables=no";
/// Functions that were compiled to the same instructions are linked once: generic code makes many. No code of ours compares the
/// addresses of functions. `musl-gcc` names a dynamic linker even for static programs, and lld believes it.
const FOLD: &str =
    "-Clink-arg=-fuse-ld=lld -Clink-arg=-Wl,--icf=all -Clink-arg=-Wl,--no-dynamic-linker";

/// glibc's libgcc_eh asks its C library where an object's unwind tables are; musl has no such
/// function. With -1 it looks for them itself.
const SHIM: &str = "int _dl_find_object(void *pc, void *result) { return -1; }\n";

/// Builds, checks and shows both agents.
pub fn run() -> Result<()> {
    for agent in [build()?, build_small()?] {
        println!("{}  {} bytes, static", agent.display(), fs::metadata(&agent)?.len());
    }
    Ok(())
}

/// Builds the agent that is shipped, `static/agent` in the target directory, and sees that it needs nothing, runs and is small.
pub fn build() -> Result<PathBuf> {
    FULL.build()
}

/// The same without the parts that a build can leave out, `static/agent-small`. It says what it lacks.
pub fn build_small() -> Result<PathBuf> {
    let agent = SMALL.build()?;
    let configuration = target_directory().join("static/lacking.yaml");
    let file = configuration.to_str().context("the target directory is not UTF-8")?;
    let check = &["check", "-c", file][..];
    let api = "services: [{type: workload-identity-api, listen: unix:///run/w.sock}]";
    let ssh = "services: [{type: ssh-agent, listen: unix:///run/s.sock}]";
    for (part, arguments, lacking) in [
        ("doctor", &["doctor"][..], ""),
        ("manual", &["man"], ""),
        ("ssh-agent", check, ssh),
        ("teleport", check, "onboarding: {protocol: teleport}"),
        ("workload-api", check, api),
    ] {
        fs::write(&configuration, format!("version: v2\n{lacking}\n"))?;
        let output = Command::new(&agent).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            !output.status.success() && said.contains(&format!("with the feature `{part}`")),
            "{} does not refuse what needs {part}: {said}",
            agent.display()
        );
    }
    Ok(agent)
}

impl Edition {
    fn build(&self) -> Result<PathBuf> {
        let directory = compile(self.arguments)?;
        let agent = target_directory().join("static").join(self.name);
        let built = directory.join("agent");
        fs::copy(&built, &agent).with_context(|| format!("copying {}", built.display()))?;
        check(&agent, self.limit)?;
        Ok(agent)
    }
}

/// Builds an example of the crate `tpm2` the same way. Without the agent: beside an example's
/// dependencies it would be rebuilt, which takes minutes.
pub fn example(name: &str) -> Result<PathBuf> {
    let directory = compile(&["--package", "tpm2-client", "--example", name])?;
    Ok(directory.join("examples").join(name))
}

/// Has cargo build something, and returns the directory that it is in.
fn compile(what: &[&str]) -> Result<PathBuf> {
    let home = target_directory().join("static");
    let directory = home.join("build");
    fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
    let mut command = if has_target(TARGET)? { own_cargo()? } else { debian_cargo(&home)? };
    command.args(["build", "--locked", "--profile", "agent"]).args(what);
    command.args(["--target", TARGET, "--target-dir"]).arg(&directory);
    let status = command.stdin(Stdio::null()).status().context("cannot run cargo")?;
    let what = what.join(" ");
    ensure!(status.success(), "`{what}` does not build for {TARGET} ({status})");
    Ok(directory.join(TARGET).join("agent"))
}

fn check(agent: &Path, limit: u64) -> Result<()> {
    let needs = Needs::of(agent)?;
    ensure!(needs.is_nothing(), "{} is not static: {needs:?}", agent.display());
    let size = fs::metadata(agent)?.len();
    ensure!(size <= limit, "{} has {size} bytes; at most {limit} are meant", agent.display());
    let output = Command::new(agent).arg("--version").output();
    let output = output.with_context(|| format!("{} does not run", agent.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.starts_with("agent "),
        "{} does not run ({}): {said}{}",
        agent.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Whether the compiler in use has a library for the target.
pub(crate) fn has_target(target: &str) -> Result<bool> {
    let libraries = rustc(&["--print", "target-libdir", "--target", target])?;
    Ok(libraries.is_some_and(|libraries| libraries.is_dir()))
}

/// A path that rustc prints; `None` if it fails.
fn rustc(arguments: &[&str]) -> Result<Option<PathBuf>> {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
    let output = command.args(arguments).current_dir(workspace()).output();
    let output = output.context("cannot run rustc")?;
    let path = String::from_utf8(output.stdout)?;
    Ok(output.status.success().then(|| path.trim_end().into()))
}

/// The cargo that runs us. Its toolchain may have a linker that can fold; without one the agent is larger.
fn own_cargo() -> Result<Command> {
    let linker = own_linker()?;
    let mut command = cargo();
    command.env(
        FLAGS,
        match linker.join("ld.lld").exists() {
            true => format!("{NO_TABLES} {FOLD} -Clink-arg=-B{}", linker.display()),
            false => NO_TABLES.to_owned(),
        },
    );
    Ok(command)
}

/// Where a toolchain of rustup keeps its linker for gcc to find.
fn own_linker() -> Result<PathBuf> {
    let libraries = rustc(&["--print", "target-libdir"])?;
    let libraries = libraries.context("rustc does not say where its libraries are")?;
    let target = libraries.parent().context("rustc's libraries are at the root")?;
    Ok(target.join("bin/gcc-ld"))
}

/// Debian's cargo, set up to build the library along with the program.
fn debian_cargo(home: &Path) -> Result<Command> {
    eprintln!("This Rust has no library for {TARGET}: building it with Debian's compiler.");
    setup::run(Purpose::Static, Action::Install)?;
    let shim = unwinder(home)?;
    let flags = format!(
        "-Clink-self-contained=no -Crelocation-model=static -Ctarget-feature=+crt-static \
         {NO_TABLES} {FOLD} -L{}",
        shim.display()
    );
    let mut command = Command::new(DEBIAN_CARGO);
    command.current_dir(workspace());
    // The other toolchain's environment must not affect this one.
    for name in ["CARGO", "RUSTDOC", "RUSTUP_TOOLCHAIN", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
    command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER", "musl-gcc");
    command.env(FLAGS, flags);
    command.args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size"]);
    Ok(command)
}

/// A directory with the unwinder that the standard library links to: gcc's.
fn unwinder(home: &Path) -> Result<PathBuf> {
    let directory = home.join("unwinder");
    if directory.is_dir() {
        return Ok(directory);
    }
    let draft = home.join(format!("draft-{}", std::process::id()));
    fs::create_dir_all(&draft).with_context(|| format!("making {}", draft.display()))?;
    fs::write(draft.join("shim.c"), SHIM)?;
    let output = Command::new("gcc").arg("-print-file-name=libgcc_eh.a").output();
    let path = String::from_utf8(output.context("cannot run gcc")?.stdout)?;
    fs::copy(path.trim_end(), draft.join("libunwind.a")).context("copying gcc's unwinder")?;
    for (program, arguments) in [
        ("musl-gcc", &["-c", "-o", "shim.o", "shim.c"][..]),
        ("ar", &["r", "libunwind.a", "shim.o"][..]),
    ] {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&draft).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("cannot run {program}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{program} failed ({}): {said}", output.status);
    }
    match fs::rename(&draft, &directory) {
        // Another process was faster.
        Err(_) if directory.is_dir() => fs::remove_dir_all(&draft)?,
        done => done.context("naming the unwinder's directory")?,
    }
    Ok(directory)
}
