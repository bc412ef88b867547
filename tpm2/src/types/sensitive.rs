use super::{
    Alg, AuthValue, Label, PrivateKeyEcc, PrivateKeyMldsa, PrivateKeyMlkem, PrivateKeyRsa,
    SeedValue, SensitiveData, SymKey,
};
use crate::wire::macros::{structure, union};
use crate::wire::{Malformed, Marshal, Reader, TooLarge, Unmarshal, Writer};

/// The sensitive area of an object. Part 2 §12.3.2.4.
#[doc(alias("TPMT_SENSITIVE", "TPM2B_SENSITIVE"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sensitive<'a> {
    /// The authorization value of the object.
    pub auth_value: AuthValue<'a>,
    /// Of a parent the seed that protects its children, of a symmetric object what binds public to sensitive area, and
    /// otherwise empty.
    pub seed_value: SeedValue<'a>,
    /// The type of the object and its secret.
    pub secret: SensitiveSecret<'a>,
}

union! {
    /// What is secret of each type of object. Part 2 §12.3.2.3.
    #[doc(alias("TPMU_SENSITIVE_COMPOSITE", "TPM2B_PRIVATE_VENDOR_SPECIFIC"))]
    SensitiveSecret<'a>: Alg {
        /// One of two primes.
        Rsa(prime: PrivateKeyRsa<'a>) = RSA,
        /// The scalar.
        Ecc(scalar: PrivateKeyEcc<'a>) = ECC,
        /// Sealed data, or an HMAC key.
        KeyedHash(data: SensitiveData<'a>) = KEYEDHASH,
        /// The key of a cipher.
        SymCipher(key: SymKey<'a>) = SYMCIPHER,
        /// The seed of an ML-DSA key.
        Mldsa(seed: PrivateKeyMldsa<'a>) = MLDSA,
        /// The seed of an ML-DSA key that signs digests.
        HashMldsa(seed: PrivateKeyMldsa<'a>) = HASH_MLDSA,
        /// The seed of an ML-KEM key.
        Mlkem(seed: PrivateKeyMlkem<'a>) = MLKEM,
    }
}

structure! {
    /// The secret part of what is to be created. Part 2 §11.1.15.
    #[doc(alias("TPMS_SENSITIVE_CREATE", "TPM2B_SENSITIVE_CREATE"))]
    SensitiveCreate<'a> {
        /// The authorization value that the object will have.
        user_auth: AuthValue<'a>,
        /// Data to be sealed; empty if the TPM is to make a key.
        data: SensitiveData<'a>,
    }

    /// What a derived object is derived with, in the place of sealed data. Part 2 §11.1.12.
    #[doc(alias("TPMS_DERIVE", "TPM2B_DERIVE"))]
    Derive<'a> {
        /// The use.
        label: Label<'a>,
        /// What tells objects of the same use apart.
        context: Label<'a>,
    }
}

impl<'a> Sensitive<'a> {
    /// A secret without authorization value and seed, as a key that a program made has them.
    #[must_use]
    pub const fn of(secret: SensitiveSecret<'a>) -> Self {
        Self { auth_value: AuthValue::EMPTY, seed_value: SeedValue::EMPTY, secret }
    }
}

impl SensitiveCreate<'_> {
    /// No authorization value, no data.
    pub const EMPTY: Self = Self { user_auth: AuthValue::EMPTY, data: SensitiveData::EMPTY };
}

impl Marshal for Sensitive<'_> {
    #[inline]
    fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
        self.secret.marshal_around(writer, |writer| {
            writer.write(&self.auth_value)?;
            writer.write(&self.seed_value)
        })
    }
}

impl<'a> Unmarshal<'a> for Sensitive<'a> {
    #[inline]
    fn unmarshal(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let selector = reader.read("Sensitive.type")?;
        Ok(Self {
            auth_value: reader.read("Sensitive.auth_value")?,
            seed_value: reader.read("Sensitive.seed_value")?,
            secret: SensitiveSecret::unmarshal_body(selector, reader)?,
        })
    }
}
