//! `cargo xtask setup`: the programs that the other commands run, from the distribution's packages.

use std::env;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use testkit::program::program;

/// What the programs are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Software TPMs with EK certificates, and a second opinion on what was issued.
    Demo,
    /// The same, and another time for a daemon than the machine's.
    Soak,
    /// Everything above, and the software that tests compare with.
    Test,
    /// A compiler that can build its own library, and another C library.
    Static,
    /// Virtual machines with software TPMs.
    Vm,
    /// Packages.
    Release,
    /// Packages, and a virtual machine that installs them.
    Walk,
}

/// Whether to install or only to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Install what is missing.
    Install,
    /// Say what would be installed.
    Tell,
}

struct Tool {
    program: &'static str,
    /// Debian's package.
    package: &'static str,
    why: &'static str,
    wanted: &'static [Purpose],
}

const fn demo(program: &'static str, package: &'static str, why: &'static str) -> Tool {
    Tool {
        program,
        package,
        why,
        wanted: &[Purpose::Demo, Purpose::Soak, Purpose::Test, Purpose::Vm, Purpose::Walk],
    }
}

const fn test(program: &'static str, package: &'static str, why: &'static str) -> Tool {
    Tool { program, package, why, wanted: &[Purpose::Test] }
}

const fn only(
    wanted: &'static [Purpose],
    program: &'static str,
    package: &'static str,
    why: &'static str,
) -> Tool {
    Tool { program, package, why, wanted }
}

const CLOCK: &[Purpose] = &[Purpose::Soak, Purpose::Test];
const ISSUED: &[Purpose] = &[Purpose::Test, Purpose::Walk];
const STATIC: &[Purpose] = &[Purpose::Static];
const VM: &[Purpose] = &[Purpose::Vm, Purpose::Walk];
const RELEASE: &[Purpose] = &[Purpose::Release, Purpose::Walk];
const WALK: &[Purpose] = &[Purpose::Walk];

const TOOLS: [Tool; 32] = [
    demo("swtpm", "swtpm", "the software TPM"),
    demo("swtpm_setup", "swtpm-tools", "manufactures software TPMs"),
    demo("swtpm_localca", "swtpm-tools", "signs their EK certificates"),
    demo("certtool", "gnutls-bin", "swtpm_localca makes its CA with it"),
    demo("openssl", "openssl", "reads and verifies what was issued"),
    test("tpm2", "tpm2-tools", "other people's TPM software, compared with ours both ways"),
    test("/usr/share/doc/tpm2-openssl", "tpm2-openssl", "signs with key files of ours"),
    test("/usr/sbin/tpm2-abrmd", "tpm2-abrmd", "shares the TPM among programs that use OpenSSL"),
    test("/usr/share/doc/libtss2-tcti-tabrmd0", "libtss2-tcti-tabrmd0", "their way to it"),
    test("dbus-daemon", "dbus-daemon", "the bus between them"),
    test("curl", "curl", "asks the web API"),
    only(ISSUED, "ssh-keygen", "openssh-client", "reads the SSH certificates that were issued"),
    test("g++", "g++", "compiles libFuzzer for the fuzz targets"),
    only(CLOCK, "faketime", "faketime", "another time for a daemon than the machine's"),
    test("systemd-analyze", "systemd", "judges the units that are installed"),
    test("/usr/sbin/nginx", "nginx-light", "serves with the files of a service"),
    test("/usr/sbin/sshd", "openssh-server", "lets in who has an SSH certificate"),
    test("pg_ctlcluster", "postgresql", "lets in who has an X.509 certificate"),
    only(STATIC, "/usr/bin/rustc", "rustc-web", "a compiler with the source of its library"),
    only(STATIC, "/usr/bin/cargo", "cargo-web", "the same Rust's cargo"),
    only(STATIC, "/usr/lib/rustlib/src/rust/library", "rust-web-src", "that source"),
    only(STATIC, "musl-gcc", "musl-tools", "the C library that is linked in"),
    only(STATIC, "ld.lld", "lld", "a linker that links equal functions once"),
    only(VM, "qemu-system-x86_64", "qemu-system-x86", "the machine"),
    only(VM, "busybox", "busybox-static", "the guest's shell"),
    only(VM, "tpm2_eventlog", "tpm2-tools", "computes PCRs from the firmware's log"),
    only(WALK, "mmdebstrap", "mmdebstrap", "makes a small Debian"),
    only(WALK, "fakeroot", "fakeroot", "makes files of others, for those who are not root"),
    only(WALK, "/sbin/mke2fs", "e2fsprogs", "makes the disk that it is on"),
    only(RELEASE, "dpkg-deb", "dpkg", "makes packages"),
    only(RELEASE, "tar", "tar", "makes archives"),
    only(RELEASE, "gzip", "gzip", "compresses them"),
];

/// Servers that tests start by themselves, and the units by which Debian would start them at once.
const SERVERS: [(&str, &str); 4] = [
    ("nginx-light", "nginx.service"),
    ("openssh-server", "ssh.service"),
    ("postgresql", "postgresql.service"),
    ("tpm2-abrmd", "tpm2-abrmd.service"),
];

impl Tool {
    fn is_there(&self) -> bool {
        let path = Path::new(self.program);
        if path.is_absolute() { path.exists() } else { program(self.program).is_some() }
    }
}

