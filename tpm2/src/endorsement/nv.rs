//! What a TPM has in NV memory for its endorsement keys.

use alloc::vec::Vec;

use super::{EkKind, Passwords, Proof};
use crate::client::Tpm;
use crate::commands::{Command, NvRead, NvReadPublic};
use crate::crypto::nv_name;
use crate::error::{Error, Fault};
use crate::transport::Transport;
use crate::types::{Handle, NvAuth, NvIndex, NvPublic, ResponseCode};
use crate::wire::{Malformed, Why};

/// The certificate of the key of this kind, DER without what may stand before and after it in NV memory; `None` if the
/// TPM has none. Two commands for a certificate of up to 1536 octets.
///
/// # Errors
/// As [`Tpm::run`]; [`Unwritten`](crate::Fault::Unwritten) if the index is erased memory,
/// [`NoCertificate`](crate::Fault::NoCertificate) if it holds something else.
pub fn certificate<T: Transport>(
    tpm: &mut Tpm<T>,
    kind: &EkKind,
    passwords: Passwords<'_>,
) -> Result<Option<Vec<u8>>, Error<T::Error>> {
    read_until(tpm, kind.certificate, passwords, stored_certificate_len)?
        .map(|octets| {
            let range = stored_certificate(&octets).filter(|range| range.end <= octets.len());
            let der = range.and_then(|range| octets.get(range)).map(<[u8]>::to_vec);
            der.ok_or_else(|| {
                let index = kind.certificate;
                let fault =
                    if is_erased(&octets) { Fault::Unwritten } else { Fault::NoCertificate };
                Error::new(NvRead::INFO.code, fault(index))
            })
        })
        .transpose()
}

/// The content of an NV index; `None` if it does not exist or was never written.
///
/// # Errors
/// As [`Tpm::run`].
pub fn read<T: Transport>(
    tpm: &mut Tpm<T>,
    index: Handle,
    passwords: Passwords<'_>,
) -> Result<Option<Vec<u8>>, Error<T::Error>> {
    read_until(tpm, index, passwords, |_| None)
}

/// Octets asked for at a time: every TPM known gives 768; 512 is what every one must give.
const CHUNKS: [u16; 2] = [768, 512];

/// The most that is read from an index.
const NV_MAX: usize = 8192;

/// Reads an index from its start to where `end` says, once enough is there to tell, or to its own end. Its size is asked
/// for only if the first chunk reaches beyond it; the owner only if the index does not let anyone read.
pub(super) fn read_until<T: Transport>(
    tpm: &mut Tpm<T>,
    index: Handle,
    passwords: Passwords<'_>,
    end: impl Fn(&[u8]) -> Option<usize>,
) -> Result<Option<Vec<u8>>, Error<T::Error>> {
    let mut reader = Reader::anyone(index);
    match read_by(&mut reader, tpm, index, &end) {
        Err(error) if error.refusal().is_some_and(is_reserved) => {
            reader = Reader::owner(tpm, index, passwords.owner)?;
            let result = read_by(&mut reader, tpm, index, &end);
            reader.proof.leave(tpm)?;
            result
        }
        result => result,
    }
}

/// The index is not for anyone to read.
const fn is_reserved(refusal: ResponseCode) -> bool {
    matches!(refusal, ResponseCode::NV_AUTHORIZATION | ResponseCode::AUTH_UNAVAILABLE)
}

fn read_by<T: Transport>(
    reader: &mut Reader<'_>,
    tpm: &mut Tpm<T>,
    index: Handle,
    end: &impl Fn(&[u8]) -> Option<usize>,
) -> Result<Option<Vec<u8>>, Error<T::Error>> {
    let [mut chunk, smaller] = CHUNKS;
    let mut size = None;
    let mut octets = Vec::new();
    loop {
        let ends = [end(&octets), size].into_iter().flatten().min();
        let missing = ends.unwrap_or(usize::MAX).min(NV_MAX).saturating_sub(octets.len());
        if missing == 0 {
            return Ok(Some(octets));
        }
        let len = chunk.min(u16::try_from(missing).unwrap_or(u16::MAX));
        let offset = u16::try_from(octets.len()).unwrap_or(u16::MAX);
        let error = match reader.read(tpm, len, offset, &mut octets) {
            Ok(()) => continue,
            Err(error) => error,
        };
        match error.refusal() {
            Some(ResponseCode::HANDLE | ResponseCode::NV_UNINITIALIZED) => return Ok(None),
            Some(ResponseCode::NV_RANGE) if size.is_none() => {
                size = Some(usize::from(public(tpm, index)?.data_size));
            }
            Some(ResponseCode::VALUE | ResponseCode::SIZE | ResponseCode::NV_RANGE)
                if chunk > smaller =>
            {
                chunk = smaller;
            }
            _ => return Err(error),
        }
    }
}

/// Who reads an index, and by what.
struct Reader<'p> {
    auth_handle: NvAuth,
    nv_index: NvIndex,
    proof: Proof<'p>,
}

