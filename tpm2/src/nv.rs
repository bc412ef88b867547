//! NV indices: defined, written, read, locked; counters and indices that are extended. Part 3 §31.
//!
//! A counter, which goes up and never down, not even if the index is removed and defined again:
//!
//! ```no_run
//! use tpm2::Tpm;
//! use tpm2::nv::{Access, By, Index};
//! use tpm2::session::Auth;
//! use tpm2::types::{Alg, AuthValue, Digest, Handle, NvAttributes, NvPublic, NvType, Provision};
//!
//! let mut tpm = Tpm::open("device:/dev/tpmrm0")?;
//! let attributes = NvAttributes::AUTHREAD | NvAttributes::AUTHWRITE | NvAttributes::NO_DA;
//! let counter = NvPublic {
//!     index: Handle(0x0150_0010),
//!     name_alg: Alg::SHA256,
//!     attributes: attributes.with_type(NvType::COUNTER),
//!     auth_policy: Digest::EMPTY,
//!     data_size: 8,
//! };
//! let pin = AuthValue::from(b"PIN");
//! let mut index = Index::define(&mut tpm, Provision::Owner, Auth::EMPTY, &counter, pin)?;
//!
//! let mut access = Access::by_password(By::Index, b"PIN");
//! index.increment(&mut tpm, &mut access)?;
//! let count = index.counter(&mut tpm, &mut access)?;
//! # let _ = count;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::fmt;

use crate::client::Tpm;
use crate::commands::{
    Authorized, Command, NvDefineSpace, NvExtend, NvIncrement, NvRead, NvReadLock, NvReadPublic,
    NvSetBits, NvUndefineSpace, NvWrite, NvWriteLock,
};
use crate::crypto::nv_name;
use crate::error::{Error, Fault};
use crate::session::{Auth, Session};
use crate::transport::Transport;
use crate::types::{
    AuthValue, DigestBuf, Entity, Handle, HandleKind, MaxNvBuffer, NameBuf, NvAttributes, NvAuth,
    NvIndex, NvPublic, Provision, ResponseCode,
};
use crate::wire::{Malformed, TooLong, Tpm2b, Why};

/// Octets written or read at a time: what every TPM must take. PTP §4.5.
const CHUNK: usize = 512;

/// An NV index, under the Name that was computed here from its public area. The Name changes when the index is first
/// written and when it is locked, and so does this if its own methods do that. After a change by another way, and after a
/// restart of the TPM, which ends some locks, [`Self::refresh`] finds out the Name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    handle: Handle,
    name_alg: crate::types::Alg,
    attributes: NvAttributes,
    auth_policy: DigestBuf,
    data_size: u16,
}

/// Who accesses an index, and what shows it.
#[derive(Debug)]
pub struct Access<'a> {
    by: By,
    proof: Proof<'a>,
}

/// Who accesses an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The authorization value of the index, or its policy.
    Index,
    /// The owner.
    Owner,
    /// The platform.
    Platform,
}

impl From<Provision> for By {
    fn from(hierarchy: Provision) -> Self {
        match hierarchy {
            Provision::Owner => Self::Owner,
            Provision::Platform => Self::Platform,
        }
    }
}

/// What shows who it is.
enum Proof<'a> {
    Password(&'a [u8]),
    Session(&'a mut Session, &'a [u8]),
}

impl fmt::Debug for Proof<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password(_) => f.write_str("Password(..)"),
            Self::Session(session, _) => session.fmt(f),
        }
    }
}

impl<'a> Access<'a> {
    /// By an authorization value that goes over the bus as it is.
    #[must_use]
    pub const fn by_password(by: By, password: &'a [u8]) -> Self {
        Self { by, proof: Proof::Password(password) }
    }

    /// By a session; `secret` is the authorization value that an HMAC session proves.
    pub const fn by_session(by: By, session: &'a mut Session, secret: &'a [u8]) -> Self {
        Self { by, proof: Proof::Session(session, secret) }
    }

    const fn handle(&self, index: NvIndex) -> NvAuth {
        match self.by {
            By::Index => NvAuth::Index(index),
            By::Owner => NvAuth::Owner,
            By::Platform => NvAuth::Platform,
        }
    }

    /// Octets in one command. A policy session authorizes one command and no second, so that all must be in it.
    fn chunk(&self) -> usize {
        match &self.proof {
            Proof::Session(session, _)
                if session.handle().handle().kind() == HandleKind::POLICY_SESSION =>
            {
                MaxNvBuffer::MAX
            }
            _ => CHUNK,
        }
    }

