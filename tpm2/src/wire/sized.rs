use super::{Malformed, Marshal, Reader, TooLarge, Unmarshal, Writer};

/// A structure behind its 16-bit size, as `TPM2B_PUBLIC` is to `TPMT_PUBLIC`. Part 2 §10.4.1.
///
/// Reading refuses a size that the structure does not fill exactly.
#[doc(alias = "TPM2B")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tpm2b<T>(pub T);

impl<T: Marshal> Marshal for Tpm2b<T> {
    const SIZED: bool = true;

    #[inline]
    fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
        writer.sized(|writer| self.0.marshal(writer))
    }
}

impl<'a, T: Unmarshal<'a>> Unmarshal<'a> for Tpm2b<T> {
    #[inline]
    fn unmarshal(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let size = u16::unmarshal(reader)?;
        let mut inner = reader.sub(usize::from(size))?;
        inner.last(T::unmarshal).map(Self)
    }
}

/// A `TPM2B` that may be empty: nothing is its size alone, which is zero.
impl<T: Marshal> Marshal for Option<Tpm2b<T>> {
    const SIZED: bool = true;

    fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
        match self {
            Some(structure) => structure.marshal(writer),
            None => 0_u16.marshal(writer),
        }
    }
}

impl<'a, T: Unmarshal<'a>> Unmarshal<'a> for Option<Tpm2b<T>> {
    fn unmarshal(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        if reader.peek().starts_with(&[0; 2]) {
            return u16::unmarshal(reader).map(|_| None);
        }
        Tpm2b::unmarshal(reader).map(Some)
    }
}
