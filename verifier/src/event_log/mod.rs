//! Event logs of measured boot: TCG PC Client Platform Firmware Profile (PFP) 1.06 §10.
//!
//! A log is the host's claim of what was extended into the PCRs. Three types show how far it is proven:
//!
//! - [`EventLog`] is a log that can be read. All in it is a claim.
//! - [`PcrBank`] is what the PCRs would hold if it were true.
//! - [`MeasuredLog`] is a log whose replay ends where a quote does. The order of its events, their
//!   PCRs and their digests are true; the data of an event only if the digest is [`Covered`] by it;
//!   its type never, since no digest covers it.
//!
//! What a log claims; the [crate's example](crate) has it proven by a quote:
//!
//! ```no_run
//! use verifier::event_log::EventLog;
//!
//! let log = std::fs::read("/sys/kernel/security/tpm0/binary_bios_measurements")?;
//! let log = EventLog::parse(&log)?;
//! for event in log.events() {
//!     println!("{event:?}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod event;
mod measured;
mod reader;
mod replay;

use std::fmt;

use tpm2::types::Alg;

pub use event::{Digests, Event, EventType};
pub use measured::{Covered, Measured, MeasuredLog, NotShown, SecureBoot, Separator, UefiVariable};
use reader::Reader;
pub use replay::{PcrBank, ReplayError};

/// The longest log that is read, in bytes.
pub const MAX_LOG: usize = 1024 * 1024;

/// The most events that are read.
pub const MAX_EVENTS: usize = 8192;

/// A log whose every event was read; it borrows its bytes and allocates nothing.
#[derive(Clone, Debug)]
pub struct EventLog<'a> {
    bytes: &'a [u8],
    format: Format,
    events: usize,
    startup_locality: u8,
}

/// How the events of a log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `TCG_PCR_EVENT`: one digest for each event, of SHA-1.
    Sha1,
    /// `TCG_PCR_EVENT2`: a digest for each of these banks.
    CryptoAgile(Banks),
}

/// The hash algorithms of a log and the sizes of their digests.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Banks {
    banks: [(Alg, u16); Self::MAX],
    len: usize,
}

impl<'a> EventLog<'a> {
    /// Reads a log to its end: the last byte, or the bytes of zero, or of ones, that fill the rest
    /// of a firmware's table. An event that is cut off is refused.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EventLogError> {
        let mut reader = Reader::new(bytes);
        if bytes.len() > MAX_LOG {
            return Err(reader.error(EventLogFault::TooLarge));
        }
        let mut log = Self { bytes, format: Format::Sha1, events: 0, startup_locality: 0 };
        let mut pcr_0_extended = false;
        while !reader.is_at_end() {
            reader.event = log.events;
            if log.events == MAX_EVENTS {
                return Err(reader.error(EventLogFault::TooManyEvents));
            }
            let event = log.read(&mut reader)?;
            if let Some(locality) = event.startup_locality() {
                if pcr_0_extended || log.startup_locality != 0 || !matches!(locality, 0 | 3 | 4) {
                    return Err(reader.error(EventLogFault::StartupLocality));
                }
                log.startup_locality = locality;
            }
            pcr_0_extended |= event.pcr == 0 && event.is_extended();
            if log.events == 0 && event.is_spec_id() {
                log.format = Format::CryptoAgile(Banks::read(&mut reader, event.data)?);
            }
            log.events = log.events.saturating_add(1);
        }
        Ok(log)
    }

    /// How its events are written.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// How many events it has, those included that are extended nowhere.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// The locality from which the TPM was started: 0, 3, or 4 after a hardware CRTM. A claim, to
    /// which PCR 0 holds it. PFP §10.4.5.3.
    #[must_use]
    pub fn startup_locality(&self) -> u8 {
        self.startup_locality
    }

    /// All events, in order; including unknown types. The first one of a crypto-agile log says
    /// which banks it has.
    pub fn events(&self) -> impl Iterator<Item = Event<'a>> + use<'a> {
        let (format, mut reader) = (self.format, Reader::new(self.bytes));
        (0..self.events).map_while(move |number| {
            reader.event = number;
            let format = if number == 0 { Format::Sha1 } else { format };
            Event::read(&mut reader, format).ok()
        })
    }

    /// The next event; the first one is always of the old form.
    fn read(&self, reader: &mut Reader<'a>) -> Result<Event<'a>, EventLogError> {
        Event::read(reader, if self.events == 0 { Format::Sha1 } else { self.format })
    }
}

impl Banks {
    /// As many as there are hash algorithms in the TCG's registry.
    pub const MAX: usize = 16;

    const NONE: Self = Self { banks: [(Alg::NULL, 0); Self::MAX], len: 0 };

