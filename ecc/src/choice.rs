//! Who computes.

use std::fmt;
use std::sync::OnceLock;

use crate::fast;

/// Who computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implementation {
    /// The crates `p256`, `p384` and `x25519-dalek`, on any processor.
    RustCrypto,
    /// The crate `graviola`, with instructions that not every processor has.
    Graviola,
}

static CHOSEN: OnceLock<Implementation> = OnceLock::new();

/// Who computes in this process, from the first use to its end.
pub fn implementation() -> Implementation {
    *CHOSEN.get_or_init(|| match fast::is_supported() {
        true => Implementation::Graviola,
        false => Implementation::RustCrypto,
    })
}

/// Uses RustCrypto alone, for a machine that may move to a lesser processor while it runs: an instruction that is missing there
/// would end the process.
///
/// # Errors
/// graviola has been used already.
pub fn refuse_graviola() -> Result<(), Decided> {
    match CHOSEN.get_or_init(|| Implementation::RustCrypto) {
        Implementation::RustCrypto => Ok(()),
        Implementation::Graviola => Err(Decided),
    }
}

/// It is decided already who computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided;

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("graviola is in use already")
    }
}

impl std::error::Error for Decided {}

impl fmt::Display for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RustCrypto => "RustCrypto",
            Self::Graviola => "graviola",
        })
    }
}
