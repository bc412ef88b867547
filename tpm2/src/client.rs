use zeroize::Zeroize;

use crate::commands::{
    AnyCommand, Authorized, Command, CommandInfo, Effect, FlushContext, PolicyAuthValue,
    PolicyPassword, PolicyRestart, StartAuthSession,
};
use crate::crypto::{HashAlg, NoRandomness};
use crate::error::{Error, Fault};
use crate::session::{
    Auth, Direction, Encryption, Layout, NewSession, Plan, Proof, Protected, SaltKey, Salted,
    Session, Starting,
};
#[cfg(feature = "std")]
use crate::transport::{AnyTransport, ConnectError, Tcti};
use crate::transport::{Transport, WithRandom};
use crate::types::{Entity, Handle, HandleKind, ResponseCode, SessionType};
use crate::wire::{Reader, Writer};

/// The largest command and answer: what the kernel's driver takes.
const BUFFER: usize = 4096;

/// A TPM. Runs commands one after the other; an answer borrows from it, so that it is gone before the next one comes:
///
/// ```compile_fail,E0499
/// # use tpm2::{Error, Tpm, commands::GetRandom, transport::Transport};
/// fn two_answers<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Error<T::Error>> {
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
/// fn without_authorization<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Error<T::Error>> {
///     let nv_index = NvIndex::unnamed(Handle(0x01c0_0002));
///     tpm.run(&NvRead { auth_handle: NvAuth::Owner, nv_index, size: 8, offset: 0 }, [])?;
///     Ok(())
/// }
/// ```
///
/// It remembers what it loaded into the TPM and flushes what is left when it is dropped, unless a resource manager does.
pub struct Tpm<T: Transport> {
    /// `None` once it was taken back.
    transport: Option<T>,
    command: [u8; BUFFER],
    response: [u8; BUFFER],
    /// How much of the response buffer may hold something.
    answered: usize,
    loaded: Loaded,
    poisoned: bool,
}

/// A TPM at any address: what [`Tpm::open`] gives.
#[cfg(feature = "std")]
pub type AnyTpm = Tpm<AnyTransport>;

#[cfg(feature = "std")]
impl AnyTpm {
    /// The TPM at an address in the [notation of the TSS](Tcti); what it asks to retry is retried.
    ///
    /// ```no_run
    /// let mut tpm = tpm2::Tpm::open("device:/dev/tpmrm0")?;
    /// # Ok::<(), tpm2::transport::ConnectError>(())
    /// ```
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn open(address: &str) -> Result<Self, ConnectError> {
        Ok(Self::new(address.parse::<Tcti>()?.open()?))
    }
}

impl<T, R> Tpm<WithRandom<T, R>>
where
    T: Transport,
    R: FnMut(&mut [u8]) -> Result<(), NoRandomness>,
{
    /// As [`Tpm::new`], where nonces and salts of sessions come from `source`: of a machine without operating system its
    /// generator, of a test what makes sessions replay.
    ///
    /// ```
    /// # use tpm2::{Tpm, crypto::NoRandomness, transport::Transport};
    /// # fn example<T: Transport>(transport: T, mut trng: impl FnMut() -> Option<u8>) {
    /// let tpm = Tpm::with_random(transport, |octets: &mut [u8]| {
    ///     octets.iter_mut().try_for_each(|octet| {
    ///         *octet = trng().ok_or(NoRandomness)?;
    ///         Ok(())
    ///     })
    /// });
    /// # }
    /// ```
    #[must_use]
    pub const fn with_random(transport: T, source: R) -> Self {
        Self::new(WithRandom::new(transport, source))
    }
}

