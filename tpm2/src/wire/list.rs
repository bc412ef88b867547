use core::fmt;

use super::{Malformed, Marshal, Reader, TooLarge, Unmarshal, Why, Writer};

/// A `TPML`: a 32-bit count and that many elements. Part 2 §10.9.
///
/// One that came from the wire keeps its octets and was checked when it was read; one to be sent borrows a slice.
#[derive(Clone, Copy)]
pub struct List<'a, T>(Elements<'a, T>);

#[derive(Clone, Copy)]
enum Elements<'a, T> {
    Given(&'a [T]),
    Read { count: u32, octets: &'a [u8] },
}

impl<'a, T> List<'a, T> {
    /// More elements than any list of the specification can have: HASH_COUNT, MAX_CAP_* and the like are all smaller.
    const MAX: u32 = 1024;

    /// A list to be sent.
    #[must_use]
    pub const fn new(elements: &'a [T]) -> Self {
        Self(Elements::Given(elements))
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.0 {
            Elements::Given(elements) => elements.len(),
            Elements::Read { count, .. } => usize::try_from(count).unwrap_or(usize::MAX),
        }
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, T: Unmarshal<'a> + Copy> List<'a, T> {
    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<'a, T> {
        let (given, mut reader) = match self.0 {
            Elements::Given(elements) => (elements, Reader::new(&[])),
            Elements::Read { octets, .. } => (&[][..], Reader::new(octets)),
        };
        let read = core::iter::from_fn(move || T::unmarshal(&mut reader).ok());
        given.iter().copied().chain(read)
    }
}

impl<T: Marshal> Marshal for List<'_, T> {
    #[inline]
    fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
        match self.0 {
            Elements::Given(elements) => {
                writer.write(&u32::try_from(elements.len()).map_err(|_| TooLarge)?)?;
                elements.iter().try_for_each(|element| element.marshal(writer))
            }
            Elements::Read { count, octets } => {
                writer.write(&count)?;
                writer.put(octets)
            }
        }
    }
}

impl<'a, T: Unmarshal<'a>> Unmarshal<'a> for List<'a, T> {
    #[inline]
    fn unmarshal(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let at = reader.position();
        let count = u32::unmarshal(reader)?;
        if count > Self::MAX {
            return Err(Malformed::new(Why::TooLong, at));
        }
        let start = reader.position();
        let octets = reader.peek();
        for _ in 0..count {
            T::unmarshal(reader)?;
        }
        let read = reader.position().saturating_sub(start);
        Ok(Self(Elements::Read { count, octets: octets.get(..read).unwrap_or_default() }))
    }
}

impl<'a, T: Unmarshal<'a> + Copy + fmt::Debug> fmt::Debug for List<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, T: Unmarshal<'a> + Copy + PartialEq> PartialEq for List<'a, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, T: Unmarshal<'a> + Copy + Eq> Eq for List<'a, T> {}
