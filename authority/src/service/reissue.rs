//! Certificates for hosts that have joined: new ones for the join key, and ones for other keys of the host.

use super::call::{CallRequest, Issued, JudgedCall};
use super::caller::{Caller, CallerRecords};
use super::impersonation::{self, Impersonation};
use super::refusal::{Code, Refusal};
use super::request::{HostInfo, Parsed};
use super::residency::location;
use crate::audit::{Action, Attempt, bounded};
use crate::issue::{Credentials, Profile, SubjectKey, Ttl, Validity};
use crate::resource::{Bot, ServiceRecord, Timestamp};

/// The request of new certificates for the caller's own key.
pub(crate) struct Renewal {
    pub(crate) host: HostInfo,
    pub(crate) ttl: Parsed<Ttl>,
    /// The newest document of the trust chain that the host has.
    pub(crate) trust_version: u64,
}

/// The request of certificates for another key of the caller's host.
pub(crate) struct Issue {
    pub(crate) key: CertificationRequest,
    /// What the agent calls the service that the key is for. For the record only.
    pub(crate) service: String,
    pub(crate) profile: Parsed<Profile>,
    /// Whether the key is to be certified as one in the TPM.
    pub(crate) key_in_tpm: bool,
    pub(crate) ttl: Parsed<Ttl>,
}

/// A key to certify, and the proof that the caller has it.
pub(crate) struct CertificationRequest {
    /// SubjectPublicKeyInfo, DER.
    pub(crate) public_key: Vec<u8>,
    /// What its holder has signed; it is different on each connection.
    pub(crate) message: Vec<u8>,
    /// The signature, as in X.509 certificates.
    pub(crate) signature: Vec<u8>,
}

impl CallRequest for Renewal {
    type Issued = Credentials;

    fn action(&self) -> Action {
        Action::Renew
    }

    fn describe(&self, attempt: &mut Attempt) {
        attempt.hostname = bounded(&self.host.hostname);
        attempt.agent_version = bounded(&self.host.agent_version);
    }

    async fn decide(&self, call: &mut JudgedCall<'_>) -> Result<Credentials, Refusal> {
        let key = join_key(&call.caller.public_key)?;
        let recorded = call.instance.status.generation;
        let generation = call.presented.map_or(recorded, |presented| presented.max(recorded));
        let generation = generation.saturating_add(1);
        let profile = Profile::identity(generation);
        let profile = profile.of_key(call.instance.status.key_location);
        // Read before: a CA that is tainted meanwhile may have signed it.
        let version = call.authority.issuer.keyring().keys().chain.version();
        let issued = call.credentials(call.bot, profile, &key, &self.ttl)?;
        let status = &mut call.instance.status;
        status.issued_version = version;
        status.generation = generation;
        status.certificate_serial.clone_from(&issued.serial);
        status.hostname = bounded(&self.host.hostname).unwrap_or_default();
        status.agent_version = bounded(&self.host.agent_version).unwrap_or_default();
        status.renewed = Some(Timestamp(call.now));
        status.trust_version = self.trust_version;
        call.instance.set_expires(Timestamp(issued.not_after));
        Ok(issued)
    }
}

impl CallRequest for Issue {
    type Issued = Credentials;

    fn action(&self) -> Action {
        Action::Issue
    }

    fn describe(&self, attempt: &mut Attempt) {
        attempt.service = bounded(&self.service);
    }

    async fn decide(&self, call: &mut JudgedCall<'_>) -> Result<Credentials, Refusal> {
        let key = self.key.proven()?;
        let location = location(&call.instance, &self.key.public_key, self.key_in_tpm)?;
        let profile = self.profile.clone()?.of_key(location);
        let issued = call.credentials(call.bot, profile, &key, &self.ttl)?;
        call.record_service(bounded(&self.service).unwrap_or_default(), &issued);
        Ok(issued)
    }
}

/// An agent of Teleport asks for certificates for another key.
impl CallRequest for Impersonation {
    type Issued = Credentials;

    fn action(&self) -> Action {
        Action::Issue
    }

    fn describe(&self, attempt: &mut Attempt) {
        attempt.service = Some(impersonation::SERVICE.to_owned());
    }

    /// The key of the caller need not be in the TPM: the certificates end with the caller's.
    fn check_caller(
        &self,
        records: &CallerRecords,
        caller: &Caller,
    ) -> Result<Option<u64>, Refusal> {
        records.check_is_instance(caller).map(Some)
    }

    async fn decide(&self, call: &mut JudgedCall<'_>) -> Result<Credentials, Refusal> {
        let bot = self.narrow(call.bot.clone(), call.authority.issuer.cluster())?;
        let key = self.key.clone()?;
        let ttl = self.ttl(call.caller, call.now);
        let issued = call.credentials(&bot, Profile::IMPERSONATED, &key, &ttl)?;
        call.record_service(impersonation::SERVICE.to_owned(), &issued);
        Ok(issued)
    }
}

impl JudgedCall<'_> {
    fn credentials(
        &self,
        bot: &Bot,
        profile: Profile,
        key: &SubjectKey,
        ttl: &Parsed<Ttl>,
    ) -> Result<Credentials, Refusal> {
        let validity = Validity { now: self.now, ttl: ttl.clone()? };
        let issued = self.authority.issuer.credentials(bot, &self.instance, profile, key, validity);
        issued.map_err(Refusal::because(Code::Internal))
    }

    fn record_service(&mut self, service: String, issued: &Credentials) {
        let record = ServiceRecord {
            certificate_serial: issued.serial.clone(),
            issued: Timestamp(self.now),
            expires: Timestamp(issued.not_after),
            key_location: issued.key_location,
        };
        self.instance.record_service(service, record, self.now);
    }
}

impl Issued for Credentials {
    fn describe(&self, attempt: &mut Attempt) {
        attempt.certificate_serial = Some(self.serial.clone());
        attempt.certificate_expires = Some(Timestamp(self.not_after));
        attempt.key_location = Some(self.key_location).filter(|location| !location.is_unproven());
    }
}

impl CertificationRequest {
    /// The key to certify; the caller has it.
    pub(super) fn proven(&self) -> Result<SubjectKey, Refusal> {
        let key = SubjectKey::from_spki(&self.public_key);
        let key = key.map_err(Refusal::because(Code::KeyMalformed))?;
        let unproven = |_| Refusal::new(Code::KeyUnproven, "the key has not signed this request");
        key.verify(&self.message, &self.signature).map_err(unproven)?;
        Ok(key)
    }
}

/// A join key.
fn join_key(der: &[u8]) -> Result<SubjectKey, Refusal> {
    match SubjectKey::from_spki(der) {
        Ok(key @ SubjectKey::P256(_)) => Ok(key),
        Ok(_) => Err(Refusal::new(Code::KeyMalformed, "the key is not on P-256")),
        Err(cause) => Err(Refusal::new(Code::KeyMalformed, cause)),
    }
}