impl<T: Transport> Tpm<T> {
    /// A TPM at the other end of `transport`.
    #[must_use]
    pub const fn new(transport: T) -> Self {
        Self {
            transport: Some(transport),
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
    /// See [`Fault`]. After [`Fault::Transport`] every further command is refused with [`Fault::Poisoned`], until
    /// [`Self::replace`] gives another connection.
    pub fn run<C: Authorized<N>, const N: usize>(
        &mut self,
        command: &C,
        mut auths: [Auth<'_>; N],
    ) -> Result<C::Response<'_>, Error<T::Error>> {
        self.execute(command, &mut auths)
    }

    /// The next command under the protection of `session`: the answer is proven to be the TPM's, and parameters are encrypted
    /// both ways where the command allows it, by this session and by none that authorizes. One that was started with
    /// [`Encryption::Off`] only proves.
    pub const fn secured<'t>(&'t mut self, session: &'t mut Salted) -> Secured<'t, T> {
        Secured { tpm: self, session }
    }

    /// As [`Self::run`], with sessions that ride along behind the authorizations: to encrypt, to prove the answer, to
    /// audit. There are three places in all; a fourth does not compile.
    ///
    /// A policy session that rides along loses the policy that it has gathered. Part 3 §11.2, Part 1 §19.7.
    ///
    /// # Errors
    /// As [`Self::run`]; [`Fault::Unprotectable`] if a session can do nothing for this command.
    pub fn run_with<C: Authorized<N>, const N: usize, const M: usize>(
        &mut self,
        command: &C,
        auths: [Auth<'_>; N],
        riders: [Auth<'_>; M],
    ) -> Result<C::Response<'_>, Error<T::Error>> {
        const MAX_SESSIONS: usize = 3;
        const { assert!(N + M <= MAX_SESSIONS, "a command has at most three sessions") };
        let mut all = [const { Auth::EMPTY }; MAX_SESSIONS];
        let used = all.iter_mut().zip(auths.into_iter().chain(riders));
        let used = used.map(|(slot, auth)| *slot = auth).count();
        self.execute(command, all.get_mut(..used).unwrap_or_default())
    }

    /// Starts a session.
    ///
    /// # Errors
    /// As [`Self::run`]; [`Fault::Salt`] if no secret can be shared through the key; [`Fault::Unnamed`] if the entity that
    /// it is bound to has no Name.
    #[doc(alias = "TPM2_StartAuthSession")]
    pub fn start<P: Plan>(&mut self, plan: &P) -> Result<P::Started, Error<T::Error>> {
        let fault = |fault| Error::new(StartAuthSession::INFO.code, fault);
        let transport = self.transport.as_mut().ok_or_else(|| fault(Fault::Poisoned))?;
        let mut random = |octets: &mut [u8]| transport.random(octets);
        let starting = Starting::new(plan.session(), &mut random).map_err(fault)?;
        let command = starting.command().map_err(fault)?;
        let answer = self.run(&command, [])?;
        starting.started(&answer).map(P::started).map_err(fault)
    }

    /// Starts a session that proves nothing about answers: neither salted nor bound.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn start_session(
        &mut self,
        kind: SessionType,
        hash: HashAlg,
    ) -> Result<Session, Error<T::Error>> {
        self.start(&NewSession::of(kind, hash))
    }

    /// Starts a session salted to a key as the key suggests: with its name algorithm, and its cipher.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_salted_session(
        &mut self,
        kind: SessionType,
        key: &SaltKey<'_>,
        encryption: Encryption,
    ) -> Result<Salted, Error<T::Error>> {
        let plan = key.new_session(kind, encryption);
        self.start(&plan.map_err(|fault| Error::new(StartAuthSession::INFO.code, fault))?)
    }

    /// Starts a session, lends it to `work`, and ends it however that ends.
    ///
    /// # Errors
    /// As [`Self::start`] and [`Self::end`]; what `work` says.
    pub fn with_session<P: Plan, R, E: From<Error<T::Error>>>(
        &mut self,
        plan: &P,
        work: impl FnOnce(&mut Self, &mut P::Started) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut session = self.start(plan)?;
        let result = work(self, &mut session);
        let ended = self.end(session);
        result.and_then(|result| Ok(ended.map(|()| result)?))
    }

    /// Ends a session that has not been [used for the last time](Session::last_auth): one that is only dropped stays in the
    /// TPM, which has room for few, until the client goes.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn end(&mut self, session: impl Into<Session>) -> Result<(), Error<T::Error>> {
        self.flush(session.into().handle().handle())
    }

    /// Removes an object or a session from the TPM.
    ///
    /// # Errors
    /// As [`Self::run`].
    #[doc(alias = "TPM2_FlushContext")]
    pub fn flush(&mut self, handle: Handle) -> Result<(), Error<T::Error>> {
        self.loaded.remove(handle);
        self.run(&FlushContext { flush_handle: handle }, []).map(|_| ())
    }

