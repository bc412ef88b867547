use core::fmt;

use super::{
    Alg, AsymScheme, Curve, Digest, EccParameter, KdfScheme, KeyedHashScheme, MldsaParameters,
    MlkemParameters, ObjectAttributes, PrivateKeyEcc, PublicKeyMldsa, PublicKeyMlkem, PublicKeyRsa,
    SymDefObject, Template,
};
use crate::wire::macros::{structure, union};
use crate::wire::{Hex, Malformed, Marshal, Reader, TooLarge, Unmarshal, Writer};

/// The public area of an object. Part 2 §12.2.4.
///
/// Its two unions, parameters and unique, share one selector and are one enum here, so that they cannot disagree.
#[doc(alias("TPMT_PUBLIC", "TPM2B_PUBLIC"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Public<'a> {
    /// The hash that makes the Name.
    pub name_alg: Alg,
    /// What the object may do.
    pub attributes: ObjectAttributes,
    /// The policy that authorizes its use; empty without a policy.
    pub auth_policy: Digest<'a>,
    /// Type, parameters and unique.
    pub id: Id<'a>,
}

union! {
    /// What is particular to each type of object. Part 2 §12.2.3.2 and §12.2.3.7.
    #[doc(alias("TPMU_PUBLIC_PARMS", "TPMU_PUBLIC_ID"))]
    Id<'a>: Alg {
        /// Sealed data, or an HMAC key.
        KeyedHash(public: KeyedHashPublic<'a>) = KEYEDHASH,
        /// A key of a symmetric cipher.
        SymCipher(public: SymCipherPublic<'a>) = SYMCIPHER,
        /// RSA.
        Rsa(public: RsaPublic<'a>) = RSA,
        /// Elliptic curves.
        Ecc(public: EccPublic<'a>) = ECC,
        /// ML-DSA.
        Mldsa(public: MldsaPublic<'a>) = MLDSA,
        /// ML-DSA over digests.
        HashMldsa(public: HashMldsaPublic<'a>) = HASH_MLDSA,
        /// ML-KEM.
        Mlkem(public: MlkemPublic<'a>) = MLKEM,
    }

    /// The type of an object and its parameters, without what is unique to it. Part 2 §12.2.3.8.
    #[doc(alias = "TPMT_PUBLIC_PARMS")]
    PublicParms: Alg {
        /// Sealed data, or an HMAC key.
        KeyedHash(scheme: KeyedHashScheme) = KEYEDHASH,
        /// A key of a symmetric cipher.
        SymCipher(cipher: SymDefObject) = SYMCIPHER,
        /// RSA.
        Rsa(parms: RsaParms) = RSA,
        /// Elliptic curves.
        Ecc(parms: EccParms) = ECC,
        /// ML-DSA.
        Mldsa(parms: MldsaParms) = MLDSA,
        /// ML-DSA over digests.
        HashMldsa(parms: HashMldsaParms) = HASH_MLDSA,
        /// ML-KEM.
        Mlkem(parms: MlkemParms) = MLKEM,
    }
}

structure! {
    /// Parameters and unique of an RSA key. Part 2 §12.2.3.5.
    #[doc(alias("TPMS_RSA_PARMS", "TPMI_RSA_KEY_BITS"))]
    RsaPublic<'a> {
        /// The cipher that protects children, of a storage key.
        symmetric: SymDefObject,
        /// The scheme.
        scheme: AsymScheme,
        /// Bits of the modulus.
        key_bits: u16,
        /// The public exponent; 0 means 65537.
        exponent: u32,
        /// The modulus, or what the template has in its place.
        unique: PublicKeyRsa<'a>,
    }

    /// Parameters and unique of an ECC key. Part 2 §12.2.3.6.
    #[doc(alias = "TPMS_ECC_PARMS")]
    EccPublic<'a> {
        /// The cipher that protects children, of a storage key.
        symmetric: SymDefObject,
        /// The scheme.
        scheme: AsymScheme,
        /// The curve.
        curve: Curve,
        /// The key derivation; always null in practice.
        kdf: KdfScheme,
        /// The point, or what the template has in its place.
        unique: EccPoint<'a>,
    }

    /// A point of a curve. Part 2 §11.2.5.2.
    #[doc(alias("TPMS_ECC_POINT", "TPM2B_ECC_POINT"))]
    EccPoint<'a> {
        /// The first coordinate.
        x: EccParameter<'a>,
        /// The second coordinate.
        y: EccParameter<'a>,
    }

    /// Parameters and unique of a keyed-hash object. Part 2 §12.2.3.3.
    #[doc(alias = "TPMS_KEYEDHASH_PARMS")]
    KeyedHashPublic<'a> {
        /// The scheme.
        scheme: KeyedHashScheme,
        /// Binds public to sensitive area.
        unique: Digest<'a>,
    }

    /// Parameters and unique of a symmetric key. Part 2 §12.2.3.4.
    #[doc(alias = "TPMS_SYMCIPHER_PARMS")]
    SymCipherPublic<'a> {
        /// The cipher.
        cipher: SymDefObject,
        /// Binds public to sensitive area.
        unique: Digest<'a>,
    }
}

structure! {
    /// Parameters and unique of an ML-DSA key. Part 2 §12.2.3.
    #[doc(alias = "TPMS_MLDSA_PARMS")]
    MldsaPublic<'a> {
        /// The parameters.
        parms: MldsaParms,
        /// The public key.
        unique: PublicKeyMldsa<'a>,
    }

