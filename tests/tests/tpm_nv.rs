//! NV indices, each kind and each lock, and both ways with tpm2-tools.

use std::fs;

use anyhow::{Context, Result};
use sha2::{Digest as _, Sha256};
use testkit::swtpm::Kind;
use tests::tpm::{client, hmac_session, start, start_tcp};
use tpm2::Fault;
use tpm2::commands::PolicyAuthValue;
use tpm2::crypto::{HashAlg, PolicyDigest};
use tpm2::nv::{Access, By, Index};
use tpm2::session::Auth;
use tpm2::types::*;

const HANDLE: Handle = Handle(0x0150_0001);

const BY_VALUE: NvAttributes =
    NvAttributes::AUTHREAD.with(NvAttributes::AUTHWRITE).with(NvAttributes::NO_DA);

fn public(attributes: NvAttributes, data_size: u16) -> NvPublic<'static> {
    let (name_alg, auth_policy) = (Alg::SHA256, Digest::EMPTY);
    NvPublic { index: HANDLE, name_alg, attributes, auth_policy, data_size }
}

/// As long as to need three commands, and another byte at every place.
fn long() -> Vec<u8> {
    (0..1300_u16).map(|number| (number % 251) as u8).collect()
}

#[test]
fn an_index_is_written_and_read_in_pieces_under_a_session_that_knows_its_name() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let value = AuthValue::from(b"the value");
    let public = public(BY_VALUE, 1300);
    let mut index = Index::define(&mut tpm, Provision::Owner, Auth::EMPTY, &public, value)?;
    assert!(
        Index::define(&mut tpm, Provision::Owner, Auth::EMPTY, &public, value)
            .is_err_and(|error| error.refusal() == Some(ResponseCode::NV_DEFINED))
    );
    let mut session = hmac_session(&mut tpm)?;
    let before = index.name();
    let mut access = Access::by_session(By::Index, &mut session, b"the value");
    index.write(&mut tpm, &mut access, &long())?;
    assert_ne!(index.name(), before, "the Name says that it is written");
    assert_eq!(index.read(&mut tpm, &mut access)?, long());
    let found = Index::find(&mut tpm, HANDLE)?.context("it is there")?;
    assert_eq!((found.name(), found.data_size()), (index.name(), 1300));

    let longer = [&long()[..], &[0]].concat();
    let refused = index.write(&mut tpm, &mut access, &longer).unwrap_err();
    let text = "not sent, since a value is too long: 1301 bytes do not fit the NV index, which holds at most 1300";
    assert_eq!(format!("{refused:#}"), format!("TPM2_NV_Write: {text}"));
    assert!(matches!(refused.fault(), Fault::TooLong(_)));
    let mut other = Access::by_password(By::Index, b"another value");
    let refused = index.read(&mut tpm, &mut other).unwrap_err();
    assert_eq!(refused.refusal(), Some(ResponseCode::BAD_AUTH));
    index.undefine(&mut tpm, Provision::Owner, Auth::EMPTY)?;
    assert!(Index::find(&mut tpm, HANDLE)?.is_none());
    Ok(())
}

#[test]
fn locks_hold_and_change_the_name() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let attributes = BY_VALUE.with(NvAttributes::WRITE_STCLEAR).with(NvAttributes::READ_STCLEAR);
    let public = public(attributes, 16);
    let empty = AuthValue::EMPTY;
    let mut index = Index::define(&mut tpm, Provision::Owner, Auth::EMPTY, &public, empty)?;
    let mut session = hmac_session(&mut tpm)?;
    let mut access = Access::by_session(By::Index, &mut session, b"");
    index.write(&mut tpm, &mut access, &[7; 16])?;
    index.lock_writing(&mut tpm, &mut access)?;
    let refused = index.write(&mut tpm, &mut access, &[8; 16]).unwrap_err();
    assert_eq!(refused.refusal(), Some(ResponseCode::NV_LOCKED));
    assert_eq!(index.read(&mut tpm, &mut access)?, [7; 16]);
    index.lock_reading(&mut tpm, &mut access)?;
    let refused = index.read(&mut tpm, &mut access).unwrap_err();
    assert_eq!(refused.refusal(), Some(ResponseCode::NV_LOCKED));
    let found = Index::find(&mut tpm, HANDLE)?.context("it is there")?;
    assert_eq!(found.name(), index.name());
    for lock in [NvAttributes::WRITELOCKED, NvAttributes::READLOCKED, NvAttributes::WRITTEN] {
        assert!(found.attributes().contains(lock));
    }
    drop(tpm);

    let swtpm = swtpm.power_cycle()?;
    let mut tpm = client(&swtpm)?;
    let index = Index::find(&mut tpm, HANDLE)?.context("it is still there")?;
    assert!(!index.attributes().contains(NvAttributes::READLOCKED));
    let mut access = Access::by_password(By::Index, b"");
    assert_eq!(index.read(&mut tpm, &mut access)?, [7; 16]);
    Ok(())
}

