//! Refusals of a TPM, whose codes alone would blame the wrong thing.

use anyhow::{Context as _, Result};
use testkit::swtpm::Kind;
use tests::tpm::{RANDOM, client, create_join_key, load, start};
use tpm2::commands::*;
use tpm2::crypto::HashAlg;
use tpm2::nv::{Access, By, Index};
use tpm2::object::{self, create_primary};
use tpm2::session::{Auth, Encryption, SaltKey};
use tpm2::types::*;
use tpm2::wire::List;
use tpm2::{Fault, template};

/// No password is involved, so none may be blamed.
fn blames_the_salt(error: &tpm2::Error) {
    let (text, advice) = (error.to_string(), error.advice().unwrap_or_default());
    assert!(text.contains("salt"), "{text}");
    assert!(advice.contains("compare the key"), "{text}: {advice}");
    assert!(!text.contains("authorization value is wrong") && !advice.contains("password"));
}

#[test]
fn session_salted_to_a_key_that_the_tpm_does_not_hold_is_explained() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let (owner, empty) = (Hierarchy::Owner, SensitiveCreate::EMPTY);
    for template in [&template::SRK_P256, &template::SRK_RSA2048] {
        let claimed = create_primary(&mut tpm, owner, Auth::EMPTY, template, empty)?.0;
        let other = create_primary(&mut tpm, Hierarchy::Null, Auth::EMPTY, template, empty)?.0;
        let salt = SaltKey::new(other.handle(), claimed.public()?)?;
        match tpm.start_salted_session(SessionType::HMAC, &salt, Encryption::On) {
            Err(error) => {
                assert_eq!(error.refusal(), Some(ResponseCode::VALUE), "{error}");
                blames_the_salt(&error);
            }
            Ok(mut session) => {
                let error = tpm.secured(&mut session).run(&RANDOM, []).unwrap_err();
                assert_eq!(error.refusal(), Some(ResponseCode::BAD_AUTH), "{error}");
                blames_the_salt(&error);
            }
        }
        tpm.flush_all()?;
    }
    Ok(())
}

#[test]
fn refusals_of_policy_commands_say_which_condition_does_not_hold() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let mut tpm = client(&swtpm)?;
    let policy_session = tpm.start_session(SessionType::POLICY, HashAlg::Sha256)?.handle();
    let certificate = NvIndex::unnamed(Handle(0x01c0_0002));
    let digest = [7; 32];
    let digest = Digest::new(&digest)?;
    let nv = PolicyNv {
        auth_handle: NvAuth::Index(certificate),
        nv_index: certificate,
        policy_session,
        operand_b: digest,
        offset: 0,
        operation: Comparison::EQ,
    };
    let says = |error: tpm2::Error, meaning: &str, advice: &str| {
        let (text, advised) = (error.to_string(), error.advice().unwrap_or_default());
        assert!(text.contains(meaning) && advised.contains(advice), "{error:?}");
    };
    let error = tpm.run(&nv, [Auth::EMPTY]).unwrap_err();
    assert!(error.to_string().contains("TPM_RC_POLICY"), "{error:?}");
    says(error, "the comparison is false", "read the NV index");
    let (operand_b, offset, operation) = (Digest::from(b"12345678"), 0, Comparison::EQ);
    let timer = PolicyCounterTimer { policy_session, operand_b, offset, operation };
    says(tpm.run(&timer, []).unwrap_err(), "the comparison is false", "read the clock");
    let branches = [digest; 2];
    let or = PolicyOr { policy_session, p_hash_list: List::new(&branches) };
    says(tpm.run(&or, []).unwrap_err(), "policy digest is none of these", "one branch");
    let select = PcrBits::of(&[0]).context("a PCR")?;
    let pcrs = [select.bank(Alg::SHA256)];
    let pcr = PolicyPcr { policy_session, pcr_digest: digest, pcrs: List::new(&pcrs) };
    says(tpm.run(&pcr, []).unwrap_err(), "the PCRs have other values", "read the PCRs");
    let secret = PolicySecret {
        auth_handle: Hierarchy::Owner.into(),
        policy_session,
        nonce_tpm: Nonce::new(digest.octets())?,
        cp_hash_a: Digest::EMPTY,
        policy_ref: Nonce::EMPTY,
        expiration: 0,
    };
    says(
        tpm.run(&secret, [Auth::EMPTY]).unwrap_err(),
        "the nonce is not the session's",
        "that the session has now",
    );
    let authorize = PolicyAuthorize {
        policy_session,
        approved_policy: digest,
        policy_ref: Nonce::EMPTY,
        key_sign: Name::from(b"\0\x0b01234567890123456789012345678901"),
        check_ticket: VerifiedTicket {
            hierarchy: Handle::OWNER,
            verified: Verified::Signature,
            hmac: digest,
        },
    };
    says(tpm.run(&authorize, []).unwrap_err(), "not the approved one", "the approved policy");
    Ok(())
}

