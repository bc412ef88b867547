//! The wire, side by side with another TPM protocol crate in the same run: what one does, the other does on the same
//! bytes, and each must find the same in them.
//!
//! - *written*: a whole command under empty passwords, or a structure.
//! - *read*: a whole answer, or a structure, as a typed value. Ours borrows, the peer's copies.
//! - *the peer's view*: its walk over the same fields, which checks them and keeps no value.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use tpm2::commands::frame::{self, Answer};
use tpm2::commands::{Authorized, Command, CreatePrimary, GetCapability, NvRead};
use tpm2::types::{
    Attest, AuthValue, Capability, Data, Handle, Hierarchy, NvAuth, NvIndex, Public,
    SensitiveCreate,
};
use tpm2::wire::{List, Marshal, Tpm2b, Unmarshal, Writer};
use tpm2_protocol::data::{
    Tpm2bCreationData, Tpm2bDigest, Tpm2bMaxNvBuffer, Tpm2bName, Tpm2bPublic, TpmCc, TpmSt,
    TpmaSession, TpmsAttest, TpmsAuthCommand, TpmtPublic, TpmtTkCreation,
};
use tpm2_protocol::frame::{
    TpmCommand, TpmCreatePrimaryCommand, TpmCreatePrimaryResponse, TpmFrame,
    TpmGetCapabilityCommand, TpmGetCapabilityResponse, TpmNvReadCommand, TpmNvReadResponse,
    TpmResponse, TpmUnmarshalBody, tpm_marshal_command,
};
use tpm2_protocol::{TpmField, TpmMarshal, TpmResult, TpmUnmarshal, TpmWriter};
use verifier::JoinKey;

/// Bytes that the optimizer knows nothing of. It is their reference that goes by way of memory: a slice would be put down
/// in two halves and picked up at once, for which a processor stalls longer than for much of what is measured here.
fn unknown<'a>(octets: &&'a [u8]) -> &'a [u8] {
    black_box(octets)
}

/// As large as any message.
const BUFFER_SIZE: usize = 4096;

criterion_group!(benches, commands, answers, structures);
criterion_main!(benches);

fn commands(c: &mut Criterion) {
    let unique = [7; 32];
    let create = CreatePrimary {
        primary_handle: Hierarchy::Endorsement,
        in_sensitive: Tpm2b(SensitiveCreate::EMPTY),
        in_public: Tpm2b(JoinKey::template(&unique)),
        outside_info: Data::EMPTY,
        creation_pcr: List::new(&[]),
    };
    command::<_, TpmCreatePrimaryCommand, 1>(c, &create);
    let nv_index = NvIndex::unnamed(Handle(0x01c0_0002));
    let read = NvRead { auth_handle: NvAuth::Owner, nv_index, size: 768, offset: 0 };
    command::<_, TpmNvReadCommand, 1>(c, &read);
    let ask =
        GetCapability { capability: Capability::COMMANDS, property: 0x11f, property_count: 256 };
    command::<_, TpmGetCapabilityCommand, 0>(c, &ask);
}

/// A command written by both, to the same bytes.
fn command<C: Authorized<N>, P: TpmFrame + TpmUnmarshalBody, const N: usize>(
    c: &mut Criterion,
    ours: &C,
) {
    let passwords = [AuthValue::EMPTY; N];
    let mut buffer = [0; BUFFER_SIZE];
    let len = frame::marshal(ours, passwords, &mut buffer).unwrap();
    let octets = buffer[..len].to_vec();
    let theirs: P = TpmCommand::cast(&octets).unwrap().unmarshal().unwrap();
    let tag = if N == 0 { TpmSt::NoSessions } else { TpmSt::Sessions };
    let sessions: Vec<_> = (0..N)
        .map(|_| TpmsAuthCommand {
            session_handle: Handle::PASSWORD.0.into(),
            session_attributes: TpmaSession::CONTINUE_SESSION,
            ..TpmsAuthCommand::default()
        })
        .collect();
    let write = |buffer: &mut [u8; BUFFER_SIZE]| {
        let mut writer = TpmWriter::new(buffer);
        tpm_marshal_command(black_box(&theirs), tag, &sessions, &mut writer).unwrap();
        writer.len()
    };
    assert_eq!(write(&mut buffer), len);
    assert_eq!(buffer[..len], octets);

    let mut group = c.benchmark_group(format!("{}, written", C::INFO.name));
    group.bench_function("ours", |b| {
        b.iter(|| {
            let buffer: &mut [u8; BUFFER_SIZE] = black_box(&mut buffer);
            frame::marshal(black_box(ours), passwords, buffer).unwrap()
        });
    });
    group.bench_function("peer", |b| b.iter(|| write(black_box(&mut buffer))));
}

fn answers(c: &mut Criterion) {
    let created = |octets: &[u8]| {
        let parameters = viewed(octets, TpmCc::CreatePrimary, 1)?;
        let (_, rest) = Tpm2bPublic::cast_prefix_field(parameters)?;
        let (_, rest) = Tpm2bCreationData::cast_prefix_field(rest)?;
        let (_, rest) = Tpm2bDigest::cast_prefix_field(rest)?;
        let (_, rest) = TpmtTkCreation::cast_prefix_field(rest)?;
        Tpm2bName::cast_prefix_field(rest).map(|(_, rest)| rest.is_empty())
    };
    for key in ["a signing key", "an EK created, rsa2048"] {
        let octets = golden(&format!("TPM2_CreatePrimary: {key};"));
        answer::<CreatePrimary<'_>, TpmCreatePrimaryResponse>(c, key, &octets, Some(created));
    }
    let read = |octets: &[u8]| {
        let parameters = viewed(octets, TpmCc::NvRead, 0)?;
        Tpm2bMaxNvBuffer::cast_prefix_field(parameters).map(|(_, rest)| rest.is_empty())
    };
    let octets = golden("TPM2_NV_Read: its first 768 octets;");
    answer::<NvRead, TpmNvReadResponse>(c, "768 octets", &octets, Some(read));
    let octets = golden("TPM2_GetCapability: all commands;");
    answer::<GetCapability, TpmGetCapabilityResponse>(c, "all commands", &octets, None);
}

