//! Software TPMs for tests, benches and the demo: manufactured with EK certificates, each test's
//! own, gone when it ends.
//!
//! ```no_run
//! use testkit::swtpm::{Factory, Kind, Maker};
//!
//! # fn main() -> anyhow::Result<()> {
//! let made = Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?;
//! let tpm = made.start()?;
//! println!("agent identify --tpm {}", tpm.tcti());
//! assert!(tpm.handles()?.transient.is_empty());
//! # Ok(())
//! # }
//! ```

mod command;
mod factory;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub use self::factory::{Ca, Factory, Kind, Maker, Manufactured};
use crate::child::{Guarded, Scratch};
use command::Bare;

const STATE_FILE: &str = "tpm2-00.permall";
const START: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(60);

/// A software TPM that is switched on. It has no resource manager: three object slots, one client
/// at a time. It ends with this value, and with this process, however that ends.
#[derive(Debug)]
pub struct Swtpm {
    process: Guarded,
    off: PoweredOff,
}

/// A software TPM that is switched off: its state, and the address at which it comes back.
#[derive(Debug)]
pub struct PoweredOff {
    scratch: Scratch,
    address: Address,
    /// What asserts physical presence to it.
    attendant: Option<PathBuf>,
}

/// A connection to a software TPM, during which no one else is served.
pub struct Occupied(
    #[expect(dead_code, reason = "held for its effect on others")] Box<dyn Connection>,
);

/// Where a software TPM listens.
#[derive(Debug)]
enum Address {
    Unix(PathBuf),
    /// The port; the control channel is its upper neighbour, where tpm2-tss looks for it.
    Tcp(u16),
}

/// What a TPM holds, by type of handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handles {
    /// Objects loaded.
    pub transient: Vec<u32>,
    /// Sessions loaded.
    pub loaded_sessions: Vec<u32>,
    /// Sessions whose context was saved and which still count.
    pub saved_sessions: Vec<u32>,
    /// Objects kept over a reset.
    pub persistent: Vec<u32>,
    /// NV indices.
    pub nv_indices: Vec<u32>,
}

impl Swtpm {
    /// Switches on a copy of the TPM in the directory `state`, on a Unix socket.
    pub fn start(state: &Path) -> Result<Self> {
        let scratch = new_home(state)?;
        let socket = scratch.path().join("tpm.sock");
        PoweredOff { scratch, address: Address::Unix(socket), attendant: None }.power_on()
    }

    /// As [`Self::start`], with physical presence asserted, as some commands require.
    pub fn start_attended(state: &Path) -> Result<Self> {
        let scratch = new_home(state)?;
        let socket = scratch.path().join("tpm.sock");
        let attendant = Some(attendant(scratch.path())?);
        PoweredOff { scratch, address: Address::Unix(socket), attendant }.power_on()
    }

    /// Switches on a copy of the TPM in the directory `state`, on TCP, where tpm2-tools can talk to it
    /// too.
    pub fn start_tcp(state: &Path) -> Result<Self> {
        const ATTEMPTS: u32 = 20;
        let mut attempt = 1;
        loop {
            let address = Address::Tcp(free_neighbours()?);
            match (PoweredOff { scratch: new_home(state)?, address, attendant: None }).power_on() {
                // Another process may have taken the ports in the meantime.
                Err(_) if attempt < ATTEMPTS => attempt += 1,
                done => return done,
            }
        }
    }

    /// Its address in the syntax of the TCG's TCTI loaders.
    pub fn tcti(&self) -> String {
        match &self.off.address {
            Address::Unix(path) => format!("swtpm:path={}", path.display()),
            Address::Tcp(port) => format!("swtpm:host=127.0.0.1,port={port}"),
        }
    }

    /// Pulls the plug.
    pub fn power_off(self) -> PoweredOff {
        let Self { process, off } = self;
        drop(process);
        off
    }

    /// Pulls the plug and switches it on again, at the same address: TPM Reset.
    pub fn power_cycle(self) -> Result<Self> {
        self.power_off().power_on()
    }