    /// Removes everything from the TPM that this client loaded and that is still there: what a `TPM2_Clear`, a reset or
    /// another client removed is passed over. A resource manager does it by itself when the client goes; where there is
    /// one, nothing is sent.
    ///
    /// # Errors
    /// The first error; all the rest was tried nevertheless.
    pub fn flush_all(&mut self) -> Result<(), Error<T::Error>> {
        let mut result = Ok(());
        if self.transport.as_ref().is_none_or(T::is_managed) {
            self.loaded = Loaded::NONE;
        }
        while let Some(handle) = self.loaded.last() {
            let flushed = match self.flush(handle) {
                Err(error) if error.refusal() == Some(ResponseCode::HANDLE) => Ok(()),
                flushed => flushed,
            };
            result = result.and(flushed);
        }
        result
    }

    /// What carries the commands.
    ///
    /// # Panics
    /// Never: only [`Self::into_transport`] takes it, with the client.
    #[must_use]
    pub const fn transport(&self) -> &T {
        self.transport.as_ref().expect("taken with the client only")
    }

    /// What carries the commands, to change how it does so. Who sends a command past the client must not change what the
    /// client keeps track of: objects and sessions that it loaded, their nonces, their policies.
    ///
    /// # Panics
    /// As [`Self::transport`].
    #[must_use]
    pub const fn transport_mut(&mut self) -> &mut T {
        self.transport.as_mut().expect("taken with the client only")
    }

    /// Flushes what this client loaded, as far as that succeeds, and gives back what carried the commands.
    #[must_use]
    pub fn into_transport(mut self) -> T {
        // No client is left to try again.
        let _ = self.flush_all();
        self.transport.take().expect("taken with the client only")
    }

    /// Goes on over another connection, such as after [`Fault::Transport`], and returns the former. What was loaded before
    /// is not flushed: a resource manager has forgotten it with the former connection, and its sessions are of no use.
    pub fn replace(&mut self, transport: T) -> Option<T> {
        self.forget_answer();
        (self.loaded, self.poisoned) = (Loaded::NONE, false);
        self.transport.replace(transport)
    }

    fn execute<C: Command>(
        &mut self,
        command: &C,
        auths: &mut [Auth<'_>],
    ) -> Result<C::Response<'_>, Error<T::Error>> {
        let layout = self.send(command, auths)?;
        let parameters = self.response.get(layout.parameters).unwrap_or_default();
        Reader::all(parameters, |reader| C::unmarshal_response(layout.handle, reader))
            .map_err(Error::of::<C>)
    }

    fn send(
        &mut self,
        command: &dyn AnyCommand,
        auths: &mut [Auth<'_>],
    ) -> Result<Layout, Error<T::Error>> {
        self.exchange(command, auths).inspect_err(|error| {
            // The session was given away and is no longer used.
            if !matches!(error.fault(), Fault::Transport | Fault::Poisoned) {
                for session in auths.iter().filter_map(Auth::ends) {
                    let _ = self.flush(session);
                }
            }
        })
    }

    fn exchange(
        &mut self,
        command: &dyn AnyCommand,
        auths: &mut [Auth<'_>],
    ) -> Result<Layout, Error<T::Error>> {
        let code = command.info().code;
        let fail = |fault| Error::new(code, fault);
        if self.poisoned {
            return Err(fail(Fault::Poisoned));
        }
        for session in auths.iter_mut().filter_map(Auth::session_mut) {
            session.learn(|session| self.loaded.proof(session));
        }
        self.forget_answer();
        let transport = self.transport.as_mut().ok_or_else(|| fail(Fault::Poisoned))?;
        let mut random = |octets: &mut [u8]| transport.random(octets);
        let mut protected = Protected::new(command, auths, &mut random).map_err(fail)?;
        let marshalled = protected.marshal(command, &mut self.command);
        let len = marshalled.inspect_err(|_| self.command.zeroize()).map_err(fail)?;
        let sent = self.command.get_mut(..len).unwrap_or_default();
        self.answered = BUFFER;
        let received = transport.exchange(sent, &mut self.response);
        sent.zeroize();
        let received = received.inspect_err(|_| self.poisoned = true);
        let received = received.map_err(|error| Error::on_the_way(code, error))?;

        // As much as there is room for, whatever the transport says.
        self.answered = received.min(BUFFER);
        let answer = self.response.get_mut(..received).unwrap_or_default();
        self.loaded.note(command.info(), answer);
        let layout = protected.unmarshal(answer).map_err(fail)?;
        self.loaded.learn(command);
        for auth in auths.iter() {
            auth.policy().into_iter().for_each(|session| self.loaded.prove(session, Proof::None));
            auth.ends().into_iter().for_each(|session| self.loaded.remove(session));
        }
        Ok(layout)
    }

    fn forget_answer(&mut self) {
        self.response.get_mut(..self.answered).unwrap_or_default().zeroize();
        self.answered = 0;
    }
}

impl<T: Transport> Drop for Tpm<T> {
    fn drop(&mut self) {
        // No caller is left to notify, and the command's own error has the reason.
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
    ) -> Result<C::Response<'t>, Error<T::Error>> {
        // What an authorizing session shares with the TPM may be known to others.
        let auths = auths.map(|auth| auth.encrypting(Direction::Neither));
        self.tpm.run_with(command, auths, [self.session.session().ride()])
    }
}

/// What was loaded and not flushed, and what the policies of sessions ask for. More than a TPM without resource manager
/// can hold.
#[derive(Debug)]
pub(crate) struct Loaded {
    entries: [Option<(Handle, Proof)>; 16],
}

impl Loaded {
    const NONE: Self = Self { entries: [None; 16] };

