use super::{Alg, PcrProperty};
use crate::wire::macros::structure;
use crate::wire::{List, Malformed, Marshal, Reader, TooLarge, TooLong, Unmarshal, Why, Writer};

/// PCRs as a bit map whose first octet holds PCR 0 to 7. Part 2 §10.6.1.
#[doc(alias = "TPMS_PCR_SELECT")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcrSelect<'a>(&'a [u8]);

impl<'a> PcrSelect<'a> {
    /// The most octets of a bit map: 256 PCRs.
    pub const MAX: usize = 32;

    /// A bit map to be sent: three octets choose among PCR 0 to 23.
    ///
    /// # Errors
    /// More than [`Self::MAX`] octets.
    pub const fn new(octets: &'a [u8]) -> Result<Self, TooLong> {
        let (what, given, limit) = ("PcrSelect", octets.len(), Self::MAX);
        if given > limit { Err(TooLong { what, given, limit }) } else { Ok(Self(octets)) }
    }

    /// The bit map.
    #[must_use]
    pub const fn octets(self) -> &'a [u8] {
        self.0
    }

    /// The selected PCRs in order.
    pub fn pcrs(self) -> impl Iterator<Item = u8> + use<'a> {
        (0_u8..=255)
            .zip(self.0.iter().flat_map(|octet| (0..8).map(move |bit| octet >> bit & 1)))
            .filter_map(|(pcr, selected)| (selected == 1).then_some(pcr))
    }
}

impl Marshal for PcrSelect<'_> {
    #[inline]
    fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
        writer.write(&u8::try_from(self.0.len()).map_err(|_| TooLarge)?)?;
        writer.put(self.0)
    }
}

impl<'a> Unmarshal<'a> for PcrSelect<'a> {
    #[inline]
    fn unmarshal(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let at = reader.position();
        let size = usize::from(u8::unmarshal(reader)?);
        if size > Self::MAX {
            return Err(Malformed::new(Why::TooLong, at));
        }
        reader.take(size).map(Self)
    }
}

/// PCRs out of 0 to 23, to be selected: a bit map with its octets, which a [`PcrSelection`] borrows.
///
/// ```
/// use tpm2::types::{Alg, PcrBits};
///
/// let (boot, debug) = (PcrBits::of(&[0, 7]).unwrap(), PcrBits::of(&[16]).unwrap());
/// let selection = [boot.bank(Alg::SHA256), debug.bank(Alg::SHA384)];
/// # assert!(selection[0].pcrs().eq([0, 7]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcrBits([u8; 3]);

impl PcrBits {
    /// These PCRs; `None` if one of them is above 23.
    #[must_use]
    pub fn of(pcrs: &[u8]) -> Option<Self> {
        let mut bits = [0; 3];
        for pcr in pcrs {
            *bits.get_mut(usize::from(pcr / 8))? |= 1 << (pcr % 8);
        }
        Some(Self(bits))
    }

    /// These PCRs of a bank. The selection borrows `self`, which therefore needs a name: a selection made from
    /// `PcrBits::of(..)` in the same expression would outlive it, and does not compile.
    #[must_use]
    pub const fn bank(&self, hash: Alg) -> PcrSelection<'_> {
        PcrSelection { hash, select: PcrSelect(&self.0) }
    }
}

structure! {
    /// PCRs of one bank. Part 2 §10.6.2.
    #[doc(alias = "TPMS_PCR_SELECTION")]
    PcrSelection<'a> {
        /// The bank.
        hash: Alg,
        /// Which of its PCRs.
        select: PcrSelect<'a>,
    }

    /// PCRs that have a property. Part 2 §10.8.3.
    #[doc(alias = "TPMS_TAGGED_PCR_SELECT")]
    TaggedPcrSelect<'a> {
        /// The property.
        tag: PcrProperty,
        /// The PCRs.
        select: PcrSelect<'a>,
    }
}

/// PCRs of several banks: as many as there can be hashes. Part 2 §10.9.7.
#[doc(alias = "TPML_PCR_SELECTION")]
pub type PcrSelections<'a> = List<'a, PcrSelection<'a>, 16>;

impl<'a> PcrSelection<'a> {
    /// A selection to be sent: three octets choose among PCR 0 to 23.
    ///
    /// # Errors
    /// More than [`PcrSelect::MAX`] octets.
    pub const fn new(hash: Alg, select: &'a [u8]) -> Result<Self, TooLong> {
        match PcrSelect::new(select) {
            Ok(select) => Ok(Self { hash, select }),
            Err(error) => Err(error),
        }
    }

    /// The selected PCRs in order.
    pub fn pcrs(self) -> impl Iterator<Item = u8> + use<'a> {
        self.select.pcrs()
    }
}
