use std::fmt;

use tpm2::types::Alg;

use super::reader::Reader;
use super::{Banks, EventLogError, EventLogFault, Format};
use crate::pcr::PCRS;

/// One event as the log reports it. Nothing in it is proven: see
/// [`Measured`](super::Measured).
#[doc(alias("TCG_PCR_EVENT", "TCG_PCR_EVENT2"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its place in the log, counted from 0.
    pub number: usize,
    /// Where it begins, in bytes from the start of the log.
    pub offset: usize,
    /// The PCR that it is said to have been extended into.
    pub pcr: u32,
    /// What it is said to be.
    pub kind: EventType,
    /// What is said to have been extended.
    pub digests: Digests<'a>,
    /// What is said to have been digested, or a description of it.
    pub data: &'a [u8],
}

impl<'a> Event<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, format: Format) -> Result<Self, EventLogError> {
        let (number, offset) = (reader.event, reader.offset());
        let pcr = reader.u32("pcrIndex")?;
        let kind = EventType(reader.u32("eventType")?);
        if pcr >= PCRS.into() && kind != EventType::NO_ACTION {
            return Err(reader.error(EventLogFault::Pcr(pcr)));
        }
        let digests = match format {
            Format::Sha1 => Digests::Sha1(reader.take(20, "digest")?),
            Format::CryptoAgile(banks) => Digests::read(reader, banks)?,
        };
        let size = reader.u32("eventSize")?;
        let data = reader.take(usize::try_from(size).unwrap_or(usize::MAX), "event")?;
        Ok(Self { number, offset, pcr, kind, digests, data })
    }

    /// Whether it went into a PCR: all do but `EV_NO_ACTION`.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.kind != EventType::NO_ACTION
    }

    pub(super) fn is_spec_id(&self) -> bool {
        self.kind == EventType::NO_ACTION && self.data.starts_with(b"Spec ID Event03\0")
    }

    pub(super) fn startup_locality(&self) -> Option<u8> {
        match (self.kind, self.pcr, self.data.strip_prefix(b"StartupLocality\0")?) {
            (EventType::NO_ACTION, 0, [locality]) => Some(*locality),
            _ => None,
        }
    }
}

/// The digests of one event, each of another bank.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Digests<'a> {
    /// One of SHA-1.
    Sha1(&'a [u8]),
    /// `TPML_DIGEST_VALUES`, little-endian, without its count.
    CryptoAgile(Banks, &'a [u8]),
}

impl<'a> Digests<'a> {
    fn read(reader: &mut Reader<'a>, banks: Banks) -> Result<Self, EventLogError> {
        let count = reader.u32("digests.count")?;
        let start = reader.clone();
        let mut seen = [Alg::NULL; Banks::MAX];
        for index in 0..count {
            let alg = Alg(reader.u16("digests.hashAlg")?);
            let Some(size) = banks.size(alg) else {
                return Err(reader.error(EventLogFault::UnknownBank(alg)));
            };
            let twice = seen.contains(&alg);
            match usize::try_from(index).ok().and_then(|index| seen.get_mut(index)) {
                Some(slot) if !twice => *slot = alg,
                _ => return Err(reader.error(EventLogFault::BankTwice(alg))),
            }
            reader.take(size, "digests.digest")?;
        }
        let length = reader.offset().saturating_sub(start.offset());
        Ok(Self::CryptoAgile(banks, start.peek().get(..length).unwrap_or_default()))
    }

    /// Each with its algorithm.
    pub fn iter(&self) -> impl Iterator<Item = (Alg, &'a [u8])> + use<'a> {
        let (banks, mut agile, mut sha1) = match *self {
            Self::Sha1(digest) => (Banks::SHA1, Reader::new(&[]), Some((Alg::SHA1, digest))),
            Self::CryptoAgile(banks, digests) => (banks, Reader::new(digests), None),
        };
        std::iter::from_fn(move || {
            sha1.take().or_else(|| {
                let alg = Alg(agile.u16("digests.hashAlg").ok()?);
                Some((alg, agile.take(banks.size(alg)?, "digests.digest").ok()?))
            })
        })
    }

    /// The one of this algorithm.
    #[must_use]
    pub fn of(&self, alg: Alg) -> Option<&'a [u8]> {
        self.iter().find(|digest| digest.0 == alg).map(|(_, digest)| digest)
    }
}

impl fmt::Debug for Digests<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.iter().map(|(alg, digest)| (alg, base16ct::lower::encode_string(digest)));
        f.debug_map().entries(shown).finish()
    }
}

/// What an event is said to be. No digest covers it. PFP §10.4.1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventType(
    /// The number in the log.
    pub u32,
);

