use std::boxed::Box;
use std::io::{self, ErrorKind, Read, Write};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::string::String;
use std::time::Duration;

use super::Transport;
use super::answer::read_answer;
use super::clock::Deadline;
use super::stream::{COMMAND_TIMEOUT, Stream, Timed, connect_tcp};

/// The software TPM `swtpm`, on its data port: commands and answers as they are, without framing.
///
/// With its option `disconnect` it hangs up after each answer: then the next command is sent over a new connection.
pub struct Swtpm {
    address: Address,
    stream: Box<dyn Stream>,
    /// Whether a command was answered on this connection.
    is_proven: bool,
    timeout: Duration,
}

enum Address {
    Tcp(String, u16),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Address {
    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(host, port) => Box::new(connect_tcp(host, *port)?),
            #[cfg(unix)]
            Self::Unix(path) => Box::new(UnixStream::connect(path)?),
        })
    }
}

/// Why a command was not answered.
enum Failed {
    /// The other end had closed the connection before it read the whole command.
    Unread(io::Error),
    /// It is unknown whether the command executed.
    Unknown(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Unknown(error)
    }
}

impl From<Failed> for io::Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unread(error) | Failed::Unknown(error) => error,
        }
    }
}

impl Swtpm {
    /// Connects over TCP.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn connect(host: &str, port: u16) -> io::Result<Self> {
        Self::open(Address::Tcp(host.into(), port))
    }

    /// Connects over a unix socket.
    ///
    /// # Errors
    /// As the operating system says.
    #[cfg(unix)]
    pub fn connect_unix(path: &Path) -> io::Result<Self> {
        Self::open(Address::Unix(path.into()))
    }

    fn open(address: Address) -> io::Result<Self> {
        let stream = address.connect()?;
        Ok(Self { address, stream, is_proven: false, timeout: COMMAND_TIMEOUT })
    }

    /// Sets how long a command and its whole answer may take; by default 300 seconds. Afterwards the state of the connection is
    /// unknown: see [`Tpm::replace`](crate::Tpm::replace).
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    fn connect_again(&mut self) -> io::Result<()> {
        self.stream = self.address.connect()?;
        self.is_proven = false;
        Ok(())
    }

    /// Whether the other end has hung up since its last answer.
    fn is_closed(&mut self) -> io::Result<bool> {
        self.stream.set_nonblocking(true)?;
        let read = self.stream.read(&mut [0]);
        self.stream.set_nonblocking(false)?;
        match read {
            Ok(0) => Ok(true),
            Ok(_) => Err(io::Error::new(ErrorKind::InvalidData, "an answer without a command")),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) if is_reset(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Sends a command and waits for the first byte of its answer.
    ///
    /// A connection that is closed while it holds bytes that were not read, or to which bytes are sent after it was closed, is
    /// reset: RFC 9293 3.6.1, and unix(7) alike. So a reset tells that the command was not read, and the end of the
    /// connection alone does not.
    fn send(&mut self, command: &[u8], deadline: &Deadline) -> Result<u8, Failed> {
        let mut stream = Timed { stream: &mut *self.stream, deadline };
        let mut first = [0];
        let answered = stream.write_all(command).and_then(|()| stream.read_exact(&mut first));
        match answered {
            Ok(()) => {
                let [first] = first;
                Ok(first)
            }
            Err(error) if is_reset(&error) => Err(Failed::Unread(error)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                let reset = self.stream.take_error()?.filter(is_reset);
                Err(reset.map_or_else(|| Failed::Unknown(hung_up()), Failed::Unread))
            }
            Err(error) => Err(Failed::Unknown(error)),
        }
    }
}

fn is_reset(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}

fn hung_up() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "swtpm hung up before the end of its answer")
}

fn explain_end(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::UnexpectedEof { hung_up() } else { error }
}

impl Transport for Swtpm {
    type Error = io::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        if self.is_proven && self.is_closed()? {
            self.connect_again()?;
        }
        let deadline = Deadline::after(self.timeout);
        let first = match self.send(command, &deadline) {
            // It hung up after the answer before, and that is seen only now.
            Err(Failed::Unread(error)) if self.is_proven => {
                self.connect_again().map_err(|_| error)?;
                self.send(command, &deadline)?
            }
            sent => sent?,
        };
        let rest = Timed { stream: &mut *self.stream, deadline: &deadline };
        let size =
            read_answer(&mut [first].as_slice().chain(rest), response).map_err(explain_end)?;
        self.is_proven = true;
        Ok(size)
    }
}

impl std::fmt::Debug for Swtpm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Swtpm")
    }
}
