//! The few TPM commands that a factory needs, written out byte by byte. They share nothing with the
//! crate `tpm2`, so that what is made here and counted here is a witness against it.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail, ensure};

pub(super) const OWNER: u32 = 0x4000_0001;
pub(super) const ENDORSEMENT: u32 = 0x4000_000B;
pub(super) const PLATFORM: u32 = 0x4000_000C;

const NO_SESSIONS: u16 = 0x8001;
const SESSIONS: u16 = 0x8002;
/// What a certificate index of a manufacturer carries: ppwrite, writedefine, ppread, ownerread,
/// authread, noDA, platformcreate.
const CERTIFICATE_INDEX: u32 = 0x4207_2001;
const CHUNK: usize = 512;

/// PolicyA with SHA-256 of the TCG EK credential profile: PolicySecret(endorsement).
const POLICY_A: [u8; 32] = [
    0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7, 0x24,
    0xFD, 0x52, 0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B, 0x33, 0x14, 0x69, 0xAA,
];

/// A connection to a TPM: its own bytes and nothing around them.
pub(super) struct Bare<S>(pub(super) S);

/// A key just created and loaded.
pub(super) struct P256Key {
    pub(super) handle: u32,
    pub(super) x: [u8; 32],
    pub(super) y: [u8; 32],
}

impl<S: Read + Write> Bare<S> {
    /// TPM2_CreatePrimary with template L-2 of the EK credential profile.
    pub(super) fn create_p256_ek(&mut self) -> Result<P256Key> {
        let mut template = Vec::new();
        for number in [0x0023_u16, 0x000B, 0x0003, 0x00B2, 0x0020] {
            template.extend(number.to_be_bytes());
        }
        template.extend(POLICY_A);
        for number in [0x0006_u16, 0x0080, 0x0043, 0x0010, 0x0003, 0x0010] {
            template.extend(number.to_be_bytes());
        }
        for _ in ["x", "y"] {
            template.extend(sized(&[0; 32])?);
        }
        let parameters =
            [sized(&[0; 4])?, sized(&template)?, sized(&[])?, 0_u32.to_be_bytes().to_vec()]
                .concat();
        let answer = self.authorized(0x131, &[ENDORSEMENT], &parameters)?;
        // handle, parameterSize, then outPublic, whose last two members are x and y
        let mut rest = Rest(&answer);
        let handle = rest.u32()?;
        rest.u32()?;
        let size = usize::from(rest.u16()?);
        let public = rest.take(size)?;
        ensure!(public.len() == template.len(), "the TPM made another kind of key");
        let mut point = Rest(public.get(public.len() - 2 * 34..).context("outPublic")?);
        let mut coordinate = || -> Result<[u8; 32]> {
            ensure!(point.u16()? == 32, "a coordinate of another length");
            Ok(point.take(32)?.try_into()?)
        };
        Ok(P256Key { handle, x: coordinate()?, y: coordinate()? })
    }

    /// TPM2_EvictControl: makes a loaded object persistent, or removes a persistent one (`object`
    /// and `persistent` the same).
    pub(super) fn evict_control(&mut self, object: u32, persistent: u32) -> Result<()> {
        self.authorized(0x120, &[OWNER, object], &persistent.to_be_bytes()).map(drop)
    }

    /// TPM2_FlushContext.
    pub(super) fn flush(&mut self, handle: u32) -> Result<()> {
        self.exchange(0x165, NO_SESSIONS, &handle.to_be_bytes()).map(drop)
    }

    /// TPM2_NV_UndefineSpace of an index of the platform.
    pub(super) fn undefine(&mut self, index: u32) -> Result<()> {
        self.authorized(0x122, &[PLATFORM, index], &[]).map(drop)
    }

    /// TPM2_NV_DefineSpace, NV_Write, NV_WriteLock: an index as manufacturers leave it.
    pub(super) fn provision(&mut self, index: u32, content: &[u8]) -> Result<()> {
        let length = u16::try_from(content.len())?;
        let mut public = index.to_be_bytes().to_vec();
        public.extend(0x000B_u16.to_be_bytes());
        public.extend(CERTIFICATE_INDEX.to_be_bytes());
        public.extend(sized(&[])?);
        public.extend(length.to_be_bytes());
        self.authorized(0x12A, &[PLATFORM], &[sized(&[])?, sized(&public)?].concat())?;
        for (number, chunk) in content.chunks(CHUNK).enumerate() {
            let offset = u16::try_from(number * CHUNK)?.to_be_bytes();
            let parameters = [sized(chunk)?, offset.to_vec()].concat();
            self.authorized(0x137, &[PLATFORM, index], &parameters)?;
        }
        self.authorized(0x138, &[PLATFORM, index], &[]).map(drop)
    }

    /// TPM2_GetCapability(TPM_CAP_HANDLES): the handles of one type, from `first` on.
    pub(super) fn handles(&mut self, first: u32) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        let mut next = first;
        loop {
            let parameters: Vec<u8> =
                [1, next, 64].into_iter().flat_map(u32::to_be_bytes).collect();
            let answer = self.exchange(0x17A, NO_SESSIONS, &parameters)?;
            let mut rest = Rest(&answer);
            let more = rest.take(1)? != [0];
            ensure!(rest.u32()? == 1, "not a list of handles");
            for _ in 0..rest.u32()? {
                found.push(rest.u32()?);
            }
            match found.last() {
                Some(last) if more => next = last + 1,
                _ => return Ok(found),
            }
        }
    }

    /// A command whose first handle is authorized with the empty password.
    fn authorized(&mut self, code: u32, handles: &[u32], parameters: &[u8]) -> Result<Vec<u8>> {
        const PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
        let mut body: Vec<u8> = handles.iter().flat_map(|handle| handle.to_be_bytes()).collect();
        body.extend(PASSWORD);
        body.extend(parameters);
        self.exchange(code, SESSIONS, &body)
    }

    fn exchange(&mut self, code: u32, tag: u16, body: &[u8]) -> Result<Vec<u8>> {
        let mut command = tag.to_be_bytes().to_vec();
        command.extend(u32::try_from(10 + body.len())?.to_be_bytes());
        command.extend(code.to_be_bytes());
        command.extend(body);
        self.0.write_all(&command)?;
        let mut header = [0; 10];
        self.0.read_exact(&mut header).context("the TPM does not respond")?;
        let mut rest = Rest(&header);
        rest.u16()?;
        let size = usize::try_from(rest.u32()?)?;
        let response_code = rest.u32()?;
        ensure!((10..=4096).contains(&size), "an answer of {size} bytes");
        let mut answer = vec![0; size - 10];
        self.0.read_exact(&mut answer)?;
        if response_code != 0 {
            bail!("the TPM refused command {code:#x}: {response_code:#x}");
        }
        Ok(answer)
    }
}

/// A `TPM2B`.
fn sized(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok([&u16::try_from(bytes.len())?.to_be_bytes(), bytes].concat())
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).context("the answer is too short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into()?))
    }
}
