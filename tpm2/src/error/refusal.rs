//! What a refusal means for the command that was refused, where the code alone says too little or something else.

use crate::commands::{
    Command, PolicyAuthorize, PolicyCapability, PolicyCounterTimer, PolicyNv, PolicyOr, PolicyPcr,
    PolicySecret, PolicySigned, StartAuthSession, by_code,
};
use crate::types::{CommandCode, ResponseCode, Subject};

pub(super) fn meaning(command: CommandCode, code: ResponseCode) -> &'static str {
    let named = MEANINGS.iter().find(|(other, base, _)| (*other, *base) == (command, code.base()));
    match Cause::of(command, code) {
        Cause::Salt => {
            "the session's HMAC is wrong: the TPM does not hold the key that the session is salted \
             to, or the entity that it is bound to has another authorization value"
        }
        Cause::EncryptedSalt => {
            "the key at the handle cannot decrypt the salt: it is not the key whose public area was given"
        }
        Cause::IndexName => {
            "the authorization value is wrong, or the Name is out of date: it changes when the \
             index is first written, and when it is locked"
        }
        Cause::Code => named.map_or(code.meaning(), |(_, _, meaning)| meaning),
    }
}

pub(super) fn advice(command: CommandCode, code: ResponseCode) -> Option<&'static str> {
    match Cause::of(command, code) {
        Cause::Salt | Cause::EncryptedSalt => {
            Some("compare the key in the TPM with the public area that the session was salted with")
        }
        Cause::IndexName => Some("check the authorization value, or read the public area again"),
        Cause::Code => code.advice(),
    }
}

/// Part 3 §11.1 and §23.
const MEANINGS: &[(CommandCode, ResponseCode, &str)] = &[
    (PolicyNv::INFO.code, ResponseCode::POLICY, "the comparison is false"),
    (PolicyCounterTimer::INFO.code, ResponseCode::POLICY, "the comparison is false"),
    (PolicyCapability::INFO.code, ResponseCode::POLICY, "the comparison is false"),
    (PolicyOr::INFO.code, ResponseCode::VALUE, "the session's policy digest is none of these"),
    (PolicyPcr::INFO.code, ResponseCode::VALUE, "the PCRs have other values"),
    (
        PolicyAuthorize::INFO.code,
        ResponseCode::VALUE,
        "the session's policy digest is not the approved one",
    ),
    (PolicySigned::INFO.code, ResponseCode::NONCE, "the nonce is not the session's"),
    (PolicySecret::INFO.code, ResponseCode::NONCE, "the nonce is not the session's"),
];

/// What a refusal is due to.
enum Cause {
    /// What the code says.
    Code,
    /// The HMAC of a session that authorizes nothing: its key is made of salt and bound value alone.
    Salt,
    /// The salt in StartAuthSession.
    EncryptedSalt,
    /// An HMAC that covers the Name of an NV index.
    IndexName,
}

impl Cause {
    fn of(command: CommandCode, code: ResponseCode) -> Self {
        let wrong_hmac = matches!(code.base(), ResponseCode::BAD_AUTH | ResponseCode::AUTH_FAIL);
        let Some(info) = by_code(command) else { return Self::Code };
        match code.subject() {
            Subject::Parameter(2) if command == StartAuthSession::INFO.code => Self::EncryptedSalt,
            Subject::Session(n) if wrong_hmac && usize::from(n) > info.authorizations => Self::Salt,
            Subject::Session(_) if wrong_hmac && info.handles.contains(&"nv_index") => {
                Self::IndexName
            }
            _ => Self::Code,
        }
    }
}
