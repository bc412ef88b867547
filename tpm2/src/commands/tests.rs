use std::format;
use std::string::ToString;
use std::vec::Vec;

use super::*;
use crate::types::*;
use crate::wire::{List, Tpm2b};

#[test]
fn the_table_is_in_order_and_has_no_code_twice() {
    assert!(COMMANDS.windows(2).all(|pair| pair[0].code < pair[1].code));
    assert!(COMMANDS.iter().all(|info| by_code(info.code).map(|it| it.name) == Some(info.name)));
    assert!(by_code(CommandCode(0x123)).is_none());
}

/// A command is read as it was written, but for the Names of its entities, which are not on the wire.
#[test]
fn a_command_is_read_as_it_was_written() {
    let index = NvIndex::named(Handle(0x0180_0001), NameBuf::new(&[7; 34]).unwrap());
    let command = NvCertify {
        sign_handle: None,
        auth_handle: NvAuth::Index(index),
        nv_index: index,
        qualifying_data: Data::new(b"nonce").unwrap(),
        in_scheme: AsymScheme::Null,
        size: 8,
        offset: 0,
    };
    let (handles, parameters) = written(&command);
    assert_eq!(handles, [0x40, 0, 0, 7, 1, 0x80, 0, 1, 1, 0x80, 0, 1]);
    let read = NvCertify::unmarshal(&mut Reader::new(&handles), &mut Reader::new(&parameters));
    let read = read.unwrap();
    assert_eq!(read.nv_index, NvIndex::unnamed(Handle(0x0180_0001)));
    assert_eq!((read.sign_handle, read.size), (None, 8));
    assert_eq!(written(&read), (handles, parameters));
}

#[test]
fn a_command_with_a_handle_of_another_kind_is_refused() {
    let parameters = [0; 4];
    for (handle, good) in [(0x8000_0000, true), (0x8100_0000, true), (0x0100_0000, false)] {
        let handles = u32::to_be_bytes(handle);
        let read = Unseal::unmarshal(&mut Reader::new(&handles), &mut Reader::new(&parameters));
        assert_eq!(read.is_ok(), good, "{handle:#x}");
    }
    let handles = [0x40, 0, 0, 1];
    let error = ChangeEps::unmarshal(&mut Reader::new(&handles), &mut Reader::new(&[]));
    assert_eq!(
        error.unwrap_err().to_string(),
        "ChangeEps.auth_handle at octet 0: has a value that the specification does not allow"
    );
}

fn written(command: &impl Command) -> (Vec<u8>, Vec<u8>) {
    let (mut handles, mut parameters) = ([0; 64], [0; 4096]);
    let mut writer = Writer::new(&mut handles);
    command.marshal_handles(&mut writer).unwrap();
    let handles = writer.into_written().to_vec();
    let mut writer = Writer::new(&mut parameters);
    command.marshal_parameters(&mut writer).unwrap();
    (handles, writer.into_written().to_vec())
}

/// What a session would hide on the bus is not in a log either.
#[test]
fn nothing_that_a_session_would_hide_is_shown() {
    let random = GetRandomResponse { random_bytes: Digest::new(&[0xa5; 4]).unwrap() };
    assert_eq!(format!("{random:?}"), "GetRandomResponse { random_bytes: .. }");
    let key_handle = Object::unnamed(Handle(0x8000_0000));
    let encrypt = EncryptDecrypt {
        key_handle,
        decrypt: false,
        mode: Alg::CFB,
        iv_in: Iv::new(&[0x11; 2]).unwrap(),
        in_data: MaxBuffer::new(&[0xa5; 4]).unwrap(),
    };
    let shown = format!("{encrypt:?}");
    assert!(shown.contains("iv_in: Iv(1111)") && shown.contains("MaxBuffer(4 octets)"), "{shown}");
    let scalar = PrivateKeyEcc::new(&[0xa5; 32]).unwrap();
    let load = LoadExternal {
        in_private: Some(Tpm2b(Sensitive::of(SensitiveSecret::Ecc(scalar)))),
        in_public: Tpm2b(crate::template::join_key(&[0; 32])),
        hierarchy: Hierarchy::Null,
    };
    assert!(!format!("{load:?}").contains("a5"));
    assert!(!format!("{:?}", load.in_private).contains("a5"));
}

/// By its code alone a command is found with its type.
#[test]
fn a_visitor_meets_the_command_with_the_code() {
    struct Name;

    impl Visitor for Name {
        type Output = &'static str;

        fn visit<C: Command>(self) -> &'static str {
            C::INFO.name
        }
    }

    for info in COMMANDS {
        assert_eq!(visit(info.code, Name), Some(info.name));
    }
    assert_eq!(visit(CommandCode(0x123), Name), None);
}

#[test]
fn a_list_that_is_longer_than_the_specification_allows_is_not_sent() {
    let digests = [Digest::EMPTY; 9];
    let or = |count: usize| PolicyOr {
        policy_session: SessionHandle::from_handle(Handle(0x0300_0000)).unwrap(),
        p_hash_list: List::new(&digests[..count]),
    };
    let mut buffer = [0; 64];
    assert!(or(8).marshal_parameters(&mut Writer::new(&mut buffer)).is_ok());
    assert_eq!(or(9).marshal_parameters(&mut Writer::new(&mut buffer)), Err(TooLarge));
}
