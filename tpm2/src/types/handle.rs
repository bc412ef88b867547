use super::NameBuf;
use crate::wire::macros::numbers;

numbers! {
    /// A handle: what a command names an entity by. Part 2 §7.
    #[doc(alias = "TPM_HANDLE")]
    Handle: u32 {
        OWNER = 0x4000_0001, NULL = 0x4000_0007, UNASSIGNED = 0x4000_0008,
        PASSWORD = 0x4000_0009, LOCKOUT = 0x4000_000a, ENDORSEMENT = 0x4000_000b,
        PLATFORM = 0x4000_000c, PLATFORM_NV = 0x4000_000d, AUTH_00 = 0x4000_0010,
        AUTH_FF = 0x4000_010f, ACT_0 = 0x4000_0110, ACT_F = 0x4000_011f,
        FW_OWNER = 0x4000_0140, FW_ENDORSEMENT = 0x4000_0141, FW_PLATFORM = 0x4000_0142,
        FW_NULL = 0x4000_0143, SVN_OWNER_BASE = 0x4001_0000, SVN_ENDORSEMENT_BASE = 0x4002_0000,
        SVN_PLATFORM_BASE = 0x4003_0000, SVN_NULL_BASE = 0x4004_0000,
    }

    /// The kinds of handle, by their most significant octet. Part 2 §7.2.
    #[doc(alias = "TPM_HT")]
    HandleKind: u8 {
        PCR = 0x00, NV_INDEX = 0x01, HMAC_SESSION = 0x02, POLICY_SESSION = 0x03,
        EXTERNAL_NV = 0x11, PERMANENT_NV = 0x12, PERMANENT = 0x40, TRANSIENT = 0x80,
        PERSISTENT = 0x81, AC = 0x90,
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
