//! What a refusal means for the command that was refused, where the code alone says too little or something else.

use crate::commands::{
    Command, PolicyAuthorize, PolicyCapability, PolicyCounterTimer, PolicyNv, PolicyOr, PolicyPcr,
    PolicySecret, PolicySigned, StartAuthSession, by_code,
};
use crate::types::{CommandCode, ResponseCode, Subject};

pub(super) fn meaning(command: CommandCode, code: ResponseCode) -> &'static str {
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
        Cause::Condition(condition) => condition.meaning,
        Cause::Code => code.meaning(),
    }
}

pub(super) fn advice(command: CommandCode, code: ResponseCode) -> Option<&'static str> {
    match Cause::of(command, code) {
        Cause::Salt | Cause::EncryptedSalt => {
            Some("compare the key in the TPM with the public area that the session was salted with")
        }
        Cause::IndexName => Some("check the authorization value, or read the public area again"),
        Cause::Condition(condition) => Some(condition.advice),
        Cause::Code => code.advice(),
    }
}

/// What a policy command checks, and refuses with a code that says less.
struct Condition {
    command: CommandCode,
    code: ResponseCode,
    meaning: &'static str,
    advice: &'static str,
}

impl Condition {
    const fn of<C: Command>(
        code: ResponseCode,
        meaning: &'static str,
        advice: &'static str,
    ) -> Self {
        Self { command: C::INFO.code, code, meaning, advice }
    }

    const fn comparison<C: Command>(advice: &'static str) -> Self {
        Self::of::<C>(ResponseCode::POLICY, "the comparison is false", advice)
    }

    const fn nonce<C: Command>() -> Self {
        let meaning = "the nonce is not the session's";
        Self::of::<C>(
            ResponseCode::NONCE,
            meaning,
            "give the nonce that the session has now, or none",
        )
    }
}

/// Part 3 §11.1 and §23.
const CONDITIONS: &[Condition] = &[
    Condition::comparison::<PolicyNv<'_>>("read the NV index, and compare it with the operand"),
    Condition::comparison::<PolicyCounterTimer<'_>>(
        "read the clock, and compare it with the operand",
    ),
    Condition::comparison::<PolicyCapability<'_>>(
        "read the capability, and compare it with the operand",
    ),
    Condition::of::<PolicyOr<'_>>(
        ResponseCode::VALUE,
        "the session's policy digest is none of these",
        "run all steps of one branch before, and give the digests of all branches in their order",
    ),
    Condition::of::<PolicyPcr<'_>>(
        ResponseCode::VALUE,
        "the PCRs have other values",
        "read the PCRs, and compare them with the values that the policy was made for; after an update \
         of what they measure, make the policy again for the new values",
    ),
    Condition::of::<PolicyAuthorize<'_>>(
        ResponseCode::VALUE,
        "the session's policy digest is not the approved one",
        "run all steps of the approved policy before, and give the approval of this policy",
    ),
    Condition::nonce::<PolicySigned<'_>>(),
    Condition::of::<PolicySigned<'_>>(
        ResponseCode::SIGNATURE,
        "the signature is not the key's over this nonce, expiration, cpHash and policyRef",
        "have it signed again with the nonce of this session: a signature over the nonce of another one is a replay",
    ),
    Condition::nonce::<PolicySecret<'_>>(),
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
    /// A condition of a policy does not hold.
    Condition(&'static Condition),
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
            _ => {
                let is_it = |one: &&Condition| (one.command, one.code) == (command, code.base());
                CONDITIONS.iter().find(is_it).map_or(Self::Code, Self::Condition)
            }
        }
    }
}
