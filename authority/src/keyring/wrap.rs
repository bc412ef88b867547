//! Private keys, encrypted to the public key of who may read them: HPKE (RFC 9180) in base mode, single shot, with
//! DHKEM(P-256, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM.

use std::fmt;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::consts::{U12, U16};
use aes_gcm::aead::{AeadInOut, KeyInit, Nonce, Tag};
use hkdf::{Hkdf, HkdfExtract};
use p256::ecdh::diffie_hellman;
use p256::elliptic_curve::Generate;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::{PublicKey, SecretKey};
use sha2::Sha256;
use zeroize::Zeroizing;

/// What each of our ciphertexts is for: the `info` of HPKE.
const INFO: &[u8] = b"endorse CA key";

/// `Nenc`: the encapsulated key, an uncompressed point.
const ENCAPSULATED_LEN: usize = 65;

/// `Nt` of AES-GCM.
const TAG_LEN: usize = 16;

/// DHKEM(P-256, HKDF-SHA256), section 7.1.
const KEM_ID: [u8; 2] = [0x00, 0x10];

/// HKDF-SHA256, section 7.2.
const KDF_ID: [u8; 2] = [0x00, 0x01];

/// What each label begins with, section 4.
const VERSION: &[u8] = b"HPKE-v1";

/// An AEAD of section 7.3.
trait Aead: AeadInOut<NonceSize = U12, TagSize = U16> + KeyInit {
    const ID: [u8; 2];
}

impl Aead for Aes256Gcm {
    const ID: [u8; 2] = [0x00, 0x02];
}

/// A private key that opens what is wrapped to it: in a file, or in a TPM.
pub trait Unwrap: Send + Sync {
    /// The key that is wrapped to.
    fn recipient(&self) -> PublicKey;

    /// The secret in a ciphertext that was made with these additional data.
    ///
    /// # Errors
    /// It was not made for this key with these data, or was changed.
    fn unwrap(&self, aad: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, WrapError>;
}

impl Unwrap for SecretKey {
    fn recipient(&self) -> PublicKey {
        self.public_key()
    }

