//! Part 3 §31: non-volatile memory.

use crate::types::{
    AsymScheme, AttestData, AuthValue, Data, MaxNvBuffer, Name, NvAuth, NvIndex, NvPublic,
    NvPublic2, Object, Platform, Provision, Signature,
};
use crate::wire::Tpm2b;
use crate::wire::macros::command;

command! {
    /// Defines an NV index. Part 3 §31.3.
    NvDefineSpace<'a> = NV_DEFINE_SPACE "TPM2_NV_DefineSpace" {
        @auth_handle: Provision,
        auth: AuthValue<'a>,
        public_info: Tpm2b<NvPublic<'a>>,
    } -> NvDefineSpaceResponse {}

    /// Removes an NV index. Part 3 §31.4.
    NvUndefineSpace = NV_UNDEFINE_SPACE "TPM2_NV_UndefineSpace" {
        @auth_handle: Provision,
        #nv_index: NvIndex,
    } -> NvUndefineSpaceResponse {}

    /// Removes an NV index of the platform's that only a policy can remove. Part 3 §31.5.
    NvUndefineSpaceSpecial = NV_UNDEFINE_SPACE_SPECIAL "TPM2_NV_UndefineSpaceSpecial" clears_auth {
        @nv_index: NvIndex,
        @platform: Platform,
    } -> NvUndefineSpaceSpecialResponse {}

    /// Reads the public area of an NV index. Part 3 §31.6.
    NvReadPublic = NV_READ_PUBLIC "TPM2_NV_ReadPublic" {
        #nv_index: NvIndex,
    } -> NvReadPublicResponse<'r> {
        nv_public: Tpm2b<NvPublic<'r>>,
        nv_name: Name<'r>,
    }

    /// Writes to an NV index. Part 3 §31.7.
    NvWrite<'a> = NV_WRITE "TPM2_NV_Write" {
        @auth_handle: NvAuth,
        #nv_index: NvIndex,
        data: MaxNvBuffer<'a>,
        offset: u16,
    } -> NvWriteResponse {}

    /// Counts an NV index up. Part 3 §31.8.
    NvIncrement = NV_INCREMENT "TPM2_NV_Increment" {
        @auth_handle: NvAuth,
        #nv_index: NvIndex,
    } -> NvIncrementResponse {}

    /// Extends an NV index as a PCR is extended. Part 3 §31.9.
    NvExtend<'a> = NV_EXTEND "TPM2_NV_Extend" {
        @auth_handle: NvAuth,
        #nv_index: NvIndex,
        data: MaxNvBuffer<'a>,
    } -> NvExtendResponse {}

    /// Sets bits in an NV index. Part 3 §31.10.
    NvSetBits = NV_SET_BITS "TPM2_NV_SetBits" {
        @auth_handle: NvAuth,
        #nv_index: NvIndex,
        bits: u64,
    } -> NvSetBitsResponse {}

    /// Allows no more writing to an NV index. Part 3 §31.11.
    NvWriteLock = NV_WRITE_LOCK "TPM2_NV_WriteLock" {
        @auth_handle: NvAuth,
        #nv_index: NvIndex,
    } -> NvWriteLockResponse {}

    /// Allows no more writing to all NV indices that are under the global lock. Part 3 §31.12.
    NvGlobalWriteLock = NV_GLOBAL_WRITE_LOCK "TPM2_NV_GlobalWriteLock" {
        @auth_handle: Provision,
    } -> NvGlobalWriteLockResponse {}

    /// Reads from an NV index. Part 3 §31.13.
    NvRead = NV_READ "TPM2_NV_Read" {
        @auth_handle: NvAuth,
        #nv_index: NvIndex,
        size: u16,
        offset: u16,
    } -> NvReadResponse<'r> {
        data: MaxNvBuffer<'r>,
    }

    /// Allows no more reading from an NV index until the next reset. Part 3 §31.14.
    NvReadLock = NV_READ_LOCK "TPM2_NV_ReadLock" {
        @auth_handle: NvAuth,
        #nv_index: NvIndex,
    } -> NvReadLockResponse {}

    /// Gives an NV index another authorization value. Part 3 §31.15.
    NvChangeAuth<'a> = NV_CHANGE_AUTH "TPM2_NV_ChangeAuth" sets_auth {
        @nv_index: NvIndex,
        new_auth: AuthValue<'a>,
    } -> NvChangeAuthResponse {}

    /// Attests the content of an NV index or, with size and offset zero, its digest. Part 3 §31.16.
    NvCertify<'a> = NV_CERTIFY "TPM2_NV_Certify" {
        @sign_handle: Option<Object>,
        @auth_handle: NvAuth,
        #nv_index: NvIndex,
        qualifying_data: Data<'a>,
        in_scheme: AsymScheme,
        size: u16,
        offset: u16,
    } -> NvCertifyResponse<'r> {
        certify_info: AttestData<'r>,
        signature: Signature<'r>,
    }

    /// Defines an NV index of any kind. Part 3 §31.17.
    NvDefineSpace2<'a> = NV_DEFINE_SPACE2 "TPM2_NV_DefineSpace2" {
        @auth_handle: Provision,
        auth: AuthValue<'a>,
        public_info: Tpm2b<NvPublic2<'a>>,
    } -> NvDefineSpace2Response {}

    /// Reads the public area of an NV index of any kind. Part 3 §31.18.
    NvReadPublic2 = NV_READ_PUBLIC2 "TPM2_NV_ReadPublic2" {
        #nv_index: NvIndex,
    } -> NvReadPublic2Response<'r> {
        nv_public: Tpm2b<NvPublic2<'r>>,
        nv_name: Name<'r>,
    }
}
