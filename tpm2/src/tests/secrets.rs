//! No form of `Debug`, and no annotation of a frame, shows a secret; what is not secret is shown.

use std::collections::BTreeSet;
use std::vec::Vec;
use std::{format, string::String};

use crate::commands::*;
use crate::template::{AK_P256, SRK_P256};
use crate::transport::Exchange;
use crate::types::*;
use crate::wire::{List, Tpm2b, Writer};

/// What must not be seen. Passwords of all commands are the same octets.
const SECRET: [u8; 8] = [0xc5; 8];
/// What must be seen.
const PUBLIC: [u8; 8] = [0xda; 8];

/// The commands without a secret in them or in their answer, by what Part 3 says of their parameters. A command is either here or in
/// one of the tests below.
const WITHOUT_SECRETS: &str = "\
    ACT_SetTimeout AC_GetCapability Certify CertifyCreation CertifyX509 ChangeEPS ChangePPS Clear ClearControl ClockRateAdjust \
    ClockSet Commit ContextLoad ContextSave DictionaryAttackLockReset DictionaryAttackParameters ECC_Parameters EC_Ephemeral \
    EvictControl FieldUpgradeData FieldUpgradeStart FirmwareRead FlushContext GetCapability GetCommandAuditDigest \
    GetSessionAuditDigest GetTestResult GetTime HierarchyControl IncrementalSelfTest NV_GlobalWriteLock NV_Increment NV_ReadLock \
    NV_ReadPublic NV_ReadPublic2 NV_SetBits NV_UndefineSpace NV_UndefineSpaceSpecial NV_WriteLock PCR_Allocate PCR_Event \
    PCR_Extend PCR_Read PCR_Reset PCR_SetAuthPolicy PP_Commands PolicyAuthValue PolicyAuthorize PolicyAuthorizeNV \
    PolicyCapability PolicyCommandCode PolicyCounterTimer PolicyCpHash PolicyDuplicationSelect PolicyGetDigest PolicyLocality \
    PolicyNV PolicyNameHash PolicyNvWritten PolicyOR PolicyPCR PolicyParameters PolicyPassword PolicyPhysicalPresence \
    PolicyRestart PolicySecret PolicySigned PolicyTemplate PolicyTicket PolicyTransportSPDM Policy_AC_SendSelect Quote ReadClock \
    ReadOnlyControl ReadPublic SelfTest SetAlgorithmSet SetCapability SetCommandCodeAuditStatus SetPrimaryPolicy Shutdown Sign \
    SignDigest StartAuthSession Startup TestParms Vendor_TCG_Test VerifyDigestSignature VerifySequenceComplete VerifySignature";

/// The commands that were looked at.
#[derive(Default)]
struct Seen(BTreeSet<&'static str>);

impl Seen {
    /// Looks for the secret in all that can be shown of a command and its answer. With sessions that encrypt, as they say they do,
    /// there is less to be shown.
    fn check<C: Authorized<N>, const N: usize>(&mut self, command: &C, answer: &C::Response<'_>) {
        let passwords = [AuthValue::from(&SECRET); N];
        let mut buffer = [0; 2048];
        let len = frame::marshal(command, passwords, &mut buffer).unwrap();
        let mut question = buffer[..len].to_vec();
        let mut all = Vec::from([format!("{command:?} {command:#?} {answer:?} {answer:#?}")]);
        all.push(frames(&question, &response::<C>(answer)));
        if N > 0 {
            let attributes = 10 + 4 * C::INFO.handles.len() + 4 + 4 + 2;
            question[attributes] |= SessionAttributes::DECRYPT.with(SessionAttributes::ENCRYPT).0;
            all.push(frames(&question, &response::<C>(answer)));
        }
        for shown in all {
            for form in ["c5c5", "C5C5", "197, 197", "197,\n"] {
                assert!(!shown.contains(form), "{shown}");
            }
            assert!(!shown.contains("malformed"), "{shown}");
        }
        self.0.insert(C::INFO.name);
    }
}

/// All forms of a pair of frames.
fn frames(question: &[u8], answer: &[u8]) -> String {
    let shown = frame::show(question, answer);
    let split = frame::Question::split(question).unwrap();
    let exchange = Exchange { command: question.to_vec(), response: answer.to_vec() };
    format!("{shown} {shown:#} {shown:?} {split:?} {split:#?} {exchange:?} {exchange:#?}")
}

/// An answer without sessions.
fn response<C: Command>(answer: &C::Response<'_>) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let mut writer = Writer::new(&mut buffer);
    writer.write(&Structure::NO_SESSIONS).unwrap();
    writer.write(&0_u32).unwrap();
    writer.write(&ResponseCode::SUCCESS).unwrap();
    if <C::Response<'static> as Response>::INFO.handle.is_some() {
        writer.write(&Handle(0x8000_0001)).unwrap();
    }
    answer.marshal_parameters(&mut writer).unwrap();
    let mut octets = writer.into_written().to_vec();
    let len = u32::try_from(octets.len()).unwrap();
    octets[2..6].copy_from_slice(&len.to_be_bytes());
    octets
}

