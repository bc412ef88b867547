//! Part 3 §22: platform configuration registers.

use anyhow::{Result, ensure};
use tpm2::commands::*;
use tpm2::types::*;
use tpm2::wire::List;

use crate::stage::{Act, EMPTY, Scene, Stage, password};

pub const ACTS: &[Act] = &[Act {
    name: "pcr",
    scenes: &[
        Scene { title: "a PCR extended, read and reset", play: extend },
        Scene { title: "an event measured", play: event },
        Scene { title: "a group of PCRs under an authorization value", play: auth_value },
        Scene { title: "a group of PCRs under a policy", play: auth_policy },
        Scene { title: "banks chosen for the next reset", play: allocate },
    ],
}];

fn read(stage: &mut Stage<'_>) -> Result<Vec<u8>> {
    let pcrs = [PcrSelection::new(Alg::SHA256, &[0, 0, 0x01])?];
    let answer = stage.run(&PcrRead { pcr_selection_in: List::new(&pcrs) }, [])?;
    ensure!(answer.pcr_selection_out == List::new(&pcrs), "{answer:?}");
    Ok(answer.pcr_values.iter().flat_map(|value| value.octets().to_vec()).collect())
}

fn extend(stage: &mut Stage<'_>) -> Result<()> {
    let digests = [HashValue::new(Alg::SHA256, &[0xaa; 32]).expect("32 octets")];
    let command = PcrExtend { pcr_handle: Some(Pcr(16)), digests: List::new(&digests) };
    stage.run(&command, [EMPTY])?;
    ensure!(read(stage)? != [0; 32], "not extended");
    stage.run(&PcrReset { pcr_handle: Pcr(16) }, [EMPTY])?;
    ensure!(read(stage)? == [0; 32], "not reset");
    Ok(())
}

fn event(stage: &mut Stage<'_>) -> Result<()> {
    let command = PcrEvent { pcr_handle: Some(Pcr(16)), event_data: Event::from(b"an event") };
    let answer = stage.run(&command, [EMPTY])?;
    ensure!(answer.digests.iter().any(|digest| digest.hash() == Alg::SHA384), "{answer:?}");
    stage.run(&PcrReset { pcr_handle: Pcr(16) }, [EMPTY])?;
    Ok(())
}

fn auth_value(stage: &mut Stage<'_>) -> Result<()> {
    let command = PcrSetAuthValue { pcr_handle: Pcr(20), auth: Digest::from(b"value") };
    stage.run(&command, [EMPTY])?;
    let back = PcrSetAuthValue { auth: Digest::EMPTY, ..command };
    stage.run(&back, [password(b"value")])?;
    Ok(())
}

fn auth_policy(stage: &mut Stage<'_>) -> Result<()> {
    let command = PcrSetAuthPolicy {
        auth_handle: Platform,
        auth_policy: Digest::from(&[0x55; 32]),
        hash_alg: Alg::SHA256,
        pcr_num: Pcr(20),
    };
    stage.run(&command, [EMPTY])?;
    Ok(())
}

fn allocate(stage: &mut Stage<'_>) -> Result<()> {
    let banks = [PcrSelection::new(Alg::SHA256, &[0xff, 0xff, 0xff])?];
    let command = PcrAllocate { auth_handle: Platform, pcr_allocation: List::new(&banks) };
    let answer = stage.run(&command, [EMPTY])?;
    ensure!(answer.allocation_success && answer.max_pcr == 24, "{answer:?}");
    Ok(())
}
