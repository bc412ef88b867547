use super::NameBuf;
use crate::wire::macros::numbers;

numbers! {
    /// A handle: what a command names an entity by. Part 2 §7.
    #[doc(alias("TPM_HANDLE", "TPM_RH", "TPM_HC", "TPMI_RH_AC"))]
    #[doc(alias("TPMI_DH_CONTEXT", "TPMI_DH_SAVED", "TPMI_DH_PERSISTENT"))]
    Handle: u32 {
        "TPM_RH_OWNER" OWNER = 0x4000_0001,
        "TPM_RH_NULL" NULL = 0x4000_0007,
        "TPM_RH_UNASSIGNED" UNASSIGNED = 0x4000_0008,
        "TPM_RS_PW" PASSWORD = 0x4000_0009,
        "TPM_RH_LOCKOUT" LOCKOUT = 0x4000_000a,
        "TPM_RH_ENDORSEMENT" ENDORSEMENT = 0x4000_000b,
        "TPM_RH_PLATFORM" PLATFORM = 0x4000_000c,
        "TPM_RH_PLATFORM_NV" PLATFORM_NV = 0x4000_000d,
        "TPM_RH_AUTH_00" AUTH_00 = 0x4000_0010,
        "TPM_RH_AUTH_FF" AUTH_FF = 0x4000_010f,
        "TPM_RH_ACT_0" ACT_0 = 0x4000_0110,
        "TPM_RH_ACT_F" ACT_F = 0x4000_011f,
        "TPM_RH_FW_OWNER" FW_OWNER = 0x4000_0140,
        "TPM_RH_FW_ENDORSEMENT" FW_ENDORSEMENT = 0x4000_0141,
        "TPM_RH_FW_PLATFORM" FW_PLATFORM = 0x4000_0142,
        "TPM_RH_FW_NULL" FW_NULL = 0x4000_0143,
        "TPM_RH_SVN_OWNER_BASE" SVN_OWNER_BASE = 0x4001_0000,
        "TPM_RH_SVN_ENDORSEMENT_BASE" SVN_ENDORSEMENT_BASE = 0x4002_0000,
        "TPM_RH_SVN_PLATFORM_BASE" SVN_PLATFORM_BASE = 0x4003_0000,
        "TPM_RH_SVN_NULL_BASE" SVN_NULL_BASE = 0x4004_0000,
    }

    /// The kinds of handle, by their most significant octet. Part 2 §7.2.
    #[doc(alias = "TPM_HT")]
    HandleKind: u8 {
        "TPM_HT_PCR" PCR = 0x00,
        "TPM_HT_NV_INDEX" NV_INDEX = 0x01,
        "TPM_HT_HMAC_SESSION" "TPM_HT_LOADED_SESSION" HMAC_SESSION = 0x02,
        "TPM_HT_POLICY_SESSION" "TPM_HT_SAVED_SESSION" POLICY_SESSION = 0x03,
        "TPM_HT_EXTERNAL_NV" EXTERNAL_NV = 0x11,
        "TPM_HT_PERMANENT_NV" PERMANENT_NV = 0x12,
        "TPM_HT_PERMANENT" PERMANENT = 0x40,
        "TPM_HT_TRANSIENT" TRANSIENT = 0x80,
        "TPM_HT_PERSISTENT" PERSISTENT = 0x81,
        "TPM_HT_AC" AC = 0x90,
    }
}

impl Handle {
    /// The kind that the handle's first octet says.
    #[must_use]
    pub const fn kind(self) -> HandleKind {
        let [kind, ..] = self.0.to_be_bytes();
        HandleKind(kind)
    }

    /// The Name of an entity that has no other than its handle: of a hierarchy, a PCR, a session. Part 1 §16.
    ///
    /// # Panics
    /// Never: four octets fit.
    #[must_use]
    pub fn as_name(self) -> NameBuf {
        NameBuf::new(&self.0.to_be_bytes()).expect("four octets fit")
    }
}