fn object() -> Object {
    Object::unnamed(Handle(0x8000_0000))
}

fn transient() -> Transient {
    Transient::try_from(Handle(0x8000_0001)).unwrap()
}

fn index() -> NvIndex {
    NvIndex::unnamed(Handle(0x0180_0001))
}

fn sensitive() -> Tpm2b<SensitiveCreate<'static>> {
    Tpm2b(SensitiveCreate { user_auth: (&SECRET).into(), data: (&SECRET).into() })
}

fn point() -> Tpm2b<SecretPoint<'static>> {
    Tpm2b(SecretPoint { x: (&SECRET).into(), y: (&SECRET).into() })
}

fn public_point() -> Tpm2b<EccPoint<'static>> {
    Tpm2b(EccPoint { x: (&PUBLIC).into(), y: (&PUBLIC).into() })
}

fn creation() -> Tpm2b<CreationData<'static>> {
    Tpm2b(CreationData {
        pcr_select: List::new(&[]),
        pcr_digest: Digest::EMPTY,
        locality: Locality(0),
        parent_name_alg: Alg::SHA256,
        parent_name: Name::EMPTY,
        parent_qualified_name: Name::EMPTY,
        outside_info: Data::EMPTY,
    })
}

fn nv_public() -> NvPublic<'static> {
    NvPublic {
        index: Handle(0x0180_0001),
        name_alg: Alg::SHA256,
        attributes: NvAttributes::AUTHREAD,
        auth_policy: Digest::EMPTY,
        data_size: 8,
    }
}