/// After a change that this side did not see, the TPM refuses the HMAC, and it is not the value that is wrong.
#[test]
fn name_of_an_index_that_is_out_of_date_is_explained_and_refreshed() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let attributes = NvAttributes::AUTHREAD.with(NvAttributes::AUTHWRITE).with(NvAttributes::NO_DA);
    let public = NvPublic {
        index: Handle(0x0150_0001),
        name_alg: Alg::SHA256,
        attributes: attributes.with_type(NvType::BITS),
        auth_policy: Digest::EMPTY,
        data_size: 8,
    };
    let (owner, empty) = (Provision::Owner, AuthValue::EMPTY);
    let mut index = Index::define(&mut tpm, owner, Auth::EMPTY, &public, empty)?;
    let nv_index = NvIndex::unnamed(public.index);
    let auth_handle = NvAuth::Index(nv_index);
    tpm.run(&NvSetBits { auth_handle, nv_index, bits: 0x8001 }, [Auth::EMPTY])?;
    let mut session = tests::tpm::hmac_session(&mut tpm)?;
    let mut access = Access::by_session(By::Index, &mut session, b"");
    let error = index.read(&mut tpm, &mut access).unwrap_err();
    assert_eq!(error.refusal(), Some(ResponseCode::BAD_AUTH));
    assert!(error.to_string().contains("the Name is out of date"), "{error}");
    index.refresh(&mut tpm)?;
    assert_eq!(index.read(&mut tpm, &mut access)?, 0x8001_u64.to_be_bytes());
    index.set_bits(&mut tpm, &mut access, 0x10)?;
    assert_eq!(index.read(&mut tpm, &mut access)?, 0x8011_u64.to_be_bytes());

    // The same handle, another index.
    index.clone().undefine(&mut tpm, owner, Auth::EMPTY)?;
    assert_eq!(index.refresh(&mut tpm).unwrap_err().refusal(), Some(ResponseCode::HANDLE));
    let other = NvPublic { attributes, ..public };
    let mut other = Index::define(&mut tpm, owner, Auth::EMPTY, &other, empty)?;
    other.set_bits(&mut tpm, &mut access, 1).expect_err("it holds octets, not bits");
    let replaced = index.refresh(&mut tpm).unwrap_err();
    assert!(matches!(replaced.fault(), Fault::Malformed(_)), "{replaced}");
    Ok(())
}

/// The first use is the index's first write, and the Name follows it.
#[test]
fn bits_set_first_through_the_index_keep_its_name_up_to_date() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let attributes = NvAttributes::AUTHREAD.with(NvAttributes::AUTHWRITE).with(NvAttributes::NO_DA);
    let public = NvPublic {
        index: Handle(0x0150_0001),
        name_alg: Alg::SHA256,
        attributes: attributes.with_type(NvType::BITS),
        auth_policy: Digest::EMPTY,
        data_size: 8,
    };
    let (owner, empty) = (Provision::Owner, AuthValue::EMPTY);
    let mut index = Index::define(&mut tpm, owner, Auth::EMPTY, &public, empty)?;
    let mut session = tests::tpm::hmac_session(&mut tpm)?;
    let mut access = Access::by_session(By::Index, &mut session, b"");
    index.set_bits(&mut tpm, &mut access, 0x3)?;
    assert_eq!(index.read(&mut tpm, &mut access)?, 3_u64.to_be_bytes());
    Ok(())
}

#[test]
fn handle_that_is_not_persistent_is_not_sent() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let key = load(&mut tpm, &create_join_key(&[1; 32]))?;
    for handle in [key.handle(), Handle::OWNER, Handle(0x0100_0000)] {
        let refused = object::persistent(&mut tpm, handle).unwrap_err();
        assert!(matches!(refused.fault(), Fault::NotPersistent(it) if *it == handle), "{refused}");
    }
    assert!(object::persistent(&mut tpm, Handle(0x8100_0042))?.is_none());
    Ok(())
}
