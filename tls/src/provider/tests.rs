//! What a handshake with an honest peer does not show.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, Iv, OutboundPlainMessage, Tls13AeadAlgorithm,
};
use rustls::crypto::hmac::Hmac;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ContentType, Error, PeerMisbehaved, ProtocolVersion, SignatureScheme};

use super::*;

fn unhex(text: &str) -> Vec<u8> {
    base16ct::mixed::decode_vec(text.replace(char::is_whitespace, "")).unwrap()
}

/// RFC 4231 section 4.7: a key longer than a block, which TLS itself never has.
#[test]
fn hmac_with_a_long_key() {
    let key = [0xAA; 131];
    let (first, second) = b"Test Using Larger Than Block-Size Key - Hash Key First".split_at(20);
    let tag = hash::HMAC_SHA256.with_key(&key).sign(&[first, second]);
    let expected = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
    assert_eq!(tag.as_ref(), unhex(expected));
    let tag = hash::HMAC_SHA384.with_key(&key).sign_concat(first, &[], second);
    let expected = "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c6
                    0c2ef6ab4030fe8296248df163f44952";
    assert_eq!(tag.as_ref(), unhex(expected));
}

/// RFC 6979 sections A.2.5 and A.2.6: the nonce comes from key and message alone, unless graviola signs.
#[test]
fn ecdsa_is_deterministic() {
    let sec1 = |length: u8, secret: &str| {
        let secret = unhex(secret);
        [&[0x30, length + 5, 0x02, 1, 1, 0x04, length], secret.as_slice()].concat()
    };
    let sign = |der: Vec<u8>, scheme| {
        let key = sign::software_key(PrivateKeyDer::Sec1(der.into())).unwrap();
        key.choose_scheme(&[scheme]).unwrap().sign(b"sample").unwrap()
    };
    let der = sec1(32, "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721");
    let signature = sign(der, SignatureScheme::ECDSA_NISTP256_SHA256);
    let expected = "3046
        022100 EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
        022100 F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8";
    let deterministic = ecc::implementation() == ecc::Implementation::RustCrypto;
    assert_eq!(signature == unhex(expected), deterministic);

    let der = sec1(
        48,
        "6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D8
         96D5724E4C70A825F872C9EA60D2EDF5",
    );
    let signature = sign(der, SignatureScheme::ECDSA_NISTP384_SHA384);
    let expected = "3066
        023100 94EDBB92A5ECB8AAD4736E56C691916B3F88140666CE9FA73D64C4EA95AD133C
               81A648152E44ACF96E36DD1E80FABE46
        023100 99EF4AEB15F178CEA1FE40DB2603138F130E740A19624526203B6351D0A3A94F
               A329C145786E679E7B82C71A38628AC8";
    assert_eq!(signature, unhex(expected));
}

#[test]
fn invalid_key_shares_are_refused() {
    let refused = |group: &dyn SupportedKxGroup, share: &[u8]| {
        let Err(error) = group.start().unwrap().complete(share) else {
            panic!("{:?} took {share:02x?}", group.name())
        };
        assert_eq!(error, Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare));
    };
    // Points of small order, RFC 7748 section 6.1: 0, 1, and one of order 8.
    let mut one = [0; 32];
    one[0] = 1;
    let order_8 = unhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
    for share in [&[0; 32][..], &one, &order_8, &[9; 31], &[9; 33], &[]] {
        refused(&kx::X25519, share);
    }
    for group in [&kx::P256 as &dyn SupportedKxGroup, &kx::P384] {
        let peer = group.start().unwrap();
        let good = peer.pub_key();
        assert!(group.start().unwrap().complete(good).is_ok());
        let x = &good[1..good.len() / 2 + 1];
        let parity = 2 + (good[good.len() - 1] & 1);
        let mut off_curve = good.to_vec();
        *off_curve.last_mut().unwrap() ^= 1;
        let compressed = [&[parity], x].concat();
        let hybrid = [&[parity + 4], &good[1..]].concat();
        let long = [good, &[0]].concat();
        let short = &good[..good.len() - 1];
        for share in [&[][..], &[0], &[4], &off_curve, &compressed, &hybrid, &long, short] {
            refused(group, share);
        }
        // Coordinates that are not reduced, and those of no point.
        let all_ones = [&[4], vec![0xFF; good.len() - 1].as_slice()].concat();
        let zeros = [&[4], vec![0; good.len() - 1].as_slice()].concat();
        refused(group, &all_ones);
        refused(group, &zeros);
    }
    let p256 = kx::P256.start().unwrap();
    refused(&kx::P384, p256.pub_key());
}

