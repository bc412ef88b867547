//! Part 3 §12 and §24: objects.

use crate::types::{
    CreationData, Data, Digest, Hierarchy, Name, Object, PcrSelection, Public, SensitiveCreate,
    Ticket, Transient,
};
use crate::wire::macros::command;
use crate::wire::{List, Tpm2b};

command! {
    /// Creates a primary object under a hierarchy. Part 3 §24.1.
    CreatePrimary<'a> = 0x131 "TPM2_CreatePrimary" {
        @primary_handle: Hierarchy,
        in_sensitive: Tpm2b<SensitiveCreate<'a>>,
        in_public: Tpm2b<Public<'a>>,
        outside_info: Data<'a>,
        creation_pcr: List<'a, PcrSelection<'a>>,
    } -> CreatePrimaryResponse<'r> {
        #object_handle: Transient,
        out_public: Tpm2b<Public<'r>>,
        creation_data: Tpm2b<CreationData<'r>>,
        creation_hash: Digest<'r>,
        creation_ticket: Ticket<'r>,
        name: Name<'r>,
    }

    /// Loads an object that no TPM protects. Part 3 §12.3.
    LoadExternal<'a> = 0x167 "TPM2_LoadExternal" {
        in_private: SensitiveArea<'a>,
        in_public: Tpm2b<Public<'a>>,
        hierarchy: Hierarchy,
    } -> LoadExternalResponse<'r> {
        #object_handle: Transient,
        name: Name<'r>,
    }

    /// Reads the public area of a loaded object. Part 3 §12.4.
    ReadPublic = 0x173 "TPM2_ReadPublic" {
        #object_handle: Object,
    } -> ReadPublicResponse<'r> {
        out_public: Tpm2b<Public<'r>>,
        name: Name<'r>,
        qualified_name: Name<'r>,
    }
}

pub use sensitive::SensitiveArea;

mod sensitive {
    use core::fmt;

    use crate::types::{Alg, AuthValue, Digest};
    use crate::wire::{Marshal, TooLarge, Writer};

    /// The sensitive area of an object that is loaded from outside, or none. Part 2 §12.3.4.
    #[doc(alias("TPM2B_SENSITIVE", "TPMT_SENSITIVE"))]
    #[derive(Clone, Copy)]
    pub enum SensitiveArea<'a> {
        /// Only the public area is loaded.
        None,
        /// A private key: of ECC the scalar, of RSA one prime.
        Key {
            /// The type, which is that of the public area.
            sensitive_type: Alg,
            /// The authorization value that the object will have.
            auth_value: AuthValue<'a>,
            /// The seed; empty for asymmetric keys that are no parents.
            seed: Digest<'a>,
            /// The private part.
            sensitive: &'a [u8],
        },
    }

    impl Marshal for SensitiveArea<'_> {
        const SIZED: bool = true;

        fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
            writer.sized(|writer| match self {
                Self::None => Ok(()),
                Self::Key { sensitive_type, auth_value, seed, sensitive } => {
                    writer.write(sensitive_type)?;
                    writer.write(auth_value)?;
                    writer.write(seed)?;
                    writer.sized(|writer| writer.put(sensitive))
                }
            })
        }
    }

    impl fmt::Debug for SensitiveArea<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("SensitiveArea(..)")
        }
    }
}
