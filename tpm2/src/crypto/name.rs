//! Names. Part 1 §16.

use core::fmt;

use super::HashAlg;
use crate::types::{Alg, NameBuf, NvPublic, Public, Template};
use crate::wire::{Marshal, Writer};

/// A public area that can have no Name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// The name algorithm is the null algorithm, or no hash that this crate computes.
    NameAlg(Alg),
    /// The public area is larger than any that the specification describes.
    TooLarge,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameAlg(alg) => write!(f, "no Name can be made with name algorithm {alg:?}"),
            Self::TooLarge => f.write_str("the public area is too large to have a Name"),
        }
    }
}

impl core::error::Error for NameError {}

/// The Name of an object: its name algorithm, and the digest of its public area.
///
/// Recompute it from every public area that a TPM returns, and never accept one from a peer.
///
/// # Errors
/// See [`NameError`].
pub fn object_name(public: &Public<'_>) -> Result<NameBuf, NameError> {
    name(public.name_alg, public)
}

/// The Name of an NV index. It changes when the index is first written.
///
/// # Errors
/// See [`NameError`].
pub fn nv_name(public: &NvPublic<'_>) -> Result<NameBuf, NameError> {
    name(public.name_alg, public)
}

/// The qualified Name of an object whose parent has this qualified Name; of a hierarchy it is the handle. Part 1 §16.
///
/// # Errors
/// See [`NameError`].
pub fn qualified_name(parent: &NameBuf, name: &NameBuf) -> Result<NameBuf, NameError> {
    let alg = name.octets().first_chunk().map_or(Alg::NULL, |alg| Alg(u16::from_be_bytes(*alg)));
    let hash = HashAlg::try_from(alg).map_err(|_| NameError::NameAlg(alg))?;
    let digest = hash.digest(&[parent.octets(), name.octets()]);
    NameBuf::concat(&[&alg.0.to_be_bytes(), digest.octets()]).ok_or(NameError::TooLarge)
}

fn name(name_alg: Alg, public: &impl Marshal) -> Result<NameBuf, NameError> {
    let hash = HashAlg::try_from(name_alg).map_err(|_| NameError::NameAlg(name_alg))?;
    let mut octets = [0; Template::MAX];
    let mut writer = Writer::new(&mut octets);
    writer.write(public).map_err(|_| NameError::TooLarge)?;
    let digest = hash.digest(&[writer.into_written()]);
    NameBuf::concat(&[&name_alg.0.to_be_bytes(), digest.octets()]).ok_or(NameError::TooLarge)
}
