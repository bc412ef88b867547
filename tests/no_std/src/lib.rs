//! What firmware does with a TPM, over a transport and a source of randomness of its own. Neither this crate nor what it depends on
//! links std or alloc: `cargo xtask check` compiles it by itself.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

use tpm2::commands::Sign;
use tpm2::crypto::{HashAlg, NoRandomness, PolicyError};
use tpm2::nv::{Access, By, Index};
use tpm2::object::{self, Loaded, create_primary};
use tpm2::pcr::{self, PcrValue};
use tpm2::policy::{Policy, Step};
use tpm2::seal::{seal, unseal};
use tpm2::session::{Auth, NewSession};
use tpm2::template::{SRK_P256, ecc_signing};
use tpm2::transport::Transport;
use tpm2::types::{
    Alg, AuthValue, Curve, Digest, Handle, Hierarchy, NvAttributes, NvPublic, PcrBits, Provision,
    SensitiveCreate,
};
use tpm2::wire::{List, Malformed};
use tpm2::{Error, Tpm};

/// Two wires and a TPM at their end: the host gives a function that does one exchange.
pub struct Bus<F>(
    /// Writes the answer to the front of the second slice and returns its length; `None` if the bus fails.
    pub F,
);

/// The bus fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusError;

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no answer on the bus")
    }
}

impl core::error::Error for BusError {}

impl<F: FnMut(&[u8], &mut [u8]) -> Option<usize>> Transport for Bus<F> {
    type Error = BusError;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, BusError> {
        (self.0)(command, response).ok_or(BusError)
    }
}

/// What goes wrong.
#[derive(Debug)]
pub enum Failure {
    /// A command.
    Tpm(Error<BusError>),
    /// A policy has no digest.
    Policy(PolicyError),
    /// A public area that was kept cannot be read.
    Malformed(Malformed),
    /// The TPM gave back other data.
    OtherData,
}

impl From<Error<BusError>> for Failure {
    fn from(error: Error<BusError>) -> Self {
        Self::Tpm(error)
    }
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        Self::Policy(error)
    }
}

impl From<Malformed> for Failure {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tpm(error) => error.fmt(f),
            Self::Policy(error) => error.fmt(f),
            Self::Malformed(error) => error.fmt(f),
            Self::OtherData => f.write_str("the TPM gave back other data"),
        }
    }
}

impl core::error::Error for Failure {}

/// Everything, with one client.
///
/// # Errors
/// See [`Failure`].
pub fn run(
    exchange: impl FnMut(&[u8], &mut [u8]) -> Option<usize>,
    random: impl FnMut(&mut [u8]) -> Result<(), NoRandomness>,
) -> Result<(), Failure> {
    let mut tpm = Tpm::with_random(Bus(exchange), random);
    sign(&mut tpm)?;
    store(&mut tpm)?;
    seal_to_pcr(&mut tpm)?;
    Ok(tpm.flush_all()?)
}

fn srk<T: Transport<Error = BusError>>(tpm: &mut Tpm<T>) -> Result<Loaded, Error<BusError>> {
    let (owner, empty) = (Hierarchy::Owner, SensitiveCreate::EMPTY);
    create_primary(tpm, owner, Auth::EMPTY, &SRK_P256, empty).map(|(srk, _)| srk)
}

/// A key with an authorization value, which an HMAC session proves.
fn sign<T: Transport<Error = BusError>>(tpm: &mut Tpm<T>) -> Result<(), Failure> {
    const VALUE: &[u8] = b"value";
    let srk = srk(tpm)?;
    let sensitive =
        SensitiveCreate { user_auth: AuthValue::from(b"value"), ..SensitiveCreate::EMPTY };
    let template = ecc_signing(Curve::NIST_P256, Alg::SHA256);
    let (wrapped, _) = object::create(tpm, srk.object(), Auth::EMPTY, &template, sensitive)?;
    let key = object::load(tpm, srk.object(), Auth::EMPTY, &wrapped)?;
    let digest = HashAlg::Sha256.digest(&[b"message"]);
    let mut session = tpm.start(&NewSession::hmac(HashAlg::Sha256))?;
    let command = Sign::digest(key.object(), (&digest).into());
    tpm.run(&command, [session.auth(VALUE)])?;
    tpm.run(&command, [session.last_auth(VALUE)])?;
    tpm.flush(key.handle())?;
    Ok(tpm.flush(srk.handle())?)
}

/// An NV index, under a session that is salted to a key.
fn store<T: Transport<Error = BusError>>(tpm: &mut Tpm<T>) -> Result<(), Failure> {
    let srk = srk(tpm)?;
    let public = NvPublic {
        index: Handle(0x0150_0020),
        name_alg: Alg::SHA256,
        attributes: NvAttributes::AUTHREAD | NvAttributes::AUTHWRITE | NvAttributes::NO_DA,
        auth_policy: Digest::EMPTY,
        data_size: 4,
    };
    let value = AuthValue::from(b"value");
    let mut index = Index::define(tpm, Provision::Owner, Auth::EMPTY, &public, value)?;
    let salt = srk.salt_key()?;
    let mut session = tpm.start(&NewSession::hmac(HashAlg::Sha256).salted(&salt))?;
    let mut access = Access::by_session(By::Index, session.session(), b"value");
    index.write(tpm, &mut access, b"boot")?;
    let mut read = [0; 8];
    let len = index.read_into(tpm, &mut access, &mut read)?;
    if read.get(..len) != Some(b"boot") {
        return Err(Failure::OtherData);
    }
    tpm.end(session)?;
    index.undefine(tpm, Provision::Owner, Auth::EMPTY)?;
    Ok(tpm.flush(srk.handle())?)
}

/// Data that come back as long as a PCR holds what it holds now.
fn seal_to_pcr<T: Transport<Error = BusError>>(tpm: &mut Tpm<T>) -> Result<(), Failure> {
    let srk = srk(tpm)?;
    let selected = PcrBits::of(&[7]).ok_or(Failure::OtherData)?;
    let pcrs = [selected.bank(Alg::SHA256)];
    let mut values = [PcrValue::EMPTY; 1];
    let now = pcr::digest_of(HashAlg::Sha256, pcr::read_into(tpm, &pcrs, &mut values)?);
    let steps = [Step::Pcr { pcrs: List::new(&pcrs), digest: (&now).into() }, Step::AuthValue];
    let policy = Policy::new(&steps);
    let digest = policy.digest(HashAlg::Sha256)?;
    let sealed = seal(tpm, &srk, Auth::EMPTY, b"secret", &digest, b"PIN")?;
    let data = unseal(tpm, &srk, Auth::EMPTY, &sealed, &policy, b"PIN")?;
    if data.expose() != b"secret" {
        return Err(Failure::OtherData);
    }
    Ok(tpm.flush(srk.handle())?)
}
