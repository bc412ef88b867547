//! Why a join, a renewal or an issue is refused. Each refusal has a stable short code: the log, the audit and the tests
//! refer to it by that code.

use std::fmt;

/// A refusal with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal.
    pub code: Code,
    /// The details, for the operator only.
    pub reason: String,
}

/// What a refusal is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// No such token.
    TokenUnknown,
    /// The token has expired.
    TokenExpired,
    /// The token does not allow bots to join.
    TokenRole,
    /// The token is for another join method.
    TokenMethod,
    /// The token by which the instance joined is for another bot now.
    TokenBot,
    /// The token's bot does not exist.
    BotUnknown,
    /// The verifier does not accept the EK or the join key; the code is its own.
    Evidence(&'static str),
    /// No rule of the token matches the TPM.
    EkNotAllowed,
    /// The certificate is of an instance with another TPM.
    EkOfOther,
    /// The challenge was answered too late, or not at all.
    AnswerLate,
    /// The answer does not show that the TPM opened the credential.
    AnswerWrong,
    /// The join key has not signed.
    SignatureWrong,
    /// A lock is in force.
    Locked,
    /// The caller shows no certificate.
    CertificateMissing,
    /// The caller's certificate has expired.
    CertificateExpired,
    /// The caller's certificate is not a bot's.
    CertificateInvalid,
    /// The caller's certificate is for another key than that which joined.
    CertificateOfService,
    /// The caller asks for certificates of another user, or with roles that its bot does not have.
    ImpersonationRefused,
    /// No workload identity is for this bot and this workload.
    WorkloadIdentityRefused,
    /// The bot instance does not exist.
    InstanceUnknown,
    /// The instance's key is not proven to be in its TPM, so that it can only join again.
    KeyNotInTpm,
    /// The token now requires a CA that did not verify the EK certificate at the join.
    EvidenceOutdated,
    /// The key to certify is malformed, or of an algorithm that is not supported.
    KeyMalformed,
    /// The key to certify has not signed.
    KeyUnproven,
    /// The key to certify is claimed to be in the TPM, and was not proven.
    KeyResidencyUnproven,
    /// The peer went away.
    Abandoned,
    /// The client of Teleport is too old, or its version is malformed.
    ClientVersion,
    /// The message is malformed.
    Malformed,
    /// The message is too long.
    Oversized,
    /// Too many concurrent calls.
    Busy,
    /// The authority failed, not the host.
    Internal,
}

impl Code {
    /// All of them; of the verifier's own codes, one.
    pub const ALL: [Self; 31] = [
        Self::TokenUnknown,
        Self::TokenExpired,
        Self::TokenRole,
        Self::TokenMethod,
        Self::TokenBot,
        Self::BotUnknown,
        Self::Evidence("ek_untrusted"),
        Self::EkNotAllowed,
        Self::EkOfOther,
        Self::AnswerLate,
        Self::AnswerWrong,
        Self::SignatureWrong,
        Self::Locked,
        Self::CertificateMissing,
        Self::CertificateExpired,
        Self::CertificateInvalid,
        Self::CertificateOfService,
        Self::ImpersonationRefused,
        Self::WorkloadIdentityRefused,
        Self::InstanceUnknown,
        Self::KeyNotInTpm,
        Self::EvidenceOutdated,
        Self::KeyMalformed,
        Self::KeyUnproven,
        Self::KeyResidencyUnproven,
        Self::Abandoned,
        Self::ClientVersion,
        Self::Malformed,
        Self::Oversized,
        Self::Busy,
        Self::Internal,
    ];

    /// The code as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TokenUnknown => "token_unknown",
            Self::TokenExpired => "token_expired",
            Self::TokenRole => "token_role",
            Self::TokenMethod => "token_method",
            Self::TokenBot => "token_bot",
            Self::BotUnknown => "bot_unknown",
            Self::Evidence(code) => code,
            Self::EkNotAllowed => "ek_not_allowed",
            Self::EkOfOther => "ek_of_other",
            Self::AnswerLate => "answer_late",
            Self::AnswerWrong => "answer_wrong",
            Self::SignatureWrong => "signature_wrong",
            Self::Locked => "locked",
            Self::CertificateMissing => "certificate_missing",
            Self::CertificateExpired => "certificate_expired",
            Self::CertificateInvalid => "certificate_invalid",
            Self::CertificateOfService => "certificate_of_service",
            Self::ImpersonationRefused => "impersonation_refused",
            Self::WorkloadIdentityRefused => "workload_identity_refused",
            Self::InstanceUnknown => "instance_unknown",
            Self::KeyNotInTpm => "key_not_in_tpm",
            Self::EvidenceOutdated => "evidence_outdated",
            Self::KeyMalformed => "key_malformed",
            Self::KeyUnproven => "key_unproven",
            Self::KeyResidencyUnproven => "key_residency_unproven",
            Self::Abandoned => "abandoned",
            Self::ClientVersion => "client_version",
            Self::Malformed => "malformed",
            Self::Oversized => "oversized",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }
}

impl Refusal {
    /// A refusal with its details.
    pub fn new(code: Code, reason: impl fmt::Display) -> Self {
        Self { code, reason: reason.to_string() }
    }

    /// The same, for `map_err`.
    pub(crate) fn because<E: fmt::Display>(code: Code) -> impl FnOnce(E) -> Self {
        move |cause| Self::new(code, cause)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.reason)
    }
}

impl std::error::Error for Refusal {}
