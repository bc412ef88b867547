use crate::wire::macros::numbers;

numbers! {
    /// Algorithm identifiers. Part 2 §6.3.
    #[doc(alias(
        "TPM_ALG_ID",
        "TPMI_ALG_HASH",
        "TPMI_ALG_ASYM",
        "TPMI_ALG_SYM",
        "TPMI_ALG_SYM_OBJECT",
        "TPMI_ALG_SYM_MODE",
        "TPMI_ALG_KDF",
        "TPMI_ALG_SIG_SCHEME",
        "TPMI_ECC_KEY_EXCHANGE",
        "TPMI_ALG_MAC_SCHEME",
        "TPMI_ALG_CIPHER_MODE",
        "TPMI_ALG_KEYEDHASH_SCHEME",
        "TPMI_ALG_RSA_SCHEME",
        "TPMI_ALG_RSA_DECRYPT",
        "TPMI_ALG_ECC_SCHEME",
        "TPMI_ALG_PUBLIC",
    ))]
    Alg: u16 {
        /// RSA keys.
        "TPM_ALG_RSA" RSA = 0x0001,
        /// Triple DES.
        "TPM_ALG_TDES" TDES = 0x0003,
        /// SHA-1; collisions can be made.
        "TPM_ALG_SHA1" "TPM_ALG_SHA" SHA1 = 0x0004,
        /// HMAC of a key object.
        "TPM_ALG_HMAC" HMAC = 0x0005,
        /// AES.
        "TPM_ALG_AES" AES = 0x0006,
        /// The mask generation function of OAEP and PSS.
        "TPM_ALG_MGF1" MGF1 = 0x0007,
        /// Objects that are sealed data, HMAC keys or XOR keys.
        "TPM_ALG_KEYEDHASH" KEYEDHASH = 0x0008,
        /// Obfuscation by XOR with a key stream.
        "TPM_ALG_XOR" XOR = 0x000a,
        /// SHA-256.
        "TPM_ALG_SHA256" SHA256 = 0x000b,
        /// SHA-384.
        "TPM_ALG_SHA384" SHA384 = 0x000c,
        /// SHA-512.
        "TPM_ALG_SHA512" SHA512 = 0x000d,
        /// The first 192 bits of SHA-256.
        "TPM_ALG_SHA256_192" SHA256_192 = 0x000e,
        /// No algorithm.
        "TPM_ALG_NULL" NULL = 0x0010,
        /// SM3.
        "TPM_ALG_SM3_256" SM3_256 = 0x0012,
        /// SM4.
        "TPM_ALG_SM4" SM4 = 0x0013,
        /// RSA signatures of PKCS #1 v1.5.
        "TPM_ALG_RSASSA" RSASSA = 0x0014,
        /// RSA encryption of PKCS #1 v1.5.
        "TPM_ALG_RSAES" RSAES = 0x0015,
        /// RSA-PSS.
        "TPM_ALG_RSAPSS" RSAPSS = 0x0016,
        /// RSA-OAEP.
        "TPM_ALG_OAEP" OAEP = 0x0017,
        /// ECDSA.
        "TPM_ALG_ECDSA" ECDSA = 0x0018,
        /// ECDH with one key of the TPM.
        "TPM_ALG_ECDH" ECDH = 0x0019,
        /// Anonymous attestation with elliptic curves.
        "TPM_ALG_ECDAA" ECDAA = 0x001a,
        /// SM2 signatures, or its key exchange.
        "TPM_ALG_SM2" SM2 = 0x001b,
        /// Schnorr signatures with elliptic curves.
        "TPM_ALG_ECSCHNORR" ECSCHNORR = 0x001c,
        /// MQV key exchange with elliptic curves.
        "TPM_ALG_ECMQV" ECMQV = 0x001d,
        /// HKDF.
        "TPM_ALG_HKDF" HKDF = 0x001f,
        /// The KDF that the TPM calls KDFe.
        "TPM_ALG_KDF1_SP800_56A" KDF1_SP800_56A = 0x0020,
        /// KDF2 of IEEE 1363a.
        "TPM_ALG_KDF2" KDF2 = 0x0021,
        /// The KDF that the TPM calls KDFa.
        "TPM_ALG_KDF1_SP800_108" KDF1_SP800_108 = 0x0022,
        /// Keys on elliptic curves.
        "TPM_ALG_ECC" ECC = 0x0023,
        /// Objects that are keys of a cipher.
        "TPM_ALG_SYMCIPHER" SYMCIPHER = 0x0025,
        /// Camellia.
        "TPM_ALG_CAMELLIA" CAMELLIA = 0x0026,
        /// SHA3-256.
        "TPM_ALG_SHA3_256" SHA3_256 = 0x0027,
        /// SHA3-384.
        "TPM_ALG_SHA3_384" SHA3_384 = 0x0028,
        /// SHA3-512.
        "TPM_ALG_SHA3_512" SHA3_512 = 0x0029,
        /// SHAKE128.
        "TPM_ALG_SHAKE128" SHAKE128 = 0x002a,
        /// SHAKE256.
        "TPM_ALG_SHAKE256" SHAKE256 = 0x002b,
        /// 192 bits of SHAKE256.
        "TPM_ALG_SHAKE256_192" SHAKE256_192 = 0x002c,
        /// 256 bits of SHAKE256.
        "TPM_ALG_SHAKE256_256" SHAKE256_256 = 0x002d,
        /// 512 bits of SHAKE256.
        "TPM_ALG_SHAKE256_512" SHAKE256_512 = 0x002e,
        /// CMAC.
        "TPM_ALG_CMAC" CMAC = 0x003f,
        /// Counter mode.
        "TPM_ALG_CTR" CTR = 0x0040,
        /// Output feedback.
        "TPM_ALG_OFB" OFB = 0x0041,
        /// Cipher block chaining; the length of the data must be that of whole blocks.
        "TPM_ALG_CBC" CBC = 0x0042,
        /// Cipher feedback, in which a TPM encrypts what it protects itself.
        "TPM_ALG_CFB" CFB = 0x0043,
        /// Each block by itself.
        "TPM_ALG_ECB" ECB = 0x0044,
        /// EdDSA of a message.
        "TPM_ALG_EDDSA" EDDSA = 0x0060,
        /// EdDSA of a digest.
        "TPM_ALG_HASH_EDDSA" HASH_EDDSA = 0x0061,
        /// ML-KEM keys.
        "TPM_ALG_MLKEM" MLKEM = 0x00a0,
        /// ML-DSA keys that sign messages.
        "TPM_ALG_MLDSA" MLDSA = 0x00a1,
        /// ML-DSA keys that sign digests.
        "TPM_ALG_HASH_MLDSA" HASH_MLDSA = 0x00a2,
    }

    /// Elliptic curves. Part 2 §6.4.
    #[doc(alias("TPM_ECC_CURVE", "TPMI_ECC_CURVE"))]
    Curve: u16 {
        "TPM_ECC_NONE" NONE = 0x0000,
        "TPM_ECC_NIST_P192" NIST_P192 = 0x0001,
        "TPM_ECC_NIST_P224" NIST_P224 = 0x0002,
        "TPM_ECC_NIST_P256" NIST_P256 = 0x0003,
        "TPM_ECC_NIST_P384" NIST_P384 = 0x0004,
        "TPM_ECC_NIST_P521" NIST_P521 = 0x0005,
        "TPM_ECC_BN_P256" BN_P256 = 0x0010,
        "TPM_ECC_BN_P638" BN_P638 = 0x0011,
        "TPM_ECC_SM2_P256" SM2_P256 = 0x0020,
        "TPM_ECC_BP_P256_R1" BP_P256_R1 = 0x0030,
        "TPM_ECC_BP_P384_R1" BP_P384_R1 = 0x0031,
        "TPM_ECC_BP_P512_R1" BP_P512_R1 = 0x0032,
        "TPM_ECC_CURVE_25519" CURVE_25519 = 0x0040,
        "TPM_ECC_CURVE_448" CURVE_448 = 0x0041,
    }

    /// Structure tags, of messages and tickets. Part 2 §6.9.
    #[doc(alias("TPM_ST", "TPMI_ST_ATTEST", "TPMI_ST_COMMAND_TAG"))]
    Structure: u16 {
        /// A response to a command with the tag of TPM 1.2.
        "TPM_ST_RSP_COMMAND" RSP_COMMAND = 0x00c4,
        /// No structure.
        "TPM_ST_NULL" NULL = 0x8000,
        /// A command or response without sessions.
        "TPM_ST_NO_SESSIONS" NO_SESSIONS = 0x8001,
        /// A command or response with sessions.
        "TPM_ST_SESSIONS" SESSIONS = 0x8002,
        /// An attestation of an NV index's content.
        "TPM_ST_ATTEST_NV" ATTEST_NV = 0x8014,
        /// An attestation of the audited commands.
        "TPM_ST_ATTEST_COMMAND_AUDIT" ATTEST_COMMAND_AUDIT = 0x8015,
        /// An attestation of the commands in a session.
        "TPM_ST_ATTEST_SESSION_AUDIT" ATTEST_SESSION_AUDIT = 0x8016,
        /// An attestation that an object is in the TPM.
        "TPM_ST_ATTEST_CERTIFY" ATTEST_CERTIFY = 0x8017,
        /// An attestation of PCRs.
        "TPM_ST_ATTEST_QUOTE" ATTEST_QUOTE = 0x8018,
        /// An attestation of time and clock.
        "TPM_ST_ATTEST_TIME" ATTEST_TIME = 0x8019,
        /// An attestation that the TPM created an object.
        "TPM_ST_ATTEST_CREATION" ATTEST_CREATION = 0x801a,
        /// An attestation of the digest of an NV index's content.
        "TPM_ST_ATTEST_NV_DIGEST" ATTEST_NV_DIGEST = 0x801c,
        /// A ticket: the TPM created the object.
        "TPM_ST_CREATION" CREATION = 0x8021,
        /// A ticket: the TPM verified the signature of a digest.
        "TPM_ST_VERIFIED" VERIFIED = 0x8022,
        /// A ticket of TPM2_PolicySecret.
        "TPM_ST_AUTH_SECRET" AUTH_SECRET = 0x8023,
        /// A ticket: the TPM computed the digest, of data that it did not sign itself.
        "TPM_ST_HASHCHECK" HASHCHECK = 0x8024,
        /// A ticket of TPM2_PolicySigned.
        "TPM_ST_AUTH_SIGNED" AUTH_SIGNED = 0x8025,
        /// A ticket: the TPM verified the signature of a message.
        "TPM_ST_MESSAGE_VERIFIED" MESSAGE_VERIFIED = 0x8026,
        /// A ticket: the TPM verified the signature of a digest, with the key's hash.
        "TPM_ST_DIGEST_VERIFIED" DIGEST_VERIFIED = 0x8027,
        /// The manifest of a firmware update.
        "TPM_ST_FU_MANIFEST" FU_MANIFEST = 0x8029,
    }

    /// How the TPM is to start, or to be shut down. Part 2 §6.10.
    #[doc(alias = "TPM_SU")]
    Startup: u16 {
        /// A start with cleared state, or the shutdown before one.
        "TPM_SU_CLEAR" CLEAR = 0x0000,
        /// A start with the state that a shutdown of this kind saved: a resume or a restart.
        "TPM_SU_STATE" STATE = 0x0001,
    }

    /// Kinds of session. Part 2 §6.11.
    #[doc(alias = "TPM_SE")]
    SessionType: u8 {
        /// Proves authorization values, encrypts and audits.
        "TPM_SE_HMAC" HMAC = 0x00,
        /// Authorizes by a policy.
        "TPM_SE_POLICY" POLICY = 0x01,
        /// Computes the digest of a policy, and authorizes nothing.
        "TPM_SE_TRIAL" TRIAL = 0x03,
    }

    /// What [`GetCapability`](crate::commands::GetCapability) can be asked for. Part 2 §6.12.
    #[doc(alias = "TPM_CAP")]
    Capability: u32 {
        /// Algorithms, and what they can be used for.
        "TPM_CAP_ALGS" ALGS = 0x0000_0000,
        /// Handles of the kind that the property begins with.
        "TPM_CAP_HANDLES" HANDLES = 0x0000_0001,
        /// Commands, and their attributes.
        "TPM_CAP_COMMANDS" COMMANDS = 0x0000_0002,
        /// Commands that need physical presence.
        "TPM_CAP_PP_COMMANDS" PP_COMMANDS = 0x0000_0003,
        /// Commands that are audited.
        "TPM_CAP_AUDIT_COMMANDS" AUDIT_COMMANDS = 0x0000_0004,
        /// The PCRs of each bank.
        "TPM_CAP_PCRS" PCRS = 0x0000_0005,
        /// Properties of the TPM.
        "TPM_CAP_TPM_PROPERTIES" TPM_PROPERTIES = 0x0000_0006,
        /// Properties of PCRs, each with the PCRs that have it.
        "TPM_CAP_PCR_PROPERTIES" PCR_PROPERTIES = 0x0000_0007,
        /// Curves.
        "TPM_CAP_ECC_CURVES" ECC_CURVES = 0x0000_0008,
        /// The policies of hierarchies and other permanent handles.
        "TPM_CAP_AUTH_POLICIES" AUTH_POLICIES = 0x0000_0009,
        /// Authenticated countdown timers.
        "TPM_CAP_ACT" ACT = 0x0000_000a,
        /// Public keys that the TPM itself uses.
        "TPM_CAP_PUB_KEYS" PUB_KEYS = 0x0000_000b,
        /// The SPDM session that the command came by.
        "TPM_CAP_SPDM_SESSION_INFO" SPDM_SESSION_INFO = 0x0000_000c,
        /// What a vendor defines.
        "TPM_CAP_VENDOR_PROPERTY" VENDOR_PROPERTY = 0x0000_0100,
    }

    /// Properties of a TPM. Part 2 §6.13.
    #[doc(alias = "TPM_PT")]
    Property: u32 {
        /// No property.
        "TPM_PT_NONE" NONE = 0x0000,
        /// Four characters: `2.0`.
        "TPM_PT_FAMILY_INDICATOR" FAMILY_INDICATOR = 0x0100,
        /// The level of the specification.
        "TPM_PT_LEVEL" LEVEL = 0x0101,
        /// The version of the specification, times a hundred: 138 is 1.38.
        "TPM_PT_REVISION" REVISION = 0x0102,
        /// The day of the year of the specification.
        "TPM_PT_ERRATA" ERRATA = 0x0103,
        /// The year of the specification.
        "TPM_PT_YEAR" YEAR = 0x0104,
        /// Four characters: the vendor's identifier.
        "TPM_PT_MANUFACTURER" MANUFACTURER = 0x0105,
        /// Four characters of the name that the vendor gave the TPM.
        "TPM_PT_VENDOR_STRING_1" VENDOR_STRING_1 = 0x0106,
        /// The next four.
        "TPM_PT_VENDOR_STRING_2" VENDOR_STRING_2 = 0x0107,
        /// The next four.
        "TPM_PT_VENDOR_STRING_3" VENDOR_STRING_3 = 0x0108,
        /// The last four.
        "TPM_PT_VENDOR_STRING_4" VENDOR_STRING_4 = 0x0109,
        /// What the vendor calls this kind of TPM.
        "TPM_PT_VENDOR_TPM_TYPE" VENDOR_TPM_TYPE = 0x010a,
        /// The upper half of the version of the firmware.
        "TPM_PT_FIRMWARE_VERSION_1" FIRMWARE_VERSION_1 = 0x010b,
        /// The lower half of the version of the firmware.
        "TPM_PT_FIRMWARE_VERSION_2" FIRMWARE_VERSION_2 = 0x010c,
        /// Octets that a [`MaxBuffer`](super::MaxBuffer) can have.
        "TPM_PT_INPUT_BUFFER" INPUT_BUFFER = 0x010d,
        /// Objects that can be loaded at once, at least.
        "TPM_PT_HR_TRANSIENT_MIN" HR_TRANSIENT_MIN = 0x010e,
        /// Objects that can be persistent at once, at least.
        "TPM_PT_HR_PERSISTENT_MIN" HR_PERSISTENT_MIN = 0x010f,
        /// Sessions that can be loaded at once, at least.
        "TPM_PT_HR_LOADED_MIN" HR_LOADED_MIN = 0x0110,
        /// Sessions that can be loaded or saved at once.
        "TPM_PT_ACTIVE_SESSIONS_MAX" ACTIVE_SESSIONS_MAX = 0x0111,
        /// PCRs that there are.
        "TPM_PT_PCR_COUNT" PCR_COUNT = 0x0112,
        /// Octets of a PCR selection, at least.
        "TPM_PT_PCR_SELECT_MIN" PCR_SELECT_MIN = 0x0113,
        /// How far apart the context numbers of two saved sessions may be.
        "TPM_PT_CONTEXT_GAP_MAX" CONTEXT_GAP_MAX = 0x0114,
        /// NV counters that can be defined; 0 if only memory limits them.
        "TPM_PT_NV_COUNTERS_MAX" NV_COUNTERS_MAX = 0x0116,
        /// Octets that an NV index can have.
        "TPM_PT_NV_INDEX_MAX" NV_INDEX_MAX = 0x0117,
        /// The [`MemoryAttributes`](super::MemoryAttributes).
        "TPM_PT_MEMORY" MEMORY = 0x0118,
        /// Milliseconds between two times at which the clock is saved.
        "TPM_PT_CLOCK_UPDATE" CLOCK_UPDATE = 0x0119,
        /// The hash that protects saved contexts.
        "TPM_PT_CONTEXT_HASH" CONTEXT_HASH = 0x011a,
        /// The cipher that encrypts saved contexts.
        "TPM_PT_CONTEXT_SYM" CONTEXT_SYM = 0x011b,
        /// Bits of the key of that cipher.
        "TPM_PT_CONTEXT_SYM_SIZE" CONTEXT_SYM_SIZE = 0x011c,
        /// Writes of an orderly counter between two at which it is saved.
        "TPM_PT_ORDERLY_COUNT" ORDERLY_COUNT = 0x011d,
        /// Octets that a command can have.
        "TPM_PT_MAX_COMMAND_SIZE" MAX_COMMAND_SIZE = 0x011e,
        /// Octets that an answer can have.
        "TPM_PT_MAX_RESPONSE_SIZE" MAX_RESPONSE_SIZE = 0x011f,
        /// Octets of the longest digest.
        "TPM_PT_MAX_DIGEST" MAX_DIGEST = 0x0120,
        /// Octets of the longest saved object.
        "TPM_PT_MAX_OBJECT_CONTEXT" MAX_OBJECT_CONTEXT = 0x0121,
        /// Octets of the longest saved session.
        "TPM_PT_MAX_SESSION_CONTEXT" MAX_SESSION_CONTEXT = 0x0122,
        /// The specification of the platform: see [`PlatformSpecific`].
        "TPM_PT_PS_FAMILY_INDICATOR" PS_FAMILY_INDICATOR = 0x0123,
        /// The level of that specification.
        "TPM_PT_PS_LEVEL" PS_LEVEL = 0x0124,
        /// The version of that specification.
        "TPM_PT_PS_REVISION" PS_REVISION = 0x0125,
        /// The day of the year of that specification.
        "TPM_PT_PS_DAY_OF_YEAR" PS_DAY_OF_YEAR = 0x0126,
        /// The year of that specification.
        "TPM_PT_PS_YEAR" PS_YEAR = 0x0127,
        /// Anonymous signatures that can be begun and not finished.
        "TPM_PT_SPLIT_MAX" SPLIT_MAX = 0x0128,
        /// Commands that there are.
        "TPM_PT_TOTAL_COMMANDS" TOTAL_COMMANDS = 0x0129,
        /// Those of them that are of the specification.
        "TPM_PT_LIBRARY_COMMANDS" LIBRARY_COMMANDS = 0x012a,
        /// Those of them that are the vendor's.
        "TPM_PT_VENDOR_COMMANDS" VENDOR_COMMANDS = 0x012b,
        /// Octets that one command writes to, or reads from, an NV index.
        "TPM_PT_NV_BUFFER_MAX" NV_BUFFER_MAX = 0x012c,
        /// The [`Modes`](super::Modes).
        "TPM_PT_MODES" MODES = 0x012d,
        /// Octets of the longest list of capabilities.
        "TPM_PT_MAX_CAP_BUFFER" MAX_CAP_BUFFER = 0x012e,
        /// The security version of the firmware.
        "TPM_PT_FIRMWARE_SVN" FIRMWARE_SVN = 0x012f,
        /// The highest security version that the firmware has had.
        "TPM_PT_FIRMWARE_MAX_SVN" FIRMWARE_MAX_SVN = 0x0130,
        /// The [`MlParameterSets`](super::MlParameterSets).
        "TPM_PT_ML_PARAMETER_SETS" ML_PARAMETER_SETS = 0x0131,
        /// The [`PermanentAttributes`](super::PermanentAttributes).
        "TPM_PT_PERMANENT" PERMANENT = 0x0200,
        /// The [`StartupClearAttributes`](super::StartupClearAttributes).
        "TPM_PT_STARTUP_CLEAR" STARTUP_CLEAR = 0x0201,
        /// NV indices that are defined.
        "TPM_PT_HR_NV_INDEX" HR_NV_INDEX = 0x0202,
        /// Sessions that are loaded.
        "TPM_PT_HR_LOADED" HR_LOADED = 0x0203,
        /// Sessions that can be loaded besides.
        "TPM_PT_HR_LOADED_AVAIL" HR_LOADED_AVAIL = 0x0204,
        /// Sessions that are loaded or saved.
        "TPM_PT_HR_ACTIVE" HR_ACTIVE = 0x0205,
        /// Sessions that can be started besides.
        "TPM_PT_HR_ACTIVE_AVAIL" HR_ACTIVE_AVAIL = 0x0206,
        /// Objects that can be loaded besides, at least.
        "TPM_PT_HR_TRANSIENT_AVAIL" HR_TRANSIENT_AVAIL = 0x0207,
        /// Objects that are persistent.
        "TPM_PT_HR_PERSISTENT" HR_PERSISTENT = 0x0208,
        /// Objects that can be made persistent besides, at least.
        "TPM_PT_HR_PERSISTENT_AVAIL" HR_PERSISTENT_AVAIL = 0x0209,
        /// NV counters that are defined.
        "TPM_PT_NV_COUNTERS" NV_COUNTERS = 0x020a,
        /// NV counters that can be defined besides.
        "TPM_PT_NV_COUNTERS_AVAIL" NV_COUNTERS_AVAIL = 0x020b,
        /// The set of algorithms that was chosen.
        "TPM_PT_ALGORITHM_SET" ALGORITHM_SET = 0x020c,
        /// Curves that there are.
        "TPM_PT_LOADED_CURVES" LOADED_CURVES = 0x020d,
        /// Wrong authorization values that are counted now.
        "TPM_PT_LOCKOUT_COUNTER" LOCKOUT_COUNTER = 0x020e,
        /// How many of them lock the TPM out.
        "TPM_PT_MAX_AUTH_FAIL" MAX_AUTH_FAIL = 0x020f,
        /// Seconds after which one is forgotten.
        "TPM_PT_LOCKOUT_INTERVAL" LOCKOUT_INTERVAL = 0x0210,
        /// Seconds for which the lockout value cannot be used after a wrong one.
        "TPM_PT_LOCKOUT_RECOVERY" LOCKOUT_RECOVERY = 0x0211,
        /// Milliseconds until the TPM writes to NV memory again.
        "TPM_PT_NV_WRITE_RECOVERY" NV_WRITE_RECOVERY = 0x0212,
        /// The upper half of the count of audits.
        "TPM_PT_AUDIT_COUNTER_0" AUDIT_COUNTER_0 = 0x0213,
        /// The lower half of the count of audits.
        "TPM_PT_AUDIT_COUNTER_1" AUDIT_COUNTER_1 = 0x0214,
    }

    /// What a PCR is like. Part 2 §6.14.
    #[doc(alias = "TPM_PT_PCR")]
    PcrProperty: u32 {
        /// It is saved by TPM2_Shutdown(STATE).
        "TPM_PT_PCR_SAVE" SAVE = 0x00,
        /// It can be extended from locality 0.
        "TPM_PT_PCR_EXTEND_L0" EXTEND_L0 = 0x01,
        /// It can be reset from locality 0.
        "TPM_PT_PCR_RESET_L0" RESET_L0 = 0x02,
        /// It can be extended from locality 1.
        "TPM_PT_PCR_EXTEND_L1" EXTEND_L1 = 0x03,
        /// It can be reset from locality 1.
        "TPM_PT_PCR_RESET_L1" RESET_L1 = 0x04,
        /// It can be extended from locality 2.
        "TPM_PT_PCR_EXTEND_L2" EXTEND_L2 = 0x05,
        /// It can be reset from locality 2.
        "TPM_PT_PCR_RESET_L2" RESET_L2 = 0x06,
        /// It can be extended from locality 3.
        "TPM_PT_PCR_EXTEND_L3" EXTEND_L3 = 0x07,
        /// It can be reset from locality 3.
        "TPM_PT_PCR_RESET_L3" RESET_L3 = 0x08,
        /// It can be extended from locality 4.
        "TPM_PT_PCR_EXTEND_L4" EXTEND_L4 = 0x09,
        /// It can be reset from locality 4.
        "TPM_PT_PCR_RESET_L4" RESET_L4 = 0x0a,
        /// A change does not increment the counter of PCR updates.
        "TPM_PT_PCR_NO_INCREMENT" NO_INCREMENT = 0x11,
        /// A D-RTM event resets it.
        "TPM_PT_PCR_DRTM_RESET" DRTM_RESET = 0x12,
        /// A policy can protect it.
        "TPM_PT_PCR_POLICY" POLICY = 0x13,
        /// An authorization value can protect it.
        "TPM_PT_PCR_AUTH" AUTH = 0x14,
    }

    /// What kind of platform a TPM is for. Part 2 §6.15.
    #[doc(alias = "TPM_PS")]
    PlatformSpecific: u32 {
        "TPM_PS_MAIN" MAIN = 0x00,
        "TPM_PS_PC" PC = 0x01,
        "TPM_PS_PDA" PDA = 0x02,
        "TPM_PS_CELL_PHONE" CELL_PHONE = 0x03,
        "TPM_PS_SERVER" SERVER = 0x04,
        "TPM_PS_PERIPHERAL" PERIPHERAL = 0x05,
        "TPM_PS_TSS" TSS = 0x06,
        "TPM_PS_STORAGE" STORAGE = 0x07,
        "TPM_PS_AUTHENTICATION" AUTHENTICATION = 0x08,
        "TPM_PS_EMBEDDED" EMBEDDED = 0x09,
        "TPM_PS_HARDCOPY" HARDCOPY = 0x0a,
        "TPM_PS_INFRASTRUCTURE" INFRASTRUCTURE = 0x0b,
        "TPM_PS_VIRTUALIZATION" VIRTUALIZATION = 0x0c,
        "TPM_PS_TNC" TNC = 0x0d,
        "TPM_PS_MULTI_TENANT" MULTI_TENANT = 0x0e,
        "TPM_PS_TC" TC = 0x0f,
    }

    /// How the operands of a policy are compared. Part 2 §6.8.
    #[doc(alias = "TPM_EO")]
    Comparison: u16 {
        /// Equal.
        "TPM_EO_EQ" EQ = 0x0000,
        /// Not equal.
        "TPM_EO_NEQ" NEQ = 0x0001,
        /// Greater than, as two's complement.
        "TPM_EO_SIGNED_GT" SIGNED_GT = 0x0002,
        /// Greater than.
        "TPM_EO_UNSIGNED_GT" UNSIGNED_GT = 0x0003,
        /// Less than, as two's complement.
        "TPM_EO_SIGNED_LT" SIGNED_LT = 0x0004,
        /// Less than.
        "TPM_EO_UNSIGNED_LT" UNSIGNED_LT = 0x0005,
        /// Greater than or equal, as two's complement.
        "TPM_EO_SIGNED_GE" SIGNED_GE = 0x0006,
        /// Greater than or equal.
        "TPM_EO_UNSIGNED_GE" UNSIGNED_GE = 0x0007,
        /// Less than or equal, as two's complement.
        "TPM_EO_SIGNED_LE" SIGNED_LE = 0x0008,
        /// Less than or equal.
        "TPM_EO_UNSIGNED_LE" UNSIGNED_LE = 0x0009,
        /// All bits that are set in the operand are set.
        "TPM_EO_BITSET" BITSET = 0x000a,
        /// All bits that are set in the operand are clear.
        "TPM_EO_BITCLEAR" BITCLEAR = 0x000b,
    }

    /// How the rate of the clock is to change. Part 2 §6.7.
    #[doc(alias = "TPM_CLOCK_ADJUST")]
    ClockAdjust: i8 {
        "TPM_CLOCK_COARSE_SLOWER" COARSE_SLOWER = -3,
        "TPM_CLOCK_MEDIUM_SLOWER" MEDIUM_SLOWER = -2,
        "TPM_CLOCK_FINE_SLOWER" FINE_SLOWER = -1,
        "TPM_CLOCK_NO_CHANGE" NO_CHANGE = 0,
        "TPM_CLOCK_FINE_FASTER" FINE_FASTER = 1,
        "TPM_CLOCK_MEDIUM_FASTER" MEDIUM_FASTER = 2,
        "TPM_CLOCK_COARSE_FASTER" COARSE_FASTER = 3,
    }

    /// Kinds of NV index. Part 2 §13.
    #[doc(alias = "TPM_NT")]
    NvType: u8 {
        /// Octets that are written and read.
        "TPM_NT_ORDINARY" ORDINARY = 0x0,
        /// Eight octets that only count up.
        "TPM_NT_COUNTER" COUNTER = 0x1,
        /// Eight octets whose bits can be set, and not cleared.
        "TPM_NT_BITS" BITS = 0x2,
        /// A digest that is extended as a PCR is.
        "TPM_NT_EXTEND" EXTEND = 0x4,
        /// A count of failures, and its limit; a success resets it.
        "TPM_NT_PIN_FAIL" PIN_FAIL = 0x8,
        /// A count of successes, and its limit.
        "TPM_NT_PIN_PASS" PIN_PASS = 0x9,
    }

    /// Parameter sets of ML-KEM. Part 2 §11.2.
    #[doc(alias = "TPMI_MLKEM_PARMS")]
    MlkemParameters: u16 {
        "TPM_MLKEM_512" MLKEM_512 = 0x0001,
        "TPM_MLKEM_768" MLKEM_768 = 0x0002,
        "TPM_MLKEM_1024" MLKEM_1024 = 0x0003,
    }

    /// Parameter sets of ML-DSA. Part 2 §11.2.
    #[doc(alias = "TPMI_MLDSA_PARMS")]
    MldsaParameters: u16 {
        "TPM_MLDSA_44" MLDSA_44 = 0x0001,
        "TPM_MLDSA_65" MLDSA_65 = 0x0002,
        "TPM_MLDSA_87" MLDSA_87 = 0x0003,
    }

    /// What an attached component tells of itself. Part 2 §16.
    #[doc(alias = "TPM_AT")]
    AcTag: u32 {
        "TPM_AT_ANY" ANY = 0x0000_0000,
        "TPM_AT_ERROR" ERROR = 0x0000_0001,
        "TPM_AT_PV1" PV1 = 0x0000_0002,
        "TPM_AT_VEND" VEND = 0x8000_0000,
    }

    /// What went wrong in an attached component. Part 2 §16.
    #[doc(alias = "TPM_AE")]
    AcError: u32 {
        "TPM_AE_NONE" NONE = 0x0000_0000,
    }
}

impl Alg {
    /// Octets of a digest made with this algorithm; `None` if it is not a hash that this crate knows.
    #[must_use]
    pub const fn digest_len(self) -> Option<usize> {
        match self {
            Self::SHA1 => Some(20),
            Self::SHA256_192 | Self::SHAKE256_192 => Some(24),
            Self::SHA256 | Self::SM3_256 | Self::SHA3_256 | Self::SHAKE256_256 => Some(32),
            Self::SHA384 | Self::SHA3_384 => Some(48),
            Self::SHA512 | Self::SHA3_512 | Self::SHAKE256_512 => Some(64),
            _ => None,
        }
    }
}

impl Curve {
    /// Octets of a coordinate; `None` for a curve that this crate does not know.
    #[must_use]
    pub const fn field_len(self) -> Option<usize> {
        match self {
            Self::NIST_P192 => Some(24),
            Self::NIST_P224 => Some(28),
            Self::NIST_P256 | Self::BN_P256 | Self::SM2_P256 | Self::BP_P256_R1 => Some(32),
            Self::NIST_P384 | Self::BP_P384_R1 => Some(48),
            Self::BP_P512_R1 => Some(64),
            Self::NIST_P521 => Some(66),
            _ => None,
        }
    }
}