impl<'p> Reader<'p> {
    /// Anyone, by the authorization value of the index, which is empty.
    const fn anyone(index: Handle) -> Self {
        let nv_index = NvIndex::unnamed(index);
        Self { auth_handle: NvAuth::Index(nv_index), nv_index, proof: Proof::EMPTY }
    }

    /// The owner. In a session the index has to have its Name.
    fn owner<T: Transport>(
        tpm: &mut Tpm<T>,
        index: Handle,
        password: &'p [u8],
    ) -> Result<Self, Error<T::Error>> {
        let name = nv_name(&public(tpm, index)?)
            .map_err(|_| Error::new(NvReadPublic::INFO.code, Fault::Unnamed))?;
        let nv_index = NvIndex::named(index, name);
        Ok(Self { auth_handle: NvAuth::Owner, nv_index, proof: Proof::prepare(tpm, password)? })
    }

    fn read<T: Transport>(
        &mut self,
        tpm: &mut Tpm<T>,
        size: u16,
        offset: u16,
        octets: &mut Vec<u8>,
    ) -> Result<(), Error<T::Error>> {
        let Self { auth_handle, nv_index, proof } = self;
        let (auth_handle, nv_index) = (*auth_handle, *nv_index);
        let command = NvRead { auth_handle, nv_index, size, offset };
        let answer = tpm.run(&command, [proof.auth()])?;
        let data = answer.data.octets();
        if data.len() != usize::from(size) {
            let malformed = Malformed::new(Why::Unexpected, 0).named("NvReadResponse.data");
            return Err(Error::new(NvRead::INFO.code, malformed.into()));
        }
        octets.extend_from_slice(data);
        Ok(())
    }
}

/// Octets of an index.
pub(super) fn data_size<T: Transport>(
    tpm: &mut Tpm<T>,
    index: Handle,
) -> Result<u16, Error<T::Error>> {
    public(tpm, index).map(|public| public.data_size)
}

fn public<T: Transport>(tpm: &mut Tpm<T>, index: Handle) -> Result<NvPublic<'_>, Error<T::Error>> {
    let answer = tpm.run(&NvReadPublic { nv_index: NvIndex::unnamed(index) }, [])?;
    let public = answer.nv_public.0;
    if public.index == index {
        Ok(public)
    } else {
        let malformed = Malformed::new(Why::Unexpected, 0).named("NvPublic.index");
        Err(Error::new(NvReadPublic::INFO.code, malformed.into()))
    }
}

/// Where the outer SEQUENCE of a certificate lies in what was stored: maybe behind the header of a stored certificate,
/// 10 01 00 and a length, mostly with the tag 10 02 of a full certificate (TCG PC Client specification for TPM 1.2, §7.4),
/// and followed by anything.
pub(super) fn stored_certificate(octets: &[u8]) -> Option<core::ops::Range<usize>> {
    let start = match octets {
        [0x10, 0x01, 0x00, _, _, 0x10, 0x02, ..] => 7,
        [0x10, 0x01, 0x00, ..] => 5,
        _ => 0,
    };
    let (header, content) = match octets.get(start..)? {
        [0x30, len @ 0..=0x7f, ..] => (2, usize::from(*len)),
        [0x30, 0x81, len, ..] => (3, usize::from(*len)),
        [0x30, 0x82, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        _ => return None,
    };
    let end = start.checked_add(header)?.checked_add(content)?;
    Some(start..end)
}

/// Memory to which nothing was written, or which was erased.
pub(super) fn is_erased(octets: &[u8]) -> bool {
    [0x00, 0xff].iter().any(|filler| octets.iter().all(|octet| octet == filler))
}

fn stored_certificate_len(octets: &[u8]) -> Option<usize> {
    stored_certificate(octets).map(|range| range.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_certificate_is_cut_to_its_own_length() {
        let der = [0x30, 0x03, 1, 2, 3];
        assert_eq!(stored_certificate(&der), Some(0..5));
        assert_eq!(stored_certificate(&[0x30, 3, 1, 2, 3, 0xff, 0xff]), Some(0..5));
        assert_eq!(stored_certificate(&[0x10, 1, 0, 0, 5, 0x30, 3, 1, 2, 3]), Some(5..10));
        assert_eq!(stored_certificate(&[0x10, 1, 0, 0, 7, 0x10, 2, 0x30, 3, 1, 2, 3]), Some(7..12));
        assert_eq!(stored_certificate(&[0x10, 1, 0, 0, 7, 0x10, 2]), None);
        assert_eq!(stored_certificate(&[0x30, 0x82, 0x03, 0xf4]), Some(0..1016));
        for refused in [&[0x30, 0x80, 0, 0][..], &[0x31, 3, 1, 2, 3], &[0xff; 16], &[0x30], &[]] {
            assert_eq!(stored_certificate(refused), None, "{refused:02x?}");
        }
    }
}
