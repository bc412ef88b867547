//! Part 3 §24: hierarchies.

use crate::types::{
    Alg, AuthValue, BaseHierarchy, ClearAuth, CreationData, Data, Digest, Enables, Hierarchy,
    HierarchyAuth, HierarchyPolicy, Name, PcrSelections, Platform, Public, SensitiveCreate, Ticket,
    Transient,
};
use crate::wire::Tpm2b;
use crate::wire::macros::command;

command! {
    /// Creates a primary object under a hierarchy. Part 3 §24.1.
    CreatePrimary<'a> = CREATE_PRIMARY "TPM2_CreatePrimary" {
        @primary_handle: Hierarchy,
        in_sensitive: Tpm2b<SensitiveCreate<'a>>,
        in_public: Tpm2b<Public<'a>>,
        outside_info: Data<'a>,
        creation_pcr: PcrSelections<'a>,
    } -> CreatePrimaryResponse<'r> {
        #object_handle: Transient,
        out_public: Tpm2b<Public<'r>>,
        creation_data: Tpm2b<CreationData<'r>>,
        creation_hash: Digest<'r>,
        creation_ticket: Ticket<'r>,
        name: Name<'r>,
    }

    /// Switches a hierarchy on or off. Part 3 §24.2.
    HierarchyControl = HIERARCHY_CONTROL "TPM2_HierarchyControl" {
        @auth_handle: BaseHierarchy,
        enable: Enables,
        state: bool,
    } -> HierarchyControlResponse {}

    /// Gives a hierarchy a policy. Part 3 §24.3.
    SetPrimaryPolicy<'a> = SET_PRIMARY_POLICY "TPM2_SetPrimaryPolicy" {
        @auth_handle: HierarchyPolicy,
        auth_policy: Digest<'a>,
        hash_alg: Alg,
    } -> SetPrimaryPolicyResponse {}

    /// Gives the platform hierarchy another seed: its objects are gone. Part 3 §24.4.
    ChangePps = CHANGE_PPS "TPM2_ChangePPS" {
        @auth_handle: Platform,
    } -> ChangePpsResponse {}

    /// Gives the endorsement hierarchy another seed: its objects are gone, and no EK certificate fits any more. Part 3
    /// §24.5.
    ChangeEps = CHANGE_EPS "TPM2_ChangeEPS" {
        @auth_handle: Platform,
    } -> ChangeEpsResponse {}

    /// Removes all that belongs to an owner. Part 3 §24.6.
    Clear = CLEAR "TPM2_Clear" clears_auth {
        @auth_handle: ClearAuth,
    } -> ClearResponse {}

    /// Forbids or allows [`Clear`]. Part 3 §24.7.
    ClearControl = CLEAR_CONTROL "TPM2_ClearControl" {
        @auth: ClearAuth,
        disable: bool,
    } -> ClearControlResponse {}

    /// Gives a hierarchy an authorization value. Part 3 §24.8.
    HierarchyChangeAuth<'a> = HIERARCHY_CHANGE_AUTH "TPM2_HierarchyChangeAuth" sets_auth {
        @auth_handle: HierarchyAuth,
        new_auth: AuthValue<'a>,
    } -> HierarchyChangeAuthResponse {}

    /// Lets a TPM change nothing more, or ends that. Part 3 §24.9.
    ReadOnlyControl = READ_ONLY_CONTROL "TPM2_ReadOnlyControl" {
        @auth_handle: Platform,
        state: bool,
    } -> ReadOnlyControlResponse {}
}
