//! Part 3 §17 and §20: sequences, signatures.

use anyhow::{Result, ensure};
use tpm2::commands::*;
use tpm2::types::*;
use tpm2::wire::Unmarshal;

use crate::props;
use crate::stage::{Act, EMPTY, Scene, Stage, octets, password};

pub const ACTS: &[Act] = &[Act {
    name: "sequences",
    scenes: &[
        Scene { title: "a hash in pieces", play: hash },
        Scene { title: "an HMAC in pieces", play: hmac },
        Scene { title: "an event in pieces", play: event },
        Scene { title: "a signature made and verified", play: sign },
        Scene { title: "a digest signed by an HMAC key, and verified", play: hmac_signature },
    ],
}];

fn update(stage: &mut Stage<'_>, sequence_handle: Object) -> Result<()> {
    let command = SequenceUpdate { sequence_handle, buffer: MaxBuffer::from(b"a mess") };
    stage.run(&command, [password(b"value")])?;
    Ok(())
}

fn complete(stage: &mut Stage<'_>, sequence_handle: Object) -> Result<Vec<u8>> {
    let command = SequenceComplete {
        sequence_handle,
        buffer: MaxBuffer::from(b"age"),
        hierarchy: Hierarchy::Owner,
    };
    let answer = stage.run(&command, [password(b"value")])?;
    Ok(answer.result.octets().to_vec())
}

fn hash(stage: &mut Stage<'_>) -> Result<()> {
    let start = HashSequenceStart { auth: AuthValue::from(b"value"), hash_alg: Alg::SHA256 };
    let sequence = stage.run(&start, [])?.sequence_handle.sequence();
    update(stage, sequence)?;
    let in_pieces = complete(stage, sequence)?;
    let whole = Hash {
        data: MaxBuffer::from(b"a message"),
        hash_alg: Alg::SHA256,
        hierarchy: Hierarchy::Null,
    };
    ensure!(stage.run(&whole, [])?.out_hash.octets() == in_pieces, "another hash");
    Ok(())
}

fn hmac(stage: &mut Stage<'_>) -> Result<()> {
    let handle = stage.key(props::hmac_key())?;
    let start = HmacStart { handle, auth: AuthValue::from(b"value"), hash_alg: Alg::SHA256 };
    let sequence = stage.run(&start, [EMPTY])?.sequence_handle.sequence();
    update(stage, sequence)?;
    let in_pieces = complete(stage, sequence)?;
    let whole = Hmac { handle, buffer: MaxBuffer::from(b"a message"), hash_alg: Alg::SHA256 };
    let answer = stage.run(&whole, [EMPTY])?;
    ensure!(answer.out_hmac.octets() == in_pieces, "another HMAC");
    Ok(())
}

fn event(stage: &mut Stage<'_>) -> Result<()> {
    let start = HashSequenceStart { auth: AuthValue::from(b"value"), hash_alg: Alg::NULL };
    let sequence = stage.run(&start, [])?.sequence_handle.sequence();
    update(stage, sequence)?;
    let command = EventSequenceComplete {
        pcr_handle: Some(Pcr(16)),
        sequence_handle: sequence,
        buffer: MaxBuffer::from(b"age"),
    };
    let answer = stage.run(&command, [EMPTY, password(b"value")])?;
    ensure!(answer.results.iter().any(|digest| digest.hash() == Alg::SHA256), "{answer:?}");
    Ok(())
}

fn sign(stage: &mut Stage<'_>) -> Result<()> {
    let key = stage.key(props::signer())?;
    let answer = stage.run(&tests::tpm::sign(key, &[0x11; 32]), [EMPTY])?;
    let signature = octets(&answer.signature)?;
    let command = VerifySignature {
        key_handle: key,
        digest: Digest::from(&[0x11; 32]),
        signature: Signature::from_bytes(&signature)?,
    };
    let answer = stage.run(&command, [])?;
    ensure!(answer.validation.verified == Verified::Signature, "{answer:?}");
    Ok(())
}

/// An HMAC key also signs and verifies.
fn hmac_signature(stage: &mut Stage<'_>) -> Result<()> {
    let key = stage.key(props::hmac_key())?;
    let answer = stage.run(&tests::tpm::sign(key, &[0x11; 32]), [EMPTY])?;
    let signature = octets(&answer.signature)?;
    let command = VerifySignature {
        key_handle: key,
        digest: Digest::from(&[0x11; 32]),
        signature: Signature::from_bytes(&signature)?,
    };
    stage.run(&command, [])?;
    Ok(())
}
