use std::boxed::Box;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::string::String;
use std::time::Duration;

use super::Transport;

/// As long as the kernel gives a chip that makes an RSA key.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The software TPM `swtpm`, on its data port: commands and answers as they are, without framing.
///
/// With its option `disconnect` it hangs up after each answer: then the next command is sent over a new connection.
pub struct Swtpm {
    address: Address,
    stream: Box<dyn Stream>,
    /// Whether a command was answered on this connection.
    is_proven: bool,
}

enum Address {
    Tcp(String, u16),
    Unix(PathBuf),
}

impl Address {
    fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port))?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Box::new(stream)
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Box::new(stream)
            }
        })
    }
}

trait Stream: Read + Write + Send {
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Self::set_nonblocking(self, nonblocking)
    }
}

impl Stream for UnixStream {
    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Self::set_nonblocking(self, nonblocking)
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
    pub fn connect_unix(path: &Path) -> io::Result<Self> {
        Self::open(Address::Unix(path.into()))
    }

    fn open(address: Address) -> io::Result<Self> {
        let stream = address.connect()?;
        Ok(Self { address, stream, is_proven: false })
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
            Err(error) if is_end(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Sends a command and waits for the first byte of its answer.
    fn send(&mut self, command: &[u8], first: &mut [u8; 1]) -> io::Result<()> {
        self.stream.write_all(command)?;
        self.stream.read_exact(first)
    }
}

fn is_end(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

impl Transport for Swtpm {
    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        const HEADER: usize = 10;
        if self.is_proven && self.is_closed()? {
            self.connect_again()?;
        }
        let mut first = [0];
        match self.send(command, &mut first) {
            // It hung up after the answer before, and that is seen only now: it has not read this command.
            Err(error) if self.is_proven && is_end(&error) => {
                self.connect_again().map_err(|_| error)?;
                self.send(command, &mut first)?;
            }
            sent => sent?,
        }
        let too_small = || io::Error::new(ErrorKind::InvalidData, "an answer of no valid size");
        let (header, _) = response.split_first_chunk_mut::<HEADER>().ok_or_else(too_small)?;
        let [head, rest @ ..] = header;
        [*head] = first;
        self.stream.read_exact(rest)?;
        let [_, _, a, b, c, d, ..] = *header;
        let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| too_small())?;
        let rest = response.get_mut(HEADER..size).ok_or_else(too_small)?;
        self.stream.read_exact(rest)?;
        self.is_proven = true;
        Ok(size)
    }
}

impl std::fmt::Debug for Swtpm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Swtpm")
    }
}
