//! Credentials from the authority, verified as a peer would before they are used.

pub mod cache;
pub mod identity;
pub mod jwt;
pub mod ssh_host;
pub(crate) mod subject;
pub mod svid;
mod trust_bundle;
pub mod trust_chain;
pub mod validity;

use std::time::Duration;

use host::exit::{Exit, Failure};
use host::terminal::is_printable;
use p256::ecdsa::VerifyingKey;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_cert::Certificate;
use x509_cert::der::Decode;

pub use self::trust_bundle::{TrustBundle, Voucher};
use crate::config::Protocol;
use crate::credential::validity::Validity;
use crate::keys::spki_der;
use crate::ssh::certificate::SshCertificate;

/// Limit of SSH CAs of users, and of those of hosts.
const MAX_SSH_CAS: usize = 16;

/// Who a bot instance is in its cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The cluster.
    pub cluster: String,
    /// The bot.
    pub bot: String,
    /// The bot instance, a UUID.
    pub instance: String,
    /// How often this instance was issued an identity: 1 by the join, one more by each renewal.
    pub generation: u64,
}

/// What a server issued, whatever the protocol, before it is verified.
#[derive(Clone, Debug)]
pub struct Unverified {
    /// The protocol that it was issued by.
    pub protocol: Protocol,
    /// Whom it was issued to.
    pub names: Names,
    /// X.509, leaf first, DER.
    pub certificates: Vec<Vec<u8>>,
    /// The CAs of X.509 certificates, DER.
    pub x509_cas: Vec<Vec<u8>>,
    /// An SSH user certificate, one line.
    pub ssh_certificate: String,
    /// Keys of the SSH CAs that sign user certificates, one authorized_keys line each.
    pub ssh_cas: Vec<String>,
    /// Keys of the SSH CAs that sign host certificates; empty if the server has one list for both.
    pub ssh_host_cas: Vec<String>,
    /// The number of the trust bundle, by the authority's count; 0 of a server without one.
    pub trust_version: u64,
}

/// Credentials for a key of this host.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The protocol that they were issued by.
    pub protocol: Protocol,
    /// Whom they were issued to.
    pub names: Names,
    /// X.509, leaf first, DER.
    pub certificates: Vec<Vec<u8>>,
    /// What peers are verified with.
    pub bundle: TrustBundle,
    /// An SSH user certificate, one line.
    pub ssh_certificate: String,
    /// Keys of the SSH CAs that sign user certificates, one authorized_keys line each.
    pub ssh_cas: Vec<String>,
    /// Keys of the SSH CAs that sign host certificates; empty if the server has one list for both.
    pub ssh_host_cas: Vec<String>,
    /// The number of the trust bundle, by the authority's count; 0 of a server without one.
    pub trust_version: u64,
    /// The leaf's URI; Teleport's leaves have none.
    pub spiffe_id: Option<String>,
    /// From when to when the leaf is valid.
    pub validity: Validity,
}