    /// Notes the handle in an answer before anything else in it is looked at: it must be flushed even if the rest turns
    /// out to be wrong.
    fn note(&mut self, command: &CommandInfo, answer: &[u8]) {
        const SUCCESS: [u8; 4] = [0; 4];
        if command.response.handle.is_none() || answer.get(6..10) != Some(&SUCCESS) {
            return;
        }
        let Some(octets) = answer.get(10..).and_then(<[u8]>::first_chunk) else { return };
        let handle = Handle(u32::from_be_bytes(*octets));
        let loaded = matches!(
            handle.kind(),
            HandleKind::TRANSIENT | HandleKind::HMAC_SESSION | HandleKind::POLICY_SESSION
        );
        if !loaded || self.entry(handle).is_some() {
            return;
        }
        if let Some(slot) = self.entries.iter_mut().find(|slot| slot.is_none()) {
            *slot = Some((handle, Proof::None));
        }
    }

    /// Notes what a command that has succeeded leaves behind: what a policy asks of its session from here on, or that
    /// something is no longer in the TPM.
    fn learn(&mut self, command: &dyn AnyCommand) {
        let proof = match command.info().code {
            code if code == PolicyAuthValue::INFO.code => Proof::AuthValue,
            code if code == PolicyPassword::INFO.code => Proof::Password,
            code if code == PolicyRestart::INFO.code => Proof::None,
            _ => {
                if let Some(handle) = gone(command) {
                    self.remove(handle);
                }
                return;
            }
        };
        command.each_entity(&mut |session| self.prove(session.handle(), proof));
    }

    fn prove(&mut self, session: Handle, proof: Proof) {
        if let Some((_, known)) = self.entry(session) {
            *known = proof;
        }
    }

    /// What the policy of a session asks of the authorization value.
    pub(crate) fn proof(&self, session: Handle) -> Proof {
        let entry = self.entries.iter().flatten().find(|(handle, _)| *handle == session);
        entry.map_or(Proof::None, |(_, proof)| *proof)
    }

    fn entry(&mut self, handle: Handle) -> Option<&mut (Handle, Proof)> {
        self.entries.iter_mut().flatten().find(|(known, _)| *known == handle)
    }

    fn remove(&mut self, handle: Handle) {
        for slot in &mut self.entries {
            if slot.is_some_and(|(known, _)| known == handle) {
                *slot = None;
            }
        }
    }

    fn last(&self) -> Option<Handle> {
        self.entries.iter().rev().find_map(|entry| entry.map(|(handle, _)| handle))
    }
}

/// What is no longer in the TPM when this command has succeeded.
fn gone(command: &dyn AnyCommand) -> Option<Handle> {
    let info = command.info();
    match info.effect {
        Effect::Flushes => {
            let mut parameters = [0; 4];
            command.write_parameters(&mut Writer::new(&mut parameters)).ok()?;
            Some(Handle(u32::from_be_bytes(parameters)))
        }
        Effect::EndsSequence => {
            let mut names = info.handles.iter();
            let mut sequence = None;
            command.each_entity(&mut |entity| {
                if names.next() == Some(&"sequence_handle") {
                    sequence = Some(entity.handle());
                }
            });
            sequence
        }
        Effect::None | Effect::SetsAuth | Effect::ClearsAuth => None,
    }
}