#[test]
fn records_too_short_for_a_tag_are_refused() {
    let algorithms: [&dyn Tls13AeadAlgorithm; 2] = [&aead::AES_256_GCM, &aead::CHACHA20_POLY1305];
    for algorithm in algorithms {
        let mut opener = algorithm.decrypter(AeadKey::from([1; 32]), Iv::from([2; 12]));
        for length in 0..40 {
            let mut payload = vec![0; length];
            let record = InboundOpaqueMessage::new(
                ContentType::ApplicationData,
                ProtocolVersion::TLSv1_2,
                &mut payload,
            );
            assert_eq!(opener.decrypt(record, 0).unwrap_err(), Error::DecryptError, "{length}");
        }
    }
}

#[test]
fn records_open_with_their_own_key_nonce_and_place_only() {
    let algorithms: [&dyn Tls13AeadAlgorithm; 2] = [&aead::AES_256_GCM, &aead::CHACHA20_POLY1305];
    for algorithm in algorithms {
        let mut sealer = algorithm.encrypter(AeadKey::from([1; 32]), Iv::from([2; 12]));
        let text = [7; 16_384];
        let plain = OutboundPlainMessage {
            typ: ContentType::ApplicationData,
            version: ProtocolVersion::TLSv1_2,
            payload: text.as_slice().into(),
        };
        let record = sealer.encrypt(plain, 3).unwrap().encode();
        assert_eq!(record.len(), 5 + sealer.encrypted_payload_len(text.len()));
        let open = |key: u8, iv: u8, sequence| {
            let mut payload = record[5..].to_vec();
            let record = InboundOpaqueMessage::new(
                ContentType::ApplicationData,
                ProtocolVersion::TLSv1_2,
                &mut payload,
            );
            let mut opener = algorithm.decrypter(AeadKey::from([key; 32]), Iv::from([iv; 12]));
            opener.decrypt(record, sequence).map(|message| message.payload.to_vec())
        };
        assert_eq!(open(1, 2, 3).unwrap(), text);
        for (key, iv, sequence) in [(0, 2, 3), (1, 0, 3), (1, 2, 2), (1, 2, 4)] {
            assert_eq!(open(key, iv, sequence).unwrap_err(), Error::DecryptError);
        }
        assert!(algorithm.extract_keys(AeadKey::from([1; 32]), Iv::from([2; 12])).is_err());
    }
}

const MESSAGE: &[u8] = b"signed by independent software";

fn openssl(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").current_dir(directory).args(arguments).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {output:?}");
    output.stdout
}

/// As a handshake verifies it, by the first algorithm of the scheme.
fn verifies(scheme: SignatureScheme, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let row = ALGORITHMS.mapping.iter().find(|(name, _)| *name == scheme).unwrap();
    row.1[0].verify_signature(key, message, signature).is_ok()
}

