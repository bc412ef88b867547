//! Every refusal code of the authority, and what the agent makes of it.

use agent::ceremony::endorse_v1::refused;
use authority::service::refusal::{Code, Refusal};
use host::exit::Exit;
use tonic::Status;

/// What the agent ends with. `Unavailable` is retried soon, `Refused` after the long pause.
fn expected(code: Code) -> Exit {
    match code {
        // The authority has decided nothing: another try may succeed.
        Code::Busy | Code::Internal | Code::AnswerLate | Code::Abandoned => Exit::Unavailable,
        Code::TokenUnknown
        | Code::TokenExpired
        | Code::TokenRole
        | Code::TokenMethod
        | Code::TokenBot
        | Code::BotUnknown
        | Code::Evidence(_)
        | Code::EkNotAllowed
        | Code::EkOfOther
        | Code::AnswerWrong
        | Code::SignatureWrong
        | Code::Locked
        | Code::CertificateMissing
        | Code::CertificateExpired
        | Code::CertificateInvalid
        | Code::CertificateOfService
        | Code::ImpersonationRefused
        | Code::WorkloadIdentityRefused
        | Code::InstanceUnknown
        | Code::KeyNotInTpm
        | Code::EvidenceOutdated
        | Code::KeyMalformed
        | Code::KeyUnproven
        | Code::KeyResidencyUnproven
        | Code::ClientVersion
        | Code::Malformed
        | Code::Oversized => Exit::Refused,
    }
}

#[test]
fn agent_tells_a_refusal_from_an_authority_that_cannot_decide_now() {
    for code in Code::ALL {
        let status = Status::from(Refusal::new(code, "details"));
        let failure = refused(&status);
        assert_eq!(failure.exit, expected(code), "{}: {failure:?}", code.as_str());
        assert!(!failure.to_string().contains("details"), "{}", code.as_str());
    }
}

#[test]
fn refusal_codes_are_distinct() {
    let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Code::ALL.len());
}
