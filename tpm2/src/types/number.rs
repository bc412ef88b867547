use crate::wire::macros::numbers;

numbers! {
    /// Algorithm identifiers. Part 2 §6.3.
    #[doc(alias = "TPM_ALG_ID")]
    Alg: u16 {
        RSA = 0x0001, TDES = 0x0003, SHA1 = 0x0004, HMAC = 0x0005, AES = 0x0006, MGF1 = 0x0007,
        KEYEDHASH = 0x0008, XOR = 0x000a, SHA256 = 0x000b, SHA384 = 0x000c, SHA512 = 0x000d,
        SHA256_192 = 0x000e, NULL = 0x0010, SM3_256 = 0x0012, SM4 = 0x0013, RSASSA = 0x0014, RSAES = 0x0015,
        RSAPSS = 0x0016, OAEP = 0x0017, ECDSA = 0x0018, ECDH = 0x0019, ECDAA = 0x001a,
        SM2 = 0x001b, ECSCHNORR = 0x001c, ECMQV = 0x001d, HKDF = 0x001f,
        KDF1_SP800_56A = 0x0020, KDF2 = 0x0021, KDF1_SP800_108 = 0x0022, ECC = 0x0023,
        SYMCIPHER = 0x0025, CAMELLIA = 0x0026, SHA3_256 = 0x0027, SHA3_384 = 0x0028,
        SHA3_512 = 0x0029, SHAKE128 = 0x002a, SHAKE256 = 0x002b, SHAKE256_192 = 0x002c,
        SHAKE256_256 = 0x002d, SHAKE256_512 = 0x002e, CMAC = 0x003f, CTR = 0x0040, OFB = 0x0041, CBC = 0x0042, CFB = 0x0043,
        ECB = 0x0044, EDDSA = 0x0060, HASH_EDDSA = 0x0061, MLKEM = 0x00a0, MLDSA = 0x00a1,
        HASH_MLDSA = 0x00a2,
    }

    /// Elliptic curves. Part 2 §6.4.
    #[doc(alias = "TPM_ECC_CURVE")]
    Curve: u16 {
        NONE = 0x0000, NIST_P192 = 0x0001, NIST_P224 = 0x0002, NIST_P256 = 0x0003,
        NIST_P384 = 0x0004, NIST_P521 = 0x0005, BN_P256 = 0x0010, BN_P638 = 0x0011,
        SM2_P256 = 0x0020, BP_P256_R1 = 0x0030, BP_P384_R1 = 0x0031, BP_P512_R1 = 0x0032,
        CURVE_25519 = 0x0040, CURVE_448 = 0x0041,
    }

    /// Structure tags, of messages and tickets. Part 2 §6.9.
    #[doc(alias = "TPM_ST")]
    Structure: u16 {
        RSP_COMMAND = 0x00c4, NULL = 0x8000, NO_SESSIONS = 0x8001, SESSIONS = 0x8002,
        ATTEST_NV = 0x8014, ATTEST_COMMAND_AUDIT = 0x8015, ATTEST_SESSION_AUDIT = 0x8016,
        ATTEST_CERTIFY = 0x8017, ATTEST_QUOTE = 0x8018, ATTEST_TIME = 0x8019,
        ATTEST_CREATION = 0x801a, ATTEST_NV_DIGEST = 0x801c, CREATION = 0x8021,
        VERIFIED = 0x8022, AUTH_SECRET = 0x8023, HASHCHECK = 0x8024, AUTH_SIGNED = 0x8025,
        MESSAGE_VERIFIED = 0x8026, DIGEST_VERIFIED = 0x8027, FU_MANIFEST = 0x8029,
    }

    /// How the TPM is to start, or to be shut down. Part 2 §6.10.
    #[doc(alias = "TPM_SU")]
    Startup: u16 { CLEAR = 0x0000, STATE = 0x0001 }

    /// Kinds of session. Part 2 §6.11.
    #[doc(alias = "TPM_SE")]
    SessionType: u8 { HMAC = 0x00, POLICY = 0x01, TRIAL = 0x03 }

    /// What [`GetCapability`](crate::commands::GetCapability) can be asked for. Part 2 §6.12.
    #[doc(alias = "TPM_CAP")]
    Capability: u32 {
        ALGS = 0x0000_0000, HANDLES = 0x0000_0001, COMMANDS = 0x0000_0002,
        PP_COMMANDS = 0x0000_0003, AUDIT_COMMANDS = 0x0000_0004, PCRS = 0x0000_0005,
        TPM_PROPERTIES = 0x0000_0006, PCR_PROPERTIES = 0x0000_0007, ECC_CURVES = 0x0000_0008,
        AUTH_POLICIES = 0x0000_0009, ACT = 0x0000_000a, PUB_KEYS = 0x0000_000b,
        SPDM_SESSION_INFO = 0x0000_000c, VENDOR_PROPERTY = 0x0000_0100,
    }

    /// Properties of a TPM. Part 2 §6.13.
    #[doc(alias = "TPM_PT")]
    Property: u32 {
        NONE = 0x0000, FAMILY_INDICATOR = 0x0100, LEVEL = 0x0101, REVISION = 0x0102,
        ERRATA = 0x0103, YEAR = 0x0104, MANUFACTURER = 0x0105, VENDOR_STRING_1 = 0x0106,
        VENDOR_STRING_2 = 0x0107, VENDOR_STRING_3 = 0x0108, VENDOR_STRING_4 = 0x0109,
        VENDOR_TPM_TYPE = 0x010a, FIRMWARE_VERSION_1 = 0x010b, FIRMWARE_VERSION_2 = 0x010c,
        INPUT_BUFFER = 0x010d, HR_TRANSIENT_MIN = 0x010e, HR_PERSISTENT_MIN = 0x010f,
        HR_LOADED_MIN = 0x0110, ACTIVE_SESSIONS_MAX = 0x0111, PCR_COUNT = 0x0112,
        PCR_SELECT_MIN = 0x0113, CONTEXT_GAP_MAX = 0x0114, NV_COUNTERS_MAX = 0x0116,
        NV_INDEX_MAX = 0x0117, MEMORY = 0x0118, CLOCK_UPDATE = 0x0119, CONTEXT_HASH = 0x011a,
        CONTEXT_SYM = 0x011b, CONTEXT_SYM_SIZE = 0x011c, ORDERLY_COUNT = 0x011d,
        MAX_COMMAND_SIZE = 0x011e, MAX_RESPONSE_SIZE = 0x011f, MAX_DIGEST = 0x0120,
        MAX_OBJECT_CONTEXT = 0x0121, MAX_SESSION_CONTEXT = 0x0122, PS_FAMILY_INDICATOR = 0x0123,
        PS_LEVEL = 0x0124, PS_REVISION = 0x0125, PS_DAY_OF_YEAR = 0x0126, PS_YEAR = 0x0127,
        SPLIT_MAX = 0x0128, TOTAL_COMMANDS = 0x0129, LIBRARY_COMMANDS = 0x012a,
        VENDOR_COMMANDS = 0x012b, NV_BUFFER_MAX = 0x012c, MODES = 0x012d, MAX_CAP_BUFFER = 0x012e,
        FIRMWARE_SVN = 0x012f, FIRMWARE_MAX_SVN = 0x0130, ML_PARAMETER_SETS = 0x0131,
        PERMANENT = 0x0200, STARTUP_CLEAR = 0x0201, HR_NV_INDEX = 0x0202, HR_LOADED = 0x0203,
        HR_LOADED_AVAIL = 0x0204, HR_ACTIVE = 0x0205, HR_ACTIVE_AVAIL = 0x0206,
        HR_TRANSIENT_AVAIL = 0x0207, HR_PERSISTENT = 0x0208, HR_PERSISTENT_AVAIL = 0x0209,
        NV_COUNTERS = 0x020a, NV_COUNTERS_AVAIL = 0x020b, ALGORITHM_SET = 0x020c,
        LOADED_CURVES = 0x020d, LOCKOUT_COUNTER = 0x020e, MAX_AUTH_FAIL = 0x020f,
        LOCKOUT_INTERVAL = 0x0210, LOCKOUT_RECOVERY = 0x0211, NV_WRITE_RECOVERY = 0x0212,
        AUDIT_COUNTER_0 = 0x0213, AUDIT_COUNTER_1 = 0x0214,
    }

    /// What a PCR is like. Part 2 §6.14.
    #[doc(alias = "TPM_PT_PCR")]
    PcrProperty: u32 {
        SAVE = 0x00, EXTEND_L0 = 0x01, RESET_L0 = 0x02, EXTEND_L1 = 0x03, RESET_L1 = 0x04,
        EXTEND_L2 = 0x05, RESET_L2 = 0x06, EXTEND_L3 = 0x07, RESET_L3 = 0x08, EXTEND_L4 = 0x09,
        RESET_L4 = 0x0a, NO_INCREMENT = 0x11, DRTM_RESET = 0x12, POLICY = 0x13, AUTH = 0x14,
    }

    /// What kind of platform a TPM is for. Part 2 §6.15.
    #[doc(alias = "TPM_PS")]
    PlatformSpecific: u32 {
        MAIN = 0x00, PC = 0x01, PDA = 0x02, CELL_PHONE = 0x03, SERVER = 0x04, PERIPHERAL = 0x05,
        TSS = 0x06, STORAGE = 0x07, AUTHENTICATION = 0x08, EMBEDDED = 0x09, HARDCOPY = 0x0a,
        INFRASTRUCTURE = 0x0b, VIRTUALIZATION = 0x0c, TNC = 0x0d, MULTI_TENANT = 0x0e, TC = 0x0f,
    }

    /// How the operands of a policy are compared. Part 2 §6.8.
    #[doc(alias = "TPM_EO")]
    Comparison: u16 {
        EQ = 0x0000, NEQ = 0x0001, SIGNED_GT = 0x0002, UNSIGNED_GT = 0x0003, SIGNED_LT = 0x0004,
        UNSIGNED_LT = 0x0005, SIGNED_GE = 0x0006, UNSIGNED_GE = 0x0007, SIGNED_LE = 0x0008,
        UNSIGNED_LE = 0x0009, BITSET = 0x000a, BITCLEAR = 0x000b,
    }

    /// How the rate of the clock is to change. Part 2 §6.7.
    #[doc(alias = "TPM_CLOCK_ADJUST")]
    ClockAdjust: i8 {
        COARSE_SLOWER = -3, MEDIUM_SLOWER = -2, FINE_SLOWER = -1, NO_CHANGE = 0, FINE_FASTER = 1,
        MEDIUM_FASTER = 2, COARSE_FASTER = 3,
    }

    /// Kinds of NV index. Part 2 §13.
    #[doc(alias = "TPM_NT")]
    NvType: u8 {
        ORDINARY = 0x0, COUNTER = 0x1, BITS = 0x2, EXTEND = 0x4, PIN_FAIL = 0x8, PIN_PASS = 0x9,
    }

    /// Parameter sets of ML-KEM. Part 2 §11.2.
    #[doc(alias = "TPMI_MLKEM_PARMS")]
    MlkemParameters: u16 { MLKEM_512 = 0x0001, MLKEM_768 = 0x0002, MLKEM_1024 = 0x0003 }

    /// Parameter sets of ML-DSA. Part 2 §11.2.
    #[doc(alias = "TPMI_MLDSA_PARMS")]
    MldsaParameters: u16 { MLDSA_44 = 0x0001, MLDSA_65 = 0x0002, MLDSA_87 = 0x0003 }

    /// What an attached component tells of itself. Part 2 §16.
    #[doc(alias = "TPM_AT")]
    AcTag: u32 { ANY = 0x0000_0000, ERROR = 0x0000_0001, PV1 = 0x0000_0002, VEND = 0x8000_0000 }

    /// What went wrong in an attached component. Part 2 §16.
    #[doc(alias = "TPM_AE")]
    AcError: u32 { NONE = 0x0000_0000 }
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

/// A command code. Part 2 §6.5. Its name comes from [`COMMANDS`](crate::commands::COMMANDS).
#[doc(alias = "TPM_CC")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandCode(
    /// The number on the wire.
    pub u32,
);

impl crate::wire::Marshal for CommandCode {
    fn marshal(&self, writer: &mut crate::wire::Writer<'_>) -> Result<(), crate::wire::TooLarge> {
        writer.write(&self.0)
    }
}

impl crate::wire::Unmarshal<'_> for CommandCode {
    const OCTETS: Option<usize> = u32::OCTETS;

    fn unmarshal(reader: &mut crate::wire::Reader<'_>) -> Result<Self, crate::wire::Malformed> {
        u32::unmarshal(reader).map(Self)
    }
}
