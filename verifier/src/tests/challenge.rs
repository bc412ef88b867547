//! The challenge against vectors that a TPM has opened, and opened with OpenSSL.

use tpm2::crypto::{HashAlg, NoRandomness, kdfa};
use tpm2::types::{NameBuf, SecretBuf};

use super::machine::{openssl, run};
use crate::challenge::{Challenge, ChallengeError, Derived, ORIGIN, name_alg};
use crate::{Curve, EccKey, EkPublicKey, RsaKey};

fn bytes(hex: &str) -> Vec<u8> {
    base16ct::lower::decode_vec(hex).unwrap()
}

/// The Name of a P-256 key, and the secret, of both vectors.
const NAME: &str = "000b376ba54cee9de27a07ab2ac44fb52b62c9260a9777b792221407862d202dfa25";
const SECRET: &str = "7486c92e088a1bb07c9c897552c7a8ac5c268f83313c5a71400cf087c44629af";

fn with(
    ek: &EkPublicKey,
    object: &NameBuf,
    random: &mut dyn FnMut(&mut [u8]) -> Result<(), NoRandomness>,
) -> Result<Challenge, ChallengeError> {
    let origin = SecretBuf::zeroed(ORIGIN).unwrap();
    Challenge::with(ek, name_alg(ek, 0).unwrap(), object, origin, random)
}

struct Vector {
    curve: Curve,
    x: &'static str,
    y: &'static str,
    ephemeral: &'static str,
    blob: &'static str,
    seed: &'static str,
}

const VECTORS: [Vector; 2] = [
    Vector {
        curve: Curve::P256,
        x: "78f478a722bfdf0b9c8213e343631a3bfc9476932ad3c21ea57d6ece6fe70115",
        y: "784c8704ba463b2761909134dbb3703712cb1ad5ea81b97daacbf496d923ae51",
        ephemeral: "09b55b3e32fe474c3b768424ea83e72fd62499a7cef5d12ac2fecbbf1ea630d5",
        blob: "002085b4c95f557e15c411a3bf78afd63b7cf3e42ac34aa31292633fc1777b8b5716\
               37bf6f1ffeea48e2b20ecacb6e7bbfc1de27d1a00133c468ac7fb614c33732e0815f",
        seed: "0020014b5ec421767639c552555b45802d06c3afc5d5012d141fce75d30c15322247\
               0020031e681970304c2fcc424184f8ee2076a489c24a25101f981501f2f5629f38b5",
    },
    Vector {
        curve: Curve::P384,
        x: "c10322582a9bebd73f3d0722735caf0d12d0c471911685d550b95fe549b8f960\
            fc93169f77d8c907510fd64448617b74",
        y: "24c3d0e6f45b64df7fafba45dd22a45ec1e7174ec796f2b34eb603d9693e733f\
            ef42643c1a417948c5f0a7c96d69affc",
        ephemeral: "59686ea8359ea5e9d18f5c2f6d32095285aae2a210e112e4914637f5d04f4dcc\
                    ae145a4feab04b4d28920cd3cf6a3d24",
        blob: "00305f69e009d9f6143b9ca560325c0930d423aec29e2c5122fdd312a84fa76f5b41\
               6590767a2ae242bba6f8bd75e489f45e\
               10734dd53b02d38f59718069c08b74e043d1d868a9058570c452b3e777f1f6a56cf2",
        seed: "0030f3b9e4dc5904d93831764071daaeb7e92609962bfa9cf1454164bc344a8b918e\
               56dcdd27df6b0c071b00071ffd59e38d\
               0030fb5b07e946115c7c69f14dbb4dd616138526daea52f1e784a59e18cf2b88fe45\
               bc16ea48d0be5171e0b2c91beb3a2fcd",
    },
];

#[test]
fn vectors_that_a_tpm_opened() {
    for vector in VECTORS {
        let key = EccKey::new(vector.curve, &bytes(vector.x), &bytes(vector.y)).unwrap();
        let name = NameBuf::new(&bytes(NAME)).unwrap();
        let mut drawn = [bytes(SECRET), bytes(vector.ephemeral)].concat();
        let mut random = |octets: &mut [u8]| {
            octets.copy_from_slice(&drawn[..octets.len()]);
            drawn.drain(..octets.len());
            Ok(())
        };
        let challenge = with(&EkPublicKey::Ecc(key), &name, &mut random).unwrap();
        assert!(drawn.is_empty());
        assert_eq!(challenge.blob(), bytes(vector.blob));
        assert_eq!(challenge.encrypted_seed(), bytes(vector.seed));
        assert_eq!(challenge.secret().expose(), bytes(SECRET));
    }
}

#[test]
fn no_randomness_no_challenge() {
    let name = NameBuf::new(&bytes(NAME)).unwrap();
    for key in [super::forge::rsa_key("ek"), super::forge::ecc_key("ek")] {
        for good in 0..2 {
            let mut left = good;
            let mut random = |octets: &mut [u8]| {
                octets.fill(0x11);
                left -= 1;
                if left < 0 { Err(NoRandomness) } else { Ok(()) }
            };
            assert!(with(&key, &name, &mut random).is_err(), "{good}");
        }
    }
}

