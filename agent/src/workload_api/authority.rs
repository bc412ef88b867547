//! The `:authority` of clients on a unix socket. gRPC's C core (Python, C++, Ruby, PHP) sends the percent-encoded path of the
//! socket, and Java's library sends the path. A URI can have neither as its authority (RFC 3986 section 3.2), so that the HTTP/2
//! library refuses such requests, although the name means nothing here.
//!
//! On its way in, each `%` and `/` of an `:authority` is replaced by `-`. In HPACK's Huffman code all three have six bits, so that
//! no length changes, and neither do the sizes of the entries in its dynamic table (RFC 7541 section 4.1).

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a client sends first. RFC 9113 section 3.4.
const PREFACE: usize = 24;

/// The header of a frame. RFC 9113 section 4.1.
const FRAME_HEADER: usize = 9;

/// The largest payload: a server that does not ask for more gets none that is larger.
const MAX_PAYLOAD: usize = 16 * 1024;

/// A frame of type HEADERS and its flags. RFC 9113 section 6.2.
const HEADERS: u8 = 1;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The index of `:authority` in the static table. RFC 7541 appendix A.
const AUTHORITY: usize = 1;

/// Bytes that are read at once.
const READ: usize = 4096;

/// A connection to a server, the requests of which have authorities that the library accepts.
#[derive(Debug)]
pub(super) struct Repaired<S> {
    stream: S,
    position: Position,
    /// What was read and is to be handed on.
    ready: Vec<u8>,
    /// A frame of type HEADERS so far.
    held: Vec<u8>,
    has_ended: bool,
}

/// Where in the stream of bytes the reader is.
#[derive(Debug)]
enum Position {
    /// In the preface or in a payload, with so many bytes to come that are handed on as they are.
    Passing(usize),
    /// In the header of a frame.
    Header(Vec<u8>),
    /// In a frame that is held until so many more bytes are there.
    Holding(usize),
}

impl<S> Repaired<S> {
    pub(super) const fn new(stream: S) -> Self {
        let position = Position::Passing(PREFACE);
        Self { stream, position, ready: Vec::new(), held: Vec::new(), has_ended: false }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (taken, next) = match &mut self.position {
                Position::Passing(left) => {
                    let part = bytes.get(..*left).unwrap_or(bytes);
                    self.ready.extend(part);
                    (part.len(), *left - part.len())
                }
                Position::Header(header) => {
                    let missing = FRAME_HEADER.saturating_sub(header.len());
                    let part = bytes.get(..missing).unwrap_or(bytes);
                    header.extend(part);
                    if header.len() == FRAME_HEADER {
                        let header = std::mem::take(header);
                        self.position = self.frame(&header);
                    }
                    bytes = bytes.get(part.len()..).unwrap_or_default();
                    continue;
                }
                Position::Holding(left) => {
                    let part = bytes.get(..*left).unwrap_or(bytes);
                    self.held.extend(part);
                    (part.len(), *left - part.len())
                }
            };
            bytes = bytes.get(taken..).unwrap_or_default();
            match &mut self.position {
                Position::Passing(left) | Position::Holding(left) => *left = next,
                Position::Header(_) => {}
            }
            if next == 0 {
                self.end_of_frame();
            }
        }
    }

    /// What follows the header of a frame.
    fn frame(&mut self, header: &[u8]) -> Position {
        let &[a, b, c, kind, ..] = header else { return Position::Passing(usize::MAX) };
        let payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let holds = kind == HEADERS && (1..=MAX_PAYLOAD).contains(&payload);
        if holds {
            self.held = header.to_vec();
            return Position::Holding(payload);
        }
        self.ready.extend(header);
        if payload == 0 { Position::Header(Vec::new()) } else { Position::Passing(payload) }
    }

    fn end_of_frame(&mut self) {
        self.position = Position::Header(Vec::new());
        if !self.held.is_empty() {
            // What is malformed is left to the library.
            let _ = repair(&mut self.held);
            self.ready.append(&mut self.held);
        }
    }
}