type View = fn(&[u8]) -> TpmResult<bool>;

/// An answer read by both. The peer has no view of some.
fn answer<C: Command, P: TpmUnmarshalBody>(
    c: &mut Criterion,
    what: &str,
    octets: &[u8],
    view: Option<View>,
) {
    let ours = |octets| Answer::split::<C>(octets).and_then(|answer| answer.read::<C>());
    let theirs = |octets| TpmResponse::cast(octets).and_then(TpmResponse::unmarshal::<P>);
    assert!(ours(octets).is_ok() && theirs(octets).is_ok(), "{what} is no answer");
    let mut group = c.benchmark_group(format!("{} ({what}), read", C::INFO.name));
    group.bench_function("ours", |b| b.iter(|| black_box(&ours(unknown(&octets))).is_ok()));
    group.bench_function("peer", |b| b.iter(|| black_box(&theirs(unknown(&octets))).is_ok()));
    if let Some(view) = view {
        assert_eq!(view(octets), Ok(true), "{what}");
        group.bench_function("peer's view", |b| b.iter(|| view(unknown(&octets))));
    }
}

/// The parameters of an answer whose frame the peer has checked.
fn viewed(octets: &[u8], code: TpmCc, handles: usize) -> TpmResult<&[u8]> {
    let answer = TpmResponse::cast(octets)?;
    answer.validate(code)?;
    let body = &answer.body()[4 * handles..];
    if answer.tag()? == TpmSt::NoSessions {
        return Ok(body);
    }
    let (size, rest) = body.split_first_chunk().expect("it was validated");
    Ok(&rest[..u32::from_be_bytes(*size) as usize])
}

fn structures(c: &mut Criterion) {
    for key in ["a signing key", "an EK created, rsa2048"] {
        let answer = golden(&format!("TPM2_CreatePrimary: {key};"));
        structure!(c, format!("TPMT_PUBLIC ({key})"), sized(&answer[18..]), Public, TpmtPublic);
    }
    let answer = golden("TPM2_Quote: PCRs quoted;");
    structure!(c, "TPMS_ATTEST (a quote)", sized(&answer[14..]), Attest, TpmsAttest);
}

/// The content of the `TPM2B` that some bytes begin with.
fn sized(octets: &[u8]) -> &[u8] {
    let (size, rest) = octets.split_first_chunk().expect("it has a size");
    &rest[..usize::from(u16::from_be_bytes(*size))]
}

/// A structure read and written by both.
macro_rules! structure {
    ($c:ident, $what:expr, $octets:expr, $ours:ty, $theirs:ty) => {{
        let (what, octets) = ($what, $octets);
        let ours = <$ours>::from_bytes(octets).unwrap();
        let (theirs, []) = <$theirs>::unmarshal(octets).unwrap() else { panic!("more than one") };
        let mut group = $c.benchmark_group(format!("{what}, read"));
        group.bench_function("ours", |b| {
            b.iter(|| black_box(&<$ours>::from_bytes(unknown(&octets))).is_ok());
        });
        group.bench_function("peer", |b| {
            b.iter(|| black_box(&<$theirs>::unmarshal(unknown(&octets))).is_ok());
        });
        group.bench_function("peer's view", |b| {
            b.iter(|| <$theirs>::cast_prefix_field(unknown(&octets)).is_ok());
        });
        drop(group);

        let mut buffer = [0; BUFFER_SIZE];
        let write_ours = |buffer: &mut [u8; BUFFER_SIZE]| {
            let mut writer = Writer::new(buffer);
            black_box(&ours).marshal(&mut writer).unwrap();
            writer.len()
        };
        let write_theirs = |buffer: &mut [u8; BUFFER_SIZE]| {
            let mut writer = TpmWriter::new(buffer);
            black_box(&theirs).marshal(&mut writer).unwrap();
            writer.len()
        };
        for write in [&write_ours as &dyn Fn(&mut [u8; BUFFER_SIZE]) -> usize, &write_theirs] {
            assert_eq!(write(&mut buffer), octets.len());
            assert_eq!(&buffer[..octets.len()], octets);
            buffer.fill(0);
        }
        let mut group = $c.benchmark_group(format!("{what}, written"));
        group.bench_function("ours", |b| b.iter(|| write_ours(black_box(&mut buffer))));
        group.bench_function("peer", |b| b.iter(|| write_theirs(black_box(&mut buffer))));
    }};
}
use structure;

/// The answer of the golden message whose title begins so.
fn golden(title: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tpm2/testdata");
    let more = fs::read_dir(directory.join("golden")).unwrap().map(|file| file.unwrap().path());
    let files = [directory.join("golden.txt")].into_iter().chain(more);
    let all: String = files.map(|file| fs::read_to_string(file).unwrap()).collect();
    let mut lines = all.lines().skip_while(|line| !line.starts_with(&format!("= {title}")));
    let answer = lines.find_map(|line| line.strip_prefix("< ")).expect("there is no such message");
    let digits = answer.as_bytes().chunks_exact(2);
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(octet).collect()
}
