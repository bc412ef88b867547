//! X.509 certificates, RFC 5280.

use std::time::SystemTime;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc4519::{COMMON_NAME, ORGANIZATION_NAME};
use der::asn1::Ia5String;
use der::{Decode, Encode};
use ecc::SigningKey;
use p256::PublicKey;
use p256::ecdsa::DerSignature;
use pkcs8::DecodePublicKey;
use rustls_pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime,
};
use spki::{SubjectPublicKeyInfo, SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use time::OffsetDateTime;
use x509_cert::Certificate;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder};
use x509_cert::certificate::TbsCertificate;
use x509_cert::ext::pkix::certpolicy::PolicyInformation;
use x509_cert::ext::pkix::name::{GeneralName, GeneralNames};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, CertificatePolicies, ExtendedKeyUsage, KeyUsage,
    KeyUsages, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};
use zeroize::Zeroizing;

use super::profile::{Usages, authority_spiffe_id, trust_domain_id};
use super::subject::name;
use super::{CaKey, ClusterName, IssueError, MAX_BACKDATE, SubjectKey, TELEPORT_DOMAIN, Window};
use crate::resource::{DnsName, Timestamp};

/// The lifetime of the cluster's X.509 CA.
const CA_LIFETIME: time::Duration = time::Duration::days(3652);

/// How much earlier than now the validity of a new CA begins: if it is created while the clock is ahead, for example by a time
/// zone, it is valid once the clock is corrected.
const CA_BACKDATE: time::Duration = time::Duration::days(1);

/// The lifetime of the authority's own certificate, which is renewed at half of it.
const SERVER_LIFETIME: time::Duration = time::Duration::hours(24);

/// The cluster's X.509 CA.
#[derive(Debug)]
pub struct X509Ca {
    key: CaKey,
    key_id: String,
    name: Name,
    certificate: CertificateDer<'static>,
    /// The certificate as peers trust it, parsed once.
    anchor: TrustAnchor<'static>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

/// A certificate of the authority itself, with its key.
pub struct ServerLeaf {
    /// The certificates of leaf and CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key, PKCS #8.
    pub key: PrivatePkcs8KeyDer<'static>,
    /// When it was issued, even if the validity of the CA begins later.
    pub not_before: OffsetDateTime,
    /// Its expiry.
    pub not_after: OffsetDateTime,
}

/// The subjectAltName of a host's certificate: exactly one URI (X509-SVID section 2), and names in the DNS.
#[derive(Debug, Clone, Copy)]
pub(super) struct AlternativeNames<'a> {
    pub(super) uri: &'a str,
    pub(super) dns: &'a [DnsName],
}

impl<'a> AlternativeNames<'a> {
    /// This SPIFFE ID alone.
    pub(super) fn only(uri: &'a str) -> Self {
        Self { uri, dns: &[] }
    }

    fn general(self) -> Result<GeneralNames, IssueError> {
        let uri = GeneralName::UniformResourceIdentifier(ia5(self.uri)?);
        let dns = self.dns.iter().map(|name| ia5(name.as_str()).map(GeneralName::DnsName));
        [Ok(uri)].into_iter().chain(dns).collect()
    }
}

/// A host's certificate.
pub(super) struct HostCertificate {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) serial: String,
    /// The last 64 bits of the serial number, which is what SSH has room for.
    pub(super) serial_low: u64,
}

impl X509Ca {
    /// Creates a CA with a self-signed certificate.
    pub fn create(
        cluster: &ClusterName,
        key: CaKey,
        now: OffsetDateTime,
    ) -> Result<Self, IssueError> {
        let window = Window { not_before: now - CA_BACKDATE, not_after: now + CA_LIFETIME };
        let serial = Serial::random()?;
        // Each CA has its own name, so that peers can distinguish two CAs of a cluster by name.
        let id = base16ct::lower::encode_string(serial.0.get(..4).unwrap_or_default());
        let subject = name(&[
            (ORGANIZATION_NAME, cluster.to_string()),
            (COMMON_NAME, format!("X.509 CA {id}")),
        ])?;
        let spki = public_key_info(&key.public())?;
        let id = AlternativeNames::only(&trust_domain_id(cluster)).general()?;
        let template = Template { issuer: subject.clone(), subject, role: Role::Ca(id) };
        let certificate = sign(&key, template, &serial, window, spki)?;
        Self::load(&certificate, key)
    }

