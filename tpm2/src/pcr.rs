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

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use crate::client::Tpm;
use crate::commands::{Command, PcrRead};
use crate::crypto::HashAlg;
use crate::error::{Error, Fault};
use crate::transport::Transport;
use crate::types::{Alg, DigestBuf, PcrSelect, PcrSelection};
use crate::wire::{List, Malformed, TooLong, Why};

/// How often reading restarts when a PCR has changed meanwhile.
const ATTEMPTS: usize = 8;

/// As many hashes as a TPM has. Part 2 §10.6.2.
const MAX_BANKS: usize = 16;

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

impl PcrValue {
    /// No PCR: a place for one.
    pub const EMPTY: Self = Self { bank: Alg::NULL, pcr: 0, value: DigestBuf::EMPTY };
}

/// Reads the selected PCRs, bank by bank in the order of the selection. What is not allocated is left out. One answer
/// has at most eight; if a PCR changes before the last one is read, reading restarts, so that all values are from one moment.
///
/// The values are the TPM's word alone: a [quote](crate::attest::quote) proves them.
///
/// # Errors
/// As [`Tpm::run`]; [`Fault::Malformed`] if the TPM answers with PCRs that were not asked for, or if they change all the time.
#[doc(alias = "TPM2_PCR_Read")]
#[cfg(feature = "alloc")]
pub fn read<T: Transport>(
    tpm: &mut Tpm<T>,
    pcrs: &[PcrSelection<'_>],
) -> Result<Vec<PcrValue>, Error<T::Error>> {
    let selected = pcrs.iter().map(|bank| bank.pcrs().count()).sum();
    let mut values = alloc::vec![PcrValue::EMPTY; selected];
    let read = read_into(tpm, pcrs, &mut values)?.len();
    values.truncate(read);
    Ok(values)
}

/// Reads the selected PCRs into `values`, all from one moment, bank by bank in the order of the selection, and returns those that it
/// has filled. What is not allocated is left out.
///
/// # Errors
/// As [`Tpm::run`]; [`Fault::Malformed`] if the TPM answers with PCRs that were not asked for, or if they change all the time;
/// [`Fault::TooLarge`] if there are more PCRs than fit, or more than 16 banks.
pub fn read_into<'v, T: Transport>(
    tpm: &mut Tpm<T>,
    pcrs: &[PcrSelection<'_>],
    values: &'v mut [PcrValue],
) -> Result<&'v [PcrValue], Error<T::Error>> {
    for _ in 0..ATTEMPTS {
        if let Some(read) = read_once(tpm, pcrs, values)? {
            return Ok(values.get(..read).unwrap_or_default());
        }
    }
    Err(unexpected("pcr_update_counter"))
}

/// The digest of PCRs in this order, as a policy or a quote has it.
#[must_use]
pub fn digest_of(hash: HashAlg, values: &[PcrValue]) -> DigestBuf {
    hash.digest_all(values.iter().map(|pcr| pcr.value.octets()))
}

/// The digest of what the selected PCRs hold, all from one moment, as a policy or a quote has it: of the values in the order
/// of the selection.
///
/// # Errors
/// As [`read()`].
#[cfg(feature = "alloc")]
pub fn digest<T: Transport>(
    tpm: &mut Tpm<T>,
    hash: HashAlg,
    pcrs: &[PcrSelection<'_>],
) -> Result<DigestBuf, Error<T::Error>> {
    Ok(digest_of(hash, &read(tpm, pcrs)?))
}

/// How many were read; `None` if a PCR changed.
fn read_once<T: Transport>(
    tpm: &mut Tpm<T>,
    pcrs: &[PcrSelection<'_>],
    values: &mut [PcrValue],
) -> Result<Option<usize>, Error<T::Error>> {
    let mut wanted = [const { Wanted::NONE }; MAX_BANKS];
    let too_large = || Error::of::<PcrRead<'_>>(Fault::TooLarge);
    let wanted = wanted.get_mut(..pcrs.len()).ok_or_else(too_large)?;
    wanted.iter_mut().zip(pcrs).for_each(|(wanted, bank)| *wanted = Wanted::new(bank));
    let (mut read, mut began) = (0_usize, None);
    loop {
        let none = PcrSelection::new(Alg::NULL, &[]).map_err(Error::of::<PcrRead<'_>>)?;
        let mut left = [none; MAX_BANKS];
        for (left, wanted) in left.iter_mut().zip(&*wanted) {
            *left = wanted.selection().map_err(Error::of::<PcrRead<'_>>)?;
        }
        let pcr_selection_in = List::new(left.get(..pcrs.len()).unwrap_or_default());
        let answer = tpm.run(&PcrRead { pcr_selection_in }, [])?;
        if *began.get_or_insert(answer.pcr_update_counter) != answer.pcr_update_counter {
            return Ok(None);
        }
        let given = answer.pcr_selection_out;
        let given = given.iter().flat_map(|bank| bank.pcrs().map(move |pcr| (bank.hash, pcr)));
        let mut digests = answer.pcr_values.iter();
        let before = read;
        for (bank, pcr) in given {
            let asked = wanted.iter_mut().any(|wanted| wanted.take(bank, pcr));
            let value = digests.next().filter(|_| asked).map(DigestBuf::from);
            let value = value.ok_or_else(|| unexpected("pcr_selection_out"))?;
            *values.get_mut(read).ok_or_else(too_large)? = PcrValue { bank, pcr, value };
            read = read.saturating_add(1);
        }
        if digests.next().is_some() {
            return Err(unexpected("pcr_values"));
        }
        if read == before || wanted.iter().all(Wanted::is_empty) {
            let place = |value: &PcrValue| pcrs.iter().position(|bank| bank.hash == value.bank);
            let values = values.get_mut(..read).unwrap_or_default();
            values.sort_unstable_by_key(|value| (place(value), value.pcr));
            return Ok(Some(read));
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
    const NONE: Self = Self { bank: Alg::NULL, bits: [0; PcrSelect::MAX], len: 0 };

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