    const fn auth(&mut self) -> Auth<'_> {
        match &mut self.proof {
            Proof::Password(password) => Auth::password(password),
            Proof::Session(session, secret) => session.auth(secret),
        }
    }
}

impl Index {
    /// Defines an index, which then has this authorization value.
    ///
    /// # Errors
    /// As [`Tpm::run`]; refused with [`NV_DEFINED`](ResponseCode::NV_DEFINED) if there is one already.
    #[doc(alias = "TPM2_NV_DefineSpace")]
    pub fn define<T: Transport>(
        tpm: &mut Tpm<T>,
        by: Provision,
        auth: Auth<'_>,
        public: &NvPublic<'_>,
        value: AuthValue<'_>,
    ) -> Result<Self, Error<T::Error>> {
        let command = NvDefineSpace { auth_handle: by, auth: value, public_info: Tpm2b(*public) };
        let index =
            Self::new(public).map_err(|fault| Error::new(NvDefineSpace::INFO.code, fault))?;
        tpm.run(&command, [auth])?;
        Ok(index)
    }

    /// The index with this handle; `None` if it does not exist. Its public area is trusted as the TPM returns it.
    ///
    /// # Errors
    /// As [`Tpm::run`].
    #[doc(alias = "TPM2_NV_ReadPublic")]
    pub fn find<T: Transport>(
        tpm: &mut Tpm<T>,
        handle: Handle,
    ) -> Result<Option<Self>, Error<T::Error>> {
        match Self::read_public(tpm, handle) {
            Ok(index) => Ok(Some(index)),
            Err(error) if error.refusal() == Some(ResponseCode::HANDLE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Follows a change of its state that none of the methods here made: reads the public area again.
    ///
    /// # Errors
    /// As [`Tpm::run`]; [`Fault::Malformed`] if more than its state is different: then it is another index.
    pub fn refresh<T: Transport>(&mut self, tpm: &mut Tpm<T>) -> Result<(), Error<T::Error>> {
        const STATE: NvAttributes =
            NvAttributes::WRITTEN.with(NvAttributes::WRITELOCKED).with(NvAttributes::READLOCKED);
        let now = Self::read_public(tpm, self.handle)?;
        let stateless =
            |index: &Self| Self { attributes: index.attributes.without(STATE), ..index.clone() };
        if stateless(&now) != stateless(self) {
            let malformed = Malformed::new(Why::Unexpected, 0).named("NvPublic");
            return Err(Error::new(NvReadPublic::INFO.code, malformed.into()));
        }
        *self = now;
        Ok(())
    }

    fn read_public<T: Transport>(
        tpm: &mut Tpm<T>,
        handle: Handle,
    ) -> Result<Self, Error<T::Error>> {
        let fail = |fault: Fault| Error::new(NvReadPublic::INFO.code, fault);
        let answer = tpm.run(&NvReadPublic { nv_index: NvIndex::unnamed(handle) }, [])?;
        if answer.nv_public.0.index != handle {
            return Err(fail(Malformed::new(Why::Unexpected, 0).named("NvPublic.index").into()));
        }
        Self::new(&answer.nv_public.0).map_err(fail)
    }

    fn new(public: &NvPublic<'_>) -> Result<Self, Fault> {
        nv_name(public)?;
        let NvPublic { index: handle, name_alg, attributes, auth_policy, data_size } = *public;
        Ok(Self { handle, name_alg, attributes, auth_policy: auth_policy.into(), data_size })
    }

    /// The index as an entity.
    #[must_use]
    pub fn entity(&self) -> NvIndex {
        self.name().map_or(NvIndex::unnamed(self.handle), |name| NvIndex::named(self.handle, name))
    }

    /// Its Name as it is now.
    #[must_use]
    pub fn name(&self) -> Option<NameBuf> {
        nv_name(&NvPublic {
            index: self.handle,
            name_alg: self.name_alg,
            attributes: self.attributes,
            auth_policy: (&self.auth_policy).into(),
            data_size: self.data_size,
        })
        .ok()
    }

    /// What may be done with it, and whether it has been written or locked.
    #[must_use]
    pub const fn attributes(&self) -> NvAttributes {
        self.attributes
    }

    /// Octets of its data.
    #[must_use]
    pub const fn data_size(&self) -> u16 {
        self.data_size
    }

    /// Removes it.
    ///
    /// # Errors
    /// As [`Tpm::run`].
    #[doc(alias = "TPM2_NV_UndefineSpace")]
    pub fn undefine<T: Transport>(
        self,
        tpm: &mut Tpm<T>,
        by: Provision,
        auth: Auth<'_>,
    ) -> Result<(), Error<T::Error>> {
        let command = NvUndefineSpace { auth_handle: by, nv_index: self.entity() };
        tpm.run(&command, [auth]).map(drop)
    }

    /// Writes data from its start on, in as many commands as it takes: if one fails, those before it were executed. It takes
    /// one, which the TPM may refuse as too large, if a policy authorizes it or if the index is
    /// [written only as a whole](NvAttributes::WRITEALL).
    ///
    /// # Errors
    /// As [`Tpm::run`]; [`Fault::TooLong`], and nothing is written, if there are more data than it holds, or more than one
    /// command can where it must.
    #[doc(alias = "TPM2_NV_Write")]
    pub fn write<T: Transport>(
        &mut self,
        tpm: &mut Tpm<T>,
        access: &mut Access<'_>,
        data: &[u8],
    ) -> Result<(), Error<T::Error>> {
        let fail = |error: TooLong| Error::new(NvWrite::INFO.code, error.into());
        let (given, limit) = (data.len(), usize::from(self.data_size));
        if given > limit {
            return Err(fail(TooLong { what: "the NV index", given, limit }));
        }
        let whole = self.attributes.contains(NvAttributes::WRITEALL);
        let chunk = if whole { MaxNvBuffer::MAX } else { access.chunk() };
        if chunk > CHUNK {
            MaxNvBuffer::new(data).map_err(fail)?;
        }
        let mut offset = 0_u16;
        for chunk in data.chunks(chunk) {
            let (auth_handle, nv_index) = self.handles(access);
            let data = MaxNvBuffer::new(chunk).map_err(fail)?;
            self.change(tpm, access, &NvWrite { auth_handle, nv_index, data, offset })?;
            offset = offset.saturating_add(u16::try_from(chunk.len()).unwrap_or(u16::MAX));
        }
        Ok(())
    }

    /// Reads all of it, in one command if a policy authorizes it.
    ///
    /// # Errors
    /// As [`Tpm::run`]; [`Fault::TooLong`] if one command cannot read all where it must.
    #[doc(alias = "TPM2_NV_Read")]
    #[cfg(feature = "alloc")]
    pub fn read<T: Transport>(
        &self,
        tpm: &mut Tpm<T>,
        access: &mut Access<'_>,
    ) -> Result<Vec<u8>, Error<T::Error>> {
        let mut octets = alloc::vec![0; self.data_size.into()];
        self.read_into(tpm, access, &mut octets)?;
        Ok(octets)
    }

    /// Reads all of it to the front of `octets`, in one command if a policy authorizes it; returns how many it has.
    ///
    /// # Errors
    /// As [`Tpm::run`]; [`Fault::TooLong`], and nothing is sent, if it has more than fit, or if one command cannot read all where
    /// it must.
    pub fn read_into<T: Transport>(
        &self,
        tpm: &mut Tpm<T>,
        access: &mut Access<'_>,
        octets: &mut [u8],
    ) -> Result<usize, Error<T::Error>> {
        let (nv_index, chunk) = (self.entity(), access.chunk());
        let fail = |what, limit| {
            Error::of::<NvRead>(TooLong { what, given: self.data_size.into(), limit })
        };
        if chunk > CHUNK && usize::from(self.data_size) > MaxNvBuffer::MAX {
            return Err(fail("MaxNvBuffer", MaxNvBuffer::MAX));
        }
        let limit = octets.len();
        let octets = octets.get_mut(..self.data_size.into());
        let octets = octets.ok_or_else(|| fail("the buffer", limit))?;
        let mut offset = 0_u16;
        for part in octets.chunks_mut(chunk) {
            let size = u16::try_from(part.len()).unwrap_or(u16::MAX);
            let auth_handle = access.handle(nv_index);
            let command = NvRead { auth_handle, nv_index, size, offset };
            let answer = tpm.run(&command, [access.auth()])?;
            let data = answer.data.octets();
            if data.len() != part.len() {
                let malformed = Malformed::new(Why::Unexpected, 0).named("NvReadResponse.data");
                return Err(Error::of::<NvRead>(malformed));
            }
            part.copy_from_slice(data);
            offset = offset.saturating_add(size);
        }
        Ok(octets.len())
    }

    /// Adds one to a counter. The first increment starts it above the highest value that any counter of this TPM has had, so that a
    /// counter which is removed and defined again does not go back.
    ///
    /// # Errors
    /// As [`Tpm::run`].
    #[doc(alias = "TPM2_NV_Increment")]
    pub fn increment<T: Transport>(
        &mut self,
        tpm: &mut Tpm<T>,
        access: &mut Access<'_>,
    ) -> Result<(), Error<T::Error>> {
        let (auth_handle, nv_index) = self.handles(access);
        self.change(tpm, access, &NvIncrement { auth_handle, nv_index })
    }

    /// The value of a counter.
    ///
    /// # Errors
    /// As [`Tpm::run`]; [`Fault::Malformed`] if the index has not eight octets.
    pub fn counter<T: Transport>(
        &self,
        tpm: &mut Tpm<T>,
        access: &mut Access<'_>,
    ) -> Result<u64, Error<T::Error>> {
        let mut octets = [0; 8];
        if usize::from(self.data_size) != octets.len() {
            let malformed = Malformed::new(Why::Unexpected, 0).named("NvPublic.data_size");
            return Err(Error::of::<NvRead>(malformed));
        }
        self.read_into(tpm, access, &mut octets)?;
        Ok(u64::from_be_bytes(octets))
    }

    /// Extends it as a PCR is: H(what it held ‖ data).
    ///
    /// # Errors
    /// As [`Tpm::run`]; [`Fault::TooLong`] if the data do not fit one command.
    #[doc(alias = "TPM2_NV_Extend")]
    pub fn extend<T: Transport>(
        &mut self,
        tpm: &mut Tpm<T>,
        access: &mut Access<'_>,
        data: &[u8],
    ) -> Result<(), Error<T::Error>> {
        let data = MaxNvBuffer::new(data);
        let data = data.map_err(|error| Error::new(NvExtend::INFO.code, error.into()))?;
        let (auth_handle, nv_index) = self.handles(access);
        self.change(tpm, access, &NvExtend { auth_handle, nv_index, data })
    }

    /// Sets bits of an index of type [`BITS`](crate::types::NvType::BITS), besides those that are set.
    ///
    /// # Errors
    /// As [`Tpm::run`].
    #[doc(alias = "TPM2_NV_SetBits")]
    pub fn set_bits<T: Transport>(
        &mut self,
        tpm: &mut Tpm<T>,
        access: &mut Access<'_>,
        bits: u64,
    ) -> Result<(), Error<T::Error>> {
        let (auth_handle, nv_index) = self.handles(access);
        self.change(tpm, access, &NvSetBits { auth_handle, nv_index, bits })
    }

    /// Locks it against writing: permanently, or until the TPM restarts, depending on its attributes.
    ///
    /// # Errors
    /// As [`Tpm::run`].
    #[doc(alias = "TPM2_NV_WriteLock")]
    pub fn lock_writing<T: Transport>(
        &mut self,
        tpm: &mut Tpm<T>,
        access: &mut Access<'_>,
    ) -> Result<(), Error<T::Error>> {
        let (auth_handle, nv_index) = self.handles(access);
        tpm.run(&NvWriteLock { auth_handle, nv_index }, [access.auth()])?;
        self.attributes = self.attributes.with(NvAttributes::WRITELOCKED);
        Ok(())
    }

    /// Locks it against reading until the TPM restarts.
    ///
    /// # Errors
    /// As [`Tpm::run`].
    #[doc(alias = "TPM2_NV_ReadLock")]
    pub fn lock_reading<T: Transport>(
        &mut self,
        tpm: &mut Tpm<T>,
        access: &mut Access<'_>,
    ) -> Result<(), Error<T::Error>> {
        let (auth_handle, nv_index) = self.handles(access);
        tpm.run(&NvReadLock { auth_handle, nv_index }, [access.auth()])?;
        self.attributes = self.attributes.with(NvAttributes::READLOCKED);
        Ok(())
    }

    /// The handle area of the commands that work on the index.
    fn handles(&self, access: &Access<'_>) -> (NvAuth, NvIndex) {
        let nv_index = self.entity();
        (access.handle(nv_index), nv_index)
    }

    /// Runs what writes to the index.
    fn change<T: Transport>(
        &mut self,
        tpm: &mut Tpm<T>,
        access: &mut Access<'_>,
        command: &impl Authorized<1>,
    ) -> Result<(), Error<T::Error>> {
        tpm.run(command, [access.auth()])?;
        self.attributes = self.attributes.with(NvAttributes::WRITTEN);
        Ok(())
    }
}