    fn unwrap(&self, aad: &[u8], wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, WrapError> {
        open::<Aes256Gcm>(self, INFO, aad, wrapped)
    }
}

/// Encrypts a secret to this key: the encapsulated key, then the ciphertext with its tag.
///
/// # Errors
/// The operating system has no randomness.
pub fn wrap(recipient: &PublicKey, aad: &[u8], secret: &[u8]) -> Result<Vec<u8>, WrapError> {
    let ephemeral = SecretKey::try_generate().map_err(|_| WrapError("no randomness"))?;
    seal::<Aes256Gcm>(&ephemeral, recipient, INFO, aad, secret)
}

/// Why a secret cannot be wrapped or unwrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrapError(&'static str);

impl fmt::Display for WrapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for WrapError {}

/// It does not say why: RFC 9180 has one `OpenError`.
const OPEN_ERROR: WrapError = WrapError("it was encrypted to another key, or was changed");

/// `SealBase`, section 6.1, with this ephemeral key.
fn seal<A: Aead>(
    ephemeral: &SecretKey,
    recipient: &PublicKey,
    info: &[u8],
    aad: &[u8],
    secret: &[u8],
) -> Result<Vec<u8>, WrapError> {
    let encapsulated = ephemeral.public_key().to_sec1_point(false);
    let mut sealed = encapsulated.as_bytes().to_vec();
    sealed.extend_from_slice(secret);
    let (_, body) = sealed.split_at_mut(ENCAPSULATED_LEN);
    let (cipher, nonce) =
        key_schedule::<A>(ephemeral, recipient, encapsulated.as_bytes(), recipient, info);
    let tag = cipher.encrypt_inout_detached(&nonce, aad, body.into());
    // So that a failure leaves no part of the secret.
    let Ok(tag) = tag else {
        zeroize::Zeroize::zeroize(&mut sealed);
        return Err(WrapError("the secret is too long"));
    };
    sealed.extend_from_slice(&tag);
    Ok(sealed)
}

/// `OpenBase`, section 6.1.
fn open<A: Aead>(
    key: &SecretKey,
    info: &[u8],
    aad: &[u8],
    wrapped: &[u8],
) -> Result<Zeroizing<Vec<u8>>, WrapError> {
    let (encapsulated, rest) = wrapped.split_first_chunk::<ENCAPSULATED_LEN>().ok_or(OPEN_ERROR)?;
    let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(OPEN_ERROR)?;
    // DeserializePublicKey takes the uncompressed form only, and validates the point: sections 7.1.1 and 7.1.4.
    let ephemeral = PublicKey::from_sec1_bytes(encapsulated).map_err(|_| OPEN_ERROR)?;
    let (cipher, nonce) = key_schedule::<A>(key, &ephemeral, encapsulated, &key.public_key(), info);
    let mut secret = Zeroizing::new(body.to_vec());
    let tag = Tag::<A>::from(*tag);
    cipher
        .decrypt_inout_detached(&nonce, aad, secret.as_mut_slice().into(), &tag)
        .map_err(|_| OPEN_ERROR)?;
    Ok(secret)
}

/// `Encap` or `Decap` of section 4.1, by the private key of one end and the public key of the other, and `KeySchedule` of section 5.1: the
/// AEAD and the nonce of the first message.
#[expect(clippy::expect_used, reason = "the key has the length that the AEAD asks for")]
fn key_schedule<A: Aead>(
    own: &SecretKey,
    peer: &PublicKey,
    encapsulated: &[u8],
    recipient: &PublicKey,
    info: &[u8],
) -> (A, Nonce<A>) {
    let kem = Suite([b"KEM".as_slice(), &KEM_ID].concat());
    let dh = diffie_hellman(own.to_nonzero_scalar(), peer.as_affine());
    let context = [encapsulated, recipient.to_sec1_point(false).as_bytes()].concat();
    let eae_prk = kem.extract(&[], b"eae_prk", dh.raw_secret_bytes());
    let mut shared = Zeroizing::new([0; 32]);
    kem.expand(&eae_prk, b"shared_secret", &context, &mut *shared);

    let hpke = Suite([b"HPKE".as_slice(), &KEM_ID, &KDF_ID, &A::ID].concat());
    let (psk_id_hash, info_hash) = (hpke.hash(b"psk_id_hash", &[]), hpke.hash(b"info_hash", info));
    // mode_base
    let context = [&[0x00_u8][..], &psk_id_hash, &info_hash].concat();
    let secret = hpke.extract(&*shared, b"secret", &[]);
    let mut key = Zeroizing::new(vec![0; A::key_size()]);
    hpke.expand(&secret, b"key", &context, &mut key);
    let mut nonce = Nonce::<A>::default();
    hpke.expand(&secret, b"base_nonce", &context, &mut nonce);
    (A::new_from_slice(&key).expect("a key of the size of the AEAD"), nonce)
}

/// A `suite_id`, and the labelled functions of section 4 with it.
struct Suite(Vec<u8>);

impl Suite {
    /// `LabeledExtract`
    fn extracted(&self, salt: &[u8], label: &[u8], ikm: &[u8]) -> ([u8; 32], Hkdf<Sha256>) {
        let mut extract = HkdfExtract::<Sha256>::new(Some(salt));
        for part in [VERSION, self.0.as_slice(), label, ikm] {
            extract.input_ikm(part);
        }
        let (hash, key) = extract.finalize();
        (hash.into(), key)
    }

    fn extract(&self, salt: &[u8], label: &[u8], ikm: &[u8]) -> Hkdf<Sha256> {
        let (hash, key) = self.extracted(salt, label, ikm);
        drop(Zeroizing::new(hash));
        key
    }

    /// `LabeledExtract` of what is public.
    fn hash(&self, label: &[u8], ikm: &[u8]) -> [u8; 32] {
        self.extracted(&[], label, ikm).0
    }

