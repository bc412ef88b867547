//! Sessions against a TPM whose authorization values change under them, and what the TPM says of an audit.

use anyhow::{Context, Result};
use testkit::swtpm::Kind;
use tests::tpm::{RANDOM, Way, client, create, hmac_session, load, persistent_ek, sign, start};
use tpm2::Tpm;
use tpm2::commands::*;
use tpm2::crypto::{HashAlg, PolicyDigest, nv_name, object_name};
use tpm2::session::{Audit, Auth, Cipher, Direction, NewSession, Session, cp_hash, rp_hash};
use tpm2::template::SRK_P256;
use tpm2::types::*;
use tpm2::wire::{Reader, Tpm2b};
use verifier::JoinKey;

/// An authorization value with a zero in it and zeros behind it: only the latter do not count.
const AWKWARD: [u8; 6] = [0x70, 0x00, 0x73, 0x73, 0x00, 0x00];

/// What the TPM says of a session's audit.
fn attested(tpm: &mut Tpm<Way>, session_handle: SessionHandle) -> Result<Vec<u8>> {
    let command = GetSessionAuditDigest {
        privacy_admin_handle: Endorsement,
        sign_handle: None,
        session_handle,
        qualifying_data: Data::EMPTY,
        in_scheme: AsymScheme::Null,
    };
    let answer = tpm.run(&command, [Auth::EMPTY, Auth::EMPTY])?;
    match answer.audit_info.read()?.attested {
        Attested::SessionAudit(info) => Ok(info.session_digest.octets().to_vec()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_audit_digest_is_the_one_that_the_tpm_attests() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let ek = persistent_ek(&mut tpm, "p384")?;
    let salt = ek.salt_key()?;
    let key = load(
        &mut tpm,
        &create(Hierarchy::Owner, JoinKey::template(&[1; 32]), SensitiveCreate::EMPTY),
    )?;
    let command = sign(key, &[1; 32]);
    for hash in [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384, HashAlg::Sha512] {
        for cipher in [Cipher::Aes128, Cipher::Xor] {
            let mut session = tpm.start(&NewSession::hmac(hash).encrypting(cipher))?;
            let mut hides =
                tpm.start(&NewSession::policy(hash).salted(&salt).encrypting(cipher))?;
            let handle = session.handle();
            for round in 0..3 {
                let audit = if round == 2 { Audit::Reset } else { Audit::Extend };
                tpm.run(&command, [session.auth(b"").audited(audit)])?;
                agree(&mut tpm, &session)?;
                tpm.run_with(&RANDOM, [], [session.ride().audited(Audit::Extend)])?;
                agree(&mut tpm, &session)?;
                // What another session hides is audited as it was on the bus.
                let auth = session.auth(b"").encrypting(Direction::Answer).audited(Audit::Extend);
                tpm.run_with(&command, [auth], [hides.session().ride()])?;
                agree(&mut tpm, &session)?;
                tpm.run(&command, [session.auth(b"")])?;
                agree(&mut tpm, &session)?;
            }
            tpm.flush(handle.handle())?;
            tpm.flush(hides.handle().handle())?;
        }
    }
    Ok(())
}

fn agree(tpm: &mut Tpm<Way>, session: &Session) -> Result<()> {
    let ours = session.audit_digest().context("audited")?;
    assert_eq!(attested(tpm, session.handle())?, ours.octets());
    Ok(())
}

/// What a verifier computes who has the command and its answer.
#[test]
fn cp_hash_and_rp_hash_make_the_audit_digest() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let hash = HashAlg::Sha256;
    let mut session = tpm.start(&NewSession::hmac(hash))?;
    let audited = session.ride().audited(Audit::Extend);
    let answer = tpm.run_with(&RANDOM, [], [audited])?;
    let (cp_hash, rp_hash) = (cp_hash(hash, &RANDOM)?, rp_hash::<GetRandom>(hash, &answer)?);
    let parameters = answer.to_vec()?;
    let read = GetRandom::unmarshal_response(Handle::NULL, &mut Reader::new(&parameters))?;
    assert_eq!(read.random_bytes, answer.random_bytes);
    let digest = hash.digest(&[&[0; 32], cp_hash.octets(), rp_hash.octets()]);
    assert_eq!(attested(&mut tpm, session.handle())?, digest.octets());
    Ok(())
}

fn change(auth_handle: HierarchyAuth, new_auth: &[u8]) -> Result<HierarchyChangeAuth<'_>> {
    Ok(HierarchyChangeAuth { auth_handle, new_auth: AuthValue::new(new_auth)? })
}

