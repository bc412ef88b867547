use std::fmt;

use tpm2::crypto::HashAlg;
use tpm2::types::DigestBuf;

use super::{EventLog, MeasuredLog};
use crate::pcr::{PCRS, PcrValues, QuotedPcrs};

/// What the PCRs of one bank would hold after all the events of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrBank {
    hash: HashAlg,
    values: [DigestBuf; PCRS as usize],
}

impl PcrBank {
    /// The bank.
    #[must_use]
    pub fn hash(&self) -> HashAlg {
        self.hash
    }

    /// All values, PCR 0 first.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.values.iter().map(DigestBuf::octets)
    }

    /// As after a reset: PCR 0 has the locality that started the TPM in its last byte; PCR 17 to 22
    /// are ones until a dynamic launch. PTP §4.6.2, Part 1 §17.
    fn reset(hash: HashAlg, startup_locality: u8) -> Self {
        let zeros = DigestBuf::zeroed(hash.digest_len()).unwrap_or(DigestBuf::EMPTY);
        let mut bank = Self { hash, values: [zeros; PCRS as usize] };
        for (pcr, value) in bank.values.iter_mut().enumerate() {
            match pcr {
                0 => value.octets_mut().last_mut().into_iter().for_each(|b| *b = startup_locality),
                17..=22 => value.octets_mut().fill(0xff),
                _ => {}
            }
        }
        bank
    }

    /// A dynamic launch, which is what the first event of these PCRs shows, sets all of them to zero.
    fn extend(&mut self, pcr: u32, digest: &[u8]) -> Option<()> {
        let (hash, index) = (self.hash, usize::try_from(pcr).ok()?);
        let dynamic = self.values.get_mut(17..=22).unwrap_or_default();
        let before = |value: &DigestBuf| value.octets().iter().all(|byte| *byte == 0xff);
        if (17..=22).contains(&pcr) && dynamic.iter().all(before) {
            dynamic.iter_mut().for_each(|value| value.octets_mut().fill(0));
        }
        let value = self.values.get_mut(index)?;
        *value = hash.digest(&[value.octets(), digest]);
        Some(())
    }
}

impl EventLog<'_> {
    /// Extends the events of one bank in order.
    pub fn replay(&self, hash: HashAlg) -> Result<PcrBank, ReplayError> {
        let mut bank = PcrBank::reset(hash, self.startup_locality());
        for event in self.events().filter(super::Event::is_extended) {
            let digest = event.digests.of(hash.alg());
            let digest = digest.ok_or(ReplayError::NoDigest { event: event.number, hash })?;
            bank.extend(event.pcr, digest)
                .ok_or(ReplayError::NoDigest { event: event.number, hash })?;
        }
        Ok(bank)
    }
}

impl<'a> EventLog<'a> {
    /// Compares the log's replay with the PCRs of one bank that a quote proves: every one of
    /// them must be as the log says. The log of a bank of SHA-1 is worth what SHA-1 is worth.
    pub fn measured(
        self,
        quoted: &QuotedPcrs,
        hash: HashAlg,
    ) -> Result<MeasuredLog<'a>, ReplayError> {
        let bank = self.replay(hash)?;
        let mut pcrs = 0_u32;
        for (pcr, value) in quoted.values().bank(hash) {
            if bank.values.get(usize::from(pcr)).map(DigestBuf::octets) != Some(value) {
                return Err(ReplayError::Differs { pcr, hash });
            }
            pcrs |= 1_u32.checked_shl(u32::from(pcr)).unwrap_or_default();
        }
        if pcrs == 0 {
            return Err(ReplayError::NotQuoted(hash));
        }
        Ok(MeasuredLog::new(self, hash, pcrs))
    }
}

impl PcrValues {
    /// Adds all values of a bank: a quote may then be laid against a log alone.
    #[must_use]
    pub fn with_bank(self, bank: &PcrBank) -> Self {
        (0..PCRS).zip(bank.values()).fold(self, |values, (pcr, value)| {
            values.with(bank.hash, pcr, value).expect("a bank has digests of its own size")
        })
    }
}

/// Why a log does not lead to the PCRs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// An event without digest for this bank.
    NoDigest {
        /// The event, counted from 0.
        event: usize,
        /// The bank.
        hash: HashAlg,
    },
    /// The quote has no PCR of this bank.
    NotQuoted(HashAlg),
    /// A quoted PCR holds something else than the log leads to.
    Differs {
        /// The PCR.
        pcr: u8,
        /// Its bank.
        hash: HashAlg,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDigest { event, hash } => {
                write!(f, "event {event} of the log has no digest for the bank {:?}", hash.alg())
            }
            Self::NotQuoted(hash) => write!(f, "no PCR of the bank {:?} is quoted", hash.alg()),
            Self::Differs { pcr, hash } => {
                write!(f, "PCR {pcr} of the bank {:?} is not what the log leads to", hash.alg())
            }
        }
    }
}

impl std::error::Error for ReplayError {}
