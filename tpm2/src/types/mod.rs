//! Part 2: constants, attributes, structures and unions, by its clauses.
//!
//! Types lose the specification's prefix (`TPMT_PUBLIC` is [`Public`]) and keep it as a search alias.

mod attribute;
mod buffer;
mod capability;
mod creation;
mod handle;
mod number;
mod nv;
mod owned;
mod pcr;
mod policy;
mod public;
mod rc;
mod scheme;
mod signature;

pub use attribute::{
    AlgorithmAttributes, CommandAttributes, NvAttributes, ObjectAttributes, PermanentAttributes,
    SessionAttributes,
};
pub use buffer::{
    AuthValue, Data, Digest, EccParameter, EncryptedSecret, IdObject, MaxNvBuffer, Name, Nonce,
    PublicKeyRsa, SensitiveData, Timeout,
};
pub use capability::{AlgProperty, CapabilityData, TaggedProperty};
pub use creation::{CreationData, SensitiveCreate, Ticket};
pub use handle::{
    AnyEntity, Entity, Handle, HandleKind, Hierarchy, NvAuth, NvIndex, Object, SessionHandle,
    Transient,
};
pub use number::{Alg, Capability, CommandCode, Curve, Property, SessionType, Startup, Structure};
pub use nv::NvPublic;
#[cfg(feature = "crypto")]
pub use owned::SecretBuf;
pub use owned::{DigestBuf, NameBuf, Owned};
pub use pcr::PcrSelection;
pub use policy::{Comparison, Locality};
pub use public::{EccPoint, EccPublic, Id, KeyedHashPublic, Public, RsaPublic, SymCipherPublic};
pub use rc::{ResponseCode, Subject};
pub use scheme::{
    AsymScheme, BlockCipher, EcdaaScheme, HashScheme, KdfScheme, KeyedHashScheme, SymDef,
    SymDefObject, XorScheme,
};
pub use signature::{EccSignature, RsaSignature, Signature};

#[cfg(test)]
mod tests;
