//! A certification authority for tests.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::pkcs8::KeypairBytes;
use p256::elliptic_curve::Generate;
use p256::pkcs8::EncodePrivateKey;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::sign::{SigningKey, SingleCertAndKey};
use x509_cert::TbsCertificate;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{Builder, CertificateBuilder, Result};
use x509_cert::der::asn1::{GeneralizedTime, Ia5String};
use x509_cert::der::oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
};
use x509_cert::ext::{Extension, ToExtension};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{SubjectPublicKeyInfoOwned, SubjectPublicKeyInfoRef};
use x509_cert::time::{Time, Validity};

use crate::{AUTHORITY_NAME, CaPin, identity, software_key};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    P256,
    P384,
    Ed25519,
}

pub(super) const KINDS: [Kind; 3] = [Kind::P256, Kind::P384, Kind::Ed25519];

/// A private key that can sign certificates.
#[derive(Clone)]
pub(super) enum Key {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    Ed25519(ed25519_dalek::SigningKey),
}

impl Key {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::P256 => Self::P256(p256::ecdsa::SigningKey::generate()),
            Kind::P384 => Self::P384(p384::ecdsa::SigningKey::generate()),
            Kind::Ed25519 => Self::Ed25519(ed25519_dalek::SigningKey::from_bytes(&random())),
        }
    }

    pub(super) fn pkcs8(&self) -> PrivatePkcs8KeyDer<'static> {
        let der = match self {
            Self::P256(key) => key.to_pkcs8_der(),
            Self::P384(key) => key.to_pkcs8_der(),
            // Without the public key, which OpenSSL 3.0 does not expect there.
            Self::Ed25519(key) => {
                KeypairBytes { secret_key: key.to_bytes(), public_key: None }.to_pkcs8_der()
            }
        };
        der.unwrap().as_bytes().to_vec().into()
    }

    pub(super) fn signing(&self) -> Arc<dyn SigningKey> {
        software_key(self.pkcs8().into()).unwrap()
    }

    pub(super) fn spki(&self) -> SubjectPublicKeyInfoDer<'static> {
        self.signing().public_key().unwrap().into_owned()
    }
}

/// What a certificate says.
#[derive(Clone)]
pub(super) struct Template {
    pub(super) subject: &'static str,
    pub(super) issuer: &'static str,
    pub(super) dns: Option<&'static str>,
    pub(super) ca: bool,
    pub(super) usage: KeyUsages,
    /// In seconds from now.
    pub(super) validity: (i64, i64),
}

pub(super) const CA: Template = Template {
    subject: "CN=CA,O=endorse.test",
    issuer: "CN=CA,O=endorse.test",
    dns: None,
    ca: true,
    usage: KeyUsages::KeyCertSign,
    validity: (-60, 3600),
};
pub(super) const AUTHORITY: Template = Template {
    subject: "CN=authority",
    dns: Some(AUTHORITY_NAME),
    ca: false,
    usage: KeyUsages::DigitalSignature,
    ..CA
};
pub(super) const BOT: Template = Template { subject: "CN=bot-example", dns: None, ..AUTHORITY };

impl Template {
    pub(super) fn issue(&self, subject: &Key, issuer: &Key) -> CertificateDer<'static> {
        let at = |offset: i64| {
            let seconds = UnixTime::now().as_secs().checked_add_signed(offset).unwrap();
            let time = GeneralizedTime::from_unix_duration(Duration::from_secs(seconds));
            Time::from(time.unwrap())
        };
        let validity = Validity::new(at(self.validity.0), at(self.validity.1));
        let spki = SubjectPublicKeyInfoOwned::from_der(&subject.spki()).unwrap();
        let serial = SerialNumber::new(&serial()).unwrap();
        let builder = CertificateBuilder::new(self.clone(), serial, validity, spki).unwrap();
        let certificate = match issuer {
            Key::P256(key) => builder.build::<_, p256::ecdsa::DerSignature>(key),
            Key::P384(key) => builder.build::<_, p384::ecdsa::DerSignature>(key),
            Key::Ed25519(key) => builder.build::<_, ed25519_dalek::Signature>(key),
        };
        certificate.unwrap().to_der().unwrap().into()
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

fn serial() -> [u8; 8] {
    let mut serial = random();
    serial[0] = serial[0] & 0x7F | 0x40;
    serial
}

impl BuilderProfile for Template {
    fn get_issuer(&self, _: &Name) -> Name {
        Name::from_str(self.issuer).unwrap()
    }

    fn get_subject(&self) -> Name {
        Name::from_str(self.subject).unwrap()
    }

    fn build_extensions(
        &self,
        _: SubjectPublicKeyInfoRef<'_>,
        _: SubjectPublicKeyInfoRef<'_>,
        tbs: &TbsCertificate,
    ) -> Result<Vec<Extension>> {
        let mut extensions = Vec::new();
        let mut add = |extension: Extension| extensions.push(extension);
        let basic = BasicConstraints { ca: self.ca, path_len_constraint: None };
        add((&basic).to_extension(tbs.subject(), &[])?);
        add((&KeyUsage(self.usage.into())).to_extension(tbs.subject(), &[])?);
        if !self.ca {
            let usage = ExtendedKeyUsage(vec![ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH]);
            add((&usage).to_extension(tbs.subject(), &[])?);
        }
        if let Some(dns) = self.dns {
            let names = SubjectAltName(vec![GeneralName::DnsName(Ia5String::new(dns)?)]);
            add((&names).to_extension(tbs.subject(), &[])?);
        }
        Ok(extensions)
    }
}

/// A CA, the authority under it, and a bot.
pub(super) struct Pki {
    pub(super) ca_key: Key,
    pub(super) ca: CertificateDer<'static>,
    pub(super) authority_key: Key,
    pub(super) authority: CertificateDer<'static>,
    pub(super) bot_key: Key,
    pub(super) bot: CertificateDer<'static>,
}

impl Pki {
    pub(super) fn new(kind: Kind) -> Self {
        let (ca_key, authority_key, bot_key) = (Key::new(kind), Key::new(kind), Key::new(kind));
        Self {
            ca: CA.issue(&ca_key, &ca_key),
            authority: AUTHORITY.issue(&authority_key, &ca_key),
            bot: BOT.issue(&bot_key, &ca_key),
            ca_key,
            authority_key,
            bot_key,
        }
    }

    pub(super) fn pin(&self) -> CaPin {
        CaPin::of_certificate(&self.ca).unwrap()
    }

    /// The authority also presents its CA, for clients that know only the pin.
    pub(super) fn authority_identity(&self) -> Arc<SingleCertAndKey> {
        let chain = vec![self.authority.clone(), self.ca.clone()];
        identity(chain, self.authority_key.signing()).unwrap()
    }

    pub(super) fn bot_identity(&self) -> Arc<SingleCertAndKey> {
        identity(vec![self.bot.clone()], self.bot_key.signing()).unwrap()
    }
}
