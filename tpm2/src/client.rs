use zeroize::Zeroize;

use crate::commands::{Authorized, Command, FlushContext, StartAuthSession};
use crate::crypto::HashAlg;
use crate::error::{Error, Fault};
use crate::session::{Auth, Encryption, Frame, SaltKey, Salted, Session, Starting};
use crate::transport::Transport;
use crate::types::{Handle, HandleKind, SessionType};
use crate::wire::Reader;

/// The largest command and answer: what the kernel's driver takes.
const BUFFER: usize = 4096;

/// A TPM. Runs commands one after the other; an answer borrows from it, so that it is gone before the next one comes:
///
/// ```compile_fail,E0499
/// # use tpm2::{Error, Tpm, commands::GetRandom, transport::Transport};
/// fn two_answers<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Error> {
///     let first = tpm.run(&GetRandom { bytes_requested: 8 }, [])?;
///     let second = tpm.run(&GetRandom { bytes_requested: 8 }, [])?;
///     assert_ne!(first.random_bytes, second.random_bytes);
///     Ok(())
/// }
/// ```
///
/// As many authorizations as the command has handles that need one; one too few does not compile:
///
/// ```compile_fail,E0277
/// # use tpm2::{Error, Tpm, commands::NvRead, types::{Handle, NvAuth, NvIndex}, transport::Transport};
/// fn without_authorization<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Error> {
///     let nv_index = NvIndex::unnamed(Handle(0x01c0_0002));
///     tpm.run(&NvRead { auth_handle: NvAuth::Owner, nv_index, size: 8, offset: 0 }, [])?;
///     Ok(())
/// }
/// ```
///
/// It remembers what it loaded into the TPM and flushes what is left when it is dropped, unless a resource manager does.
pub struct Tpm<T: Transport> {
    transport: T,
    command: [u8; BUFFER],
    response: [u8; BUFFER],
    /// How much of the response buffer may hold something.
    answered: usize,
    loaded: Loaded,
    poisoned: bool,
}

impl<T: Transport> Tpm<T> {
    /// A TPM at the other end of `transport`.
    #[must_use]
    pub const fn new(transport: T) -> Self {
        Self {
            transport,
            command: [0; BUFFER],
            response: [0; BUFFER],
            answered: 0,
            loaded: Loaded::NONE,
            poisoned: false,
        }
    }

    /// Runs one command, each of whose `@` handles is authorized by one element of `auths`, in their order.
    ///
    /// # Errors
    /// See [`Fault`]. After [`Fault::Transport`] every further command is refused with [`Fault::Poisoned`].
    pub fn run<C: Authorized<N>, const N: usize>(
        &mut self,
        command: &C,
        mut auths: [Auth<'_>; N],
    ) -> Result<C::Response<'_>, Error> {
        self.execute(command, &mut auths)
    }

    /// The next command under the protection of `session`: parameters are encrypted both ways where the command allows it,
    /// and the answer is proven to be the TPM's.
    pub const fn secured<'t>(&'t mut self, session: &'t mut Salted) -> Secured<'t, T> {
        Secured { tpm: self, session }
    }

    /// Starts a session that proves nothing about answers: neither salted nor bound.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn start_session(&mut self, kind: SessionType, hash: HashAlg) -> Result<Session, Error> {
        let code = StartAuthSession::INFO.code;
        let starting = Starting::unsalted(kind, hash).map_err(|fault| Error::new(code, fault))?;
        let command = starting.command().map_err(|fault| Error::new(code, fault))?;
        let answer = self.run(&command, [])?;
        starting.started(&answer).map_err(|fault| Error::new(code, fault))
    }

    /// Starts a session whose key only the TPM that holds `key` can know. Its hash is the key's name algorithm.
    ///
    /// # Errors
    /// As [`Self::run`]; [`Fault::Salt`] if no secret can be shared through the key.
    pub fn start_salted_session(
        &mut self,
        kind: SessionType,
        key: &SaltKey<'_>,
        encryption: Encryption,
    ) -> Result<Salted, Error> {
        let code = StartAuthSession::INFO.code;
        let starting =
            Starting::salted(kind, key, encryption).map_err(|fault| Error::new(code, fault))?;
        let command = starting.command().map_err(|fault| Error::new(code, fault))?;
        let answer = self.run(&command, [])?;
        starting.salted_started(&answer).map_err(|fault| Error::new(code, fault))
    }

    /// Removes an object or a session from the TPM.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn flush(&mut self, handle: Handle) -> Result<(), Error> {
        self.loaded.remove(handle);
        self.run(&FlushContext { flush_handle: handle }, []).map(|_| ())
    }

    /// Removes everything from the TPM that this client loaded and that is still there. A resource manager does it by
    /// itself when the client goes; where there is one, nothing is sent.
    ///
    /// # Errors
    /// The first error; all the rest was tried nevertheless.
    pub fn flush_all(&mut self) -> Result<(), Error> {
        let mut result = Ok(());
        if self.transport.is_managed() {
            self.loaded = Loaded::NONE;
        }
        while let Some(handle) = self.loaded.last() {
            result = result.and(self.flush(handle));
        }
        result
    }

    /// What carries the commands.
    pub const fn transport(&self) -> &T {
        &self.transport
    }

    fn execute<C: Command>(
        &mut self,
        command: &C,
        auths: &mut [Auth<'_>],
    ) -> Result<C::Response<'_>, Error> {
        let code = C::INFO.code;
        self.exchange(command, auths).map_err(|fault| Error::new(code, fault))
    }

    fn exchange<C: Command>(
        &mut self,
        command: &C,
        auths: &mut [Auth<'_>],
    ) -> Result<C::Response<'_>, Fault> {
        if self.poisoned {
            return Err(Fault::Poisoned);
        }
        let ends = SessionsThatEnd::of(auths);
        let frame = Frame::new::<C>(auths)?;
        self.forget_answer();
        let marshalled = frame.marshal(command, &mut self.command);
        let len = marshalled.inspect_err(|_| self.command.zeroize())?;
        let sent = self.command.get_mut(..len).unwrap_or_default();
        self.answered = BUFFER;
        let received = self.transport.exchange(sent, &mut self.response);
        sent.zeroize();
        let received = received.inspect_err(|_| self.poisoned = true).map_err(Fault::Transport)?;

        self.answered = received;
        let answer = self.response.get_mut(..received).unwrap_or_default();
        self.loaded.note::<C>(answer);
        let framed = frame.unmarshal::<C>(answer)?;
        ends.0.into_iter().flatten().for_each(|session| self.loaded.remove(session));
        let parameters = self.response.get(framed.parameters).unwrap_or_default();
        Ok(Reader::all(parameters, |reader| C::unmarshal_response(framed.handle, reader))?)
    }

    fn forget_answer(&mut self) {
        self.response.get_mut(..self.answered).unwrap_or_default().zeroize();
        self.answered = 0;
    }
}

