//! The certificates of CAs that the TPM holds.

use std::sync::{Mutex, PoisonError};

use host::exit::Failure;
use verifier::{CaCertificate, EkCertificate};

use crate::tpm::inventory;
use crate::tpm::passwords::Passwords;
use crate::tpm::thread::{Tpm, TpmThread};

/// The CA certificates that the TPM holds, read only once: each NV index costs two commands, and any server that refuses a host
/// before its proof makes the agent read them.
#[derive(Debug, Default)]
pub(super) struct StoredChain(Mutex<Option<Known>>);

#[derive(Debug)]
struct Known {
    /// The certificate of the TPM's EK.
    ek: Vec<u8>,
    chain: Vec<CaCertificate>,
}

impl StoredChain {
    /// The certificates; none if the TPM has none.
    ///
    /// # Errors
    /// The TPM's.
    pub(super) async fn read(
        &self,
        tpm: &TpmThread,
        ek: &EkCertificate,
        passwords: Passwords,
    ) -> Result<Vec<CaCertificate>, Failure> {
        if let Some(chain) = self.known(ek) {
            return Ok(chain);
        }
        let read = move |tpm: &mut Tpm| inventory::chain(tpm, &passwords);
        let (chain, remarks) = tpm.call(read).await?;
        remarks.iter().for_each(|remark| tpm.remark(remark));
        let known = Known { ek: ek.der().to_vec(), chain: chain.clone() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(chain)
    }

    fn known(&self, ek: &EkCertificate) -> Option<Vec<CaCertificate>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|known| known.ek == ek.der()).map(|known| known.chain.clone())
    }
}
