use core::fmt;

use super::Marshal;

/// Writes the wire into a buffer of fixed size.
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    len: usize,
}

impl<'b> Writer<'b> {
    /// A writer that fills `buffer` from the front.
    #[must_use]
    pub const fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    /// How many octets have been written.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What has been written, for as long as the buffer lives.
    #[must_use]
    pub fn into_written(self) -> &'b mut [u8] {
        self.buffer.get_mut(..self.len).unwrap_or_default()
    }

    /// Appends bytes as they are.
    ///
    /// # Errors
    /// The buffer is full.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), TooLarge> {
        let end = self.len.checked_add(bytes.len()).ok_or(TooLarge)?;
        self.buffer.get_mut(self.len..end).ok_or(TooLarge)?.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// Appends a value.
    ///
    /// # Errors
    /// The buffer is full, or the value does not fit its type.
    pub fn write(&mut self, value: &impl Marshal) -> Result<(), TooLarge> {
        value.marshal(self)
    }

    /// Appends what `body` writes, with its length before it in 16 bits. The hole is filled with ones until the length
    /// is known, so that a forgotten one would be refused by every reader.
    ///
    /// # Errors
    /// As `body`, or its length does not fit.
    pub fn sized(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<(), TooLarge>,
    ) -> Result<(), TooLarge> {
        let hole = self.len;
        self.put(&[0xff; 2])?;
        let start = self.len;
        body(self)?;
        let length = self.len.checked_sub(start).and_then(|length| u16::try_from(length).ok());
        self.patch(hole, &length.ok_or(TooLarge)?.to_be_bytes())
    }

    /// Overwrites bytes that were written before.
    ///
    /// # Errors
    /// They were not written before.
    pub fn patch(&mut self, at: usize, bytes: &[u8]) -> Result<(), TooLarge> {
        let end = at.checked_add(bytes.len()).filter(|end| *end <= self.len).ok_or(TooLarge)?;
        self.buffer.get_mut(at..end).ok_or(TooLarge)?.copy_from_slice(bytes);
        Ok(())
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
