use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::Transport;

/// A character device of the kernel: `/dev/tpmrm0`, behind the kernel's resource manager, or `/dev/tpm0`, which only one
/// program can have.
#[derive(Debug)]
pub struct Device {
    file: File,
    managed: bool,
}

impl Device {
    /// Opens the device. What is no character device is refused before it could be written to: a command would overwrite a
    /// file.
    ///
    /// # Errors
    /// As the operating system says; [`Tcti::open`](super::Tcti::open) adds advice.
    pub fn open(path: &Path) -> io::Result<Self> {
        let is_device = |metadata: fs::Metadata| metadata.file_type().is_char_device();
        let no_device = || io::Error::new(io::ErrorKind::InvalidInput, "not a character device");
        if !is_device(fs::metadata(path)?) {
            return Err(no_device());
        }
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        // Another may have taken its place meanwhile.
        if !is_device(file.metadata()?) {
            return Err(no_device());
        }
        let name = path.file_name().map(std::ffi::OsStr::as_encoded_bytes).unwrap_or_default();
        Ok(Self { file, managed: name.starts_with(b"tpmrm") })
    }
}

impl Transport for Device {
    type Error = io::Error;

    /// One write, one read: the driver takes a whole command and gives a whole answer, and loses what one read leaves. The write
    /// returns when the TPM has answered, or when it has not in the time that the driver gives each command: five minutes at
    /// most.
    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        let written = self.file.write(command)?;
        if written != command.len() {
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                std::format!("the device accepted {written} of {} bytes", command.len()),
            ));
        }
        match self.file.read(response)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the device gave no answer")),
            len => Ok(len),
        }
    }

    fn is_managed(&self) -> bool {
        self.managed
    }
}
