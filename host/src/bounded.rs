//! Reads a whole file, or refuses it if it is too long: a truncated file could have another meaning.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a regular file for reading. It refuses pipes and devices without waiting for them.
///
/// # Errors
/// The operating system's; [`io::ErrorKind::InvalidInput`] if it is not a regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let refused = || io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
    // Some devices do something when they are opened.
    if !fs::metadata(path)?.is_file() {
        return Err(refused());
    }
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(refused()) }
}

/// Reads a file of at most `max` bytes.
///
/// # Errors
/// The operating system's; the file is longer.
pub fn read(file: impl Read, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let why = format!("longer than {max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// Reads a text file of at most `max` bytes.
///
/// # Errors
/// The operating system's; the file is longer, or not UTF-8.
pub fn read_text(file: impl Read, max: u64) -> io::Result<String> {
    String::from_utf8(read(file, max)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn irregular_file_is_refused_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        let pipe = directory.path().join("pipe");
        fs::write(&file, "text").unwrap();
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(read_text(open_regular(&file).unwrap(), 4).unwrap(), "text");
        for path in [&pipe, directory.path(), Path::new("/dev/zero")] {
            let refused = open_regular(path).unwrap_err();
            assert_eq!(refused.to_string(), "not a regular file", "{}", path.display());
        }
        assert_eq!(
            open_regular(&directory.path().join("none")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn file_longer_than_its_bound_is_refused_and_never_cut() {
        assert_eq!(read_text(&b"1234"[..], 4).unwrap(), "1234");
        let failure = read_text(&b"12345"[..], 4).unwrap_err();
        assert_eq!(failure.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(failure.to_string(), "longer than 4 bytes");
        assert_eq!(read_text(&b"\xff"[..], 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
