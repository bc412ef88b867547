//! Bytes that no honest peer sends. All positions and values come from fixed seeds.

use std::slice::from_ref;
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use super::pki::{Kind, Pki};
use super::{deliver, flight};
use crate::{ServerTrust, authority_name, client_config, server_config};

/// SplitMix64 (Steele, Lea, Flood 2014): the same sequence on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }
}

struct Ends {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Ends {
    fn new() -> Self {
        // Ed25519: the cheapest handshake.
        let pki = Pki::new(Kind::Ed25519);
        let trust = ServerTrust::Pins(vec![pki.pin()]);
        Self {
            client: client_config(&trust, Some(pki.bot_identity())).unwrap(),
            server: server_config(pki.authority_identity(), from_ref(&pki.ca)).unwrap(),
        }
    }

    fn connections(&self) -> (ClientConnection, ServerConnection) {
        let client = ClientConnection::new(self.client.clone(), authority_name()).unwrap();
        (client, ServerConnection::new(self.server.clone()).unwrap())
    }

    /// A handshake of which one flight passes through `spoil`. Whether both ends came to trust
    /// each other, and whether one of them said why not.
    fn handshake(&self, spoiled: usize, spoil: impl FnOnce(&mut Vec<u8>)) -> (bool, bool) {
        let (mut client, mut server) = self.connections();
        let mut spoil = Some(spoil);
        let mut pass = |number: usize, mut bytes: Vec<u8>| {
            if number == spoiled {
                spoil.take().unwrap()(&mut bytes);
            }
            bytes
        };
        let outcome = deliver(&pass(0, flight(&mut client)), &mut server)
            .and_then(|()| deliver(&pass(1, flight(&mut server)), &mut client))
            .and_then(|()| deliver(&pass(2, flight(&mut client)), &mut server));
        let done = !client.is_handshaking() && !server.is_handshaking();
        (done, outcome.is_err())
    }
}

/// Where each record of a flight begins, and how long it is with its header.
fn records(flight: &[u8]) -> Vec<(usize, usize)> {
    let mut records = Vec::new();
    let mut start = 0;
    while let Some(&[_, _, _, high, low]) = flight.get(start..start + 5) {
        let length = 5 + usize::from(u16::from_be_bytes([high, low]));
        records.push((start, length));
        start += length;
    }
    assert_eq!(start, flight.len());
    records
}

/// Takes the last byte off record `number`, and from its length.
fn shorten(flight: &mut Vec<u8>, number: usize) {
    let (start, length) = records(flight)[number];
    flight.remove(start + length - 1);
    let shorter = u16::try_from(length - 5 - 1).unwrap().to_be_bytes();
    flight[start + 3..start + 5].copy_from_slice(&shorter);
}

/// What a passer-by may change without harm: the content of a dummy change_cipher_spec record is
/// the only thing that is neither in the transcript nor authenticated, besides the version in a
/// record's header, which "MUST be ignored for all purposes" (RFC 8446 section 5.1).
fn is_immaterial(flight: &[u8], position: usize) -> bool {
    records(flight).into_iter().any(|(start, length)| {
        let version = start + 1..start + 3;
        let dummy = flight[start] == 0x14 && (start..start + length).contains(&position);
        version.contains(&position) || dummy
    })
}

#[test]
fn the_undisturbed_handshake_succeeds() {
    for number in 0..4 {
        assert_eq!(Ends::new().handshake(number, |_| ()), (true, false));
    }
}

#[test]
fn a_changed_byte_ends_the_handshake() {
    let ends = Ends::new();
    let mut random = Random(1);
    for number in 0..3 {
        for _ in 0..150 {
            let (place, change) = (random.next(), random.below(255) + 1);
            let mut immaterial = false;
            let mut position = 0;
            let (done, refused) = ends.handshake(number, |flight| {
                position = usize::try_from(place).unwrap() % flight.len();
                immaterial = is_immaterial(flight, position);
                flight[position] ^= u8::try_from(change).unwrap();
            });
            // A length that has grown leaves the receiver waiting for the rest.
            assert!(!done || immaterial, "flight {number}, byte {position} ^ {change:#04x}");
            assert!(!(done && refused));
        }
    }
}

#[test]
fn every_record_shortened_by_a_byte_is_refused() {
    let ends = Ends::new();
    let mut seen = 0;
    for number in 0..3 {
        let mut record = 0;
        loop {
            let mut left = 0;
            let outcome = ends.handshake(number, |flight| {
                left = records(flight).len() - record;
                shorten(flight, record);
            });
            // Of the ClientHello, the rest may yet come in another record.
            assert_eq!(outcome, (false, number > 0), "flight {number}, record {record}");
            seen += 1;
            record += 1;
            if left == 1 {
                break;
            }
        }
    }
    // ClientHello; ServerHello, change_cipher_spec, one of ciphertext; the latter two again.
    assert_eq!(seen, 6);
}

#[test]
fn a_flight_cut_anywhere_completes_nothing() {
    let ends = Ends::new();
    let mut random = Random(2);
    for number in 0..3 {
        for _ in 0..60 {
            let place = random.next();
            let (done, _) = ends.handshake(number, |flight| {
                flight.truncate(usize::try_from(place).unwrap() % flight.len());
            });
            assert!(!done, "flight {number}");
        }
    }
}

#[test]
fn noise_is_refused_by_both_ends() {
    let ends = Ends::new();
    let mut random = Random(3);
    for _ in 0..2_000 {
        let length = random.below(400) + 1;
        let mut noise: Vec<u8> = (0..length).map(|_| random.next().to_be_bytes()[0]).collect();
        // Half of it under a plausible header, to get past the first look.
        if random.below(2) == 0 && length > 5 {
            let header = [0x14 + random.next().to_be_bytes()[0] % 4, 3, 3, 0, noise[4]];
            noise[..5].copy_from_slice(&header);
        }
        let (mut client, mut server) = ends.connections();
        let _ = deliver(&noise, &mut server);
        let _ = deliver(&noise, &mut client);
        assert!(client.is_handshaking() && server.is_handshaking());
    }
}

#[test]
fn application_data_is_authenticated() {
    use std::io::{Read, Write};
    let ends = Ends::new();
    let mut random = Random(4);
    for cut in [true, false] {
        for _ in 0..40 {
            let (mut client, mut server) = ends.connections();
            super::converse(&mut client, &mut server).unwrap();
            client.writer().write_all(b"a request that must arrive whole or not").unwrap();
            let mut record = flight(&mut client);
            if cut {
                shorten(&mut record, 0);
            } else {
                let position = 5 + random.below(record.len() - 5);
                record[position] ^= 1 << random.below(8);
            }
            let error = deliver(&record, &mut server).unwrap_err();
            assert_eq!(error, rustls::Error::DecryptError);
            let mut heard = Vec::new();
            assert!(server.reader().read_to_end(&mut heard).is_err());
            assert!(heard.is_empty());
        }
    }
}
