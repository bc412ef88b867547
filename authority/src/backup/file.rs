//! The file of a backup.
//!
//! ```text
//! "endorse-backup\n"  version
//! content
//! length  SHA-256     of everything before
//! ```

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};

use sha2::{Digest, Sha256};

const MAGIC: &[u8; 15] = b"endorse-backup\n";

/// The version that this program writes and reads.
const VERSION: u8 = 1;

const HEAD: usize = MAGIC.len() + 1;

/// Bytes of content that are read at once.
const PIECE: usize = 64 * 1024;

/// The length and the digest at the end.
const TRAILER: usize = 8 + 32;

/// Why a file cannot be read or written.
#[derive(Debug)]
pub enum FileError {
    /// The disk.
    Io(io::Error),
    /// It is not a backup.
    NoBackup,
    /// It was written by a newer version.
    Newer(u8),
    /// It was truncated or changed.
    Damaged(&'static str),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(cause) => cause.fmt(f),
            Self::NoBackup => f.write_str("it is not a backup of an authority"),
            Self::Newer(version) => {
                write!(f, "it has version {version}, but this authority reads version {VERSION}")
            }
            Self::Damaged(how) => write!(f, "it was truncated or changed: {how}"),
        }
    }
}

impl std::error::Error for FileError {}

impl From<io::Error> for FileError {
    fn from(cause: io::Error) -> Self {
        Self::Io(cause)
    }
}

/// Writes a file.
pub struct Writer<W> {
    out: W,
    digest: Sha256,
    length: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// The disk.
    pub fn new(out: W) -> io::Result<Self> {
        let mut writer = Self { out, digest: Sha256::new(), length: 0 };
        writer.write(MAGIC)?;
        writer.write(&[VERSION])?;
        Ok(writer)
    }

    /// Adds content.
    ///
    /// # Errors
    /// The disk.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.digest.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Ends the file; returns what it was written to.
    ///
    /// # Errors
    /// The disk.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&self.length.to_be_bytes())?;
        self.out.write_all(&self.digest.finalize())?;
        Ok(self.out)
    }
}

/// A file whose length and digest are right.
#[derive(Debug)]
pub struct Checked<R> {
    file: R,
    /// Bytes of the content.
    length: u64,
}

impl<R: Read + Seek> Checked<R> {
    /// Reads the whole file.
    ///
    /// # Errors
    /// It is no backup, of a newer version, truncated or changed.
    pub fn open(mut file: R) -> Result<Self, FileError> {
        let total = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(0))?;
        check_head(&mut file)?;
        let cut = || FileError::Damaged("it is too short");
        let length = total.checked_sub(TRAILER as u64).ok_or_else(cut)?;
        let content = length.checked_sub(HEAD as u64).ok_or_else(cut)?;
        file.seek(SeekFrom::Start(0))?;
        let mut digest = Sha256::new();
        io::copy(&mut (&mut file).take(length), &mut Hashing(&mut digest))?;
        let mut trailer = [0; TRAILER];
        file.read_exact(&mut trailer)?;
        let expected = [&length.to_be_bytes()[..], &digest.finalize()].concat();
        if trailer != *expected {
            return Err(FileError::Damaged("its length or its digest is wrong"));
        }
        Ok(Self { file, length: content })
    }

    /// The content, from its beginning.
    ///
    /// # Errors
    /// The disk.
    pub fn content(&mut self) -> io::Result<Content<'_, R>> {
        self.file.seek(SeekFrom::Start(HEAD as u64))?;
        Ok(Content((&mut self.file).take(self.length)))
    }
}

/// The content of a file, piece by piece.
pub struct Content<'f, R>(io::Take<&'f mut R>);

impl<R: Read> Content<'_, R> {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The disk.
    pub fn next_piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut piece = Vec::new();
        (&mut self.0).take(PIECE as u64).read_to_end(&mut piece)?;
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

fn check_head(file: &mut impl Read) -> Result<(), FileError> {
    let mut head = [0; HEAD];
    file.read_exact(&mut head).map_err(|cause| match cause.kind() {
        io::ErrorKind::UnexpectedEof => FileError::NoBackup,
        _ => FileError::Io(cause),
    })?;
    match head.split_last() {
        Some((&VERSION, magic)) if magic == MAGIC => Ok(()),
        Some((&version, magic)) if magic == MAGIC => Err(FileError::Newer(version)),
        _ => Err(FileError::NoBackup),
    }
}

struct Hashing<'d>(&'d mut Sha256);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn written(content: &[u8]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        content.chunks(1000).for_each(|piece| writer.write(piece).unwrap());
        writer.finish().unwrap()
    }

    fn read_back(file: &[u8]) -> Result<Vec<u8>, FileError> {
        let mut file = Checked::open(Cursor::new(file))?;
        let (mut content, mut all) = (file.content()?, Vec::new());
        while let Some(piece) = content.next_piece()? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    #[test]
    fn content_of_any_length_is_read_back() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let content: Vec<u8> = (0..length).map(|number| number as u8).collect();
            assert_eq!(read_back(&written(&content)).unwrap(), content);
        }
    }

    #[test]
    fn truncated_changed_and_newer_files_are_refused() {
        let file = written(b"content");
        for length in 0..file.len() {
            assert!(read_back(&file[..length]).is_err(), "{length}");
        }
        for place in 0..file.len() {
            let mut changed = file.clone();
            changed[place] ^= 1;
            assert!(read_back(&changed).is_err(), "{place}");
        }
        assert!(matches!(read_back(&[&file[..], b"x"].concat()), Err(FileError::Damaged(_))));
        let mut newer = file;
        newer[MAGIC.len()] = VERSION + 1;
        let refused = read_back(&newer).unwrap_err().to_string();
        assert_eq!(refused, "it has version 2, but this authority reads version 1");
        assert!(matches!(read_back(b"PK"), Err(FileError::NoBackup)));
    }
}