    /// SHA-1 alone: what a log of the old form has.
    const SHA1: Self = {
        let mut banks = Self::NONE;
        banks.banks[0] = (Alg::SHA1, 20);
        banks.len = 1;
        banks
    };

    /// `TCG_EfiSpecIDEvent`, whose signature was seen. PFP §10.4.5.1.
    fn read(at: &mut Reader<'_>, event: &[u8]) -> Result<Self, EventLogError> {
        const BEFORE: usize = 24; // signature, platform class, version, size of UINTN
        let mut reader = Reader::new(event);
        reader.event = at.event;
        reader.take(BEFORE, "Spec ID")?;
        let count = reader.u32("numberOfAlgorithms")?;
        let mut banks = Self::NONE;
        for _ in 0..count {
            let alg = Alg(reader.u16("algorithmId")?);
            let size = reader.u16("digestSize")?;
            let expected = digest_size(alg);
            if expected.is_some_and(|expected| expected != size) || !(1..=64).contains(&size) {
                return Err(at.error(EventLogFault::DigestSize(alg, size)));
            }
            if banks.size(alg).is_some() {
                return Err(at.error(EventLogFault::BankTwice(alg)));
            }
            let Some(slot) = banks.banks.get_mut(banks.len) else {
                return Err(at.error(EventLogFault::Banks(count)));
            };
            *slot = (alg, size);
            banks.len = banks.len.saturating_add(1);
        }
        if banks.len == 0 {
            return Err(at.error(EventLogFault::Banks(count)));
        }
        let vendor = reader.u8("vendorInfoSize")?;
        reader.take(usize::from(vendor), "vendorInfo")?;
        Ok(banks)
    }

    /// The algorithms, in the log's order.
    pub fn algorithms(&self) -> impl Iterator<Item = Alg> + '_ {
        self.entries().map(|(alg, _)| alg)
    }

    fn size(&self, alg: Alg) -> Option<usize> {
        self.entries().find(|bank| bank.0 == alg).map(|(_, size)| usize::from(size))
    }

    fn entries(&self) -> impl Iterator<Item = (Alg, u16)> + '_ {
        self.banks.iter().take(self.len).copied()
    }
}

impl fmt::Debug for Banks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.algorithms()).finish()
    }
}

/// The size that an algorithm fixes, where it is one of the TCG's registry.
fn digest_size(alg: Alg) -> Option<u16> {
    match alg {
        Alg::SHA1 => Some(20),
        Alg::SHA256 | Alg::SM3_256 | Alg::SHA3_256 => Some(32),
        Alg::SHA384 | Alg::SHA3_384 => Some(48),
        Alg::SHA512 | Alg::SHA3_512 => Some(64),
        _ => None,
    }
}

/// Why a log cannot be read: the event, its place, what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventLogError {
    /// The event, counted from 0.
    pub event: usize,
    /// Where, in bytes from the start of the log; within the first event if its Spec ID is wrong.
    pub offset: usize,
    /// What is wrong.
    pub fault: EventLogFault,
}

/// What can be wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventLogFault {
    /// Longer than [`MAX_LOG`].
    TooLarge,
    /// More than [`MAX_EVENTS`].
    TooManyEvents,
    /// The log ends within this field.
    Truncated(&'static str),
    /// No bank, or more than [`Banks::MAX`].
    Banks(u32),
    /// An algorithm with a digest of a size that it does not have.
    DigestSize(Alg, u16),
    /// An algorithm that is named twice, in the Spec ID or in one event.
    BankTwice(Alg),
    /// A digest of an algorithm that the Spec ID does not name.
    UnknownBank(Alg),
    /// A PCR that no PC has.
    Pcr(u32),
    /// A startup locality that does not exist, stands behind an event of PCR 0, or comes twice.
    StartupLocality,
}

impl fmt::Display for EventLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {} at offset {}: {}", self.event, self.offset, self.fault)
    }
}

impl fmt::Display for EventLogFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "the log is longer than {MAX_LOG} bytes"),
            Self::TooManyEvents => write!(f, "the log has more than {MAX_EVENTS} events"),
            Self::Truncated(what) => write!(f, "{what} is cut short"),
            Self::Banks(count) => {
                write!(f, "{count} hash algorithms instead of 1 to {}", Banks::MAX)
            }
            Self::DigestSize(alg, size) => write!(f, "a digest of {alg:?} with {size} bytes"),
            Self::BankTwice(alg) => write!(f, "{alg:?} is there twice"),
            Self::UnknownBank(alg) => {
                write!(f, "a digest of {alg:?}, which the log does not declare")
            }
            Self::Pcr(pcr) => write!(f, "PCR {pcr} does not exist"),
            Self::StartupLocality => f.write_str("an invalid startup locality"),
        }
    }
}

impl std::error::Error for EventLogError {}
