//! A tap on the wire between a program and its software TPM: at its socket it looks like the TPM.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::child::Scratch;
use crate::swtpm::Swtpm;
use anyhow::{Context, Result};
use tpm2::transport::{Recording, Tcti, Transport};

use crate::bus::forward;

/// No command is larger.
const MAX_MESSAGE: usize = 4096;

type Between =
    dyn FnMut(&[u8], &mut dyn Transport<Error = io::Error>) -> io::Result<Vec<u8>> + Send;

/// The tap. It works until the process ends.
#[derive(Debug)]
pub struct Tap {
    address: String,
    recording: Recording,
    /// Where its socket is, if that is in a directory.
    _home: Option<Scratch>,
}

impl Tap {
    /// Passes everything on.
    pub fn new(swtpm: &Swtpm) -> Result<Self> {
        Self::with(swtpm, forward_all)
    }

    /// Asks `between` what to answer; an error of it hangs up.
    pub fn with(
        swtpm: &Swtpm,
        between: impl FnMut(&[u8], &mut dyn Transport<Error = io::Error>) -> io::Result<Vec<u8>>
        + Send
        + 'static,
    ) -> Result<Self> {
        let home = Scratch::new("endorse-tap")?;
        let listener = UnixListener::bind(home.path().join("tpm.sock"))?;
        let tcti: Tcti = swtpm.tcti().parse()?;
        let between: Arc<Mutex<Box<Between>>> = Arc::new(Mutex::new(Box::new(between)));
        let recording = Recording::default();
        let seen = recording.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(tpm) = tcti.open() else { continue };
                let mut tpm = tpm2::transport::Record::new(tpm, seen.clone());
                let mut between = between.lock().unwrap_or_else(PoisonError::into_inner);
                // The end of a client, whatever it is, is the end of its connection.
                let _ = serve(client, &mut tpm, &mut **between);
            }
        });
        let address = format!("swtpm:path={}", home.path().join("tpm.sock").display());
        Ok(Self { address, recording, _home: Some(home) })
    }

    /// Passes everything on, on TCP, where tpm2-tools can talk to it. The TPM must be on TCP too: its control channel
    /// is the upper neighbour of its port, and so it is here.
    pub fn tcp(swtpm: &Swtpm) -> Result<Self> {
        let tcti = swtpm.tcti();
        let (_, port) = tcti.rsplit_once("port=").context("the TPM is not on TCP")?;
        let control: u16 = port.parse::<u16>()? + 1;
        let (commands, controls) = neighbours()?;
        let address = format!("swtpm:host=127.0.0.1,port={}", commands.local_addr()?.port());
        let recording = Recording::default();
        let (seen, tcti) = (recording.clone(), tcti.parse::<Tcti>()?);
        thread::spawn(move || {
            for client in commands.incoming().map_while(Result::ok) {
                let Ok(tpm) = tcti.open() else { continue };
                let mut tpm = tpm2::transport::Record::new(tpm, seen.clone());
                let _ = serve(client, &mut tpm, &mut forward_all);
            }
        });
        thread::spawn(move || {
            for client in controls.incoming().map_while(Result::ok) {
                let _ = pass_on(client, control);
            }
        });
        Ok(Self { address, recording, _home: None })
    }

    /// Its address.
    pub fn tcti(&self) -> String {
        self.address.clone()
    }

    /// What the TPM was asked and has answered.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }
}

fn forward_all(command: &[u8], tpm: &mut dyn Transport<Error = io::Error>) -> io::Result<Vec<u8>> {
    forward(tpm, command)
}

/// Listeners on two ports, one above the other.
fn neighbours() -> Result<(TcpListener, TcpListener)> {
    const ATTEMPTS: usize = 100;
    for _ in 0..ATTEMPTS {
        let lower = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let Some(above) = lower.local_addr()?.port().checked_add(1) else { continue };
        if let Ok(upper) = TcpListener::bind((Ipv4Addr::LOCALHOST, above)) {
            return Ok((lower, upper));
        }
    }
    anyhow::bail!("no two neighbouring TCP ports are free on 127.0.0.1")
}

/// Both directions, until either side hangs up.
fn pass_on(client: TcpStream, port: u16) -> io::Result<()> {
    let tpm = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let (mut back_from, mut back_to) = (tpm.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut back_from, &mut back_to);
        let _ = back_to.shutdown(Shutdown::Both);
    });
    let (mut from, mut to) = (client, tpm);
    io::copy(&mut from, &mut to)?;
    to.shutdown(Shutdown::Both)
}

fn serve(
    mut client: impl Read + Write,
    tpm: &mut dyn Transport<Error = io::Error>,
    between: &mut Between,
) -> io::Result<()> {
    loop {
        let mut header = [0; 10];
        client.read_exact(&mut header)?;
        let size = header[2..6].iter().fold(0, |size, byte| size << 8 | usize::from(*byte));
        if !(header.len()..=MAX_MESSAGE).contains(&size) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut command = vec![0; size];
        command[..header.len()].copy_from_slice(&header);
        client.read_exact(&mut command[header.len()..])?;
        client.write_all(&between(&command, tpm)?)?;
    }
}
