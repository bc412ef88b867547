//! Part 3: the commands, in files by clause, and the table of all.

mod attestation;
mod capability;
mod context;
pub mod frame;
mod nv;
mod object;
mod pcr;
mod policy;
mod random;
mod session;
mod startup;

pub use attestation::{ActivateCredential, ActivateCredentialResponse, Sign, SignResponse};
pub use capability::{GetCapability, GetCapabilityResponse};
pub use context::{FlushContext, FlushContextResponse};
pub use nv::{NvRead, NvReadPublic, NvReadPublicResponse, NvReadResponse};
pub use object::{
    CreatePrimary, CreatePrimaryResponse, LoadExternal, LoadExternalResponse, ReadPublic,
    ReadPublicResponse, SensitiveArea,
};
pub use pcr::{PcrRead, PcrReadResponse};
pub use policy::{
    PolicyAuthValue, PolicyAuthValueResponse, PolicyAuthorize, PolicyAuthorizeNv,
    PolicyAuthorizeNvResponse, PolicyAuthorizeResponse, PolicyCapability, PolicyCapabilityResponse,
    PolicyCommandCode, PolicyCommandCodeResponse, PolicyCounterTimer, PolicyCounterTimerResponse,
    PolicyCpHash, PolicyCpHashResponse, PolicyDuplicationSelect, PolicyDuplicationSelectResponse,
    PolicyGetDigest, PolicyGetDigestResponse, PolicyLocality, PolicyLocalityResponse,
    PolicyNameHash, PolicyNameHashResponse, PolicyNv, PolicyNvResponse, PolicyNvWritten,
    PolicyNvWrittenResponse, PolicyOr, PolicyOrResponse, PolicyParameters,
    PolicyParametersResponse, PolicyPassword, PolicyPasswordResponse, PolicyPcr, PolicyPcrResponse,
    PolicyPhysicalPresence, PolicyPhysicalPresenceResponse, PolicySecret, PolicySecretResponse,
    PolicySigned, PolicySignedResponse, PolicyTemplate, PolicyTemplateResponse, PolicyTicket,
    PolicyTicketResponse, PolicyTransportSpdm, PolicyTransportSpdmResponse,
};
pub use random::{GetRandom, GetRandomResponse};
pub use session::{
    PolicyRestart, PolicyRestartResponse, StartAuthSession, StartAuthSessionResponse,
};
pub use startup::{SelfTest, SelfTestResponse, Shutdown, ShutdownResponse, Start, StartResponse};

use core::fmt;

use crate::types::{CommandCode, Entity, Handle};
use crate::wire::{Malformed, Reader, TooLarge, Writer};

/// A command of Part 3.
pub trait Command {
    /// What Part 3's table says of it.
    const INFO: CommandInfo;

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

    /// Reads the answer's parameter area; `handle` is the null handle if the answer has none.
    ///
    /// # Errors
    /// The answer is not what Part 3 says.
    fn unmarshal_response<'r>(
        handle: Handle,
        reader: &mut Reader<'r>,
    ) -> Result<Self::Response<'r>, Malformed>;
}

/// A command whose handle area asks for `N` authorizations: what lets the client take an array of that many.
pub trait Authorized<const N: usize>: Command {}

/// The answer to a command.
pub trait Response {
    /// What Part 3's table says of it.
    const INFO: ResponseInfo;

    /// Writes the parameter area as a TPM does: what was read and is written again must be the same octets.
    ///
    /// # Errors
    /// It does not fit.
    fn marshal_parameters(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge>;
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
    /// The answer.
    pub response: ResponseInfo,
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

/// All commands that this crate knows, by code.
pub static COMMANDS: &[CommandInfo] = &[
    <CreatePrimary<'static> as Command>::INFO,
    <SelfTest as Command>::INFO,
    <Start as Command>::INFO,
    <Shutdown as Command>::INFO,
    <ActivateCredential<'static> as Command>::INFO,
    <PolicyNv<'static> as Command>::INFO,
    <NvRead as Command>::INFO,
    <PolicySecret<'static> as Command>::INFO,
    <Sign<'static> as Command>::INFO,
    <PolicySigned<'static> as Command>::INFO,
    <FlushContext as Command>::INFO,
    <LoadExternal<'static> as Command>::INFO,
    <NvReadPublic as Command>::INFO,
    <PolicyAuthorize<'static> as Command>::INFO,
    <PolicyAuthValue as Command>::INFO,
    <PolicyCommandCode as Command>::INFO,
    <PolicyCounterTimer<'static> as Command>::INFO,
    <PolicyCpHash<'static> as Command>::INFO,
    <PolicyLocality as Command>::INFO,
    <PolicyNameHash<'static> as Command>::INFO,
    <PolicyOr<'static> as Command>::INFO,
    <PolicyTicket<'static> as Command>::INFO,
    <ReadPublic as Command>::INFO,
    <StartAuthSession<'static> as Command>::INFO,
    <GetCapability as Command>::INFO,
    <GetRandom as Command>::INFO,
    <PcrRead<'static> as Command>::INFO,
    <PolicyPcr<'static> as Command>::INFO,
    <PolicyRestart as Command>::INFO,
    <PolicyPhysicalPresence as Command>::INFO,
    <PolicyDuplicationSelect<'static> as Command>::INFO,
    <PolicyGetDigest as Command>::INFO,
    <PolicyPassword as Command>::INFO,
    <PolicyNvWritten as Command>::INFO,
    <PolicyTemplate<'static> as Command>::INFO,
    <PolicyAuthorizeNv as Command>::INFO,
    <PolicyCapability<'static> as Command>::INFO,
    <PolicyParameters<'static> as Command>::INFO,
    <PolicyTransportSpdm<'static> as Command>::INFO,
];

/// The command with this code, if this crate knows it.
#[must_use]
pub fn by_code(code: CommandCode) -> Option<&'static CommandInfo> {
    COMMANDS.iter().find(|command| command.code == code)
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
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_has_no_code_twice() {
        assert!(COMMANDS.windows(2).all(|pair| pair[0].code < pair[1].code));
    }

    #[test]
    fn the_table_reads_as_part_3_prints_it() {
        let create = by_code(CommandCode(0x131)).unwrap();
        assert_eq!(create.name, "TPM2_CreatePrimary");
        assert_eq!(create.handles, ["primary_handle"]);
        assert_eq!(create.authorizations, 1);
        assert_eq!(
            create.parameters,
            ["in_sensitive", "in_public", "outside_info", "creation_pcr"]
        );
        assert!(create.first_parameter_sized && create.response.first_parameter_sized);
        assert_eq!(create.response.handle, Some("object_handle"));
        let start = by_code(CommandCode(0x176)).unwrap();
        assert_eq!((start.handles.len(), start.authorizations), (2, 0));
        let read = by_code(CommandCode(0x14e)).unwrap();
        assert!(!read.first_parameter_sized && read.response.first_parameter_sized);
    }
}
