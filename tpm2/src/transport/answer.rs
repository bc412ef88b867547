//! Answers that arrive on a stream.

use std::io::{self, ErrorKind};

/// Reads one answer, which is as long as its header says. Part 3 §4.4.
#[cfg(any(feature = "swtpm", feature = "cmd"))]
pub(super) fn read_answer(stream: &mut impl io::Read, response: &mut [u8]) -> io::Result<usize> {
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