impl<T: Transport> Drop for Tpm<T> {
    fn drop(&mut self) {
        // Nobody is left to tell, and the TPM has said why when the command itself failed.
        let _ = self.flush_all();
        self.forget_answer();
    }
}

impl<T: Transport> core::fmt::Debug for Tpm<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Tpm").field("loaded", &self.loaded).finish_non_exhaustive()
    }
}

/// A client whose next command a [`Salted`] session protects.
#[derive(Debug)]
pub struct Secured<'t, T: Transport> {
    tpm: &'t mut Tpm<T>,
    session: &'t mut Salted,
}

impl<'t, T: Transport> Secured<'t, T> {
    /// As [`Tpm::run`], with the session riding along.
    ///
    /// A policy session that rides along loses the policy that it has gathered. Part 3 §11.2, Part 1 §19.7.
    ///
    /// # Errors
    /// As [`Tpm::run`]; [`Fault::Unprotectable`] if the session cannot ride on this command, [`Fault::Forged`] if the
    /// answer is not from the TPM with the key.
    pub fn run<C: Authorized<N>, const N: usize>(
        self,
        command: &C,
        auths: [Auth<'_>; N],
    ) -> Result<C::Response<'t>, Error> {
        const MOST: usize = 3;
        let fault = |fault| Error::new(C::INFO.code, fault);
        let mut all = [const { Auth::EMPTY }; MOST];
        let ride = self.session.session().auth(&[]);
        let used = N.checked_add(1).filter(|used| *used <= MOST);
        let used = used.ok_or_else(|| fault(Fault::Unprotectable))?;
        for (slot, auth) in all.iter_mut().zip(auths.into_iter().chain([ride])) {
            *slot = auth;
        }
        let all = all.get_mut(..used).ok_or_else(|| fault(Fault::Unprotectable))?;
        self.tpm.execute(command, all)
    }
}

/// The sessions that the TPM forgets if a command succeeds.
struct SessionsThatEnd([Option<Handle>; 3]);

impl SessionsThatEnd {
    fn of(auths: &[Auth<'_>]) -> Self {
        let mut ends = [None; 3];
        for (slot, auth) in ends.iter_mut().zip(auths) {
            *slot = auth.ends();
        }
        Self(ends)
    }
}

/// Handles of what was loaded and not flushed. More than a TPM without resource manager can hold.
#[derive(Debug)]
struct Loaded {
    handles: [Option<Handle>; 16],
}

impl Loaded {
    const NONE: Self = Self { handles: [None; 16] };

    /// Notes the handle in an answer before anything else in it is looked at: it must be flushed even if the rest turns
    /// out to be wrong.
    fn note<C: Command>(&mut self, answer: &[u8]) {
        const SUCCESS: [u8; 4] = [0; 4];
        if C::INFO.response.handle.is_none() || answer.get(6..10) != Some(&SUCCESS) {
            return;
        }
        let Some(octets) = answer.get(10..).and_then(<[u8]>::first_chunk) else { return };
        let handle = Handle(u32::from_be_bytes(*octets));
        let loaded = matches!(
            handle.kind(),
            HandleKind::Transient | HandleKind::HmacSession | HandleKind::PolicySession
        );
        if let (true, Some(slot)) = (loaded, self.handles.iter_mut().find(|slot| slot.is_none())) {
            *slot = Some(handle);
        }
    }

    fn remove(&mut self, handle: Handle) {
        for slot in self.handles.iter_mut().filter(|slot| **slot == Some(handle)) {
            *slot = None;
        }
    }

    fn last(&self) -> Option<Handle> {
        self.handles.iter().rev().find_map(|slot| *slot)
    }
}
