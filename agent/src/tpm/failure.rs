//! What a failure of the TPM means for the one who runs a command.

use std::io;

use host::exit::{Exit, Failure};
use tpm2::Fault;
use tpm2::transport::{OpenError, Tcti};
use tpm2::types::ResponseCode;

/// The TPM cannot be opened.
pub(crate) fn open(error: &OpenError) -> Failure {
    let exit = match error.cause().kind() {
        io::ErrorKind::PermissionDenied => Exit::Permission,
        io::ErrorKind::ResourceBusy => Exit::Busy,
        _ => Exit::Io,
    };
    let advice = match error.address() {
        Tcti::Device(_) => error.advice(),
        Tcti::SwtpmTcp { .. } | Tcti::SwtpmUnix(_) => {
            "start swtpm, or give the address of a TPM with --tpm or AGENT_TPM"
        }
    };
    Failure::new(exit, error.to_string(), advice)
}

/// A TPM command failed.
pub(crate) fn command(error: tpm2::Error) -> Failure {
    let exit = match (error.refusal(), error.fault()) {
        (Some(ResponseCode::LOCKOUT | ResponseCode::NV_RATE), _) => Exit::Busy,
        (Some(code), _) if code.is_retry() || code.is_full() => Exit::Busy,
        (_, Fault::Forged | Fault::Malformed(_) | Fault::Unwritten(_)) => Exit::Data,
        (_, Fault::TooLarge | Fault::TooLong(_) | Fault::Unnamed | Fault::Unprotectable(_)) => {
            Exit::Bug
        }
        _ => Exit::Io,
    };
    let is_busy = error.refusal().is_some_and(ResponseCode::is_retry);
    let advice = match error.fault() {
        Fault::Forged => {
            "compare `agent identify` with the records of this machine: the TPM does not have the \
             expected endorsement key, or its bus is tampered with"
        }
        fault => error.advice().unwrap_or(match fault {
            _ if is_busy => "wait until it has finished; another program may be using it",
            Fault::Transport(_) => {
                "check that the device exists and is a TPM; see `dmesg | grep -i tpm`"
            }
            Fault::Unwritten(_) => "choose another endorsement key with --ek",
            _ => "try another --ek; the TPM's configuration or firmware does not allow this one",
        }),
    };
    Failure::new(exit, error.to_string(), advice)
}

#[cfg(test)]
mod tests {
    use tpm2::types::CommandCode;

    use super::*;

    #[test]
    fn advice_names_the_commands_of_this_program() {
        let forged = command(tpm2::Error::new(CommandCode(0x17b), Fault::Forged));
        assert!(forged.to_string().contains("agent identify"), "{forged}");
        let absent: Tcti = "swtpm:path=/absent".parse().unwrap();
        let absent = open(&absent.open().err().expect("nothing listens there"));
        assert!(absent.to_string().contains("--tpm"), "{absent}");
    }
}
