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
    go: PathBuf,
    python: PathBuf,
    script: PathBuf,
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

    fn build() -> Result<Self> {
        let id = Command::new("id").arg("-u").output()?;
        anyhow::ensure!(id.stdout == b"0\n", "only root can become other users");
        let source = workspace().join("tests/workload-clients");
        // Other users must be able to execute it.
        let target = std::env::temp_dir().join("endorse-workload-clients");
        fs::create_dir_all(&target)?;
        let go = target.join("go");
        check(Command::new("go").args(["build", "-o"]).arg(&go).current_dir(&source).output())?;
        let venv = target.join("venv");
        let python = venv.join("bin/python");
        check(Command::new("python3").args(["-m", "venv"]).arg(&venv).output())?;
        let requirements = source.join("requirements.txt");
        let install = ["-m", "pip", "install", "-q", "-r"];
        check(Command::new(&python).args(install).arg(requirements).output())?;
        Ok(Self { go, python, script: source.join("workload.py") })
    }

    /// What the program of Go receives as this user.
    pub fn go(&self, socket: &Path, uid: u32) -> Result<Value> {
        answer(Command::new(&self.go).arg(socket).args([&uid.to_string(), "once"]))
    }

    /// What the program of Python receives as this user.
    pub fn python(&self, socket: &Path, uid: u32) -> Result<Value> {
        answer(Command::new(&self.python).arg(&self.script).arg(socket).arg(uid.to_string()))
    }

    /// A program of Go that watches its X.509 identities.
    pub fn watch(&self, socket: &Path, uid: u32) -> Result<Watch> {
        let mut command = Command::new(&self.go);
        command.arg(socket).args([&uid.to_string(), "watch"]);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Watch { child, lines })
    }
}

/// A program that says what it receives. It ends with this value, or by itself after a minute.
pub struct Watch {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Watch {
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
