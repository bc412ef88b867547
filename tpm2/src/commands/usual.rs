//! Wordy commands in the form that is used most; every field can be changed afterwards.

use super::{Create, CreatePrimary, PolicySecret, RsaDecrypt, Sign};
use crate::types::{
    AnyEntity, AsymScheme, Data, Digest, Hierarchy, Nonce, Object, Public, PublicKeyRsa,
    SensitiveCreate, SessionHandle, Ticket,
};
use crate::wire::{List, Tpm2b};

impl<'a> CreatePrimary<'a> {
    /// An object that this template describes, with an empty authorization value.
    #[must_use]
    pub const fn of(hierarchy: Hierarchy, template: Public<'a>) -> Self {
        Self {
            primary_handle: hierarchy,
            in_sensitive: Tpm2b(SensitiveCreate::EMPTY),
            in_public: Tpm2b(template),
            outside_info: Data::EMPTY,
            creation_pcr: List::new(&[]),
        }
    }
}

impl<'a> Create<'a> {
    /// An object that this template describes, with an empty authorization value.
    #[must_use]
    pub const fn of(parent: Object, template: Public<'a>) -> Self {
        Self {
            parent_handle: parent,
            in_sensitive: Tpm2b(SensitiveCreate::EMPTY),
            in_public: Tpm2b(template),
            outside_info: Data::EMPTY,
            creation_pcr: List::new(&[]),
        }
    }
}

impl<'a> Sign<'a> {
    /// Signs a digest by the key's own scheme; a restricted key needs the ticket of `TPM2_Hash` too.
    #[must_use]
    pub const fn digest(key: Object, digest: Digest<'a>) -> Self {
        Self {
            key_handle: key,
            digest,
            in_scheme: AsymScheme::Null,
            validation: Ticket::NO_HASHCHECK,
        }
    }
}

impl<'a> RsaDecrypt<'a> {
    /// Decrypts by the key's own scheme, without a label.
    #[must_use]
    pub const fn of(key: Object, cipher_text: PublicKeyRsa<'a>) -> Self {
        Self { key_handle: key, cipher_text, in_scheme: AsymScheme::Null, label: Data::EMPTY }
    }
}

impl PolicySecret<'static> {
    /// The authorization value of `entity` is known: good for this session only.
    pub fn of(entity: impl Into<AnyEntity>, policy_session: SessionHandle) -> Self {
        Self {
            auth_handle: entity.into(),
            policy_session,
            nonce_tpm: Nonce::EMPTY,
            cp_hash_a: Digest::EMPTY,
            policy_ref: Nonce::EMPTY,
            expiration: 0,
        }
    }
}
