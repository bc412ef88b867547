//! Whole commands and answers, for users without sessions: firmware, boot loaders, and readers of recordings, to whom
//! [`show`] annotates them. Needs no feature of this crate. Part 1 §18.
//!
//! ```
//! use tpm2::commands::frame::{self, Answer};
//! use tpm2::commands::GetRandom;
//!
//! let mut buffer = [0; 64];
//! let len = frame::marshal(&GetRandom { bytes_requested: 4 }, [], &mut buffer)?;
//! assert_eq!(buffer[..len], [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7b, 0, 4]);
//!
//! let octets = [0x80, 0x01, 0, 0, 0, 16, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4];
//! let answer = Answer::split::<GetRandom>(&octets)?;
//! assert_eq!(answer.read::<GetRandom>()?.random_bytes.octets(), [1, 2, 3, 4]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use core::fmt;

use super::{Authorized, Command, Response, Visitor, by_code, visit};
use crate::types::{
    AuthCommand, AuthResponse, AuthValue, CommandCode, Handle, ResponseCode, SessionAttributes,
    Structure,
};
use crate::wire::{Malformed, Reader, TooLarge, Unmarshal, Why, Writer};

/// Writes a command, each of whose `@` handles is authorized by a password, and returns its length.
///
/// # Errors
/// `buffer` is too small.
pub fn marshal<C: Authorized<N>, const N: usize>(
    command: &C,
    passwords: [AuthValue<'_>; N],
    buffer: &mut [u8],
) -> Result<usize, TooLarge> {
    let mut writer = Writer::new(buffer);
    let tag = if passwords.is_empty() { Structure::NO_SESSIONS } else { Structure::SESSIONS };
    writer.write(&tag)?;
    writer.write(&u32::MAX)?;
    writer.write(&C::INFO.code)?;
    command.marshal_handles(&mut writer)?;
    if !passwords.is_empty() {
        const EACH: usize = 9;
        let size = passwords.iter().map(|password| EACH.saturating_add(password.octets().len()));
        writer.write(&u32::try_from(size.sum::<usize>()).map_err(|_| TooLarge)?)?;
        for password in &passwords {
            writer.write(&AuthCommand::password(*password))?;
        }
    }
    command.marshal_parameters(&mut writer)?;
    let len = writer.len();
    writer.patch(2, &u32::try_from(len).map_err(|_| TooLarge)?.to_be_bytes())?;
    Ok(len)
}

/// The code of a command, as far as there is one.
#[must_use]
pub fn code(command: &[u8]) -> Option<CommandCode> {
    number(command).map(CommandCode)
}

/// The code of an answer, as far as there is one.
#[must_use]
pub fn response_code(answer: &[u8]) -> Option<ResponseCode> {
    number(answer).map(ResponseCode)
}

/// What stands behind tag and size.
fn number(octets: &[u8]) -> Option<u32> {
    octets.get(6..).and_then(<[u8]>::first_chunk).map(|octets| u32::from_be_bytes(*octets))
}

/// The parts of a command, as they lie on the wire.
#[derive(Clone, Copy)]
pub struct Question<'c> {
    /// The command.
    pub code: CommandCode,
    /// The handles.
    pub handles: &'c [u8],
    /// The authorizations without their size; empty without any.
    pub authorizations: &'c [u8],
    /// The parameters, the first of them encrypted if a session did so.
    pub parameters: &'c [u8],
}

impl<'c> Question<'c> {
    /// Splits a command into its parts. Nothing is authenticated.
    ///
    /// # Errors
    /// The octets are no command, more than one, or a command that this crate does not know: how many handles it has
    /// depends on its code.
    pub fn split(octets: &'c [u8]) -> Result<Self, Malformed> {
        let (tag, mut reader) = header(octets)?;
        let at = reader.position();
        let code = reader.read("command code")?;
        let unknown = Malformed::new(Why::Selector, at).named("command code");
        let handles = by_code(code).ok_or(unknown)?.handles.len().saturating_mul(size_of::<u32>());
        let handles = reader.take(handles).map_err(|malformed| malformed.named("handles"))?;
        let authorizations = match tag {
            Structure::NO_SESSIONS => &[],
            Structure::SESSIONS => sized_area(&mut reader, "authorizations")?,
            _ => return Err(Malformed::new(Why::Unexpected, 0).named("tag")),
        };
        let mut rest = Reader::new(authorizations);
        while !rest.is_empty() {
            AuthCommand::unmarshal(&mut rest)?;
        }
        Ok(Self { code, handles, authorizations, parameters: reader.take_rest() })
    }

