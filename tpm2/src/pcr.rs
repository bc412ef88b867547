//! Values of PCRs: all at one time, however many answers they take. Part 3 §22.4.
//!
//! ```no_run
//! use tpm2::types::{Alg, PcrBits};
//! use tpm2::{Tpm, pcr};
//!
//! let mut tpm = Tpm::open("device:/dev/tpmrm0")?;
//! let selected = PcrBits::of(&[0, 7]).ok_or("not a PCR")?;
//! for read in pcr::read(&mut tpm, &[selected.bank(Alg::SHA256)])? {
//!     println!("{read:?}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::vec::Vec;

use crate::client::Tpm;
use crate::commands::{Command, PcrRead};
use crate::crypto::HashAlg;
use crate::error::{Error, Fault};
use crate::transport::Transport;
use crate::types::{Alg, DigestBuf, PcrSelect, PcrSelection};
use crate::wire::{List, Malformed, TooLong, Why};

/// How often reading restarts when a PCR has changed meanwhile.
const ATTEMPTS: usize = 8;

/// What a PCR holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcrValue {
    /// The bank: the hash that the PCR is extended with.
    pub bank: Alg,
    /// Its number.
    pub pcr: u8,
    /// The value.
    pub value: DigestBuf,
}

/// Reads the selected PCRs, bank by bank in the order of the selection. What is not allocated is left out. One answer
/// has at most eight; if a PCR changes before the last one is read, reading restarts, so that all values are from one moment.
///
/// The values are the TPM's word alone: a [quote](crate::attest::quote) proves them.
///
/// # Errors
/// As [`Tpm::run`]; [`Fault::Malformed`] if the TPM answers with PCRs that were not asked for, or if they change all the time.
#[doc(alias = "TPM2_PCR_Read")]
pub fn read<T: Transport>(
    tpm: &mut Tpm<T>,
    pcrs: &[PcrSelection<'_>],
) -> Result<Vec<PcrValue>, Error<T::Error>> {
    for _ in 0..ATTEMPTS {
        if let Some(values) = read_once(tpm, pcrs)? {
            return Ok(values);
        }
    }
    Err(unexpected("pcr_update_counter"))
}

/// The digest of what the selected PCRs hold, all from one moment, as a policy or a quote has it: of the values in the order
/// of the selection.
///
/// # Errors
/// As [`read`].
pub fn digest<T: Transport>(
    tpm: &mut Tpm<T>,
    hash: HashAlg,
    pcrs: &[PcrSelection<'_>],
) -> Result<DigestBuf, Error<T::Error>> {
    let values = read(tpm, pcrs)?;
    let values: Vec<_> = values.iter().map(|pcr| pcr.value.octets()).collect();
    Ok(hash.digest(&values))
}

/// `None` if a PCR changed.
fn read_once<T: Transport>(
    tpm: &mut Tpm<T>,
    pcrs: &[PcrSelection<'_>],
) -> Result<Option<Vec<PcrValue>>, Error<T::Error>> {
    let mut wanted: Vec<Wanted> = pcrs.iter().map(Wanted::new).collect();
    let (mut values, mut began) = (Vec::new(), None);
    loop {
        let left: Result<Vec<_>, _> = wanted.iter().map(Wanted::selection).collect();
        let left = left.map_err(|error| Error::new(PcrRead::INFO.code, error.into()))?;
        let answer = tpm.run(&PcrRead { pcr_selection_in: List::new(&left) }, [])?;
        if *began.get_or_insert(answer.pcr_update_counter) != answer.pcr_update_counter {
            return Ok(None);
        }
        let read = answer.pcr_selection_out;
        let read = read.iter().flat_map(|bank| bank.pcrs().map(move |pcr| (bank.hash, pcr)));
        let mut given = answer.pcr_values.iter();
        let before = values.len();
        for (bank, pcr) in read {
            let asked = wanted.iter_mut().any(|wanted| wanted.take(bank, pcr));
            let value = given.next().filter(|_| asked);
            let value = value.map(DigestBuf::from);
            let value = value.ok_or_else(|| unexpected("pcr_selection_out"))?;
            values.push(PcrValue { bank, pcr, value });
        }
        if given.next().is_some() {
            return Err(unexpected("pcr_values"));
        }
        if values.len() == before || wanted.iter().all(Wanted::is_empty) {
            let place = |value: &PcrValue| pcrs.iter().position(|bank| bank.hash == value.bank);
            values.sort_by_key(|value| (place(value), value.pcr));
            return Ok(Some(values));
        }
    }
}

/// PCRs of a bank that were not read yet.
struct Wanted {
    bank: Alg,
    bits: [u8; PcrSelect::MAX],
    len: usize,
}

impl Wanted {
    fn new(selection: &PcrSelection<'_>) -> Self {
        let octets = selection.select.octets();
        let mut bits = [0; PcrSelect::MAX];
        bits.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
        Self { bank: selection.hash, bits, len: octets.len() }
    }

    fn selection(&self) -> Result<PcrSelection<'_>, TooLong> {
        PcrSelection::new(self.bank, self.bits.get(..self.len).unwrap_or_default())
    }

    fn is_empty(&self) -> bool {
        self.bits.iter().all(|octet| *octet == 0)
    }

    /// Whether this one was wanted; it is no longer.
    fn take(&mut self, bank: Alg, pcr: u8) -> bool {
        let (octet, bit) = (self.bits.get_mut(usize::from(pcr / 8)), 1 << (pcr % 8));
        let octet = octet.filter(|octet| bank == self.bank && **octet & bit != 0);
        octet.map(|octet| *octet &= !bit).is_some()
    }
}

fn unexpected<E>(what: &'static str) -> Error<E> {
    let malformed = Malformed::new(Why::Unexpected, 0).named(what);
    Error::new(PcrRead::INFO.code, Fault::Malformed(malformed))
}
