//! The data types of SSH: RFC 4251 §5.

/// Reads strings, each behind its length, and numbers.
pub(crate) struct Strings<'b>(pub(crate) &'b [u8]);

impl<'b> Strings<'b> {
    pub(crate) fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*number)
    }

    pub(crate) fn string(&mut self) -> Option<&'b [u8]> {
        let length = usize::try_from(u32::from_be_bytes(self.number()?)).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }

    /// A string behind which nothing comes.
    pub(crate) fn only(mut self) -> Option<&'b [u8]> {
        self.string().filter(|_| self.0.is_empty())
    }
}

/// Data that is being put together.
#[derive(Default)]
pub(crate) struct Packed(Vec<u8>);

impl Packed {
    pub(crate) fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn number(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    /// Nothing here is 4 GiB long.
    pub(crate) fn string(self, string: &[u8]) -> Self {
        let mut packed = self.number(u32::try_from(string.len()).unwrap_or(u32::MAX));
        packed.0.extend_from_slice(string);
        packed
    }

    /// A positive integer from its bytes.
    pub(crate) fn mpint(self, bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        let bytes = bytes.get(zeros..).unwrap_or_default();
        match bytes.first() {
            // The sign bit.
            Some(first) if first & 0x80 != 0 => self.string(&[&[0], bytes].concat()),
            _ => self.string(bytes),
        }
    }

    pub(crate) fn into_vec(self) -> Vec<u8> {
        self.0
    }
}
