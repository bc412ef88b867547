use super::{CommandCode, NvType};
use crate::wire::macros::numbers;

/// As `with`, which constants need.
macro_rules! bit_or {
    ($($name:ident),* $(,)?) => {$(
        impl core::ops::BitOr for $name {
            type Output = Self;

            fn bitor(self, bits: Self) -> Self {
                self.with(bits)
            }
        }
    )*};
}

bit_or! {
    ObjectAttributes, SessionAttributes, AlgorithmAttributes, NvAttributes, NvExpAttributes, Locality,
}

numbers! {
    /// Attributes of an object. Part 2 §8.3.
    #[doc(alias = "TPMA_OBJECT")]
    bits ObjectAttributes: u32 {
        FIXED_TPM = 1 << 1, ST_CLEAR = 1 << 2, FIXED_PARENT = 1 << 4,
        SENSITIVE_DATA_ORIGIN = 1 << 5, USER_WITH_AUTH = 1 << 6, ADMIN_WITH_POLICY = 1 << 7,
        FIRMWARE_LIMITED = 1 << 8, SVN_LIMITED = 1 << 9, NO_DA = 1 << 10,
        ENCRYPTED_DUPLICATION = 1 << 11, RESTRICTED = 1 << 16, DECRYPT = 1 << 17,
        SIGN = 1 << 18, X509_SIGN = 1 << 19,
    }

    /// Attributes of a session in one command. Part 2 §8.4.
    #[doc(alias = "TPMA_SESSION")]
    bits SessionAttributes: u8 {
        CONTINUE_SESSION = 1 << 0, AUDIT_EXCLUSIVE = 1 << 1, AUDIT_RESET = 1 << 2,
        DECRYPT = 1 << 5, ENCRYPT = 1 << 6, AUDIT = 1 << 7,
    }

    /// Attributes of an algorithm. Part 2 §8.2.
    #[doc(alias = "TPMA_ALGORITHM")]
    bits AlgorithmAttributes: u32 {
        ASYMMETRIC = 1 << 0, SYMMETRIC = 1 << 1, HASH = 1 << 2, OBJECT = 1 << 3,
        SIGNING = 1 << 8, ENCRYPTING = 1 << 9, METHOD = 1 << 10,
    }

    /// State that lives until it is changed. Part 2 §8.6.
    #[doc(alias = "TPMA_PERMANENT")]
    bits PermanentAttributes: u32 {
        OWNER_AUTH_SET = 1 << 0, ENDORSEMENT_AUTH_SET = 1 << 1, LOCKOUT_AUTH_SET = 1 << 2,
        DISABLE_CLEAR = 1 << 8, IN_LOCKOUT = 1 << 9, TPM_GENERATED_EPS = 1 << 10,
    }

    /// Attributes of a command, as a TPM tells them of itself. Part 2 §8.9.
    #[doc(alias = "TPMA_CC")]
    bits CommandAttributes: u32 {
        NV = 1 << 22, EXTENSIVE = 1 << 23, FLUSHED = 1 << 24, R_HANDLE = 1 << 28, V = 1 << 29,
    }

    /// Attributes of an NV index. Part 2 §13.4.
    #[doc(alias = "TPMA_NV")]
    bits NvAttributes: u32 {
        PPWRITE = 1 << 0, OWNERWRITE = 1 << 1, AUTHWRITE = 1 << 2, POLICYWRITE = 1 << 3,
        POLICY_DELETE = 1 << 10, WRITELOCKED = 1 << 11, WRITEALL = 1 << 12,
        WRITEDEFINE = 1 << 13, WRITE_STCLEAR = 1 << 14, GLOBALLOCK = 1 << 15,
        PPREAD = 1 << 16, OWNERREAD = 1 << 17, AUTHREAD = 1 << 18, POLICYREAD = 1 << 19,
        NO_DA = 1 << 25, ORDERLY = 1 << 26, CLEAR_STCLEAR = 1 << 27, READLOCKED = 1 << 28,
        WRITTEN = 1 << 29, PLATFORMCREATE = 1 << 30, READ_STCLEAR = 1 << 31,
    }
    /// Attributes of an NV index outside of the TPM: the lower half is that of [`NvAttributes`]. Part 2 §13.
    #[doc(alias = "TPMA_NV_EXP")]
    bits NvExpAttributes: u64 {
        EXTERNAL_NV_ENCRYPTION = 1 << 32, EXTERNAL_NV_INTEGRITY = 1 << 33,
        EXTERNAL_NV_ANTIROLLBACK = 1 << 34,
    }

    /// Localities. From 32 on a locality is a number and not a set of bits. Part 2 §8.5.
    #[doc(alias = "TPMA_LOCALITY")]
    bits Locality: u8 { ZERO = 1 << 0, ONE = 1 << 1, TWO = 1 << 2, THREE = 1 << 3, FOUR = 1 << 4 }

    /// State that a reset puts back. Part 2 §8.7.
    #[doc(alias = "TPMA_STARTUP_CLEAR")]
    bits StartupClearAttributes: u32 {
        PH_ENABLE = 1 << 0, SH_ENABLE = 1 << 1, EH_ENABLE = 1 << 2, PH_ENABLE_NV = 1 << 3,
        READ_ONLY = 1 << 4, ORDERLY = 1 << 31,
    }

    /// How a TPM uses its memory. Part 2 §8.8.
    #[doc(alias = "TPMA_MEMORY")]
    bits MemoryAttributes: u32 {
        SHARED_RAM = 1 << 0, SHARED_NV = 1 << 1, OBJECT_COPIED_TO_RAM = 1 << 2,
    }

    /// What a TPM is certified for. Part 2 §8.10.
    #[doc(alias = "TPMA_MODES")]
    bits Modes: u32 {
        FIPS_140_2 = 1 << 0, FIPS_140_3 = 1 << 1, FIPS_140_3_INDICATOR = 0b11 << 2,
    }

    /// The key usage of a certificate that a TPM makes. Part 2 §8.11.
    #[doc(alias = "TPMA_X509_KEY_USAGE")]
    bits X509KeyUsage: u32 {
        DECIPHER_ONLY = 1 << 23, ENCIPHER_ONLY = 1 << 24, CRL_SIGN = 1 << 25,
        KEY_CERT_SIGN = 1 << 26, KEY_AGREEMENT = 1 << 27, DATA_ENCIPHERMENT = 1 << 28,
        KEY_ENCIPHERMENT = 1 << 29, NONREPUDIATION = 1 << 30, DIGITAL_SIGNATURE = 1 << 31,
    }

    /// State of an authenticated countdown timer. Part 2 §8.12.
    #[doc(alias = "TPMA_ACT")]
    bits ActAttributes: u32 { SIGNALED = 1 << 0, PRESERVE_SIGNALED = 1 << 1 }

    /// The parameter sets of ML-KEM and ML-DSA that a TPM has. Part 2 §8.13.
    #[doc(alias = "TPMA_ML_PARAMETER_SET")]
    bits MlParameterSets: u32 {
        ML_KEM_512 = 1 << 0, ML_KEM_768 = 1 << 1, ML_KEM_1024 = 1 << 2, ML_DSA_44 = 1 << 3,
        ML_DSA_65 = 1 << 4, ML_DSA_87 = 1 << 5, EXT_MU = 1 << 6,
    }
}

impl CommandAttributes {
    /// The command code. Of a vendor's it includes the bit that says so.
    #[must_use]
    pub const fn code(self) -> CommandCode {
        CommandCode(self.0 & (Self::V.0 | 0xffff))
    }

    /// Number of handles in the command.
    #[must_use]
    pub const fn command_handles(self) -> u32 {
        self.0 >> 25 & 0b111
    }
}

impl NvAttributes {
    /// What kind of index it is.
    #[must_use]
    pub const fn nv_type(self) -> NvType {
        let [.., low] = self.0.to_be_bytes();
        NvType(low >> 4)
    }

    /// The same attributes, of an index of this kind; more than four bits do not fit and are cut off.
    #[must_use]
    pub const fn with_type(self, nv_type: NvType) -> Self {
        Self(self.0 & !0xf0 | (nv_type.0 as u32 & 0x0f) << 4)
    }
}