fn objects(seen: &mut Seen) {
    let (private, name) = (Private::from(&SECRET), Name::from(&PUBLIC));
    let (outside_info, creation_pcr) = (Data::from(&PUBLIC), List::new(&[]));
    let (creation_hash, creation_ticket) = (Digest::from(&PUBLIC), Ticket::NO_HASHCHECK);
    let (in_public, out_public) = (Tpm2b(SRK_P256), Tpm2b(SRK_P256));
    let creation_data = creation();
    seen.check(
        &Create {
            parent_handle: object(),
            in_sensitive: sensitive(),
            in_public,
            outside_info,
            creation_pcr,
        },
        &CreateResponse {
            out_private: private,
            out_public,
            creation_data,
            creation_hash,
            creation_ticket,
        },
    );
    seen.check(
        &CreatePrimary {
            primary_handle: Hierarchy::Owner,
            in_sensitive: sensitive(),
            in_public,
            outside_info,
            creation_pcr,
        },
        &CreatePrimaryResponse {
            object_handle: transient(),
            out_public,
            creation_data,
            creation_hash,
            creation_ticket,
            name,
        },
    );
    let template = crate::wire::Marshal::to_vec(&SRK_P256).unwrap();
    seen.check(
        &CreateLoaded {
            parent_handle: Parent::Object(object()),
            in_sensitive: sensitive(),
            in_public: Template::new(&template).unwrap(),
        },
        &CreateLoadedResponse {
            object_handle: transient(),
            out_private: private,
            out_public,
            name,
        },
    );
    seen.check(
        &Load { parent_handle: object(), in_private: private, in_public },
        &LoadResponse { object_handle: transient(), name },
    );
    for secret in [
        SensitiveSecret::Rsa((&SECRET).into()),
        SensitiveSecret::Ecc((&SECRET).into()),
        SensitiveSecret::KeyedHash((&SECRET).into()),
        SensitiveSecret::SymCipher((&SECRET).into()),
        SensitiveSecret::Mldsa((&SECRET).into()),
        SensitiveSecret::HashMldsa((&SECRET).into()),
        SensitiveSecret::Mlkem((&SECRET).into()),
    ] {
        let area = Sensitive { auth_value: (&SECRET).into(), seed_value: (&SECRET).into(), secret };
        seen.check(
            &LoadExternal { in_private: Some(Tpm2b(area)), in_public, hierarchy: Hierarchy::Null },
            &LoadExternalResponse { object_handle: transient(), name },
        );
    }
    seen.check(
        &ActivateCredential {
            activate_handle: object(),
            key_handle: object(),
            credential_blob: (&PUBLIC).into(),
            secret: (&PUBLIC).into(),
        },
        &ActivateCredentialResponse { cert_info: (&SECRET).into() },
    );
    seen.check(
        &MakeCredential { handle: object(), credential: (&SECRET).into(), object_name: name },
        &MakeCredentialResponse { credential_blob: (&PUBLIC).into(), secret: (&PUBLIC).into() },
    );
    seen.check(&Unseal { item_handle: object() }, &UnsealResponse { out_data: (&SECRET).into() });
    seen.check(
        &ObjectChangeAuth {
            object_handle: object(),
            parent_handle: object(),
            new_auth: (&SECRET).into(),
        },
        &ObjectChangeAuthResponse { out_private: private },
    );
    let symmetric_alg = SymDefObject::Null;
    seen.check(
        &Duplicate {
            object_handle: object(),
            new_parent_handle: None,
            encryption_key_in: (&SECRET).into(),
            symmetric_alg,
        },
        &DuplicateResponse {
            encryption_key_out: (&SECRET).into(),
            duplicate: private,
            out_sym_seed: EncryptedSecret::EMPTY,
        },
    );
    seen.check(
        &Rewrap {
            old_parent: None,
            new_parent: None,
            in_duplicate: private,
            name,
            in_sym_seed: EncryptedSecret::EMPTY,
        },
        &RewrapResponse { out_duplicate: private, out_sym_seed: EncryptedSecret::EMPTY },
    );
    seen.check(
        &Import {
            parent_handle: object(),
            encryption_key: (&SECRET).into(),
            object_public: in_public,
            duplicate: private,
            in_sym_seed: EncryptedSecret::EMPTY,
            symmetric_alg,
        },
        &ImportResponse { out_private: private },
    );
}

