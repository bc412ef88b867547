//! The table of commands, laid against a TPM: what it says of its commands, and what it does when they are sent.

use anyhow::Result;
use testkit::swtpm::Kind;
use tests::tpm::{RANDOM, client, create_join_key, persistent_ek, start, way};
use tpm2::commands::*;
use tpm2::session::{Auth, Encryption, Salted};
use tpm2::transport::{Record, Recording, Transport};
use tpm2::types::*;
use tpm2::{Error, Fault, Tpm};
use verifier::JoinKey;
use xtask::table;

#[test]
fn the_table_and_a_live_tpm_agree_in_every_handle() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let comparison = table::compare(&mut client(&swtpm)?)?;
    assert!(comparison.different.is_empty(), "{comparison}");
    assert!(comparison.alike.len() > 100, "{comparison}");
    for newer in NEWER {
        assert!(comparison.absent.iter().any(|info| info.name == newer), "{newer} is there");
    }
    Ok(())
}

/// What libtpms does not have yet, of the policies.
const NEWER: [&str; 3] =
    ["TPM2_PolicyCapability", "TPM2_PolicyParameters", "TPM2_PolicyTransportSPDM"];

#[test]
fn a_command_without_room_for_sessions_is_not_sent_under_one() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
    let mut session = salted(&mut tpm, SessionType::HMAC, Encryption::On)?;
    let before = recording.exchanges().len();
    let flush = FlushContext { flush_handle: session.handle().handle() };
    let refused = tpm.secured(&mut session).run(&flush, []).unwrap_err();
    assert!(matches!(refused.fault(), Fault::Unprotectable(_)), "{refused}");
    let again = Start { startup_type: Startup::CLEAR };
    let refused = tpm.secured(&mut session).run(&again, []).unwrap_err();
    assert!(matches!(refused.fault(), Fault::Unprotectable(_)), "{refused}");
    assert_eq!(recording.exchanges().len(), before);
    Ok(())
}

#[test]
fn a_policy_session_that_could_do_nothing_does_not_ride() -> Result<()> {
    let swtpm = start(Kind::RsaAndP384)?;
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(&swtpm)?, recording.clone()));
    let mut clear = salted(&mut tpm, SessionType::POLICY, Encryption::Off)?;
    let before = recording.exchanges().len();
    let refused = tpm.secured(&mut clear).run(&RANDOM, []).unwrap_err();
    assert!(matches!(refused.fault(), Fault::Unprotectable(_)), "{refused}");
    assert_eq!(recording.exchanges().len(), before);
    let mut cipher = salted(&mut tpm, SessionType::POLICY, Encryption::On)?;
    tpm.secured(&mut cipher).run(&RANDOM, [])?;
    let test = SelfTest { full_test: false };
    let refused = tpm.secured(&mut cipher).run(&test, []).unwrap_err();
    assert!(matches!(refused.fault(), Fault::Unprotectable(_)), "{refused}");
    Ok(())
}

#[test]
fn every_refusal_names_command_code_and_culprit() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let said = |error: Error| error.to_string();
    let absent = NvIndex::unnamed(Handle(0x01c0_0002));
    assert_eq!(
        said(tpm.run(&NvReadPublic { nv_index: absent }, []).unwrap_err()),
        "TPM2_NV_ReadPublic: TPM_RC_HANDLE (0x18b), handle 1 (nv_index): nothing is at this handle"
    );
    let by_owner = NvRead { auth_handle: NvAuth::Owner, nv_index: absent, size: 1, offset: 0 };
    assert_eq!(
        said(tpm.run(&by_owner, [Auth::EMPTY]).unwrap_err()),
        "TPM2_NV_Read: TPM_RC_HANDLE (0x28b), handle 2 (nv_index): nothing is at this handle"
    );
    let mut wrong = JoinKey::template(&[0; 32]);
    wrong.attributes = wrong.attributes.with(ObjectAttributes::RESTRICTED);
    wrong.attributes = wrong.attributes.with(ObjectAttributes::DECRYPT);
    let command = tests::tpm::create(Hierarchy::Owner, wrong, SensitiveCreate::EMPTY);
    let error = said(tpm.run(&command, [Auth::EMPTY]).unwrap_err());
    assert_eq!(
        error,
        "TPM2_CreatePrimary: TPM_RC_ATTRIBUTES (0x2c2), parameter 2 (in_public): inconsistent attributes"
    );
    let again = said(tpm.run(&Start { startup_type: Startup::CLEAR }, []).unwrap_err());
    assert!(again.starts_with("TPM2_Startup: TPM_RC_INITIALIZE (0x100)"), "{again}");
    let password = Auth::password(b"wrong");
    let error = said(tpm.run(&create_join_key(&[0; 32]), [password]).unwrap_err());
    assert!(error.starts_with("TPM2_CreatePrimary: TPM_RC_BAD_AUTH (0x9a2), session 1"), "{error}");
    Ok(())
}

fn salted<T: Transport>(
    tpm: &mut Tpm<T>,
    kind: SessionType,
    encryption: Encryption,
) -> Result<Salted> {
    let ek = persistent_ek(tpm, "p384")?;
    Ok(tpm.start_salted_session(kind, &ek.salt_key()?, encryption)?)
}

#[test]
fn every_curve_of_the_tpm_is_described() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let ask = GetCapability { capability: Capability::ECC_CURVES, property: 0, property_count: 64 };
    let CapabilityData::EccCurves(list) = tpm.run(&ask, [])?.capability_data else {
        panic!("another capability");
    };
    let curves: Vec<Curve> = list.iter().collect();
    assert!(curves.contains(&Curve::BN_P638), "{curves:?}");
    for curve_id in curves {
        let detail = tpm.run(&EccParameters { curve_id }, [])?.parameters;
        assert_eq!(detail.curve, curve_id);
        assert_eq!(detail.p.octets().len(), usize::from(detail.key_size.div_ceil(8)));
    }
    Ok(())
}
