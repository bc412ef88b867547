use super::{Alg, EccParameter, HashValue, PublicKeyRsa, SignatureEddsa, SignatureMldsa};
use crate::wire::macros::{structure, union};

union! {
    /// A signature. Part 2 §11.3.4.
    #[doc(alias("TPMT_SIGNATURE", "TPMU_SIGNATURE"))]
    Signature<'a>: Alg {
        /// None.
        Null = NULL,
        /// RSASSA-PKCS1-v1_5.
        #[doc(alias = "TPMS_SIGNATURE_RSASSA")]
        Rsassa(signature: RsaSignature<'a>) = RSASSA,
        /// RSASSA-PSS.
        #[doc(alias = "TPMS_SIGNATURE_RSAPSS")]
        Rsapss(signature: RsaSignature<'a>) = RSAPSS,
        /// ECDSA.
        #[doc(alias = "TPMS_SIGNATURE_ECDSA")]
        Ecdsa(signature: EccSignature<'a>) = ECDSA,
        /// ECDAA.
        #[doc(alias = "TPMS_SIGNATURE_ECDAA")]
        Ecdaa(signature: EccSignature<'a>) = ECDAA,
        /// SM2.
        #[doc(alias = "TPMS_SIGNATURE_SM2")]
        Sm2(signature: EccSignature<'a>) = SM2,
        /// EC Schnorr.
        #[doc(alias = "TPMS_SIGNATURE_ECSCHNORR")]
        Ecschnorr(signature: EccSignature<'a>) = ECSCHNORR,
        /// EdDSA.
        Eddsa(signature: SignatureEddsa<'a>) = EDDSA,
        /// EdDSA over a digest.
        HashEddsa(signature: SignatureEddsa<'a>) = HASH_EDDSA,
        /// ML-DSA.
        Mldsa(signature: SignatureMldsa<'a>) = MLDSA,
        /// ML-DSA over a digest.
        HashMldsa(signature: HashMldsaSignature<'a>) = HASH_MLDSA,
        /// HMAC, with a key that both sides have.
        Hmac(hmac: HashValue<'a>) = HMAC,
    }
}

structure! {
    /// A signature with RSA. Part 2 §11.3.1.
    #[doc(alias = "TPMS_SIGNATURE_RSA")]
    RsaSignature<'a> {
        /// The hash of what was signed.
        hash: Alg,
        /// The signature.
        signature: PublicKeyRsa<'a>,
    }

    /// A signature with an elliptic curve. Part 2 §11.3.2.
    #[doc(alias = "TPMS_SIGNATURE_ECC")]
    EccSignature<'a> {
        /// The hash of what was signed.
        hash: Alg,
        /// The first number; leading zeros may be missing.
        r: EccParameter<'a>,
        /// The second number; leading zeros may be missing.
        s: EccParameter<'a>,
    }

    /// A signature with ML-DSA over a digest. Part 2 §11.2.
    #[doc(alias = "TPMS_SIGNATURE_HASH_MLDSA")]
    HashMldsaSignature<'a> {
        /// The hash of what was signed.
        hash: Alg,
        /// The signature.
        signature: SignatureMldsa<'a>,
    }
}
