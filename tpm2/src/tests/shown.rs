//! What errors and `Debug` show, and what they must not.

use std::error::Error as StdError;
use std::path::Path;
use std::string::ToString;
use std::vec::Vec;
use std::{format, fs, io, iter, vec};

use crate::commands::{Clear, Command, GetRandom, frame};
use crate::crypto::{Credential, PolicyError, SharingError};
use crate::error::{Error, Fault};
use crate::key_file::KeyFile;
use crate::object::Wrapped;
use crate::transport::{Exchange, Tcti};
use crate::types::{
    AuthValue, ClearAuth, EncryptedSecret, IdObject, NvAttributes, NvType, ResponseCode,
};
use crate::wire::{Malformed, TooLong, Why};

#[test]
fn debug_of_an_error_has_the_message_and_the_advice_and_the_cause_is_its_source() {
    const ENOMEM: i32 = 12;
    let cause = io::Error::from_raw_os_error(ENOMEM);
    let error: Error = Error::on_the_way(GetRandom::INFO.code, cause);
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.and_then(io::Error::raw_os_error), Some(ENOMEM));
    assert_eq!(format!("{error:?}"), format!("{error:#} ({})", error.advice().unwrap()));
}

/// `{}` of an error and of its sources, joined, is `{:#}` of the error: what reporters print has nothing twice.
#[test]
fn message_of_an_error_does_not_repeat_that_of_its_source() {
    fn check(error: &dyn StdError) {
        let chain = iter::successors(Some(error), |&error| error.source());
        let chain: Vec<_> = chain.map(|error| format!("{error}")).collect();
        assert_eq!(chain.len(), 2, "{chain:?}");
        assert!(!chain[0].contains(&chain[1]), "{chain:?}");
        assert_eq!(format!("{error:#}"), chain.join(": "));
    }
    let faults = || {
        [
            Malformed::new(Why::Truncated, 3).into(),
            TooLong { what: "Data", given: 67, limit: 66 }.into(),
            Fault::Policy(PolicyError::Unnamed),
            Fault::Salt(SharingError::KeyType),
        ]
    };
    faults().iter().for_each(|fault| check(fault));
    for fault in faults() {
        check(&Error::<io::Error>::new(GetRandom::INFO.code, fault));
    }
    check(&Error::on_the_way(GetRandom::INFO.code, io::Error::other("a cable")));
    check(&Tcti::Device("/nonexistent".into()).open().err().unwrap());
    check(&crate::Tpm::open("device:/nonexistent").err().unwrap());
    check(&KeyFile::from_der(&[0x30]).unwrap_err());
    check(&KeyFile::from_pem("-----BEGIN TSS2 PRIVATE KEY-----").unwrap_err());
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

#[test]
fn debug_of_nv_attributes_names_the_kind_of_index() {
    let counter = NvAttributes::AUTHREAD.with_type(NvType::COUNTER);
    assert_eq!(format!("{counter:?}"), "NvAttributes(0x40010 COUNTER AUTHREAD)");
}

#[test]
fn address_that_cannot_be_understood_has_every_notation_in_its_error() {
    let error = "dev/tpm0".parse::<Tcti>().unwrap_err().to_string();
    for notation in ["device:/", "swtpm:path=", "swtpm:host=", "mssim:host=", "cmd:"] {
        assert!(error.contains(notation), "{error}");
    }
}

#[test]
fn refusal_of_a_scheme_has_advice() {
    assert!(ResponseCode::SCHEME.advice().unwrap().contains("null scheme"));
}

#[test]
fn received_credential_that_is_too_long_is_told_from_a_secret_that_is() {
    let secret = EncryptedSecret::from(&[7; 513]);
    let error = Credential::new(IdObject::EMPTY, secret).unwrap_err();
    assert_eq!(error, TooLong { what: "Credential.secret", given: 513, limit: 512 });
}

/// What a number means stands above each: its name and value alone say too little.
#[test]
fn bits_and_properties_are_documented_by_what_they_mean() {
    const BITS: &str = include_str!("../types/attribute.rs");
    const NUMBERS: &str = include_str!("../types/number.rs");
    let properties = NUMBERS.lines().skip_while(|line| !line.contains("Property: u32 {"));
    let properties = properties.take_while(|line| *line != "    }");
    for lines in [BITS.lines().collect::<Vec<_>>(), properties.collect()] {
        let is_constant = |line: &str| line.starts_with("        \"TPM");
        let constants = lines.windows(2).filter(|pair| is_constant(pair[1]));
        let bare: Vec<_> = constants.filter(|pair| !pair[0].starts_with("        /// ")).collect();
        assert!(bare.is_empty(), "{bare:?}");
        assert!(lines.iter().filter(|line| is_constant(line)).count() > 70);
    }
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
