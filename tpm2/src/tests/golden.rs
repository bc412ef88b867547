//! Real messages, parsed and written again, cut and changed. The files in `testdata` say where each is from.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::vec::Vec;
use std::{format, vec};

use crate::Tpm;
use crate::commands::*;
use crate::session::Auth;
use crate::template::AK_P256;
use crate::testdata;
use crate::transport::Transport;
use crate::types::*;
use crate::wire::{List, Malformed, Reader, Tpm2b, Why, Writer};

const FILES: [&str; 12] = [
    "golden.txt",
    "golden/attestation.txt",
    "golden/contexts.txt",
    "golden/hierarchies.txt",
    "golden/nv.txt",
    "golden/objects.txt",
    "golden/pcr.txt",
    "golden/policy.txt",
    "golden/primitives.txt",
    "golden/sequences.txt",
    "golden/start.txt",
    "golden/tools.txt",
];

pub(crate) struct Golden {
    pub(crate) title: &'static str,
    pub(crate) command: Vec<u8>,
    pub(crate) response: Vec<u8>,
}

/// All of them; none in a published package.
pub(crate) fn golden() -> Vec<Golden> {
    let files = FILES.iter().filter_map(|name| testdata::read(name));
    let lines = files.flat_map(str::lines);
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut all = Vec::new();
    while let Some(title) = lines.next() {
        let title = title.strip_prefix("= ").unwrap();
        let (_, provenance) = title.rsplit_once("; ").unwrap();
        assert!(["recorded from ", "sent by "].iter().any(|how| provenance.starts_with(how)));
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

pub(crate) fn code(message: &[u8]) -> u32 {
    u32::from_be_bytes(message[6..10].try_into().unwrap())
}

/// Authorizations of a command.
pub(crate) fn sessions(command: &[u8]) -> usize {
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

/// Reads a command as a TPM does and writes it again.
fn command_again<C: Command>(command: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut reader = Reader::new(command);
    let mut octets = vec![0; 4096];
    let mut writer = Writer::new(&mut octets);
    let tag: Structure = reader.read("tag")?;
    let size: u32 = reader.read("size")?;
    let code: CommandCode = reader.read("command code")?;
    if size as usize != command.len() || code != C::INFO.code {
        return Err(Malformed::new(Why::Unexpected, 2));
    }
    writer.write(&tag).unwrap();
    writer.write(&size).unwrap();
    writer.write(&code).unwrap();
    let handles = reader.take(4 * C::INFO.handles.len())?;
    let mut area = Reader::new(&[]);
    if tag == Structure::SESSIONS {
        let size: u32 = reader.read("authorizationSize")?;
        area = reader.sub(size as usize)?;
    } else if tag != Structure::NO_SESSIONS {
        return Err(Malformed::new(Why::Unexpected, 0));
    }
    let authorizations = area.peek();
    while !area.peek().is_empty() {
        area.read::<Handle>("session")?;
        authorization(&mut area)?;
    }
    let command = Reader::all(reader.take_rest(), |parameters| {
        C::unmarshal(&mut Reader::new(handles), parameters)
    })?;
    command.marshal_handles(&mut writer).unwrap();
    if tag == Structure::SESSIONS {
        writer.write(&u32::try_from(authorizations.len()).unwrap()).unwrap();
        writer.put(authorizations).unwrap();
    }
    command.marshal_parameters(&mut writer).unwrap();
    Ok(writer.into_written().to_vec())
}

/// One of the two messages of an exchange.
#[derive(Clone, Copy, Debug)]
enum Side {
    Command,
    Answer,
}

impl Golden {
    /// Its two messages.
    fn sides(&self) -> [(Side, &[u8]); 2] {
        [(Side::Command, &self.command), (Side::Answer, &self.response)]
    }

    /// Reads something in the place of one of its messages, and writes it again.
    fn again(&self, side: Side, message: &[u8]) -> Result<Vec<u8>, Malformed> {
        struct Again<'a>(Side, &'a [u8], usize);

        impl Visitor for Again<'_> {
            type Output = Result<Vec<u8>, Malformed>;

            fn visit<C: Command>(self) -> Self::Output {
                match self.0 {
                    Side::Command => command_again::<C>(self.1),
                    Side::Answer => again::<C>(self.1, self.2),
                }
            }
        }

        let visitor = Again(side, message, sessions(&self.command));
        visit(CommandCode(code(&self.command)), visitor).expect("a known command")
    }
}

#[test]
fn every_message_is_read_and_written_again_to_the_same_octets() {
    let golden = golden();
    if golden.is_empty() {
        return;
    }
    assert!(golden.len() >= 400, "{}", golden.len());
    let (mut commands, mut refusals) = (BTreeSet::new(), 0);
    for exchange in &golden {
        let title = exchange.title;
        for (side, message) in exchange.sides() {
            let written = exchange.again(side, message);
            let written = written.unwrap_or_else(|e| panic!("{title}, {side:?}: {e}"));
            assert_eq!(written, message, "{title}, {side:?}");
        }
        commands.insert(code(&exchange.command));
        refusals += usize::from(code(&exchange.response) != 0);
    }
    assert!(commands.len() >= 109, "{} commands", commands.len());
    assert!(refusals >= 10);
}

#[test]
fn every_truncated_message_is_refused_also_with_its_sizes_put_right() {
    let sized = |mut message: Vec<u8>| {
        let size = message.len() as u32;
        message[2..6].copy_from_slice(&size.to_be_bytes());
        message
    };
    for exchange in golden() {
        let title = exchange.title;
        for (side, message) in exchange.sides() {
            let refused = |message: &[u8]| exchange.again(side, message).is_err();
            for len in 0..message.len() {
                assert!(refused(&message[..len]), "{title}, {side:?}, {len} octets");
                if len >= 10 {
                    let shorter = sized(message[..len].to_vec());
                    assert!(refused(&shorter), "{title}, {side:?}, {len} octets, sized");
                }
            }
            for more in [1, 7] {
                let mut longer = message.to_vec();
                longer.resize(message.len() + more, 0);
                assert!(refused(&longer), "{title}, {side:?}, {more} more");
                assert!(refused(&sized(longer)), "{title}, {side:?}, {more} more, sized");
            }
        }
    }
}

/// Whatever is still read is written again to the octets it was read from: nothing is lost or made up on the way.
#[test]
fn every_changed_octet_is_refused_or_kept() {
    for exchange in golden() {
        let title = exchange.title;
        for (side, message) in exchange.sides() {
            for at in 0..message.len() {
                for mask in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
                    let mut changed = message.to_vec();
                    changed[at] ^= mask;
                    if let Ok(written) = exchange.again(side, &changed) {
                        assert_eq!(written, changed, "{title}, {side:?}, {at} ^ {mask:#04x}");
                    }
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
    type Error = io::Error;

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
        nonce_caller: Nonce::from(&[0; 16]),
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
    let mut signing_key = AK_P256.with_attributes(ObjectAttributes(0x0004_0472));
    if let Id::Ecc(ecc) = &mut signing_key.id {
        ecc.unique = EccPoint { x: EccParameter::from(&unique), y: EccParameter::from(&[0; 32]) };
    }
    let create = CreatePrimary {
        primary_handle: Hierarchy::Owner,
        in_sensitive: Tpm2b(SensitiveCreate::EMPTY),
        in_public: Tpm2b(signing_key),
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
