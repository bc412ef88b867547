use super::NameBuf;
use crate::wire::macros::numbers;

numbers! {
    /// A handle: what a command names an entity by. Part 2 §7.
    #[doc(alias("TPM_HANDLE", "TPM_RH", "TPM_HC", "TPMI_RH_AC"))]
    #[doc(alias("TPMI_DH_CONTEXT", "TPMI_DH_SAVED", "TPMI_DH_PERSISTENT"))]
    Handle: u32 {
        /// The hierarchy of the platform's owner: storage keys and ordinary objects.
        "TPM_RH_OWNER" OWNER = 0x4000_0001,
        /// No entity; as a hierarchy, one with a new seed after each TPM Reset.
        "TPM_RH_NULL" NULL = 0x4000_0007,
        /// A value that stands for no handle.
        "TPM_RH_UNASSIGNED" UNASSIGNED = 0x4000_0008,
        /// The session of an authorization by password.
        "TPM_RS_PW" PASSWORD = 0x4000_0009,
        /// The authorization that resets and configures the dictionary attack protection.
        "TPM_RH_LOCKOUT" LOCKOUT = 0x4000_000a,
        /// The hierarchy of the privacy administrator: endorsement keys.
        "TPM_RH_ENDORSEMENT" ENDORSEMENT = 0x4000_000b,
        /// The hierarchy of the platform's firmware.
        "TPM_RH_PLATFORM" PLATFORM = 0x4000_000c,
        /// The switch of the NV indices that the platform has created.
        "TPM_RH_PLATFORM_NV" PLATFORM_NV = 0x4000_000d,
        /// The first of the authorizations that a vendor defines.
        "TPM_RH_AUTH_00" AUTH_00 = 0x4000_0010,
        /// The last of the authorizations that a vendor defines.
        "TPM_RH_AUTH_FF" AUTH_FF = 0x4000_010f,
        /// The first authenticated countdown timer.
        "TPM_RH_ACT_0" ACT_0 = 0x4000_0110,
        /// The last authenticated countdown timer.
        "TPM_RH_ACT_F" ACT_F = 0x4000_011f,
        /// The owner hierarchy, limited to the TPM's present firmware.
        "TPM_RH_FW_OWNER" FW_OWNER = 0x4000_0140,
        /// The endorsement hierarchy, limited to the TPM's present firmware.
        "TPM_RH_FW_ENDORSEMENT" FW_ENDORSEMENT = 0x4000_0141,
        /// The platform hierarchy, limited to the TPM's present firmware.
        "TPM_RH_FW_PLATFORM" FW_PLATFORM = 0x4000_0142,
        /// The null hierarchy, limited to the TPM's present firmware.
        "TPM_RH_FW_NULL" FW_NULL = 0x4000_0143,
        /// The owner hierarchy, limited to a minimum security version number of the firmware, which is added.
        "TPM_RH_SVN_OWNER_BASE" SVN_OWNER_BASE = 0x4001_0000,
        /// The endorsement hierarchy, limited to a minimum security version number of the firmware, which is added.
        "TPM_RH_SVN_ENDORSEMENT_BASE" SVN_ENDORSEMENT_BASE = 0x4002_0000,
        /// The platform hierarchy, limited to a minimum security version number of the firmware, which is added.
        "TPM_RH_SVN_PLATFORM_BASE" SVN_PLATFORM_BASE = 0x4003_0000,
        /// The null hierarchy, limited to a minimum security version number of the firmware, which is added.
        "TPM_RH_SVN_NULL_BASE" SVN_NULL_BASE = 0x4004_0000,
    }

    /// The kinds of handle, by their most significant octet. Part 2 §7.2.
    #[doc(alias = "TPM_HT")]
    HandleKind: u8 {
        /// PCRs.
        "TPM_HT_PCR" PCR = 0x00,
        /// NV indices.
        "TPM_HT_NV_INDEX" NV_INDEX = 0x01,
        /// HMAC sessions; of TPM2_GetCapability, loaded sessions of both kinds.
        "TPM_HT_HMAC_SESSION" "TPM_HT_LOADED_SESSION" HMAC_SESSION = 0x02,
        /// Policy sessions; of TPM2_GetCapability, saved sessions of both kinds.
        "TPM_HT_POLICY_SESSION" "TPM_HT_SAVED_SESSION" POLICY_SESSION = 0x03,
        /// NV indices whose content is stored outside of the TPM.
        "TPM_HT_EXTERNAL_NV" EXTERNAL_NV = 0x11,
        /// NV indices that are always there.
        "TPM_HT_PERMANENT_NV" PERMANENT_NV = 0x12,
        /// Hierarchies and other entities that the TPM always has.
        "TPM_HT_PERMANENT" PERMANENT = 0x40,
        /// Loaded objects and sequences.
        "TPM_HT_TRANSIENT" TRANSIENT = 0x80,
        /// Objects that stay in the TPM.
        "TPM_HT_PERSISTENT" PERSISTENT = 0x81,
        /// Attached components.
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
