//! Logs of boots: made by hand, and real ones with what their TPMs held.

use std::fs;
use std::path::Path;

use tpm2::crypto::HashAlg;

use crate::event_log::*;
use crate::{PcrValues, QuotedPcrs};

pub(crate) const SHA256: &[HashAlg] = &[HashAlg::Sha256];
pub(crate) const BOTH: &[HashAlg] = &[HashAlg::Sha1, HashAlg::Sha256];

/// A log in the making.
#[derive(Clone)]
pub(crate) struct Recipe {
    banks: &'static [HashAlg],
    pub(crate) bytes: Vec<u8>,
}

impl Recipe {
    pub(crate) fn agile(banks: &'static [HashAlg]) -> Self {
        let sizes = banks.iter().map(|bank| (bank.alg().0, bank.digest_len() as u16));
        Self { banks, bytes: header(&spec_id(&sizes.collect::<Vec<_>>())) }
    }

    pub(crate) fn sha1() -> Self {
        Self { banks: &[HashAlg::Sha1], bytes: Vec::new() }
    }

    /// An event whose digests cover `measured` and whose data are something else.
    pub(crate) fn of(mut self, pcr: u32, kind: EventType, measured: &[u8], data: &[u8]) -> Self {
        let digests: Vec<_> =
            self.banks.iter().map(|bank| (bank.alg(), bank.digest(&[measured]))).collect();
        self.bytes.extend(pcr.to_le_bytes());
        self.bytes.extend(kind.0.to_le_bytes());
        if self.bytes.starts_with(&SPEC_ID_START) {
            self.bytes.extend((digests.len() as u32).to_le_bytes());
            for (alg, digest) in digests {
                self.bytes.extend(alg.0.to_le_bytes());
                self.bytes.extend(digest.octets());
            }
        } else {
            self.bytes.extend(digests[0].1.octets());
        }
        self.bytes.extend((data.len() as u32).to_le_bytes());
        self.bytes.extend(data);
        self
    }

    /// An event whose digests cover its data.
    pub(crate) fn event(self, pcr: u32, kind: EventType, data: &[u8]) -> Self {
        self.of(pcr, kind, data, data)
    }

    pub(crate) fn no_action(self, pcr: u32, data: &[u8]) -> Self {
        self.event(pcr, EventType::NO_ACTION, data)
    }

    pub(crate) fn parse(&self) -> EventLog<'_> {
        EventLog::parse(&self.bytes).unwrap()
    }
}

/// PCR 0, EV_NO_ACTION.
const SPEC_ID_START: [u8; 8] = [0, 0, 0, 0, 3, 0, 0, 0];

pub(crate) fn header(spec_id: &[u8]) -> Vec<u8> {
    let length = (spec_id.len() as u32).to_le_bytes();
    [&SPEC_ID_START[..], &[0; 20], &length, spec_id].concat()
}

pub(crate) fn spec_id(banks: &[(u16, u16)]) -> Vec<u8> {
    let mut bytes = b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02".to_vec();
    bytes.extend((banks.len() as u32).to_le_bytes());
    for (alg, size) in banks {
        bytes.extend(alg.to_le_bytes());
        bytes.extend(size.to_le_bytes());
    }
    bytes.push(0);
    bytes
}

pub(crate) fn variable(name: &str, data: &[u8]) -> Vec<u8> {
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let lengths = [name.len() as u64 / 2, data.len() as u64].map(u64::to_le_bytes);
    [&UefiVariable::GLOBAL[..], &lengths[0], &lengths[1], &name, data].concat()
}

/// UEFI_IMAGE_LOAD_EVENT: location, length, link address, and a device path that ends at once.
const IMAGE_LOAD: [u8; 36] = {
    let mut bytes = [0; 36];
    bytes[24] = 4;
    [bytes[32], bytes[33], bytes[34]] = [0x7f, 0xff, 4];
    bytes
};

/// What a machine with UEFI might measure.
pub(crate) fn machine() -> Recipe {
    machine_from(Recipe::agile(BOTH).no_action(0, b"StartupLocality\0\x03"))
}

pub(crate) fn machine_from(start: Recipe) -> Recipe {
    start
        .event(0, EventType::S_CRTM_VERSION, b"1\0.\x37\0\0\0")
        .of(0, EventType::EFI_PLATFORM_FIRMWARE_BLOB, b"a megabyte of firmware", &[0; 16])
        .event(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &variable("SecureBoot", &[1]))
        .event(7, EventType::EFI_VARIABLE_DRIVER_CONFIG, &variable("PK", b"a list"))
        .event(0, EventType::SEPARATOR, &[0; 4])
        .event(7, EventType::SEPARATOR, &[0; 4])
        .of(4, EventType::EFI_BOOT_SERVICES_APPLICATION, b"an image", &IMAGE_LOAD)
        .of(8, EventType::IPL, b"linux /vmlinuz", b"grub_cmd: linux /vmlinuz\0")
        .of(9, EventType::IPL, b"a kernel", b"/vmlinuz\0")
        .event(14, EventType(0x8000_1234), b"of an unknown type")
}

/// A quote of everything that the log says.
pub(crate) fn quoted(log: &EventLog<'_>, hash: HashAlg) -> QuotedPcrs {
    QuotedPcrs(PcrValues::new().with_bank(&log.replay(hash).unwrap()))
}

/// A log of a real boot and the values that the TPM of the machine held then.
pub(crate) fn real(name: &str) -> (Vec<u8>, PcrValues) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    let text = fs::read_to_string(path.with_extension("pcrs")).unwrap();
    let values = text.lines().fold(PcrValues::new(), |values, line| {
        let [bank, pcr, value] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let hash = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384]
            .into_iter()
            .find(|hash| format!("{:?}", hash.alg()).to_lowercase() == bank);
        let value = base16ct::lower::decode_vec(value).unwrap();
        values.with(hash.unwrap(), pcr.parse().unwrap(), &value).unwrap()
    });
    (fs::read(path.with_extension("log")).unwrap(), values)
}
