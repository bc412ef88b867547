//! Templates: everyday keys, storage and attestation keys, and endorsement keys as the EK credential profile (version 2.6)
//! prints them.
//!
//! ```
//! use tpm2::template;
//! use tpm2::types::{Alg, AsymScheme, Curve, HashScheme, ObjectAttributes};
//!
//! let signing = template::ecc_signing(Curve::NIST_P256, Alg::SHA256);
//! // Usable while the TPM is locked out, and wrong values are not counted.
//! let signing = signing.with_attributes(signing.attributes | ObjectAttributes::NO_DA);
//! let pss = template::rsa_signing(2048, AsymScheme::Rsapss(HashScheme { hash: Alg::SHA256 }));
//! # let _ = (signing, pss);
//! ```

mod everyday;

pub use everyday::{aes, ecc_key_exchange, ecc_signing, hmac, rsa_decryption, rsa_signing};

use crate::types::{
    Alg, AsymScheme, BlockCipher, Curve, Digest, EccParameter, EccPoint, EccPublic, HashScheme, Id,
    KdfScheme, ObjectAttributes, Public, PublicKeyRsa, RsaPublic, SymDefObject,
};

/// Attributes of an object that this TPM made and never gives away, used by its authorization value.
const OWN: ObjectAttributes = ObjectAttributes::FIXED_TPM
    .with(ObjectAttributes::FIXED_PARENT)
    .with(ObjectAttributes::SENSITIVE_DATA_ORIGIN)
    .with(ObjectAttributes::USER_WITH_AUTH);

/// Attributes of an attestation key: it signs what the TPM attests, and nothing that could be taken for it.
const ATTESTATION: ObjectAttributes = OWN
    .with(ObjectAttributes::NO_DA)
    .with(ObjectAttributes::RESTRICTED)
    .with(ObjectAttributes::SIGN);

/// An attestation key: ECDSA on P-256 with SHA-256.
pub static AK_P256: Public<'static> = Public {
    name_alg: Alg::SHA256,
    attributes: ATTESTATION,
    auth_policy: Digest::EMPTY,
    id: Id::Ecc(EccPublic {
        symmetric: SymDefObject::Null,
        scheme: AsymScheme::Ecdsa(HashScheme { hash: Alg::SHA256 }),
        curve: Curve::NIST_P256,
        kdf: KdfScheme::Null,
        unique: EccPoint { x: EccParameter::EMPTY, y: EccParameter::EMPTY },
    }),
};
/// An attestation key: RSASSA of 2048 bits with SHA-256.
pub static AK_RSA2048: Public<'static> = Public {
    name_alg: Alg::SHA256,
    attributes: ATTESTATION,
    auth_policy: Digest::EMPTY,
    id: Id::Rsa(RsaPublic {
        symmetric: SymDefObject::Null,
        scheme: AsymScheme::Rsassa(HashScheme { hash: Alg::SHA256 }),
        key_bits: 2048,
        exponent: 0,
        unique: PublicKeyRsa::EMPTY,
    }),
};

/// Attributes of a storage key that all users of the TPM can use.
const STORAGE: ObjectAttributes = OWN
    .with(ObjectAttributes::NO_DA)
    .with(ObjectAttributes::RESTRICTED)
    .with(ObjectAttributes::DECRYPT);

/// A storage root key: P-256. The parent of key files that name a hierarchy; in the null hierarchy, a key to salt sessions to.
pub static SRK_P256: Public<'static> = ecc(STORAGE, Alg::SHA256, &[], Curve::NIST_P256, 128, 0);
/// A storage root key: RSA 2048.
pub static SRK_RSA2048: Public<'static> = rsa(STORAGE, Alg::SHA256, &[], 2048, 128, 0);