/// Replaces what an authority cannot have, in a whole frame of type HEADERS. `None` if it is malformed.
fn repair(frame: &mut [u8]) -> Option<()> {
    let flags = *frame.get(4)?;
    let mut block = FRAME_HEADER..frame.len();
    if flags & PADDED != 0 {
        let padding = usize::from(*frame.get(block.start)?);
        block = block.start + 1..block.end.checked_sub(padding)?;
    }
    if flags & PRIORITY != 0 {
        block.start += 5;
    }
    let mut reader = Reader { block: frame.get_mut(block)?, at: 0 };
    while let Some(first) = reader.block.get(reader.at).copied() {
        // RFC 7541 section 6.
        let prefix = match first {
            0x80.. => {
                reader.integer(7)?;
                continue;
            }
            0x40.. => 6,
            0x20.. => {
                reader.integer(5)?;
                continue;
            }
            _ => 4,
        };
        let is_authority = match reader.integer(prefix)? {
            0 => {
                let (is_coded, name) = reader.string()?;
                !is_coded && reader.block.get(name)? == b":authority"
            }
            index => index == AUTHORITY,
        };
        let (is_coded, value) = reader.string()?;
        if is_authority {
            let value = reader.block.get_mut(value)?;
            if is_coded { replace_coded(value) } else { replace(value) }
        }
    }
    Some(())
}