    /// A CA that signs nothing any more.
    pub fn without_private(certificate: &CertificateDer<'_>) -> Result<Self, IssueError> {
        let parsed = Certificate::from_der(certificate).map_err(IssueError::x509)?;
        let spki = parsed.tbs_certificate().subject_public_key_info();
        let spki = spki.to_der().map_err(IssueError::x509)?;
        let public = PublicKey::from_public_key_der(&spki).map_err(IssueError::x509)?;
        Self::load(certificate, CaKey::without_private(public))
    }

    /// Loads a CA. Refuses a key that is not the certificate's.
    pub fn load(certificate: &CertificateDer<'_>, key: CaKey) -> Result<Self, IssueError> {
        let parsed = Certificate::from_der(certificate).map_err(IssueError::x509)?;
        let tbs = parsed.tbs_certificate();
        if *tbs.subject_public_key_info() != public_key_info(&key.public())? {
            return Err(IssueError::x509("the CA's certificate and key do not match"));
        }
        let anchor = webpki::anchor_from_trusted_cert(certificate).map_err(IssueError::x509)?;
        Ok(Self {
            anchor: anchor.to_owned(),
            name: tbs.subject().clone(),
            not_before: tbs.validity().not_before.to_system_time().into(),
            not_after: tbs.validity().not_after.to_system_time().into(),
            certificate: certificate.clone().into_owned(),
            key_id: key.key_id()?,
            key,
        })
    }

    /// The CA's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What signs.
    pub(super) fn signer(&self) -> Result<&SigningKey, IssueError> {
        self.key.signer()
    }

