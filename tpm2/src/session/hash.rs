//! Digests of a command that policies restrict themselves to. Part 1 §16 and §19.

use zeroize::Zeroize;

use crate::commands::Command;
use crate::crypto::HashAlg;
use crate::error::Fault;
use crate::types::{DigestBuf, Entity};
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
