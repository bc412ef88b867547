//! What is computed with.

use zeroize::Zeroizing;

/// A curve of SEC 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
}

/// A hash of FIPS 180-4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// Whose signature it should be, and of which kind.
#[derive(Debug, Clone, Copy)]
pub struct VerifyingKey<'a> {
    /// The curve of the key.
    pub curve: Curve,
    /// What the message is hashed with.
    pub hash: Hash,
    /// The key, in an encoding of SEC 1 section 2.3.3.
    pub point: &'a [u8],
}

/// Bytes of a point on P-256, uncompressed.
pub const P256_POINT: usize = 65;

/// The x-coordinate that both sides have computed. Wiped when it is dropped.
pub type Shared = Zeroizing<[u8; 32]>;
