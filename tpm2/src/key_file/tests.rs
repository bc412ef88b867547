use std::string::ToString;
use std::vec;

use super::*;
use crate::crypto::tests::hex;
use crate::types::{CommandCode, EccParameter, EccPoint, EccPublic, Id};

fn public(x: &[u8; 32]) -> Public<'_> {
    let Id::Ecc(ecc) = crate::template::SRK_P256.id else { panic!("ECC") };
    let coordinate = EccParameter::new(x).unwrap();
    let unique = EccPoint { x: coordinate, y: coordinate };
    Public { id: Id::Ecc(EccPublic { unique, ..ecc }), ..crate::template::SRK_P256 }
}

fn seed() -> Seed {
    EncryptedSecret::new(&[9; 68]).unwrap().try_into().unwrap()
}

/// Everything that a file can have.
fn full() -> KeyFile {
    let steps = vec![
        PolicyStep { command: CommandCode(0x17f), parameters: vec![1, 2, 3] },
        PolicyStep { command: CommandCode(0x16b), parameters: vec![] },
    ];
    let parent = KeyParent::Rsa2048(Handle::ENDORSEMENT);
    let file = KeyFile::new(Kind::Importable(seed()), parent, &public(&[7; 32]), &[5; 100]);
    KeyFile {
        auth: KeyAuth::Value,
        auth_policy: vec![
            SignedPolicy { name: Some("release".into()), steps: steps.clone() },
            SignedPolicy { name: None, steps: vec![] },
        ],
        policy: steps,
        description: Some("a key \u{1f511}".into()),
        ..file.unwrap()
    }
}

fn plain(kind: Kind, parent: KeyParent) -> KeyFile {
    KeyFile::new(kind, parent, &public(&[7; 32]), &[5; 4]).unwrap()
}

#[test]
fn the_octets_are_those_of_the_asn1_module() {
    let file = plain(Kind::Loadable, KeyParent::Persistent(Handle(0x8100_0001)));
    let public: std::string::String =
        file.public.iter().map(|octet| std::format!("{octet:02x}")).collect();
    let expected = std::format!(
        "30 7a  06 06 6781050a0103  a0 03 01 01 ff  02 05 0081000001  04 5c {public} 04 06 0004 05050505"
    );
    assert_eq!(file.to_der().unwrap(), hex(&expected));
    assert_eq!(file.private(), [5; 4]);
    assert_eq!(file.public(), super::tests::public(&[7; 32]));
}

#[test]
fn what_is_written_is_read() {
    let owner = KeyParent::P256(Handle::OWNER);
    for file in [
        full(),
        plain(Kind::Loadable, owner),
        plain(Kind::Sealed, KeyParent::Rsa2048(Handle::NULL)),
        plain(Kind::ImportableSealed(seed()), KeyParent::Persistent(Handle(0x81ff_ffff))),
    ] {
        assert_eq!(KeyFile::from_der(&file.to_der().unwrap()), Ok(file.clone()));
        let text = file.to_pem().unwrap();
        assert!(text.starts_with("-----BEGIN TSS2 PRIVATE KEY-----\n"), "{text}");
        assert_eq!(KeyFile::from_pem(&text), Ok(file.clone()));
        let explained = std::format!("made by hand\n{}", text.replace('\n', "\r\n"));
        assert_eq!(KeyFile::from_pem(&explained), Ok(file));
    }
    let Kind::Importable(seed) = full().kind else { panic!("importable") };
    assert_eq!(seed.secret().octets(), [9; 68]);
}

#[test]
fn openssl_writes_true_as_one_and_no_parent_for_the_owner() {
    let file = plain(Kind::Loadable, KeyParent::P256(Handle::OWNER));
    let mut der = file.to_der().unwrap();
    let at = der.windows(3).position(|octets| octets == [1, 1, 0xff]).unwrap();
    der[at + 2] = 0x01;
    assert_eq!(KeyFile::from_der(&der), Ok(file.clone()));
    der[at + 2] = 0x00;
    assert_eq!(KeyFile::from_der(&der).unwrap().auth, KeyAuth::Value);
    der[at + 2] = 0x02;
    assert!(matches!(KeyFile::from_der(&der), Err(KeyFileError::Der(_))));
    let zero = KeyFile { parent: KeyParent::Persistent(Handle(0)), ..file.clone() };
    assert_eq!(KeyFile::from_der(&zero.to_der().unwrap()), Ok(file));
}

/// As a program writes it whose integers have 32 bits.
#[test]
fn a_parent_with_a_sign_is_its_handle() {
    let file = plain(Kind::Loadable, KeyParent::Persistent(Handle(0x8100_0001)));
    let der = file.to_der().unwrap();
    let at = der.windows(3).position(|octets| octets == [2, 5, 0]).unwrap();
    let mut signed = [&der[..at], &[2, 4], &der[at + 3..]].concat();
    signed[1] -= 1;
    assert_eq!(KeyFile::from_der(&signed), Ok(file));
}