fn primitives(seen: &mut Seen) {
    let (data, digest) = (MaxBuffer::from(&SECRET), Digest::from(&PUBLIC));
    let (key_handle, label) = (object(), Data::EMPTY);
    let (message, in_scheme) = (PublicKeyRsa::from(&SECRET), AsymScheme::Null);
    seen.check(
        &RsaEncrypt { key_handle, message, in_scheme, label },
        &RsaEncryptResponse { out_data: (&PUBLIC).into() },
    );
    seen.check(
        &RsaDecrypt { key_handle, cipher_text: (&PUBLIC).into(), in_scheme, label },
        &RsaDecryptResponse { message },
    );
    seen.check(
        &EcdhKeyGen { key_handle },
        &EcdhKeyGenResponse { z_point: point(), pub_point: public_point() },
    );
    seen.check(
        &EcdhZGen { key_handle, in_point: public_point() },
        &EcdhZGenResponse { out_point: point() },
    );
    seen.check(
        &ZGen2Phase {
            key_a: object(),
            in_qs_b: public_point(),
            in_qe_b: public_point(),
            in_scheme: Alg::ECDH,
            counter: 1,
        },
        &ZGen2PhaseResponse { out_z1: point(), out_z2: point() },
    );
    let (c1, c2, c3, in_scheme) = (public_point(), data, digest, KdfScheme::Null);
    seen.check(
        &EccEncrypt { key_handle, plain_text: data, in_scheme },
        &EccEncryptResponse { c1, c2, c3 },
    );
    seen.check(
        &EccDecrypt { key_handle, c1, c2, c3, in_scheme },
        &EccDecryptResponse { plain_text: data },
    );
    let (shared_secret, ciphertext) = (SharedSecret::from(&SECRET), KemCiphertext::from(&PUBLIC));
    seen.check(&Encapsulate { key_handle }, &EncapsulateResponse { shared_secret, ciphertext });
    seen.check(&Decapsulate { key_handle, ciphertext }, &DecapsulateResponse { shared_secret });
    let (decrypt, mode, iv_in) = (false, Alg::CFB, Iv::from(&PUBLIC));
    let iv_out = iv_in;
    seen.check(
        &EncryptDecrypt { key_handle, decrypt, mode, iv_in, in_data: data },
        &EncryptDecryptResponse { out_data: data, iv_out },
    );
    seen.check(
        &EncryptDecrypt2 { key_handle, in_data: data, decrypt, mode, iv_in },
        &EncryptDecrypt2Response { out_data: data, iv_out },
    );
    let (hash_alg, hierarchy) = (Alg::SHA256, Hierarchy::Null);
    let validation = Ticket::NO_HASHCHECK;
    seen.check(&Hash { data, hash_alg, hierarchy }, &HashResponse { out_hash: digest, validation });
    seen.check(
        &Hmac { handle: object(), buffer: data, hash_alg },
        &HmacResponse { out_hmac: (&SECRET).into() },
    );
    seen.check(
        &GetRandom { bytes_requested: 8 },
        &GetRandomResponse { random_bytes: (&SECRET).into() },
    );
    seen.check(&StirRandom { in_data: (&SECRET).into() }, &StirRandomResponse {});
    seen.check(
        &AcSend {
            send_object: object(),
            auth_handle: NvAuth::Owner,
            ac: Handle(0x9000_0000),
            ac_data_in: data,
        },
        &AcSendResponse { ac_data_out: AcOutput { tag: AcTag(1), data: 0 } },
    );
}

fn sequences(seen: &mut Seen) {
    let (auth, buffer) = (AuthValue::from(&SECRET), MaxBuffer::from(&SECRET));
    let (handle, hash_alg, sequence_handle) = (object(), Alg::SHA256, transient());
    let (key_handle, context) = (object(), SignatureContext::from(&PUBLIC));
    seen.check(&HmacStart { handle, auth, hash_alg }, &HmacStartResponse { sequence_handle });
    seen.check(
        &HashSequenceStart { auth, hash_alg },
        &HashSequenceStartResponse { sequence_handle },
    );
    seen.check(
        &SignSequenceStart { key_handle, auth, context },
        &SignSequenceStartResponse { sequence_handle },
    );
    seen.check(
        &VerifySequenceStart { key_handle, auth, hint: SignatureHint::EMPTY, context },
        &VerifySequenceStartResponse { sequence_handle },
    );
    let sequence_handle = object();
    seen.check(&SequenceUpdate { sequence_handle, buffer }, &SequenceUpdateResponse {});
    seen.check(
        &SequenceComplete { sequence_handle, buffer, hierarchy: Hierarchy::Null },
        &SequenceCompleteResponse { result: (&SECRET).into(), validation: Ticket::NO_HASHCHECK },
    );
    seen.check(
        &EventSequenceComplete { pcr_handle: None, sequence_handle, buffer },
        &EventSequenceCompleteResponse { results: List::new(&[]) },
    );
    let signature = Signature::Null;
    seen.check(
        &SignSequenceComplete { sequence_handle, key_handle, buffer },
        &SignSequenceCompleteResponse { signature },
    );
}

