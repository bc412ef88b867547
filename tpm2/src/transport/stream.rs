//! Sockets with a deadline, and the answers that arrive on a stream.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::clock::Deadline;

/// How long a command and its whole answer may take: as long as the kernel gives a chip that makes an RSA key.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(300);

/// What all kinds of socket have.
pub(super) trait Stream: Read + Write + Send {
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
    /// How long one read or write may take.
    fn set_timeout(&self, timeout: Duration) -> io::Result<()>;
    /// The error of the connection, once.
    fn take_error(&self) -> io::Result<Option<io::Error>>;
}

macro_rules! stream {
    ($socket:ty) => {
        impl Stream for $socket {
            fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
                Self::set_nonblocking(self, nonblocking)
            }

            fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
                self.set_read_timeout(Some(timeout))?;
                self.set_write_timeout(Some(timeout))
            }

            fn take_error(&self) -> io::Result<Option<io::Error>> {
                Self::take_error(self)
            }
        }
    };
}

stream!(TcpStream);
#[cfg(unix)]
stream!(UnixStream);

/// Connects to a TPM that waits for each answer to be read: small messages are sent at once.
pub(super) fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A stream whose reads and writes all end before one deadline.
pub(super) struct Timed<'s> {
    pub(super) stream: &'s mut dyn Stream,
    pub(super) deadline: &'s Deadline,
}

impl Timed<'_> {
    fn explain(&self, error: io::Error) -> io::Error {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.deadline.missed(),
            _ => error,
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_timeout(self.deadline.left()?)?;
        self.stream.read(buffer).map_err(|error| self.explain(error))
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_timeout(self.deadline.left()?)?;
        self.stream.write(bytes).map_err(|error| self.explain(error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Reads one answer, which is as long as its header says. Part 3 §4.4.
pub(super) fn read_answer(stream: &mut impl Read, response: &mut [u8]) -> io::Result<usize> {
    const HEADER: usize = 10;
    let (header, _) = response.split_first_chunk_mut::<HEADER>().ok_or_else(invalid_size)?;
    stream.read_exact(header)?;
    let [_, _, a, b, c, d, ..] = *header;
    let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| invalid_size())?;
    let rest = response.get_mut(HEADER..size).ok_or_else(invalid_size)?;
    stream.read_exact(rest)?;
    Ok(size)
}

/// The error of an answer that is shorter than its header or longer than the buffer.
pub(super) fn invalid_size() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "an answer of no valid size")
}