    /// The ID of the key: SHA-256 of its SubjectPublicKeyInfo, in hexadecimal, as in the CA pin.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// The private key, PKCS #8 PEM.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn private_pem(&self) -> Result<Zeroizing<String>, IssueError> {
        self.key.to_pem()
    }

    /// The public key in it.
    pub(super) fn public_key(&self) -> PublicKey {
        self.key.public()
    }

    /// The expiry of the CA, and so the latest expiry of what it signs.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// The start of the CA's validity; no certificate that it signs may begin earlier.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// Whether the CA is valid at this time.
    ///
    /// # Errors
    /// It is not valid yet, or has expired.
    pub fn check_time(&self, now: OffsetDateTime) -> Result<(), IssueError> {
        let (begin, end) = (Timestamp(self.not_before), Timestamp(self.not_after));
        if now < begin.0 {
            return Err(IssueError(format!(
                "the X.509 CA is not valid before {begin}: the clock was ahead when it was \
                 created, or is behind now"
            )));
        }
        if now >= end.0 {
            return Err(IssueError(format!("the X.509 CA expired at {end}")));
        }
        Ok(())
    }

    /// A certificate for the TLS server of this cluster's authority, with a new key.
    pub fn server(
        &self,
        cluster: &ClusterName,
        now: OffsetDateTime,
    ) -> Result<ServerLeaf, IssueError> {
        // The wildcard stands for all cluster names; a client that compares names literally needs its own.
        let teleport = [TELEPORT_DOMAIN.to_owned(), format!("*.{TELEPORT_DOMAIN}")];
        let names = [tls::AUTHORITY_NAME.to_owned()].into_iter().chain(teleport);
        let names = names.chain(cluster.server_name());
        let names = names.map(|name| ia5(&name).map(GeneralName::DnsName));
        let names = names.collect::<Result<_, _>>()?;
        self.own(tls::AUTHORITY_NAME, names, Usages::SERVER, now)
    }

    /// A certificate for the server of the SPIFFE bundle, an X.509-SVID of the authority, with a new key.
    pub fn bundle_server(
        &self,
        cluster: &ClusterName,
        now: OffsetDateTime,
    ) -> Result<ServerLeaf, IssueError> {
        let id = GeneralName::UniformResourceIdentifier(ia5(&authority_spiffe_id(cluster))?);
        self.own("bundle endpoint", vec![id], Usages::PEER, now)
    }

    /// A certificate for a server of the authority.
    fn own(
        &self,
        common_name: &str,
        names: GeneralNames,
        usages: Usages,
        now: OffsetDateTime,
    ) -> Result<ServerLeaf, IssueError> {
        let window = Window {
            not_before: (now - MAX_BACKDATE).max(self.not_before),
            not_after: (now.max(self.not_before) + SERVER_LIFETIME).min(self.not_after),
        };
        let key = CaKey::generate()?;
        let template = Template {
            issuer: self.name.clone(),
            subject: name(&[(COMMON_NAME, common_name.to_owned())])?,
            role: Role::EndEntity(names, usages),
        };
        let spki = public_key_info(&key.public())?;
        let leaf = sign(&self.key, template, &Serial::random()?, window, spki)?;
        Ok(ServerLeaf {
            chain: vec![leaf, self.certificate.clone()],
            key: pkcs8(&key)?,
            not_before: now - MAX_BACKDATE,
            not_after: window.not_after,
        })
    }

    pub(super) fn host(
        &self,
        subject: Name,
        names: AlternativeNames<'_>,
        usages: Usages,
        key: &SubjectKey,
        window: Window,
    ) -> Result<HostCertificate, IssueError> {
        let role = Role::EndEntity(names.general()?, usages);
        let template = Template { issuer: self.name.clone(), subject, role };
        let serial = Serial::random()?;
        let certificate = sign(&self.key, template, &serial, window, key.spki()?)?;
        Ok(HostCertificate {
            certificate,
            serial: serial_text(&serial.0),
            serial_low: u64::from_be_bytes(*serial.0.last_chunk().unwrap_or(&[0; 8])),
        })
    }

    /// Verifies a host's certificate as its peers will: chain, time, usages, name.
    pub(super) fn verify_host(
        &self,
        certificate: &CertificateDer<'_>,
        names: AlternativeNames<'_>,
        usages: Usages,
        now: OffsetDateTime,
    ) -> Result<(), IssueError> {
        self.verify_host_with(
            tls::provider().signature_verification_algorithms.all,
            certificate,
            names,
            usages,
            now,
        )
    }

    /// [`Self::verify_host`] with these algorithms, so that tests can count signature checks.
    pub(super) fn verify_host_with(
        &self,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
        certificate: &CertificateDer<'_>,
        names: AlternativeNames<'_>,
        usages: Usages,
        now: OffsetDateTime,
    ) -> Result<(), IssueError> {
        let leaf = webpki::EndEntityCert::try_from(certificate).map_err(IssueError::x509)?;
        let seconds = u64::try_from(now.unix_timestamp()).map_err(IssueError::x509)?;
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let anchors = std::slice::from_ref(&self.anchor);
        leaf.verify_for_usage(algorithms, anchors, &[], at, usages, None, None)
            .map_err(IssueError::x509)?;
        let uris: Vec<_> = leaf.valid_uri_names().collect();
        let dns: Vec<_> = leaf.valid_dns_names().collect();
        if uris == [names.uri] && names.dns.iter().map(DnsName::as_str).eq(dns.iter().copied()) {
            return Ok(());
        }
        Err(IssueError::x509(format!("URI names {uris:?}, DNS names {dns:?}")))
    }
}

/// Requires all extended usages at once, so that one path, and with it one signature check, serves each of them.
impl webpki::ExtendedKeyUsageValidator for Usages {
    fn validate(&self, purposes: webpki::KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let mut missing = self.extended.to_vec();
        for purpose in purposes {
            let purpose = purpose?;
            missing.retain(|usage| purpose != webpki::KeyPurposeId::new(usage.as_bytes()));
        }
        if missing.is_empty() { Ok(()) } else { Err(webpki::Error::UnknownIssuer) }
    }
}

/// Bytes in lowercase hexadecimal, joined by colons: the form in which serial numbers are shown.
pub fn serial_text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| base16ct::lower::encode_string(&[byte])).collect::<Vec<_>>().join(":")
}

