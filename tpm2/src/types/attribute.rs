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
        /// The object cannot leave this TPM: neither it nor a parent of it can be duplicated.
        "TPMA_OBJECT_fixedTPM" FIXED_TPM = 1 << 1,
        /// Contexts of the object that were saved before a `TPM2_Startup(CLEAR)` cannot be loaded behind it.
        "TPMA_OBJECT_stClear" ST_CLEAR = 1 << 2,
        /// The object stays under its parent: it cannot be duplicated by itself.
        "TPMA_OBJECT_fixedParent" FIXED_PARENT = 1 << 4,
        /// The TPM made the secret; the creator gave none but the authorization value.
        "TPMA_OBJECT_sensitiveDataOrigin" SENSITIVE_DATA_ORIGIN = 1 << 5,
        /// The authorization value suffices for what users do, such as signing; without this bit the policy is needed.
        "TPMA_OBJECT_userWithAuth" USER_WITH_AUTH = 1 << 6,
        /// What administrators do, such as certifying the object or changing its value, needs the policy; without this bit the authorization value suffices.
        "TPMA_OBJECT_adminWithPolicy" ADMIN_WITH_POLICY = 1 << 7,
        /// The object, a primary key, is bound to the firmware that made it.
        "TPMA_OBJECT_firmwareLimited" FIRMWARE_LIMITED = 1 << 8,
        /// The object, a primary key, is bound to a security version of the firmware that is not older.
        "TPMA_OBJECT_svnLimited" SVN_LIMITED = 1 << 9,
        /// Wrong authorization values are not counted, and a lockout does not stop the use of the object.
        "TPMA_OBJECT_noDA" NO_DA = 1 << 10,
        /// A duplicate must be encrypted, and have a new parent.
        "TPMA_OBJECT_encryptedDuplication" ENCRYPTED_DUPLICATION = 1 << 11,
        /// The key uses its own scheme only, signs nothing that only looks like an attestation, and decrypts only what the TPM understands.
        "TPMA_OBJECT_restricted" RESTRICTED = 1 << 16,
        /// The key decrypts; with `RESTRICTED` it is a parent.
        "TPMA_OBJECT_decrypt" DECRYPT = 1 << 17,
        /// The key signs; a symmetric one encrypts.
        "TPMA_OBJECT_SIGN_ENCRYPT" "TPMA_OBJECT_sign" SIGN = 1 << 18,
        /// The key signs nothing but certificates that `TPM2_CertifyX509` makes.
        "TPMA_OBJECT_x509sign" X509_SIGN = 1 << 19,
    }

    /// Attributes of a session in one command. Part 2 §8.4.
    #[doc(alias = "TPMA_SESSION")]
    bits SessionAttributes: u8 {
        /// The session stays in the TPM; without this bit the command is its last if it succeeds.
        "TPMA_SESSION_continueSession" CONTINUE_SESSION = 1 << 0,
        /// The command runs only if no other has run since the audit began; in an answer, that this is so.
        "TPMA_SESSION_auditExclusive" AUDIT_EXCLUSIVE = 1 << 1,
        /// The audit begins again with this command.
        "TPMA_SESSION_auditReset" AUDIT_RESET = 1 << 2,
        /// The first parameter of the command is encrypted: the TPM decrypts it.
        "TPMA_SESSION_decrypt" DECRYPT = 1 << 5,
        /// The first parameter of the answer is to be encrypted by the TPM.
        "TPMA_SESSION_encrypt" ENCRYPT = 1 << 6,
        /// The command is a part of the audit of this session.
        "TPMA_SESSION_audit" AUDIT = 1 << 7,
    }

    /// Attributes of an algorithm. Part 2 §8.2.
    #[doc(alias = "TPMA_ALGORITHM")]
    bits AlgorithmAttributes: u32 {
        /// With public and private key.
        "TPMA_ALGORITHM_asymmetric" ASYMMETRIC = 1 << 0,
        /// A block cipher.
        "TPMA_ALGORITHM_symmetric" SYMMETRIC = 1 << 1,
        /// A hash.
        "TPMA_ALGORITHM_hash" HASH = 1 << 2,
        /// Can be the type of an object.
        "TPMA_ALGORITHM_object" OBJECT = 1 << 3,
        /// Signs; so does a method if `ASYMMETRIC` is set, and makes MACs otherwise.
        "TPMA_ALGORITHM_signing" SIGNING = 1 << 8,
        /// Encrypts.
        "TPMA_ALGORITHM_encrypting" ENCRYPTING = 1 << 9,
        /// A method rather than a key, such as a KDF or a mask generation function.
        "TPMA_ALGORITHM_method" METHOD = 1 << 10,
    }

    /// State that lives until it is changed. Part 2 §8.6.
    #[doc(alias = "TPMA_PERMANENT")]
    bits PermanentAttributes: u32 {
        /// The owner has had an authorization value set since the last `TPM2_Clear`.
        "TPMA_PERMANENT_ownerAuthSet" OWNER_AUTH_SET = 1 << 0,
        /// The endorsement hierarchy has had an authorization value set since the last `TPM2_Clear`.
        "TPMA_PERMANENT_endorsementAuthSet" ENDORSEMENT_AUTH_SET = 1 << 1,
        /// The lockout has had an authorization value set since the last `TPM2_Clear`.
        "TPMA_PERMANENT_lockoutAuthSet" LOCKOUT_AUTH_SET = 1 << 2,
        /// `TPM2_Clear` is disabled.
        "TPMA_PERMANENT_disableClear" DISABLE_CLEAR = 1 << 8,
        /// The TPM is locked out: too many authorization values were wrong.
        "TPMA_PERMANENT_inLockout" IN_LOCKOUT = 1 << 9,
        /// The TPM made its endorsement seed itself; it was not written by the manufacturer.
        "TPMA_PERMANENT_tpmGeneratedEPS" TPM_GENERATED_EPS = 1 << 10,
    }

    /// Attributes of a command, as a TPM tells them of itself. Part 2 §8.9.
    #[doc(alias = "TPMA_CC")]
    bits CommandAttributes: u32 {
        /// May write to NV memory.
        "TPMA_CC_nv" NV = 1 << 22,
        /// May flush many objects of the TPM.
        "TPMA_CC_extensive" EXTENSIVE = 1 << 23,
        /// Flushes the transient objects in its handle area, such as a sequence.
        "TPMA_CC_flushed" FLUSHED = 1 << 24,
        /// The answer has a handle.
        "TPMA_CC_rHandle" R_HANDLE = 1 << 28,
        /// A vendor's command.
        "TPMA_CC_V" V = 1 << 29,
    }

    /// Attributes of an NV index. Part 2 §13.4.
    #[doc(alias = "TPMA_NV")]
    bits NvAttributes with nv_type: u32 {
        /// Platform authorization can write.
        "TPMA_NV_PPWRITE" PPWRITE = 1 << 0,
        /// Owner authorization can write.
        "TPMA_NV_OWNERWRITE" OWNERWRITE = 1 << 1,
        /// The index's own authorization value can write.
        "TPMA_NV_AUTHWRITE" AUTHWRITE = 1 << 2,
        /// The index's policy can write.
        "TPMA_NV_POLICYWRITE" POLICYWRITE = 1 << 3,
        /// Only the index's policy can remove it, with `TPM2_NV_UndefineSpaceSpecial`.
        "TPMA_NV_POLICY_DELETE" POLICY_DELETE = 1 << 10,
        /// Writing is locked now.
        "TPMA_NV_WRITELOCKED" WRITELOCKED = 1 << 11,
        /// Only all of the index can be written at once, no part of it.
        "TPMA_NV_WRITEALL" WRITEALL = 1 << 12,
        /// `TPM2_NV_WriteLock` locks writing forever.
        "TPMA_NV_WRITEDEFINE" WRITEDEFINE = 1 << 13,
        /// `TPM2_NV_WriteLock` locks writing until the next reset or restart.
        "TPMA_NV_WRITE_STCLEAR" WRITE_STCLEAR = 1 << 14,
        /// `TPM2_NV_GlobalWriteLock` locks writing of this index too.
        "TPMA_NV_GLOBALLOCK" GLOBALLOCK = 1 << 15,
        /// Platform authorization can read.
        "TPMA_NV_PPREAD" PPREAD = 1 << 16,
        /// Owner authorization can read.
        "TPMA_NV_OWNERREAD" OWNERREAD = 1 << 17,
        /// The index's own authorization value can read.
        "TPMA_NV_AUTHREAD" AUTHREAD = 1 << 18,
        /// The index's policy can read.
        "TPMA_NV_POLICYREAD" POLICYREAD = 1 << 19,
        /// Wrong authorization values are not counted, and a lockout does not stop the use of the index.
        "TPMA_NV_NO_DA" NO_DA = 1 << 25,
        /// Kept in RAM, and saved to NV memory at an orderly shutdown only.
        "TPMA_NV_ORDERLY" ORDERLY = 1 << 26,
        /// A reset or restart clears `WRITTEN`.
        "TPMA_NV_CLEAR_STCLEAR" CLEAR_STCLEAR = 1 << 27,
        /// Reading is locked now.
        "TPMA_NV_READLOCKED" READLOCKED = 1 << 28,
        /// The index has been written.
        "TPMA_NV_WRITTEN" WRITTEN = 1 << 29,
        /// Platform authorization defined the index, and only it can remove it; `TPM2_Clear` does not.
        "TPMA_NV_PLATFORMCREATE" PLATFORMCREATE = 1 << 30,
        /// `TPM2_NV_ReadLock` locks reading until the next reset or restart.
        "TPMA_NV_READ_STCLEAR" READ_STCLEAR = 1 << 31,
    }
    /// Attributes of an NV index outside of the TPM: the lower half is that of [`NvAttributes`]. Part 2 §13.
    #[doc(alias = "TPMA_NV_EXP")]
    bits NvExpAttributes: u64 {
        /// The data are encrypted outside of the TPM.
        "TPMA_EXTERNAL_NV_ENCRYPTION" EXTERNAL_NV_ENCRYPTION = 1 << 32,
        /// The TPM notices if the data outside of it were changed.
        "TPMA_EXTERNAL_NV_INTEGRITY" EXTERNAL_NV_INTEGRITY = 1 << 33,
        /// The TPM notices if the data outside of it are of an earlier time.
        "TPMA_EXTERNAL_NV_ANTIROLLBACK" EXTERNAL_NV_ANTIROLLBACK = 1 << 34,
    }

    /// Localities. From 32 on a locality is a number and not a set of bits. Part 2 §8.5.
    #[doc(alias = "TPMA_LOCALITY")]
    bits Locality: u8 {
        /// Where ordinary software runs.
        "TPM_LOC_ZERO" "TPMA_LOCALITY_TPM_LOC_ZERO" ZERO = 1 << 0,
        /// For the use of a dynamic launch: its operating system.
        "TPM_LOC_ONE" "TPMA_LOCALITY_TPM_LOC_ONE" ONE = 1 << 1,
        /// For the use of a dynamic launch: its environment.
        "TPM_LOC_TWO" "TPMA_LOCALITY_TPM_LOC_TWO" TWO = 1 << 2,
        /// For the use of a dynamic launch: its auxiliary components.
        "TPM_LOC_THREE" "TPMA_LOCALITY_TPM_LOC_THREE" THREE = 1 << 3,
        /// The hardware that begins a dynamic launch.
        "TPM_LOC_FOUR" "TPMA_LOCALITY_TPM_LOC_FOUR" FOUR = 1 << 4,
    }

    /// State that a reset puts back. Part 2 §8.7.
    #[doc(alias = "TPMA_STARTUP_CLEAR")]
    bits StartupClearAttributes: u32 {
        /// The platform hierarchy is enabled.
        "TPMA_STARTUP_CLEAR_phEnable" PH_ENABLE = 1 << 0,
        /// The owner's hierarchy is enabled.
        "TPMA_STARTUP_CLEAR_shEnable" SH_ENABLE = 1 << 1,
        /// The endorsement hierarchy is enabled.
        "TPMA_STARTUP_CLEAR_ehEnable" EH_ENABLE = 1 << 2,
        /// NV indices that the platform defined are enabled.
        "TPMA_STARTUP_CLEAR_phEnableNV" PH_ENABLE_NV = 1 << 3,
        /// The TPM is in read-only mode.
        "TPMA_STARTUP_CLEAR_readOnly" READ_ONLY = 1 << 4,
        /// The last shutdown was orderly: `TPM2_Shutdown` was the last command.
        "TPMA_STARTUP_CLEAR_orderly" ORDERLY = 1 << 31,
    }

    /// How a TPM uses its memory. Part 2 §8.8.
    #[doc(alias = "TPMA_MEMORY")]
    bits MemoryAttributes: u32 {
        /// Objects and sessions share the RAM, so that more of the one leaves less for the other.
        "TPMA_MEMORY_sharedRAM" SHARED_RAM = 1 << 0,
        /// Persistent objects and NV indices share the NV memory.
        "TPMA_MEMORY_sharedNV" SHARED_NV = 1 << 1,
        /// A persistent object is copied to RAM when it is used, and needs a slot there.
        "TPMA_MEMORY_objectCopiedToRam" OBJECT_COPIED_TO_RAM = 1 << 2,
    }

    /// What a TPM is certified for. Part 2 §8.10.
    #[doc(alias = "TPMA_MODES")]
    bits Modes: u32 {
        /// Designed to comply with FIPS 140-2 at level 1 or above.
        "TPMA_MODES_FIPS_140_2" FIPS_140_2 = 1 << 0,
        /// Designed to comply with FIPS 140-3 at level 1 or above.
        "TPMA_MODES_FIPS_140_3" FIPS_140_3 = 1 << 1,
        /// Both bits of the field that says by which means FIPS 140-3 services are indicated.
        "TPMA_MODES_FIPS_140_3_INDICATOR" FIPS_140_3_INDICATOR = 0b11 << 2,
    }

    /// The key usage of a certificate that a TPM makes. Part 2 §8.11.
    #[doc(alias = "TPMA_X509_KEY_USAGE")]
    bits X509KeyUsage: u32 {
        /// A key agreement decrypts only. RFC 5280 §4.2.1.3.
        "TPMA_X509_KEY_USAGE_decipherOnly" DECIPHER_ONLY = 1 << 23,
        /// A key agreement encrypts only.
        "TPMA_X509_KEY_USAGE_encipherOnly" ENCIPHER_ONLY = 1 << 24,
        /// Signs revocation lists.
        "TPMA_X509_KEY_USAGE_CRLSign" CRL_SIGN = 1 << 25,
        /// Signs certificates.
        "TPMA_X509_KEY_USAGE_keyCertSign" KEY_CERT_SIGN = 1 << 26,
        /// Agrees on keys.
        "TPMA_X509_KEY_USAGE_keyAgreement" KEY_AGREEMENT = 1 << 27,
        /// Encrypts data that are no keys.
        "TPMA_X509_KEY_USAGE_dataEncipherment" DATA_ENCIPHERMENT = 1 << 28,
        /// Encrypts keys.
        "TPMA_X509_KEY_USAGE_keyEncipherment" KEY_ENCIPHERMENT = 1 << 29,
        /// Signs what the signer is to be held to.
        "TPMA_X509_KEY_USAGE_nonRepudiation" NONREPUDIATION = 1 << 30,
        /// Signs what is neither certificates nor revocation lists.
        "TPMA_X509_KEY_USAGE_digitalSignature" DIGITAL_SIGNATURE = 1 << 31,
    }

    /// State of an authenticated countdown timer. Part 2 §8.12.
    #[doc(alias = "TPMA_ACT")]
    bits ActAttributes: u32 {
        /// The timer has run out.
        "TPMA_ACT_signaled" SIGNALED = 1 << 0,
        /// `SIGNALED` survives a resume of the TPM.
        "TPMA_ACT_preserveSignaled" PRESERVE_SIGNALED = 1 << 1,
    }

    /// The parameter sets of ML-KEM and ML-DSA that a TPM has. Part 2 §8.13.
    #[doc(alias = "TPMA_ML_PARAMETER_SET")]
    bits MlParameterSets: u32 {
        /// ML-KEM-512. FIPS 203.
        "TPMA_ML_PARAMETER_SET_mlKem_512" ML_KEM_512 = 1 << 0,
        /// ML-KEM-768.
        "TPMA_ML_PARAMETER_SET_mlKem_768" ML_KEM_768 = 1 << 1,
        /// ML-KEM-1024.
        "TPMA_ML_PARAMETER_SET_mlKem_1024" ML_KEM_1024 = 1 << 2,
        /// ML-DSA-44. FIPS 204.
        "TPMA_ML_PARAMETER_SET_mlDsa_44" ML_DSA_44 = 1 << 3,
        /// ML-DSA-65.
        "TPMA_ML_PARAMETER_SET_mlDsa_65" ML_DSA_65 = 1 << 4,
        /// ML-DSA-87.
        "TPMA_ML_PARAMETER_SET_mlDsa_87" ML_DSA_87 = 1 << 5,
        /// ML-DSA takes a message representative μ that was computed outside of the TPM.
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
