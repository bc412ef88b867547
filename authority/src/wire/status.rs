//! The status codes and messages that callers receive. Only this module knows gRPC's codes.
//!
//! A refused host receives a general message, the same for refusals that it must not distinguish; the details are in the log.
//! Messages are Teleport's where it has one.

use std::error::Error;
use std::time::Duration;

use tonic::{Code as Grpc, Status};

use crate::audit::bounded;
use crate::service::admin::AdminError;
use crate::service::refusal::{Code, Refusal};
use crate::store::StoreError;

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let denied = Grpc::PermissionDenied;
        // The caller can recover by joining again.
        let unauthenticated = Grpc::Unauthenticated;
        let (grpc, message) = match refusal.code {
            Code::TokenUnknown | Code::TokenExpired => (denied, "token expired or not found"),
            Code::TokenRole => {
                (denied, "can not join the cluster, the token does not allow role Bot")
            }
            Code::TokenMethod => (denied, "specified join token is not for `tpm` method"),
            Code::TokenBot => (
                denied,
                "access denied: the token that this host joined with is for another bot now; to become \
                 that bot, run `agent join` again, or stop the agent and remove its storage",
            ),
            Code::BotUnknown => (denied, "access denied"),
            Code::Evidence(code) => (denied, evidence(code)),
            Code::AnswerWrong => (denied, "validating TPM: invalid credential activation solution"),
            Code::SignatureWrong => (denied, "validating TPM: the join key's signature is invalid"),
            Code::EkNotAllowed => {
                (denied, "validated tpm attributes did not match any allow rules")
            }
            Code::EkOfOther => {
                (denied, "access denied: the certificate is of a bot instance with another TPM")
            }
            Code::KeyNotInTpm => (
                unauthenticated,
                "unauthenticated: the key of this bot instance is not in its TPM: join again",
            ),
            Code::Locked => (denied, "access denied: a lock is in force"),
            Code::CertificateOfService => {
                (denied, "access denied: only the certificate of the bot itself can ask for others")
            }
            Code::ImpersonationRefused => (
                denied,
                "access denied: the bot may not have certificates of this user and these roles",
            ),
            Code::WorkloadIdentityRefused => {
                (denied, "access denied: no workload identity for this bot and this workload")
            }
            Code::CertificateMissing => (unauthenticated, "unauthenticated: no client certificate"),
            Code::CertificateExpired => {
                (unauthenticated, "unauthenticated: the client certificate has expired")
            }
            Code::CertificateInvalid => {
                (unauthenticated, "unauthenticated: the certificate is not a bot's")
            }
            Code::InstanceUnknown => (unauthenticated, "unauthenticated: bot instance not found"),
            Code::EvidenceOutdated => {
                (unauthenticated, "unauthenticated: the allowed CAs of the token have changed")
            }
            Code::KeyMalformed => (
                Grpc::InvalidArgument,
                "the public key is malformed, or its algorithm is not supported",
            ),
            Code::KeyUnproven => (denied, "the signature of the public key is invalid"),
            Code::KeyResidencyUnproven => {
                (denied, "the key is not proven to be in the TPM of this bot instance")
            }
            Code::AnswerLate => (Grpc::DeadlineExceeded, "join attempt timed out or was aborted"),
            Code::Abandoned => (Grpc::Cancelled, "join attempt timed out or was aborted"),
            Code::ClientVersion => (denied, "client version is unsupported"),
            Code::Malformed => (Grpc::InvalidArgument, "the request is malformed"),
            Code::Oversized => (Grpc::InvalidArgument, "the request is too long"),
            Code::Busy => (Grpc::ResourceExhausted, "too many requests, try again later"),
            Code::Internal => (Grpc::Unavailable, "internal error of the authority"),
        };
        Self::new(grpc, message)
    }
}

/// The same for a client of Teleport, which distinguishes fewer codes: it comes back later after a resource exhausted, and after
/// an unknown error, and takes a denial or an invalid argument as final. What is wrong with its request it learns in full.
pub(super) fn teleport(refusal: Refusal) -> Status {
    if let Code::KeyMalformed | Code::Malformed = refusal.code {
        return Status::invalid_argument(refusal.reason);
    }
    // The attestation key and its creation are the host's own claims, so it may know what is wrong with them.
    if let Code::Evidence(code) = refusal.code
        && code.starts_with("ak_")
    {
        return Status::permission_denied(format!("validating TPM: {}", refusal.reason));
    }
    let is_parameter = matches!(refusal.code, Code::TokenRole | Code::TokenMethod);
    let status = Status::from(refusal);
    match status.code() {
        Grpc::PermissionDenied if is_parameter => Status::invalid_argument(status.message()),
        Grpc::Unauthenticated => Status::permission_denied(status.message()),
        _ => status,
    }
}

