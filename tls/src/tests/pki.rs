//! A certification authority for tests.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::pkcs8::KeypairBytes;
use p256::ecdsa::signature::Signer;
use p256::elliptic_curve::Generate;
use p256::pkcs8::EncodePrivateKey;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::sign::{SigningKey, SingleCertAndKey};
use testkit::forge::{
    self, DIGITAL_SIGNATURE, KEY_CERT_SIGN, ca_constraints, dns_name, identifier, ip_address,
    key_usage, not_ca, oid, purposes, seq, unsigned,
};
use x509_cert::der::Encode;
use x509_cert::der::asn1::GeneralizedTime;
use x509_cert::name::Name;
use x509_cert::time::Time;

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

    fn algorithm(&self) -> &'static [u8] {
        match self {
            Self::P256(_) => oid::ECDSA_WITH_SHA256,
            Self::P384(_) => oid::ECDSA_WITH_SHA384,
            Self::Ed25519(_) => oid::ED25519,
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::DerSignature = key.sign(message);
                signature.as_bytes().to_vec()
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::DerSignature = key.sign(message);
                signature.as_bytes().to_vec()
            }
            Self::Ed25519(key) => key.sign(message).to_bytes().to_vec(),
        }
    }
}

/// What a certificate says.
#[derive(Clone)]
pub(super) struct Template {
    pub(super) subject: &'static str,
    pub(super) issuer: &'static str,
    pub(super) dns: Option<&'static str>,
    pub(super) ip: Option<[u8; 4]>,
    pub(super) ca: bool,
    /// Bits of the key usage.
    pub(super) usage: &'static [u8],
    /// Of the leaf's key.
    pub(super) purposes: &'static [&'static [u8]],
    /// In seconds from now.
    pub(super) validity: (i64, i64),
}

pub(super) const CA: Template = Template {
    subject: "CN=CA,O=endorse.test",
    issuer: "CN=CA,O=endorse.test",
    dns: None,
    ip: None,
    ca: true,
    usage: KEY_CERT_SIGN,
    purposes: &[oid::CLIENT_AUTH, oid::SERVER_AUTH],
    validity: (-60, 3600),
};
pub(super) const AUTHORITY: Template = Template {
    subject: "CN=authority",
    dns: Some(AUTHORITY_NAME),
    ca: false,
    usage: DIGITAL_SIGNATURE,
    ..CA
};
pub(super) const BOT: Template = Template { subject: "CN=bot-example", dns: None, ..AUTHORITY };

impl Template {
    pub(super) fn issue(&self, subject: &Key, issuer: &Key) -> CertificateDer<'static> {
        let name = |text| Name::from_str(text).unwrap().to_der().unwrap();
        let at = |offset: i64| {
            let seconds = UnixTime::now().as_secs().checked_add_signed(offset).unwrap();
            let time = GeneralizedTime::from_unix_duration(Duration::from_secs(seconds));
            Time::from(time.unwrap().to_date_time()).to_der().unwrap()
        };
        let spki = subject.spki().to_vec();
        let mut template = forge::Template::new(name(self.subject), spki, self.extensions());
        template.serial = unsigned(&random::<8>());
        template.algorithm = seq(&[&identifier(issuer.algorithm())]);
        template.not_before = at(self.validity.0);
        template.not_after = at(self.validity.1);
        template.signed_by(&name(self.issuer), |tbs| issuer.sign(tbs)).into()
    }

    fn extensions(&self) -> Vec<Vec<u8>> {
        let constraints = if self.ca { ca_constraints(None) } else { not_ca() };
        let mut extensions = vec![constraints, key_usage(self.usage)];
        if !self.ca {
            extensions.push(purposes(self.purposes));
        }
        extensions.extend(self.dns.map(dns_name));
        extensions.extend(self.ip.map(|ip| ip_address(&ip)));
        extensions
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
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
