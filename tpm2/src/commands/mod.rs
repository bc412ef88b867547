//! Part 3: the commands, in files by clause, and the table of all.
//!
//! A command is a structure, and `Tpm::run` of the feature `client` runs it:
//!
//! ```no_run
//! use tpm2::Tpm;
//! use tpm2::commands::{GetRandom, PcrReset};
//! use tpm2::session::Auth;
//! use tpm2::types::Pcr;
//!
//! let mut tpm = Tpm::open("device:/dev/tpmrm0")?;
//! // No authorization: an empty array.
//! let random = tpm.run(&GetRandom { bytes_requested: 16 }, [])?.random_bytes.octets().to_vec();
//! // One: an array of one. Another number does not compile.
//! tpm.run(&PcrReset { pcr_handle: Pcr(23) }, [Auth::EMPTY])?;
//! # let _ = random;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod asymmetric;
mod attestation;
mod audit;
mod capability;
mod clock;
mod component;
mod context;
mod dictionary;
mod duplication;
mod ephemeral;
mod field_upgrade;
pub mod frame;
mod hidden;
mod hierarchy;
mod meaning;
mod miscellaneous;
mod nv;
mod object;
mod pcr;
mod policy;
mod random;
mod sequence;
mod session;
mod signature;
mod startup;
mod symmetric;
mod testing;
mod timer;
mod usual;
mod vendor;

use core::fmt;

pub(crate) use self::hidden::{Fields, hidden};
pub(crate) use self::meaning::meaning;
pub use self::{
    asymmetric::*, attestation::*, audit::*, capability::*, clock::*, component::*, context::*,
    dictionary::*, duplication::*, ephemeral::*, field_upgrade::*, hierarchy::*, miscellaneous::*,
    nv::*, object::*, pcr::*, policy::*, random::*, sequence::*, session::*, signature::*,
    startup::*, symmetric::*, testing::*, timer::*, vendor::*,
};
use crate::types::{CommandCode, Entity, Handle};
use crate::wire::{Malformed, Reader, TooLarge, Why, Writer};

/// A command of Part 3. Its `Debug` must not show what is secret.
pub trait Command: fmt::Debug {
    /// What Part 3's table says of it.
    const INFO: CommandInfo;

    /// This command, borrowed from the octets that it was read from.
    type As<'c>: Command;

    /// What it answers, borrowed from the buffer that the answer arrived in.
    type Response<'r>: Response;

    /// Visits the handle area in order, for the Names in it.
    fn entities(&self, visit: &mut dyn FnMut(&dyn Entity));

    /// Writes the handle area.
    ///
    /// # Errors
    /// It does not fit.
    fn marshal_handles(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge>;

    /// Writes the parameter area.
    ///
    /// # Errors
    /// It does not fit.
    fn marshal_parameters(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge>;

    /// Reads the command as a TPM does: the handle area, and the parameter area from where it is. Entities come without
    /// their Names, which are not on the wire.
    ///
    /// # Errors
    /// The command is not what Part 3 says.
    fn unmarshal<'c>(
        handles: &mut Reader<'_>,
        parameters: &mut Reader<'c>,
    ) -> Result<Self::As<'c>, Malformed>;

    /// Shows a command whose first parameter a session has encrypted, without that; what is malformed is said to be so.
    ///
    /// # Errors
    /// Those of the formatter.
    fn show_encrypted(
        handles: &mut Reader<'_>,
        parameters: &mut Reader<'_>,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result;

    /// Reads the answer's parameter area; `handle` is the null handle if the answer has none.
    ///
    /// # Errors
    /// The answer is not what Part 3 says.
    fn unmarshal_response<'r>(
        handle: Handle,
        reader: &mut Reader<'r>,
    ) -> Result<Self::Response<'r>, Malformed>;
}

/// A command by reference, whatever its type: what is the same for all commands is compiled once.
#[cfg(feature = "client")]
pub(crate) trait AnyCommand {
    /// See [`Command::INFO`].
    fn info(&self) -> &'static CommandInfo;

    /// See [`Command::entities`].
    fn each_entity(&self, visit: &mut dyn FnMut(&dyn Entity));

    /// See [`Command::marshal_parameters`].
    fn write_parameters(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge>;
}

#[cfg(feature = "client")]
impl<C: Command> AnyCommand for C {
    fn info(&self) -> &'static CommandInfo {
        const { &C::INFO }
    }

    fn each_entity(&self, visit: &mut dyn FnMut(&dyn Entity)) {
        Command::entities(self, visit);
    }

    fn write_parameters(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
        Command::marshal_parameters(self, writer)
    }
}

/// A command whose handle area asks for `N` authorizations: what lets the client take an array of that many.
pub trait Authorized<const N: usize>: Command {}

/// The answer to a command. Its `Debug` must not show what is secret.
pub trait Response: fmt::Debug {
    /// What Part 3's table says of it.
    const INFO: ResponseInfo;

