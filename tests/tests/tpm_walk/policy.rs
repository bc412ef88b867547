//! Part 3 §23: policies.

use anyhow::{Result, ensure};
use tests::tpm::policy_secret;
use tpm2::commands::*;
use tpm2::crypto::HashAlg;
use tpm2::types::*;
use tpm2::wire::{List, Tpm2b, Unmarshal};

use crate::props;
use crate::stage::{Act, EMPTY, Scene, Stage, octets};

pub const ACTS: &[Act] = &[Act {
    name: "policy",
    scenes: &[
        Scene { title: "a secret is known, by ticket at last", play: ticket },
        Scene { title: "the holder of a key agrees", play: signed },
        Scene { title: "either of two", play: or },
        Scene { title: "the state of the machine", play: machine },
        Scene { title: "one command and nothing else", play: command },
        Scene { title: "what is in an NV index", play: nv },
        Scene { title: "a policy that was approved", play: authorize },
        Scene { title: "an authorization value, proven or given", play: auth_value },
    ],
}];

/// A secret was known once; its ticket says so in another session.
fn ticket(stage: &mut Stage<'_>) -> Result<()> {
    let session = stage.policy()?;
    let command = PolicySecret { expiration: -100, ..policy_secret(session.handle()) };
    let answer = stage.run(&command, [EMPTY])?;
    let timeout = answer.timeout.octets().to_vec();
    let ticket = octets(&answer.policy_ticket)?;
    let reached = stage.policy_digest(session.handle())?;
    stage.flush(&session.handle())?;
    let session = stage.policy()?;
    let name = Hierarchy::Endorsement.name().expect("a hierarchy has a Name");
    let command = PolicyTicket {
        policy_session: session.handle(),
        timeout: Timeout::new(&timeout)?,
        cp_hash_a: Digest::EMPTY,
        policy_ref: Nonce::EMPTY,
        auth_name: Name::new(name.octets())?,
        ticket: Ticket::from_bytes(&ticket)?,
    };
    stage.run(&command, [])?;
    ensure!(stage.policy_digest(session.handle())? == reached, "another digest");
    Ok(())
}

fn signed(stage: &mut Stage<'_>) -> Result<()> {
    let key = stage.key(props::signer())?;
    let session = stage.policy()?;
    // aHash = H(nonceTPM ‖ expiration ‖ cpHashA ‖ policyRef)
    let digest = HashAlg::Sha256.digest(&[&0_i32.to_be_bytes(), b"reference"]);
    let answer = stage.run(&tests::tpm::sign(key, digest.octets()), [EMPTY])?;
    let signature = octets(&answer.signature)?;
    let (policy_session, auth) = (session.handle(), Signature::from_bytes(&signature)?);
    let command = PolicySigned {
        policy_ref: Nonce::from(b"reference"),
        ..PolicySigned::of(key, policy_session, Nonce::EMPTY, auth)
    };
    let answer = stage.run(&command, [])?;
    ensure!(answer.policy_ticket.digest.octets().is_empty(), "{answer:?}");
    Ok(())
}

fn or(stage: &mut Stage<'_>) -> Result<()> {
    let session = stage.policy()?;
    stage.run(&policy_secret(session.handle()), [EMPTY])?;
    let reached = stage.policy_digest(session.handle())?;
    let branches = [Digest::new(&reached)?, Digest::from(&[9; 32])];
    let command = PolicyOr { policy_session: session.handle(), p_hash_list: List::new(&branches) };
    stage.run(&command, [])?;
    Ok(())
}

fn machine(stage: &mut Stage<'_>) -> Result<()> {
    let session = stage.policy()?;
    let policy_session = session.handle();
    let pcrs = [PcrSelection::new(Alg::SHA256, &[0x81, 0, 0])?];
    let command = PolicyPcr { policy_session, pcr_digest: Digest::EMPTY, pcrs: List::new(&pcrs) };
    stage.run(&command, [])?;
    stage.run(&PolicyLocality { policy_session, locality: Locality::ZERO }, [])?;
    stage.run(&PolicyPhysicalPresence { policy_session }, [])?;
    // The first bytes of TPMS_TIME_INFO are the time, which is not yet what it will be in half a billion years.
    let command = PolicyCounterTimer {
        policy_session,
        operand_b: Digest::from(&[0xff; 8]),
        offset: 0,
        operation: Comparison::UNSIGNED_LT,
    };
    stage.run(&command, [])?;
    Ok(())
}

