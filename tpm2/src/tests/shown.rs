//! What errors and `Debug` show, and what they must not.

use std::error::Error as _;
use std::path::Path;
use std::{format, fs, io, vec};

use crate::commands::{Clear, Command, GetRandom, frame};
use crate::error::Error;
use crate::object::Wrapped;
use crate::transport::Exchange;
use crate::types::{AuthValue, ClearAuth};

#[test]
fn debug_of_an_error_has_the_message_and_the_advice_and_the_cause_is_its_source() {
    const ENOMEM: i32 = 12;
    let cause = io::Error::from_raw_os_error(ENOMEM);
    let error: Error = Error::on_the_way(GetRandom::INFO.code, cause);
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.and_then(io::Error::raw_os_error), Some(ENOMEM));
    assert_eq!(format!("{error:?}"), format!("{error} ({})", error.advice().unwrap()));
}

#[test]
fn debug_of_an_exchange_shows_its_values_and_no_password() {
    let mut buffer = [0; 64];
    let command = Clear { auth_handle: ClearAuth::Lockout };
    let len = frame::marshal(&command, [AuthValue::from(b"PIN")], &mut buffer).unwrap();
    let response = vec![0x80, 1, 0, 0, 0, 10, 0, 0, 9, 0x8e];
    let shown = format!("{:?}", Exchange { command: buffer[..len].to_vec(), response });
    assert!(shown.starts_with("TPM2_Clear: Clear { auth_handle: Lockout }"), "{shown}");
    for secret in ["PIN", "80, 73, 78", "50494e"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn debug_of_a_list_is_hexadecimal() {
    let wrapped = Wrapped { public: vec![0, 0x23, 0xab].into(), private: vec![1, 2].into() };
    assert_eq!(format!("{wrapped:?}"), "Wrapped { public: 0023ab, .. }");
}

/// The library serves other programs than the one it was written for: its advice must not name that one.
#[test]
fn sources_name_no_program_of_this_project() {
    fn check(directory: &Path) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                check(&path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap().to_lowercase();
                assert!(!text.contains(concat!("ag", "ent")), "{}", path.display());
            }
        }
    }
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
}