/// Attributes of an EK in the low range. EK profile §2.1.5.2.
const LOW: ObjectAttributes = ObjectAttributes::FIXED_TPM
    .with(ObjectAttributes::FIXED_PARENT)
    .with(ObjectAttributes::SENSITIVE_DATA_ORIGIN)
    .with(ObjectAttributes::ADMIN_WITH_POLICY)
    .with(ObjectAttributes::RESTRICTED)
    .with(ObjectAttributes::DECRYPT);

/// Attributes of an EK in the high range: its authorization value, which is empty, works like its policy.
const HIGH: ObjectAttributes = LOW.with(ObjectAttributes::USER_WITH_AUTH);

static ZEROS: [u8; 256] = [0; 256];

/// L-1: RSA 2048, low range.
pub static L1: Public<'static> = rsa(LOW, Alg::SHA256, &policy::A_SHA256, 2048, 128, 256);
/// L-2: P-256, low range.
pub static L2: Public<'static> =
    ecc(LOW, Alg::SHA256, &policy::A_SHA256, Curve::NIST_P256, 128, 32);
/// H-1: RSA 2048, high range.
pub static H1: Public<'static> = rsa(HIGH, Alg::SHA256, &policy::B_SHA256, 2048, 128, 0);
/// H-2: P-256, high range.
pub static H2: Public<'static> =
    ecc(HIGH, Alg::SHA256, &policy::B_SHA256, Curve::NIST_P256, 128, 0);
/// H-3: P-384, high range.
pub static H3: Public<'static> =
    ecc(HIGH, Alg::SHA384, &policy::B_SHA384, Curve::NIST_P384, 256, 0);
/// H-1 with zeros for the modulus, as some software fills it.
pub static H1_ZERO_FILLED: Public<'static> =
    rsa(HIGH, Alg::SHA256, &policy::B_SHA256, 2048, 128, 256);
/// H-2 with zeros for the coordinates, as some software fills it.
pub static H2_ZERO_FILLED: Public<'static> =
    ecc(HIGH, Alg::SHA256, &policy::B_SHA256, Curve::NIST_P256, 128, 32);
/// H-3 with zeros for the coordinates, as some software fills it.
pub static H3_ZERO_FILLED: Public<'static> =
    ecc(HIGH, Alg::SHA384, &policy::B_SHA384, Curve::NIST_P384, 256, 48);
/// H-4: P-521, high range.
pub static H4: Public<'static> =
    ecc(HIGH, Alg::SHA512, &policy::B_SHA512, Curve::NIST_P521, 256, 0);
/// H-4 with zeros for the coordinates, as some software fills it.
pub static H4_ZERO_FILLED: Public<'static> =
    ecc(HIGH, Alg::SHA512, &policy::B_SHA512, Curve::NIST_P521, 256, 66);
/// H-5: SM2, high range.
pub static H5: Public<'static> = Public {
    name_alg: Alg::SM3_256,
    attributes: HIGH,
    auth_policy: digest(&policy::B_SM3),
    id: Id::Ecc(EccPublic {
        symmetric: SymDefObject::Sm4(BlockCipher { key_bits: 128, mode: Alg::CFB }),
        scheme: AsymScheme::Null,
        curve: Curve::SM2_P256,
        kdf: KdfScheme::Null,
        unique: EccPoint { x: EccParameter::EMPTY, y: EccParameter::EMPTY },
    }),
};
/// H-6: RSA 3072, high range.
pub static H6: Public<'static> = rsa(HIGH, Alg::SHA384, &policy::B_SHA384, 3072, 256, 0);
/// H-7: RSA 4096, high range.
pub static H7: Public<'static> = rsa(HIGH, Alg::SHA384, &policy::B_SHA384, 4096, 256, 0);
/// H-7 with SHA-512, which editions of the profile differ in.
pub static H7_SHA512: Public<'static> = rsa(HIGH, Alg::SHA512, &policy::B_SHA512, 4096, 256, 0);

