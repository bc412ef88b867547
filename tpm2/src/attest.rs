//! What a TPM attests: values of PCRs, objects that it holds, objects that it created. Part 3 §18.
//!
//! The key signs by its own scheme, so it must have one, as every restricted key does.
//!
//! A quote; the crate `verifier` checks it, and the event log against it:
//!
//! ```no_run
//! use tpm2::Tpm;
//! use tpm2::attest::{Signer, quote};
//! use tpm2::object::create_primary;
//! use tpm2::session::Auth;
//! use tpm2::template::AK_P256;
//! use tpm2::types::{Alg, Hierarchy, PcrBits, SensitiveCreate};
//!
//! let mut tpm = Tpm::open("device:/dev/tpmrm0")?;
//! let (hierarchy, none) = (Hierarchy::Endorsement, SensitiveCreate::EMPTY);
//! let (ak, _) = create_primary(&mut tpm, hierarchy, Auth::EMPTY, &AK_P256, none)?;
//!
//! let nonce = [0x5a; 32]; // from the verifier
//! let selected = PcrBits::of(&[0, 2, 4, 7]).ok_or("not a PCR")?;
//! let signer = Signer { key: ak.object(), auth: Auth::EMPTY };
//! let quoted = quote(&mut tpm, signer, &nonce, &[selected.bank(Alg::SHA256)])?;
//! // `quoted.attest` and `quoted.signature` go to the verifier.
//! # let _ = quoted;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::client::Tpm;
use crate::commands::{Certify, CertifyCreation, Quote};
use crate::error::Error;
#[cfg(doc)]
use crate::error::Fault;
use crate::object::Creation;
use crate::session::Auth;
use crate::transport::Transport;
use crate::types::{AsymScheme, AttestData, Data, Object, Octets, PcrSelection, Signature};
use crate::wire::{List, TooLarge};

/// What a TPM attested, in the form that a verifier needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    /// `TPMS_ATTEST`.
    pub attest: Octets<1024>,
    /// `TPMT_SIGNATURE`.
    pub signature: Octets<640>,
}

impl Attestation {
    fn new(attest: AttestData<'_>, signature: &Signature<'_>) -> Result<Self, TooLarge> {
        Ok(Self { attest: Octets::new(attest.octets())?, signature: Octets::of(signature)? })
    }
}

/// A key that signs, and what authorizes that.
#[derive(Debug)]
pub struct Signer<'s> {
    /// The key.
    pub key: Object,
    /// Its authorization.
    pub auth: Auth<'s>,
}

/// Quotes the selected PCRs. `nonce` is what the verifier sent, at most 64 octets; 32 are what every TPM takes.
///
/// # Errors
/// As [`Tpm::run`]; [`Fault::TooLong`] if `nonce` is too long.
#[doc(alias = "TPM2_Quote")]
pub fn quote<T: Transport>(
    tpm: &mut Tpm<T>,
    signer: Signer<'_>,
    nonce: &[u8],
    pcrs: &[PcrSelection<'_>],
) -> Result<Attestation, Error<T::Error>> {
    let nonce = Data::new(nonce).map_err(Error::of::<Quote<'_>>)?;
    let command = Quote::of(signer.key, nonce, List::new(pcrs));
    let answer = tpm.run(&command, [signer.auth])?;
    Attestation::new(answer.quoted, &answer.signature).map_err(Error::of::<Quote<'_>>)
}

/// Certifies that the TPM holds `object`, whose use `auth` authorizes in the ADMIN role.
///
/// # Errors
/// As [`quote`].
#[doc(alias = "TPM2_Certify")]
pub fn certify<T: Transport>(
    tpm: &mut Tpm<T>,
    signer: Signer<'_>,
    nonce: &[u8],
    object: Object,
    auth: Auth<'_>,
) -> Result<Attestation, Error<T::Error>> {
    let nonce = Data::new(nonce).map_err(Error::of::<Certify<'_>>)?;
    let command = Certify::of(object, signer.key, nonce);
    let answer = tpm.run(&command, [auth, signer.auth])?;
    Attestation::new(answer.certify_info, &answer.signature).map_err(Error::of::<Certify<'_>>)
}

/// Certifies that the TPM created `object`.
///
/// # Errors
/// As [`quote`].
#[doc(alias = "TPM2_CertifyCreation")]
pub fn certify_creation<T: Transport>(
    tpm: &mut Tpm<T>,
    signer: Signer<'_>,
    nonce: &[u8],
    object: Object,
    creation: &Creation,
) -> Result<Attestation, Error<T::Error>> {
    let command = CertifyCreation {
        sign_handle: Some(signer.key),
        object_handle: object,
        qualifying_data: Data::new(nonce).map_err(Error::of::<CertifyCreation<'_>>)?,
        creation_hash: creation.hash().into(),
        in_scheme: AsymScheme::Null,
        creation_ticket: creation.ticket().into(),
    };
    let answer = tpm.run(&command, [signer.auth])?;
    Attestation::new(answer.certify_info, &answer.signature)
        .map_err(Error::of::<CertifyCreation<'_>>)
}
