//! Files read as a whole or refused: a truncated file means something else than its owner wrote.

use std::io::{self, Read};

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
    use super::*;

    #[test]
    fn file_longer_than_its_bound_is_refused_and_never_cut() {
        assert_eq!(read_text(&b"1234"[..], 4).unwrap(), "1234");
        let failure = read_text(&b"12345"[..], 4).unwrap_err();
        assert_eq!(failure.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(failure.to_string(), "longer than 4 bytes");
        assert_eq!(read_text(&b"\xff"[..], 4).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
