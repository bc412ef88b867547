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
        "TPMA_OBJECT_fixedTPM" FIXED_TPM = 1 << 1,
        "TPMA_OBJECT_stClear" ST_CLEAR = 1 << 2,
        "TPMA_OBJECT_fixedParent" FIXED_PARENT = 1 << 4,
        "TPMA_OBJECT_sensitiveDataOrigin" SENSITIVE_DATA_ORIGIN = 1 << 5,
        "TPMA_OBJECT_userWithAuth" USER_WITH_AUTH = 1 << 6,
        "TPMA_OBJECT_adminWithPolicy" ADMIN_WITH_POLICY = 1 << 7,
        "TPMA_OBJECT_firmwareLimited" FIRMWARE_LIMITED = 1 << 8,
        "TPMA_OBJECT_svnLimited" SVN_LIMITED = 1 << 9,
        "TPMA_OBJECT_noDA" NO_DA = 1 << 10,
        "TPMA_OBJECT_encryptedDuplication" ENCRYPTED_DUPLICATION = 1 << 11,
        "TPMA_OBJECT_restricted" RESTRICTED = 1 << 16,
        "TPMA_OBJECT_decrypt" DECRYPT = 1 << 17,
        "TPMA_OBJECT_SIGN_ENCRYPT" "TPMA_OBJECT_sign" SIGN = 1 << 18,
        "TPMA_OBJECT_x509sign" X509_SIGN = 1 << 19,
    }

    /// Attributes of a session in one command. Part 2 §8.4.
    #[doc(alias = "TPMA_SESSION")]
    bits SessionAttributes: u8 {
        "TPMA_SESSION_continueSession" CONTINUE_SESSION = 1 << 0,
        "TPMA_SESSION_auditExclusive" AUDIT_EXCLUSIVE = 1 << 1,
        "TPMA_SESSION_auditReset" AUDIT_RESET = 1 << 2,
        "TPMA_SESSION_decrypt" DECRYPT = 1 << 5,
        "TPMA_SESSION_encrypt" ENCRYPT = 1 << 6,
        "TPMA_SESSION_audit" AUDIT = 1 << 7,
    }

    /// Attributes of an algorithm. Part 2 §8.2.
    #[doc(alias = "TPMA_ALGORITHM")]
    bits AlgorithmAttributes: u32 {
        "TPMA_ALGORITHM_asymmetric" ASYMMETRIC = 1 << 0,
        "TPMA_ALGORITHM_symmetric" SYMMETRIC = 1 << 1,
        "TPMA_ALGORITHM_hash" HASH = 1 << 2,
        "TPMA_ALGORITHM_object" OBJECT = 1 << 3,
        "TPMA_ALGORITHM_signing" SIGNING = 1 << 8,
        "TPMA_ALGORITHM_encrypting" ENCRYPTING = 1 << 9,
        "TPMA_ALGORITHM_method" METHOD = 1 << 10,
    }

    /// State that lives until it is changed. Part 2 §8.6.
    #[doc(alias = "TPMA_PERMANENT")]
    bits PermanentAttributes: u32 {
        "TPMA_PERMANENT_ownerAuthSet" OWNER_AUTH_SET = 1 << 0,
        "TPMA_PERMANENT_endorsementAuthSet" ENDORSEMENT_AUTH_SET = 1 << 1,
        "TPMA_PERMANENT_lockoutAuthSet" LOCKOUT_AUTH_SET = 1 << 2,
        "TPMA_PERMANENT_disableClear" DISABLE_CLEAR = 1 << 8,
        "TPMA_PERMANENT_inLockout" IN_LOCKOUT = 1 << 9,
        "TPMA_PERMANENT_tpmGeneratedEPS" TPM_GENERATED_EPS = 1 << 10,
    }

    /// Attributes of a command, as a TPM tells them of itself. Part 2 §8.9.
    #[doc(alias = "TPMA_CC")]
    bits CommandAttributes: u32 {
        "TPMA_CC_nv" NV = 1 << 22,
        "TPMA_CC_extensive" EXTENSIVE = 1 << 23,
        "TPMA_CC_flushed" FLUSHED = 1 << 24,
        "TPMA_CC_rHandle" R_HANDLE = 1 << 28,
        "TPMA_CC_V" V = 1 << 29,
    }

    /// Attributes of an NV index. Part 2 §13.4.
    #[doc(alias = "TPMA_NV")]
    bits NvAttributes: u32 {
        "TPMA_NV_PPWRITE" PPWRITE = 1 << 0,
        "TPMA_NV_OWNERWRITE" OWNERWRITE = 1 << 1,
        "TPMA_NV_AUTHWRITE" AUTHWRITE = 1 << 2,
        "TPMA_NV_POLICYWRITE" POLICYWRITE = 1 << 3,
        "TPMA_NV_POLICY_DELETE" POLICY_DELETE = 1 << 10,
        "TPMA_NV_WRITELOCKED" WRITELOCKED = 1 << 11,
        "TPMA_NV_WRITEALL" WRITEALL = 1 << 12,
        "TPMA_NV_WRITEDEFINE" WRITEDEFINE = 1 << 13,
        "TPMA_NV_WRITE_STCLEAR" WRITE_STCLEAR = 1 << 14,
        "TPMA_NV_GLOBALLOCK" GLOBALLOCK = 1 << 15,
        "TPMA_NV_PPREAD" PPREAD = 1 << 16,
        "TPMA_NV_OWNERREAD" OWNERREAD = 1 << 17,
        "TPMA_NV_AUTHREAD" AUTHREAD = 1 << 18,
        "TPMA_NV_POLICYREAD" POLICYREAD = 1 << 19,
        "TPMA_NV_NO_DA" NO_DA = 1 << 25,
        "TPMA_NV_ORDERLY" ORDERLY = 1 << 26,
        "TPMA_NV_CLEAR_STCLEAR" CLEAR_STCLEAR = 1 << 27,
        "TPMA_NV_READLOCKED" READLOCKED = 1 << 28,
        "TPMA_NV_WRITTEN" WRITTEN = 1 << 29,
        "TPMA_NV_PLATFORMCREATE" PLATFORMCREATE = 1 << 30,
        "TPMA_NV_READ_STCLEAR" READ_STCLEAR = 1 << 31,
    }
    /// Attributes of an NV index outside of the TPM: the lower half is that of [`NvAttributes`]. Part 2 §13.
    #[doc(alias = "TPMA_NV_EXP")]
    bits NvExpAttributes: u64 {
        "TPMA_EXTERNAL_NV_ENCRYPTION" EXTERNAL_NV_ENCRYPTION = 1 << 32,
        "TPMA_EXTERNAL_NV_INTEGRITY" EXTERNAL_NV_INTEGRITY = 1 << 33,
        "TPMA_EXTERNAL_NV_ANTIROLLBACK" EXTERNAL_NV_ANTIROLLBACK = 1 << 34,
    }

    /// Localities. From 32 on a locality is a number and not a set of bits. Part 2 §8.5.
    #[doc(alias = "TPMA_LOCALITY")]
    bits Locality: u8 {
        "TPM_LOC_ZERO" "TPMA_LOCALITY_TPM_LOC_ZERO" ZERO = 1 << 0,
        "TPM_LOC_ONE" "TPMA_LOCALITY_TPM_LOC_ONE" ONE = 1 << 1,
        "TPM_LOC_TWO" "TPMA_LOCALITY_TPM_LOC_TWO" TWO = 1 << 2,
        "TPM_LOC_THREE" "TPMA_LOCALITY_TPM_LOC_THREE" THREE = 1 << 3,
        "TPM_LOC_FOUR" "TPMA_LOCALITY_TPM_LOC_FOUR" FOUR = 1 << 4,
    }

    /// State that a reset puts back. Part 2 §8.7.
    #[doc(alias = "TPMA_STARTUP_CLEAR")]
    bits StartupClearAttributes: u32 {
        "TPMA_STARTUP_CLEAR_phEnable" PH_ENABLE = 1 << 0,
        "TPMA_STARTUP_CLEAR_shEnable" SH_ENABLE = 1 << 1,
        "TPMA_STARTUP_CLEAR_ehEnable" EH_ENABLE = 1 << 2,
        "TPMA_STARTUP_CLEAR_phEnableNV" PH_ENABLE_NV = 1 << 3,
        "TPMA_STARTUP_CLEAR_readOnly" READ_ONLY = 1 << 4,
        "TPMA_STARTUP_CLEAR_orderly" ORDERLY = 1 << 31,
    }

    /// How a TPM uses its memory. Part 2 §8.8.
    #[doc(alias = "TPMA_MEMORY")]
    bits MemoryAttributes: u32 {
        "TPMA_MEMORY_sharedRAM" SHARED_RAM = 1 << 0,
        "TPMA_MEMORY_sharedNV" SHARED_NV = 1 << 1,
        "TPMA_MEMORY_objectCopiedToRam" OBJECT_COPIED_TO_RAM = 1 << 2,
    }

    /// What a TPM is certified for. Part 2 §8.10.
    #[doc(alias = "TPMA_MODES")]
    bits Modes: u32 {
        "TPMA_MODES_FIPS_140_2" FIPS_140_2 = 1 << 0,
        "TPMA_MODES_FIPS_140_3" FIPS_140_3 = 1 << 1,
        "TPMA_MODES_FIPS_140_3_INDICATOR" FIPS_140_3_INDICATOR = 0b11 << 2,
    }

    /// The key usage of a certificate that a TPM makes. Part 2 §8.11.
    #[doc(alias = "TPMA_X509_KEY_USAGE")]
    bits X509KeyUsage: u32 {
        "TPMA_X509_KEY_USAGE_decipherOnly" DECIPHER_ONLY = 1 << 23,
        "TPMA_X509_KEY_USAGE_encipherOnly" ENCIPHER_ONLY = 1 << 24,
        "TPMA_X509_KEY_USAGE_CRLSign" CRL_SIGN = 1 << 25,
        "TPMA_X509_KEY_USAGE_keyCertSign" KEY_CERT_SIGN = 1 << 26,
        "TPMA_X509_KEY_USAGE_keyAgreement" KEY_AGREEMENT = 1 << 27,
        "TPMA_X509_KEY_USAGE_dataEncipherment" DATA_ENCIPHERMENT = 1 << 28,
        "TPMA_X509_KEY_USAGE_keyEncipherment" KEY_ENCIPHERMENT = 1 << 29,
        "TPMA_X509_KEY_USAGE_nonRepudiation" NONREPUDIATION = 1 << 30,
        "TPMA_X509_KEY_USAGE_digitalSignature" DIGITAL_SIGNATURE = 1 << 31,
    }

    /// State of an authenticated countdown timer. Part 2 §8.12.
    #[doc(alias = "TPMA_ACT")]
    bits ActAttributes: u32 {
        "TPMA_ACT_signaled" SIGNALED = 1 << 0,
        "TPMA_ACT_preserveSignaled" PRESERVE_SIGNALED = 1 << 1,
    }

    /// The parameter sets of ML-KEM and ML-DSA that a TPM has. Part 2 §8.13.
    #[doc(alias = "TPMA_ML_PARAMETER_SET")]
    bits MlParameterSets: u32 {
        "TPMA_ML_PARAMETER_SET_mlKem_512" ML_KEM_512 = 1 << 0,
        "TPMA_ML_PARAMETER_SET_mlKem_768" ML_KEM_768 = 1 << 1,
        "TPMA_ML_PARAMETER_SET_mlKem_1024" ML_KEM_1024 = 1 << 2,
        "TPMA_ML_PARAMETER_SET_mlDsa_44" ML_DSA_44 = 1 << 3,
        "TPMA_ML_PARAMETER_SET_mlDsa_65" ML_DSA_65 = 1 << 4,
        "TPMA_ML_PARAMETER_SET_mlDsa_87" ML_DSA_87 = 1 << 5,
        "TPMA_ML_PARAMETER_SET_extMu" EXT_MU = 1 << 6,
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