/// Reads a header block, RFC 7541 section 5.
struct Reader<'b> {
    block: &'b mut [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = self.block.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    /// An integer in the last bits of a byte and in those that follow.
    fn integer(&mut self, prefix: u32) -> Option<usize> {
        let max = (1 << prefix) - 1;
        let mut value = usize::from(self.byte()?) & max;
        if value < max {
            return Some(value);
        }
        for shift in (0..28).step_by(7) {
            let byte = self.byte()?;
            value = value.checked_add(usize::from(byte & 0x7f) << shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A string: whether it is in the Huffman code, and where its bytes are.
    fn string(&mut self) -> Option<(bool, Range<usize>)> {
        let is_coded = self.block.get(self.at)? & 0x80 != 0;
        let length = self.integer(7)?;
        let range = self.at..self.at.checked_add(length)?;
        self.block.get(range.clone())?;
        self.at = range.end;
        Some((is_coded, range))
    }
}

fn replace(value: &mut [u8]) {
    for byte in value.iter_mut().filter(|byte| matches!(byte, b'%' | b'/')) {
        *byte = b'-';
    }
}

/// The lengths of codes in bits, and the first and the last code of each. RFC 7541 appendix B; longer ones are of characters that
/// no path needs.
const CODES: [(usize, u32, u32); 10] = [
    (5, 0x0, 0x9),
    (6, 0x14, 0x2d),
    (7, 0x5c, 0x7b),
    (8, 0xf8, 0xfd),
    (10, 0x3f8, 0x3fc),
    (11, 0x7fa, 0x7fc),
    (12, 0xffa, 0xffb),
    (13, 0x1ff8, 0x1ffd),
    (14, 0x3ffc, 0x3ffd),
    (15, 0x7ffc, 0x7ffe),
];

/// Codes of six bits.
const PERCENT: u32 = 0x15;
const HYPHEN: u32 = 0x16;
const SLASH: u32 = 0x18;

fn replace_coded(value: &mut [u8]) {
    let bits = value.len() * 8;
    let mut at = 0;
    while at < bits {
        let code_at = |length: usize| code(value, at, length);
        let found = CODES.into_iter().find_map(|(length, first, last)| {
            let code = code_at(length)?;
            (first..=last).contains(&code).then_some((length, code))
        });
        // The padding, or something longer.
        let Some((length, code)) = found else { return };
        if length == 6 && matches!(code, PERCENT | SLASH) {
            write_code(value, at, length, HYPHEN);
        }
        at += length;
    }
}

/// The code of so many bits that begins at a bit; `None` beyond the end.
fn code(value: &[u8], at: usize, length: usize) -> Option<u32> {
    let mut code = 0;
    for bit in at..at + length {
        let byte = u32::from(*value.get(bit / 8)?);
        code = code << 1 | (byte >> (7 - bit % 8) & 1);
    }
    Some(code)
}

fn write_code(value: &mut [u8], at: usize, length: usize, code: u32) {
    for (index, bit) in (at..at + length).enumerate() {
        let Some(byte) = value.get_mut(bit / 8) else { return };
        let mask = 0x80 >> (bit % 8);
        let is_set = code >> (length - 1 - index) & 1 == 1;
        if is_set { *byte |= mask } else { *byte &= !mask }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Repaired<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.ready.is_empty() && !this.has_ended {
            let mut bytes = [0; READ];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut read))?;
            match read.filled() {
                [] => this.has_ended = true,
                filled => this.take(filled),
            }
        }
        let part = this.ready.len().min(buffer.remaining());
        buffer.put_slice(this.ready.get(..part).unwrap_or_default());
        this.ready.drain(..part);
        if this.ready.is_empty() {
            // A thousand streams wait for years.
            this.ready = Vec::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Repaired<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// For the fuzz target: what the library gets of these bytes.
#[doc(hidden)]
#[must_use]
pub fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut repaired = Repaired::new(());
    repaired.take(bytes);
    repaired.ready
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that begins with a frame of type HEADERS.
    fn stream(flags: u8, block: &[u8]) -> Vec<u8> {
        let length = u8::try_from(block.len()).unwrap();
        let header = [0, 0, length, HEADERS, flags, 0, 0, 0, 1];
        [&[b'*'; PREFACE][..], &header, block, &[0, 0, 1, 0, 0, 0, 0, 0, 1, b'%']].concat()
    }

    /// `:authority` with this string as its value, after `:method: POST`.
    fn with_authority(string: &[u8]) -> Vec<u8> {
        [&[0x83, 0x41][..], string].concat()
    }

    #[test]
    fn paths_are_replaced_by_as_many_bytes() {
        let plain = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        // `%2Fa` in the Huffman code: 010101 00010 1100001 00011 and padding.
        let coded = vec![0x83, 0b0101_0100, 0b0101_1000, 0b0100_0111];
        let repaired_coded = vec![0x83, 0b0101_1000, 0b0101_1000, 0b0100_0111];
        for (before, after) in [
            (plain("%2Frun%2Fa.sock"), plain("-2Frun-2Fa.sock")),
            (plain("/run/a.sock"), plain("-run-a.sock")),
            (plain("localhost"), plain("localhost")),
            (coded, repaired_coded),
        ] {
            for cut in 0..stream(4, &with_authority(&before)).len() {
                let bytes = stream(4, &with_authority(&before));
                let mut repaired = Repaired::new(());
                let (head, tail) = bytes.split_at(cut);
                repaired.take(head);
                repaired.take(tail);
                assert_eq!(repaired.ready, stream(4, &with_authority(&after)), "cut at {cut}");
            }
        }
    }

    #[test]
    fn other_headers_padding_and_malformed_blocks_stay() {
        // A name of its own, in the same form.
        let path = [&[0x04, 2][..], b"/%"].concat();
        let named = [&[0x40, 10][..], b":authority", &[1], b"/"].concat();
        let repaired_name = [&[0x40, 10][..], b":authority", &[1], b"-"].concat();
        let padded = [&[2][..], &with_authority(&[1, b'/']), b"//"].concat();
        let repaired_padded = [&[2][..], &with_authority(&[1, b'-']), b"//"].concat();
        for (flags, before, after) in [
            (4, path.clone(), path),
            (4, named, repaired_name),
            (4 | PADDED, padded, repaired_padded),
            (4, vec![0x41], vec![0x41]),
            (4, vec![0x41, 0xff, 0xff, 0xff, 0xff, 0xff], vec![0x41, 0xff, 0xff, 0xff, 0xff, 0xff]),
            (4, vec![0x41, 9, b'/'], vec![0x41, 9, b'/']),
            (4 | PADDED, vec![255, b'/'], vec![255, b'/']),
        ] {
            assert_eq!(repaired(&stream(flags, &before)), stream(flags, &after));
        }
    }
}
