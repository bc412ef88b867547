//! The programs of `tests/workload-clients`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::{fs, io};

use anyhow::{Context, Result};
use serde_json::Value;
use xtask::workspace;

/// The programs, built.
pub struct Clients {
    /// With go-spiffe.
    pub go: Program,
    /// With the packages spiffe and spiffe-tls.
    pub python: Program,
    /// With the crates spiffe and spiffe-rustls.
    pub rust: Program,
}

/// A program that uses the Workload API.
pub struct Program {
    /// The language.
    pub name: &'static str,
    command: Vec<PathBuf>,
}

impl Clients {
    /// Builds them, once. `None`, with a message, if this machine has no Go or no Python, or cannot get the libraries, or if the
    /// test cannot become other users.
    pub fn built() -> Option<&'static Self> {
        static BUILT: OnceLock<Option<Clients>> = OnceLock::new();
        let build = || {
            let built = Self::build();
            built
                .inspect_err(|why| eprintln!("skipped: workloads cannot be tried here: {why:#}"))
                .ok()
        };
        BUILT.get_or_init(build).as_ref()
    }

    /// All of them.
    pub fn all(&self) -> [&Program; 3] {
        [&self.go, &self.python, &self.rust]
    }

    fn build() -> Result<Self> {
        check_root()?;
        let source = workspace().join("tests/workload-clients");
        let target = target()?;
        let go = target.join("go");
        check(Command::new("go").args(["build", "-o"]).arg(&go).current_dir(&source).output())?;
        let python = venv("venv", &source.join("requirements.txt"))?;
        let rust = target.join("rust");
        let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--locked", "--manifest-path"]);
        build.arg(source.join("rust/Cargo.toml")).arg("--target-dir").arg(&rust);
        check(build.output())?;
        Ok(Self {
            go: Program { name: "Go", command: vec![go] },
            python: Program { name: "Python", command: vec![python, source.join("workload.py")] },
            rust: Program { name: "Rust", command: vec![rust.join("debug/workload-client")] },
        })
    }
}

/// Becoming another user is a right of root.
pub fn check_root() -> Result<()> {
    let id = Command::new("id").arg("-u").output()?;
    anyhow::ensure!(id.stdout == b"0\n", "only root can become other users");
    Ok(())
}

/// Where they are built. Other users must be able to execute them.
fn target() -> Result<PathBuf> {
    let target = std::env::temp_dir().join("endorse-workload-clients");
    fs::create_dir_all(&target)?;
    Ok(target)
}

/// Installs packages of Python in an environment of this name, and returns its interpreter.
pub fn venv(name: &str, requirements: &Path) -> Result<PathBuf> {
    let venv = target()?.join(name);
    let python = venv.join("bin/python");
    check(Command::new("python3").args(["-m", "venv"]).arg(&venv).output())?;
    let install = ["-m", "pip", "install", "-q", "-r"];
    check(Command::new(&python).args(install).arg(requirements).output())?;
    Ok(python)
}

impl Program {
    fn command(&self, socket: &Path, uid: u32) -> Command {
        let [program, arguments @ ..] = &self.command[..] else {
            panic!("a command without a program")
        };
        let mut command = Command::new(program);
        command.args(arguments).arg(socket).arg(uid.to_string());
        command
    }

    /// What it receives as this user.
    pub fn once(&self, socket: &Path, uid: u32) -> Result<Value> {
        answer(self.command(socket, uid).arg("once"))
    }

    /// How its connection ends with a server of mutual TLS that should have this SPIFFE ID.
    pub fn dial(&self, socket: &Path, uid: u32, peer: &str, address: &str) -> Result<Value> {
        answer(self.command(socket, uid).args(["dial", peer, address]))
    }

    /// A server of mutual TLS that answers workloads with this SPIFFE ID, and its address.
    pub fn serve(&self, socket: &Path, uid: u32, peer: &str) -> Result<(Watch, String)> {
        let mut server = Watch::start(self.command(socket, uid).args(["serve", peer]))?;
        let said = server.next()?;
        let address = said["address"].as_str().with_context(|| format!("no server: {said}"))?;
        Ok((server, address.to_owned()))
    }

    /// Which services and methods there are, by gRPC's reflection without the security header; Go only.
    pub fn reflect(&self, socket: &Path, uid: u32) -> Result<Value> {
        answer(self.command(socket, uid).arg("reflect"))
    }

    /// It watches its X.509 identities; Go only.
    pub fn watch(&self, socket: &Path, uid: u32) -> Result<Watch> {
        Watch::start(self.command(socket, uid).arg("watch"))
    }
}

/// A program that says what it receives. It ends with this value, or by itself after three minutes.
pub struct Watch {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Watch {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, lines })
    }

    /// What it received next.
    pub fn next(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("it has ended: {line}"))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn check(output: io::Result<Output>) -> Result<()> {
    let output = output?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn answer(command: &mut Command) -> Result<Value> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&said)
        .with_context(|| format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
}
