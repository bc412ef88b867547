use std::fmt;

use tpm2::crypto::HashAlg;

use super::{Event, EventLog, EventType};

/// A log whose replay ends where a quote does.
#[derive(Clone, Debug)]
pub struct MeasuredLog<'a> {
    log: EventLog<'a>,
    hash: HashAlg,
    pcrs: u32,
}

impl<'a> MeasuredLog<'a> {
    pub(super) fn new(log: EventLog<'a>, hash: HashAlg, pcrs: u32) -> Self {
        Self { log, hash, pcrs }
    }

    /// The events of all PCRs that were quoted, in order. Events that were extended nowhere are not
    /// among them, whatever they say.
    pub fn events(&self) -> impl Iterator<Item = Measured<'a>> + use<'a> {
        let (hash, pcrs) = (self.hash, self.pcrs);
        self.log.events().filter(Event::is_extended).filter_map(move |claimed| {
            let quoted = pcrs.checked_shr(claimed.pcr).is_some_and(|pcrs| pcrs & 1 == 1);
            let digest = claimed.digests.of(hash.alg()).filter(|_| quoted)?;
            Some(Measured { claimed, hash, digest })
        })
    }

    /// The events of one PCR.
    pub fn of_pcr(
        &self,
        pcr: u8,
    ) -> Result<impl Iterator<Item = Measured<'a>> + use<'a>, NotShown> {
        match self.pcrs.checked_shr(pcr.into()) {
            Some(pcrs) if pcrs & 1 == 1 => {
                Ok(self.events().filter(move |event| event.pcr() == u32::from(pcr)))
            }
            _ => Err(NotShown::NotQuoted(pcr)),
        }
    }

    /// The version that the CRTM measured of itself: the first event of PCR 0, before anything else
    /// could run. UTF-16 of UEFI, or what the platform's maker chose. PFP §3.3.4.1.
    pub fn crtm_version(&self) -> Result<&'a [u8], NotShown> {
        let first = self.of_pcr(0)?.next().ok_or(NotShown::Absent("EV_S_CRTM_VERSION"))?;
        if first.claimed().kind != EventType::S_CRTM_VERSION {
            return Err(NotShown::Absent("EV_S_CRTM_VERSION"));
        }
        Ok(first.covered().ok_or(NotShown::NotCovered { event: first.claimed().number })?.octets())
    }

    /// Whether the firmware demanded signatures of what it started: the variable SecureBoot as it
    /// was measured into PCR 7 before the separator, behind which anyone can extend what he likes.
    /// Up to there, every event must be covered: what cannot be read might have been the variable.
    /// PFP §3.3.4.8.
    pub fn secure_boot(&self) -> Result<SecureBoot, NotShown> {
        let mut found = None;
        for event in self.of_pcr(7)? {
            let number = event.claimed().number;
            let covered = event.covered().ok_or(NotShown::NotCovered { event: number })?;
            match (covered.separator(), covered.variable()) {
                (Some(Separator::Ready), _) => return found.ok_or(NotShown::Absent("SecureBoot")),
                (Some(Separator::Error), _) => return Err(NotShown::Failed { event: number }),
                (None, Some(variable)) if variable.is(&UefiVariable::GLOBAL, "SecureBoot") => {
                    let state = match variable.data {
                        [0] => SecureBoot::Off,
                        [1] => SecureBoot::On,
                        [] => SecureBoot::NotConfigured,
                        _ => return Err(NotShown::Contradiction { event: number }),
                    };
                    if found.replace(state).is_some() {
                        return Err(NotShown::Contradiction { event: number });
                    }
                }
                _ => {}
            }
        }
        Err(NotShown::Absent("separator of PCR 7"))
    }
}

/// An event that a quote proves: this digest was extended into this PCR, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured<'a> {
    claimed: Event<'a>,
    hash: HashAlg,
    digest: &'a [u8],
}

impl<'a> Measured<'a> {
    /// The PCR.
    #[must_use]
    pub fn pcr(&self) -> u32 {
        self.claimed.pcr
    }

    /// The digest, for comparison with reference values. It is all that is known of what the log
    /// does not contain: images that were started (`EV_EFI_BOOT_SERVICES_APPLICATION`), blobs of
    /// firmware, kernels (`EV_IPL`).
    #[must_use]
    pub fn digest(&self) -> &'a [u8] {
        self.digest
    }

    /// The part of the event's data that the digest covers: all of it; all but a final zero; or
    /// what stands behind a label such as `grub_cmd: `. `None` if it covers something else. Found
    /// by computing the digest, not by the event's type, which is only said.
    #[must_use]
    pub fn covered(&self) -> Option<Covered<'a>> {
        let data = self.claimed.data;
        let text = data.strip_suffix(&[0]).unwrap_or(data);
        let label = text.iter().take(MAX_LABEL).position(|byte| *byte == b':');
        let labelled = label.and_then(|colon| text.get(colon..)?.strip_prefix(b": "));
        [Some(data), Some(text), labelled]
            .into_iter()
            .flatten()
            .find(|part| self.hash.digest(&[part]).octets() == self.digest)
            .map(Covered)
    }

    /// All that the log says of the event. Its type and what is not [covered](Self::covered) must
    /// not decide anything.
    #[must_use]
    pub fn claimed(&self) -> &Event<'a> {
        &self.claimed
    }
}

