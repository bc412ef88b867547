use super::Alg;
use crate::wire::{Malformed, Marshal, Reader, TooLarge, Unmarshal, Why, Writer};

/// PCRs of one bank, as a bit map whose first octet holds PCR 0 to 7. Part 2 §10.6.2.
#[doc(alias = "TPMS_PCR_SELECTION")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcrSelection<'a> {
    /// The bank.
    pub hash: Alg,
    select: &'a [u8],
}

impl<'a> PcrSelection<'a> {
    /// The most octets of a bit map: 256 PCRs.
    pub const MAX: usize = 32;

    /// A selection to be sent: three octets choose among PCR 0 to 23.
    ///
    /// # Errors
    /// More than [`Self::MAX`] octets.
    pub const fn new(hash: Alg, select: &'a [u8]) -> Result<Self, TooLarge> {
        if select.len() > Self::MAX { Err(TooLarge) } else { Ok(Self { hash, select }) }
    }

    /// The selected PCRs in order.
    pub fn pcrs(self) -> impl Iterator<Item = u8> + use<'a> {
        (0_u8..=255)
            .zip(self.select.iter().flat_map(|octet| (0..8).map(move |bit| octet >> bit & 1)))
            .filter_map(|(pcr, selected)| (selected == 1).then_some(pcr))
    }
}

impl Marshal for PcrSelection<'_> {
    fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
        writer.write(&self.hash)?;
        writer.write(&u8::try_from(self.select.len()).map_err(|_| TooLarge)?)?;
        writer.put(self.select)
    }
}

impl<'a> Unmarshal<'a> for PcrSelection<'a> {
    fn unmarshal(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let hash = reader.read("PcrSelection.hash")?;
        let at = reader.position();
        let size = usize::from(reader.read::<u8>("PcrSelection.size")?);
        if size > Self::MAX {
            return Err(Malformed::new(Why::TooLong, at).named("PcrSelection.size"));
        }
        let select = reader.take(size).map_err(|e| e.named("PcrSelection.select"))?;
        Ok(Self { hash, select })
    }
}
