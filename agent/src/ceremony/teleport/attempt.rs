//! Which attempt follows one that failed: the newest service and the cheapest key first, and no other where a server has
//! decided.

use tonic::{Code, Status};

use crate::tpm::attester::AkAlgorithm;

/// A join service of Teleport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ceremony) enum Service {
    /// `teleport.join.v1`.
    Join,
    /// `RegisterUsingTPMMethod` of the older service.
    Legacy,
}

/// What an attempt is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ceremony) struct Attempt {
    pub(in crate::ceremony) service: Service,
    pub(in crate::ceremony) algorithm: AkAlgorithm,
}

/// What a server had been sent when it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing that says anything about the host.
    Hello,
    /// The evidence.
    Evidence,
    /// The solution of the challenge, or its absence.
    Solution,
}

impl Attempt {
    /// The first attempt, with a key of an algorithm that the server is known to take.
    pub(in crate::ceremony) const fn first(algorithm: AkAlgorithm) -> Self {
        Self { service: Service::Join, algorithm }
    }

    /// What may succeed after this status; `None` if the server has decided, or nothing else is left.
    pub(super) fn after(self, step: Step, status: &Status) -> Option<Self> {
        let code = status.code();
        match (step, self) {
            // A server that decides says so. Everything else may be a proxy or a server that does not know the service.
            (Step::Hello, Self { service: Service::Join, .. }) => {
                let is_decided = matches!(code, Code::PermissionDenied | Code::InvalidArgument);
                (!is_decided).then_some(Self { service: Service::Legacy, ..self })
            }
            // Servers whose library verifies RSA only refuse another key before their challenge. With the EK's certificate, which
            // they name otherwise, no other key helps.
            (Step::Evidence, Self { algorithm: AkAlgorithm::P256, .. }) => {
                let said = status.message();
                let is_of_ek = ["EK cert", "EKCert"].iter().any(|ek| said.contains(ek));
                let is_appraisal =
                    code == Code::PermissionDenied && said.starts_with("validating TPM");
                (is_appraisal && !is_of_ek)
                    .then_some(Self { algorithm: AkAlgorithm::Rsa2048, ..self })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWEST: Attempt = Attempt::first(AkAlgorithm::P256);

    #[test]
    fn older_service_is_tried_unless_the_newer_one_has_decided() {
        let legacy = Some(Attempt { service: Service::Legacy, ..NEWEST });
        let after = |status: &Status| NEWEST.after(Step::Hello, status);
        for undecided in [
            Status::unimplemented("unknown service"),
            Status::unavailable("reset"),
            Status::unknown("?"),
            Status::internal("?"),
            Status::not_found("?"),
        ] {
            assert_eq!(after(&undecided), legacy, "{undecided:?}");
        }
        for decided in [Status::permission_denied("no"), Status::invalid_argument("no")] {
            assert_eq!(after(&decided), None, "{decided:?}");
        }
        let last = Attempt { service: Service::Legacy, ..NEWEST };
        assert_eq!(last.after(Step::Hello, &Status::unimplemented("")), None);
    }

    #[test]
    fn rsa_key_follows_only_a_refusal_of_the_evidence() {
        let refused = Status::permission_denied("validating TPM: not supported");
        for service in [Service::Join, Service::Legacy] {
            let attempt = Attempt { service, ..NEWEST };
            let rsa = Attempt { algorithm: AkAlgorithm::Rsa2048, ..attempt };
            assert_eq!(attempt.after(Step::Evidence, &refused), Some(rsa));
            assert_eq!(attempt.after(Step::Solution, &refused), None);
            assert_eq!(rsa.after(Step::Evidence, &refused), None);
            for other in [
                Status::permission_denied("token expired or not found"),
                Status::permission_denied("validating TPM: verifying EK cert"),
                Status::permission_denied(
                    "validating TPM: the EKCert is not signed by an allowed CA",
                ),
                Status::invalid_argument("validating TPM"),
                Status::unavailable("validating TPM"),
            ] {
                assert_eq!(attempt.after(Step::Evidence, &other), None, "{other:?}");
            }
        }
    }
}
