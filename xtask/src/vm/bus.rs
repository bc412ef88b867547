//! A guest's TPM, and a listener on the way to it, which knows each command and can hold one back.
//!
//! QEMU has a control channel to swtpm, and hands swtpm one end of a socket for the commands. Here it
//! hands it to us.

use std::fs::{self, File};
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use testkit::child::{Guarded, Scratch};

/// The command of swtpm's control channel that brings a socket. All commands and results are
/// numbers of four bytes, with what belongs to them.
const SET_DATA_FD: u32 = 0x10;
const SUCCESS: [u8; 4] = [0; 4];
/// Tag, size and code of a command, and of an answer.
const HEADER: usize = 10;
/// No command or answer of a TPM is longer.
const MAX_MESSAGE: usize = 4096;
/// How long a command may be held, and waited for.
const TIMEOUT: Duration = Duration::from_secs(120);
const START: Duration = Duration::from_secs(30);

/// A software TPM that waits for QEMU. It ends with this value.
#[derive(Debug)]
pub struct Bus {
    socket: PathBuf,
    listener: Listener,
    _tpm: Guarded,
    _home: Scratch,
}

/// Hears every command. Clones hear the same.
#[derive(Clone, Debug, Default)]
pub struct Listener(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Heard>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Heard {
    /// The codes of the commands since the last query.
    codes: Vec<u32>,
    hold: Hold,
}

/// What is to be held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hold {
    #[default]
    Nothing,
    /// The command of this code, when it comes for the `nth` time.
    Armed { code: u32, nth: u32 },
    /// It has come and waits.
    Holding(u32),
}

impl Bus {
    /// Switches on the TPM in the directory `state`.
    pub fn start(state: &Path) -> Result<Self> {
        let home = Scratch::new("endorse-vm-bus")?;
        let inside = |name: &str| home.path().join(name);
        let (socket, control, data) =
            (inside("bus.sock"), inside("ctrl.sock"), inside("data.sock"));
        let log = inside("log");
        let mut command = Command::new("swtpm");
        command.args(["socket", "--tpm2", "--terminate", "--tpmstate"]);
        command.arg(format!("dir={}", state.display()));
        command.arg("--ctrl").arg(format!("type=unixio,path={}", control.display()));
        command.arg("--server").arg(format!("type=unixio,path={}", data.display()));
        command.stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let mut tpm = Guarded::spawn(&mut command, Some(home.path()))?;
        let deadline = Instant::now() + START;
        while !(control.exists() && data.exists()) {
            if let Some(status) = tpm.exited()? {
                bail!("swtpm ended ({status}): {}", fs::read_to_string(&log).unwrap_or_default());
            }
            ensure!(Instant::now() < deadline, "swtpm does not listen after {} s", START.as_secs());
            thread::sleep(Duration::from_millis(2));
        }

        let listener = Listener::default();
        let (door, hears) = (UnixListener::bind(&socket)?, listener.clone());
        thread::spawn(move || {
            // Who breaks off has seen enough: QEMU says what it misses.
            let _ = door.accept().map_err(Into::into).and_then(|(machine, _)| {
                carry_control(&machine, &UnixStream::connect(control)?, &data, &hears)
            });
        });
        Ok(Self { socket, listener, _tpm: tpm, _home: home })
    }

    /// Where QEMU connects to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who hears what passes.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }
}

impl Listener {
    /// The codes of the commands since this was asked last.
    pub fn heard(&self) -> Vec<u32> {
        std::mem::take(&mut self.lock().codes)
    }

    /// Will hold back the `nth` command of this code, counted from now.
    pub fn hold(&self, code: u32, nth: u32) -> Result<()> {
        let mut heard = self.lock();
        ensure!(heard.hold == Hold::Nothing, "something else is to be held: {:x?}", heard.hold);
        heard.hold = Hold::Armed { code, nth };
        Ok(())
    }

    /// Waits until that command has come, and is held.
    pub fn held(&self) -> Result<u32> {
        let waits = |heard: &mut Heard| matches!(heard.hold, Hold::Armed { .. });
        let waited = self.0.changed.wait_timeout_while(self.lock(), TIMEOUT, waits);
        match waited.unwrap_or_else(PoisonError::into_inner).0.hold {
            Hold::Holding(code) => Ok(code),
            other => bail!("no such command came: {other:x?}"),
        }
    }

    /// Lets it go.
    pub fn release(&self) {
        self.lock().hold = Hold::Nothing;
        self.0.changed.notify_all();
    }

    /// A command has come; returns when it may go on.
    fn hear(&self, code: u32) {
        let mut heard = self.lock();
        heard.codes.push(code);
        match &mut heard.hold {
            Hold::Armed { code: wanted, nth } if *wanted == code && *nth > 1 => *nth -= 1,
            Hold::Armed { code: wanted, .. } if *wanted == code => {
                heard.hold = Hold::Holding(code);
                self.0.changed.notify_all();
                let holding = |heard: &mut Heard| heard.hold == Hold::Holding(code);
                drop(self.0.changed.wait_timeout_while(heard, TIMEOUT, holding));
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries the control channel, until QEMU ends it.
fn carry_control(
    machine: &UnixStream,
    tpm: &UnixStream,
    data: &Path,
    listener: &Listener,
) -> Result<()> {
    let (mut answers, mut back) = (tpm.try_clone()?, machine.try_clone()?);
    thread::spawn(move || std::io::copy(&mut answers, &mut back));
    let mut buffer = [0; MAX_MESSAGE];
    loop {
        let (len, passed) = receive(machine, &mut buffer)?;
        let message = buffer.get(..len).context("recvmsg")?;
        if message.is_empty() {
            return Ok(tpm.shutdown(std::net::Shutdown::Both)?);
        }
        if message.first_chunk() == Some(&SET_DATA_FD.to_be_bytes()) {
            let socket = UnixStream::from(passed.context("QEMU passed no socket")?);
            let (tpm, listener) = (UnixStream::connect(data)?, listener.clone());
            thread::spawn(move || carry_commands(socket, tpm, &listener));
            (&*machine).write_all(&SUCCESS)?;
        } else {
            (&*tpm).write_all(message)?;
        }
    }
}

/// One message, and the file that came with it.
fn receive(from: &UnixStream, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(from, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    let passed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    Ok((received.bytes, passed))
}

/// Carries commands and their answers, until either side ends it.
fn carry_commands(mut machine: UnixStream, mut tpm: UnixStream, listener: &Listener) -> Result<()> {
    loop {
        let command = message(&mut machine)?;
        let code = command.get(6..).and_then(<[u8]>::first_chunk).context("a code")?;
        listener.hear(u32::from_be_bytes(*code));
        tpm.write_all(&command)?;
        machine.write_all(&message(&mut tpm)?)?;
    }
}

/// A command or an answer: its header says how long it is.
fn message(from: &mut UnixStream) -> Result<Vec<u8>> {
    let mut message = vec![0; HEADER];
    from.read_exact(&mut message)?;
    let size = message.get(2..).and_then(<[u8]>::first_chunk).context("a size")?;
    let size = usize::try_from(u32::from_be_bytes(*size))?;
    ensure!((HEADER..=MAX_MESSAGE).contains(&size), "a message of {size} bytes");
    message.resize(size, 0);
    from.read_exact(message.get_mut(HEADER..).context("a header")?)?;
    Ok(message)
}
