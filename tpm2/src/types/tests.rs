mod constants;
mod structures;

use std::collections::HashSet;
use std::string::ToString;
use std::vec::Vec;

use super::*;

#[test]
fn no_two_response_codes_are_the_same_and_each_has_its_name() {
    let distinct: HashSet<u32> = ResponseCode::ALL.iter().map(|(_, code)| code.0).collect();
    assert_eq!(distinct.len(), ResponseCode::ALL.len());
    for (name, code) in ResponseCode::ALL {
        assert_eq!(code.name(), Some(*name), "{:#x}", code.0);
        assert_eq!(code.base(), *code, "{name}");
    }
}

/// Format zero is 0x100 and up, warnings 0x900 and up, format one 0x080 to 0x0bf: a code that someone copied from the
/// wrong base stands out.
#[test]
fn every_response_code_is_in_a_range_of_part_2() {
    for (name, code) in ResponseCode::ALL {
        let known = matches!(code.0, 0 | 0x01e | 0x081..=0x0b1 | 0x100..=0x156 | 0x901..=0x923);
        assert!(known, "{name} {:#x}", code.0);
    }
    assert_eq!(ResponseCode::SEQUENCE.0, 0x103);
    assert_eq!(ResponseCode::AUTH_MISSING.0, 0x125);
    assert_eq!(ResponseCode::CURVE.0, 0x0a6);
}

#[test]
fn response_code_subjects_are_distinguished() {
    assert_eq!(ResponseCode(0x2c2).subject(), Subject::Parameter(2));
    assert_eq!(ResponseCode(0x2c2).base(), ResponseCode::ATTRIBUTES);
    assert_eq!(ResponseCode(0x18b).subject(), Subject::Handle(1));
    assert_eq!(ResponseCode(0x18b).base(), ResponseCode::HANDLE);
    assert_eq!(ResponseCode(0x9a2).subject(), Subject::Session(1));
    assert_eq!(ResponseCode(0xa9d).subject(), Subject::Session(2));
    assert_eq!(ResponseCode(0xa9d).base(), ResponseCode::POLICY_FAIL);
    assert_eq!(ResponseCode(0xfc2).subject(), Subject::Parameter(15));
    assert_eq!(ResponseCode(0x921).subject(), Subject::Command);
}

/// Every number decodes, vendor codes and software layers included.
#[test]
fn every_number_is_said_in_words() {
    for code in (0..=0x1fff).chain([0x000b_0143, 0x0007_0001, 0x0009_0010, u32::MAX]) {
        let code = ResponseCode(code);
        assert!(!code.to_string().is_empty() && !code.meaning().is_empty());
        let _ = (code.base(), code.subject(), code.is_retry(), code.advice());
    }
    assert_eq!(
        ResponseCode(0x000b_0143).to_string(),
        "TPM_RC_COMMAND_CODE (0xb0143) from the kernel's resource manager"
    );
    assert_eq!(ResponseCode(0x0000_0555).to_string(), "vendor response code 0x555");
}

#[test]
fn only_what_did_not_execute_is_sent_again() {
    let retried: Vec<_> = ResponseCode::ALL
        .iter()
        .filter(|(_, code)| code.is_retry())
        .map(|(name, _)| *name)
        .collect();
    assert_eq!(retried, ["YIELDED", "TESTING", "RETRY"]);
}

/// Some TPMs answer so to one command and execute the next.
#[test]
fn failure_of_one_command_is_not_called_failure_mode() {
    let meaning = ResponseCode::FAILURE.meaning();
    assert!(meaning.starts_with("the TPM failed; if"), "{meaning}");
}

#[test]
fn numbers_and_entities_are_shown_by_the_names_of_the_specification() {
    assert_eq!(Alg::SHA256.to_string(), "TPM_ALG_SHA256");
    assert_eq!(Property::MANUFACTURER.to_string(), "TPM_PT_MANUFACTURER");
    assert_eq!(Curve(0x7777).to_string(), "0x7777");
    assert_eq!(Handle::PASSWORD.to_string(), "TPM_RS_PW");
    assert_eq!(Handle(0x8101_0001).to_string(), "0x81010001");
    assert_eq!(Hierarchy::Endorsement.to_string(), "TPM_RH_ENDORSEMENT");
    assert_eq!(NvAuth::Index(NvIndex::unnamed(Handle(0x01c0_0002))).to_string(), "0x01c00002");
}
