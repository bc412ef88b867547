//! What Part 3 says of the handles and parameters of commands, for the documentation of their fields.

/// The meaning of a field: of one command or answer, where it has one of its own, or of all that have a field of that name.
#[rustfmt::skip]
macro_rules! meaning {
    // Of one command.
    (AcGetCapability capability) => { "What to begin with." };
    (AcGetCapability count) => { "The most entries to be answered." };
    (AcGetCapabilityResponse more_data) => { "Whether the component has more entries." };
    (AcSend auth_handle) => {
        "What gives access to the attached component: the owner, the platform, or the NV index of the component's \
         alias."
    };
    (AcSend send_object) => {
        "The object to be sent, by its DUP role: its policy must allow \
         [`PolicyAcSendSelect`](crate::commands::PolicyAcSendSelect)."
    };
    (ActivateCredential activate_handle) => { "The object whose Name is in the credential, in the ADMIN role." };
    (ActivateCredential key_handle) => { "The storage key to which the seed is encrypted, such as an EK." };
    (ActivateCredential secret) => { "The seed, encrypted to `key_handle`." };
    (Certify object_handle) => { "The object to be attested, in the ADMIN role." };
    (CertifyCreation object_handle) => { "The object whose creation is attested." };
    (CertifyX509 object_handle) => { "The key to be certified, in the ADMIN role." };
    (CertifyX509 sign_handle) => { "The key that signs." };
    (Clear auth_handle) => { "The lockout authorization or the platform." };
    (ClearControl auth) => { "Who decides; the lockout authorization can only forbid." };
    (ClockRateAdjust auth) => { "The owner or the platform." };
    (ClockSet auth) => { "The owner or the platform." };
    (Commit sign_handle) => { "A signing key with an anonymous scheme, such as ECDAA." };
    (CommitResponse counter) => {
        "Names the ephemeral key in the [`Sign`](crate::commands::Sign) that completes the signature."
    };
    (ContextLoad context) => { "What [`ContextSave`](struct@crate::commands::ContextSave) answered." };
    (ContextSaveResponse context) => { "What [`ContextLoad`](struct@crate::commands::ContextLoad) takes." };
    (CreateLoaded parent_handle) => {
        "A hierarchy for a primary object, a storage key for an ordinary one, a derivation parent for a derived \
         one."
    };
    (CreateLoaded in_public) => {
        "The template; of a derived object it has label and context in the place of the unique field."
    };
    (CreateLoadedResponse out_private) => {
        "The private area, encrypted by the parent; empty for a primary or derived object."
    };
    (CreatePrimary in_public) => {
        "The template. Its unique field enters the derivation: another one makes another key."
    };
    (Decapsulate key_handle) => { "The private key." };
    (DictionaryAttackLockReset lock_handle) => {
        "The lockout authorization; a wrong value blocks it for the lockout recovery time."
    };
    (DictionaryAttackParameters lock_handle) => { "The lockout authorization." };
    (Duplicate object_handle) => {
        "The object to be duplicated, in the DUP role: its policy must allow \
         [`Duplicate`](struct@crate::commands::Duplicate)."
    };
    (Duplicate symmetric_alg) => { "The cipher of the inner wrapper; null for none." };
    (EcEphemeralResponse counter) => {
        "Names the ephemeral key in [`ZGen2Phase`](struct@crate::commands::ZGen2Phase)."
    };
    (EccDecrypt in_scheme) => { "The key derivation, if the key leaves it open." };
    (EccDecrypt key_handle) => { "The private ECC key." };
    (EccEncrypt in_scheme) => { "The key derivation, if the key leaves it open." };
    (EccEncrypt plain_text) => { "What is encrypted." };
    (EccEncrypt key_handle) => { "The public ECC key." };
    (EccParametersResponse parameters) => { "The curve's numbers." };
    (EcdhKeyGen key_handle) => { "The public ECC key of the other side." };
    (EcdhZGen key_handle) => { "The private ECC key." };
    (Encapsulate key_handle) => { "The public key." };
    (EncryptDecrypt in_data) => { "What is encrypted or decrypted." };
    (EncryptDecrypt key_handle) => { "The key of a symmetric cipher." };
    (EncryptDecrypt2 in_data) => { "What is encrypted or decrypted." };
    (EncryptDecrypt2 key_handle) => { "The key of a symmetric cipher." };
    (EncryptDecrypt2Response out_data) => { "The result: as long as the input." };
    (EncryptDecryptResponse out_data) => { "The result: as long as the input." };
    (EventSequenceComplete pcr_handle) => { "The PCR to extend in every bank; `None` only computes the digests." };
    (EventSequenceComplete buffer) => { "The last data; may be empty." };
    (EvictControl auth) => { "The owner, or the platform for an object of the platform hierarchy." };
    (EvictControl object_handle) => {
        "The transient object to be made persistent, or the persistent one to be removed."
    };
    (FieldUpgradeStart authorization) => { "The platform, in the ADMIN role." };
    (FieldUpgradeStart key_handle) => { "The key of the maker that verifies the manifest." };
    (FirmwareRead sequence_number) => { "How often the command has been called for this firmware; 0 to begin." };
    (FirmwareReadResponse fu_data) => { "The piece; empty after the last." };
    (GetCapability property) => { "Where to begin: a property, handle, algorithm, command code or curve." };
    (GetCapabilityResponse more_data) => { "Whether there is more behind the last entry." };
    (GetSessionAuditDigest session_handle) => { "The audit session." };
    (GetTestResultResponse out_data) => { "What the vendor tells of the result." };
    (Hash data) => { "What is hashed, at most as much as the TPM takes at once." };
    (HashResponse validation) => {
        "Says that the data did not begin with `TPM_GENERATED_VALUE`, so that a restricted key may sign the \
         digest; a null ticket otherwise."
    };
    (HashSequenceStart hash_alg) => { "The hash; the null algorithm starts an event sequence." };
    (HierarchyChangeAuth auth_handle) => { "The hierarchy, or the lockout authorization, by its old value." };
    (HierarchyControl auth_handle) => { "Whose authorization allows it: of a hierarchy itself, or of the platform." };
    (HierarchyControl state) => { "Whether the hierarchy is to be on." };
    (Hmac handle) => { "The HMAC key." };
    (Hmac hash_alg) => { "The hash, if the key leaves it open; the null algorithm for that of the key." };
    (Hmac buffer) => { "The data." };
    (HmacResponse out_hmac) => { "The HMAC." };
    (HmacStart handle) => { "The HMAC key." };
    (HmacStart hash_alg) => { "The hash, if the key leaves it open; the null algorithm for that of the key." };
    (Import parent_handle) => { "The storage key that becomes the parent." };
    (Import symmetric_alg) => { "The cipher of the inner wrapper; null if there is none." };
    (ImportResponse out_private) => {
        "The private area, now encrypted by the new parent, for [`Load`](crate::commands::Load)."
    };
    (Load in_public) => { "The public area that belongs to the private area." };
    (LoadExternal in_private) => { "The sensitive area, in the clear; `None` to load a public key only." };
    (LoadExternal in_public) => { "The public area." };
    (LoadExternal hierarchy) => { "The hierarchy of tickets made with the object; null if a sensitive area is given." };
    (MakeCredential handle) => { "The public storage key of the other TPM, such as its EK." };
    (MakeCredentialResponse secret) => { "The seed of the protection, encrypted to the key." };
    (NvCertify auth_handle) => { "Whose authorization allows reading: the index itself, the owner or the platform." };
    (NvCertify size) => { "Octets to be attested; 0, with offset 0, attests the digest of all of the content." };
    (NvChangeAuth nv_index) => { "The index, in the ADMIN role: by a policy." };
    (NvDefineSpace auth) => { "The authorization value that the index will have." };
    (NvDefineSpace auth_handle) => { "The owner or the platform, whose the index will be." };
    (NvDefineSpace2 auth) => { "The authorization value that the index will have." };
    (NvDefineSpace2 auth_handle) => { "The owner or the platform, whose the index will be." };
    (NvExtend data) => { "What the content is extended with." };
    (NvExtend auth_handle) => { "Whose authorization allows writing: the index itself, the owner or the platform." };
    (NvGlobalWriteLock auth_handle) => { "The owner or the platform." };
    (NvIncrement auth_handle) => { "Whose authorization allows writing: the index itself, the owner or the platform." };
    (NvRead auth_handle) => { "Whose authorization allows reading: the index itself, the owner or the platform." };
    (NvReadLock auth_handle) => { "Whose authorization allows reading: the index itself, the owner or the platform." };
    (NvReadPublicResponse nv_public) => { "The public area." };
    (NvSetBits auth_handle) => { "Whose authorization allows writing: the index itself, the owner or the platform." };
    (NvUndefineSpace auth_handle) => { "The owner or the platform, whose the index is." };
    (NvUndefineSpaceSpecial nv_index) => { "The index, in the ADMIN role: by its policy." };
    (NvWrite data) => { "What is written, at most `TPM_PT_NV_BUFFER_MAX` octets." };
    (NvWrite auth_handle) => { "Whose authorization allows writing: the index itself, the owner or the platform." };
    (NvWriteLock auth_handle) => { "Whose authorization allows writing: the index itself, the owner or the platform." };
    (ObjectChangeAuth object_handle) => { "The object, in the ADMIN role." };
    (ObjectChangeAuth parent_handle) => { "The parent of the object." };
    (ObjectChangeAuthResponse out_private) => {
        "The private area with the new value, for [`Load`](crate::commands::Load). The loaded object keeps the \
         old one."
    };
    (PcrAllocate auth_handle) => { "The platform." };
    (PcrEvent pcr_handle) => { "The PCR; `None` only computes the digests." };
    (PcrEventResponse digests) => { "The digest of the data in each bank." };
    (PcrExtend pcr_handle) => { "The PCR; `None` changes none." };
    (PcrSetAuthPolicy auth_handle) => { "The platform." };
    (PcrSetAuthPolicy hash_alg) => { "The hash of the policy; the null algorithm if there is none." };
    (PcrSetAuthValue auth) => { "The new authorization value of the PCR's group." };
    (PolicyAcSendSelect object_name) => { "Name of the object to be sent; empty if it may be any." };
    (PolicyAcSendSelect include_object) => { "Whether the Name of the object becomes part of the policy." };
    (PolicyAuthorize policy_ref) => { "What the holder of the key has qualified the approval with; often empty." };
    (PolicyAuthorize check_ticket) => {
        "Of [`VerifySignature`](struct@crate::commands::VerifySignature) over the approval."
    };
    (PolicyAuthorizeNv auth_handle) => {
        "Whose authorization allows reading: the index itself, the owner or the platform."
    };
    (PolicyAuthorizeNv nv_index) => { "The index that holds the policy, as a `TPMT_HA`." };
    (PolicyCapability offset) => { "Where in the marshaled capability the operand to be compared begins." };
    (PolicyCapability capability) => {
        "The capability, as for [`GetCapability`](struct@crate::commands::GetCapability)."
    };
    (PolicyCapability property) => { "Its property." };
    (PolicyCounterTimer offset) => { "Where in the marshaled `TPMS_TIME_INFO` the operand to be compared begins." };
    (PolicyCpHash cp_hash_a) => { "The digest of the command code, the Names of the entities and the parameters." };
    (PolicyDuplicationSelect object_name) => { "Name of the object to be duplicated; empty if it may be any." };
    (PolicyDuplicationSelect include_object) => { "Whether the Name of the object becomes part of the policy." };
    (PolicyLocality locality) => { "The localities that may send the command." };
    (PolicyNv auth_handle) => { "Whose authorization allows reading: the index itself, the owner or the platform." };
    (PolicyNv offset) => { "Where in the index the operand to be compared begins." };
    (PolicyNv nv_index) => { "The index that is compared." };
    (PolicyRestart session_handle) => { "The policy session, whose digest becomes that of the empty policy." };
    (PolicySecret auth_handle) => { "The entity whose authorization value is to be known." };
    (PolicySecret policy_ref) => { "What the policy qualifies the authorization with; often empty." };
    (PolicySigned auth) => { "The signature over the authorization." };
    (PolicySigned auth_object) => { "The public key that verifies the signature." };
    (PolicyTicket ticket) => {
        "The ticket that [`PolicySigned`](struct@crate::commands::PolicySigned) or \
         [`PolicySecret`](struct@crate::commands::PolicySecret) answered."
    };
    (PolicyTicket timeout) => { "The time that came with the ticket." };
    (PolicyTicket auth_name) => { "Name of the entity that gave the authorization." };
    (PpCommands auth) => { "The platform, with physical presence." };
    (PpCommands set_list) => { "Commands that shall need physical presence." };
    (PpCommands clear_list) => { "Commands that shall need it no longer." };
    (QuoteResponse quoted) => { "The attestation, as the octets that were signed." };
    (ReadOnlyControl auth_handle) => { "The platform." };
    (ReadOnlyControl state) => { "Whether the TPM is to be read-only." };
    (ReadPublic object_handle) => { "The object." };
    (Rewrap name) => { "Name of the object that is rewrapped." };
    (RsaDecrypt key_handle) => { "The private RSA key." };
    (RsaDecrypt in_scheme) => { "The padding, if the key leaves it open." };
    (RsaEncrypt key_handle) => { "The public RSA key." };
    (RsaEncrypt in_scheme) => { "The padding, if the key leaves it open." };
    (RsaEncryptResponse out_data) => { "The ciphertext: as long as the modulus." };
    (SelfTest full_test) => { "Whether to test all, or only what has not been tested yet." };
    (SequenceComplete buffer) => { "The last data; may be empty." };
    (SequenceComplete hierarchy) => { "The hierarchy of the ticket." };
    (SequenceCompleteResponse validation) => {
        "Says that the data did not begin with `TPM_GENERATED_VALUE`, so that a restricted key may sign the \
         digest; a null ticket otherwise, and for an HMAC."
    };
    (SequenceCompleteResponse result) => { "The digest or HMAC." };
    (SequenceUpdate buffer) => { "More data." };
    (SetAlgorithmSet auth_handle) => { "The platform." };
    (SetCapability auth_handle) => {
        "The hierarchy whose authorization the capability asks for; `None` if it asks for none."
    };
    (SetCommandCodeAuditStatus auth) => { "The owner or the platform." };
    (SetCommandCodeAuditStatus set_list) => { "Commands to be audited from now on." };
    (SetCommandCodeAuditStatus clear_list) => { "Commands to be audited no longer." };
    (SetPrimaryPolicy auth_handle) => { "The hierarchy, or the timer, that gets the policy." };
    (SetPrimaryPolicy hash_alg) => { "The hash of the policy; the null algorithm if there is none." };
    (Shutdown shutdown_type) => { "`STATE` keeps the state for a resume or restart; `CLEAR` does not." };
    (Sign key_handle) => { "The signing key." };
    (Sign validation) => {
        "Says that the TPM made the digest: needed by a restricted key, otherwise \
         [`Ticket::NO_HASHCHECK`](crate::types::Ticket::NO_HASHCHECK)."
    };
    (Sign digest) => { "The digest to be signed." };
    (SignDigest validation) => {
        "Says that the TPM made the digest: needed by a restricted key, otherwise \
         [`Ticket::NO_HASHCHECK`](crate::types::Ticket::NO_HASHCHECK)."
    };
    (SignDigest digest) => { "The digest to be signed." };
    (SignDigest key_handle) => { "The signing key." };
    (SignSequenceComplete key_handle) => { "The signing key that the sequence was started with." };
    (SignSequenceComplete buffer) => { "The last data; may be empty." };
    (SignSequenceStart key_handle) => { "The signing key." };
    (Start startup_type) => { "`STATE` restores what a shutdown has kept; `CLEAR` begins again." };
    (StirRandom in_data) => { "What is added to the state of the generator: at most 128 octets." };
    (TestParms parameters) => { "The type of key and its parameters." };
    (UnsealResponse out_data) => { "The sealed data." };
    (VendorTcgTest input_data) => { "Data." };
    (VerifyDigestSignature key_handle) => { "The public key that verifies." };
    (VerifyDigestSignatureResponse validation) => {
        "Says that the TPM verified the signature, for \
         [`PolicyAuthorize`](struct@crate::commands::PolicyAuthorize)."
    };
    (VerifySequenceComplete key_handle) => { "The public key that the sequence was started with." };
    (VerifySequenceCompleteResponse validation) => {
        "Says that the TPM verified the signature, for \
         [`PolicyAuthorize`](struct@crate::commands::PolicyAuthorize)."
    };
    (VerifySequenceStart key_handle) => { "The public key that verifies." };
    (VerifySignature key_handle) => { "The public key that verifies." };
    (VerifySignatureResponse validation) => {
        "Says that the TPM verified the signature, for \
         [`PolicyAuthorize`](struct@crate::commands::PolicyAuthorize)."
    };
    (ZGen2Phase counter) => { "The number that [`EcEphemeral`](struct@crate::commands::EcEphemeral) answered." };
    (ZGen2Phase in_scheme) => { "The key exchange, such as `TPM_ALG_ECDH` or `TPM_ALG_ECMQV`." };

    // Wherever it is.
    ($of:ident ac) => { "The attached component." };
    ($of:ident ac_data_in) => { "What goes with the object." };
    ($of:ident ac_data_out) => { "What the component answered." };
    ($of:ident ac_name) => { "Name of the attached component." };
    ($of:ident act_handle) => { "The timer." };
    ($of:ident added_to_certificate) => { "The DER elements that the TPM added." };
    ($of:ident algorithm_set) => { "The set, by a number of the vendor's." };
    ($of:ident allocation_success) => { "Whether the allocation will be in effect after the next reset." };
    ($of:ident approved_policy) => { "The policy that was approved: the session must have reached it." };
    ($of:ident audit_alg) => { "The hash of the audit; the null algorithm leaves it as it is." };
    ($of:ident audit_info) => { "The attestation, as the octets that were signed." };
    ($of:ident auth) => { "The authorization value that the sequence will have." };
    ($of:ident auth_handle) => { "The hierarchy." };
    ($of:ident auth_handle_name) => { "Name of what gives access to the attached component." };
    ($of:ident auth_hash) => { "The hash of the session: of HMACs, key derivation and the policy." };
    ($of:ident auth_policy) => { "The digest of the policy; empty for none." };
    ($of:ident bind) => {
        "The entity to bind the session to: its authorization value becomes part of the session key. `None` binds \
         to nothing."
    };
    ($of:ident bits) => { "The bits to be set, beside those that are." };
    ($of:ident bytes_requested) => {
        "How many octets; a TPM may give fewer, at most as many as its largest digest has."
    };
    ($of:ident c1) => { "The ephemeral public point." };
    ($of:ident c2) => { "The ciphertext." };
    ($of:ident c3) => { "The digest that protects integrity." };
    ($of:ident capabilities_data) => { "The entries." };
    ($of:ident capability) => { "Which kind." };
    ($of:ident capability_data) => { "The entries." };
    ($of:ident cert_info) => { "The secret of the credential." };
    ($of:ident certify_info) => { "The attestation, as the octets that were signed." };
    ($of:ident cipher_text) => { "The ciphertext." };
    ($of:ident ciphertext) => { "The encapsulated secret." };
    ($of:ident code) => { "The command code." };
    ($of:ident context) => { "What the signature is bound to beside the message; often empty." };
    ($of:ident cp_hash_a) => {
        "The digest of the command and its parameters to which the authorization is limited; empty for no limit."
    };
    ($of:ident creation_data) => { "Where and how the object was created." };
    ($of:ident creation_hash) => { "Digest of the creation data." };
    ($of:ident creation_pcr) => { "PCRs whose values become part of the creation data." };
    ($of:ident creation_ticket) => {
        "Says that this TPM made the creation data, for \
         [`CertifyCreation`](struct@crate::commands::CertifyCreation)."
    };
    ($of:ident credential) => { "The secret, at most as long as a digest of the key's Name algorithm." };
    ($of:ident credential_blob) => { "The credential, encrypted, and its HMAC." };
    ($of:ident current_time) => { "Time and clock." };
    ($of:ident curve_id) => { "The curve." };
    ($of:ident data) => { "The content that was read." };
    ($of:ident decrypt) => { "Whether to decrypt; to encrypt otherwise." };
    ($of:ident digest) => { "The digest of what was signed." };
    ($of:ident digests) => { "A digest for each bank to be extended." };
    ($of:ident disable) => { "Whether to forbid [`Clear`](struct@crate::commands::Clear)." };
    ($of:ident duplicate) => { "The sensitive area, as [`Duplicate`](struct@crate::commands::Duplicate) answers it." };
    ($of:ident e) => { "The product of the ephemeral key and `p1`, or the generator if no point is given." };
    ($of:ident enable) => { "What is switched." };
    ($of:ident encrypted_salt) => { "The salt, encrypted to `tpm_key`; empty without one." };
    ($of:ident encryption_key) => { "The key of the inner wrapper; empty if there is none." };
    ($of:ident encryption_key_in) => { "The key of the inner wrapper; empty to let the TPM make one." };
    ($of:ident encryption_key_out) => { "The key of the inner wrapper, if the TPM made it." };
    ($of:ident event_data) => { "What is hashed." };
    ($of:ident expiration) => {
        "Seconds until the authorization ends, from the session's nonce if one is given; negative asks for a \
         ticket, 0 sets no end."
    };
    ($of:ident first_digest) => { "Digest of the first piece." };
    ($of:ident flush_handle) => { "What is to be removed from the TPM." };
    ($of:ident fu_data) => { "The piece." };
    ($of:ident fu_digest) => { "Digest of the first piece." };
    ($of:ident hash_alg) => { "The hash." };
    ($of:ident hierarchy) => { "The hierarchy of the ticket." };
    ($of:ident hint) => {
        "What some schemes need of the signature before the message, such as R of EdDSA; otherwise empty."
    };
    ($of:ident in_duplicate) => { "The sensitive area, encrypted to the old parent." };
    ($of:ident in_point) => { "The public point of the other side." };
    ($of:ident in_private) => { "The private area, encrypted by the parent." };
    ($of:ident in_public) => { "The template." };
    ($of:ident in_qe_b) => { "The other side's ephemeral public point." };
    ($of:ident in_qs_b) => { "The other side's static public point." };
    ($of:ident in_scheme) => { "The signing scheme, if the key leaves it open; otherwise null or the same." };
    ($of:ident in_sensitive) => { "The authorization value that the object will have, and data to be sealed." };
    ($of:ident in_sym_seed) => { "The seed of the outer wrapper, encrypted to the parent; empty if there is none." };
    ($of:ident item_handle) => { "The sealed object." };
    ($of:ident iv_in) => { "The initial value; empty in ECB mode." };
    ($of:ident iv_out) => { "The initial value with which more data goes on." };
    ($of:ident k) => { "The product of the private key and the point of `s2` and `y2`." };
    ($of:ident key_a) => { "The private ECC key." };
    ($of:ident key_sign) => { "Name of the key that signed the approval." };
    ($of:ident l) => { "The product of the ephemeral key and the point of `s2` and `y2`." };
    ($of:ident label) => { "The label of OAEP, which ends in a zero octet; empty for none." };
    ($of:ident loaded_handle) => { "The object, at a new handle, or the session, at its old one." };
    ($of:ident lockout_recovery) => {
        "Seconds until the lockout authorization can be tried again after a wrong value; 0 means after a reset."
    };
    ($of:ident manifest_signature) => { "The signature over `fu_digest`." };
    ($of:ident max_pcr) => { "The most PCRs that a bank can have." };
    ($of:ident message) => { "What is encrypted." };
    ($of:ident mode) => { "The mode of operation, if the key leaves it open." };
    ($of:ident name) => { "Name of the object." };
    ($of:ident name_hash) => { "The digest of the Names of the command's entities." };
    ($of:ident new_auth) => { "The new authorization value." };
    ($of:ident new_max_tries) => { "Wrong values until the lockout; 0 locks out at once." };
    ($of:ident new_parent) => { "The new parent; `None` leaves the outer wrapper away." };
    ($of:ident new_parent_handle) => {
        "The public storage key that becomes the parent; `None` leaves the outer wrapper away."
    };
    ($of:ident new_parent_name) => { "Name of the new parent." };
    ($of:ident new_recovery_time) => { "Seconds after which one wrong value is forgotten; 0 turns the lockout off." };
    ($of:ident new_time) => { "The new value of the clock in milliseconds, which can only go forward." };
    ($of:ident next_digest) => { "Digest of the piece that is expected next; null after the last." };
    ($of:ident nonce_caller) => { "The first nonce of the caller, at least 16 octets." };
    ($of:ident nonce_tpm) => {
        "The session's nonce, so that the authorization is for this session only; empty for any session."
    };
    ($of:ident nv_index) => { "The index." };
    ($of:ident nv_name) => { "Name of the index." };
    ($of:ident nv_public) => { "The public area." };
    ($of:ident object_handle) => { "The object to be attested." };
    ($of:ident object_name) => { "Name of the object that the credential is for." };
    ($of:ident object_public) => { "The public area of the object." };
    ($of:ident offset) => { "Octets to be left out from the beginning of the content." };
    ($of:ident old_parent) => { "The storage key to which the seed is encrypted; `None` if there is no outer wrapper." };
    ($of:ident operand_b) => { "What is compared with." };
    ($of:ident operation) => { "How it is compared." };
    ($of:ident out_duplicate) => { "The sensitive area, encrypted to the new parent." };
    ($of:ident out_hash) => { "The digest." };
    ($of:ident out_point) => { "The shared point." };
    ($of:ident out_private) => { "The private area, encrypted by the parent, for [`Load`](crate::commands::Load)." };
    ($of:ident out_public) => { "The public area." };
    ($of:ident out_sym_seed) => { "The seed of the outer wrapper, encrypted to the new parent; empty without one." };
    ($of:ident out_z1) => { "The point shared by the static keys." };
    ($of:ident out_z2) => { "The point shared by the ephemeral keys." };
    ($of:ident output_data) => { "Data." };
    ($of:ident outside_info) => { "What the caller adds to the creation data." };
    ($of:ident p1) => { "A point to be multiplied with the ephemeral key; empty for none." };
    ($of:ident p_hash) => { "The digest of the command code and its parameters." };
    ($of:ident p_hash_list) => { "The digests of two to eight policies; the session must have reached one of them." };
    ($of:ident parent_handle) => { "The storage key that is the parent." };
    ($of:ident partial_certificate) => { "The DER elements of the certificate that the caller makes." };
    ($of:ident pcr_allocation) => { "The PCRs that shall be there, by bank." };
    ($of:ident pcr_digest) => {
        "The digest of the values, made with the session's hash; empty for those that the PCRs have now."
    };
    ($of:ident pcr_handle) => { "The PCR." };
    ($of:ident pcr_num) => { "A PCR of the group." };
    ($of:ident pcr_selection_in) => { "The PCRs." };
    ($of:ident pcr_selection_out) => { "The PCRs whose values are here, which may be fewer than were asked for." };
    ($of:ident pcr_update_counter) => {
        "How often a PCR has changed; the same number before and after means the same values."
    };
    ($of:ident pcr_values) => { "The values, in the order of the selection." };
    ($of:ident pcrs) => { "The PCRs." };
    ($of:ident pcrselect) => { "The PCRs." };
    ($of:ident persistent_handle) => { "The handle in the range of persistent objects that the object gets, or has." };
    ($of:ident plain_text) => { "What was encrypted." };
    ($of:ident platform) => { "The platform." };
    ($of:ident policy_digest) => { "The digest." };
    ($of:ident policy_ref) => { "What the policy qualifies the authorization with; often empty." };
    ($of:ident policy_session) => { "The policy session, or a trial session." };
    ($of:ident policy_ticket) => {
        "For [`PolicyTicket`](struct@crate::commands::PolicyTicket), if `expiration` is negative; otherwise a \
         null ticket."
    };
    ($of:ident primary_handle) => { "The hierarchy." };
    ($of:ident privacy_admin_handle) => { "The endorsement hierarchy." };
    ($of:ident privacy_handle) => { "The endorsement hierarchy." };
    ($of:ident property_count) => { "The most entries to be answered." };
    ($of:ident pub_point) => { "The ephemeral public point, for the other side." };
    ($of:ident public_info) => { "The public area that the index will have." };
    ($of:ident q) => { "The ephemeral public point." };
    ($of:ident qualified_name) => { "Qualified Name: the digest of the ancestors' Names and its own." };
    ($of:ident qualifying_data) => { "What the caller adds, such as a verifier's nonce." };
    ($of:ident random_bytes) => { "The octets, perhaps fewer than were asked for." };
    ($of:ident rate_adjust) => { "Faster or slower, and how much." };
    ($of:ident req_key_name) => { "Name of the requester's key; empty if it may be any." };
    ($of:ident reserved) => { "Empty." };
    ($of:ident results) => { "The digest in each bank." };
    ($of:ident s2) => { "Octets that are hashed to the first coordinate of a point; empty for none." };
    ($of:ident save_handle) => { "The object or session." };
    ($of:ident sequence_handle) => { "The sequence." };
    ($of:ident session_handle) => { "The session." };
    ($of:ident session_type) => { "HMAC, policy or trial." };
    ($of:ident set_capability_data) => { "The capability and its value." };
    ($of:ident shared_secret) => { "The secret." };
    ($of:ident sign_handle) => { "The key that signs; `None` leaves the signature out." };
    ($of:ident signature) => { "The signature." };
    ($of:ident size) => { "Octets to be read." };
    ($of:ident size_available) => { "Octets that there are for PCRs." };
    ($of:ident size_needed) => { "Octets that the allocation needs." };
    ($of:ident start_timeout) => { "Seconds until the timer runs out." };
    ($of:ident symmetric) => { "The cipher of parameters; null if the session shall not encrypt." };
    ($of:ident tbs_digest) => { "Digest of what was signed." };
    ($of:ident template_hash) => { "The digest of the template." };
    ($of:ident test_result) => { "The result: success, a test that is still to come, or failure." };
    ($of:ident time_info) => { "The attestation, as the octets that were signed." };
    ($of:ident timeout) => { "When the ticket ends, on the TPM's clock; empty without a ticket." };
    ($of:ident to_do_list) => { "Algorithms that are still to be tested." };
    ($of:ident to_test) => { "The algorithms to be tested." };
    ($of:ident tpm_key) => { "The key to which the salt is encrypted; `None` for a session without salt." };
    ($of:ident tpm_key_name) => { "Name of the TPM's key; empty if it may be any." };
    ($of:ident written_set) => { "Whether the index must have been written." };
    ($of:ident y2) => { "The second coordinate of the point; empty without `s2`." };
    ($of:ident z_point) => { "The shared point." };
}

pub(crate) use meaning;
