use std::format;
use std::string::ToString;
use std::vec::Vec;

use super::*;
use crate::types::*;
use crate::wire::List;

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
        qualifying_data: Data::from(b"nonce"),
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

/// Every exchange on record is annotated with its values, and nothing of it is called malformed.
#[cfg(feature = "std")]
#[test]
fn recorded_exchanges_are_shown_with_their_values() {
    let all = crate::tests::golden::golden();
    assert!(all.is_empty() || all.len() > 100);
    for golden in &all {
        let shown = frame::show(&golden.command, &golden.response).to_string();
        let info = by_code(CommandCode(crate::tests::golden::code(&golden.command))).unwrap();
        assert!(shown.starts_with(&format!("{}: ", info.name)), "{shown}");
        let answered = crate::tests::golden::code(&golden.response) == 0;
        let malformed = shown.contains("malformed");
        assert!(!malformed, "{}: {shown}", golden.title);
        assert_eq!(shown.contains("answer: TPM_RC_"), !answered, "{}: {shown}", golden.title);
        let sessions = crate::tests::golden::sessions(&golden.command);
        assert_eq!(
            shown.matches("\n  authorization ").count(),
            sessions * (1 + usize::from(answered))
        );
        for end in 0..golden.command.len() {
            let _ = frame::show(&golden.command[..end], &golden.response).to_string();
        }
        for end in 0..golden.response.len() {
            let _ = frame::show(&golden.command, &golden.response[..end]).to_string();
        }
    }
}

/// The value of a password, and of what a command sets, is in no annotation; what is encrypted is said to be so.
#[test]
fn secrets_of_a_command_are_not_shown() {
    let command = HierarchyChangeAuth {
        auth_handle: HierarchyAuth::Owner,
        new_auth: AuthValue::from(&[0xa5; 4]),
    };
    let mut buffer = [0; 64];
    let len = frame::marshal(&command, [AuthValue::from(&[0xb7; 5])], &mut buffer).unwrap();
    let answer = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x8e];
    let shown = frame::show(&buffer[..len], &answer).to_string();
    assert_eq!(
        shown,
        "TPM2_HierarchyChangeAuth: HierarchyChangeAuth { auth_handle: Owner, \
         new_auth: AuthValue(4 octets) }\n  \
         authorization 1: AuthCommand { session_handle: PASSWORD, nonce: Nonce(), \
         session_attributes: SessionAttributes(0x1 CONTINUE_SESSION), hmac: AuthValue(5 octets) }\n  \
         answer: TPM_RC_AUTH_FAIL (0x98e): the authorization value is wrong; the attempt was counted"
    );
    let question = frame::Question::split(&buffer[..len]).unwrap();
    assert_eq!(question.auths().count(), 1);
    assert!(!question.is_encrypted());
    assert!(!format!("{question:?}").contains("183"), "{question:?}");
}
