use core::fmt;

use crate::wire::{Malformed, Marshal, Reader, TooLarge, Unmarshal, Why, Writer};

/// `TPM2B` of plain octets, borrowed, each with the most that the specification lets it hold. A type whose content is a
/// secret says so and shows only its length.
macro_rules! buffers {
    ($($(#[$meta:meta])* $name:ident: $max:literal $($secret:ident)?),* $(,)?) => {$(
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
            pub const fn new(octets: &'a [u8]) -> Result<Self, TooLarge> {
                if octets.len() > Self::MAX { Err(TooLarge) } else { Ok(Self(octets)) }
            }

            /// The content, without its size.
            #[must_use]
            pub const fn octets(self) -> &'a [u8] {
                self.0
            }
        }

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

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                buffers!(@debug self, f, $name $($secret)?)
            }
        }
    )*};

    (@debug $self:ident, $f:ident, $name:ident) => {{
        $f.write_str(concat!(stringify!($name), "("))?;
        $self.0.iter().try_for_each(|octet| write!($f, "{octet:02x}"))?;
        $f.write_str(")")
    }};

    (@debug $self:ident, $f:ident, $name:ident secret) => {
        write!($f, concat!(stringify!($name), "({} octets)"), $self.0.len())
    };
}

buffers! {
    /// A digest. Part 2 §10.4.2.
    #[doc(alias = "TPM2B_DIGEST")]
    Digest: 64,
    /// Data of the caller, as large as a `TPMT_HA`. Part 2 §10.4.3.
    #[doc(alias = "TPM2B_DATA")]
    Data: 66,
    /// A nonce. Part 2 §10.4.4.
    #[doc(alias = "TPM2B_NONCE")]
    Nonce: 64,
    /// An authorization value. Part 2 §10.4.5.
    #[doc(alias = "TPM2B_AUTH")]
    AuthValue: 64 secret,
    /// Octets to or from NV memory. Part 2 §10.4.9.
    #[doc(alias = "TPM2B_MAX_NV_BUFFER")]
    MaxNvBuffer: 2048,
    /// When an authorization ends. Part 2 §10.4.10.
    #[doc(alias = "TPM2B_TIMEOUT")]
    Timeout: 8,
    /// The Name of an entity. Part 2 §10.5.3.
    #[doc(alias = "TPM2B_NAME")]
    Name: 66,
    /// A protected credential: a `TPMS_ID_OBJECT`. Part 2 §12.4.3.
    #[doc(alias = "TPM2B_ID_OBJECT")]
    IdObject: 132,
    /// A seed or salt, encrypted to a key: RSA ciphertext or an ECC point. Part 2 §11.4.2.
    #[doc(alias = "TPM2B_ENCRYPTED_SECRET")]
    EncryptedSecret: 1568,
    /// An RSA modulus or ciphertext. Part 2 §11.2.4.5.
    #[doc(alias = "TPM2B_PUBLIC_KEY_RSA")]
    PublicKeyRsa: 512,
    /// A coordinate or scalar of a curve. Part 2 §11.2.5.1.
    #[doc(alias = "TPM2B_ECC_PARAMETER")]
    EccParameter: 66,
    /// Data to be sealed. Part 2 §11.1.14.
    #[doc(alias = "TPM2B_SENSITIVE_DATA")]
    SensitiveData: 128 secret,
}