/// Longer than any label of GRUB.
const MAX_LABEL: usize = 32;

/// Data whose digest a PCR proves. Its meaning is read from the data alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Covered<'a>(&'a [u8]);

impl<'a> Covered<'a> {
    /// The data.
    #[must_use]
    pub fn octets(self) -> &'a [u8] {
        self.0
    }

    /// It as `EV_SEPARATOR`. PFP §10.4.2, EV_SEPARATOR.
    #[must_use]
    pub fn separator(self) -> Option<Separator> {
        match self.0 {
            [0, 0, 0, 0] | [0xff, 0xff, 0xff, 0xff] => Some(Separator::Ready),
            [1, 0, 0, 0] => Some(Separator::Error),
            _ => None,
        }
    }

    /// It as a variable of UEFI.
    #[must_use]
    pub fn variable(self) -> Option<UefiVariable<'a>> {
        UefiVariable::read(self.0)
    }
}

impl fmt::Debug for Covered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Covered({})", base16ct::lower::encode_string(self.0))
    }
}

/// What ends the firmware's own measurements into a PCR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// The firmware hands over.
    Ready,
    /// The firmware failed.
    Error,
}

/// `UEFI_VARIABLE_DATA`. PFP §10.2.6.
#[doc(alias = "UEFI_VARIABLE_DATA")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UefiVariable<'a> {
    /// Whose variable it is, as it stands in memory: the first three fields little-endian.
    pub vendor: &'a [u8; 16],
    /// UTF-16, little-endian, without terminating zero.
    name: &'a [u8],
    /// Its content.
    pub data: &'a [u8],
}

impl<'a> UefiVariable<'a> {
    /// `EFI_GLOBAL_VARIABLE`, 8be4df61-93ca-11d2-aa0d-00e098032b8c.
    pub const GLOBAL: [u8; 16] = [
        0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b,
        0x8c,
    ];

    /// The lengths must fill the data to the last byte.
    fn read(data: &'a [u8]) -> Option<Self> {
        let (vendor, rest) = data.split_first_chunk::<16>()?;
        let (name_length, rest) = rest.split_first_chunk::<8>()?;
        let (data_length, rest) = rest.split_first_chunk::<8>()?;
        let name_length = usize::try_from(u64::from_le_bytes(*name_length)).ok()?.checked_mul(2)?;
        let (name, data) = rest.split_at_checked(name_length)?;
        let length = usize::try_from(u64::from_le_bytes(*data_length)).ok()?;
        (data.len() == length).then_some(Self { vendor, name, data })
    }

    /// Its name; what is not Unicode is replaced.
    #[must_use]
    pub fn name(&self) -> String {
        char::decode_utf16(self.units()).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
    }

    /// Whether it is this variable.
    #[must_use]
    pub fn is(&self, vendor: &[u8; 16], name: &str) -> bool {
        self.vendor == vendor && self.units().eq(name.encode_utf16())
    }

    fn units(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.name.as_chunks().0.iter().map(|unit| u16::from_le_bytes(*unit))
    }
}

impl fmt::Debug for UefiVariable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UefiVariable({:?}, {})", self.name(), base16ct::lower::encode_string(self.data))
    }
}

/// Whether firmware demands signatures of what it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecureBoot {
    /// It does.
    On,
    /// It does not.
    Off,
    /// The variable is empty, as firmware measures one that does not exist: this machine has no
    /// Secure Boot that could be on.
    NotConfigured,
}

impl fmt::Display for SecureBoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
            Self::NotConfigured => "not configured",
        })
    }
}

/// Why a log does not show what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotShown {
    /// The PCR was not quoted.
    NotQuoted(u8),
    /// The event is not there.
    Absent(&'static str),
    /// The digest of an event, counted from 0, covers something that the log does not contain.
    NotCovered {
        /// The event.
        event: usize,
    },
    /// An event, counted from 0, says that the firmware failed.
    Failed {
        /// The event.
        event: usize,
    },
    /// An event, counted from 0, contradicts another, or has no meaning.
    Contradiction {
        /// The event.
        event: usize,
    },
}

impl fmt::Display for NotShown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotQuoted(pcr) => write!(f, "PCR {pcr} is not quoted"),
            Self::Absent(what) => write!(f, "the log has no {what}"),
            Self::NotCovered { event } => {
                write!(f, "no digest covers the data of event {event}")
            }
            Self::Failed { event } => write!(f, "event {event} reports a firmware failure"),
            Self::Contradiction { event } => {
                write!(f, "event {event} contradicts another or has no meaning")
            }
        }
    }
}

impl std::error::Error for NotShown {}