#[test]
fn rsa_signatures_of_openssl() {
    use SignatureScheme as S;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("message"), MESSAGE).unwrap();
    let generate = |bits: &str| {
        let bits = format!("rsa_keygen_bits:{bits}");
        openssl(path, &["genpkey", "-algorithm", "RSA", "-pkeyopt", &bits, "-out", "key"]);
        openssl(path, &["rsa", "-in", "key", "-RSAPublicKey_out", "-outform", "DER"])
    };
    let sign = |digest: &str, padding: &[&str]| {
        openssl(path, &[&["dgst", digest, "-sign", "key"], padding, &["message"]].concat())
    };
    let pss = |salt| ["-sigopt", "rsa_padding_mode:pss", "-sigopt", salt].map(str::to_owned);
    let proper: Vec<String> = pss("rsa_pss_saltlen:digest").into();
    let proper: Vec<&str> = proper.iter().map(String::as_str).collect();

    let key = generate("2048");
    let cases = [
        ("-sha256", S::RSA_PKCS1_SHA256, S::RSA_PSS_SHA256),
        ("-sha384", S::RSA_PKCS1_SHA384, S::RSA_PSS_SHA384),
        ("-sha512", S::RSA_PKCS1_SHA512, S::RSA_PSS_SHA512),
    ];
    let schemes: Vec<S> = cases.iter().flat_map(|case| [case.1, case.2]).collect();
    for (digest, pkcs1, pss) in cases {
        for (right, signature) in [(pkcs1, sign(digest, &[])), (pss, sign(digest, &proper))] {
            for scheme in &schemes {
                assert_eq!(verifies(*scheme, &key, MESSAGE, &signature), *scheme == right);
            }
            assert!(!verifies(right, &key, b"another message", &signature));
            for end in 0..signature.len() {
                assert!(!verifies(right, &key, MESSAGE, &signature[..end]));
            }
            assert!(!verifies(right, &key, MESSAGE, &[&[0], signature.as_slice()].concat()));
            for end in 0..key.len() {
                assert!(!verifies(right, &key[..end], MESSAGE, &signature));
            }
            for bit in 0..8 {
                let mut changed = signature.clone();
                changed[100] ^= 1 << bit;
                assert!(!verifies(right, &key, MESSAGE, &changed));
            }
        }
    }
    let salted: Vec<String> = pss("rsa_pss_saltlen:20").into();
    let salted: Vec<&str> = salted.iter().map(String::as_str).collect();
    assert!(!verifies(S::RSA_PSS_SHA256, &key, MESSAGE, &sign("-sha256", &salted)));

    let weak = generate("2047");
    assert!(!verifies(S::RSA_PKCS1_SHA256, &weak, MESSAGE, &sign("-sha256", &[])));
}

#[test]
fn ecdsa_and_ed25519_signatures_are_strict() {
    use SignatureScheme as S;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("message"), MESSAGE).unwrap();
    let cases = [
        (S::ECDSA_NISTP256_SHA256, &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..], 65),
        (S::ECDSA_NISTP384_SHA384, &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"][..], 97),
        (S::ED25519, &["ED25519"][..], 32),
    ];
    for (scheme, algorithm, length) in cases {
        let generate = ["genpkey", "-out", "key", "-algorithm"];
        openssl(path, &[&generate[..], algorithm].concat());
        let spki = openssl(path, &["pkey", "-in", "key", "-pubout", "-outform", "DER"]);
        let key = &spki[spki.len() - length..];
        let digest = match scheme {
            S::ECDSA_NISTP256_SHA256 => &["-digest", "sha256"][..],
            S::ECDSA_NISTP384_SHA384 => &["-digest", "sha384"],
            _ => &[],
        };
        let command = ["pkeyutl", "-sign", "-inkey", "key", "-rawin", "-in", "message"];
        let signature = openssl(path, &[&command[..], digest].concat());
        assert!(verifies(scheme, key, MESSAGE, &signature));
        assert!(!verifies(scheme, key, b"another message", &signature));
        for position in 0..signature.len() {
            assert!(!verifies(scheme, key, MESSAGE, &signature[..position]));
            let mut changed = signature.clone();
            changed[position] ^= 1;
            assert!(!verifies(scheme, key, MESSAGE, &changed), "{scheme:?} byte {position}");
        }
        assert!(!verifies(scheme, key, MESSAGE, &[signature.as_slice(), &[0]].concat()));
        for end in 0..key.len() {
            assert!(!verifies(scheme, &key[..end], MESSAGE, &signature));
        }
    }
    // The neutral element as key and as R, and S = 0: every message verifies, unless one is strict.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let forged = [neutral, [0; 32]].concat();
    assert!(!verifies(S::ED25519, &neutral, MESSAGE, &forged));
    // r = s = 0, and r = s = 1 with a key of no point.
    assert!(!verifies(S::ECDSA_NISTP256_SHA256, &[4; 65], MESSAGE, &[0x30, 6, 2, 1, 1, 2, 1, 1]));
}

/// Everything that certificates are verified with, handshakes are offered, save the two mixed
/// pairs of curve and hash that TLS 1.3 does not have.
#[test]
fn the_table_is_consistent() {
    for (scheme, algorithms) in ALGORITHMS.mapping {
        assert_eq!(algorithms.len(), 1, "{scheme:?}");
        let listed = ALGORITHMS.all.iter().filter(|algorithm| {
            algorithm.public_key_alg_id() == algorithms[0].public_key_alg_id()
                && algorithm.signature_alg_id() == algorithms[0].signature_alg_id()
        });
        assert_eq!(listed.count(), 1, "{scheme:?}");
    }
    assert_eq!(ALGORITHMS.all.len(), ALGORITHMS.mapping.len() + 2);
}
