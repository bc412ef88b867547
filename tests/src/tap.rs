//! A tap on the wire between a program and its software TPM: at its socket it looks like the TPM.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;
use tpm2::transport::{Recording, Tcti, Transport};
use xtask::child::Scratch;
use xtask::swtpm::Swtpm;

use crate::bus::forward;

/// No command is larger.
const LARGEST: usize = 4096;

type Between = dyn FnMut(&[u8], &mut dyn Transport) -> io::Result<Vec<u8>> + Send;

/// The tap. It works until the process ends.
#[derive(Debug)]
pub struct Tap {
    home: Scratch,
    recording: Recording,
}

impl Tap {
    /// Passes everything on.
    pub fn new(swtpm: &Swtpm) -> Result<Self> {
        Self::with(swtpm, forward_all)
    }

    /// Asks `between` what to answer; an error of it hangs up.
    pub fn with(
        swtpm: &Swtpm,
        between: impl FnMut(&[u8], &mut dyn Transport) -> io::Result<Vec<u8>> + Send + 'static,
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
        Ok(Self { home, recording })
    }

    /// Its address.
    pub fn tcti(&self) -> String {
        format!("swtpm:path={}", self.home.path().join("tpm.sock").display())
    }

    /// What the TPM was asked and has answered.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }
}

fn forward_all(command: &[u8], tpm: &mut dyn Transport) -> io::Result<Vec<u8>> {
    forward(tpm, command)
}

fn serve(mut client: UnixStream, tpm: &mut dyn Transport, between: &mut Between) -> io::Result<()> {
    loop {
        let mut header = [0; 10];
        client.read_exact(&mut header)?;
        let size = header[2..6].iter().fold(0, |size, octet| size << 8 | usize::from(*octet));
        if !(header.len()..=LARGEST).contains(&size) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut command = vec![0; size];
        command[..header.len()].copy_from_slice(&header);
        client.read_exact(&mut command[header.len()..])?;
        client.write_all(&between(&command, tpm)?)?;
    }
}
