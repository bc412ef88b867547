use super::Alg;
use crate::wire::macros::{structure, union};

structure! {
    /// Key size and mode of a block cipher. Part 2 §11.1.8.
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
    #[doc(alias = "TPMT_SYM_DEF")]
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
    #[doc(alias("TPMT_RSA_SCHEME", "TPMT_ECC_SCHEME", "TPMT_SIG_SCHEME", "TPMT_RSA_DECRYPT"))]
    AsymScheme: Alg {
        /// Left to each use.
        Null = NULL,
        /// RSASSA-PKCS1-v1_5.
        Rsassa(hash: HashScheme) = RSASSA,
        /// RSASSA-PSS.
        Rsapss(hash: HashScheme) = RSAPSS,
        /// RSAES-PKCS1-v1_5.
        Rsaes = RSAES,
        /// RSAES-OAEP.
        Oaep(hash: HashScheme) = OAEP,
        /// ECDSA.
        Ecdsa(hash: HashScheme) = ECDSA,
        /// ECDAA.
        Ecdaa(scheme: EcdaaScheme) = ECDAA,
        /// SM2.
        Sm2(hash: HashScheme) = SM2,
        /// EC Schnorr.
        Ecschnorr(hash: HashScheme) = ECSCHNORR,
        /// ECDH.
        Ecdh(hash: HashScheme) = ECDH,
        /// ECMQV.
        Ecmqv(hash: HashScheme) = ECMQV,
        /// EdDSA.
        Eddsa = EDDSA,
        /// EdDSA over a digest.
        HashEddsa = HASH_EDDSA,
        /// HMAC.
        Hmac(hash: HashScheme) = HMAC,
    }

    /// How a key is derived. Part 2 §11.2.3.3.
    #[doc(alias = "TPMT_KDF_SCHEME")]
    KdfScheme: Alg {
        /// None.
        Null = NULL,
        /// MGF1.
        Mgf1(hash: HashScheme) = MGF1,
        /// SP 800-56A.
        Kdf1Sp800_56a(hash: HashScheme) = KDF1_SP800_56A,
        /// IEEE 1363a KDF2.
        Kdf2(hash: HashScheme) = KDF2,
        /// SP 800-108.
        Kdf1Sp800_108(hash: HashScheme) = KDF1_SP800_108,
        /// HKDF.
        Hkdf(hash: HashScheme) = HKDF,
    }

    /// The scheme of a keyed-hash object. Part 2 §11.1.23.
    #[doc(alias = "TPMT_KEYEDHASH_SCHEME")]
    KeyedHashScheme: Alg {
        /// None: sealed data, or left to each use.
        Null = NULL,
        /// HMAC.
        Hmac(hash: HashScheme) = HMAC,
        /// XOR.
        Xor(scheme: XorScheme) = XOR,
    }
}