#[test]
fn challenge_is_made_again_from_its_origin_for_the_same_keys_only() {
    let (name, other) = (bytes(NAME), [&bytes(NAME)[..33], &[0]].concat());
    let [name, other] = [name, other].map(|name| NameBuf::new(&name).unwrap());
    for key in [super::forge::rsa_key("ek"), super::forge::ecc_key("ek")] {
        let alg = name_alg(&key, 0).unwrap();
        let challenge = Challenge::new(&key, alg, &name).unwrap();
        let parts = |one: &Challenge| {
            (one.blob().to_vec(), one.encrypted_seed().to_vec(), one.secret().expose().to_vec())
        };
        let again = |name| {
            let origin = challenge.origin().clone();
            parts(&Challenge::of_origin(&key, alg, name, origin).unwrap())
        };
        assert_eq!(again(&name), parts(&challenge));
        assert_ne!(again(&other).0, challenge.blob());
        let fresh = Challenge::new(&key, alg, &name).unwrap();
        assert_ne!(parts(&fresh), parts(&challenge));
    }
}

/// HMAC-SHA256 of 00000001, `CHALLENGE`, 00, the number of the block, 00000100.
#[test]
fn randomness_is_derived_as_documented() {
    let origin = SecretBuf::zeroed(ORIGIN).unwrap();
    let mut derived = Derived { origin: origin.clone(), blocks: 0 };
    let mut filled = [0; 40];
    derived.fill(&mut filled).unwrap();
    for (number, part) in filled.chunks(32).enumerate() {
        let number = u32::try_from(number).unwrap().to_be_bytes();
        let message: [&[u8]; 5] = [&[0, 0, 0, 1], b"CHALLENGE", &[0], &number, &[0, 0, 1, 0]];
        let block = HashAlg::Sha256.hmac(&[origin.expose()], &message);
        assert_eq!(part, &block.octets()[..part.len()]);
    }
    assert_eq!(derived.blocks, 2);
}

#[test]
fn a_name_algorithm_is_one_that_the_profile_has_for_the_key() {
    let sha = [HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512].map(|hash| hash.alg());
    for (key, possible) in [
        (super::forge::rsa_key("ek"), &sha[..1]),
        (super::forge::ecc_key("ek"), &sha[..1]),
        (EkPublicKey::Rsa(rsa_of(384)), &sha[1..2]),
        (EkPublicKey::Rsa(rsa_of(512)), &sha[1..]),
    ] {
        assert_eq!(name_alg(&key, 0), Some(possible[0]));
        for alg in sha {
            let expected = possible.contains(&alg).then_some(alg);
            assert_eq!(name_alg(&key, alg.0.into()), expected, "{key:?}");
        }
        for said in [4, 0x12, 0x1_000b, u32::MAX] {
            assert_eq!(name_alg(&key, said), None, "{said:#x}");
        }
    }
}

fn rsa_of(octets: usize) -> RsaKey {
    RsaKey::new(&super::forge::modulus("k", octets), 65537).unwrap()
}

/// The keys of the EK profile: what encrypts the seed, and what follows from it.
#[test]
fn rsa_keys_of_each_size_open_it() {
    let directory = openssl();
    let directory = directory.path();
    let name = NameBuf::new(&bytes(NAME)).unwrap();
    for (bits, hash, md, cipher) in [
        (4096, HashAlg::Sha512, "sha512", "aes-256-cfb"),
        (2048, HashAlg::Sha256, "sha256", "aes-128-cfb"),
        (3072, HashAlg::Sha384, "sha384", "aes-256-cfb"),
        (4096, HashAlg::Sha384, "sha384", "aes-256-cfb"),
    ] {
        let make = format!("openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:{bits} -out k");
        run(directory, &make);
        let spki = run(directory, "openssl pkey -in k -pubout -outform DER");
        let key = EkPublicKey::from_spki(&spki).unwrap();
        let challenge = Challenge::new(&key, name_alg(&key, hash.alg().0.into()).unwrap(), &name);
        let challenge = challenge.unwrap();

        std::fs::write(directory.join("seed"), challenge.encrypted_seed()).unwrap();
        let label = "4944454e5449545900";
        let decrypt = format!(
            "openssl pkeyutl -decrypt -inkey k -in seed -pkeyopt rsa_padding_mode:oaep \
             -pkeyopt rsa_oaep_md:{md} -pkeyopt rsa_mgf1_md:{md} -pkeyopt rsa_oaep_label:{label}"
        );
        let seed = run(directory, &decrypt);
        assert_eq!(seed.len() * 8, usize::from(hash.bits()));

        let (size, rest) = challenge.blob().split_at(2);
        assert_eq!(usize::from(u16::from_be_bytes([size[0], size[1]])), seed.len());
        let (integrity, identity) = rest.split_at(seed.len());
        let hmac_key = kdfa(hash, &[&seed], b"INTEGRITY", &[], &[], hash.bits()).unwrap();
        let expected = hash.hmac(&[hmac_key.expose()], &[identity, name.octets()]);
        assert_eq!(integrity, expected.octets());

        let bits = if cipher.contains("128") { 128 } else { 256 };
        let key = kdfa(hash, &[&seed], b"STORAGE", name.octets(), &[], bits).unwrap();
        std::fs::write(directory.join("identity"), identity).unwrap();
        let (key, iv) = (base16ct::lower::encode_string(key.expose()), "0".repeat(32));
        let decrypt = format!("openssl enc -d -{cipher} -K {key} -iv {iv} -in identity");
        let opened = run(directory, &decrypt);
        assert_eq!(opened, [&[0, 32], challenge.secret().expose()].concat());
    }
}