    /// Connects, and so keeps all others waiting, until the connection is dropped.
    pub fn occupy(&self) -> Result<Occupied> {
        self.off.address.connect().map(Occupied)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it holds now. Waits while another client is connected.
    pub fn handles(&self) -> Result<Handles> {
        let mut bare = self.bare()?;
        let mut of_type = |kind: u32| bare.handles(kind << 24);
        Ok(Handles {
            nv_indices: of_type(0x01)?,
            loaded_sessions: of_type(0x02)?,
            saved_sessions: of_type(0x03)?,
            transient: of_type(0x80)?,
            persistent: of_type(0x81)?,
        })
    }

    /// Runs one of tpm2-tools against it and returns what it wrote to stdout. Only on TCP: their
    /// swtpm TCTI knows no Unix sockets.
    pub fn tool(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let output = self.tool_command(name)?.args(arguments).output();
        let output = output.with_context(|| format!("cannot run {name}"))?;
        if !output.status.success() {
            bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// One of tpm2-tools, configured to use this TPM.
    pub fn tool_command(&self, name: &str) -> Result<Command> {
        ensure!(
            matches!(self.off.address, Address::Tcp(_)),
            "tpm2-tools need a TPM on TCP: use start_tcp"
        );
        let mut command = Command::new(name);
        command.env("TPM2TOOLS_TCTI", self.tcti()).stdin(Stdio::null());
        Ok(command)
    }

    fn bare(&self) -> Result<Bare<Box<dyn Connection>>> {
        self.off.address.connect().map(Bare)
    }
}

impl PoweredOff {
    /// Its state: what a TPM keeps without power.
    pub fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    /// Switches it on, at the same address as before.
    pub fn power_on(self) -> Result<Swtpm> {
        let home = self.scratch.path();
        let (pid_file, log) = (home.join("pid"), home.join("log"));
        for stale in [&pid_file, &home.join("tpm.sock"), &home.join("ctl.sock")] {
            match fs::remove_file(stale) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        let mut command = Command::new("swtpm");
        command.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"]);
        match &self.address {
            Address::Unix(socket) => {
                let control = socket.with_file_name("ctl.sock");
                command.arg("--server").arg(format!("type=unixio,path={}", socket.display()));
                command.arg("--ctrl").arg(format!("type=unixio,path={}", control.display()));
            }
            Address::Tcp(port) => {
                let control = port + 1;
                command.arg("--server").arg(format!("type=tcp,port={port},bindaddr=127.0.0.1"));
                command.arg("--ctrl").arg(format!("type=tcp,port={control},bindaddr=127.0.0.1"));
            }
        }
        command.arg("--tpmstate").arg(format!("dir={}", self.state().display()));
        command.arg("--pid").arg(format!("file={}", pid_file.display()));
        command.envs(self.attendant.iter().map(|library| ("LD_PRELOAD", library)));
        command.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let mut process = Guarded::spawn(&mut command, Some(home))
            .context("swtpm does not start; `cargo xtask setup` installs it")?;
        listening(&mut process, &pid_file, &log)?;
        let tpm = Swtpm { process, off: self };
        tpm.bare()?.handles(0x80 << 24).context("the software TPM does not work")?;
        Ok(tpm)
    }
}

/// Compiles the callback that asserts physical presence.
fn attendant(home: &Path) -> Result<PathBuf> {
    let (source, library) = (home.join("presence.c"), home.join("presence.so"));
    fs::write(&source, include_str!("presence.c"))?;
    let mut compiler = Command::new("cc");
    let output = compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output();
    let output = output.context("cannot run the C compiler, cc")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "presence.c does not compile: {said}");
    Ok(library)
}

impl Address {
    fn connect(&self) -> Result<Box<dyn Connection>> {
        let connection: Box<dyn Connection> = match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(ANSWER))?;
                Box::new(stream)
            }
            Self::Tcp(port) => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
                stream.set_read_timeout(Some(ANSWER))?;
                Box::new(stream)
            }
        };
        Ok(connection)
    }
}

trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

/// A new directory with a copy of the state. swtpm allows one process per directory.
fn new_home(state: &Path) -> Result<Scratch> {
    let scratch = Scratch::new("endorse-tpm")?;
    let copy = scratch.path().join("state");
    fs::create_dir(&copy)?;
    copy_state(state, &copy)?;
    Ok(scratch)
}

fn copy_state(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from.join(STATE_FILE), to.join(STATE_FILE))
        .map(drop)
        .with_context(|| format!("copying the TPM in {}", from.display()))
}

/// swtpm writes its process id once its sockets listen.
fn listening(process: &mut Guarded, pid_file: &Path, log: &Path) -> Result<()> {
    let deadline = Instant::now() + START;
    let expected = process.id().to_string();
    loop {
        if fs::read_to_string(pid_file).is_ok_and(|found| found.trim_end() == expected) {
            return Ok(());
        }
        if let Some(status) = process.exited()? {
            bail!("swtpm ended ({status}): {}", fs::read_to_string(log).unwrap_or_default().trim());
        }
        ensure!(Instant::now() < deadline, "swtpm does not listen after {} s", START.as_secs());
        thread::sleep(Duration::from_millis(1));
    }
}

/// A port that is free and whose upper neighbour is too, below the range from which the kernel
/// takes ports for clients.
fn free_neighbours() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u32 = 20_000;
    const PAIRS: u32 = 6_000;
    for _ in 0..PAIRS {
        let number = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let pair = std::process::id().wrapping_mul(2_654_435_761).wrapping_add(number) % PAIRS;
        let port = u16::try_from(FIRST + 2 * pair)?;
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if free(port) && free(port + 1) {
            return Ok(port);
        }
    }
    bail!("no two neighbouring TCP ports are free on 127.0.0.1")
}