const fn rsa(
    attributes: ObjectAttributes,
    name_alg: Alg,
    auth_policy: &'static [u8],
    key_bits: u16,
    aes_bits: u16,
    unique_len: usize,
) -> Public<'static> {
    let unique = match PublicKeyRsa::new(ZEROS.split_at(unique_len).0) {
        Ok(unique) => unique,
        Err(_) => PublicKeyRsa::EMPTY,
    };
    let id = Id::Rsa(RsaPublic {
        symmetric: aes_cfb(aes_bits),
        scheme: AsymScheme::Null,
        key_bits,
        exponent: 0,
        unique,
    });
    Public { name_alg, attributes, auth_policy: digest(auth_policy), id }
}

const fn ecc(
    attributes: ObjectAttributes,
    name_alg: Alg,
    auth_policy: &'static [u8],
    curve: Curve,
    aes_bits: u16,
    unique_len: usize,
) -> Public<'static> {
    let zero = match EccParameter::new(ZEROS.split_at(unique_len).0) {
        Ok(zero) => zero,
        Err(_) => EccParameter::EMPTY,
    };
    let id = Id::Ecc(EccPublic {
        symmetric: aes_cfb(aes_bits),
        scheme: AsymScheme::Null,
        curve,
        kdf: KdfScheme::Null,
        unique: EccPoint { x: zero, y: zero },
    });
    Public { name_alg, attributes, auth_policy: digest(auth_policy), id }
}

const fn aes_cfb(key_bits: u16) -> SymDefObject {
    SymDefObject::Aes(BlockCipher { key_bits, mode: Alg::CFB })
}

