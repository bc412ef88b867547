//! The certificate of an endorsement key, in NV memory.

use host::exit::{Exit, Failure};
use tpm2::endorsement::{self, EkKind};
use tpm2::transport::Transport;
use tpm2::{Fault, Tpm};
use verifier::EkCertificate;

use crate::tpm::passwords::Passwords;

/// What the NV index for a certificate holds.
pub(super) enum Stored {
    /// There is no index.
    Absent,
    /// Nothing was ever written to it.
    Unwritten(Failure),
    Certificate(Box<EkCertificate>),
}

impl Stored {
    /// The certificate, if the TPM has one, for a caller that asks for no other.
    ///
    /// # Errors
    /// Nothing was ever written.
    pub(super) fn certificate(self) -> Result<Option<EkCertificate>, Failure> {
        match self {
            Self::Absent => Ok(None),
            Self::Unwritten(failure) => Err(failure),
            Self::Certificate(certificate) => Ok(Some(*certificate)),
        }
    }
}

/// Reads the certificate of a key of this kind.
///
/// # Errors
/// The TPM's, or what it holds is no certificate.
pub(super) fn read<T: Transport>(
    tpm: &mut Tpm<T>,
    kind: &EkKind,
    passwords: &Passwords,
) -> Result<Stored, Failure> {
    let der = match endorsement::certificate(tpm, kind, passwords.as_tpm()) {
        Ok(Some(der)) => der,
        Ok(None) => return Ok(Stored::Absent),
        Err(error) if matches!(error.fault(), Fault::Unwritten(_)) => {
            return Ok(Stored::Unwritten(passwords.explain(error)));
        }
        Err(error) => return Err(passwords.explain(error)),
    };
    EkCertificate::parse(&der).map(Box::new).map(Stored::Certificate).map_err(|error| {
        Failure::new(
            Exit::Data,
            format!("the EK certificate at NV index {:#010x} ({kind}): {error}", kind.certificate.0),
            "choose another endorsement key with --ek, and report the certificate to the TPM's vendor",
        )
    })
}
