//! A key in the TPM.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use host::exit::{Exit, Failure};
use p256::ecdsa::VerifyingKey;
use zeroize::Zeroizing;

use super::{Key, Signing};
use crate::tpm::access::TpmAccess;
use crate::tpm::attester::KnownEk;
use crate::tpm::passwords::Passwords;
use crate::tpm::service_key::{KeyProof, ServiceKey, Used, ek_name_alg};
use crate::tpm::thread::Tpm;

/// A service's own P-256 key in the TPM, the same for all its certificates until it is rotated.
#[derive(Debug)]
pub struct TpmKey {
    key: Arc<ServiceKey>,
    tpm: TpmAccess,
    /// Whether the TPM could not load it.
    is_lost: AtomicBool,
}

impl TpmKey {
    /// A new key.
    ///
    /// # Errors
    /// The TPM's, or its owner hierarchy has a password that is not in the password file.
    pub async fn create(tpm: TpmAccess) -> Result<Self, Failure> {
        let key = with_tpm(&tpm, |tpm, passwords| ServiceKey::create(tpm, &passwords)).await?;
        Ok(Self { key: Arc::new(key), tpm, is_lost: AtomicBool::new(false) })
    }

    /// A key that was stored as PEM.
    ///
    /// # Errors
    /// Why it is not a key that the agent has created.
    pub fn stored(text: &str, tpm: TpmAccess) -> Result<Self, String> {
        let key = Arc::new(ServiceKey::from_pem(text)?);
        Ok(Self { key, tpm, is_lost: AtomicBool::new(false) })
    }

    /// Whether the TPM could not load it at its last use: it was cleared, or it is another TPM.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// What is stored of it, PEM.
    ///
    /// # Errors
    /// None for a key that was created or read.
    pub fn to_text(&self) -> Result<String, Failure> {
        self.key.to_pem()
    }

    /// Its public area, a `TPMT_PUBLIC`.
    ///
    /// # Errors
    /// None for a key that was created or read.
    pub fn public_area(&self) -> Result<Vec<u8>, Failure> {
        self.key.public_area()
    }

    /// The name algorithm of an EK of this TPM, a `TPM_ALG_ID`. The TPM is asked if the kind of the EK does not tell.
    ///
    /// # Errors
    /// The TPM's.
    pub async fn ek_name_alg(&self, ek: &KnownEk) -> Result<u16, Failure> {
        if let Some(name_alg) = ek.name_alg() {
            return Ok(name_alg);
        }
        let ek = ek.clone();
        let ask = move |tpm: &mut Tpm, passwords: Passwords| ek_name_alg(tpm, &ek, &passwords);
        with_tpm(&self.tpm, ask).await
    }

    /// Answers a challenge for this key and the EK: [`ServiceKey::prove`].
    ///
    /// # Errors
    /// The TPM's.
    pub async fn prove(
        &self,
        ek: KnownEk,
        credential_blob: Vec<u8>,
        encrypted_seed: Vec<u8>,
        mac: impl FnOnce(&[u8]) -> [u8; 32] + Send + 'static,
        digest: [u8; 32],
    ) -> Result<KeyProof<[u8; 32]>, Failure> {
        let key = Arc::clone(&self.key);
        let proof = with_tpm(&self.tpm, move |tpm, passwords| {
            let challenge = (credential_blob.as_slice(), encrypted_seed.as_slice());
            let mac = |secret: &tpm2::types::SecretBuf| mac(secret.expose());
            key.prove(tpm, &passwords, &ek, challenge, (mac, &digest))
        });
        self.used(proof.await?)
    }

    fn used<T>(&self, used: Used<T>) -> Result<T, Failure> {
        self.is_lost.store(matches!(used, Used::NotLoaded), Ordering::Relaxed);
        match used {
            Used::Done(done) => Ok(done),
            Used::NotLoaded => Err(Failure::new(
                Exit::Data,
                "the TPM cannot load the key: it was cleared, or it is another TPM",
                "wait until the agent has renewed the service with a new key",
            )),
        }
    }
}

impl Key for TpmKey {
    fn public(&self) -> VerifyingKey {
        *self.key.verifying_key()
    }

    fn sign<'k>(&'k self, digest: &'k [u8; 32]) -> Signing<'k> {
        let (key, digest) = (Arc::clone(&self.key), *digest);
        Box::pin(async move {
            let sign =
                move |tpm: &mut Tpm, passwords: Passwords| key.sign(tpm, &passwords, &digest);
            self.used(with_tpm(&self.tpm, sign).await?)
        })
    }

    fn is_in_tpm(&self) -> bool {
        true
    }

    fn scalar(&self) -> Option<Zeroizing<[u8; 32]>> {
        None
    }

    /// A `TSS2 PRIVATE KEY`, which is of use in this TPM only.
    fn to_pem(&self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        Ok(Zeroizing::new(self.to_text()?.into_bytes()))
    }
}

/// Opens the TPM for one piece of work.
async fn with_tpm<R: Send + 'static>(
    access: &TpmAccess,
    work: impl FnOnce(&mut Tpm, Passwords) -> Result<R, Failure> + Send + 'static,
) -> Result<R, Failure> {
    let passwords = access.passwords().await?;
    let open = access.open().await?;
    let result = open.thread.call(move |tpm| work(tpm, passwords)).await;
    open.close().await;
    result
}
