use std::format;
use std::string::{String, ToString as _};
use std::vec::Vec;

use super::*;
use crate::types::{Alg, AsymScheme, EccParameter, EccPoint, HashScheme, NameBuf, Public};
use crate::wire::Unmarshal;

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let digit = |digit: u8| char::from(digit).to_digit(16).expect("hexadecimal") as u8;
    digits.chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// The object for which both credentials below were made: an unrestricted P-256 key. They were activated on libtpms.
const OBJECT: &str = "0023000b0004004000000010001000030010\
    002042ddc4b51370d78803a77f2cba1b2373a216d6af6f6daf1145244968c9b8dea9\
    00207109a21c9789427f35f40eec8fb7d3a997adb9dd9ebda9bd91b2db66aae05630";
const OBJECT_NAME: &str = "000b376ba54cee9de27a07ab2ac44fb52b62c9260a9777b792221407862d202dfa25";
const SECRET: &str = "7486c92e088a1bb07c9c897552c7a8ac5c268f83313c5a71400cf087c44629af";

struct Vector {
    ek: String,
    ek_name: &'static str,
    ephemeral: &'static str,
    hmac: &'static str,
    identity: &'static str,
    point: [&'static str; 2],
}

fn p256() -> Vector {
    Vector {
        ek: "0023000b000300400000000600800043001000030010\
             002078f478a722bfdf0b9c8213e343631a3bfc9476932ad3c21ea57d6ece6fe70115\
             0020784c8704ba463b2761909134dbb3703712cb1ad5ea81b97daacbf496d923ae51"
            .into(),
        ek_name: "000b32a5fcf7d9de5efee64cd7a4c9403a9dac60f63078af763d681b026fb722678e",
        ephemeral: "09b55b3e32fe474c3b768424ea83e72fd62499a7cef5d12ac2fecbbf1ea630d5",
        hmac: "85b4c95f557e15c411a3bf78afd63b7cf3e42ac34aa31292633fc1777b8b5716",
        identity: "37bf6f1ffeea48e2b20ecacb6e7bbfc1de27d1a00133c468ac7fb614c33732e0815f",
        point: [
            "014b5ec421767639c552555b45802d06c3afc5d5012d141fce75d30c15322247",
            "031e681970304c2fcc424184f8ee2076a489c24a25101f981501f2f5629f38b5",
        ],
    }
}

fn p384() -> Vector {
    Vector {
        ek: "0023000c000300400000000601000043001000040010\
             0030c10322582a9bebd73f3d0722735caf0d12d0c471911685d550b95fe549b8f960\
             fc93169f77d8c907510fd64448617b74\
             003024c3d0e6f45b64df7fafba45dd22a45ec1e7174ec796f2b34eb603d9693e733f\
             ef42643c1a417948c5f0a7c96d69affc"
            .into(),
        ek_name: "000c67267e7b9e5e9c2179b0cdb1a19442277a12d404857e129477fc8ba6a58bd9dd\
                  8067de87f10a8110cb887d7e0f0897ab",
        ephemeral: "59686ea8359ea5e9d18f5c2f6d32095285aae2a210e112e4914637f5d04f4dcc\
                    ae145a4feab04b4d28920cd3cf6a3d24",
        hmac: "5f69e009d9f6143b9ca560325c0930d423aec29e2c5122fdd312a84fa76f5b41\
               6590767a2ae242bba6f8bd75e489f45e",
        identity: "10734dd53b02d38f59718069c08b74e043d1d868a9058570c452b3e777f1f6a56cf2",
        point: [
            "f3b9e4dc5904d93831764071daaeb7e92609962bfa9cf1454164bc344a8b918e\
             56dcdd27df6b0c071b00071ffd59e38d",
            "fb5b07e946115c7c69f14dbb4dd616138526daea52f1e784a59e18cf2b88fe45\
             bc16ea48d0be5171e0b2c91beb3a2fcd",
        ],
    }
}

#[test]
fn names_are_those_that_the_tpm_computed() {
    for (public, name) in
        [(OBJECT, OBJECT_NAME), (&*p256().ek, p256().ek_name), (&*p384().ek, p384().ek_name)]
    {
        let octets = hex(public);
        let public = Public::from_bytes(&octets).unwrap();
        assert_eq!(object_name(&public).unwrap().octets(), hex(name));
    }
}

#[test]
fn a_public_area_without_name_algorithm_has_no_name() {
    let mut octets = hex(OBJECT);
    octets[2..4].copy_from_slice(&[0x00, 0x10]);
    let public = Public::from_bytes(&octets).unwrap();
    assert_eq!(object_name(&public), Err(NameError::NameAlg(crate::types::Alg::NULL)));
}

#[test]
fn credentials_for_ecc_keys_are_octet_for_octet_those_that_a_tpm_opened() {
    for vector in [p256(), p384()] {
        let ek = hex(&vector.ek);
        let ek = Public::from_bytes(&ek).unwrap();
        let name = NameBuf::new(&hex(OBJECT_NAME)).unwrap();
        let mut random = |octets: &mut [u8]| {
            octets.copy_from_slice(&hex(vector.ephemeral));
            Ok(())
        };
        let made = make_credential_with(&ek, &name, &hex(SECRET), &mut random).unwrap();
        let sized = |text: &str| {
            let octets = hex(text);
            let len = u16::try_from(octets.len()).unwrap();
            [&len.to_be_bytes()[..], &octets].concat()
        };
        assert_eq!(made.blob().octets(), [sized(vector.hmac), hex(vector.identity)].concat());
        assert_eq!(
            made.secret().octets(),
            [sized(vector.point[0]), sized(vector.point[1])].concat()
        );
    }
}

#[test]
fn seed_of_an_ecdh_that_was_computed_elsewhere_gives_the_same_credential() {
    let vector = p256();
    let ek = hex(&vector.ek);
    let ek = Public::from_bytes(&ek).unwrap();
    let name = NameBuf::new(&hex(OBJECT_NAME)).unwrap();
    let (x, y) = (hex(vector.point[0]), hex(vector.point[1]));
    let coordinate = |octets| EccParameter::new(octets).unwrap();
    let point = EccPoint { x: coordinate(&x), y: coordinate(&y) };
    let z = hex("bb6c2e93d83e2b752813cde4e90e3a8846e1200a62ff448894d93388850db290");
    let shared = share_secret_by_ecdh(&ek, Label::Identity, &point, &z).unwrap();
    let made = make_credential_by(&ek, &name, &hex(SECRET), &shared).unwrap();
    assert!(made.blob().octets().ends_with(&hex(vector.identity)));
    assert!(made.secret().octets().ends_with(&y));
    let short = EccPoint { x: coordinate(&x[1..]), ..point };
    for (point, z) in [(&short, &z[..]), (&point, &z[1..]), (&point, &[])] {
        let refused = share_secret_by_ecdh(&ek, Label::Identity, point, z);
        assert!(matches!(refused, Err(SharingError::Key)));
    }
}

#[test]
fn kdfe_gives_the_seed_of_the_vector() {
    let vector = p256();
    let seed = kdfe(
        HashAlg::Sha256,
        &hex("bb6c2e93d83e2b752813cde4e90e3a8846e1200a62ff448894d93388850db290"),
        b"IDENTITY",
        &hex(vector.point[0]),
        &hex("78f478a722bfdf0b9c8213e343631a3bfc9476932ad3c21ea57d6ece6fe70115"),
        256,
    )
    .unwrap();
    assert_eq!(
        seed.expose(),
        hex("788177f93d8a1fdfb4cefa07afaee7658d9af7af4a26042b94a702a1ce4c1589")
    );
    let key = kdfa(HashAlg::Sha256, &[seed.expose()], b"STORAGE", &hex(OBJECT_NAME), &[], 128);
    assert_eq!(key.unwrap().expose(), hex("ed689897c80ac77485c47839ebe17d11"));
}

#[test]
fn derived_bits_that_fill_no_octet_are_cleared_at_the_front() {
    let whole = kdfa(HashAlg::Sha256, &[b"key"], b"L", b"u", b"v", 521).unwrap_err();
    assert_eq!(whole, KdfTooLong);
    for bits in [1_u16, 7, 8, 9, 509, 512] {
        let derived = kdfa(HashAlg::Sha256, &[b"key"], b"L", b"u", b"v", bits).unwrap();
        assert_eq!(derived.expose().len(), usize::from(bits.div_ceil(8)));
        let unused = u32::from(bits.div_ceil(8)) * 8 - u32::from(bits);
        assert!(derived.expose()[0].leading_zeros() >= unused, "{bits} bits");
    }
}

/// An RSA key of which the private part is known, and its public area with this scheme.
fn rsa_key(modulus: &mut Vec<u8>, scheme: AsymScheme) -> (rsa::RsaPrivateKey, Public<'_>) {
    use rsa::traits::PublicKeyParts;
    use rsa::{BoxedUint, RsaPrivateKey};

    // Two primes of 1024 bits made for this test; they protect nothing.
    let p = include_str!("testdata/p.hex");
    let q = include_str!("testdata/q.hex");
    let prime = |text| BoxedUint::from_be_slice_vartime(&hex(text));
    let key = RsaPrivateKey::from_p_q(prime(p), prime(q), BoxedUint::from(65537_u32)).unwrap();
    *modulus = key.n().to_be_bytes().to_vec();
    let kind = &crate::template::L1;
    let crate::types::Id::Rsa(rsa) = kind.id else { panic!("RSA") };
    let unique = crate::types::PublicKeyRsa::new(modulus).unwrap();
    let id = crate::types::Id::Rsa(crate::types::RsaPublic { unique, scheme, ..rsa });
    (key, Public { id, ..*kind })
}

#[test]
fn a_credential_for_an_rsa_key_is_encrypted_with_the_nul_in_the_label() {
    use rsa::Oaep;

    let mut modulus = Vec::new();
    let (key, public) = rsa_key(&mut modulus, AsymScheme::Null);
    let shared = share_secret(&public, Label::Identity).unwrap();
    let open = |label: &[u8]| {
        key.decrypt(Oaep::<sha2::Sha256>::new_with_label(label), shared.encrypted().octets())
    };
    assert_eq!(open(b"IDENTITY\0").unwrap(), shared.secret.expose());
    assert!(open(b"IDENTITY").is_err());
    assert!(open(b"SECRET\0").is_err());
    assert_eq!(shared.encrypted().octets().len(), 256);
}

#[test]
fn secret_is_shared_by_the_hash_of_the_keys_own_oaep_scheme() {
    let (hash, mut modulus) = (|alg| HashScheme { hash: alg }, Vec::new());
    let (key, public) = rsa_key(&mut modulus, AsymScheme::Oaep(hash(Alg::SHA384)));
    let shared = share_secret(&public, Label::Secret).unwrap();
    let scheme = rsa::Oaep::<sha2::Sha384>::new_with_label(b"SECRET\0".as_slice());
    assert_eq!(key.decrypt(scheme, shared.encrypted().octets()).unwrap(), shared.secret.expose());
    assert_eq!(shared.secret.expose().len(), 48);
    let rsassa = AsymScheme::Rsassa(hash(Alg::SHA256));
    for other in [AsymScheme::Rsaes, rsassa, AsymScheme::Oaep(hash(Alg::SM3_256))] {
        let (_, public) = rsa_key(&mut modulus, other);
        let refused = share_secret(&public, Label::Secret).unwrap_err();
        assert_eq!(refused, SharingError::Scheme(other));
    }
}

#[test]
fn a_point_off_the_curve_and_a_short_modulus_are_refused() {
    let mut octets = hex(&p256().ek);
    *octets.last_mut().unwrap() ^= 1;
    let off = Public::from_bytes(&octets).unwrap();
    assert_eq!(share_secret(&off, Label::Secret).unwrap_err(), SharingError::Key);
    let zero = share_secret(&crate::template::L1, Label::Secret).unwrap_err();
    assert_eq!(zero, SharingError::Key);
}

#[test]
fn a_secret_is_never_shown() {
    let secret = crate::types::SecretBuf::new(b"do not show this").unwrap();
    assert!(!format!("{secret:?}").contains("show"));
}

/// RFC 4231, test case 6, with the key in two parts.
#[test]
fn a_key_longer_than_any_block_is_hashed_first() {
    let (key, said) = ([0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
    let hmac = |hash: HashAlg| hash.hmac(&[&key[..70], &key[70..]], &[said]);
    let expected = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
    assert_eq!(hmac(HashAlg::Sha256).octets(), hex(expected));
    let expected = "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352\
                    6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598";
    assert_eq!(hmac(HashAlg::Sha512).octets(), hex(expected));
}

/// One answer has eight PCRs at most: a policy of nine needs nine values.
#[test]
fn a_policy_of_pcrs_needs_a_value_for_each() {
    use crate::types::{PcrBits, PcrSelections};
    let bits = PcrBits::of(&(0..9).collect::<Vec<_>>()).unwrap();
    let banks = [bits.bank(crate::types::Alg::SHA256)];
    let pcrs = PcrSelections::new(&banks);
    let policy = |values: &[&[u8]]| PolicyDigest::new(HashAlg::Sha256).pcr_values(&pcrs, values);
    let nine = [&[7; 32][..]; 9];
    assert!(policy(&nine).is_ok());
    assert_eq!(policy(&nine[..8]), Err(PolicyError::Values));
    let mut short = nine;
    short[8] = &[7; 20];
    assert_eq!(policy(&short), Err(PolicyError::Values));
}

/// The public key of ML-DSA-87 alone has 2592 octets.
#[test]
fn the_largest_key_has_a_name() {
    use crate::types::{Alg, Digest, Id, MldsaParameters, MldsaParms, MldsaPublic};
    use crate::types::{ObjectAttributes, PublicKeyMldsa};
    let key = [7; 2592];
    let parms = MldsaParms { parameter_set: MldsaParameters::MLDSA_87, allow_external_mu: false };
    let public = Public {
        name_alg: Alg::SHA256,
        attributes: ObjectAttributes::SIGN,
        auth_policy: Digest::from(&[9; 64]),
        id: Id::Mldsa(MldsaPublic { parms, unique: PublicKeyMldsa::new(&key).unwrap() }),
    };
    assert_eq!(object_name(&public).unwrap().octets().len(), 34);
}

#[test]
fn hash_that_is_not_computed_is_named() {
    let unknown = HashAlg::try_from(Alg::SM3_256).unwrap_err();
    assert_eq!(unknown.to_string(), "SM3_256 is not a supported hash algorithm");
}
