//! Part 3 §14: asymmetric primitives.

use crate::types::{
    Alg, AsymScheme, Curve, CurveDetail, Data, Digest, EccPoint, KdfScheme, KemCiphertext,
    MaxBuffer, Object, PublicKeyRsa, SecretPoint, SharedSecret,
};
use crate::wire::Tpm2b;
use crate::wire::macros::command;

command! {
    /// Encrypts with a public RSA key. Part 3 §14.2.
    RsaEncrypt<'a> = RSA_ENCRYPT "TPM2_RSA_Encrypt" {
        #key_handle: Object,
        message: PublicKeyRsa<'a> as secret,
        in_scheme: AsymScheme,
        label: Data<'a>,
    } -> RsaEncryptResponse<'r> {
        out_data: PublicKeyRsa<'r>,
    }

    /// Decrypts with a private RSA key. Part 3 §14.3.
    RsaDecrypt<'a> = RSA_DECRYPT "TPM2_RSA_Decrypt" {
        @key_handle: Object,
        cipher_text: PublicKeyRsa<'a>,
        in_scheme: AsymScheme,
        label: Data<'a>,
    } -> RsaDecryptResponse<'r> {
        message: PublicKeyRsa<'r> as secret,
    }

    /// Makes an ephemeral key and the point that it shares with a public key. Part 3 §14.4.
    EcdhKeyGen = ECDH_KEY_GEN "TPM2_ECDH_KeyGen" {
        #key_handle: Object,
    } -> EcdhKeyGenResponse<'r> {
        z_point: Tpm2b<SecretPoint<'r>>,
        pub_point: Tpm2b<EccPoint<'r>>,
    }

    /// The point that a private key shares with a public point. Part 3 §14.5.
    EcdhZGen<'a> = ECDH_ZGEN "TPM2_ECDH_ZGen" {
        @key_handle: Object,
        in_point: Tpm2b<EccPoint<'a>>,
    } -> EcdhZGenResponse<'r> {
        out_point: Tpm2b<SecretPoint<'r>>,
    }

    /// A curve, in numbers. Part 3 §14.6.
    EccParameters = ECC_PARAMETERS "TPM2_ECC_Parameters" {
        curve_id: Curve,
    } -> EccParametersResponse<'r> {
        parameters: CurveDetail<'r>,
    }

    /// The points that a key and its ephemeral key share with those of a peer. Part 3 §14.7.
    ZGen2Phase<'a> = ZGEN_2PHASE "TPM2_ZGen_2Phase" {
        @key_a: Object,
        in_qs_b: Tpm2b<EccPoint<'a>>,
        in_qe_b: Tpm2b<EccPoint<'a>>,
        in_scheme: Alg,
        counter: u16,
    } -> ZGen2PhaseResponse<'r> {
        out_z1: Tpm2b<SecretPoint<'r>>,
        out_z2: Tpm2b<SecretPoint<'r>>,
    }

    /// Encrypts with a public ECC key. Part 3 §14.8.
    EccEncrypt<'a> = ECC_ENCRYPT "TPM2_ECC_Encrypt" {
        #key_handle: Object,
        plain_text: MaxBuffer<'a>,
        in_scheme: KdfScheme,
    } -> EccEncryptResponse<'r> {
        c1: Tpm2b<EccPoint<'r>>,
        c2: MaxBuffer<'r>,
        c3: Digest<'r>,
    }

    /// Decrypts with a private ECC key. Part 3 §14.9.
    EccDecrypt<'a> = ECC_DECRYPT "TPM2_ECC_Decrypt" {
        @key_handle: Object,
        c1: Tpm2b<EccPoint<'a>>,
        c2: MaxBuffer<'a>,
        c3: Digest<'a>,
        in_scheme: KdfScheme,
    } -> EccDecryptResponse<'r> {
        plain_text: MaxBuffer<'r>,
    }

    /// Makes a secret and encapsulates it to a public key. Part 3 §14.10.
    Encapsulate = ENCAPSULATE "TPM2_Encapsulate" {
        #key_handle: Object,
    } -> EncapsulateResponse<'r> {
        shared_secret: SharedSecret<'r>,
        ciphertext: KemCiphertext<'r>,
    }

    /// Opens an encapsulated secret. Part 3 §14.11.
    Decapsulate<'a> = DECAPSULATE "TPM2_Decapsulate" {
        @key_handle: Object,
        ciphertext: KemCiphertext<'a>,
    } -> DecapsulateResponse<'r> {
        shared_secret: SharedSecret<'r>,
    }
}