fn authorization_values_and_nv(seen: &mut Seen) {
    let (auth, data) = (AuthValue::from(&SECRET), MaxNvBuffer::from(&SECRET));
    let (auth_handle, nv_index, offset) = (NvAuth::Index(index()), index(), 0);
    seen.check(
        &HierarchyChangeAuth { auth_handle: HierarchyAuth::Owner, new_auth: auth },
        &HierarchyChangeAuthResponse {},
    );
    seen.check(
        &PcrSetAuthValue { pcr_handle: Pcr(20), auth: (&SECRET).into() },
        &PcrSetAuthValueResponse {},
    );
    seen.check(&NvChangeAuth { nv_index, new_auth: auth }, &NvChangeAuthResponse {});
    let owner = Provision::Owner;
    seen.check(
        &NvDefineSpace { auth_handle: owner, auth, public_info: Tpm2b(nv_public()) },
        &NvDefineSpaceResponse {},
    );
    seen.check(
        &NvDefineSpace2 {
            auth_handle: owner,
            auth,
            public_info: Tpm2b(NvPublic2::Index(nv_public())),
        },
        &NvDefineSpace2Response {},
    );
    seen.check(&NvWrite { auth_handle, nv_index, data, offset }, &NvWriteResponse {});
    seen.check(&NvExtend { auth_handle, nv_index, data }, &NvExtendResponse {});
    seen.check(&NvRead { auth_handle, nv_index, size: 8, offset }, &NvReadResponse { data });
    let attest = Attest {
        qualified_signer: (&PUBLIC).into(),
        extra_data: (&PUBLIC).into(),
        clock_info: ClockInfo { clock: 1, reset_count: 1, restart_count: 1, safe: true },
        firmware_version: 1,
        attested: Attested::Nv(NvCertifyInfo {
            index_name: (&PUBLIC).into(),
            offset,
            nv_contents: data,
        }),
    };
    let attest = crate::wire::Marshal::to_vec(&attest).unwrap();
    let certify_info = AttestData::new(&attest).unwrap();
    seen.check(
        &NvCertify {
            sign_handle: None,
            auth_handle,
            nv_index,
            qualifying_data: (&PUBLIC).into(),
            in_scheme: AsymScheme::Null,
            size: 8,
            offset,
        },
        &NvCertifyResponse { certify_info, signature: Signature::Null },
    );
    // What is not attestation data is not shown at all.
    assert_eq!(format!("{:?}", AttestData::from(&SECRET)), "AttestData(8 octets)");
}

#[test]
fn no_secret_of_any_command_is_shown() {
    let mut seen = Seen::default();
    objects(&mut seen);
    primitives(&mut seen);
    sequences(&mut seen);
    authorization_values_and_nv(&mut seen);
    let without: BTreeSet<&str> = WITHOUT_SECRETS.split_whitespace().collect();
    for info in COMMANDS {
        let is_without = info.name.strip_prefix("TPM2_").is_some_and(|name| without.contains(name));
        assert!(seen.0.contains(info.name) != is_without, "{}", info.name);
    }
}

/// What a session could hide on the bus is shown where nothing did, unless it is secret.
#[test]
fn public_areas_nonces_names_and_attestation_data_are_shown() {
    let start = StartAuthSession {
        tpm_key: None,
        bind: None,
        nonce_caller: (&PUBLIC).into(),
        encrypted_salt: EncryptedSecret::EMPTY,
        session_type: SessionType::HMAC,
        symmetric: SymDef::Null,
        auth_hash: Alg::SHA256,
    };
    assert!(format!("{start:?}").contains("nonce_caller: Nonce(dadadadadadadada)"), "{start:?}");
    let sign = Sign::digest(object(), (&PUBLIC).into());
    assert!(format!("{sign:?}").contains("digest: Digest(dadadadadadadada)"), "{sign:?}");
    let public = ReadPublicResponse {
        out_public: Tpm2b(AK_P256),
        name: (&PUBLIC).into(),
        qualified_name: (&PUBLIC).into(),
    };
    let shown = format!("{public:?}");
    assert!(shown.contains("Tpm2b(Public { name_alg: SHA256, attributes: "), "{shown}");
    let template = crate::wire::Marshal::to_vec(&AK_P256).unwrap();
    let template = Template::new(&template).unwrap();
    assert!(format!("{template:?}").starts_with("Template(Public { name_alg: SHA256, "));
    assert_eq!(format!("{:?}", Template::from(&PUBLIC)), "Template(dadadadadadadada)");
    let attest = Attest {
        qualified_signer: (&PUBLIC).into(),
        extra_data: (&PUBLIC).into(),
        clock_info: ClockInfo { clock: 1, reset_count: 1, restart_count: 1, safe: true },
        firmware_version: 1,
        attested: Attested::Quote(QuoteInfo {
            pcr_select: List::new(&[]),
            pcr_digest: (&PUBLIC).into(),
        }),
    };
    let attest = crate::wire::Marshal::to_vec(&attest).unwrap();
    let quoted = AttestData::new(&attest).unwrap();
    let quote = QuoteResponse { quoted, signature: Signature::Null };
    let shown = format!("{quote:?}");
    assert!(shown.contains("extra_data: Data(dadadadadadadada)"), "{shown}");
    assert!(shown.contains("pcr_digest: Digest(dadadadadadadada)"), "{shown}");
}