/// The end of a join in Teleport's protocols that took longer than this.
pub(super) fn timed_out(what: &str, limit: Duration) -> Status {
    let (minutes, seconds) = (limit.as_secs() / 60, limit.as_secs() % 60);
    let limit = if minutes > 0 { format!("{minutes}m{seconds}s") } else { format!("{seconds}s") };
    let text = format!("{what} timed out after {limit}, terminating the stream on the server");
    Status::resource_exhausted(text)
}

/// A call for Teleport's older join service, which is switched off.
pub(super) fn legacy_join_disabled() -> Status {
    Status::permission_denied("legacy join service has been disabled in this environment")
}

/// What a host learns of the verifier's refusals.
fn evidence(code: &str) -> &'static str {
    match code {
        "ek_certificate_missing" => {
            "validating TPM: tpm did not provide an EKCert to validate against allowed CAs"
        }
        "ek_untrusted" => "validating TPM: the EKCert is not signed by an allowed CA",
        "effort_spent" => {
            "validating TPM: this connection has used up what it may cost, connect again"
        }
        code if code.starts_with("join_key") => {
            "validating TPM: the join key is not one that is bound to a TPM"
        }
        code if code.starts_with("service_key") => {
            "validating TPM: the service's key is not one that is bound to a TPM"
        }
        "ek_missing" => "validating TPM: at least one of EKCert or EKKey must be provided",
        "ek_empty" => "validating TPM: either EK cert or EK key must be provided",
        code if code.starts_with("ak_") => {
            "validating TPM: the attestation key is not one that is bound to a TPM"
        }
        _ => "validating TPM: the EK cannot be used",
    }
}

/// A call on a connection that has made as many as it may.
pub(crate) fn too_many_calls() -> Status {
    Status::resource_exhausted("too many calls on one connection without a certificate")
}

/// A call that the rest of what an unproven connection may cost does not pay for.
pub(crate) fn too_costly() -> Status {
    Status::permission_denied(evidence("effort_spent"))
}

/// A call for what a service of Teleport has, and this authority has not.
pub(crate) fn not_supported(what: &str) -> Status {
    let what = bounded(what).unwrap_or_default();
    Status::unimplemented(format!(
        "{what} is not supported by this authority, which is not Teleport's"
    ))
}

/// A caller that presents more certificates than its own, in the words of Teleport.
pub(crate) fn intermediates_not_supported() -> Status {
    Status::permission_denied(
        "access denied: intermediaries are not supported: present one certificate",
    )
}

/// A call for a method that a service of this authority does not have.
pub(crate) fn unknown_method(path: &str) -> Status {
    Status::unimplemented(format!("no such method: {}", bounded(path).unwrap_or_default()))
}

/// A call for a service that is not here.
pub(crate) fn unknown_service() -> Status {
    Status::unimplemented("no such service")
}

/// Why a stream of requests ended without another request.
pub(crate) fn stream_ended(status: &Status) -> Refusal {
    // An error of the transport has a cause; those of the codec are its own.
    let code = match status.code() {
        Grpc::OutOfRange => Code::Oversized,
        Grpc::Internal | Grpc::Unimplemented if status.source().is_none() => Code::Malformed,
        _ => Code::Abandoned,
    };
    Refusal::new(code, status.message())
}

impl From<AdminError> for Status {
    fn from(error: AdminError) -> Self {
        let grpc = match &error {
            AdminError::Document(_) | AdminError::InvalidArgument(_) => Grpc::InvalidArgument,
            AdminError::NotFound(..) | AdminError::Store(StoreError::Missing(..)) => Grpc::NotFound,
            AdminError::Store(StoreError::Exists(..)) => Grpc::AlreadyExists,
            AdminError::Store(StoreError::Changed(..)) => Grpc::Aborted,
            AdminError::Store(_) | AdminError::Internal(_) => Grpc::Internal,
        };
        Self::new(grpc, error.to_string())
    }
}

/// How an operator's request failed, for the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The resource exists already.
    Exists,
    /// There is no such resource.
    NotFound,
    /// The resource was changed since it was read.
    Changed,
    /// The request was refused for what it says.
    Invalid,
    /// The authority failed.
    Failed,
    /// There was no answer.
    Unavailable,
}

/// What an answer to the operator's command means.
pub(crate) fn answer(status: &Status) -> Answer {
    match status.code() {
        Grpc::AlreadyExists => Answer::Exists,
        Grpc::NotFound => Answer::NotFound,
        Grpc::Aborted => Answer::Changed,
        Grpc::InvalidArgument | Grpc::OutOfRange => Answer::Invalid,
        Grpc::Internal => Answer::Failed,
        _ => Answer::Unavailable,
    }
}
