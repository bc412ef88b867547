use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::Transport;
use super::answer::invalid_size;
use super::clock::Deadline;
use super::stream::{COMMAND_TIMEOUT, Timed, connect_tcp};

/// The simulator of the TCG's reference code, which Microsoft published: commands on one port, and what a board does to its TPM
/// on the next. `mssim` in the notation of the TSS.
///
/// Part 4, `TcpServer.c` and `TpmTcpProtocol.h`, describes the protocol.
pub struct Simulator {
    command: TcpStream,
    platform: TcpStream,
    timeout: Duration,
}

/// What the simulator is asked to do.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Request {
    PowerOn = 1,
    SendCommand = 8,
    NvOn = 11,
    SessionEnd = 20,
}

impl Request {
    const fn octets(self) -> [u8; 4] {
        (self as u32).to_be_bytes()
    }
}

impl Simulator {
    /// Connects to both ports: `port` and the next.
    ///
    /// A simulator whose power is off is switched on. As after every reset it then waits for a `TPM2_Startup`.
    ///
    /// # Errors
    /// As the operating system says; the simulator refuses to be switched on.
    pub fn connect(host: &str, port: u16) -> io::Result<Self> {
        let no_next =
            || io::Error::new(ErrorKind::InvalidInput, "no port is left for the platform");
        let platform = connect_tcp(host, port.checked_add(1).ok_or_else(no_next)?)?;
        let command = connect_tcp(host, port)?;
        let mut simulator = Self { command, platform, timeout: COMMAND_TIMEOUT };
        simulator.signal(Request::PowerOn)?;
        simulator.signal(Request::NvOn)?;
        Ok(simulator)
    }

    /// Sets how long a command and its whole answer may take; by default 300 seconds. Afterwards the state of the connection is
    /// unknown: see [`Tpm::replace`](crate::Tpm::replace).
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Does something to the TPM that its board does.
    fn signal(&mut self, request: Request) -> io::Result<()> {
        let deadline = Deadline::after(self.timeout);
        let mut platform = Timed { stream: &mut self.platform, deadline: &deadline };
        platform.write_all(&request.octets())?;
        read_end(&mut platform)
    }
}

/// Four octets of zeros end what the simulator says.
fn read_end(stream: &mut impl Read) -> io::Result<()> {
    match read_u32(stream)? {
        0 => Ok(()),
        _ => Err(io::Error::new(ErrorKind::InvalidData, "the simulator refuses a request")),
    }
}

fn read_u32(stream: &mut impl Read) -> io::Result<u32> {
    let mut octets = [0; 4];
    stream.read_exact(&mut octets)?;
    Ok(u32::from_be_bytes(octets))
}

impl Transport for Simulator {
    type Error = io::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        const LOCALITY: [u8; 1] = [0];
        let too_long = |_| io::Error::new(ErrorKind::InvalidInput, "a command of no valid size");
        let size = u32::try_from(command.len()).map_err(too_long)?.to_be_bytes();
        let request = [&Request::SendCommand.octets()[..], &LOCALITY, &size, command].concat();

        let deadline = Deadline::after(self.timeout);
        let mut stream = Timed { stream: &mut self.command, deadline: &deadline };
        stream.write_all(&request)?;
        let size = usize::try_from(read_u32(&mut stream)?).map_err(|_| invalid_size())?;
        let answer = response.get_mut(..size).filter(|answer| !answer.is_empty());
        stream.read_exact(answer.ok_or_else(invalid_size)?)?;
        read_end(&mut stream)?;
        Ok(size)
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // It notices the end of the connection too.
        for stream in [&mut self.command, &mut self.platform] {
            let _ = stream.write_all(&Request::SessionEnd.octets());
        }
    }
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Simulator")
    }
}
