//! Values of PCRs, beside what tpm2-tools read.

use std::cell::Cell;

use anyhow::{Context, Result};
use testkit::bus::{Interposer, command_code, forward};
use testkit::swtpm::Kind;
use tests::tpm::{client, start, start_tcp, way};
use tpm2::commands::{Command, PcrExtend, PcrRead};
use tpm2::pcr::{self, PcrValue};
use tpm2::session::Auth;
use tpm2::transport::Transport;
use tpm2::types::{Alg, Entity, Handle, HashValue, Pcr, PcrBits, PcrSelection};
use tpm2::wire::List;
use tpm2::{Fault, Tpm};

fn all() -> PcrBits {
    PcrBits::of(&(0..24).collect::<Vec<_>>()).expect("24 PCRs")
}

fn extend<T: Transport>(tpm: &mut Tpm<T>, pcr: u32, digest: &[u8; 32]) -> Result<()> {
    let pcr_handle = Some(Pcr::from_handle(Handle(pcr)).expect("a PCR"));
    let digests = [HashValue::new(Alg::SHA256, digest).context("a digest")?];
    tpm.run(&PcrExtend { pcr_handle, digests: List::new(&digests) }, [Auth::EMPTY])?;
    Ok(())
}

#[test]
fn all_pcrs_of_all_banks_are_what_tpm2_tools_read() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let mut tpm = client(&swtpm)?;
    for pcr in [0, 7, 16, 23] {
        extend(&mut tpm, pcr, &[0x5a; 32])?;
    }
    let (all, few) = (all(), PcrBits::of(&[23, 0]).expect("two PCRs"));
    // What is not allocated is left out; the order is that of the question.
    let selected = [all.bank(Alg::SHA256), all.bank(Alg::SHA512), few.bank(Alg::SHA1)];
    let read = pcr::read(&mut tpm, &selected)?;
    drop(tpm);
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("values");
    swtpm
        .tool("tpm2_pcrread", &["sha256:all+sha1:0,23", "-o", file.to_str().context("a path")?])?;
    let theirs = std::fs::read(file)?;
    let ours: Vec<u8> = read.iter().flat_map(|value| value.value.octets().to_vec()).collect();
    assert_eq!(ours, theirs);
    let places: Vec<_> = read.iter().map(|value| (value.bank, value.pcr)).collect();
    let expected = (0..24).map(|pcr| (Alg::SHA256, pcr));
    assert!(places.into_iter().eq(expected.chain([0, 23].map(|pcr| (Alg::SHA1, pcr)))));
    Ok(())
}

/// Extends PCR 0 behind our back before the answers that `changes` asks for, counted from one.
fn disturbed(
    way: impl Transport<Error = std::io::Error>,
    changes: impl Fn(usize) -> bool,
    asked: &Cell<usize>,
) -> impl Transport<Error = std::io::Error> {
    Interposer::new(way, move |command, tpm| {
        if command_code(command) == PcrRead::INFO.code {
            asked.set(asked.get() + 1);
            if changes(asked.get()) {
                const EXTEND: [u8; 10] = [0x80, 2, 0, 0, 0, 65, 0, 0, 1, 0x82];
                let password = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 1, 0, 0];
                let digest = [&[0, 0, 0, 1, 0, 0x0b][..], &[7; 32]].concat();
                let extend = [&EXTEND[..], &[0; 4], &password, &digest].concat();
                let answer = forward(tpm, &extend)?;
                assert_eq!(answer[6..10], [0; 4]);
            }
        }
        forward(tpm, command)
    })
}

#[test]
fn pcr_change_during_reading_restarts_it() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let (asked, bits) = (Cell::new(0), all());
    let pcrs = [bits.bank(Alg::SHA256)];
    // Before the second answer of two attempts.
    let changes = |asked| asked == 2 || asked == 4;
    let mut tpm = Tpm::new(disturbed(way(&swtpm)?, changes, &asked));
    let read = pcr::read(&mut tpm, &pcrs)?;
    assert_eq!((read.len(), asked.get()), (24, 2 + 2 + 3));
    let undisturbed = pcr::read(&mut tpm, &pcrs)?;
    assert_eq!(read, undisturbed);
    drop(tpm);

    let mut tpm = Tpm::new(disturbed(way(&swtpm)?, |_| true, &asked));
    let refused = pcr::read(&mut tpm, &pcrs).unwrap_err();
    assert!(matches!(refused.fault(), Fault::Malformed(_)), "{refused}");
    assert!(format!("{refused:#}").contains("pcr_update_counter"), "{refused:#}");
    Ok(())
}

#[test]
fn values_that_were_not_asked_for_are_refused() -> Result<()> {
    let swtpm = start(Kind::NoCertificates)?;
    let bits = PcrBits::of(&[1]).expect("a PCR");
    let selected: [PcrSelection<'_>; 1] = [bits.bank(Alg::SHA256)];
    // Another PCR, another bank, one value too few.
    for (at, mask, what) in
        [(21, 0x01, "pcr_selection_out"), (19, 0x07, "pcr_selection_out"), (21, 0x02, "pcr_values")]
    {
        let way = Interposer::new(way(&swtpm)?, move |command, tpm| {
            let mut answer = forward(tpm, command)?;
            if command_code(command) == PcrRead::INFO.code {
                answer[at] ^= mask;
            }
            Ok(answer)
        });
        let refused = pcr::read(&mut Tpm::new(way), &selected).map(|_: Vec<PcrValue>| ());
        let refused = refused.unwrap_err();
        assert!(format!("{refused:#}").contains(what), "{at} ^ {mask}: {refused:#}");
    }
    Ok(())
}
