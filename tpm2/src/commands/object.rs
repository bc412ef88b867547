//! Part 3 §12: objects.

use crate::types::{
    AuthValue, CreationData, Data, Digest, EncryptedSecret, Hierarchy, IdObject, Name, Object,
    Parent, PcrSelections, Private, Public, Sensitive, SensitiveCreate, SensitiveData, Template,
    Ticket, Transient,
};
use crate::wire::Tpm2b;
use crate::wire::macros::command;

command! {
    /// Creates an object under a loaded parent, without loading it. Part 3 §12.1.
    Create<'a> = CREATE "TPM2_Create" {
        @parent_handle: Object,
        in_sensitive: Tpm2b<SensitiveCreate<'a>>,
        in_public: Tpm2b<Public<'a>>,
        outside_info: Data<'a>,
        creation_pcr: PcrSelections<'a>,
    } -> CreateResponse<'r> {
        out_private: Private<'r>,
        out_public: Tpm2b<Public<'r>>,
        creation_data: Tpm2b<CreationData<'r>>,
        creation_hash: Digest<'r>,
        creation_ticket: Ticket<'r>,
    }

    /// Loads an object that was created under, or imported to, a parent. Part 3 §12.2.
    Load<'a> = LOAD "TPM2_Load" {
        @parent_handle: Object,
        in_private: Private<'a>,
        in_public: Tpm2b<Public<'a>>,
    } -> LoadResponse<'r> {
        #object_handle: Transient,
        name: Name<'r>,
    }

    /// Loads an object that no TPM protects. Part 3 §12.3.
    LoadExternal<'a> = LOAD_EXTERNAL "TPM2_LoadExternal" {
        in_private: Option<Tpm2b<Sensitive<'a>>>,
        in_public: Tpm2b<Public<'a>>,
        hierarchy: Hierarchy,
    } -> LoadExternalResponse<'r> {
        #object_handle: Transient,
        name: Name<'r>,
    }

    /// Reads the public area of a loaded object. Part 3 §12.4.
    ReadPublic = READ_PUBLIC "TPM2_ReadPublic" {
        #object_handle: Object,
    } -> ReadPublicResponse<'r> {
        out_public: Tpm2b<Public<'r>>,
        name: Name<'r>,
        qualified_name: Name<'r>,
    }

    /// Opens a credential that was made for the object `activate_handle` in the TPM that holds the key `key_handle`.
    /// Part 3 §12.5.
    ActivateCredential<'a> = ACTIVATE_CREDENTIAL "TPM2_ActivateCredential" {
        @activate_handle: Object,
        @key_handle: Object,
        credential_blob: IdObject<'a>,
        secret: EncryptedSecret<'a>,
    } -> ActivateCredentialResponse<'r> {
        cert_info: Digest<'r> as secret,
    }

    /// Makes a credential for the object with this Name in the TPM that holds the key `handle`. Part 3 §12.6.
    MakeCredential<'a> = MAKE_CREDENTIAL "TPM2_MakeCredential" {
        #handle: Object,
        credential: Digest<'a> as secret,
        object_name: Name<'a>,
    } -> MakeCredentialResponse<'r> {
        credential_blob: IdObject<'r>,
        secret: EncryptedSecret<'r>,
    }

    /// Reads what is sealed in an object. Part 3 §12.7.
    Unseal = UNSEAL "TPM2_Unseal" {
        @item_handle: Object,
    } -> UnsealResponse<'r> {
        out_data: SensitiveData<'r>,
    }

    /// Makes a private area of the same object with another authorization value. Part 3 §12.8.
    ObjectChangeAuth<'a> = OBJECT_CHANGE_AUTH "TPM2_ObjectChangeAuth" {
        @object_handle: Object,
        #parent_handle: Object,
        new_auth: AuthValue<'a>,
    } -> ObjectChangeAuthResponse<'r> {
        out_private: Private<'r>,
    }

    /// Creates an object and loads it: an ordinary, a primary or a derived one, by the kind of its parent. The template
    /// may have a label and a context in the place of its unique field. Part 3 §12.9.
    CreateLoaded<'a> = CREATE_LOADED "TPM2_CreateLoaded" {
        @parent_handle: Parent,
        in_sensitive: Tpm2b<SensitiveCreate<'a>>,
        in_public: Template<'a>,
    } -> CreateLoadedResponse<'r> {
        #object_handle: Transient,
        out_private: Private<'r>,
        out_public: Tpm2b<Public<'r>>,
        name: Name<'r>,
    }
}