    /// Parameters and unique of an ML-DSA key that signs digests. Part 2 §12.2.3.
    #[doc(alias = "TPMS_HASH_MLDSA_PARMS")]
    HashMldsaPublic<'a> {
        /// The parameters.
        parms: HashMldsaParms,
        /// The public key.
        unique: PublicKeyMldsa<'a>,
    }

    /// Parameters and unique of an ML-KEM key. Part 2 §12.2.3.
    #[doc(alias = "TPMS_MLKEM_PARMS")]
    MlkemPublic<'a> {
        /// The parameters.
        parms: MlkemParms,
        /// The encapsulation key.
        unique: PublicKeyMlkem<'a>,
    }

    /// Parameters of an RSA key. Part 2 §12.2.3.5.
    #[doc(alias = "TPMS_RSA_PARMS")]
    RsaParms {
        /// The cipher that protects children, of a storage key.
        symmetric: SymDefObject,
        /// The scheme.
        scheme: AsymScheme,
        /// Bits of the modulus.
        key_bits: u16,
        /// The public exponent; 0 means 65537.
        exponent: u32,
    }

    /// Parameters of an ECC key. Part 2 §12.2.3.6.
    #[doc(alias = "TPMS_ECC_PARMS")]
    EccParms {
        /// The cipher that protects children, of a storage key.
        symmetric: SymDefObject,
        /// The scheme.
        scheme: AsymScheme,
        /// The curve.
        curve: Curve,
        /// The key derivation; always null in practice.
        kdf: KdfScheme,
    }

    /// Parameters of an ML-DSA key. Part 2 §12.2.3.
    #[doc(alias = "TPMS_MLDSA_PARMS")]
    MldsaParms {
        /// The parameter set.
        parameter_set: MldsaParameters,
        /// Whether the key signs message representatives that were made outside.
        allow_external_mu: bool,
    }

    /// Parameters of an ML-DSA key that signs digests. Part 2 §12.2.3.
    #[doc(alias = "TPMS_HASH_MLDSA_PARMS")]
    HashMldsaParms {
        /// The parameter set.
        parameter_set: MldsaParameters,
        /// The hash of what is signed.
        hash: Alg,
    }

    /// Parameters of an ML-KEM key. Part 2 §12.2.3.
    #[doc(alias = "TPMS_MLKEM_PARMS")]
    MlkemParms {
        /// The cipher that protects children, of a storage key.
        symmetric: SymDefObject,
        /// The parameter set.
        parameter_set: MlkemParameters,
    }

    /// A curve, in numbers. Part 2 §11.2.5.4.
    #[doc(alias = "TPMS_ALGORITHM_DETAIL_ECC")]
    CurveDetail<'a> {
        /// Which.
        curve: Curve,
        /// Bits of a key.
        key_size: u16,
        /// The key derivation that goes with it; null if none does.
        kdf: KdfScheme,
        /// The signature scheme that goes with it; null if none does.
        sign: AsymScheme,
        /// The prime of the field.
        p: EccParameter<'a>,
        /// The linear coefficient.
        a: EccParameter<'a>,
        /// The constant.
        b: EccParameter<'a>,
        /// First coordinate of the base point.
        g_x: EccParameter<'a>,
        /// Second coordinate of the base point.
        g_y: EccParameter<'a>,
        /// Order of the base point.
        n: EccParameter<'a>,
        /// Cofactor.
        h: EccParameter<'a>,
    }

    /// A secret point: a shared secret. Part 2 §11.2.5.2.
    #[doc(alias = "TPMS_ECC_POINT")]
    SecretPoint<'a> {
        /// The first coordinate.
        x: PrivateKeyEcc<'a>,
        /// The second coordinate.
        y: PrivateKeyEcc<'a>,
    }
}

/// The public area; the octets, if they are none.
impl fmt::Debug for Template<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_tuple("Template");
        match Public::from_bytes(self.octets()) {
            Ok(public) => shown.field(&public).finish(),
            Err(_) => shown.field(&Hex(self.octets())).finish(),
        }
    }
}

impl<'a> Public<'a> {
    /// This template with a policy, which must be met where the attributes say so.
    #[must_use]
    pub const fn with_policy(self, auth_policy: Digest<'a>) -> Self {
        Self { auth_policy, ..self }
    }

    /// This template with other attributes.
    #[must_use]
    pub const fn with_attributes(self, attributes: ObjectAttributes) -> Self {
        Self { attributes, ..self }
    }
}

impl Marshal for Public<'_> {
    #[inline]
    fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
        self.id.marshal_around(writer, |writer| {
            writer.write(&self.name_alg)?;
            writer.write(&self.attributes)?;
            writer.write(&self.auth_policy)
        })
    }
}

impl<'a> Unmarshal<'a> for Public<'a> {
    #[inline]
    fn unmarshal(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let selector = reader.read("Public.type")?;
        Ok(Self {
            name_alg: reader.read("Public.name_alg")?,
            attributes: reader.read("Public.attributes")?,
            auth_policy: reader.read("Public.auth_policy")?,
            id: Id::unmarshal_body(selector, reader)?,
        })
    }
}