/// Each in a session that has been brought back to its beginning: some exclude each other.
fn command(stage: &mut Stage<'_>) -> Result<()> {
    let session = stage.policy()?;
    let policy_session = session.handle();
    let code = <Duplicate<'_> as Command>::INFO.code;
    stage.run(&PolicyCommandCode { policy_session, code }, [])?;
    let again = PolicyRestart { session_handle: policy_session };
    stage.run(&again, [])?;
    stage.run(&PolicyCpHash { policy_session, cp_hash_a: Digest::from(&[1; 32]) }, [])?;
    stage.run(&again, [])?;
    stage.run(&PolicyNameHash { policy_session, name_hash: Digest::from(&[2; 32]) }, [])?;
    stage.run(&again, [])?;
    stage.run(&PolicyTemplate { policy_session, template_hash: Digest::from(&[3; 32]) }, [])?;
    stage.run(&again, [])?;
    let name = [&[0, 0x0b], &[4; 32][..]].concat();
    let command = PolicyDuplicationSelect {
        policy_session,
        object_name: Name::new(&name)?,
        new_parent_name: Name::new(&name)?,
        include_object: true,
    };
    stage.run(&command, [])?;
    Ok(())
}

const INDEX: Handle = Handle(0x0180_0020);

/// An index with a policy in it, as PolicyAuthorizeNV wants it: the hash, then the digest.
fn nv(stage: &mut Stage<'_>) -> Result<()> {
    let attributes =
        NvAttributes::OWNERWRITE.with(NvAttributes::AUTHREAD).with(NvAttributes::NO_DA);
    let public = NvPublic {
        index: INDEX,
        name_alg: Alg::SHA256,
        attributes,
        auth_policy: Digest::EMPTY,
        data_size: 34,
    };
    let define = NvDefineSpace {
        auth_handle: Provision::Owner,
        auth: AuthValue::EMPTY,
        public_info: Tpm2b(public),
    };
    stage.run(&define, [EMPTY])?;
    let session = stage.policy()?;
    let policy_session = session.handle();
    stage.run(&PolicyNvWritten { policy_session, written_set: false }, [])?;
    let reached = stage.policy_digest(policy_session)?;
    let nv_index = stage.index(INDEX)?;
    let content = [&[0, 0x0b], &reached[..]].concat();
    let write = NvWrite {
        auth_handle: NvAuth::Owner,
        nv_index,
        data: MaxNvBuffer::new(&content)?,
        offset: 0,
    };
    stage.run(&write, [EMPTY])?;
    let nv_index = stage.index(INDEX)?;
    let auth_handle = NvAuth::Index(nv_index);
    let authorize = PolicyAuthorizeNv { auth_handle, nv_index, policy_session };
    stage.run(&authorize, [EMPTY])?;
    let compare = PolicyNv {
        auth_handle,
        nv_index,
        policy_session,
        operand_b: Digest::new(&content[..2])?,
        offset: 0,
        operation: Comparison::EQ,
    };
    stage.run(&compare, [EMPTY])?;
    stage.run(&NvUndefineSpace { auth_handle: Provision::Owner, nv_index }, [EMPTY])?;
    Ok(())
}

/// The key has signed the policy that the session has reached.
fn authorize(stage: &mut Stage<'_>) -> Result<()> {
    let key = stage.key(props::signer())?;
    let name = key.name().expect("a primary object has a Name");
    let session = stage.policy()?;
    let policy_session = session.handle();
    stage.run(&policy_secret(policy_session), [EMPTY])?;
    let approved = stage.policy_digest(policy_session)?;
    // aHash = H(approvedPolicy ‖ policyRef)
    let digest = HashAlg::Sha256.digest(&[&approved]);
    let answer = stage.run(&tests::tpm::sign(key, digest.octets()), [EMPTY])?;
    let signature = octets(&answer.signature)?;
    let verify = VerifySignature {
        key_handle: key,
        digest: Digest::new(digest.octets())?,
        signature: Signature::from_bytes(&signature)?,
    };
    let ticket = octets(&stage.run(&verify, [])?.validation)?;
    let command = PolicyAuthorize {
        policy_session,
        approved_policy: Digest::new(&approved)?,
        policy_ref: Nonce::EMPTY,
        key_sign: Name::new(name.octets())?,
        check_ticket: VerifiedTicket::from_bytes(&ticket)?,
    };
    stage.run(&command, [])?;
    ensure!(stage.policy_digest(policy_session)? != approved, "the policy was not replaced");
    Ok(())
}

fn auth_value(stage: &mut Stage<'_>) -> Result<()> {
    let session = stage.policy()?;
    let policy_session = session.handle();
    stage.run(&PolicyAuthValue { policy_session }, [])?;
    stage.run(&PolicyPassword { policy_session }, [])?;
    Ok(())
}
