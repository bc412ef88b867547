//! Both implementations compute the same, and refuse the same.

use p256::SecretKey;
use p256::elliptic_curve::Generate;
use p256::elliptic_curve::sec1::ToSec1Point;
use signature::{Keypair, Signer};

use super::*;

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// Both say the same of a signature.
fn verdict(key: &VerifyingKey<'_>, message: &[u8], signature: &[u8]) -> bool {
    let portable = key.verify_portably(message, signature).is_ok();
    if let Some(fast) =
        fast::is_supported().then(|| fast::verify(key, message, signature)).flatten()
    {
        assert_eq!(fast.is_ok(), portable, "{key:02x?} {message:02x?} {signature:02x?}");
    }
    assert_eq!(key.verify(message, signature).is_ok(), portable);
    portable
}

#[test]
fn signatures_of_each_implementation_verify_by_both_and_only_for_their_message() {
    let secret = SecretKey::generate();
    let message = b"a message";
    let key = SigningKey::from(secret.clone());
    let point = key.public_key().to_sec1_point(false);
    let compressed = key.public_key().to_sec1_point(true);
    let made: p256::ecdsa::Signature = key.sign(message);
    let portable: p256::ecdsa::Signature = p256::ecdsa::SigningKey::from(secret).sign(message);
    for signature in [made, portable] {
        for point in [point.as_bytes(), compressed.as_bytes()] {
            let key = VerifyingKey { curve: Curve::P256, hash: Hash::Sha256, point };
            let signature = signature.to_bytes();
            assert!(verdict(&key, message, &signature));
            assert!(!verdict(&key, b"another message", &signature));
            for hash in [Hash::Sha384, Hash::Sha512] {
                assert!(!verdict(&VerifyingKey { hash, ..key }, message, &signature));
            }
            for bit in (0..512).step_by(7) {
                let mut changed = signature;
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(!verdict(&key, message, &changed));
            }
            for length in [0, 1, 32, 63] {
                assert!(!verdict(&key, message, &signature[..length]));
            }
        }
    }
    assert_eq!(p256::PublicKey::from(key.verifying_key()), key.public_key());
    assert_eq!(format!("{key:?}"), "SigningKey");
}

#[test]
fn malformed_keys_and_extreme_numbers_verify_nothing() {
    let key = SigningKey::generate().unwrap();
    let point = key.public_key().to_sec1_point(false);
    let signature: p256::ecdsa::Signature = key.sign(b"m");
    let signature = signature.to_bytes();
    // The order of P-256, FIPS 186-5: no number of a signature reaches it.
    let order = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc,
        0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let good = VerifyingKey { curve: Curve::P256, hash: Hash::Sha256, point: point.as_bytes() };
    for number in [[0; 32], [0xff; 32], order] {
        assert!(!verdict(&good, b"m", &[&number, &signature[32..]].concat()));
        assert!(!verdict(&good, b"m", &[&signature[..32], &number].concat()));
    }
    let mut off_curve = point.as_bytes().to_vec();
    off_curve[64] ^= 1;
    let points = [&[][..], &[0], &[4], &point.as_bytes()[..64], &off_curve, &[4; 65], &[0xff; 65]];
    for point in points {
        assert!(!verdict(&VerifyingKey { point, ..good }, b"m", &signature));
    }
    assert!(!verdict(&VerifyingKey { curve: Curve::P384, ..good }, b"m", &signature));
}

#[test]
fn signatures_on_p384_are_verified_with_each_hash() {
    use p384::ecdsa::signature::hazmat::PrehashSigner;
    use sha2::{Digest, Sha256, Sha384, Sha512};

    let key = p384::ecdsa::SigningKey::generate();
    let point = key.verifying_key().to_sec1_point(false);
    let digests: [(Hash, &[u8]); 3] = [
        (Hash::Sha256, &Sha256::digest(b"m")),
        (Hash::Sha384, &Sha384::digest(b"m")),
        (Hash::Sha512, &Sha512::digest(b"m")),
    ];
    for (hash, digest) in digests {
        let signature: p384::ecdsa::Signature = key.sign_prehash(digest).unwrap();
        let key = VerifyingKey { curve: Curve::P384, hash, point: point.as_bytes() };
        assert!(verdict(&key, b"m", &signature.to_bytes()), "{hash:?}");
        assert!(!verdict(&key, b"n", &signature.to_bytes()));
    }
}