/// The answer to a change is proven with the new value, unless the session is bound and proves none; and a session that
/// was bound with the old one proves the new one from there on.
#[test]
fn a_hierarchy_changes_its_value_under_every_kind_of_session() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let ek = persistent_ek(&mut tpm, "rsa2048")?;
    let salt = ek.salt_key()?;
    for (hierarchy, entity) in [
        (HierarchyAuth::Owner, Hierarchy::Owner),
        (HierarchyAuth::Endorsement, Hierarchy::Endorsement),
        (HierarchyAuth::Platform, Hierarchy::Platform),
    ] {
        for bound in [false, true] {
            for cipher in [None, Some(Cipher::Aes256), Some(Cipher::Xor)] {
                let mut plan = NewSession::hmac(HashAlg::Sha256).salted(&salt);
                if bound {
                    plan = plan.bound(entity, b"");
                }
                if let Some(cipher) = cipher {
                    plan = plan.encrypting(cipher);
                }
                let mut session = tpm.start(&plan)?;
                let mut old: &[u8] = b"";
                for new in [&b"first"[..], &AWKWARD, &AWKWARD, b"", b"second", b"\0\0", b"x", b""] {
                    let wrong = tpm.run(&change(hierarchy, new)?, [session.session().auth(b"no")]);
                    assert!(wrong.is_err());
                    tpm.run(&change(hierarchy, new)?, [session.session().auth(old)])
                        .with_context(|| format!("{hierarchy:?} {bound} {cipher:?} {new:02x?}"))?;
                    old = new;
                }
                tpm.flush(session.handle().handle())?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_clear_by_the_lockout_value_is_proven_although_it_takes_the_value_away() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let mut session = hmac_session(&mut tpm)?;
    tpm.run(&change(HierarchyAuth::Lockout, b"lockout")?, [session.auth(b"")])?;
    tpm.run(&Clear { auth_handle: ClearAuth::Lockout }, [session.auth(b"lockout")])?;
    tpm.run(&Clear { auth_handle: ClearAuth::Lockout }, [session.auth(b"")])?;
    tpm.run(&change(HierarchyAuth::Platform, b"platform")?, [session.auth(b"")])?;
    tpm.run(&Clear { auth_handle: ClearAuth::Platform }, [session.auth(b"platform")])?;
    Ok(())
}

/// Defines an index that only a policy changes and removes.
fn define(tpm: &mut Tpm<Way>, policy: &PolicyDigest) -> Result<NvIndex> {
    let public = NvPublic {
        index: Handle(0x0140_0001),
        name_alg: Alg::SHA256,
        attributes: NvAttributes::PPWRITE
            .with(NvAttributes::AUTHREAD)
            .with(NvAttributes::NO_DA)
            .with(NvAttributes::PLATFORMCREATE)
            .with(NvAttributes::POLICY_DELETE),
        auth_policy: policy.digest(),
        data_size: 8,
    };
    let command = NvDefineSpace {
        auth_handle: Provision::Platform,
        auth: AuthValue::from(b"index"),
        public_info: Tpm2b(public),
    };
    tpm.run(&command, [Auth::EMPTY])?;
    Ok(NvIndex::named(public.index, nv_name(&public)?))
}

#[test]
fn an_index_changes_its_value_and_goes_under_a_policy_that_asks_for_it() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let policy = PolicyDigest::new(HashAlg::Sha256);
    let either = |code| policy.command_code(code).auth_value();
    let codes = [NvChangeAuth::INFO.code, NvUndefineSpaceSpecial::INFO.code];
    let branches = codes.map(either);
    let nv_index = define(&mut tpm, &branches[0].or(&branches[1..])?)?;
    let mut session = tpm.start(&NewSession::policy(HashAlg::Sha256))?;
    let policy_session = session.handle();
    let digests = [branches[0].digest(), branches[1].digest()];
    let satisfy = |tpm: &mut Tpm<Way>, code| -> Result<()> {
        tpm.run(&PolicyCommandCode { policy_session, code }, [])?;
        tpm.run(&PolicyAuthValue { policy_session }, [])?;
        let p_hash_list = tpm2::wire::List::new(&digests);
        tpm.run(&PolicyOr { policy_session, p_hash_list }, [])?;
        Ok(())
    };
    let mut old: &[u8] = b"index";
    for new in [&AWKWARD[..], b"", b"last"] {
        satisfy(&mut tpm, codes[0])?;
        let change = NvChangeAuth { nv_index, new_auth: AuthValue::new(new)? };
        tpm.run(&change, [session.auth(old)])?;
        old = new;
    }
    satisfy(&mut tpm, codes[1])?;
    let remove = NvUndefineSpaceSpecial { nv_index, platform: Platform };
    tpm.run(&remove, [session.auth(old), Auth::EMPTY])?;
    Ok(())
}

/// Sealed data under an awkward value: neither is on the bus in the clear, and only the right value opens.
#[test]
fn data_sealed_under_an_awkward_value_is_unsealed_by_it() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let ek = persistent_ek(&mut tpm, "p384")?;
    let salt = ek.salt_key()?;
    let parent = load(&mut tpm, &create(Hierarchy::Owner, SRK_P256, SensitiveCreate::EMPTY))?;
    let data = b"what is sealed";
    let public = Public {
        name_alg: Alg::SHA256,
        attributes: ObjectAttributes::FIXED_TPM
            .with(ObjectAttributes::FIXED_PARENT)
            .with(ObjectAttributes::USER_WITH_AUTH)
            .with(ObjectAttributes::NO_DA),
        auth_policy: Digest::EMPTY,
        id: Id::KeyedHash(KeyedHashPublic { scheme: KeyedHashScheme::Null, unique: Digest::EMPTY }),
    };
    let primary = create(Hierarchy::Owner, public, SensitiveCreate::EMPTY);
    let seal = Create {
        parent_handle: parent,
        in_sensitive: Tpm2b(SensitiveCreate {
            user_auth: AuthValue::new(&AWKWARD)?,
            data: SensitiveData::new(data)?,
        }),
        in_public: Tpm2b(public),
        outside_info: Data::EMPTY,
        creation_pcr: primary.creation_pcr,
    };
    let plan = NewSession::hmac(HashAlg::Sha256).salted(&salt);
    for cipher in [Cipher::Aes128, Cipher::Aes256, Cipher::Xor] {
        let mut session = tpm.start(&plan.encrypting(cipher))?;
        let answer = tpm.secured(&mut session).run(&seal, [Auth::EMPTY])?;
        let sealed = answer.out_public.0;
        let name = object_name(&sealed)?;
        let (mut octets, private) = ([0; 1024], answer.out_private.octets().to_vec());
        let mut writer = tpm2::wire::Writer::new(&mut octets);
        writer.write(&sealed)?;
        let sealed = <Public<'_> as tpm2::wire::Unmarshal<'_>>::from_bytes(writer.into_written())?;
        let load = Load {
            parent_handle: parent,
            in_private: Private::new(&private)?,
            in_public: Tpm2b(sealed),
        };
        let answer = tpm.secured(&mut session).run(&load, [Auth::EMPTY])?;
        let object = answer.object_handle.named(name);
        for right in [&AWKWARD[..], &AWKWARD[..4]] {
            let unseal = Unseal { item_handle: object };
            let answer = tpm.run(&unseal, [session.session().auth(right)])?;
            assert_eq!(answer.out_data.octets(), data);
        }
        for wrong in [&AWKWARD[..1], &AWKWARD[..3], b"", b"pss"] {
            let unseal = Unseal { item_handle: object };
            let error = tpm.run(&unseal, [session.session().auth(wrong)]).unwrap_err();
            assert_eq!(error.refusal(), Some(ResponseCode::BAD_AUTH), "{error}");
        }
        tpm.flush(object.handle())?;
        tpm.flush(session.handle().handle())?;
    }
    Ok(())
}