const fn digest(octets: &'static [u8]) -> Digest<'static> {
    match Digest::new(octets) {
        Ok(digest) => digest,
        Err(_) => Digest::EMPTY,
    }
}

/// The policies of endorsement keys. EK profile §2.2 and annex B.
pub mod policy {
    /// PolicySecret of the endorsement hierarchy, SHA-256.
    pub static A_SHA256: [u8; 32] = [
        0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7,
        0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14,
        0x69, 0xaa,
    ];
    /// PolicySecret of the endorsement hierarchy, SHA-384.
    pub static A_SHA384: [u8; 48] = [
        0x8b, 0xbf, 0x22, 0x66, 0x53, 0x7c, 0x17, 0x1c, 0xb5, 0x6e, 0x40, 0x3c, 0x4d, 0xc1, 0xd4,
        0xb6, 0x4f, 0x43, 0x26, 0x11, 0xdc, 0x38, 0x6e, 0x6f, 0x53, 0x20, 0x50, 0xc3, 0x27, 0x8c,
        0x93, 0x0e, 0x14, 0x3e, 0x8b, 0xb1, 0x13, 0x38, 0x24, 0xcc, 0xb4, 0x31, 0x05, 0x38, 0x71,
        0xc6, 0xdb, 0x53,
    ];
    /// PolicyAuthorizeNV of the policy index, SHA-256.
    pub static C_SHA256: [u8; 32] = [
        0x37, 0x67, 0xe2, 0xed, 0xd4, 0x3f, 0xf4, 0x5a, 0x3a, 0x7e, 0x1e, 0xae, 0xfc, 0xef, 0x78,
        0x64, 0x3d, 0xca, 0x96, 0x46, 0x32, 0xe7, 0xaa, 0xd8, 0x2c, 0x67, 0x3a, 0x30, 0xd8, 0x63,
        0x3f, 0xde,
    ];
    /// PolicyAuthorizeNV of the policy index, SHA-384.
    pub static C_SHA384: [u8; 48] = [
        0xd6, 0x03, 0x2c, 0xe6, 0x1f, 0x2f, 0xb3, 0xc2, 0x40, 0xeb, 0x3c, 0xf6, 0xa3, 0x32, 0x37,
        0xef, 0x2b, 0x6a, 0x16, 0xf4, 0x29, 0x3c, 0x22, 0xb4, 0x55, 0xe2, 0x61, 0xcf, 0xfd, 0x21,
        0x7a, 0xd5, 0xb4, 0x94, 0x7c, 0x2d, 0x73, 0xe6, 0x30, 0x05, 0xee, 0xd2, 0xdc, 0x2b, 0x35,
        0x93, 0xd1, 0x65,
    ];
    /// PolicySecret of the endorsement hierarchy, SHA-512.
    pub static A_SHA512: [u8; 64] = [
        0x1e, 0x3b, 0x76, 0x50, 0x2c, 0x8a, 0x14, 0x25, 0xaa, 0x0b, 0x7b, 0x3f, 0xc6, 0x46, 0xa1,
        0xb0, 0xfa, 0xe0, 0x63, 0xb0, 0x3b, 0x53, 0x68, 0xf9, 0xc4, 0xcd, 0xde, 0xca, 0xff, 0x08,
        0x91, 0xdd, 0x68, 0x2b, 0xac, 0x1a, 0x85, 0xd4, 0xd8, 0x32, 0xb7, 0x81, 0xea, 0x45, 0x19,
        0x15, 0xde, 0x5f, 0xc5, 0xbf, 0x0d, 0xc4, 0xa1, 0x91, 0x7c, 0xd4, 0x2f, 0xa0, 0x41, 0xe3,
        0xf9, 0x98, 0xe0, 0xee,
    ];
    /// PolicyAuthorizeNV of the policy index, SHA-512.
    pub static C_SHA512: [u8; 64] = [
        0x58, 0x9e, 0xe1, 0xe1, 0x46, 0x54, 0x47, 0x16, 0xe8, 0xde, 0xaf, 0xe6, 0xdb, 0x24, 0x7b,
        0x01, 0xb8, 0x1e, 0x9f, 0x9c, 0x7d, 0xd1, 0x6b, 0x81, 0x4a, 0xa1, 0x59, 0x13, 0x87, 0x49,
        0x10, 0x5f, 0xba, 0x53, 0x88, 0xdd, 0x1d, 0xea, 0x70, 0x2f, 0x35, 0x24, 0x0c, 0x18, 0x49,
        0x33, 0x12, 0x1e, 0x2c, 0x61, 0xb8, 0xf5, 0x0d, 0x3e, 0xf9, 0x13, 0x93, 0xa4, 0x9a, 0x38,
        0xc3, 0xf7, 0x3f, 0xc8,
    ];
    /// A or C, SHA-512.
    pub static B_SHA512: [u8; 64] = [
        0xb8, 0x22, 0x1c, 0xa6, 0x9e, 0x85, 0x50, 0xa4, 0x91, 0x4d, 0xe3, 0xfa, 0xa6, 0xa1, 0x8c,
        0x07, 0x2c, 0xc0, 0x12, 0x08, 0x07, 0x3a, 0x92, 0x8d, 0x5d, 0x66, 0xd5, 0x9e, 0xf7, 0x9e,
        0x49, 0xa4, 0x29, 0xc4, 0x1a, 0x6b, 0x26, 0x95, 0x71, 0xd5, 0x7e, 0xdb, 0x25, 0xfb, 0xdb,
        0x18, 0x38, 0x42, 0x56, 0x08, 0xb4, 0x13, 0xcd, 0x61, 0x6a, 0x5f, 0x6d, 0xb5, 0xb6, 0x07,
        0x1a, 0xf9, 0x9b, 0xea,
    ];
    /// Either of these, SM3.
    pub static B_SM3: [u8; 32] = [
        0x16, 0x78, 0x60, 0xa3, 0x5f, 0x2c, 0x5c, 0x35, 0x67, 0xf9, 0xc9, 0x27, 0xac, 0x56, 0xc0,
        0x32, 0xf3, 0xb3, 0xa6, 0x46, 0x2f, 0x8d, 0x03, 0x79, 0x98, 0xe7, 0xa1, 0x0f, 0x77, 0xfa,
        0x45, 0x4a,
    ];
    /// A or C, SHA-256.
    pub static B_SHA256: [u8; 32] = [
        0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34, 0x24, 0x14, 0xef, 0xcf,
        0xb3, 0xa3, 0x85, 0xd4, 0x4c, 0xd1, 0xfd, 0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0,
        0xb7, 0xa0,
    ];
    /// A or C, SHA-384.
    pub static B_SHA384: [u8; 48] = [
        0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a,
        0x1a, 0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4,
        0x19, 0xca, 0xcb, 0x47, 0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3,
        0xf8, 0x0e, 0x12,
    ];
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::wire::{Marshal, Writer};

    fn octets(public: &Public<'_>) -> Vec<u8> {
        let mut buffer = [0; 1024];
        let mut writer = Writer::new(&mut buffer);
        public.marshal(&mut writer).unwrap();
        writer.into_written().to_vec()
    }

    fn hex(octets: &[u8]) -> std::string::String {
        octets.iter().map(|octet| std::format!("{octet:02x}")).collect()
    }

    #[test]
    fn the_templates_are_the_octets_that_the_profile_prints() {
        let l1 = octets(&L1);
        assert_eq!(l1.len(), 314);
        assert_eq!(
            hex(&l1[..58]),
            "0001000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa\
             00060080004300100800000000000100"
        );
        assert_eq!(l1[58..], [0; 256]);
        let l2 = octets(&L2);
        assert_eq!(l2.len(), 122);
        assert_eq!(hex(&l2[42..56]), "0006008000430010000300100020");
        assert_eq!(
            hex(&octets(&H3)),
            std::format!(
                "0023000c000300f20030{}00060100004300100004001000000000",
                hex(&policy::B_SHA384)
            )
        );
        assert_eq!(
            hex(&octets(&H5)),
            std::format!(
                "00230012000300f20020{}00130080004300100020001000000000",
                hex(&policy::B_SM3)
            )
        );
    }

    /// The NV index that holds policy A, from which policy C follows. EK profile annex B.
    #[cfg(feature = "crypto")]
    fn policy_index(
        hash: crate::crypto::HashAlg,
        index: u32,
        auth_policy: Digest<'_>,
    ) -> crate::types::NameBuf {
        let public = crate::types::NvPublic {
            index: crate::types::Handle(index),
            name_alg: hash.alg(),
            attributes: crate::types::NvAttributes(0x220f_1008),
            auth_policy,
            data_size: u16::try_from(hash.digest_len() + 2).unwrap(),
        };
        crate::crypto::nv_name(&public).unwrap()
    }

    #[cfg(feature = "crypto")]
    #[test]
    fn the_policies_follow_from_part_3() {
        use crate::crypto::{HashAlg, PolicyDigest};
        use crate::types::Handle;

        type Printed = (HashAlg, u32, &'static [u8], &'static [u8], &'static [u8]);
        let printed: [Printed; 3] = [
            (HashAlg::Sha256, 0x01c0_7f01, &policy::A_SHA256, &policy::B_SHA256, &policy::C_SHA256),
            (HashAlg::Sha384, 0x01c0_7f02, &policy::A_SHA384, &policy::B_SHA384, &policy::C_SHA384),
            (HashAlg::Sha512, 0x01c0_7f03, &policy::A_SHA512, &policy::B_SHA512, &policy::C_SHA512),
        ];
        for (hash, index, printed_a, printed_b, printed_c) in printed {
            let a = PolicyDigest::new(hash).secret(&Handle::ENDORSEMENT.as_name(), b"");
            let index = policy_index(hash, index, a.digest());
            let c = PolicyDigest::new(hash).authorize_nv(&index);
            let b = a.or(&[c]).unwrap();
            assert_eq!(a.octets(), printed_a);
            assert_eq!(c.octets(), printed_c);
            assert_eq!(b.octets(), printed_b);
        }
    }
}
