//! Certificates in the NV memory of chips that give as much at a time as they please, and chains of them across indices.

use anyhow::Result;
use testkit::bus::{Interposer, command_code, forward, refusal};
use testkit::swtpm::{Kind, Swtpm};
use tests::tpm::{client, define, ek_kind, sequence, start_tcp, undefine, way};
use tpm2::Tpm;
use tpm2::commands::{Command, NvRead};
use tpm2::endorsement::{self, Chain, Passwords};
use tpm2::transport::{Record, Recording};
use tpm2::types::*;

const CERTIFICATE: Handle = Handle(0x01c0_0002);

/// TPM_RC_VALUE and TPM_RC_SIZE for the first parameter, which is the size, as chips say them; and what a few say instead.
const REFUSALS: [ResponseCode; 3] =
    [ResponseCode(0x1c4), ResponseCode(0x1d5), ResponseCode::NV_RANGE];

/// How many bytes a command asks of an index; `None` if it is no TPM2_NV_Read.
fn asked(command: &[u8]) -> Option<u16> {
    let size = command.len().checked_sub(4)?;
    let size = command.get(size..)?.first_chunk().map(|size| u16::from_be_bytes(*size));
    size.filter(|_| command_code(command) == NvRead::INFO.code)
}

/// The certificate, or a chain of two, as read from a chip that gives no more than `most` bytes at a time; and how often it
/// was asked for more.
fn read(swtpm: &Swtpm, most: u16, says: ResponseCode) -> Result<(Vec<u8>, Chain, usize)> {
    let mut refused = 0;
    let mut tpm = Tpm::new(Interposer::new(way(swtpm)?, |command, tpm| match asked(command) {
        Some(size) if size > most => {
            refused += 1;
            Ok(refusal(says))
        }
        _ => forward(tpm, command),
    }));
    let certificate = endorsement::certificate(&mut tpm, ek_kind("rsa2048"), Passwords::NONE)?;
    let chain = endorsement::chain(&mut tpm, Passwords::NONE)?;
    drop(tpm);
    Ok((certificate.unwrap_or_default(), chain, refused))
}

#[test]
fn chips_that_give_512_to_2048_octets_at_a_time_are_read_whatever_they_say_to_more() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    for len in [300, 512, 513, 768, 769, 1016, 1537, 2000] {
        let der = sequence(len);
        define(&swtpm, CERTIFICATE, len, Some(&der))?;
        define(&swtpm, Handle(CHAIN), len, Some(&der))?;
        for most in [512, 768, 1024, 2048] {
            for says in REFUSALS {
                let (certificate, chain, refused) = read(&swtpm, most, says)?;
                let of = format!("{len} octets, {most} at a time, {says}");
                assert_eq!(certificate, der, "{of}");
                assert_eq!(chain.certificates, [&der[..]], "{of}");
                match most {
                    512 => assert!((1..=4).contains(&refused), "{of}: {refused}"),
                    _ => assert_eq!(refused, 0, "{of}"),
                }
            }
        }
        undefine(&swtpm, CERTIFICATE)?;
        undefine(&swtpm, Handle(CHAIN))?;
    }
    Ok(())
}

#[test]
fn a_chip_that_gives_less_than_every_chip_must_is_an_error_and_not_asked_for_ever() -> Result<()> {
    let swtpm = start_tcp(Kind::RsaAndP384)?;
    for says in REFUSALS {
        let mut commands = 0;
        let mut tpm = Tpm::new(Interposer::new(way(&swtpm)?, |command, tpm| {
            commands += 1;
            match asked(command) {
                Some(size) if size > 256 => Ok(refusal(says)),
                _ => forward(tpm, command),
            }
        }));
        let kind = ek_kind("rsa2048");
        let error = endorsement::certificate(&mut tpm, kind, Passwords::NONE).unwrap_err();
        drop(tpm);
        assert!(error.refusal().is_some(), "{error}");
        assert!(commands <= 4, "{says}: {commands}");
    }
    // The TPM itself works.
    assert!(
        endorsement::certificate(&mut client(&swtpm)?, ek_kind("rsa2048"), Passwords::NONE)?
            .is_some()
    );
    Ok(())
}

const CHAIN: u32 = 0x01c0_0100;

/// What the TPM says of its chain, and in how many commands.
fn chain(swtpm: &Swtpm) -> Result<(Chain, usize)> {
    let recording = Recording::default();
    let mut tpm = Tpm::new(Record::new(way(swtpm)?, recording.clone()));
    let chain = endorsement::chain(&mut tpm, Passwords::NONE)?;
    Ok((chain, recording.exchanges().len()))
}

#[test]
fn a_chain_is_read_across_indices_as_far_as_it_is_one() -> Result<()> {
    let swtpm = start_tcp(Kind::RsaAndP384)?;
    assert_eq!(chain(&swtpm)?, (Chain::default(), 1), "one command without a chain");
    let certificates = [sequence(1000), sequence(100), sequence(700)];
    let octets = certificates.concat();
    define(&swtpm, Handle(CHAIN + 0x10), 900, Some(&octets[..900]))?;
    define(&swtpm, Handle(CHAIN + 0x11), 900, Some(&octets[900..]))?;
    // A neighbour that was never written, and one above the range.
    define(&swtpm, Handle(CHAIN + 0x20), 100, None)?;
    define(&swtpm, Handle(CHAIN + 0x100), 100, Some(&sequence(100)))?;
    let (whole, commands) = chain(&swtpm)?;
    assert_eq!(whole.certificates, certificates);
    assert_eq!(whole.passed_over, []);
    assert_eq!(commands, 1 + 2 * 3 + 2, "a size and two chunks each; a size and a refusal");
    // An incomplete one is not used, and a new chain starts after the gap.
    undefine(&swtpm, Handle(CHAIN + 0x11))?;
    define(&swtpm, Handle(CHAIN + 0x12), 100, Some(&certificates[1]))?;
    let (rest, _) = chain(&swtpm)?;
    assert_eq!(rest.certificates, [&certificates[1][..]]);
    assert_eq!(rest.passed_over, [Handle(CHAIN + 0x10)]);
    Ok(())
}

#[test]
fn nv_content_that_is_not_a_chain_is_skipped_and_bounded() -> Result<()> {
    let swtpm = start_tcp(Kind::NoCertificates)?;
    let [secret, first] = [CHAIN, CHAIN + 1];
    let index = format!("{secret:#010x}");
    let attributes = "ppwrite|authread|no_da|platformcreate";
    let reserved = [&index, "-C", "p", "-s", "8", "-a", attributes, "-p", "secret"];
    swtpm.tool("tpm2_nvdefine", &reserved)?;
    for index in first..first + 20 {
        define(&swtpm, Handle(index), 1000, Some(&[b'x'; 1000]))?;
    }
    let (chain, commands) = chain(&swtpm)?;
    assert!(chain.certificates.is_empty());
    assert_eq!(chain.passed_over, (secret..secret + 16).map(Handle).collect::<Vec<_>>());
    // The list; a size and a refusal; eight whole ones and the rest of 8192 bytes.
    assert_eq!(commands, 1 + 2 + 8 * 3 + 2);
    Ok(())
}
