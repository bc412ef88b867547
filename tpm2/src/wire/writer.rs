use core::fmt;

use super::Marshal;

/// The most that a writer writes, whatever its buffer.
const MAX_LENGTH: usize = u32::MAX as usize;

/// Writes the wire into a buffer of fixed size.
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    /// No message is as long as 4 GiB, and a sum that cannot overflow is a check less for each number.
    len: u32,
}

impl<'b> Writer<'b> {
    /// A writer that fills `buffer` from the front.
    #[must_use]
    pub const fn new(buffer: &'b mut [u8]) -> Self {
        let most = if buffer.len() > MAX_LENGTH { MAX_LENGTH } else { buffer.len() };
        Self { buffer: buffer.split_at_mut(most).0, len: 0 }
    }

    /// How many octets have been written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether nothing has been written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What has been written, for as long as the buffer lives.
    #[must_use]
    pub fn into_written(self) -> &'b mut [u8] {
        let len = self.len();
        self.buffer.get_mut(..len).unwrap_or_default()
    }

    /// Appends bytes as they are.
    ///
    /// # Errors
    /// The buffer is full.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        // What is as long as a SHA-256 digest, as nearly all is that is not empty, needs no call to be copied.
        match bytes.as_array::<32>() {
            Some(digest) => self.put_array(digest),
            None if bytes.is_empty() => Ok(()),
            None => self.put_slice(bytes),
        }
    }

    fn put_slice(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        copy(bytes, self.room(bytes.len())?);
        Ok(())
    }

    /// As [`Self::put`], of a known length.
    #[inline]
    pub(super) fn put_array<const N: usize>(&mut self, bytes: &[u8; N]) -> Result<(), TooLarge> {
        *self.room(N)?.first_chunk_mut().ok_or(TooLarge)? = *bytes;
        Ok(())
    }

    /// The place of the next `len` octets.
    #[inline]
    fn room(&mut self, len: usize) -> Result<&mut [u8], TooLarge> {
        let start = self.len();
        let end = start.checked_add(len).ok_or(TooLarge)?;
        let room = self.buffer.get_mut(start..end).ok_or(TooLarge)?;
        // It ends in the buffer, which is not longer.
        self.len = end as u32;
        Ok(room)
    }

    /// Appends bytes with their length before them in 16 bits.
    ///
    /// # Errors
    /// As [`Self::put`], or the length does not fit.
    #[inline]
    pub fn put_sized(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        let len = u16::try_from(bytes.len()).map_err(|_| TooLarge)?;
        self.put_array(&len.to_be_bytes())?;
        self.put(bytes)
    }

    /// Appends a value.
    ///
    /// # Errors
    /// The buffer is full, or the value does not fit its type.
    #[inline]
    pub fn write(&mut self, value: &impl Marshal) -> Result<(), TooLarge> {
        value.marshal(self)
    }

    /// Appends what `body` writes, with its length before it in 16 bits. The hole is filled with ones until the length
    /// is known, so that a forgotten one would be refused by every reader.
    ///
    /// # Errors
    /// As `body`, or its length does not fit.
    #[inline]
    pub fn sized(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<(), TooLarge>,
    ) -> Result<(), TooLarge> {
        let hole = self.len();
        self.put(&[0xff; 2])?;
        let start = self.len();
        body(self)?;
        let length = self.len().checked_sub(start).and_then(|length| u16::try_from(length).ok());
        self.patch(hole, &length.ok_or(TooLarge)?.to_be_bytes())
    }

    /// Overwrites bytes that were written before.
    ///
    /// # Errors
    /// They were not written before.
    #[inline]
    pub fn patch<const N: usize>(&mut self, at: usize, bytes: &[u8; N]) -> Result<(), TooLarge> {
        let written = self.buffer.get_mut(..self.len as usize).ok_or(TooLarge)?;
        let place = written.get_mut(at..).and_then(<[u8]>::first_chunk_mut);
        *place.ok_or(TooLarge)? = *bytes;
        Ok(())
    }
}

/// Copies octets to a place of the same length. Digests, coordinates and Names are all that most messages are made of, and
/// too short to be worth a call for each: they are copied by two ends, which may overlap.
fn copy(from: &[u8], to: &mut [u8]) {
    match from.len() {
        4..8 => copy_ends::<4>(from, to),
        8..16 => copy_ends::<8>(from, to),
        16..32 => copy_ends::<16>(from, to),
        32..=64 => copy_ends::<32>(from, to),
        _ => to.copy_from_slice(from),
    }
}

#[inline]
fn copy_ends<const N: usize>(from: &[u8], to: &mut [u8]) {
    if let (Some(from), Some(to)) = (from.first_chunk::<N>(), to.first_chunk_mut()) {
        *to = *from;
    }
    if let (Some(from), Some(to)) = (from.last_chunk::<N>(), to.last_chunk_mut()) {
        *to = *from;
    }
}

/// What was to be written does not fit: the buffer is full, or a length exceeds its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("does not fit a TPM command")
    }
}

impl core::error::Error for TooLarge {}

/// More bytes than a field or an NV index can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// What cannot hold them: the name of a type, or another name.
    pub what: &'static str,
    /// How many bytes were given.
    pub given: usize,
    /// How many it can hold.
    pub limit: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, given, limit } = self;
        write!(f, "{given} bytes do not fit {what}, which holds at most {limit}")
    }
}

impl core::error::Error for TooLong {}

impl From<TooLong> for TooLarge {
    fn from(_: TooLong) -> Self {
        Self
    }
}
