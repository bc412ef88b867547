//! A reader of DER (X.690) that copies nothing and never recurses on its input.
//!
//! It accepts three things that DER forbids and that EK certificates contain: TRUE
//! written as 01, bit strings with trailing zero bits, and padded or negative INTEGERs where the
//! caller asks for raw ones. Order within SET OF, and values equal to their DEFAULT, are
//! checked by the caller. Everything else is as DER requires: definite and shortest lengths, low tags.

use std::fmt;

/// The longest certificate that is read. Those in the field are below 2 KiB.
pub const MAX_CERTIFICATE: usize = 8 * 1024;

/// X.690 identifier octets, as they stand in a certificate.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const PRINTABLE_STRING: u8 = 0x13;
    pub(crate) const TELETEX_STRING: u8 = 0x14;
    pub(crate) const IA5_STRING: u8 = 0x16;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const UNIVERSAL_STRING: u8 = 0x1c;
    pub(crate) const BMP_STRING: u8 = 0x1e;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;

    /// `[n]` of a primitive type, IMPLICIT.
    pub(crate) const fn context(n: u8) -> u8 {
        0x80 | n
    }

    /// `[n]` of a constructed type, or EXPLICIT.
    pub(crate) const fn constructed(n: u8) -> u8 {
        0xa0 | n
    }
}

/// Malformed DER: the part, its offset in the input, and the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DerError {
    what: &'static str,
    offset: usize,
    fault: &'static str,
}

impl DerError {
    /// The part that is wrong, in the words of RFC 5280.
    #[must_use]
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// Where it begins, counted from the first byte of the input.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }
}

impl fmt::Display for DerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at offset {}: {}", self.what, self.offset, self.fault)
    }
}

impl std::error::Error for DerError {}

pub(crate) type Result<T> = std::result::Result<T, DerError>;

/// Reads elements one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is left, as it stands.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8, what: &'static str) -> Result<Element<'a>> {
        match self.rest.first() {
            None => Err(self.error(what, "is missing")),
            Some(&found) if found != tag => Err(self.error(what, "has another tag")),
            Some(_) => self.any(what),
        }
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8, what: &'static str) -> Result<Option<Element<'a>>> {
        match self.rest.first() {
            Some(&found) if found == tag => self.any(what).map(Some),
            _ => Ok(None),
        }
    }

    /// The content of a SEQUENCE.
    pub(crate) fn sequence(&mut self, what: &'static str) -> Result<Reader<'a>> {
        Ok(self.expect(tag::SEQUENCE, what)?.reader())
    }

    /// The next element, whatever it is.
    pub(crate) fn any(&mut self, what: &'static str) -> Result<Element<'a>> {
        let start = *self;
        let tag = self.byte(what)?;
        if tag & 0x1f == 0x1f {
            return Err(start.error(what, "has a tag of several bytes"));
        }
        let length = self.length(what)?;
        let offset = self.offset;
        let content = self.take(length, what)?;
        let whole = start.rest.len().saturating_sub(self.rest.len());
        let raw = start.rest.get(..whole).unwrap_or_default();
        Ok(Element { tag, content, raw, offset, start: start.offset })
    }

    /// Refuses bytes left over.
    pub(crate) fn end(&self, what: &'static str) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error(what, "has bytes left over")) }
    }

    pub(crate) fn error(&self, what: &'static str, fault: &'static str) -> DerError {
        DerError { what, offset: self.offset, fault }
    }

    /// X.690 §10.1: definite, and in the fewest bytes. Three bytes of length are more than enough.
    fn length(&mut self, what: &'static str) -> Result<usize> {
        let start = *self;
        let first = self.byte(what)?;
        let bytes = match first {
            0..=0x7f => return Ok(usize::from(first)),
            0x80 => return Err(start.error(what, "has an indefinite length")),
            0x81..=0x83 => usize::from(first & 0x0f),
            _ => return Err(start.error(what, "has an excessive length")),
        };
        let digits = self.take(bytes, what)?;
        let length = digits.iter().fold(0usize, |n, &b| (n << 8) | usize::from(b));
        if length < 0x80 || digits.first() == Some(&0) {
            return Err(start.error(what, "has a length that is not the shortest"));
        }
        Ok(length)
    }

    fn byte(&mut self, what: &'static str) -> Result<u8> {
        match self.take(1, what)? {
            [byte] => Ok(*byte),
            _ => Err(self.error(what, "is cut short")),
        }
    }

    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.error(what, "is cut short"));
        };
        self.rest = rest;
        self.offset = self.offset.saturating_add(length);
        Ok(taken)
    }
}