    /// The authorizations in order.
    pub fn auths(&self) -> impl Iterator<Item = AuthCommand<'c>> + use<'c> {
        each(self.authorizations)
    }

    /// Whether a session has encrypted the first parameter.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.auths().any(|auth| auth.session_attributes.contains(SessionAttributes::DECRYPT))
    }

    /// Reads handles and parameters as a TPM does.
    ///
    /// # Errors
    /// They do not have the form of `C` in Part 3, which an encrypted parameter need not have.
    pub fn read<C: Command>(&self) -> Result<C::As<'c>, Malformed> {
        let mut handles = Reader::new(self.handles);
        Reader::all(self.parameters, |parameters| C::unmarshal(&mut handles, parameters))
    }
}

/// What is in it may be secret.
impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("code", &self.code).finish_non_exhaustive()
    }
}

/// The parts of an answer, as they lie on the wire.
#[derive(Clone, Copy)]
pub struct Answer<'r> {
    /// Whether the TPM did it. If not, the rest is empty.
    pub code: ResponseCode,
    /// The handle; the null handle if absent.
    pub handle: Handle,
    /// The parameters, encrypted if a session did so.
    pub parameters: &'r [u8],
    /// The authorizations; empty without any.
    pub authorizations: &'r [u8],
}

impl<'r> Answer<'r> {
    /// Splits the answer to a command `C` into its parts. Nothing is authenticated.
    ///
    /// # Errors
    /// The octets are no answer, or more than one.
    pub fn split<C: Command>(octets: &'r [u8]) -> Result<Self, Malformed> {
        let (tag, mut reader) = header(octets)?;
        let code: ResponseCode = reader.read("response code")?;
        let mut answer = Self { code, handle: Handle::NULL, parameters: &[], authorizations: &[] };
        if code != ResponseCode::SUCCESS {
            reader.finish().map_err(|malformed| malformed.named("refusal"))?;
            return Ok(answer);
        }
        if let Some(name) = <C::Response<'static> as Response>::INFO.handle {
            answer.handle = reader.read(name)?;
        }
        match tag {
            Structure::NO_SESSIONS => answer.parameters = reader.take_rest(),
            Structure::SESSIONS => {
                answer.parameters = sized_area(&mut reader, "parameters")?;
                answer.authorizations = reader.take_rest();
            }
            _ => return Err(Malformed::new(Why::Unexpected, 0).named("tag")),
        }
        Ok(answer)
    }

    /// Reads the parameters of a success.
    ///
    /// # Errors
    /// They do not have the form of `C` in Part 3, or are missing because the TPM refused.
    pub fn read<C: Command>(&self) -> Result<C::Response<'r>, Malformed> {
        if self.code != ResponseCode::SUCCESS {
            return Err(Malformed::new(Why::Unexpected, 6).named("response code"));
        }
        Reader::all(self.parameters, |reader| C::unmarshal_response(self.handle, reader))
    }

    /// The authorizations in order, as far as they have the form of Part 2.
    pub fn auths(&self) -> impl Iterator<Item = AuthResponse<'r>> + use<'r> {
        each(self.authorizations)
    }

    /// Whether a session has encrypted the first parameter.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.auths().any(|auth| auth.session_attributes.contains(SessionAttributes::ENCRYPT))
    }
}

/// What is in it may be secret.
impl fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Answer");
        shown.field("code", &self.code).field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// The tag of a message, which is as long as it says, and a reader behind its size.
fn header(octets: &[u8]) -> Result<(Structure, Reader<'_>), Malformed> {
    let mut reader = Reader::new(octets);
    let tag = reader.read("tag")?;
    let at = reader.position();
    let size: u32 = reader.read("size")?;
    if usize::try_from(size) != Ok(octets.len()) {
        return Err(Malformed::new(Why::Unexpected, at).named("size"));
    }
    Ok((tag, reader))
}