/// Sees to it that all programs are there, and says before what it will install and why.
pub fn run(purpose: Purpose, action: Action) -> Result<()> {
    let wanted = wanted(purpose);
    let packages = packages(&wanted);
    if packages.is_empty() {
        return Ok(());
    }
    eprintln!("Missing on this machine:");
    for tool in &wanted {
        eprintln!("  {:<14} {} (package {})", tool.program, tool.why, tool.package);
    }
    let apt = Apt::find().map_err(|error| advised(&error, &packages))?;
    eprintln!("Installing with: {}", apt.line(&install(&packages)));
    if action == Action::Tell {
        return Ok(());
    }
    apt.mask(&packages)?;
    apt.install(&packages).map_err(|error| advised(&error, &packages))?;
    let still = missing(purpose);
    ensure!(still.is_empty(), "installed, but {} still cannot be found in PATH", still.join(", "));
    Ok(())
}

/// The programs that are not there.
pub fn missing(purpose: Purpose) -> Vec<&'static str> {
    wanted(purpose).iter().map(|tool| tool.program).collect()
}

fn wanted(purpose: Purpose) -> Vec<&'static Tool> {
    TOOLS
        .iter()
        .filter(|tool| tool.wanted.contains(&purpose))
        .filter(|tool| !tool.is_there())
        .collect()
}

fn packages(tools: &[&Tool]) -> Vec<&'static str> {
    let mut packages: Vec<_> = tools.iter().map(|tool| tool.package).collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn advised(error: &Error, packages: &[&str]) -> Error {
    anyhow!(
        "cannot install what is missing: {error:#}\n\
         install it yourself, on Debian 12 with `apt-get install {}`, and try again",
        packages.join(" ")
    )
}

fn install<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    arguments
}

fn units(packages: &[&str]) -> Vec<&'static str> {
    let wanted = SERVERS.iter().filter(|(package, _)| packages.contains(package));
    wanted.map(|(_, unit)| *unit).collect()
}

/// apt-get, and how to become root for it.
struct Apt {
    sudo: Option<Vec<&'static str>>,
}

impl Apt {
    fn find() -> Result<Self> {
        ensure!(program("apt-get").is_some(), "this machine has no apt-get");
        if fs::metadata("/proc/self").context("/proc is not mounted")?.uid() == 0 {
            return Ok(Self { sudo: None });
        }
        ensure!(program("sudo").is_some(), "not root, and there is no sudo");
        // Only a person at a terminal can type a password.
        let alone = env::var_os("CI").is_some() || !io::stdin().is_terminal();
        Ok(Self { sudo: Some(if alone { vec!["sudo", "-n"] } else { vec!["sudo"] }) })
    }

    fn words<'a>(&self, arguments: &[&'a str]) -> Vec<&'a str> {
        let mut words: Vec<&'a str> = self.sudo.clone().unwrap_or_default();
        words.extend(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        words.extend(["-o", "DPkg::Lock::Timeout=300"]);
        words.extend(arguments);
        words
    }

    /// Sees to it that no server runs because tests need its program, neither now nor after the next boot.
    fn mask(&self, packages: &[&str]) -> Result<()> {
        let units = units(packages);
        if units.is_empty() || program("systemctl").is_none() {
            return Ok(());
        }
        let mut words: Vec<&str> = self.sudo.clone().unwrap_or_default();
        words.extend(["systemctl", "mask"]);
        words.extend(&units);
        eprintln!("So that they do not run as services: {}", words.join(" "));
        self.run_words(&words)
    }

    fn line(&self, arguments: &[&str]) -> String {
        self.words(arguments).join(" ")
    }

    fn install(&self, packages: &[&str]) -> Result<()> {
        let known = packages.iter().all(|package| has_candidate(package));
        if known && self.run(&install(packages)).is_ok() {
            return Ok(());
        }
        eprintln!("The package lists are missing or old: {}", self.line(&["update"]));
        self.run(&["update"])?;
        self.run(&install(packages))
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        self.run_words(&self.words(arguments))
    }

    fn run_words(&self, words: &[&str]) -> Result<()> {
        let (program, rest) = words.split_first().context("no command")?;
        let mut command = Command::new(program);
        command.args(rest);
        if self.sudo.as_ref().is_none_or(|sudo| sudo.len() > 1) {
            command.stdin(Stdio::null());
        }
        let status = command.status().with_context(|| format!("cannot run {program}"))?;
        if !status.success() {
            bail!("`{}` failed ({status})", words.join(" "));
        }
        Ok(())
    }
}

/// Whether the package lists on this machine know the package.
fn has_candidate(package: &str) -> bool {
    let output = Command::new("apt-cache").args(["policy", package]).env("LC_ALL", "C").output();
    output.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("Candidate: ") && !text.contains("Candidate: (none)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_once() {
        let all: Vec<_> = TOOLS.iter().collect();
        let names = packages(&all);
        assert_eq!(names.iter().filter(|name| **name == "swtpm-tools").count(), 1);
        assert!(names.contains(&"tpm2-tools"));
        let said = advised(&anyhow!("no sudo"), &["swtpm", "g++"]).to_string();
        assert!(said.starts_with("cannot install what is missing: no sudo\n"), "{said}");
        assert!(said.contains("`apt-get install swtpm g++`"), "{said}");
    }

    #[test]
    fn the_line_shown_is_the_line_run() {
        let apt = Apt { sudo: Some(vec!["sudo", "-n"]) };
        assert_eq!(
            apt.line(&install(&["swtpm"])),
            "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
             install --yes --no-install-recommends swtpm"
        );
    }

    #[test]
    fn every_server_that_is_installed_is_masked_and_no_other() {
        assert_eq!(units(&["swtpm", "openssh-server"]), ["ssh.service"]);
        assert!(SERVERS.iter().all(|(server, _)| TOOLS.iter().any(|tool| tool.package == *server)));
    }

    #[test]
    fn the_demo_needs_a_part_of_what_tests_need() {
        let of = |purpose| TOOLS.iter().filter(|tool| tool.wanted.contains(&purpose)).count();
        assert!(of(Purpose::Demo) > 0 && of(Purpose::Demo) < of(Purpose::Test));
    }
}
