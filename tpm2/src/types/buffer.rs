use core::fmt;

use super::Owned;
use crate::wire::{Hex, Malformed, Marshal, Reader, TooLarge, TooLong, Unmarshal, Why, Writer};

/// `TPM2B` of plain octets, borrowed, each with the most that the specification lets it hold. `Debug` shows the octets; of a
/// `secret` only how many they are; of a `structure`, whose type has that `Debug` beside it, what they mean.
macro_rules! buffers {
    ($($(#[$meta:meta])* $name:ident: $max:literal $($content:ident)?),* $(,)?) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name<'a>(&'a [u8]);

        impl<'a> $name<'a> {
            /// The most octets that it can hold.
            pub const MAX: usize = $max;
            /// No octets.
            pub const EMPTY: Self = Self(&[]);

            /// A buffer to be sent.
            ///
            /// # Errors
            /// More than [`Self::MAX`] octets.
            pub const fn new(octets: &'a [u8]) -> Result<Self, TooLong> {
                let (what, given, limit) = (stringify!($name), octets.len(), Self::MAX);
                if given > limit { Err(TooLong { what, given, limit }) } else { Ok(Self(octets)) }
            }

            /// The content, without its size.
            #[must_use]
            pub const fn octets(self) -> &'a [u8] {
                self.0
            }
        }

        /// An array that is too long does not compile.
        impl<'a, const N: usize> From<&'a [u8; N]> for $name<'a> {
            fn from(octets: &'a [u8; N]) -> Self {
                const { assert!(N <= $max, concat!("longer than ", stringify!($name))) };
                Self(octets)
            }
        }

        /// What can be too long does not compile.
        impl<'a, const N: usize> From<&'a Owned<N>> for $name<'a> {
            fn from(owned: &'a Owned<N>) -> Self {
                const { assert!(N <= $max, concat!("longer than ", stringify!($name))) };
                Self(owned.octets())
            }
        }

        impl AsRef<[u8]> for $name<'_> {
            fn as_ref(&self) -> &[u8] {
                self.0
            }
        }

        buffers!(@owned $name $max $($content)?);

        impl Marshal for $name<'_> {
            const SIZED: bool = true;

            #[inline]
            fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
                writer.put_sized(self.0)
            }
        }

        impl<'a> Unmarshal<'a> for $name<'a> {
            #[inline]
            fn unmarshal(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
                let start = reader.clone();
                let size = usize::from(u16::unmarshal(reader)?);
                if size > Self::MAX {
                    return Err(start.malformed(Why::TooLong));
                }
                reader.take(size).map(Self)
            }
        }

        buffers!(@debug $name $($content)?);
    )*};

    // A copy of a secret would be shown, and not be wiped.
    (@owned $name:ident $max:literal secret) => {};
    (@owned $name:ident $max:literal $(structure)?) => {
        /// What has not room for every value does not compile.
        impl<const N: usize> From<$name<'_>> for Owned<N> {
            fn from(borrowed: $name<'_>) -> Self {
                const { assert!(N >= $max, concat!("shorter than ", stringify!($name))) };
                Self::of(borrowed.0)
            }
        }
    };

    (@debug $name:ident) => {
        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), Hex(self.0))
            }
        }
    };
    (@debug $name:ident secret) => {
        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({} octets)"), self.0.len())
            }
        }
    };
    (@debug $name:ident structure) => {};
}

