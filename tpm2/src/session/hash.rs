//! Digests of commands and answers: what policies restrict themselves to, and audits consist of. Part 1 §16 and §19.

use zeroize::Zeroize;

use crate::commands::{Command, Response};
use crate::crypto::HashAlg;
use crate::error::Fault;
use crate::types::{DigestBuf, Entity, ResponseCode};
use crate::wire::Writer;

/// cpHash = H(commandCode ‖ Names ‖ parameters): for `TPM2_PolicyCpHash`, and what agrees to one command only. `hash` is
/// the session's.
///
/// # Errors
/// [`Fault::Unnamed`] if an entity has no Name; [`Fault::TooLarge`].
pub fn cp_hash<C: Command>(hash: HashAlg, command: &C) -> Result<DigestBuf, Fault> {
    digest(hash, |writer| {
        writer.write(&C::INFO.code)?;
        names(command, writer)?;
        Ok(command.marshal_parameters(writer)?)
    })
}

/// rpHash = H(responseCode ‖ commandCode ‖ parameters) of a success: what an audit adds to a command's [`cp_hash`].
///
/// ```
/// use tpm2::commands::{GetRandom, GetRandomResponse};
/// use tpm2::crypto::HashAlg;
/// use tpm2::session::{cp_hash, rp_hash};
/// use tpm2::types::DigestBuf;
///
/// # fn audited(before: &DigestBuf, answer: &GetRandomResponse<'_>) -> Result<DigestBuf, tpm2::Fault> {
/// let hash = HashAlg::Sha256; // the session's
/// let cp_hash = cp_hash(hash, &GetRandom { bytes_requested: 16 })?;
/// let rp_hash = rp_hash::<GetRandom>(hash, answer)?;
/// let after = hash.digest(&[before.octets(), cp_hash.octets(), rp_hash.octets()]);
/// # Ok(after)
/// # }
/// ```
///
/// # Errors
/// [`Fault::TooLarge`].
pub fn rp_hash<C: Command>(hash: HashAlg, answer: &C::Response<'_>) -> Result<DigestBuf, Fault> {
    digest(hash, |writer| {
        writer.write(&ResponseCode::SUCCESS)?;
        writer.write(&C::INFO.code)?;
        Ok(answer.marshal_parameters(writer)?)
    })
}

/// nameHash = H(Names): for `TPM2_PolicyNameHash`.
///
/// # Errors
/// [`Fault::Unnamed`] if an entity has no Name.
pub fn name_hash<C: Command>(hash: HashAlg, command: &C) -> Result<DigestBuf, Fault> {
    digest(hash, |writer| names(command, writer))
}

/// pHash = H(commandCode ‖ parameters): for `TPM2_PolicyParameters`.
///
/// # Errors
/// [`Fault::TooLarge`].
pub fn parameter_hash<C: Command>(hash: HashAlg, command: &C) -> Result<DigestBuf, Fault> {
    digest(hash, |writer| {
        writer.write(&C::INFO.code)?;
        Ok(command.marshal_parameters(writer)?)
    })
}

fn digest(
    hash: HashAlg,
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), Fault>,
) -> Result<DigestBuf, Fault> {
    let mut octets = [0; 4096];
    let mut writer = Writer::new(&mut octets);
    write(&mut writer)?;
    let written = writer.into_written();
    let digest = hash.digest(&[written]);
    written.zeroize();
    Ok(digest)
}

fn names(command: &impl Command, writer: &mut Writer<'_>) -> Result<(), Fault> {
    let mut result = Ok(());
    command.entities(&mut |entity: &dyn Entity| {
        if result.is_ok() {
            let name = entity.name().ok_or(Fault::Unnamed);
            result = name.and_then(|name| Ok(writer.put(name.octets())?));
        }
    });
    result
}
