use super::{Alg, AuthValue, Data, Digest, Handle, Name, PcrSelection, SensitiveData, Structure};
use crate::wire::List;
use crate::wire::macros::structure;

structure! {
    /// The secret part of what is to be created. Part 2 §11.1.15.
    #[doc(alias = "TPMS_SENSITIVE_CREATE")]
    SensitiveCreate<'a> {
        /// The authorization value that the object will have.
        user_auth: AuthValue<'a>,
        /// Data to be sealed; empty if the TPM is to make a key.
        data: SensitiveData<'a>,
    }

    /// Where and how an object was created. Part 2 §15.1.
    #[doc(alias = "TPMS_CREATION_DATA")]
    CreationData<'a> {
        /// The PCRs that the digest covers.
        pcr_select: List<'a, PcrSelection<'a>>,
        /// Their digest at creation.
        pcr_digest: Digest<'a>,
        /// The locality of the creation.
        locality: u8,
        /// Name algorithm of the parent; the null algorithm if it is a hierarchy.
        parent_name_alg: Alg,
        /// Name of the parent.
        parent_name: Name<'a>,
        /// Qualified Name of the parent.
        parent_qualified_name: Name<'a>,
        /// What the creator said.
        outside_info: Data<'a>,
    }

    /// The TPM's word that it did something, to itself. Part 2 §10.7.
    #[doc(alias("TPMT_TK_CREATION", "TPMT_TK_AUTH", "TPMT_TK_HASHCHECK"))]
    Ticket<'a> {
        /// What it says.
        tag: Structure,
        /// The hierarchy whose proof it is made with.
        hierarchy: Handle,
        /// An HMAC.
        digest: Digest<'a>,
    }
}

impl SensitiveCreate<'_> {
    /// No authorization value, no data.
    pub const EMPTY: Self = Self { user_auth: AuthValue::EMPTY, data: SensitiveData::EMPTY };
}

impl Ticket<'_> {
    /// The null ticket that stands for "not hashed by the TPM", as [`Sign`](crate::commands::Sign) wants of an
    /// unrestricted key. Part 2 §10.7.6.
    pub const NO_HASHCHECK: Self =
        Self { tag: Structure::HASHCHECK, hierarchy: Handle::NULL, digest: Digest::EMPTY };
}
