//! Whether the kernel of this host can run an ELF file: as much of it as execve(2) reads itself.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

pub(super) const MAGIC: &[u8] = b"\x7fELF";

/// The machines whose programs this one runs, as e_machine has them: its own, and the one of 32 bits before it.
const MACHINES: &[u16] = if cfg!(target_arch = "x86_64") {
    &[62, 3]
} else if cfg!(target_arch = "aarch64") {
    &[183, 40]
} else {
    &[]
};

/// The kernel reads one page of program headers at most.
const MAX_PROGRAM_HEADERS: usize = 4096;
/// PATH_MAX.
const MAX_INTERPRETER: usize = 4096;
const PT_INTERP: u64 = 3;
const ET_EXEC: u64 = 2;
const ET_DYN: u64 = 3;

/// Why a file cannot be run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A part of it is missing, or it is not a program.
    Broken,
    /// It is for another machine.
    Machine,
    /// Its interpreter, the dynamic loader, is not there.
    Interpreter(PathBuf),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken => f.write_str("is a damaged ELF file, or not a program"),
            Self::Machine => f.write_str("is a program for another type of machine"),
            Self::Interpreter(path) => {
                write!(f, "needs the dynamic loader {}, which does not exist", path.display())
            }
        }
    }
}

impl Fault {
    pub(super) const fn advice(&self) -> &'static str {
        match self {
            Self::Broken => "install it again",
            Self::Machine => "install the program for this machine",
            Self::Interpreter(_) => "install the loader's package, or a statically linked program",
        }
    }
}

/// What keeps the kernel from running an ELF file.
pub(super) fn fault(file: &File) -> io::Result<Option<Fault>> {
    match read(file) {
        Ok(fault) => Ok(fault),
        Err(cause) if is_outside(&cause) => Ok(Some(Fault::Broken)),
        Err(cause) => Err(cause),
    }
}

/// Whether something lies behind the end of the file, or of what any file can hold.
fn is_outside(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput)
}

/// Where the fields are that are read, as offset and size. ELF-64 Object File Format; System V ABI, chapter 4.
struct Layout {
    header: usize,
    program_headers: (usize, usize),
    entry_size: (usize, usize),
    entries: (usize, usize),
    segment_size: usize,
    segment_offset: (usize, usize),
    segment_length: (usize, usize),
}

const ELF32: Layout = Layout {
    header: 52,
    program_headers: (28, 4),
    entry_size: (42, 2),
    entries: (44, 2),
    segment_size: 32,
    segment_offset: (4, 4),
    segment_length: (16, 4),
};

const ELF64: Layout = Layout {
    header: 64,
    program_headers: (32, 8),
    entry_size: (54, 2),
    entries: (56, 2),
    segment_size: 56,
    segment_offset: (8, 8),
    segment_length: (32, 8),
};

fn read(file: &File) -> io::Result<Option<Fault>> {
    let mut identification = [0; 16];
    file.read_exact_at(&mut identification, 0)?;
    let layout = match identification[4] {
        1 => &ELF32,
        2 => &ELF64,
        _ => return Ok(Some(Fault::Broken)),
    };
    let order = if cfg!(target_endian = "little") { 1 } else { 2 };
    if identification[5] != order {
        return Ok(Some(Fault::Machine));
    }
    let header = bytes(file, 0, layout.header)?;
    let machine = number(&header, (18, 2));
    if !MACHINES.is_empty() && !MACHINES.iter().any(|known| u64::from(*known) == machine) {
        return Ok(Some(Fault::Machine));
    }
    let size = number(&header, layout.entries).saturating_mul(number(&header, layout.entry_size));
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let is_program = matches!(number(&header, (16, 2)), ET_EXEC | ET_DYN);
    let is_known = number(&header, layout.entry_size) == layout.segment_size as u64;
    if !is_program || !is_known || size == 0 || size > MAX_PROGRAM_HEADERS {
        return Ok(Some(Fault::Broken));
    }
    let segments = bytes(file, number(&header, layout.program_headers), size)?;
    let mut segments = segments.chunks_exact(layout.segment_size);
    match segments.find(|segment| number(segment, (0, 4)) == PT_INTERP) {
        Some(segment) => interpreter(file, layout, segment),
        None => Ok(None),
    }
}

fn interpreter(file: &File, layout: &Layout, segment: &[u8]) -> io::Result<Option<Fault>> {
    let length = usize::try_from(number(segment, layout.segment_length)).unwrap_or(usize::MAX);
    if length > MAX_INTERPRETER {
        return Ok(Some(Fault::Broken));
    }
    let path = bytes(file, number(segment, layout.segment_offset), length)?;
    let Some(path) = path.strip_suffix(&[0]) else { return Ok(Some(Fault::Broken)) };
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    Ok((!path.is_file()).then(|| Fault::Interpreter(path.to_owned())))
}

fn bytes(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// A number in the byte order of this machine; 0 beyond the end.
fn number(bytes: &[u8], (offset, size): (usize, usize)) -> u64 {
    let field = bytes.get(offset..).and_then(|bytes| bytes.get(..size)).unwrap_or_default();
    let mut wide = [0; 8];
    let start = if cfg!(target_endian = "little") { 0 } else { 8 - field.len() };
    for (to, from) in wide.iter_mut().skip(start).zip(field) {
        *to = *from;
    }
    u64::from_ne_bytes(wide)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn of(content: &[u8]) -> Option<Fault> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        fault(file.as_file()).unwrap()
    }

    /// The beginning of this test, which is dynamically linked: its headers, and the path of its loader.
    fn own() -> Vec<u8> {
        let own = File::open(std::env::current_exe().unwrap()).unwrap();
        bytes(&own, 0, 4096).unwrap()
    }

    #[test]
    fn programs_of_this_host_pass() {
        assert_eq!(of(&own()), None);
        assert_eq!(fault(&File::open("/bin/sh").unwrap()).unwrap(), None);
    }

    #[test]
    fn every_truncated_header_is_broken() {
        let own = own();
        for length in 4..64 {
            assert_eq!(of(&own[..length]), Some(Fault::Broken), "{length}");
        }
        assert_eq!(of(&own[..100]), Some(Fault::Broken), "without program headers");
    }

    #[test]
    fn no_changed_header_is_a_panic_or_an_allocation() {
        let (own, file) = (own(), tempfile::tempfile().unwrap());
        file.write_all_at(&own, 0).unwrap();
        for (at, byte) in (0..).zip(&own[..1024]) {
            for value in [0, 1, 0x7f, 0xff] {
                file.write_all_at(&[value], at).unwrap();
                fault(&file).unwrap();
            }
            file.write_all_at(&[*byte], at).unwrap();
        }
    }

    #[test]
    fn other_machines_objects_and_missing_loaders_are_found() {
        let own = own();
        let with = |at: usize, value: u8| {
            let mut changed = own.clone();
            changed[at] = value;
            of(&changed)
        };
        // SPARC, and the other byte order.
        assert_eq!(with(18, 2), Some(Fault::Machine));
        assert_eq!(with(5, 3 - own[5]), Some(Fault::Machine));
        // An object file.
        assert_eq!(with(16, 1), Some(Fault::Broken));
        assert_eq!(with(4, 9), Some(Fault::Broken));
        let loader = own.windows(9).position(|bytes| bytes.starts_with(b"/lib")).unwrap();
        let missing = with(loader + 1, b'x').unwrap();
        assert!(missing.to_string().contains("needs the dynamic loader /xib"), "{missing}");
    }
}
