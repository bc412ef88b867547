//! Values of PCRs: as claimed, and as a quote proves them.

use std::collections::BTreeMap;
use std::fmt;

use tpm2::crypto::HashAlg;
use tpm2::types::{Alg, DigestBuf};

/// PCRs of a PC. PTP §4.6.
pub const PCRS: u8 = 24;

/// Values of PCRs in one or several banks. A claim.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PcrValues(BTreeMap<(Alg, u8), DigestBuf>);

impl PcrValues {
    /// No values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value, in place of one from before; `None` if it is not a digest of that bank, or
    /// there is no such PCR.
    #[must_use]
    pub fn with(mut self, bank: HashAlg, pcr: u8, value: &[u8]) -> Option<Self> {
        if value.len() != bank.digest_len() || pcr >= PCRS {
            return None;
        }
        self.0.insert((bank.alg(), pcr), DigestBuf::new(value)?);
        Some(self)
    }

    /// The value of a PCR.
    #[must_use]
    pub fn of(&self, bank: HashAlg, pcr: u8) -> Option<&[u8]> {
        self.0.get(&(bank.alg(), pcr)).map(DigestBuf::octets)
    }

    /// The PCRs of one bank with their values, in order.
    pub fn bank(&self, bank: HashAlg) -> impl Iterator<Item = (u8, &[u8])> {
        let range = (bank.alg(), 0)..=(bank.alg(), u8::MAX);
        self.0.range(range).map(|((_, pcr), value)| (*pcr, value.octets()))
    }
}

impl fmt::Debug for PcrValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|((bank, pcr), value)| (format!("{bank:?}:{pcr}"), value));
        f.debug_map().entries(shown).finish()
    }
}

/// PCR values that a quote proves: exactly those that it selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotedPcrs(pub(crate) PcrValues);

impl QuotedPcrs {
    /// The values.
    #[must_use]
    pub fn values(&self) -> &PcrValues {
        &self.0
    }
}
