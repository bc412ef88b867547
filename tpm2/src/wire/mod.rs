//! The wire: big-endian numbers, sized structures, lists. Part 1 §10 and Part 2 §4.
//!
//! Reading borrows and never allocates; every error names what was being read and at which offset. Four declarative
//! macros, `numbers!`, `structure!`, `union!` and `command!`, turn the specification's tables into types.

mod hex;
mod list;
pub(crate) mod macros;
mod reader;
mod sized;
mod writer;

pub(crate) use hex::Hex;
pub use list::List;
pub use reader::{Malformed, Reader, Why};
pub use sized::Tpm2b;
pub use writer::{TooLarge, TooLong, Writer};

/// Something that has a place on the wire.
pub trait Marshal {
    /// Whether the wire form begins with its own 16-bit size, as every `TPM2B` does. Only such a parameter can be
    /// encrypted by a session. Part 1 §21.1.
    const SIZED: bool = false;

    /// Appends the wire form.
    ///
    /// # Errors
    /// The writer's buffer is too small, or a size or count does not fit its field.
    fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge>;

    /// The wire form by itself, to be kept or stored.
    ///
    /// # Errors
    /// It is longer than a whole command can be, or a size or count does not fit its field.
    #[cfg(feature = "alloc")]
    fn to_vec(&self) -> Result<alloc::vec::Vec<u8>, TooLarge> {
        let mut octets = zeroize::Zeroizing::new([0; 4096]);
        let mut writer = Writer::new(&mut *octets);
        self.marshal(&mut writer)?;
        Ok(writer.into_written().to_vec())
    }
}

/// Something that can be read from the wire; what it holds may borrow from the bytes read.
pub trait Unmarshal<'a>: Sized {
    /// How many octets a value is, if any that many are one: then a list of them needs no look at each.
    const OCTETS: Option<usize> = None;

    /// Reads one value and leaves the reader behind it.
    ///
    /// # Errors
    /// The bytes are not what Part 2 says of this type.
    fn unmarshal(reader: &mut Reader<'a>) -> Result<Self, Malformed>;

    /// Reads a value that must fill `bytes` to the last.
    ///
    /// # Errors
    /// As [`Self::unmarshal`], or bytes are left over.
    fn from_bytes(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Reader::all(bytes, Self::unmarshal)
    }
}

/// [`Unmarshal::OCTETS`] of a structure with these fields.
pub(crate) const fn octets(fields: &[Option<usize>]) -> Option<usize> {
    let mut sum = 0_usize;
    let mut rest = fields;
    while let [field, others @ ..] = rest {
        match field {
            Some(octets) => sum = sum.saturating_add(*octets),
            None => return None,
        }
        rest = others;
    }
    Some(sum)
}

macro_rules! integers {
    ($($ty:ty),*) => {$(
        impl Marshal for $ty {
            #[inline]
            fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
                writer.put_array(&self.to_be_bytes())
            }
        }
        impl Unmarshal<'_> for $ty {
            const OCTETS: Option<usize> = Some(size_of::<Self>());

            #[inline]
            fn unmarshal(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
                reader.take_array().map(Self::from_be_bytes)
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i8, i32);

/// TPMI_YES_NO: one octet, and no third value. Part 2 §9.2.
impl Marshal for bool {
    fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
        writer.put(&[u8::from(*self)])
    }
}

impl Unmarshal<'_> for bool {
    fn unmarshal(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let at = reader.position();
        match u8::unmarshal(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::new(Why::Value, at)),
        }
    }
}

#[cfg(test)]
mod tests;
