//! Credentials of workloads: X.509-SVIDs (X509-SVID), and SSH host certificates.

use std::time::Duration;

use const_oid::ObjectIdentifier;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use super::profile::{Lifetime, Usages};
use super::subject::{Subject, name};
use super::x509::AlternativeNames;
use super::{IssueError, Issuer, SubjectKey, Validity, window};
use crate::resource::{Bot, BotInstance, DnsName, HostPrincipal, KeyLocation, SpiffeId};

/// What an X.509-SVID says of its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SvidNames {
    /// The workload.
    pub spiffe_id: SpiffeId,
    /// Further names, for peers that look for them.
    pub dns: Vec<DnsName>,
    /// The subject.
    pub subject: SvidSubject,
}

/// The subject of an X.509-SVID. It never has the attributes by which a bot instance is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SvidSubject {
    /// The bot's user name and roles.
    Bot,
    /// These attributes; without any, the names are in the subjectAltName alone.
    Attributes(Vec<(ObjectIdentifier, String)>),
}

/// An X.509-SVID.
#[derive(Debug, Clone)]
pub struct X509Svid {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its serial number, as text.
    pub serial: String,
    /// When it begins.
    pub not_before: OffsetDateTime,
    /// When it ends.
    pub not_after: OffsetDateTime,
}

/// An SSH host certificate.
#[derive(Debug, Clone)]
pub struct SshHostCertificate {
    /// A line of authorized_keys.
    pub certificate: String,
    /// Its serial number.
    pub serial: u64,
    /// The names of the host.
    pub principals: Vec<HostPrincipal>,
    /// When it begins.
    pub not_before: OffsetDateTime,
    /// When it ends.
    pub not_after: OffsetDateTime,
}

impl Issuer {
    /// An SSH certificate for the key of a host, verified as a client would.
    pub fn ssh_host(
        &self,
        bot: &Bot,
        instance: &BotInstance,
        principals: &[HostPrincipal],
        key: &SubjectKey,
        validity: Validity,
        maximum: Option<Duration>,
    ) -> Result<SshHostCertificate, IssueError> {
        let Validity { now, ttl } = validity;
        let keys = self.keyring().keys();
        let (x509, ssh) = (keys.x509.active(), keys.ssh_host.active());
        x509.check_time(now)?;
        let lifetime = Lifetime::HOST.granted(bot, ttl);
        let window = window(x509, bot, maximum.map_or(lifetime, |max| lifetime.min(max)), now);
        let mut serial = [0; 8];
        getrandom::fill(&mut serial).map_err(IssueError::ssh)?;
        let serial = u64::from_be_bytes(serial);
        let certificate = ssh.host(&instance.path(), principals, key, serial, window)?;
        ssh.verify_host(&certificate, principals, key, now)?;
        Ok(SshHostCertificate {
            certificate: certificate.to_openssh().map_err(IssueError::ssh)?,
            serial,
            principals: principals.to_vec(),
            not_before: window.not_before,
            not_after: window.not_after,
        })
    }

    /// An X.509-SVID for a key of an instance of this bot, of which is known where it is; verified as a peer would.
    pub fn x509_svid(
        &self,
        bot: &Bot,
        instance: &BotInstance,
        names: &SvidNames,
        (key, location): (&SubjectKey, KeyLocation),
        validity: Validity,
        maximum: Option<Duration>,
    ) -> Result<X509Svid, IssueError> {
        let Validity { now, ttl } = validity;
        let keys = self.keyring().keys();
        let ca = keys.x509.active();
        ca.check_time(now)?;
        let lifetime = Lifetime::HOST.granted(bot, ttl);
        let window = window(ca, bot, maximum.map_or(lifetime, |max| lifetime.min(max)), now);
        let subject = match &names.subject {
            SvidSubject::Bot => {
                Subject::new(self.cluster().as_str(), bot, instance, None).to_plain_name()?
            }
            SvidSubject::Attributes(attributes) => name(attributes)?,
        };
        let alternative = AlternativeNames { uri: names.spiffe_id.as_str(), dns: &names.dns };
        let issued = ca.host(subject, alternative, Usages::PEER.of_key(location), key, window)?;
        ca.verify_host(&issued.certificate, alternative, Usages::PEER.of_key(location), now)?;
        Ok(X509Svid {
            certificate: issued.certificate,
            serial: issued.serial,
            not_before: window.not_before,
            not_after: window.not_after,
        })
    }
}
