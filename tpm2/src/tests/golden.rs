//! Real messages, parsed and written again, cut and changed. `testdata/golden.txt` says where each is from.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::vec::Vec;
use std::{format, vec};

use crate::Tpm;
use crate::commands::*;
use crate::session::Auth;
use crate::template::join_key;
use crate::transport::Transport;
use crate::types::*;
use crate::wire::{List, Malformed, Reader, Tpm2b, Why, Writer};

static GOLDEN: &str = include_str!("../../testdata/golden.txt");

struct Golden {
    title: &'static str,
    command: Vec<u8>,
    response: Vec<u8>,
}

fn golden() -> Vec<Golden> {
    let mut lines = GOLDEN.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut all = Vec::new();
    while let Some(title) = lines.next() {
        let title = title.strip_prefix("= ").unwrap();
        assert!(title.contains("; recorded from "), "{title}: no provenance");
        let command = hex(lines.next().unwrap().strip_prefix("> ").unwrap());
        let response = hex(lines.next().unwrap().strip_prefix("< ").unwrap());
        all.push(Golden { title, command, response });
    }
    all
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn code(message: &[u8]) -> u32 {
    u32::from_be_bytes(message[6..10].try_into().unwrap())
}

/// Authorizations of a command.
fn sessions(command: &[u8]) -> usize {
    if command[..2] != Structure::SESSIONS.0.to_be_bytes() {
        return 0;
    }
    let info = by_code(CommandCode(code(command))).unwrap();
    let mut reader = Reader::new(&command[10 + 4 * info.handles.len()..]);
    let size: u32 = reader.read("authorizationSize").unwrap();
    let mut area = reader.sub(size as usize).unwrap();
    let mut sessions = 0;
    while !area.peek().is_empty() {
        area.read::<Handle>("session").unwrap();
        authorization(&mut area).unwrap();
        sessions += 1;
    }
    sessions
}

fn authorization(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    reader.read::<Nonce<'_>>("nonce")?;
    reader.read::<SessionAttributes>("attributes")?;
    reader.read::<Nonce<'_>>("hmac").map(drop)
}

/// Reads an answer and writes it again.
fn again<C: Command>(answer: &[u8], sessions: usize) -> Result<Vec<u8>, Malformed> {
    let mut reader = Reader::new(answer);
    let mut octets = vec![0; 4096];
    let mut writer = Writer::new(&mut octets);
    let tag: Structure = reader.read("tag")?;
    let size: u32 = reader.read("size")?;
    if size as usize != answer.len() {
        return Err(Malformed::new(Why::Unexpected, 2));
    }
    let response_code: ResponseCode = reader.read("response code")?;
    writer.write(&tag).unwrap();
    writer.write(&size).unwrap();
    writer.write(&response_code).unwrap();
    if response_code != ResponseCode::SUCCESS {
        reader.finish()?;
        return Ok(writer.into_written().to_vec());
    }
    let mut handle = Handle::NULL;
    if <C::Response<'static> as Response>::INFO.handle.is_some() {
        handle = reader.read("handle")?;
        writer.write(&handle).unwrap();
    }
    let mut parameters = reader.peek().len();
    if sessions > 0 {
        let size: u32 = reader.read("parameterSize")?;
        writer.write(&size).unwrap();
        parameters = size as usize;
    }
    let parameters = reader.sub(parameters)?.take_rest();
    let response = Reader::all(parameters, |reader| C::unmarshal_response(handle, reader))?;
    response.marshal_parameters(&mut writer).unwrap();
    writer.put(reader.peek()).unwrap();
    for _ in 0..sessions {
        authorization(&mut reader)?;
    }
    reader.finish()?;
    Ok(writer.into_written().to_vec())
}

/// As [`again`], for the command that the answer belongs to.
fn again_as(command: &[u8], answer: &[u8]) -> Result<Vec<u8>, Malformed> {
    struct Again<'a>(&'a [u8], usize);

    impl Visitor for Again<'_> {
        type Output = Result<Vec<u8>, Malformed>;

        fn visit<C: Command>(self) -> Self::Output {
            again::<C>(self.0, self.1)
        }
    }

    visit(CommandCode(code(command)), Again(answer, sessions(command))).expect("a known command")
}

#[test]
fn every_answer_is_read_and_written_again_to_the_same_octets() {
    let golden = golden();
    assert!(golden.len() >= 60, "{}", golden.len());
    let (mut commands, mut refusals) = (BTreeSet::new(), 0);
    for Golden { title, command, response } in &golden {
        let written = again_as(command, response).unwrap_or_else(|e| panic!("{title}: {e}"));
        assert_eq!(written, *response, "{title}");
        commands.insert(code(command));
        refusals += usize::from(code(response) != 0);
    }
    assert!(commands.len() >= 18, "{commands:x?}");
    assert!(refusals >= 10);
}

#[test]
fn every_truncated_answer_is_refused_also_with_its_sizes_put_right() {
    for Golden { title, command, response } in golden() {
        for len in 0..response.len() {
            assert!(again_as(&command, &response[..len]).is_err(), "{title}, {len} octets");
            if len >= 10 {
                let mut shorter = response[..len].to_vec();
                shorter[2..6].copy_from_slice(&(len as u32).to_be_bytes());
                assert!(again_as(&command, &shorter).is_err(), "{title}, {len} octets, sized");
            }
        }
        for len in [1, 7] {
            let mut longer = response.clone();
            longer.resize(response.len() + len, 0);
            assert!(again_as(&command, &longer).is_err(), "{title}, {len} more");
            let size = longer.len() as u32;
            longer[2..6].copy_from_slice(&size.to_be_bytes());
            assert!(again_as(&command, &longer).is_err(), "{title}, {len} more, sized");
        }
    }
}

