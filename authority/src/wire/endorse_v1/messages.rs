//! What the messages of `endorse.v1` mean to the service, and what it answers as messages.

use proto::v1::join_init::Ek as WireEk;
use proto::v1::{
    IssueRequest, IssuedCredentials, JoinChallenge, JoinInit, RenewRequest, SubjectForm,
    WhoAmIResponse,
};
use verifier::Challenge;

use crate::issue::{Profile, Ttl};
use crate::service::caller::Caller;
use crate::service::chosen_id::ChosenId;
use crate::service::grant::Grant;
use crate::service::join::{Ek, Evidence, KeyEvidence};
use crate::service::refusal::{Code, Refusal};
use crate::service::reissue::{Issue, Renewal};
use crate::service::request::{HostInfo, Parsed};
use crate::wire::{certification_request, ttl};

/// The claim of a join.
pub(super) struct Claim {
    pub(super) token: String,
    pub(super) host: HostInfo,
    pub(super) ttl: Parsed<Ttl>,
    pub(super) id: Parsed<Option<ChosenId>>,
    pub(super) evidence: Evidence,
}

impl From<JoinInit> for Claim {
    fn from(init: JoinInit) -> Self {
        let ek = match init.ek {
            Some(WireEk::EkCertificate(der)) => Ok(Ek::Certificate(der)),
            Some(WireEk::EkPublic(spki)) => Ok(Ek::PublicKey(spki)),
            None => {
                let reason = "neither EK certificate nor EK public key";
                Err(Refusal::new(Code::Malformed, reason))
            }
        };
        Self {
            token: init.token,
            host: HostInfo { hostname: init.hostname, agent_version: init.agent_version },
            ttl: ttl(init.ttl_seconds),
            id: ChosenId::read(&init.join_id),
            evidence: Evidence {
                ek,
                ek_chain: init.ek_chain,
                ek_name_alg: init.ek_name_alg,
                key: KeyEvidence::JoinKey(init.join_key),
            },
        }
    }
}

pub(super) fn challenge(challenge: &Challenge) -> JoinChallenge {
    JoinChallenge {
        credential_blob: challenge.blob().to_vec(),
        encrypted_seed: challenge.encrypted_seed().to_vec(),
    }
}

pub(super) fn renewal(request: RenewRequest) -> Renewal {
    let RenewRequest { ttl_seconds, hostname, agent_version, trust_version } = request;
    Renewal { host: HostInfo { hostname, agent_version }, ttl: ttl(ttl_seconds), trust_version }
}

/// A request on the connection with this exporter value.
pub(super) fn issue(request: IssueRequest, exporter: &[u8; 32]) -> Issue {
    let profile = match SubjectForm::try_from(request.subject) {
        Ok(SubjectForm::Full) => Ok(Profile::SERVICE),
        Ok(SubjectForm::Plain) => Ok(Profile::PLAIN_SERVICE),
        Err(cause) => Err(Refusal::new(Code::Malformed, cause)),
    };
    Issue {
        key: certification_request(request.public_key, request.signature, exporter),
        service: request.service,
        profile,
        key_in_tpm: request.key_in_tpm,
        ttl: ttl(request.ttl_seconds),
    }
}

impl From<Grant> for IssuedCredentials {
    fn from(grant: Grant) -> Self {
        let Grant { issued, instance, cluster, cas } = grant;
        Self {
            certificates: vec![issued.x509.to_vec()],
            x509_authorities: cas.x509.trusted().map(|ca| ca.certificate().to_vec()).collect(),
            ssh_certificate: issued.ssh,
            ssh_authorities: cas.ssh.public_keys(),
            ssh_host_authorities: cas.ssh_host.public_keys(),
            cluster: cluster.to_string(),
            bot: instance.spec.bot_name.to_string(),
            instance: instance.spec.instance_id.to_string(),
            not_after: issued.not_after.unix_timestamp(),
            not_before: issued.not_before.unix_timestamp(),
            generation: instance.status.generation,
            trust_version: instance.status.issued_version,
            min_trust_version: cas.tainted.version,
        }
    }
}

impl From<Caller> for WhoAmIResponse {
    fn from(caller: Caller) -> Self {
        Self {
            cluster: caller.subject.cluster,
            bot: caller.subject.bot.to_string(),
            roles: caller.subject.roles.iter().map(ToString::to_string).collect(),
            spiffe_id: caller.spiffe_id,
            certificate_serial: caller.serial,
            not_after: caller.not_after.unix_timestamp(),
        }
    }
}
