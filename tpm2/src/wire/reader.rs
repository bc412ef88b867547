use core::convert::Infallible;
use core::fmt;

use super::Unmarshal;

/// Reads the wire front to back. It cannot go back, and it cannot read past its end.
///
/// Where it is follows from where it ends and what is left: one thing to keep on the way, since every answer passes here.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    end: usize,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, end: bytes.len() }
    }

    /// Lets `read` consume `bytes`, all of them.
    ///
    /// # Errors
    /// Whatever `read` says, or [`Why::LeftOver`].
    pub fn all<T>(
        bytes: &'a [u8],
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<T, Malformed> {
        let mut reader = Self::new(bytes);
        reader.last(read)
    }

    /// Lets `read` consume all that is left. The value stays where it was made: it is not moved once more.
    #[inline]
    pub(crate) fn last<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<T, Malformed> {
        let mut result = read(self);
        if result.is_ok() && !self.rest.is_empty() {
            result = Err(self.malformed(Why::LeftOver));
        }
        result
    }

    /// Refuses bytes left over.
    ///
    /// # Errors
    /// [`Why::LeftOver`].
    #[inline]
    pub const fn finish(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.malformed(Why::LeftOver)) }
    }

    /// Reads one value; an error that has no name yet is given `what`.
    ///
    /// # Errors
    /// As the type's own.
    #[inline]
    pub fn read<T: Unmarshal<'a>>(&mut self, what: &'static str) -> Result<T, Malformed> {
        T::unmarshal(self).map_err(|malformed| malformed.named(what))
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`Why::Truncated`].
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.malformed(Why::Truncated));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes by value.
    ///
    /// # Errors
    /// [`Why::Truncated`].
    #[inline]
    pub fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some((taken, rest)) = self.rest.split_first_chunk() else {
            return Err(self.malformed(Why::Truncated));
        };
        self.rest = rest;
        Ok(*taken)
    }

    /// A reader of the next `len` bytes alone, whose errors count from the same start.
    ///
    /// # Errors
    /// [`Why::Truncated`].
    #[inline]
    pub fn sub(&mut self, len: usize) -> Result<Self, Malformed> {
        let rest = self.take(len)?;
        Ok(Self { rest, end: self.position() })
    }

    /// All that is left.
    pub const fn take_rest(&mut self) -> &'a [u8] {
        let rest = self.rest;
        self.rest = &[];
        rest
    }

    /// All that is left, without moving.
    #[must_use]
    pub const fn peek(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether nothing is left.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How far the reader is from where it began.
    #[must_use]
    #[inline]
    pub const fn position(&self) -> usize {
        self.end.saturating_sub(self.rest.len())
    }

    /// An error where the reader is.
    #[cold]
    pub(crate) const fn malformed(&self, why: Why) -> Malformed {
        Malformed::new(why, self.position())
    }
}

/// Bytes that are not what the specification says. Says what, where and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    what: &'static str,
    at: u32,
    why: Why,
}

impl Malformed {
    /// An error at an offset, to be [named](Self::named) by a caller that knows the field.
    #[must_use]
    #[cold]
    pub const fn new(why: Why, at: usize) -> Self {
        // No message is as long as 4 GiB, and an error as small as this costs the way without one less.
        Self { what: "", at: at as u32, why }
    }

    /// Gives the error the name of the field, unless a field further in has done so.
    #[must_use]
    #[cold]
    pub const fn named(mut self, what: &'static str) -> Self {
        if self.what.is_empty() {
            self.what = what;
        }
        self
    }

    /// The field, such as `Public.auth_policy`; empty if not named.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        self.what
    }

    /// Offset in octets from the start of what was being read.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at as usize
    }

    /// What is wrong there.
    #[must_use]
    pub const fn why(&self) -> Why {
        self.why
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.what.is_empty() { "message" } else { self.what };
        write!(f, "{what} at octet {}: {}", self.at, self.why)
    }
}

impl core::error::Error for Malformed {}

/// What cannot fail is not malformed: a handle is any number.
impl From<Infallible> for Malformed {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The ways in which bytes can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The bytes end too early.
    Truncated,
    /// Bytes are left after the end.
    LeftOver,
    /// A size or count is larger than its type allows.
    TooLong,
    /// A value that the type does not have.
    Value,
    /// A selector that the union does not have, or that this crate does not know.
    Selector,
    /// Another message than the one expected.
    Unexpected,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "ends too early",
            Self::LeftOver => "has bytes after its end",
            Self::TooLong => "is longer than allowed",
            Self::Value => "has a value that the specification does not allow",
            Self::Selector => "has an unknown selector",
            Self::Unexpected => "is not what was asked for",
        })
    }
}
