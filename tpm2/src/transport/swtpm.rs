use std::boxed::Box;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::Transport;

/// As long as the kernel gives a chip that makes an RSA key.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The software TPM `swtpm`, on its data port: commands and answers as they are, without framing.
pub struct Swtpm {
    stream: Box<dyn Stream>,
}

trait Stream: Read + Write + Send {}
impl Stream for TcpStream {}
impl Stream for UnixStream {}

impl Swtpm {
    /// Connects over TCP.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn connect(host: &str, port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect((host, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { stream: Box::new(stream) })
    }

    /// Connects over a unix socket.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn connect_unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { stream: Box::new(stream) })
    }
}

impl Transport for Swtpm {
    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        const HEADER: usize = 10;
        self.stream.write_all(command)?;
        let too_small = || io::Error::new(io::ErrorKind::InvalidData, "an answer of no valid size");
        let (header, _) = response.split_first_chunk_mut::<HEADER>().ok_or_else(too_small)?;
        self.stream.read_exact(header)?;
        let [_, _, a, b, c, d, ..] = *header;
        let size = usize::try_from(u32::from_be_bytes([a, b, c, d])).map_err(|_| too_small())?;
        let rest = response.get_mut(HEADER..size).ok_or_else(too_small)?;
        self.stream.read_exact(rest)?;
        Ok(size)
    }
}

impl std::fmt::Debug for Swtpm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Swtpm")
    }
}
