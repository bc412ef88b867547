use super::{EventLogError, EventLogFault};

/// Reads little-endian numbers front to back.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
    /// The event that is being read, for errors.
    pub(super) event: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: 0, event: 0 }
    }

    /// Whether nothing is left but what fills up a table: an event of zeros could be distinguished from the
    /// filling by nothing, and one of ones would have no PCR.
    pub(super) fn is_at_end(&self) -> bool {
        [0x00, 0xff].iter().any(|filling| self.rest.iter().all(|byte| byte == filling))
    }

    pub(super) fn take(
        &mut self,
        length: usize,
        what: &'static str,
    ) -> Result<&'a [u8], EventLogError> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.error(EventLogFault::Truncated(what)));
        };
        self.rest = rest;
        self.offset = self.offset.saturating_add(length);
        Ok(taken)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, EventLogError> {
        self.array(what).map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, EventLogError> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, EventLogError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], EventLogError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    /// What is left, without moving.
    pub(super) fn peek(&self) -> &'a [u8] {
        self.rest
    }

    pub(super) fn offset(&self) -> usize {
        self.offset
    }

    pub(super) fn error(&self, fault: EventLogFault) -> EventLogError {
        EventLogError { event: self.event, offset: self.offset, fault }
    }
}