buffers! {
    /// A digest. Part 2 §10.4.2.
    #[doc(alias("TPM2B_DIGEST", "TPM2B_OPERAND"))]
    Digest: 64,
    /// Data of the caller, as large as a `TPMT_HA`. Part 2 §10.4.3.
    #[doc(alias = "TPM2B_DATA")]
    Data: 66,
    /// A nonce. Part 2 §10.4.4.
    #[doc(alias = "TPM2B_NONCE")]
    Nonce: 64,
    /// What is logged and extended into PCRs. Part 2 §10.4.7.
    #[doc(alias = "TPM2B_EVENT")]
    Event: 1024,
    /// As much as a TPM takes or gives at once, [`Property::INPUT_BUFFER`](super::Property::INPUT_BUFFER): plaintext,
    /// often, and so not shown. Part 2 §10.4.8.
    #[doc(alias = "TPM2B_MAX_BUFFER")]
    MaxBuffer: 4096 secret,
    /// An initial value. Part 2 §10.4.11.
    #[doc(alias = "TPM2B_IV")]
    Iv: 16,
    /// A secret that an encapsulation shares. Part 2 §10.4.
    #[doc(alias = "TPM2B_SHARED_SECRET")]
    SharedSecret: 64 secret,
    /// An encapsulated secret: an ML-KEM ciphertext or an ECC point. Part 2 §10.4.
    #[doc(alias("TPM2B_KEM_CIPHERTEXT", "TPMU_KEM_CIPHERTEXT"))]
    KemCiphertext: 1568,
    /// A property of the vendor's. Part 2 §10.4.
    #[doc(alias = "TPM2B_VENDOR_PROPERTY")]
    VendorProperty: 512,
    /// An authorization value. Part 2 §10.4.5.
    #[doc(alias = "TPM2B_AUTH")]
    AuthValue: 64 secret,
    /// Octets to or from NV memory, where programs keep secrets too, and so not shown. Part 2 §10.4.9.
    #[doc(alias = "TPM2B_MAX_NV_BUFFER")]
    MaxNvBuffer: 2048 secret,
    /// When an authorization ends. Part 2 §10.4.10.
    #[doc(alias = "TPM2B_TIMEOUT")]
    Timeout: 8,
    /// The Name of an entity. Part 2 §10.5.3.
    #[doc(alias("TPM2B_NAME", "TPMU_NAME"))]
    Name: 66,
    /// A protected credential: a `TPMS_ID_OBJECT`. Part 2 §12.4.3.
    #[doc(alias("TPM2B_ID_OBJECT", "TPMS_ID_OBJECT"))]
    IdObject: 132,
    /// A seed or salt, encrypted to a key: RSA ciphertext or an ECC point. Part 2 §11.4.2.
    #[doc(alias("TPM2B_ENCRYPTED_SECRET", "TPMU_ENCRYPTED_SECRET"))]
    EncryptedSecret: 1568,
    /// An RSA modulus or ciphertext. Part 2 §11.2.4.5.
    #[doc(alias = "TPM2B_PUBLIC_KEY_RSA")]
    PublicKeyRsa: 512,
    /// A coordinate or scalar of a curve. Part 2 §11.2.5.1.
    #[doc(alias = "TPM2B_ECC_PARAMETER")]
    EccParameter: 80,
    /// Data to be sealed. Part 2 §11.1.14.
    #[doc(alias("TPM2B_SENSITIVE_DATA", "TPMU_SENSITIVE_CREATE"))]
    SensitiveData: 128 secret,
    /// The key of a cipher. Part 2 §11.1.9.
    #[doc(alias = "TPM2B_SYM_KEY")]
    SymKey: 32 secret,
    /// A label or context of a derivation. Part 2 §11.1.11.
    #[doc(alias = "TPM2B_LABEL")]
    Label: 32,
    /// A prime factor of an RSA key, or what else a TPM keeps of it. Part 2 §11.2.4.7.
    #[doc(alias = "TPM2B_PRIVATE_KEY_RSA")]
    PrivateKeyRsa: 1280 secret,
    /// The scalar of an ECC key, or a secret coordinate. Part 2 §11.2.5.1.
    #[doc(alias = "TPM2B_ECC_PARAMETER")]
    PrivateKeyEcc: 80 secret,
    /// An ML-KEM encapsulation key. Part 2 §11.2.
    #[doc(alias = "TPM2B_PUBLIC_KEY_MLKEM")]
    PublicKeyMlkem: 1568,
    /// The seed of an ML-KEM key. Part 2 §11.2.
    #[doc(alias = "TPM2B_PRIVATE_KEY_MLKEM")]
    PrivateKeyMlkem: 64 secret,
    /// An ML-DSA public key. Part 2 §11.2.
    #[doc(alias = "TPM2B_PUBLIC_KEY_MLDSA")]
    PublicKeyMldsa: 2592,
    /// The seed of an ML-DSA key. Part 2 §11.2.
    #[doc(alias = "TPM2B_PRIVATE_KEY_MLDSA")]
    PrivateKeyMldsa: 32 secret,
    /// An EdDSA signature. Part 2 §11.3.
    #[doc(alias = "TPM2B_SIGNATURE_EDDSA")]
    SignatureEddsa: 132,
    /// An ML-DSA signature. Part 2 §11.3.
    #[doc(alias = "TPM2B_SIGNATURE_MLDSA")]
    SignatureMldsa: 4627,
    /// A context that a signature is made in. Part 2 §11.3.
    #[doc(alias("TPM2B_SIGNATURE_CTX", "TPMU_SIGNATURE_CTX"))]
    SignatureContext: 255,
    /// The part of a signature that its verification must know from the start. Part 2 §11.3.
    #[doc(alias = "TPM2B_SIGNATURE_HINT")]
    SignatureHint: 256,
    /// A seed that protects children or obfuscates a public area. Part 2 §12.3.2.4.
    #[doc(alias = "TPM2B_DIGEST")]
    SeedValue: 64 secret,
    /// A public area that has not been looked at: a template. Part 2 §12.2.6.
    #[doc(alias = "TPM2B_TEMPLATE")]
    Template: 2672 structure,
    /// The private area of an object as only the TPM, or a new parent, can read it; of a duplicate without protection
    /// all callers can. Part 2 §12.3.7.
    #[doc(alias = "TPM2B_PRIVATE")]
    Private: 2048 secret,
    /// The body of a saved context. Part 2 §14.4.
    #[doc(alias("TPM2B_CONTEXT_DATA", "TPMS_CONTEXT_DATA", "TPM2B_CONTEXT_SENSITIVE"))]
    ContextData: 4096,
    /// What a TPM attests, as the octets that it signed. Part 2 §10.12.13.
    #[doc(alias = "TPM2B_ATTEST")]
    AttestData: 2304 structure,
}