/// The handles, and the parameters behind the first, are in the clear.
#[test]
fn only_the_first_parameter_is_hidden_by_an_encrypting_session() {
    let write = NvWrite {
        auth_handle: NvAuth::Owner,
        nv_index: index(),
        data: (&SECRET).into(),
        offset: 5,
    };
    let mut buffer = [0; 64];
    let len = frame::marshal(&write, [AuthValue::EMPTY], &mut buffer).unwrap();
    buffer[10 + 8 + 4 + 4 + 2] |= SessionAttributes::DECRYPT.0;
    let answer = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0];
    let shown = |command: &[u8]| format!("{}", frame::show(command, &answer));
    let first = "TPM2_NV_Write: NvWrite { auth_handle: Owner, nv_index: NvIndex { handle: \
                 Handle(0x1800001), name: None }, data: encrypted, 8 octets, offset: 5 }\n";
    assert!(shown(&buffer[..len]).starts_with(first), "{}", shown(&buffer[..len]));
    // An octet less, and the offset is malformed.
    buffer[5] -= 1;
    let cut = shown(&buffer[..len - 1]);
    assert!(
        cut.contains("data: encrypted, 8 octets, offset: malformed: offset at octet 10: "),
        "{cut}"
    );

    let made = CreateLoadedResponse {
        object_handle: transient(),
        out_private: (&SECRET).into(),
        out_public: Tpm2b(SRK_P256),
        name: (&PUBLIC).into(),
    };
    let shown = encrypted::<CreateLoaded<'_>>(&made);
    assert!(
        shown.contains(
            "object_handle: Transient(Handle(0x80000001)), out_private: encrypted, 8 octets, "
        ),
        "{shown}"
    );
    assert!(
        shown.contains("out_public: Tpm2b(Public {") && shown.contains("name: Name(dada"),
        "{shown}"
    );
    let unsealed = UnsealResponse { out_data: (&SECRET).into() };
    let shown = encrypted::<Unseal>(&unsealed);
    assert!(
        shown.contains("answer: UnsealResponse { out_data: encrypted, 8 octets }\n"),
        "{shown}"
    );
}

/// An answer, as shown behind any command, of which a session says that it has encrypted the first parameter.
fn encrypted<C: Command>(answer: &C::Response<'_>) -> String {
    let mut octets = response::<C>(answer);
    octets[1] = 0x02;
    let begin = 10 + 4 * usize::from(<C::Response<'static> as Response>::INFO.handle.is_some());
    let size = u32::try_from(octets.len() - begin).unwrap();
    octets.splice(begin..begin, size.to_be_bytes());
    octets.extend([0, 0, SessionAttributes::ENCRYPT.0, 0, 0]);
    let len = u32::try_from(octets.len()).unwrap();
    octets[2..6].copy_from_slice(&len.to_be_bytes());
    // As many handles as any command of these has, and parameters that are malformed.
    let mut command = Vec::from([0x80, 0x01, 0, 0, 0, 14]);
    command.extend(C::INFO.code.0.to_be_bytes());
    command.extend([0x80, 0, 0, 0]);
    format!("{}", frame::show(&command, &octets))
}
