//! Part 3 §31: non-volatile memory.

use anyhow::{Result, ensure};
use tpm2::commands::*;
use tpm2::types::*;
use tpm2::wire::Tpm2b;

use crate::props;
use crate::stage::{Act, EMPTY, Permit, Scene, Stage, password};

pub const ACTS: &[Act] = &[Act {
    name: "nv",
    scenes: &[
        Scene { title: "an index defined, written, read, locked and removed", play: ordinary },
        Scene { title: "a counter", play: counter },
        Scene { title: "bits", play: bits },
        Scene { title: "an index that is extended", play: extend },
        Scene { title: "the lock of many", play: global_lock },
        Scene { title: "an index that is attested", play: certify },
        Scene { title: "another authorization value by policy", play: change_auth },
        Scene { title: "an index that only its policy removes", play: undefine_special },
    ],
}];

const INDEX: Handle = Handle(0x0180_0010);

/// What its authorization value and the owner may do with an index here.
const USUAL: NvAttributes = NvAttributes::OWNERWRITE
    .with(NvAttributes::AUTHWRITE)
    .with(NvAttributes::OWNERREAD)
    .with(NvAttributes::AUTHREAD)
    .with(NvAttributes::NO_DA);

fn define(
    stage: &mut Stage<'_>,
    auth_handle: Provision,
    attributes: NvAttributes,
    auth_policy: &[u8],
    data_size: u16,
) -> Result<NvIndex> {
    let public = NvPublic {
        index: INDEX,
        name_alg: Alg::SHA256,
        attributes,
        auth_policy: Digest::new(auth_policy)?,
        data_size,
    };
    let command =
        NvDefineSpace { auth_handle, auth: AuthValue::from(b"value"), public_info: Tpm2b(public) };
    stage.run(&command, [EMPTY])?;
    stage.index(INDEX)
}

fn undefine(stage: &mut Stage<'_>) -> Result<()> {
    let nv_index = stage.index(INDEX)?;
    stage.run(&NvUndefineSpace { auth_handle: Provision::Owner, nv_index }, [EMPTY])?;
    Ok(())
}

/// By its own authorization value.
fn value() -> Permit<'static> {
    password(b"value")
}

fn write(stage: &mut Stage<'_>, nv_index: NvIndex) -> Result<NvIndex> {
    let command = NvWrite {
        auth_handle: NvAuth::Index(nv_index),
        nv_index,
        data: MaxNvBuffer::from(b"kept"),
        offset: 0,
    };
    stage.run(&command, [value()])?;
    stage.index(INDEX)
}

fn ordinary(stage: &mut Stage<'_>) -> Result<()> {
    let attributes = USUAL.with(NvAttributes::WRITEDEFINE).with(NvAttributes::READ_STCLEAR);
    let index = define(stage, Provision::Owner, attributes, &[], 8)?;
    let nv_index = write(stage, index)?;
    let answer = stage.run(&NvReadPublic { nv_index }, [])?;
    ensure!(answer.nv_public.0.attributes.contains(NvAttributes::WRITTEN), "{answer:?}");
    let by_owner = NvRead { auth_handle: NvAuth::Owner, nv_index, size: 4, offset: 0 };
    let answer = stage.run(&by_owner, [EMPTY])?;
    ensure!(answer.data.octets() == b"kept", "{answer:?}");
    let lock = NvWriteLock { auth_handle: NvAuth::Index(nv_index), nv_index };
    stage.run(&lock, [value()])?;
    let nv_index = stage.index(INDEX)?;
    stage.run(&NvReadLock { auth_handle: NvAuth::Index(nv_index), nv_index }, [value()])?;
    undefine(stage)
}

fn counter(stage: &mut Stage<'_>) -> Result<()> {
    let attributes = USUAL.with_type(NvType::COUNTER);
    let nv_index = define(stage, Provision::Owner, attributes, &[], 8)?;
    stage.run(&NvIncrement { auth_handle: NvAuth::Index(nv_index), nv_index }, [value()])?;
    let nv_index = stage.index(INDEX)?;
    let read = NvRead { auth_handle: NvAuth::Index(nv_index), nv_index, size: 8, offset: 0 };
    ensure!(stage.run(&read, [value()])?.data.octets() != [0; 8], "it does not count");
    undefine(stage)
}