macro_rules! event_types {
    ($($spec:literal $name:ident = $value:literal),* $(,)?) => {
        impl EventType {
            $(
                #[doc = concat!("`", $spec, "`, ", stringify!($value), ".")]
                #[doc(alias = $spec)]
                pub const $name: Self = Self($value);
            )*

            fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($spec),)*
                    _ => None,
                }
            }
        }
    };
}

event_types! {
    "EV_PREBOOT_CERT" PREBOOT_CERT = 0x0,
    "EV_POST_CODE" POST_CODE = 0x1,
    "EV_UNUSED" UNUSED = 0x2,
    "EV_NO_ACTION" NO_ACTION = 0x3,
    "EV_SEPARATOR" SEPARATOR = 0x4,
    "EV_ACTION" ACTION = 0x5,
    "EV_EVENT_TAG" EVENT_TAG = 0x6,
    "EV_S_CRTM_CONTENTS" S_CRTM_CONTENTS = 0x7,
    "EV_S_CRTM_VERSION" S_CRTM_VERSION = 0x8,
    "EV_CPU_MICROCODE" CPU_MICROCODE = 0x9,
    "EV_PLATFORM_CONFIG_FLAGS" PLATFORM_CONFIG_FLAGS = 0xa,
    "EV_TABLE_OF_DEVICES" TABLE_OF_DEVICES = 0xb,
    "EV_COMPACT_HASH" COMPACT_HASH = 0xc,
    "EV_IPL" IPL = 0xd,
    "EV_IPL_PARTITION_DATA" IPL_PARTITION_DATA = 0xe,
    "EV_NONHOST_CODE" NONHOST_CODE = 0xf,
    "EV_NONHOST_CONFIG" NONHOST_CONFIG = 0x10,
    "EV_NONHOST_INFO" NONHOST_INFO = 0x11,
    "EV_OMIT_BOOT_DEVICE_EVENTS" OMIT_BOOT_DEVICE_EVENTS = 0x12,
    "EV_POST_CODE2" POST_CODE2 = 0x13,
    "EV_EFI_VARIABLE_DRIVER_CONFIG" EFI_VARIABLE_DRIVER_CONFIG = 0x8000_0001,
    "EV_EFI_VARIABLE_BOOT" EFI_VARIABLE_BOOT = 0x8000_0002,
    "EV_EFI_BOOT_SERVICES_APPLICATION" EFI_BOOT_SERVICES_APPLICATION = 0x8000_0003,
    "EV_EFI_BOOT_SERVICES_DRIVER" EFI_BOOT_SERVICES_DRIVER = 0x8000_0004,
    "EV_EFI_RUNTIME_SERVICES_DRIVER" EFI_RUNTIME_SERVICES_DRIVER = 0x8000_0005,
    "EV_EFI_GPT_EVENT" EFI_GPT_EVENT = 0x8000_0006,
    "EV_EFI_ACTION" EFI_ACTION = 0x8000_0007,
    "EV_EFI_PLATFORM_FIRMWARE_BLOB" EFI_PLATFORM_FIRMWARE_BLOB = 0x8000_0008,
    "EV_EFI_HANDOFF_TABLES" EFI_HANDOFF_TABLES = 0x8000_0009,
    "EV_EFI_PLATFORM_FIRMWARE_BLOB2" EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000_000a,
    "EV_EFI_HANDOFF_TABLES2" EFI_HANDOFF_TABLES2 = 0x8000_000b,
    "EV_EFI_VARIABLE_BOOT2" EFI_VARIABLE_BOOT2 = 0x8000_000c,
    "EV_EFI_GPT_EVENT2" EFI_GPT_EVENT2 = 0x8000_000d,
    "EV_EFI_HCRTM_EVENT" EFI_HCRTM_EVENT = 0x8000_0010,
    "EV_EFI_VARIABLE_AUTHORITY" EFI_VARIABLE_AUTHORITY = 0x8000_00e0,
    "EV_EFI_SPDM_FIRMWARE_BLOB" EFI_SPDM_FIRMWARE_BLOB = 0x8000_00e1,
    "EV_EFI_SPDM_FIRMWARE_CONFIG" EFI_SPDM_FIRMWARE_CONFIG = 0x8000_00e2,
    "EV_EFI_SPDM_DEVICE_POLICY" EFI_SPDM_DEVICE_POLICY = 0x8000_00e3,
    "EV_EFI_SPDM_DEVICE_AUTHORITY" EFI_SPDM_DEVICE_AUTHORITY = 0x8000_00e4,
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "event type {:#x}", self.0),
        }
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