/// Version 185 of the library has hierarchies that end with the firmware, or with its security version.
#[test]
fn parent_may_be_any_hierarchy_that_a_primary_key_can_be_made_in() {
    for handle in [0x4000_0001, 0x4000_0140, 0x4000_0141, 0x4000_0143, 0x4001_0007, 0x4004_ffff] {
        for parent in [KeyParent::P256(Handle(handle)), KeyParent::Rsa2048(Handle(handle))] {
            let file = plain(Kind::Loadable, parent);
            assert_eq!(KeyFile::from_der(&file.to_der().unwrap()), Ok(file), "{handle:#x}");
        }
    }
}

#[test]
fn key_files_that_cannot_be_loaded_are_refused_with_a_reason() {
    let refused = |file: KeyFile| KeyFile::from_der(&file.to_der().unwrap()).unwrap_err();
    let good = || plain(Kind::Loadable, KeyParent::P256(Handle::OWNER));
    for handle in [0x8000_0001, 0x4000_000a, 0x4000_0144, 0x0100_0000, 0x8200_0000, 0xffff_ffff] {
        let file = KeyFile { parent: KeyParent::Persistent(Handle(handle)), ..good() };
        assert_eq!(refused(file), KeyFileError::Parent, "{handle:#x}");
    }
    let part = |file| {
        let KeyFileError::Part(malformed) = refused(file) else { panic!("another reason") };
        malformed.what()
    };
    let mut longer = good();
    longer.public.push(0);
    assert_eq!(part(longer), "TPMKey.pubkey");
    for private in [vec![], vec![0, 3, 1, 1], vec![0, 1, 1, 1], vec![0xff; 2]] {
        assert_eq!(part(KeyFile { private, ..good() }), "TPMKey.privkey");
    }
    let kind = Kind::Importable(Seed(vec![0, 2, 1]));
    assert_eq!(part(KeyFile { kind, ..good() }), "TPMKey.secret");
    let step = PolicyStep { command: CommandCode(0x16b), parameters: vec![] };
    let file = KeyFile { policy: vec![step; MAX_STEPS + 1], ..good() };
    assert_eq!(refused(file), KeyFileError::Steps);

    let mut der = plain(Kind::Importable(seed()), KeyParent::P256(Handle::OWNER)).to_der().unwrap();
    let kind = der.windows(3).position(|octets| octets == [10, 1, 4]).unwrap() + 2;
    der[kind] = 3;
    assert_eq!(KeyFile::from_der(&der), Err(KeyFileError::Seed));
    der[kind] = 6;
    let unknown = KeyFile::from_der(&der).unwrap_err().to_string();
    assert_eq!(unknown, "a key file of unknown type 2.23.133.10.1.6");
}

#[test]
fn texts_that_are_no_key_file() {
    let text = full().to_pem().unwrap();
    let other = text.replace("TSS2 PRIVATE KEY", "EC PRIVATE KEY");
    assert_eq!(KeyFile::from_pem(&other), Err(KeyFileError::Label));
    for text in ["", "a text\n"] {
        let error = KeyFile::from_pem(text).unwrap_err();
        assert_eq!(error, KeyFileError::NoPem);
        let message = "no PEM block: a key file begins with -----BEGIN TSS2 PRIVATE KEY-----";
        assert_eq!(std::format!("{error:#}"), message);
    }
    let damaged = full().to_pem().unwrap().replace("-----END", "--!--END");
    assert!(matches!(KeyFile::from_pem(&damaged), Err(KeyFileError::Pem(_))));
    let long = "x".repeat(MAX_FILE + 1);
    assert_eq!(KeyFile::from_pem(&long), Err(KeyFileError::TooLong));
    assert_eq!(KeyFile::from_der(long.as_bytes()), Err(KeyFileError::TooLong));
}

#[test]
fn every_truncation_is_refused_and_every_change_of_an_octet_is_harmless() {
    let original = full().to_der().unwrap();
    for end in 0..original.len() {
        assert!(KeyFile::from_der(&original[..end]).is_err(), "{end}");
    }
    let longer = [&original[..], &[0]].concat();
    assert!(KeyFile::from_der(&longer).is_err());
    for position in 0..original.len() {
        for flip in [0x01, 0x02, 0x04, 0x10, 0x20, 0x80, 0xff] {
            let mut der = original.clone();
            der[position] ^= flip;
            if let Ok(file) = KeyFile::from_der(&der) {
                let again = KeyFile::from_der(&file.to_der().unwrap());
                assert_eq!(again.as_ref(), Ok(&file), "{position} ^ {flip:#x}");
                let _ = (file.public(), file.private());
            }
        }
    }
}