/// Whatever is still read is written again to the octets it was read from: nothing is lost or made up on the way.
#[test]
fn every_changed_octet_is_refused_or_kept() {
    for Golden { title, command, response } in golden() {
        for at in 0..response.len() {
            for mask in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
                let mut changed = response.clone();
                changed[at] ^= mask;
                if let Ok(written) = again_as(&command, &changed) {
                    assert_eq!(written, changed, "{title}, octet {at} ^ {mask:#04x}");
                }
            }
        }
    }
}

/// Keeps what it is sent, and answers.
#[derive(Clone, Default)]
struct Keeper {
    sent: Arc<Mutex<Vec<u8>>>,
    answer: Vec<u8>,
}

impl Transport for Keeper {
    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
        *self.sent.lock().unwrap() = command.to_vec();
        response[..self.answer.len()].copy_from_slice(&self.answer);
        Ok(self.answer.len())
    }

    fn is_managed(&self) -> bool {
        true
    }
}

fn sent<C: Authorized<N>, const N: usize>(command: &C) -> Vec<u8> {
    let keeper = Keeper::default();
    let mut tpm = Tpm::new(keeper.clone());
    assert!(tpm.run(command, [const { Auth::EMPTY }; N]).is_err(), "nothing was answered");
    let sent = keeper.sent.lock().unwrap();
    sent.clone()
}

/// Commands as another client, of raw octets, sent them to libtpms through swtpm, and was understood.
#[test]
fn commands_are_those_that_a_client_of_raw_octets_sent() {
    let nv_index = NvIndex::unnamed(Handle(0x01c0_0002));
    assert_eq!(sent(&NvReadPublic { nv_index }), hex("80010000000e0000016901c00002"));
    let read = NvRead { auth_handle: NvAuth::Index(nv_index), nv_index, size: 1016, offset: 0 };
    assert_eq!(
        sent(&read),
        hex("8002000000230000014e01c0000201c000020000000940000009000001000003f80000")
    );
    let start = StartAuthSession {
        tpm_key: None,
        bind: None,
        nonce_caller: Nonce::new(&[0; 16]).unwrap(),
        encrypted_salt: EncryptedSecret::EMPTY,
        session_type: SessionType::POLICY,
        symmetric: SymDef::Null,
        auth_hash: Alg::SHA256,
    };
    let zeros = "00".repeat(16);
    assert_eq!(
        sent(&start),
        hex(&format!("80010000002b0000017640000007400000070010{zeros}0000010010000b"))
    );
    let flush = FlushContext { flush_handle: Handle(0x8000_0000) };
    assert_eq!(sent(&flush), hex("80010000000e0000016580000000"));
    let unique = [0xab; 32];
    let create = CreatePrimary {
        primary_handle: Hierarchy::Owner,
        in_sensitive: Tpm2b(SensitiveCreate::EMPTY),
        in_public: Tpm2b(join_key(&unique)),
        outside_info: Data::EMPTY,
        creation_pcr: List::new(&[]),
    };
    let template = format!(
        "0023000b00040472000000100018000b0003001000 20{}0020{}",
        "ab".repeat(32),
        "00".repeat(32)
    );
    let creation = format!(
        "8002000000810000013140000001 00000009 40000009 0000 01 0000 0004 0000 0000 0058 {template} 0000 00000000"
    );
    assert_eq!(hex(&creation).len(), 129);
    assert_eq!(sent(&create), hex(&creation));
}

/// The same, both ways: the session is at 0x03000000, the answer has an empty timeout and a null ticket.
#[test]
fn a_policy_secret_is_the_one_that_a_client_of_raw_octets_saw() {
    let session = hex(&format!("800100000030000000000300 00000020{}", "07".repeat(32)));
    let mut tpm = Tpm::new(Keeper { answer: session, ..Keeper::default() });
    let session = tpm.start_session(SessionType::POLICY, crate::crypto::HashAlg::Sha256).unwrap();
    let command = PolicySecret {
        auth_handle: Hierarchy::Endorsement.into(),
        policy_session: session.handle(),
        nonce_tpm: Nonce::EMPTY,
        cp_hash_a: Digest::EMPTY,
        policy_ref: Nonce::EMPTY,
        expiration: 0,
    };
    assert_eq!(
        sent(&command),
        hex("800200000029000001514000000b030000000000000940000009000001000000000000000000000000")
    );
    let answer = hex("80020000001d 00000000 0000000a 0000 8023 40000007 0000 0000 01 0000");
    let mut tpm = Tpm::new(Keeper { answer, ..Keeper::default() });
    let answer = tpm.run(&command, [Auth::EMPTY]).unwrap();
    assert!(answer.timeout.octets().is_empty());
    let none =
        Ticket { tag: Structure::AUTH_SECRET, hierarchy: Handle::NULL, digest: Digest::EMPTY };
    assert_eq!(answer.policy_ticket, none);
}

#[test]
fn a_public_area_of_nv_memory_is_the_one_that_a_client_of_raw_octets_saw() {
    let octets = hex("01c00002 000b 62072801 0000 03f8");
    let public = <NvPublic<'_> as crate::wire::Unmarshal<'_>>::from_bytes(&octets).unwrap();
    assert_eq!((public.index, public.data_size), (Handle(0x01c0_0002), 1016));
    let attributes = NvAttributes::PPWRITE
        .with(NvAttributes::WRITEDEFINE)
        .with(NvAttributes::PPREAD)
        .with(NvAttributes::OWNERREAD)
        .with(NvAttributes::AUTHREAD)
        .with(NvAttributes::NO_DA)
        .with(NvAttributes::WRITTEN)
        .with(NvAttributes::PLATFORMCREATE);
    assert_eq!(public.attributes, attributes.with(NvAttributes::WRITELOCKED));
}
