//! The caller of a request: the content of its verified certificate, and its current records in the store.

use der::{Decode, Encode};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::checks::store_failed;
use super::grant::CheckedBot;
use super::refusal::{Code, Refusal};
use super::{Authority, Peer};
use crate::issue::{Subject, serial_text, spiffe_id};
use crate::resource::KeyLocation;
use crate::store::Recorded;

/// The caller according to its certificate.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) subject: Subject,
    pub(crate) spiffe_id: String,
    pub(crate) serial: String,
    pub(crate) not_after: OffsetDateTime,
    /// SHA-256 of the SubjectPublicKeyInfo, in hexadecimal.
    pub(super) key_hash: String,
    /// The SubjectPublicKeyInfo itself, DER.
    pub(super) public_key: Vec<u8>,
}

/// The caller's records.
pub(crate) struct CallerRecords {
    pub(super) judged: CheckedBot,
    pub(super) recorded: Recorded,
}

impl Caller {
    /// The caller on this connection.
    pub(super) fn of(peer: &Peer, authority: &Authority) -> Result<Self, Refusal> {
        let leaf = peer.certificate.as_ref().ok_or_else(|| {
            Refusal::new(Code::CertificateMissing, "the caller presented no certificate")
        })?;
        Self::from_certificate(leaf, authority)
    }

    fn from_certificate(leaf: &CertificateDer<'_>, authority: &Authority) -> Result<Self, Refusal> {
        let invalid = |cause: &dyn std::fmt::Display| Refusal::new(Code::CertificateInvalid, cause);
        let certificate = Certificate::from_der(leaf).map_err(|cause| invalid(&cause))?;
        let tbs = certificate.tbs_certificate();
        let not_after: OffsetDateTime = tbs.validity().not_after.to_system_time().into();
        // The handshake has looked at the clock too, but a connection may outlive a certificate.
        if not_after <= authority.clock.now() {
            let reason = format!("the certificate expired at {not_after}");
            return Err(Refusal::new(Code::CertificateExpired, reason));
        }
        let subject = Subject::from_name(tbs.subject()).map_err(|cause| invalid(&cause))?;
        let cluster = authority.issuer.cluster();
        if subject.cluster != cluster.as_str() {
            return Err(invalid(&"the certificate is of another cluster"));
        }
        let spiffe_id = spiffe_id(cluster, &subject.bot);
        let alternative = tbs.get_extension::<SubjectAltName>().map_err(|cause| invalid(&cause))?;
        match alternative.as_ref().map(|(_, SubjectAltName(names))| names.as_slice()) {
            Some([GeneralName::UniformResourceIdentifier(uri)]) if uri.as_str() == spiffe_id => {}
            _ => return Err(invalid(&format!("the certificate's only name must be {spiffe_id}"))),
        }
        let serial = tbs.serial_number().as_bytes();
        let public_key = tbs.subject_public_key_info().to_der().map_err(|cause| invalid(&cause))?;
        Ok(Self {
            serial: serial_text(serial.strip_prefix(&[0]).unwrap_or(serial)),
            subject,
            spiffe_id,
            not_after,
            key_hash: key_hash(&public_key),
            public_key,
        })
    }
}

impl Authority {
    /// The caller's current records. Its bot and instance must exist and not be locked.
    pub(super) async fn caller_records(
        &self,
        caller: &Caller,
        now: OffsetDateTime,
    ) -> Result<CallerRecords, Refusal> {
        let Subject { bot, instance, .. } = &caller.subject;
        let recorded = self.records.instance(bot, instance).await.map_err(store_failed)?;
        let Some(recorded) = recorded else {
            self.bot(bot, now).await?;
            let reason = format!("the bot {bot} has no instance {instance}");
            return Err(Refusal::new(Code::InstanceUnknown, reason));
        };
        let judged = self.check_bot_and_locks(&recorded.instance, now).await?;
        Ok(CallerRecords { judged, recorded })
    }
}

impl CallerRecords {
    /// Checks that the instance's key is in the TPM: with a key that may have been copied, no renewal would show the TPM again.
    pub(super) fn check_key_in_tpm(&self) -> Result<(), Refusal> {
        match self.recorded.instance.status.key_location {
            KeyLocation::Tpm => Ok(()),
            KeyLocation::Unproven => Err(Refusal::new(
                Code::KeyNotInTpm,
                "the instance joined with a key that is not proven to be in the TPM",
            )),
        }
    }

    /// Checks that the caller is the instance itself, with the key that joined, and not one of its services.
    pub(super) fn check_is_instance(&self, caller: &Caller) -> Result<u64, Refusal> {
        match caller.subject.generation {
            Some(generation)
                if caller.key_hash == self.recorded.instance.status.public_key_hash =>
            {
                Ok(generation)
            }
            Some(_) => Err(Refusal::new(
                Code::InstanceUnknown,
                "the certificate's key is not the one with which the instance joined",
            )),
            None => Err(Refusal::new(
                Code::CertificateOfService,
                "the certificate is not for the key that joined",
            )),
        }
    }
}

/// SHA-256 of a SubjectPublicKeyInfo, in hexadecimal.
pub(super) fn key_hash(public_key: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(public_key))
}