    /// Writes the parameter area as a TPM does: what was read and is written again must be the same octets.
    ///
    /// # Errors
    /// It does not fit.
    fn marshal_parameters(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge>;

    /// The parameter area by itself, to be kept or stored; [`Command::unmarshal_response`] reads it.
    ///
    /// # Errors
    /// It is longer than a whole answer can be.
    #[cfg(feature = "alloc")]
    fn to_vec(&self) -> Result<alloc::vec::Vec<u8>, TooLarge> {
        let mut octets = zeroize::Zeroizing::new([0; 4096]);
        let mut writer = Writer::new(&mut *octets);
        self.marshal_parameters(&mut writer)?;
        Ok(writer.into_written().to_vec())
    }

    /// Shows an answer whose first parameter a session has encrypted, without that; what is malformed is said to be so.
    ///
    /// # Errors
    /// Those of the formatter.
    fn show_encrypted(
        handle: Handle,
        parameters: &mut Reader<'_>,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result;
}

/// One command in the table.
#[derive(Clone, Copy, Debug)]
pub struct CommandInfo {
    /// Its code.
    pub code: CommandCode,
    /// Its name as printed.
    pub name: &'static str,
    /// Names of the handles, those to be authorized first.
    pub handles: &'static [&'static str],
    /// How many of the handles must be authorized.
    pub authorizations: usize,
    /// Names of the parameters.
    pub parameters: &'static [&'static str],
    /// Whether a session can encrypt the first parameter.
    pub first_parameter_sized: bool,
    /// Whether the command can have sessions at all.
    pub sessions: bool,
    /// What its success changes for a client.
    pub effect: Effect,
    /// The answer.
    pub response: ResponseInfo,
}

/// What a command that succeeds changes of what a client keeps track of. Handles that it loads are in its answer; what a
/// policy command asks of its session is the session's matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Nothing.
    None,
    /// What the first parameter, a handle, names is no longer in the TPM.
    Flushes,
    /// The object `sequence_handle` is no longer in the TPM.
    EndsSequence,
    /// The first parameter is the new authorization value of the first entity, and proves the answer.
    SetsAuth,
    /// The authorization value of the first entity is empty, and so proves the answer; that of the platform stays.
    ClearsAuth,
}

/// One answer in the table.
#[derive(Clone, Copy, Debug)]
pub struct ResponseInfo {
    /// Name of the handle, if the answer has one.
    pub handle: Option<&'static str>,
    /// Names of the parameters.
    pub parameters: &'static [&'static str],
    /// Whether a session can encrypt the first parameter.
    pub first_parameter_sized: bool,
}

/// Something to be done with a command whose type is not known before its code is.
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it with the command `C`.
    fn visit<C: Command>(self) -> Self::Output;
}

/// Names the files by clause, each of which brings a part of the table: once for [`COMMANDS`], once for [`visit`].
macro_rules! clauses {
    ($($clause:ident),* $(,)?) => {
        const CLAUSES: &[&[CommandInfo]] = &[$($clause::TABLE),*];

        /// Lets `visitor` visit the command with this code; `None` if this crate does not know it.
        pub fn visit<V: Visitor>(code: CommandCode, visitor: V) -> Option<V::Output> {
            $(let visitor = match $clause::visit(code, visitor) {
                Ok(output) => return Some(output),
                Err(visitor) => visitor,
            };)*
            drop(visitor);
            None
        }
    };
}

clauses! {
    asymmetric, attestation, audit, capability, clock, component, context, dictionary, duplication,
    ephemeral, field_upgrade, hierarchy, miscellaneous, nv, object, pcr, policy, random, sequence,
    session, signature, startup, symmetric, testing, timer, vendor,
}

/// All commands that this crate knows, by code.
pub static COMMANDS: &[CommandInfo] = &sorted::<{ count() }>();

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a constant")]
const fn count() -> usize {
    let (mut count, mut clause) = (0, 0);
    while clause < CLAUSES.len() {
        count += CLAUSES[clause].len();
        clause += 1;
    }
    count
}

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a constant")]
const fn sorted<const N: usize>() -> [CommandInfo; N] {
    let mut table = [CLAUSES[0][0]; N];
    let (mut len, mut clause) = (0, 0);
    while clause < CLAUSES.len() {
        let mut row = 0;
        while row < CLAUSES[clause].len() {
            let info = CLAUSES[clause][row];
            let mut at = len;
            while at > 0 && table[at - 1].code.0 > info.code.0 {
                table[at] = table[at - 1];
                at -= 1;
            }
            table[at] = info;
            (len, row) = (len + 1, row + 1);
        }
        clause += 1;
    }
    table
}

/// The command with this code, if this crate knows it.
#[must_use]
pub fn by_code(code: CommandCode) -> Option<&'static CommandInfo> {
    let at = COMMANDS.binary_search_by_key(&code, |command| command.code).ok()?;
    COMMANDS.get(at)
}

/// The next entity of a handle area.
fn entity<E: Entity>(reader: &mut Reader<'_>, what: &'static str) -> Result<E, Malformed> {
    let at = reader.position();
    let handle = reader.read(what)?;
    E::from_handle(handle).map_err(|_| Malformed::new(Why::Value, at).named(what))
}

impl fmt::Display for CommandCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match by_code(*self) {
            Some(command) => f.write_str(command.name),
            None => write!(f, "TPM command {:#x}", self.0),
        }
    }
}

impl fmt::Debug for CommandCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
