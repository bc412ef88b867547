//! Wordy commands in the form that is used most; every field can be changed afterwards.

use super::{
    Certify, Create, CreatePrimary, Duplicate, Import, LoadExternal, PolicySecret, PolicySigned,
    Quote, RsaDecrypt, RsaEncrypt, Sign,
};
use crate::types::{
    AnyEntity, AsymScheme, Data, Digest, EncryptedSecret, Hierarchy, Nonce, Object, PcrSelections,
    Private, Public, PublicKeyRsa, SensitiveCreate, SessionHandle, Signature, SymDefObject, Ticket,
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

impl<'a> LoadExternal<'a> {
    /// A public key, to verify with or to encrypt to; tickets of what it verifies are of this hierarchy.
    #[must_use]
    pub const fn public(public: Public<'a>, hierarchy: Hierarchy) -> Self {
        Self { in_private: None, in_public: Tpm2b(public), hierarchy }
    }
}

impl<'a> Duplicate<'a> {
    /// A copy for a new parent, without inner wrapper.
    #[must_use]
    pub const fn to(new_parent: Object, object: Object) -> Self {
        Self {
            object_handle: object,
            new_parent_handle: Some(new_parent),
            encryption_key_in: Data::EMPTY,
            symmetric_alg: SymDefObject::Null,
        }
    }
}

impl<'a> Import<'a> {
    /// A copy without inner wrapper.
    #[must_use]
    pub const fn of(
        parent: Object,
        public: Public<'a>,
        duplicate: Private<'a>,
        seed: EncryptedSecret<'a>,
    ) -> Self {
        Self {
            parent_handle: parent,
            encryption_key: Data::EMPTY,
            object_public: Tpm2b(public),
            duplicate,
            in_sym_seed: seed,
            symmetric_alg: SymDefObject::Null,
        }
    }
}

impl<'a> Quote<'a> {
    /// Quotes these PCRs by the key's own scheme.
    #[must_use]
    pub const fn of(key: Object, nonce: Data<'a>, pcrs: PcrSelections<'a>) -> Self {
        Self {
            sign_handle: Some(key),
            qualifying_data: nonce,
            in_scheme: AsymScheme::Null,
            pcrselect: pcrs,
        }
    }
}

impl<'a> Certify<'a> {
    /// Certifies an object by the key's own scheme.
    #[must_use]
    pub const fn of(object: Object, key: Object, nonce: Data<'a>) -> Self {
        Self {
            object_handle: object,
            sign_handle: Some(key),
            qualifying_data: nonce,
            in_scheme: AsymScheme::Null,
        }
    }
}

impl<'a> RsaEncrypt<'a> {
    /// Encrypts by the key's own scheme, without a label.
    #[must_use]
    pub const fn of(key: Object, message: PublicKeyRsa<'a>) -> Self {
        Self { key_handle: key, message, in_scheme: AsymScheme::Null, label: Data::EMPTY }
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

impl<'a> PolicySigned<'a> {
    /// `key` has signed for the session with this nonce, and for no command in particular: good as long as the session is.
    #[must_use]
    pub const fn of(
        key: Object,
        policy_session: SessionHandle,
        nonce_tpm: Nonce<'a>,
        auth: Signature<'a>,
    ) -> Self {
        Self {
            auth_object: key,
            policy_session,
            nonce_tpm,
            cp_hash_a: Digest::EMPTY,
            policy_ref: Nonce::EMPTY,
            expiration: 0,
            auth,
        }
    }
}