impl Credentials {
    /// Checks that the certificates are of this key, valid now, and of an authority that this host trusts.
    ///
    /// # Errors
    /// [`Exit::Data`], with what is wrong.
    pub fn verify(
        issued: Unverified,
        key: &VerifyingKey,
        voucher: Voucher<'_>,
        now: u64,
    ) -> Result<Self, Failure> {
        let issuer = match issued.protocol {
            Protocol::Endorse => "the authority",
            Protocol::Teleport => "the Teleport cluster",
        };
        let wrong = |what: &str| {
            Failure::new(
                Exit::Data,
                format!("{issuer} issued an unusable credential: {what}"),
                format!(
                    "compare the clocks of both machines and check {issuer}'s log; nothing was \
                     stored"
                ),
            )
        };
        // webpki parses intermediates at every node of its path search. A cluster issues directly
        // under its CA, so it has none.
        if issued.certificates.len() > 1 {
            return Err(wrong("more than one certificate"));
        }
        if issued.ssh_cas.len().max(issued.ssh_host_cas.len()) > MAX_SSH_CAS {
            return Err(wrong("too many SSH CAs"));
        }
        let Names { cluster, bot, instance, .. } = &issued.names;
        if ![cluster, bot, instance].into_iter().all(|name| is_name(name)) {
            return Err(wrong("an invalid name"));
        }
        let cas = issued.x509_cas.iter().map(Vec::as_slice);
        let bundle = TrustBundle::vouched(cas, voucher).map_err(|what| wrong(&what))?;
        let leaf = issued.certificates.first().ok_or_else(|| wrong("no certificate"))?;
        let leaf_der = CertificateDer::from(leaf.as_slice());
        let leaf = EndEntityCert::try_from(&leaf_der).map_err(|error| wrong(&error.to_string()))?;
        let anchors = bundle.anchors().map_err(|error| wrong(&error.to_string()))?;
        leaf.verify_for_usage(
            tls::provider().signature_verification_algorithms.all,
            &anchors,
            &[],
            UnixTime::since_unix_epoch(Duration::from_secs(now)),
            KeyUsage::client_auth(),
            None,
            None,
        )
        .map_err(|error| match error {
            webpki::Error::CertExpired { .. } => wrong("by this host's clock it has expired"),
            webpki::Error::CertNotValidYet { .. } => {
                wrong("by this host's clock it is not valid yet")
            }
            error => wrong(&error.to_string()),
        })?;
        if leaf.subject_public_key_info().as_ref() != spki_der(key)? {
            return Err(wrong("a certificate for another key"));
        }
        let spiffe_id = leaf.valid_uri_names().next().map(ToOwned::to_owned);
        let is_spiffe_id = |id: &String| id.starts_with("spiffe://") && is_name(id);
        let spiffe_id = match (spiffe_id.filter(is_spiffe_id), issued.protocol) {
            (None, Protocol::Endorse) => return Err(wrong("a certificate without a SPIFFE ID")),
            (spiffe_id, _) => spiffe_id,
        };
        let more_lines = |line: &String| !line.chars().all(is_printable);
        let mut ssh_cas = issued.ssh_cas.iter().chain(&issued.ssh_host_cas);
        if more_lines(&issued.ssh_certificate) || ssh_cas.any(more_lines) {
            return Err(wrong("an SSH key with a line break"));
        }
        let ssh = SshCertificate::read(&issued.ssh_certificate)
            .ok_or_else(|| wrong("a malformed SSH certificate"))?;
        if ssh.point != key.to_sec1_point(false).as_bytes() {
            return Err(wrong("an SSH certificate for another key"));
        }
        ssh.verify(&issued.ssh_cas, now)
            .map_err(|what| wrong(&format!("an SSH certificate {what}")))?;
        let validity = validity(&leaf_der).ok_or_else(|| wrong("a certificate without dates"))?;
        Ok(Self {
            protocol: issued.protocol,
            names: issued.names,
            certificates: issued.certificates.clone(),
            bundle,
            ssh_certificate: issued.ssh_certificate,
            ssh_cas: issued.ssh_cas,
            ssh_host_cas: issued.ssh_host_cas,
            trust_version: issued.trust_version,
            spiffe_id,
            validity,
        })
    }

    /// What hosts of the cluster are verified with in SSH. Teleport's joins, and authorities from before hosts had a CA of
    /// their own, name all SSH CAs in one list.
    #[must_use]
    pub fn ssh_host_cas(&self) -> &[String] {
        if self.ssh_host_cas.is_empty() { &self.ssh_cas } else { &self.ssh_host_cas }
    }
}

/// Whether a name from the authority can be shown and written to files unchanged.
pub(crate) fn is_name(word: &str) -> bool {
    const MAX_TEXT: usize = 1024;
    !word.is_empty() && word.len() <= MAX_TEXT && word.chars().all(is_printable)
}

/// From when to when the first certificate of a PEM text is valid.
pub(crate) fn validity_of_pem(pem: &[u8]) -> Option<Validity> {
    validity(&CertificateDer::from_pem_slice(pem).ok()?)
}

/// From when to when a certificate is valid.
fn validity(der: &[u8]) -> Option<Validity> {
    let certificate = Certificate::from_der(der).ok()?;
    let validity = certificate.tbs_certificate().validity();
    let seconds = |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs());
    Some(Validity {
        not_before: seconds(validity.not_before).ok()?,
        not_after: seconds(validity.not_after).ok()?,
    })
}

#[cfg(test)]
mod tests;