/// One tag, length and value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// Tag and length included.
    pub(crate) raw: &'a [u8],
    offset: usize,
    start: usize,
}

impl<'a> Element<'a> {
    /// Reads what a constructed element holds.
    pub(crate) fn reader(&self) -> Reader<'a> {
        Reader { rest: self.content, offset: self.offset }
    }

    pub(crate) fn error(&self, what: &'static str, fault: &'static str) -> DerError {
        DerError { what, offset: self.start, fault }
    }

    /// BOOLEAN; TRUE may be 01.
    pub(crate) fn boolean(&self, what: &'static str) -> Result<bool> {
        match self.content {
            [0x00] => Ok(false),
            [0xff | 0x01] => Ok(true),
            _ => Err(self.error(what, "is not a boolean")),
        }
    }

    /// The magnitude of an INTEGER that is positive or zero and in its shortest form.
    pub(crate) fn unsigned(&self, what: &'static str) -> Result<&'a [u8]> {
        match self.content {
            [] => Err(self.error(what, "is an integer without a byte")),
            [0x80..=0xff, ..] => Err(self.error(what, "is negative")),
            [0, 0..=0x7f, ..] => Err(self.error(what, "has leading zeros")),
            [0, magnitude @ ..] if !magnitude.is_empty() => Ok(magnitude),
            magnitude => Ok(magnitude),
        }
    }

    /// A small INTEGER: a version, an exponent, a path length.
    pub(crate) fn small(&self, what: &'static str) -> Result<u32> {
        let magnitude = self.unsigned(what)?;
        if magnitude.len() > 4 {
            return Err(self.error(what, "is larger than 32 bits"));
        }
        Ok(magnitude.iter().fold(0, |n, &b| (n << 8) | u32::from(b)))
    }

    /// A BIT STRING of whole bytes: a key or a signature.
    pub(crate) fn bytes_of_bits(&self, what: &'static str) -> Result<Reader<'a>> {
        match self.content {
            [0, bytes @ ..] => Ok(Reader { rest: bytes, offset: self.offset.saturating_add(1) }),
            _ => Err(self.error(what, "is not a bit string of whole bytes")),
        }
    }

    /// A BIT STRING of named bits; bit 0 is the first. Trailing zero bits are borne, bits set among
    /// the unused ones are not.
    pub(crate) fn named_bits(&self, what: &'static str) -> Result<u16> {
        let (unused, bits) = match self.content {
            [0] => return Ok(0),
            [unused @ 0..=7, first] => (*unused, [*first, 0]),
            [unused @ 0..=7, first, second] => (*unused, [*first, *second]),
            _ => return Err(self.error(what, "is not a short bit string")),
        };
        let last = self.content.last().copied().unwrap_or_default();
        if last & (1u8 << unused).wrapping_sub(1) != 0 {
            return Err(self.error(what, "has unused bits that are set"));
        }
        Ok(u16::from_be_bytes(bits).reverse_bits())
    }
}

/// Writes one element in DER.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let zeros = length.iter().take_while(|&&byte| byte == 0).count();
    let digits = length.split_at_checked(zeros).map_or(&[][..], |(_, digits)| digits);
    let mut der = vec![tag];
    match digits {
        [] => der.push(0),
        [short @ 0..=0x7f] => der.push(*short),
        digits => {
            der.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            der.extend(digits);
        }
    }
    der.extend(content);
    der
}