/// RFC 6979 section A.2.5: RustCrypto's signature comes from key and message alone, graviola's does not.
#[test]
fn only_rustcrypto_signs_deterministically() {
    let key = SigningKey::generate().unwrap();
    let sign = || -> p256::ecdsa::Signature { key.sign(b"sample") };
    assert_eq!(sign() == sign(), implementation() == Implementation::RustCrypto);
}

#[test]
fn both_sides_agree_whoever_computes() {
    for _ in 0..20 {
        let (ours, theirs) = (random(), random());
        let pair = |scalar| {
            let made = P256Ephemeral::from_scalar(scalar).unwrap();
            let portable = P256Ephemeral::portable_from_scalar(scalar).unwrap();
            assert_eq!(made.point(), portable.point());
            (made, portable)
        };
        let ((ours, ours_portable), (theirs, theirs_portable)) = (pair(&ours), pair(&theirs));
        let points = (ours.point(), theirs.point());
        let shared = ours.agree(&points.1).unwrap();
        assert_eq!(ours_portable.agree(&points.1).unwrap(), shared);
        assert_eq!(theirs.agree(&points.0).unwrap(), shared);
        assert_eq!(theirs_portable.agree(&points.0).unwrap(), shared);

        let (ours, theirs) = (random(), random());
        let pair = |scalar| {
            let made = X25519Ephemeral::from_scalar(scalar);
            let portable = X25519Ephemeral::portable_from_scalar(scalar);
            assert_eq!(made.point(), portable.point());
            (made, portable)
        };
        let ((ours, ours_portable), (theirs, theirs_portable)) = (pair(&ours), pair(&theirs));
        let points = (ours.point(), theirs.point());
        let shared = ours.agree(&points.1).unwrap();
        assert_eq!(ours_portable.agree(&points.1).unwrap(), shared);
        assert_eq!(theirs.agree(&points.0).unwrap(), shared);
        assert_eq!(theirs_portable.agree(&points.0).unwrap(), shared);
    }
}

#[test]
fn invalid_shares_and_scalars_are_refused() {
    let key = || P256Ephemeral::from_scalar(&[1; 32]).unwrap();
    let point = key().point();
    let mut off_curve = point;
    off_curve[64] ^= 1;
    let mut hybrid = point;
    hybrid[0] = 6 + (point[64] & 1);
    let compressed = &[&[2 + (point[64] & 1)], &point[1..33]].concat();
    let long = &[&point[..], &[0]].concat();
    let shares = [&[][..], &[0], &point[..64], &off_curve, &hybrid, compressed, long];
    for share in shares {
        assert!(key().agree(share).is_none(), "{share:02x?}");
    }
    for scalar in [[0; 32], [0xff; 32]] {
        assert!(P256Ephemeral::from_scalar(&scalar).is_none());
        assert!(P256Ephemeral::portable_from_scalar(&scalar).is_none());
    }
    // Points of small order, RFC 7748 section 6.1: 0 and 1.
    let mut one = [0; 32];
    one[0] = 1;
    for small in [[0; 32], one] {
        assert!(X25519Ephemeral::from_scalar(&[7; 32]).agree(&small).is_none());
        assert!(X25519Ephemeral::portable_from_scalar(&[7; 32]).agree(&small).is_none());
    }
}

#[test]
fn choice_stays() {
    let chosen = implementation();
    assert_eq!(refuse_graviola().is_ok(), chosen == Implementation::RustCrypto);
    assert_eq!(implementation(), chosen);
}