#[test]
fn a_counter_counts_and_what_is_extended_is_a_chain() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let (owner, empty) = (Provision::Owner, AuthValue::EMPTY);
    let mut access = Access::by_password(By::Index, b"");
    let counter = public(BY_VALUE.with_type(NvType::COUNTER), 8);
    let mut counter = Index::define(&mut tpm, owner, Auth::EMPTY, &counter, empty)?;
    let unwritten = counter.counter(&mut tpm, &mut access).unwrap_err();
    assert_eq!(unwritten.refusal(), Some(ResponseCode::NV_UNINITIALIZED));
    counter.increment(&mut tpm, &mut access)?;
    let first = counter.counter(&mut tpm, &mut access)?;
    counter.increment(&mut tpm, &mut access)?;
    counter.increment(&mut tpm, &mut access)?;
    assert_eq!(counter.counter(&mut tpm, &mut access)?, first + 2);
    assert!(counter.write(&mut tpm, &mut access, &[0; 8]).is_err(), "it only counts");
    counter.undefine(&mut tpm, owner, Auth::EMPTY)?;

    let chain = public(BY_VALUE.with_type(NvType::EXTEND), 32);
    let mut chain = Index::define(&mut tpm, owner, Auth::EMPTY, &chain, empty)?;
    let mut expected = [0; 32];
    for data in [&b"one"[..], b"two"] {
        chain.extend(&mut tpm, &mut access, data)?;
        expected = Sha256::new().chain_update(expected).chain_update(data).finalize().into();
        assert_eq!(chain.read(&mut tpm, &mut access)?, expected);
    }
    let wrong = chain.counter(&mut tpm, &mut access).unwrap_err();
    assert!(matches!(wrong.fault(), Fault::Malformed(_)), "{wrong}");
    Ok(())
}

#[test]
fn tpm2_tools_read_what_we_wrote_and_the_other_way_round() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let directory = tempfile::tempdir()?;
    let file = |name: &str| directory.path().join(name).display().to_string();
    let mut tpm = client(&swtpm)?;
    let attributes = BY_VALUE.with(NvAttributes::OWNERREAD).with(NvAttributes::OWNERWRITE);
    let public = public(attributes, 1300);
    let (owner, empty) = (Provision::Owner, AuthValue::EMPTY);
    let mut index = Index::define(&mut tpm, owner, Auth::EMPTY, &public, empty)?;
    let mut access = Access::by_password(By::Owner, b"");
    index.write(&mut tpm, &mut access, &long())?;
    drop(tpm);
    let read = file("read");
    swtpm.tool("tpm2_nvread", &["-C", "o", "0x1500001", "-o", &read])?;
    assert_eq!(fs::read(&read)?, long());
    let said = swtpm.tool("tpm2_nvreadpublic", &["0x1500001"])?;
    let name = index.name().context("a Name")?.to_string();
    assert!(said.contains(&name), "{said} has not the Name {name}");

    let what = ["0x1500002", "-C", "o", "-s", "700", "-a", "ownerread|ownerwrite|authread"];
    swtpm.tool("tpm2_nvdefine", &what)?;
    fs::write(file("write"), &long()[..700])?;
    swtpm.tool("tpm2_nvwrite", &["0x1500002", "-C", "o", "-i", &file("write")])?;
    let mut tpm = client(&swtpm)?;
    let theirs = Index::find(&mut tpm, Handle(0x0150_0002))?.context("it is there")?;
    assert_eq!(theirs.read(&mut tpm, &mut access)?, long()[..700]);
    let mut by_index = Access::by_password(By::Index, b"");
    assert_eq!(theirs.read(&mut tpm, &mut by_index)?, long()[..700]);
    Ok(())
}

/// A policy session authorizes one command, and an index that is written only as a whole takes one.
#[test]
fn index_written_only_as_a_whole_takes_one_command() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    let policy = PolicyDigest::new(HashAlg::Sha256).auth_value();
    let by_policy = NvAttributes::POLICYREAD.with(NvAttributes::POLICYWRITE);
    let attributes = by_policy.with(NvAttributes::NO_DA);
    let public_info = NvPublic { auth_policy: policy.digest(), ..public(attributes, 600) };
    let (owner, value) = (Provision::Owner, AuthValue::from(b"the value"));
    let mut index = Index::define(&mut tpm, owner, Auth::EMPTY, &public_info, value)?;
    let mut session = tpm.start_session(SessionType::POLICY, HashAlg::Sha256)?;
    let meet = PolicyAuthValue { policy_session: session.handle() };
    tpm.run(&meet, [])?;
    let mut access = Access::by_session(By::Index, &mut session, b"the value");
    assert!(!format!("{access:?}").contains("116"), "the value is shown");
    index.write(&mut tpm, &mut access, &long()[..600])?;
    tpm.run(&meet, [])?;
    let mut access = Access::by_session(By::Index, &mut session, b"the value");
    assert_eq!(index.read(&mut tpm, &mut access)?, long()[..600]);
    let shown = format!("{:?}", Access::by_password(By::Index, b"the value"));
    assert_eq!(shown, "Access { by: Index, proof: Password(..) }");
    index.undefine(&mut tpm, owner, Auth::EMPTY)?;

    let whole = public(BY_VALUE.with(NvAttributes::WRITEALL), 600);
    let mut index = Index::define(&mut tpm, owner, Auth::EMPTY, &whole, value)?;
    let mut access = Access::by_password(By::Index, b"the value");
    index.write(&mut tpm, &mut access, &long()[..600])?;
    let part = index.write(&mut tpm, &mut access, &[7; 16]).unwrap_err();
    assert_eq!(part.refusal(), Some(ResponseCode::NV_RANGE));
    assert_eq!(index.read(&mut tpm, &mut access)?, long()[..600]);
    Ok(())
}
