//! Sockets with a deadline.

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
    #[cfg(feature = "swtpm")]
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
    /// How long one read or write may take.
    fn set_timeout(&self, timeout: Duration) -> io::Result<()>;
    /// The error of the connection, once.
    #[cfg(feature = "swtpm")]
    fn take_error(&self) -> io::Result<Option<io::Error>>;
}

macro_rules! stream {
    ($socket:ty) => {
        impl Stream for $socket {
            #[cfg(feature = "swtpm")]
            fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
                Self::set_nonblocking(self, nonblocking)
            }

            fn set_timeout(&self, timeout: Duration) -> io::Result<()> {
                self.set_read_timeout(Some(timeout))?;
                self.set_write_timeout(Some(timeout))
            }

            #[cfg(feature = "swtpm")]
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
