use super::Alg;
use crate::wire::macros::{structure, union};

structure! {
    /// Key size and mode of a block cipher. Part 2 §11.1.8.
    #[doc(alias(
        "TPMU_SYM_KEY_BITS",
        "TPMU_SYM_MODE",
        "TPM_KEY_BITS",
        "TPMI_TDES_KEY_BITS",
        "TPMI_AES_KEY_BITS",
        "TPMI_SM4_KEY_BITS",
        "TPMI_CAMELLIA_KEY_BITS",
    ))]
    BlockCipher {
        /// Bits of the key.
        key_bits: u16,
        /// Mode of operation.
        mode: Alg,
    }

    /// A hash algorithm, for the schemes that need no more. Part 2 §11.1.17.
    #[doc(alias = "TPMS_SCHEME_HASH")]
    HashScheme {
        /// The hash.
        hash: Alg,
    }

    /// ECDAA's hash and count. Part 2 §11.1.18.
    #[doc(alias = "TPMS_SCHEME_ECDAA")]
    EcdaaScheme {
        /// The hash.
        hash: Alg,
        /// The counter of the commitment.
        count: u16,
    }

    /// Hash and key derivation of the XOR scheme. Part 2 §11.1.21.
    #[doc(alias = "TPMS_SCHEME_XOR")]
    XorScheme {
        /// The hash.
        hash: Alg,
        /// The key derivation.
        kdf: Alg,
    }
}

union! {
    /// The cipher of an object. Part 2 §11.1.7.
    #[doc(alias = "TPMT_SYM_DEF_OBJECT")]
    SymDefObject: Alg {
        /// None.
        Null = NULL,
        /// AES.
        Aes(cipher: BlockCipher) = AES,
        /// SM4.
        Sm4(cipher: BlockCipher) = SM4,
        /// Camellia.
        Camellia(cipher: BlockCipher) = CAMELLIA,
        /// Triple DES.
        Tdes(cipher: BlockCipher) = TDES,
    }

    /// The cipher of a session. Part 2 §11.1.6.
    #[doc(alias("TPMT_SYM_DEF", "TPMU_SYM_DETAILS"))]
    SymDef: Alg {
        /// None: the session cannot encrypt.
        Null = NULL,
        /// AES.
        Aes(cipher: BlockCipher) = AES,
        /// SM4.
        Sm4(cipher: BlockCipher) = SM4,
        /// Camellia.
        Camellia(cipher: BlockCipher) = CAMELLIA,
        /// Triple DES.
        Tdes(cipher: BlockCipher) = TDES,
        /// XOR with a key stream made with this hash.
        Xor(hash: HashScheme) = XOR,
    }

    /// The scheme of an asymmetric key or of one of its uses; HMAC is here since it signs too. Part 2 §11.2.3.5.
    #[doc(alias(
        "TPMT_RSA_SCHEME",
        "TPMT_ECC_SCHEME",
        "TPMT_SIG_SCHEME",
        "TPMT_RSA_DECRYPT",
        "TPMT_ASYM_SCHEME",
        "TPMU_ASYM_SCHEME",
        "TPMU_SIG_SCHEME",
        "TPMU_RSA_SCHEME",
        "TPMU_ECC_SCHEME",
    ))]
    AsymScheme: Alg {
        /// Left to each use.
        Null = NULL,
        /// RSASSA-PKCS1-v1_5.
        #[doc(alias = "TPMS_SIG_SCHEME_RSASSA")]
        Rsassa(hash: HashScheme) = RSASSA,
        /// RSASSA-PSS.
        #[doc(alias = "TPMS_SIG_SCHEME_RSAPSS")]
        Rsapss(hash: HashScheme) = RSAPSS,
        /// RSAES-PKCS1-v1_5.
        #[doc(alias = "TPMS_ENC_SCHEME_RSAES")]
        Rsaes = RSAES,
        /// RSAES-OAEP.
        #[doc(alias = "TPMS_ENC_SCHEME_OAEP")]
        Oaep(hash: HashScheme) = OAEP,
        /// ECDSA.
        #[doc(alias = "TPMS_SIG_SCHEME_ECDSA")]
        Ecdsa(hash: HashScheme) = ECDSA,
        /// ECDAA.
        #[doc(alias = "TPMS_SIG_SCHEME_ECDAA")]
        Ecdaa(scheme: EcdaaScheme) = ECDAA,
        /// SM2.
        #[doc(alias("TPMS_SIG_SCHEME_SM2", "TPMS_KEY_SCHEME_SM2"))]
        Sm2(hash: HashScheme) = SM2,
        /// EC Schnorr.
        #[doc(alias = "TPMS_SIG_SCHEME_ECSCHNORR")]
        Ecschnorr(hash: HashScheme) = ECSCHNORR,
        /// ECDH.
        #[doc(alias = "TPMS_KEY_SCHEME_ECDH")]
        Ecdh(hash: HashScheme) = ECDH,
        /// ECMQV.
        #[doc(alias = "TPMS_KEY_SCHEME_ECMQV")]
        Ecmqv(hash: HashScheme) = ECMQV,
        /// EdDSA.
        #[doc(alias = "TPMS_SIG_SCHEME_EDDSA")]
        Eddsa = EDDSA,
        /// EdDSA over a digest.
        #[doc(alias = "TPMS_SIG_SCHEME_HASH_EDDSA")]
        HashEddsa = HASH_EDDSA,
        /// HMAC.
        Hmac(hash: HashScheme) = HMAC,
    }

    /// How a key is derived. Part 2 §11.2.3.3.
    #[doc(alias("TPMT_KDF_SCHEME", "TPMU_KDF_SCHEME"))]
    KdfScheme: Alg {
        /// None.
        Null = NULL,
        /// MGF1.
        #[doc(alias = "TPMS_KDF_SCHEME_MGF1")]
        Mgf1(hash: HashScheme) = MGF1,
        /// SP 800-56A.
        #[doc(alias = "TPMS_KDF_SCHEME_KDF1_SP800_56A")]
        Kdf1Sp800_56a(hash: HashScheme) = KDF1_SP800_56A,
        /// IEEE 1363a KDF2.
        #[doc(alias = "TPMS_KDF_SCHEME_KDF2")]
        Kdf2(hash: HashScheme) = KDF2,
        /// SP 800-108.
        #[doc(alias = "TPMS_KDF_SCHEME_KDF1_SP800_108")]
        Kdf1Sp800_108(hash: HashScheme) = KDF1_SP800_108,
        /// HKDF.
        #[doc(alias = "TPMS_KDF_SCHEME_HKDF")]
        Hkdf(hash: HashScheme) = HKDF,
    }

    /// The scheme of a keyed-hash object. Part 2 §11.1.23.
    #[doc(alias("TPMT_KEYEDHASH_SCHEME", "TPMU_SCHEME_KEYEDHASH"))]
    KeyedHashScheme: Alg {
        /// None: sealed data, or left to each use.
        Null = NULL,
        /// HMAC.
        #[doc(alias = "TPMS_SCHEME_HMAC")]
        Hmac(hash: HashScheme) = HMAC,
        /// XOR.
        Xor(scheme: XorScheme) = XOR,
    }
}
