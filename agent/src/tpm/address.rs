//! Where the agent looks for a TPM.

use tpm2::transport::{Tcti, TctiError};

/// Reads the address of a device or of swtpm. Others are refused, whatever the library was built with: the agent is root and
/// its address may come from the environment, so it runs no command (`cmd:`) to reach a TPM.
///
/// # Errors
/// Not an address, or one of another kind.
pub fn address(text: &str) -> Result<Tcti, TctiError> {
    match text.parse()? {
        tcti @ (Tcti::Device(_) | Tcti::SwtpmTcp { .. } | Tcti::SwtpmUnix(_)) => Ok(tcti),
        _ => {
            let (kind, _) = text.split_once(':').unwrap_or((text, ""));
            Err(TctiError::Unsupported(kind.to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_and_swtpm_are_addresses() {
        for text in ["/dev/tpm0", "device:/dev/tpmrm0", "swtpm:port=1", "swtpm:path=/run/tpm"] {
            address(text).unwrap();
        }
        for text in ["cmd:touch /tmp/x", "mssim:", "mssim", "tbs", "tabrmd:", ""] {
            address(text).unwrap_err();
        }
    }
}