/// An area behind its size in 32 bits.
fn sized_area<'a>(reader: &mut Reader<'a>, what: &'static str) -> Result<&'a [u8], Malformed> {
    let size: u32 = reader.read(what)?;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    reader.take(size).map_err(|malformed| malformed.named(what))
}

/// The values that an area consists of, up to one that is malformed.
fn each<'a, T: Unmarshal<'a>>(area: &'a [u8]) -> impl Iterator<Item = T> + use<'a, T> {
    let mut reader = Reader::new(area);
    core::iter::from_fn(move || T::unmarshal(&mut reader).ok())
}

/// A command and its answer in words, with their values: a line for the command, one for each authorization, and the
/// same for the answer. As in the `Debug` of commands and answers, secrets are hidden: authorization values and HMACs, sensitive areas,
/// what is sealed or unsealed, plaintexts, random bytes, and the content of NV indices. `{:#}` has a line for each field.
///
/// Nothing is authenticated. What is malformed is said to be so, and so is a parameter that a session has encrypted.
///
/// ```
/// # use tpm2::commands::{GetRandom, frame};
/// # let mut buffer = [0; 64];
/// # let len = frame::marshal(&GetRandom { bytes_requested: 4 }, [], &mut buffer)?;
/// let answer = [0x80, 0x01, 0, 0, 0, 16, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4];
/// assert_eq!(
///     frame::show(&buffer[..len], &answer).to_string(),
///     "TPM2_GetRandom: GetRandom { bytes_requested: 4 }\n  answer: GetRandomResponse { random_bytes: .. }",
/// );
/// # Ok::<(), tpm2::wire::TooLarge>(())
/// ```
#[must_use]
pub const fn show<'o>(command: &'o [u8], answer: &'o [u8]) -> Shown<'o> {
    Shown { command, answer }
}

/// See [`show`].
#[derive(Clone, Copy)]
pub struct Shown<'o> {
    command: &'o [u8],
    answer: &'o [u8],
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let question = match Question::split(self.command) {
            Ok(question) => question,
            Err(malformed) => return write!(f, "a malformed command: {malformed}"),
        };
        let values = Values { f, question, answer: self.answer };
        visit(question.code, values).unwrap_or(Err(fmt::Error))
    }
}

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Shows a command once its type is known.
struct Values<'f, 'b, 'o> {
    f: &'f mut fmt::Formatter<'b>,
    question: Question<'o>,
    answer: &'o [u8],
}

impl Visitor for Values<'_, '_, '_> {
    type Output = fmt::Result;

    fn visit<C: Command>(self) -> fmt::Result {
        let Self { f, question, answer } = self;
        write!(f, "{}: ", C::INFO.name)?;
        if question.is_encrypted() && C::INFO.first_parameter_sized {
            let mut handles = Reader::new(question.handles);
            C::show_encrypted(&mut handles, &mut Reader::new(question.parameters), f)?;
        } else {
            value(f, question.read::<C>())?;
        }
        for (number, auth) in (1..).zip(question.auths()) {
            write!(f, "\n  authorization {number}: ")?;
            value(f, Ok(auth))?;
        }
        f.write_str("\n  answer: ")?;
        let answer = match Answer::split::<C>(answer) {
            Ok(answer) => answer,
            Err(malformed) => return write!(f, "malformed: {malformed}"),
        };
        if answer.code != ResponseCode::SUCCESS {
            return write!(f, "{}: {}", answer.code, answer.code.meaning());
        }
        if answer.is_encrypted() && <C::Response<'static> as Response>::INFO.first_parameter_sized {
            let mut parameters = Reader::new(answer.parameters);
            C::Response::show_encrypted(answer.handle, &mut parameters, f)?;
        } else {
            value(f, answer.read::<C>())?;
        }
        for (number, auth) in (1..).zip(answer.auths()) {
            write!(f, "\n  authorization {number}: ")?;
            value(f, Ok(auth))?;
        }
        Ok(())
    }
}

/// A value, on one line unless more are asked for.
fn value(f: &mut fmt::Formatter<'_>, value: Result<impl fmt::Debug, Malformed>) -> fmt::Result {
    match value {
        Ok(value) if f.alternate() => write!(f, "{value:#?}"),
        Ok(value) => write!(f, "{value:?}"),
        Err(malformed) => write!(f, "malformed: {malformed}"),
    }
}
