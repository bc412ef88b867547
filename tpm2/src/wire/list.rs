use core::fmt;

use super::{Malformed, Marshal, Reader, TooLarge, Unmarshal, Why, Writer};

/// A `TPML`: a 32-bit count and that many elements. Part 2 §10.9.
///
/// One that came from the wire keeps its octets and was checked when it was read; one to be sent borrows a slice. `MAX` is
/// the most elements: the specification's where it has a number, and otherwise more than any message has room for.
#[doc(alias = "TPML_ALG")]
#[derive(Clone, Copy)]
pub struct List<'a, T, const MAX: usize = 1024>(Elements<'a, T>);

#[derive(Clone, Copy)]
enum Elements<'a, T> {
    Given(&'a [T]),
    Read { count: u32, octets: &'a [u8] },
}

impl<'a, T, const MAX: usize> List<'a, T, MAX> {
    /// A list to be sent. One with more than `MAX` elements is refused when it is marshalled.
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

impl<'a, T: Unmarshal<'a> + Copy, const MAX: usize> List<'a, T, MAX> {
    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = T> + use<'a, T, MAX> {
        let (given, mut reader) = match self.0 {
            Elements::Given(elements) => (elements, Reader::new(&[])),
            Elements::Read { octets, .. } => (&[][..], Reader::new(octets)),
        };
        let read = core::iter::from_fn(move || T::unmarshal(&mut reader).ok());
        given.iter().copied().chain(read)
    }
}

impl<T: Marshal, const MAX: usize> Marshal for List<'_, T, MAX> {
    #[inline]
    fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
        match self.0 {
            Elements::Given(elements) if elements.len() > MAX => Err(TooLarge),
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

impl<'a, T: Unmarshal<'a>, const MAX: usize> Unmarshal<'a> for List<'a, T, MAX> {
    #[inline]
    fn unmarshal(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let at = reader.position();
        let count = u32::unmarshal(reader)?;
        let Some(elements) = usize::try_from(count).ok().filter(|elements| *elements <= MAX) else {
            return Err(Malformed::new(Why::TooLong, at));
        };
        if let Some(octets) = T::OCTETS {
            let octets = reader.take(elements.saturating_mul(octets))?;
            return Ok(Self(Elements::Read { count, octets }));
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

impl<'a, T, const MAX: usize> fmt::Debug for List<'a, T, MAX>
where
    T: Unmarshal<'a> + Copy + fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a, T: Unmarshal<'a> + Copy + PartialEq, const MAX: usize> PartialEq for List<'a, T, MAX> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<'a, T: Unmarshal<'a> + Copy + Eq, const MAX: usize> Eq for List<'a, T, MAX> {}
