//! Converts TPM errors to failures with exit code and advice.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;

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
        _ => "start swtpm, or give the address of a TPM with --tpm or AGENT_TPM",
    };
    let mut failure = Failure::new(exit, format!("{error:#}"), advice);
    if let (io::ErrorKind::NotFound, Tcti::Device(path)) = (error.cause().kind(), error.address())
        && let Some(advice) = use_another_device(path)
    {
        failure.advice = advice;
    }
    failure
}

/// Advice for a path at which there is no device, if other TPM devices are in the same directory.
pub(crate) fn use_another_device(missing: &Path) -> Option<String> {
    let names = fs::read_dir(missing.parent()?).ok()?.flatten().map(|entry| entry.file_name());
    // A device of the resource manager (tpmrm0) is preferred to the raw one (tpm0).
    let device = names.filter(|name| is_device_name(&name.to_string_lossy())).max()?;
    let path = missing.with_file_name(device);
    Some(format!("use device:{}, or another one that `ls /dev/tpm*` lists", path.display()))
}

/// Names that the kernel gives to TPMs: `tpm0`, `tpmrm0`.
fn is_device_name(name: &str) -> bool {
    let number = name.strip_prefix("tpmrm").or_else(|| name.strip_prefix("tpm"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()))
}

/// A TPM command failed.
pub(crate) fn command<E: Error + 'static>(error: tpm2::Error<E>) -> Failure {
    let exit = match (error.refusal(), error.fault()) {
        (Some(ResponseCode::LOCKOUT | ResponseCode::NV_RATE), _) => Exit::Busy,
        (Some(code), _) if code.is_retry() || code.is_full() => Exit::Busy,
        (_, Fault::Forged | Fault::Malformed(_)) => Exit::Data,
        (_, Fault::Unwritten(_) | Fault::NoCertificate(_)) => Exit::Data,
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
            Fault::Transport => {
                "check that the device exists and is a TPM; see `dmesg | grep -i tpm`"
            }
            Fault::Unwritten(_) => "choose another endorsement key with --ek",
            Fault::NoCertificate(_) => {
                "choose another endorsement key with --ek, and report this to the TPM's vendor"
            }
            _ => "try another --ek; the TPM's configuration or firmware does not allow this one",
        }),
    };
    Failure::new(exit, format!("{error:#}"), advice)
}

#[cfg(test)]
mod tests {
    use tpm2::types::CommandCode;

    use super::*;

    #[test]
    fn advice_names_the_commands_of_this_program() {
        let forged = command::<io::Error>(tpm2::Error::new(CommandCode(0x17b), Fault::Forged));
        assert!(forged.to_string().contains("agent identify"), "{forged}");
        let absent: Tcti = "swtpm:path=/absent".parse().unwrap();
        let absent = open(&absent.open().err().expect("nothing listens there"));
        assert!(absent.to_string().contains("--tpm"), "{absent}");
    }

    #[test]
    fn missing_device_beside_others_is_answered_with_one_that_exists() {
        let dev = tempfile::tempdir().unwrap();
        let missing = dev.path().join("tpmrm7");
        let address = Tcti::Device(missing.clone());
        let advice = || open(&address.open().err().unwrap()).advice;
        assert!(advice().contains("firmware"), "{}", advice());
        fs::write(dev.path().join("tpmextra"), "").unwrap();
        assert_eq!(use_another_device(&missing), None);
        for (name, expected) in [("tpm0", "tpm0"), ("tpmrm0", "tpmrm0"), ("tpm1", "tpmrm0")] {
            fs::write(dev.path().join(name), "").unwrap();
            let expected = format!("use device:{}, ", dev.path().join(expected).display());
            assert!(advice().starts_with(&expected), "{}", advice());
        }
    }
}