fn bits(stage: &mut Stage<'_>) -> Result<()> {
    let nv_index = define(stage, Provision::Owner, USUAL.with_type(NvType::BITS), &[], 8)?;
    let command = NvSetBits { auth_handle: NvAuth::Index(nv_index), nv_index, bits: 0x8001 };
    stage.run(&command, [value()])?;
    let nv_index = stage.index(INDEX)?;
    let read = NvRead { auth_handle: NvAuth::Index(nv_index), nv_index, size: 8, offset: 0 };
    let answer = stage.run(&read, [value()])?;
    ensure!(answer.data.octets() == 0x8001_u64.to_be_bytes(), "{answer:?}");
    undefine(stage)
}

fn extend(stage: &mut Stage<'_>) -> Result<()> {
    let nv_index = define(stage, Provision::Owner, USUAL.with_type(NvType::EXTEND), &[], 32)?;
    let command = NvExtend {
        auth_handle: NvAuth::Index(nv_index),
        nv_index,
        data: MaxNvBuffer::from(b"an event"),
    };
    stage.run(&command, [value()])?;
    undefine(stage)
}

fn global_lock(stage: &mut Stage<'_>) -> Result<()> {
    let attributes = USUAL.with(NvAttributes::GLOBALLOCK);
    let index = define(stage, Provision::Owner, attributes, &[], 8)?;
    write(stage, index)?;
    stage.run(&NvGlobalWriteLock { auth_handle: Provision::Owner }, [EMPTY])?;
    let locked = stage.index(INDEX)?;
    ensure!(write(stage, locked).is_err(), "not locked");
    undefine(stage)
}

fn certify(stage: &mut Stage<'_>) -> Result<()> {
    let attester = stage.key(props::attester())?;
    let index = define(stage, Provision::Owner, USUAL, &[], 8)?;
    let nv_index = write(stage, index)?;
    let command = NvCertify {
        sign_handle: Some(attester),
        auth_handle: NvAuth::Index(nv_index),
        nv_index,
        qualifying_data: Data::from(b"a nonce"),
        in_scheme: AsymScheme::Null,
        size: 4,
        offset: 0,
    };
    let answer = stage.run(&command, [EMPTY, value()])?;
    let attest = answer.certify_info.read()?;
    let Attested::Nv(info) = attest.attested else { anyhow::bail!("{attest:?}") };
    ensure!(info.nv_contents.octets() == b"kept", "{info:?}");
    let digest = NvCertify { size: 0, ..command };
    let answer = stage.run(&digest, [EMPTY, value()])?;
    let attest = answer.certify_info.read()?;
    ensure!(matches!(attest.attested, Attested::NvDigest(_)), "{attest:?}");
    undefine(stage)
}

/// The digest of the policy that allows one command.
fn policy_of(stage: &mut Stage<'_>, code: CommandCode) -> Result<Vec<u8>> {
    stage.trial(|stage, policy_session| {
        stage.run(&PolicyCommandCode { policy_session, code }, [])?;
        Ok(())
    })
}

fn change_auth(stage: &mut Stage<'_>) -> Result<()> {
    let code = <NvChangeAuth<'_> as Command>::INFO.code;
    let policy = policy_of(stage, code)?;
    let nv_index = define(stage, Provision::Owner, USUAL, &policy, 8)?;
    let mut session = stage.policy()?;
    stage.run(&PolicyCommandCode { policy_session: session.handle(), code }, [])?;
    let command = NvChangeAuth { nv_index, new_auth: AuthValue::from(b"another value") };
    stage.run(&command, [session.auth(b"").into()])?;
    undefine(stage)
}

fn undefine_special(stage: &mut Stage<'_>) -> Result<()> {
    let code = NvUndefineSpaceSpecial::INFO.code;
    let policy = policy_of(stage, code)?;
    let attributes = USUAL
        .with(NvAttributes::PLATFORMCREATE)
        .with(NvAttributes::POLICY_DELETE)
        .with(NvAttributes::PPWRITE)
        .with(NvAttributes::PPREAD);
    let nv_index = define(stage, Provision::Platform, attributes, &policy, 8)?;
    let mut session = stage.policy()?;
    stage.run(&PolicyCommandCode { policy_session: session.handle(), code }, [])?;
    let command = NvUndefineSpaceSpecial { nv_index, platform: Platform };
    stage.run(&command, [session.auth(b"").into(), EMPTY])?;
    Ok(())
}