    /// `LabeledExpand`
    #[expect(clippy::expect_used, reason = "it is asked for keys and nonces, which are short")]
    fn expand(&self, key: &Hkdf<Sha256>, label: &[u8], info: &[u8], into: &mut [u8]) {
        let length = u16::try_from(into.len()).expect("keys and nonces").to_be_bytes();
        let info = [length.as_slice(), VERSION, self.0.as_slice(), label, info];
        key.expand_multi_info(&info, into).expect("HKDF gives up to 255 blocks");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aes_gcm::Aes128Gcm;

    impl Aead for Aes128Gcm {
        const ID: [u8; 2] = [0x00, 0x01];
    }

    /// The first message of a vector in base mode with DHKEM(P-256, HKDF-SHA256) and HKDF-SHA256.
    struct Vector {
        ephemeral: &'static str,
        recipient: &'static str,
        encapsulated: &'static str,
        ciphertext: &'static str,
    }

    /// Appendix A.3.1.
    const AES_128_GCM: Vector = Vector {
        ephemeral: "4995788ef4b9d6132b249ce59a77281493eb39af373d236a1fe415cb0c2d7beb",
        recipient: "f3ce7fdae57e1a310d87f1ebbde6f328be0a99cdbcadf4d6589cf29de4b8ffd2",
        encapsulated: "04a92719c6195d5085104f469a8b9814d5838ff72b60501e2c4466e5e67b325ac98536d7b61a1af4b78e5b7f951c0900be863c403ce65c9bfcb\
                       9382657222d18c4",
        ciphertext: "5ad590bb8baa577f8619db35a36311226a896e7342a6d836d8b7bcd2f20b6c7f9076ac232e3ab2523f39513434",
    };

    /// Of the vectors in JSON that belong to the RFC.
    const AES_256_GCM: Vector = Vector {
        ephemeral: "90345e3a1d116c1dd39ae76d95ab858c142223a63e44f8f85318cfa91a84858e",
        recipient: "317f915db7bc629c48fe765587897e01e282d3e8445f79f27f65d031a88082b2",
        encapsulated: "04c06b4f6bebc7bb495cb797ab753f911aff80aefb86fd8b6fcc35525f3ab5f03e0b21bd31a86c6048af3cb2d98e0d3bf01da5cc4c39ff5370\
                       d331a4f1f7d5a4e0",
        ciphertext: "58c61a45059d0c5704560e9d88b564a8b63f1364b8d1fcb3c4c6ddc1d291742465e902cd216f8908da49f8f96f",
    };

    const VECTOR_INFO: &[u8] = b"Ode on a Grecian Urn";
    const VECTOR_AAD: &[u8] = b"Count-0";
    const VECTOR_TEXT: &[u8] = b"Beauty is truth, truth beauty";

    fn hex(text: &str) -> Vec<u8> {
        base16ct::lower::decode_vec(text).unwrap()
    }

    fn private(text: &str) -> SecretKey {
        SecretKey::from_slice(&hex(text)).unwrap()
    }

    fn agrees<A: Aead>(vector: &Vector) {
        let (ephemeral, recipient) = (private(vector.ephemeral), private(vector.recipient));
        let expected = [hex(vector.encapsulated), hex(vector.ciphertext)].concat();
        let public = recipient.public_key();
        let sealed = seal::<A>(&ephemeral, &public, VECTOR_INFO, VECTOR_AAD, VECTOR_TEXT).unwrap();
        assert_eq!(sealed, expected);
        let opened = open::<A>(&recipient, VECTOR_INFO, VECTOR_AAD, &expected).unwrap();
        assert_eq!(*opened, VECTOR_TEXT);
    }

    #[test]
    fn wrapping_agrees_with_the_vectors_of_rfc_9180() {
        agrees::<Aes128Gcm>(&AES_128_GCM);
        agrees::<Aes256Gcm>(&AES_256_GCM);
    }

    #[test]
    fn wrapped_secret_is_opened_by_its_recipient_with_its_data_only() {
        let (key, other) = (SecretKey::try_generate().unwrap(), SecretKey::try_generate().unwrap());
        let wrapped = wrap(&key.recipient(), b"k/a", b"secret").unwrap();
        assert_ne!(wrapped, wrap(&key.recipient(), b"k/a", b"secret").unwrap());
        assert_eq!(*key.unwrap(b"k/a", &wrapped).unwrap(), b"secret");
        assert_eq!(key.unwrap(b"k/b", &wrapped).unwrap_err(), OPEN_ERROR);
        assert_eq!(other.unwrap(b"k/a", &wrapped).unwrap_err(), OPEN_ERROR);
        for length in 0..wrapped.len() {
            assert_eq!(key.unwrap(b"k/a", &wrapped[..length]).unwrap_err(), OPEN_ERROR);
        }
        for at in 0..wrapped.len() {
            let mut changed = wrapped.clone();
            changed[at] ^= 1;
            assert_eq!(key.unwrap(b"k/a", &changed).unwrap_err(), OPEN_ERROR, "byte {at}");
        }
    }
}
