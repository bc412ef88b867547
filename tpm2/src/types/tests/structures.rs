//! Structures, unions and interfaces: read and written again to the same octets, and refused where Part 2 says so.

use std::vec::Vec;
use std::{format, vec};

use super::*;
use crate::wire::{List, Malformed, Marshal, Tpm2b, Unmarshal, Why, Writer};

fn written(value: &impl Marshal) -> Vec<u8> {
    let mut octets = vec![0; 8192];
    let mut writer = Writer::new(&mut octets);
    writer.write(value).unwrap();
    writer.into_written().to_vec()
}

/// Writes a value, reads it and finds the same; what is cut off is refused.
fn again<T>(value: T, octets: &mut Vec<u8>) -> &[u8]
where
    T: Marshal + PartialEq + core::fmt::Debug,
    for<'o> T: Unmarshal<'o>,
{
    *octets = written(&value);
    assert_eq!(T::from_bytes(octets), Ok(value));
    octets
}

/// As [`again`], for what borrows.
macro_rules! assert_again {
    ($ty:ident, $value:expr) => {{
        let (value, octets): ($ty<'_>, _) = ($value, written(&$value));
        assert_eq!($ty::from_bytes(&octets), Ok(value));
        for len in 0..octets.len() {
            assert!($ty::from_bytes(&octets[..len]).is_err(), "{value:?}, {len} octets");
        }
        octets
    }};
}

fn why<T>(read: Result<T, Malformed>) -> Why {
    read.err().expect("a refusal").why()
}

#[test]
fn an_attestation_of_each_kind_is_read_as_it_was_written() {
    let (name, digest) = (Name::from(&[1; 34]), Digest::from(&[2; 32]));
    let clock_info = ClockInfo { clock: 5, reset_count: 6, restart_count: 7, safe: true };
    let pcrs = [PcrSelection::new(Alg::SHA256, &[0x81, 0, 0]).unwrap()];
    let kinds = [
        Attested::Certify(CertifyInfo { name, qualified_name: name }),
        Attested::Creation(CreationInfo { object_name: name, creation_hash: digest }),
        Attested::Quote(QuoteInfo { pcr_select: List::new(&pcrs), pcr_digest: digest }),
        Attested::CommandAudit(CommandAuditInfo {
            audit_counter: 1,
            digest_alg: Alg::SHA256,
            audit_digest: digest,
            command_digest: digest,
        }),
        Attested::SessionAudit(SessionAuditInfo {
            exclusive_session: true,
            session_digest: digest,
        }),
        Attested::Time(TimeAttestInfo {
            time: TimeInfo { time: 4, clock_info },
            firmware_version: 3,
        }),
        Attested::Nv(NvCertifyInfo {
            index_name: name,
            offset: 2,
            nv_contents: MaxNvBuffer::from(&[9; 3]),
        }),
        Attested::NvDigest(NvDigestCertifyInfo { index_name: name, nv_digest: digest }),
    ];
    for attested in kinds {
        let attest = Attest {
            qualified_signer: name,
            extra_data: Data::from(b"nonce"),
            clock_info,
            firmware_version: 1 << 32,
            attested,
        };
        let octets = assert_again!(Attest, attest);
        assert_eq!(octets[..4], *b"\xffTCG");
        assert_eq!(AttestData::new(&octets).unwrap().read(), Ok(attest));
        let mut signed_elsewhere = octets.clone();
        signed_elsewhere[3] ^= 1;
        let error = Attest::from_bytes(&signed_elsewhere).unwrap_err();
        assert_eq!((error.what(), error.why()), ("Attest.magic", Why::Value));
        let mut unknown = octets;
        unknown[5] = 0x21;
        assert_eq!(why(Attest::from_bytes(&unknown)), Why::Selector);
    }
}

#[test]
fn a_verified_ticket_has_a_hash_if_a_digest_was_verified() {
    let hmac = Digest::from(&[3; 32]);
    for (verified, len) in
        [(Verified::Signature, 40), (Verified::Message, 40), (Verified::Digest(Alg::SHA256), 42)]
    {
        let ticket = VerifiedTicket { hierarchy: Handle::OWNER, verified, hmac };
        assert_eq!(assert_again!(VerifiedTicket, ticket).len(), len);
    }
    let creation = Ticket { tag: Structure::CREATION, ..Ticket::NO_HASHCHECK };
    assert_eq!(why(VerifiedTicket::from_bytes(&written(&creation))), Why::Selector);
}

#[test]
fn a_hash_value_has_the_length_of_its_hash() {
    for (hash, len) in [(Alg::SHA1, 20), (Alg::SHA256, 32), (Alg::SHA384, 48), (Alg::SHA512, 64)] {
        let digest = vec![1; len];
        let value = HashValue::new(hash, &digest).unwrap();
        assert_eq!((value.hash(), value.digest()), (hash, &digest[..]));
        assert_again!(HashValue, value);
        assert_eq!(HashValue::new(hash, &digest[1..]), None);
    }
    assert_eq!(written(&HashValue::NONE), [0, 0x10]);
    assert_again!(HashValue, HashValue::NONE);
    assert_eq!(HashValue::new(Alg::AES, &[]), None);
    assert_eq!(why(HashValue::from_bytes(&[0, 6, 1, 2])), Why::Selector);
}

#[test]
fn a_sensitive_area_of_each_type_is_read_as_it_was_written_and_not_shown() {
    let octets = [0xa5; 32];
    let secrets = [
        SensitiveSecret::Rsa(PrivateKeyRsa::new(&octets).unwrap()),
        SensitiveSecret::Ecc(PrivateKeyEcc::new(&octets).unwrap()),
        SensitiveSecret::KeyedHash(SensitiveData::new(&octets).unwrap()),
        SensitiveSecret::SymCipher(SymKey::new(&octets).unwrap()),
        SensitiveSecret::Mldsa(PrivateKeyMldsa::new(&octets).unwrap()),
        SensitiveSecret::HashMldsa(PrivateKeyMldsa::new(&octets).unwrap()),
        SensitiveSecret::Mlkem(PrivateKeyMlkem::new(&octets).unwrap()),
    ];
    for secret in secrets {
        let sensitive = Sensitive {
            auth_value: AuthValue::new(&octets[..8]).unwrap(),
            seed_value: SeedValue::new(&octets).unwrap(),
            secret,
        };
        assert_again!(Sensitive, sensitive);
        let shown = format!("{sensitive:?}");
        assert!(!shown.contains("a5") && !shown.contains("165"), "{shown}");
    }
    assert_eq!(why(Sensitive::from_bytes(&[0, 0x10, 0, 0, 0, 0])), Why::Selector);
}

#[test]
fn a_structure_that_may_be_missing_is_its_size_alone() {
    type Private<'a> = Option<Tpm2b<Sensitive<'a>>>;
    assert_eq!(written(&Private::None), [0, 0]);
    assert_eq!(Private::from_bytes(&[0, 0]), Ok(None));
    let some = Some(Tpm2b(Sensitive::of(SensitiveSecret::Ecc(PrivateKeyEcc::EMPTY))));
    let octets = written(&some);
    assert_eq!(octets, [0, 8, 0, 0x23, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Private::from_bytes(&octets), Ok(some));
    assert_eq!(why(Private::from_bytes(&[0])), Why::Truncated);
    assert_eq!(why(Private::from_bytes(&[0, 0, 1])), Why::LeftOver);
    assert_eq!(why(Private::from_bytes(&[0, 1, 0])), Why::Truncated);
}

#[test]
fn every_capability_is_read_as_it_was_written() {
    let (name, digest) = (Name::from(&[1; 34]), [2; 32]);
    let select = PcrSelect::new(&[1, 0, 0]).unwrap();
    let tagged = [TaggedPcrSelect { tag: PcrProperty::DRTM_RESET, select }];
    let policy_hash = HashValue::new(Alg::SHA256, &digest).unwrap();
    let policies = [TaggedPolicy { handle: Handle::OWNER, policy_hash }];
    let attributes = ActAttributes::SIGNALED;
    let timers = [ActData { handle: Handle::ACT_0, timeout: 9, attributes }];
    let keys = [Tpm2b(crate::template::AK_P256)];
    let channels = [SpdmSessionInfo { req_key_name: name, tpm_key_name: name }];
    let vendor = [VendorProperty::new(&[1, 2]).unwrap()];
    let data = [
        CapabilityData::PcrProperties(List::new(&tagged)),
        CapabilityData::AuthPolicies(List::new(&policies)),
        CapabilityData::Act(List::new(&timers)),
        CapabilityData::PubKeys(List::new(&keys)),
        CapabilityData::SpdmSessionInfo(List::new(&channels)),
        CapabilityData::VendorProperty(List::new(&vendor)),
        CapabilityData::Algs(List::new(&[])),
        CapabilityData::Pcrs(List::new(&[])),
    ];
    for data in data {
        assert_again!(CapabilityData, data);
    }
    assert_eq!(why(CapabilityData::from_bytes(&[0, 0, 0, 0x0d, 0, 0, 0, 0])), Why::Selector);
}

#[test]
fn public_areas_of_lattices_are_read_as_they_were_written() {
    let public = PublicKeyMldsa::new(&[1; 1312]).unwrap();
    let parameter_set = MldsaParameters::MLDSA_44;
    let ids = [
        Id::Mldsa(MldsaPublic {
            parms: MldsaParms { parameter_set, allow_external_mu: true },
            unique: public,
        }),
        Id::HashMldsa(HashMldsaPublic {
            parms: HashMldsaParms { parameter_set, hash: Alg::SHA256 },
            unique: public,
        }),
        Id::Mlkem(MlkemPublic {
            parms: MlkemParms {
                symmetric: SymDefObject::Null,
                parameter_set: MlkemParameters::MLKEM_768,
            },
            unique: PublicKeyMlkem::new(&[2; 1184]).unwrap(),
        }),
    ];
    for id in ids {
        assert_again!(Public, Public { id, ..crate::template::AK_P256 });
    }
}

#[test]
fn a_signature_of_each_kind_is_read_as_it_was_written() {
    let hash = Alg::SHA256;
    let signature = SignatureMldsa::new(&[1; 2420]).unwrap();
    assert_again!(Signature, Signature::Mldsa(signature));
    assert_again!(Signature, Signature::HashMldsa(HashMldsaSignature { hash, signature }));
    assert_again!(Signature, Signature::Eddsa(SignatureEddsa::new(&[1; 64]).unwrap()));
    assert_again!(Signature, Signature::Hmac(HashValue::new(hash, &[1; 32]).unwrap()));
    assert_again!(Signature, Signature::Null);
}

#[test]
fn an_nv_index_of_each_kind_is_read_as_it_was_written() {
    let public = NvPublic {
        index: Handle(0x0180_0001),
        name_alg: Alg::SHA256,
        attributes: NvAttributes::AUTHREAD.with_type(NvType::COUNTER),
        auth_policy: Digest::EMPTY,
        data_size: 8,
    };
    assert_eq!(public.attributes, NvAttributes(0x0004_0010));
    assert_eq!(public.attributes.nv_type(), NvType::COUNTER);
    assert_eq!(public.attributes.with_type(NvType::ORDINARY), NvAttributes::AUTHREAD);
    let external = NvPublicExp {
        index: Handle(0x1100_0001),
        name_alg: Alg::SHA256,
        attributes: NvExpAttributes::EXTERNAL_NV_ENCRYPTION,
        auth_policy: Digest::EMPTY,
        data_size: 8,
    };
    assert_eq!(assert_again!(NvPublic2, NvPublic2::Index(public))[..2], [0x01, 0x01]);
    assert_eq!(assert_again!(NvPublic2, NvPublic2::External(external)).len(), 1 + 18);
    assert_eq!(assert_again!(NvPublic2, NvPublic2::Permanent(public))[0], 0x12);
    assert_eq!(why(NvPublic2::from_bytes(&[0x80; 15])), Why::Selector);
}

#[test]
fn an_interface_takes_the_handles_of_its_table_and_no_others() {
    fn takes<E: Entity>(handles: &[u32]) {
        let all = (0x4000_0000..0x4000_0150).chain([
            0,
            23,
            0x0100_0000,
            0x0200_0000,
            0x0300_0000,
            0x1100_0000,
            0x1200_0000,
            0x4001_0007,
            0x4004_ffff,
            0x4005_0000,
            0x8000_0000,
            0x8100_0000,
            0x9000_0000,
        ]);
        for handle in all {
            let entity = E::from_handle(Handle(handle));
            assert_eq!(entity.is_ok(), handles.contains(&handle), "{handle:#x}");
            let Ok(entity) = entity else { continue };
            assert_eq!(entity.handle(), Handle(handle));
            // Objects and NV indices have Names of their own, which a handle does not tell.
            let named = !matches!(handle >> 24, 0x01 | 0x11 | 0x12 | 0x80 | 0x81);
            assert_eq!(entity.name(), named.then(|| Handle(handle).as_name()), "{handle:#x}");
        }
    }
    let (owner, null, lockout) = (0x4000_0001, 0x4000_0007, 0x4000_000a);
    let (endorsement, platform) = (0x4000_000b, 0x4000_000c);
    let limited = [0x4000_0140, 0x4000_0141, 0x4000_0142, 0x4000_0143, 0x4001_0007, 0x4004_ffff];
    takes::<Hierarchy>(&[&[owner, null, endorsement, platform][..], &limited].concat());
    takes::<BaseHierarchy>(&[owner, endorsement, platform]);
    takes::<HierarchyAuth>(&[owner, lockout, endorsement, platform]);
    takes::<Option<HierarchyAuth>>(&[owner, null, lockout, endorsement, platform]);
    takes::<Enables>(&[owner, endorsement, platform, 0x4000_000d]);
    takes::<Provision>(&[owner, platform]);
    takes::<ClearAuth>(&[lockout, platform]);
    takes::<Platform>(&[platform]);
    takes::<Endorsement>(&[endorsement]);
    takes::<Lockout>(&[lockout]);
    takes::<Act>(&(0x4000_0110..=0x4000_011f).collect::<Vec<_>>());
    takes::<Pcr>(&[0, 23]);
    takes::<Object>(&[0x8000_0000, 0x8100_0000]);
    takes::<NvIndex>(&[0x0100_0000, 0x1100_0000, 0x1200_0000]);
    takes::<NvAuth>(&[owner, platform, 0x0100_0000, 0x1100_0000, 0x1200_0000]);
    takes::<SessionHandle>(&[0x0200_0000, 0x0300_0000]);
}

#[test]
fn a_hierarchy_as_a_parameter_is_its_handle() {
    let mut octets = Vec::new();
    assert_eq!(again(Hierarchy::Null, &mut octets), [0x40, 0, 0, 7]);
    let of_firmware = Hierarchy::Svn(SvnHierarchy::Owner(7));
    assert_eq!(again(of_firmware, &mut octets), [0x40, 1, 0, 7]);
    assert_eq!(again(ClockAdjust::FINE_SLOWER, &mut octets), [0xff]);
    let error = Hierarchy::from_bytes(&[0x80, 0, 0, 0]).unwrap_err();
    assert_eq!((error.at(), error.why()), (0, Why::Value));
}

#[test]
fn a_list_has_no_more_elements_than_the_specification_says() {
    let digests = [[0; 4].as_slice(), &[0; 18]].concat();
    for (count, good) in [(8, true), (9, false)] {
        let octets = [&[0, 0, 0, count], &digests[..2 * usize::from(count)]].concat();
        assert_eq!(Digests::from_bytes(&octets).is_ok(), good, "{count}");
    }
    assert_eq!(why(HashValues::from_bytes(&[0, 0, 0, 17])), Why::TooLong);
    assert_eq!(why(PcrSelections::from_bytes(&[0, 0, 0, 17])), Why::TooLong);
}
