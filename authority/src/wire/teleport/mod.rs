//! Teleport's services, for hosts that run `tbot`: its two join services, and what else it calls.
//!
//! In a join the TPM proves that it holds an attestation key, and the host asks for certificates of another key, which Teleport's clients keep
//! in files. The proof is the activated secret itself: it is bound neither to the connection nor to the key that is certified.

pub(crate) mod calls;
mod files;
pub(crate) mod join_v1;
pub(crate) mod kept;
pub(crate) mod legacy;

use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic::{Code as Grpc, Status};
use tpm2::types::SecretBuf;
use verifier::Challenge;

use super::status::{self, timed_out};
use crate::audit::bounded;
use crate::service::Authority;
use crate::service::join::{Candidate, Ek, Join, Proven};
use crate::service::refusal::{Code, Refusal};
use crate::service::request::Parsed;

/// The only join method here.
const METHOD: &str = "tpm";

/// The suite of key algorithms by which clients create keys on P-256.
pub(crate) const SIGNATURE_ALGORITHM_SUITE: &str = "balanced-v1";

/// The oldest clients of which it is known what they call and accept.
const MIN_CLIENT_VERSION: [u64; 3] = [17, 0, 0];

/// Why a join ends: as it is recorded, and as the client learns it.
struct Fault {
    refusal: Refusal,
    status: Status,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self { status: status::teleport(refusal.clone()), refusal }
    }
}

impl Fault {
    /// A request that the protocol does not allow, in Teleport's terms a bad parameter.
    fn bad_parameter(text: impl Into<String>) -> Self {
        Refusal::new(Code::Malformed, text.into()).into()
    }

    /// The same refusal in other words.
    fn saying(self, grpc: Grpc, text: impl Into<String>) -> Self {
        Self { status: Status::new(grpc, text), ..self }
    }

    /// What goes wrong between challenge and solution reaches the client as a TPM that was not validated, but for a timeout.
    fn while_validating(self) -> Self {
        if self.refusal.code == Code::AnswerLate {
            return self;
        }
        let text = format!("validating TPM: {}", self.status.message());
        self.saying(Grpc::PermissionDenied, text)
    }
}

/// Records the end of a join, and returns what the client receives. `what` is the method in the message of a timeout.
fn end<R>(join: Join, result: Result<R, Fault>, what: &str, limit: Duration) -> Result<R, Status> {
    match result {
        Ok(reply) => join.end(Ok(reply)).map_err(status::teleport),
        Err(Fault { refusal, status }) => {
            let is_late = refusal.code == Code::AnswerLate;
            let _ = join.end::<()>(Err(refusal));
            Err(if is_late { timed_out(what, limit) } else { status })
        }
    }
}

/// Refuses a client that could join, and then could not connect with its certificates.
fn check_cluster_name(authority: &Authority) -> Result<(), Status> {
    authority.issuer.cluster().warning().map_or(Ok(()), |why| Err(Status::invalid_argument(why)))
}

/// The client's version, if it says one.
fn version(metadata: &MetadataMap) -> String {
    let mut all = metadata.get_all("version").iter();
    match (all.next(), all.next()) {
        (Some(version), None) => String::from_utf8_lossy(version.as_bytes()).into_owned(),
        _ => String::new(),
    }
}

/// Refuses a client that is too old, or whose version is malformed. One that says nothing is not asked.
fn check_version(version: &str) -> Result<(), Fault> {
    if version.is_empty() || numbers(version).is_some_and(|numbers| numbers >= MIN_CLIENT_VERSION) {
        return Ok(());
    }
    let [major, minor, patch] = MIN_CLIENT_VERSION;
    let supported = format!("minimum supported version is {major}.{minor}.{patch}");
    let refusal = Refusal::new(Code::ClientVersion, format!("{}: {supported}", quoted(version)));
    let text = format!("client version is unsupported, {supported}");
    Err(Fault::from(refusal).saying(Grpc::PermissionDenied, text))
}

/// The numbers of a semantic version; whether it is a pre-release makes no difference.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let core = version.split(['-', '+']).next()?;
    let numbers: Option<Vec<u64>> = core.split('.').map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}

/// An endorsement key that must not be empty, of one form or the other.
fn endorsement_key(ek: Option<Ek>) -> Parsed<Ek> {
    match ek {
        None => Err(Refusal::new(
            Code::Evidence("ek_missing"),
            "at least one of EKCert or EKKey must be provided",
        )),
        Some(Ek::Certificate(der) | Ek::PublicKey(der)) if der.is_empty() => {
            Err(Refusal::new(Code::Evidence("ek_empty"), "the EK is empty"))
        }
        Some(ek) => Ok(ek),
    }
}

/// TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET.
fn encrypted_credential(challenge: &Challenge) -> Result<[Vec<u8>; 2], Refusal> {
    let sized = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).map_err(Refusal::because(Code::Internal))?;
        Ok([&length.to_be_bytes(), bytes].concat())
    };
    Ok([sized(challenge.blob())?, sized(challenge.encrypted_seed())?])
}

/// Checks a solution: the secret that only the TPM could decrypt. It is wiped.
fn check(join: &mut Join, candidate: Candidate, solution: Vec<u8>) -> Result<Proven, Refusal> {
    let held = SecretBuf::new(&solution);
    let answer = kept::answer(&solution);
    drop(zeroize::Zeroizing::new(solution));
    join.check(candidate, answer, |secret| {
        // Compared in constant time.
        let is_right = held.is_some_and(|solution| solution == *secret);
        if is_right { Ok(()) } else { Err("the solution is not the credential's secret") }
    })
}

/// Text of the client that goes into a message for it.
fn quoted(text: &str) -> String {
    format!("{:?}", bounded(text).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_a_client_is_a_semantic_version_from_the_oldest_supported() {
        for version in ["", "17.0.0", "17.0.0-dev.1", "18.5.2+build", "19.0.0-alpha.1+x", "100.0.0"]
        {
            assert!(check_version(version).is_ok(), "{version:?}");
        }
        for version in [
            "16.9.9",
            "0.0.0",
            "17",
            "17.0",
            "17.0.0.0",
            "v17.0.0",
            "-17.0.0",
            "17.-1.0",
            "17.0.0 ",
            "garbage",
            "\u{fffd}",
            "99999999999999999999.0.0",
        ] {
            let Fault { refusal, status } = check_version(version).unwrap_err();
            assert_eq!(
                (refusal.code, status.code()),
                (Code::ClientVersion, Grpc::PermissionDenied)
            );
            let text = "client version is unsupported, minimum supported version is 17.0.0";
            assert_eq!(status.message(), text);
        }
    }
}
