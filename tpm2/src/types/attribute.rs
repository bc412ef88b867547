use crate::wire::macros::numbers;

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
}

numbers! {
    /// Attributes of a session in one command. Part 2 §8.4.
    #[doc(alias = "TPMA_SESSION")]
    bits SessionAttributes: u8 {
        CONTINUE_SESSION = 1 << 0, AUDIT_EXCLUSIVE = 1 << 1, AUDIT_RESET = 1 << 2,
        DECRYPT = 1 << 5, ENCRYPT = 1 << 6, AUDIT = 1 << 7,
    }
}

numbers! {
    /// Attributes of an algorithm. Part 2 §8.2.
    #[doc(alias = "TPMA_ALGORITHM")]
    bits AlgorithmAttributes: u32 {
        ASYMMETRIC = 1 << 0, SYMMETRIC = 1 << 1, HASH = 1 << 2, OBJECT = 1 << 3,
        SIGNING = 1 << 8, ENCRYPTING = 1 << 9, METHOD = 1 << 10,
    }
}

numbers! {
    /// State that lives until it is changed. Part 2 §8.6.
    #[doc(alias = "TPMA_PERMANENT")]
    bits PermanentAttributes: u32 {
        OWNER_AUTH_SET = 1 << 0, ENDORSEMENT_AUTH_SET = 1 << 1, LOCKOUT_AUTH_SET = 1 << 2,
        DISABLE_CLEAR = 1 << 8, IN_LOCKOUT = 1 << 9, TPM_GENERATED_EPS = 1 << 10,
    }
}

numbers! {
    /// Attributes of a command, as a TPM tells them of itself. Part 2 §8.9.
    #[doc(alias = "TPMA_CC")]
    bits CommandAttributes: u32 {
        NV = 1 << 22, EXTENSIVE = 1 << 23, FLUSHED = 1 << 24, R_HANDLE = 1 << 28, V = 1 << 29,
    }
}

impl CommandAttributes {
    /// The command code, without the vendor bit.
    #[must_use]
    pub const fn command_index(self) -> u32 {
        self.0 & 0xffff
    }

    /// Number of handles in the command.
    #[must_use]
    pub const fn command_handles(self) -> u32 {
        self.0 >> 25 & 0b111
    }
}

numbers! {
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
}