/// Writes a number, given big endian, as an INTEGER in DER.
pub(crate) fn unsigned(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    let magnitude = number.split_at_checked(zeros).map_or(&[][..], |(_, digits)| digits);
    match magnitude {
        [] | [0x80..=0xff, ..] => element(tag::INTEGER, &[&[0], magnitude].concat()),
        magnitude => element(tag::INTEGER, magnitude),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(bytes: &[u8]) -> Result<Element<'_>> {
        Reader::new(bytes).any("x")
    }

    #[test]
    fn lengths_are_definite_and_shortest() {
        assert_eq!(first(&[0x04, 0x01, 0xaa]).unwrap().content, [0xaa]);
        for (bytes, fault) in [
            (&[0x30, 0x80, 0, 0][..], "indefinite"),
            (&[0x04, 0x81, 0x01, 0xaa], "shortest"),
            (&[0x04, 0x82, 0x00, 0x81, 0xaa], "cut short"),
            (&[0x04, 0x84, 0, 0, 0, 1, 0xaa], "excessive"),
            (&[0x1f, 0x01, 0xaa], "several bytes"),
            (&[0x04, 0x02, 0xaa], "cut short"),
            (&[0x04], "cut short"),
            (&[], "cut short"),
        ] {
            let error = first(bytes).unwrap_err().to_string();
            assert!(error.contains(fault) || error.contains("shortest"), "{bytes:02x?}: {error}");
        }
        let mut padded = vec![0x04, 0x82, 0x00, 0x81];
        padded.extend([0; 0x81]);
        assert!(first(&padded).unwrap_err().to_string().contains("shortest"));
        let mut long = vec![0x04, 0x81, 0x81];
        long.extend([7; 0x81]);
        assert_eq!(first(&long).unwrap().content, [7; 0x81]);
        assert_eq!(first(&long).unwrap().raw, long);
    }

    #[test]
    fn errors_name_the_part_and_its_offset() {
        let bytes = [0x30, 0x05, 0x02, 0x01, 0x05, 0x04, 0x00];
        let mut outer = Reader::new(&bytes).sequence("outer").unwrap();
        outer.expect(tag::INTEGER, "first").unwrap();
        let error = outer.expect(tag::INTEGER, "second").unwrap_err();
        assert_eq!((error.what(), error.offset()), ("second", 5));
        assert_eq!(error.to_string(), "second at offset 5: has another tag");
        assert_eq!(outer.end("outer").unwrap_err().offset(), 5);
    }

    #[test]
    fn integers() {
        let unsigned = |bytes: &'static [u8]| first(bytes).unwrap().unsigned("x").ok();
        assert_eq!(unsigned(&[2, 1, 0]), Some(&[0][..]));
        assert_eq!(unsigned(&[2, 1, 0x7f]), Some(&[0x7f][..]));
        assert_eq!(unsigned(&[2, 2, 0, 0x80]), Some(&[0x80][..]));
        assert_eq!(unsigned(&[2, 2, 0, 0x7f]), None);
        assert_eq!(unsigned(&[2, 1, 0x80]), None);
        assert_eq!(unsigned(&[2, 0]), None);
        assert_eq!(first(&[2, 5, 1, 0, 0, 0, 0]).unwrap().small("x").ok(), None);
        assert_eq!(first(&[2, 3, 1, 0, 1]).unwrap().small("x"), Ok(65537));
    }

    #[test]
    fn booleans_and_bits() {
        let boolean = |b| first(&[1, 1, b]).unwrap().boolean("x").ok();
        assert_eq!([0, 1, 0xff, 2].map(boolean), [Some(false), Some(true), Some(true), None]);
        let bits = |bytes: &[u8]| first(bytes).unwrap().named_bits("x").ok();
        assert_eq!(bits(&[3, 2, 5, 0x20]), Some(1 << 2));
        assert_eq!(bits(&[3, 2, 0, 0x20]), Some(1 << 2));
        assert_eq!(bits(&[3, 2, 0, 0x06]), Some(1 << 5 | 1 << 6));
        assert_eq!(bits(&[3, 3, 7, 0x00, 0x80]), Some(1 << 8));
        assert_eq!(bits(&[3, 1, 0]), Some(0));
        for wrong in [&[3, 2, 5, 0x21][..], &[3, 2, 8, 0], &[3, 0], &[3, 1, 3], &[3, 4, 0, 1, 2, 3]]
        {
            assert_eq!(bits(wrong), None, "{wrong:02x?}");
        }
    }
}