/// The content of a certificate, except for key, serial number and dates.
struct Template {
    issuer: Name,
    subject: Name,
    role: Role,
}

enum Role {
    /// Its SPIFFE ID is that of the trust domain (X509-SVID section 3.2).
    Ca(GeneralNames),
    EndEntity(GeneralNames, Usages),
}

impl BuilderProfile for Template {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        key: SubjectPublicKeyInfoRef<'_>,
        issuer_key: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        let mut all = Extensions { subject: tbs.subject(), all: Vec::new() };
        all.add(&SubjectKeyIdentifier::try_from(key)?)?;
        match &self.role {
            Role::Ca(id) => {
                // No CA below this one.
                all.add(&BasicConstraints { ca: true, path_len_constraint: Some(0) })?;
                all.add(&KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign))?;
                all.add(&SubjectAltName(id.clone()))?;
            }
            Role::EndEntity(names, usages) => {
                all.add(&AuthorityKeyIdentifier::try_from(issuer_key)?)?;
                all.add(&BasicConstraints { ca: false, path_len_constraint: None })?;
                all.add(&KeyUsage(usages.key.into()))?;
                all.add(&ExtendedKeyUsage(usages.extended.to_vec()))?;
                all.add(&SubjectAltName(names.clone()))?;
                if !usages.assured.is_empty() {
                    let policy = |policy: &ObjectIdentifier| PolicyInformation {
                        policy_identifier: *policy,
                        policy_qualifiers: None,
                    };
                    all.add(&CertificatePolicies(usages.assured.iter().map(policy).collect()))?;
                }
            }
        }
        Ok(all.all)
    }
}

struct Extensions<'a> {
    subject: &'a Name,
    all: Vec<Extension>,
}

impl Extensions<'_> {
    fn add<E: ToExtension>(&mut self, extension: E) -> x509_cert::builder::Result<()>
    where
        x509_cert::builder::Error: From<E::Error>,
    {
        let extension = extension.to_extension(self.subject, &self.all)?;
        self.all.push(extension);
        Ok(())
    }
}

fn sign(
    key: &CaKey,
    template: Template,
    serial: &Serial,
    window: Window,
    spki: SubjectPublicKeyInfoOwned,
) -> Result<CertificateDer<'static>, IssueError> {
    let time = |at: OffsetDateTime| Time::try_from(SystemTime::from(at)).map_err(IssueError::x509);
    let validity = Validity::new(time(window.not_before)?, time(window.not_after)?);
    let serial = SerialNumber::new(&serial.0).map_err(IssueError::x509)?;
    let certificate = CertificateBuilder::new(template, serial, validity, spki)
        .map_err(IssueError::x509)?
        .build::<_, DerSignature>(key.signer()?)
        .map_err(IssueError::x509)?;
    Ok(CertificateDer::from(certificate.to_der().map_err(IssueError::x509)?))
}

/// 127 random bits and a 1: unique and unpredictable.
struct Serial([u8; 16]);

impl Serial {
    fn random() -> Result<Self, IssueError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(IssueError::x509)?;
        // A leading zero byte would not be encoded, and then the text of the number would have
        // another length.
        bytes[0] |= 1;
        Ok(Self(bytes))
    }
}

fn ia5(text: &str) -> Result<Ia5String, IssueError> {
    Ia5String::new(text).map_err(IssueError::x509)
}

fn public_key_info(key: &PublicKey) -> Result<SubjectPublicKeyInfoOwned, IssueError> {
    SubjectPublicKeyInfo::from_key(key).map_err(IssueError::x509)
}

fn pkcs8(key: &CaKey) -> Result<PrivatePkcs8KeyDer<'static>, IssueError> {
    use pkcs8::EncodePrivateKey;
    let document = key.secret()?.to_pkcs8_der().map_err(IssueError::x509)?;
    let bytes: Zeroizing<Vec<u8>> = document.to_bytes();
    Ok(PrivatePkcs8KeyDer::from(bytes.to_vec()))
}
