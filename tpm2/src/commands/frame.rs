//! Whole commands and answers, for users without sessions: firmware, boot loaders, readers of recordings. Needs no
//! feature of this crate. Part 1 §18.
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

use super::{Authorized, Command, Response};
use crate::types::{AuthValue, Handle, Nonce, ResponseCode, SessionAttributes, Structure};
use crate::wire::{Malformed, Reader, TooLarge, Why, Writer};

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
            writer.write(&Handle::PASSWORD)?;
            writer.write(&Nonce::EMPTY)?;
            writer.write(&SessionAttributes::CONTINUE_SESSION)?;
            writer.write(password)?;
        }
    }
    command.marshal_parameters(&mut writer)?;
    let len = writer.len();
    writer.patch(2, &u32::try_from(len).map_err(|_| TooLarge)?.to_be_bytes())?;
    Ok(len)
}

/// The parts of an answer, as they lie on the wire.
#[derive(Clone, Copy, Debug)]
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
        let mut reader = Reader::new(octets);
        let tag: Structure = reader.read("tag")?;
        let size: u32 = reader.read("size")?;
        if usize::try_from(size) != Ok(octets.len()) {
            return Err(Malformed::new(Why::Unexpected, 2).named("size"));
        }
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
                let len: u32 = reader.read("parameter size")?;
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                answer.parameters = reader.take(len).map_err(|cause| cause.named("parameters"))?;
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
}
