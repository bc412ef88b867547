//! The identity of a host as it is stored: its credentials, and what its TPM needs to create the join key again. No private key.

use std::time::Duration;

use base64ct::{Base64, Encoding};
use host::clock;
use host::exit::Failure;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tls::CaPin;
use tpm2::endorsement::{EkKind, MAX_CHAIN};
use verifier::{CaCertificate, EkCertificate, EkPublicKey};

use crate::config::Protocol;
use crate::credential::validity::Validity;
use crate::credential::{Credentials, Names, TrustBundle};
use crate::tpm::attester::{AkAlgorithm, KnownEk, KnownJoinKey};
use crate::tpm::inventory::EkChoice;

/// The version of the file's form.
const VERSION: u32 = 1;

/// Everything that is kept between two runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    version: u32,
    /// The protocol of the join, by which it is renewed; files of older agents do not have it.
    #[serde(default = "endorse")]
    pub protocol: Protocol,
    /// HOST:PORT.
    pub authority: String,
    /// The CA pins of the configuration that the host joined with; none if the join was by a public name.
    pub ca_pins: Vec<String>,
    /// What authenticated the server of the join, for people; unknown of what an older agent stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_contact: Option<String>,
    /// The token of the join.
    pub token: String,
    /// The cluster.
    pub cluster: String,
    /// The bot.
    pub bot: String,
    /// The bot instance, a UUID.
    pub instance: String,
    /// The SPIFFE ID; an identity of a Teleport cluster has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<String>,
    /// When we joined, RFC 3339.
    pub joined: String,
    /// When the certificates begin, RFC 3339.
    pub not_before: String,
    /// When the certificates end, RFC 3339.
    pub not_after: String,
    /// The lifetime that was asked for, in seconds; unknown of what an older agent stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// How often this identity was issued: 1 by the join, one more by each renewal.
    pub generation: u64,
    /// The TPM.
    pub tpm: StoredTpm,
    /// X.509 certificates, leaf first.
    certificates: Vec<Octets>,
    /// The trust bundle.
    #[serde(rename = "x509_authorities")]
    x509_cas: Vec<Octets>,
    /// The SSH certificate.
    pub ssh_certificate: String,
    /// Keys of the SSH CAs that sign user certificates, one authorized_keys line each.
    #[serde(rename = "ssh_authorities")]
    pub ssh_cas: Vec<String>,
    /// Keys of the SSH CAs that sign host certificates; none if the server had one list for both.
    #[serde(rename = "ssh_host_authorities", default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_host_cas: Vec<String>,
    /// The number of the trust bundle, by the authority's count; 0 of a server without one.
    #[serde(default)]
    pub trust_version: u64,
}

/// What is kept of the TPM.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredTpm {
    /// The kind of the endorsement key.
    pub ek: String,
    /// SHA-256 of the endorsement key, which identifies the TPM.
    pub ek_public_hash: String,
    ek_public_key: Octets,
    ek_certificate: Option<Octets>,
    /// Intermediate certificates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ek_chain: Vec<Octets>,
    /// The unique field of the join key's template.
    unique: Octets,
    /// The join key, TPMT_PUBLIC.
    join_key: Octets,
    /// The attestation key that a Teleport cluster took; each join has another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attestation_key: Option<AkAlgorithm>,
}

/// The facts of a join that are stored with the credentials.
#[derive(Clone, Debug)]
pub struct Joined {
    /// HOST:PORT.
    pub authority: String,
    /// The CA pins of the configuration, if any.
    pub ca_pins: Vec<CaPin>,
    /// What authenticated the server.
    pub first_contact: String,
    /// The token.
    pub token: String,
    /// The lifetime that was asked for.
    pub ttl: Duration,
    /// Now, seconds since 1970.
    pub at: i64,
}

impl Identity {
    /// The identity after a join.
    ///
    /// # Errors
    /// A time that cannot be written.
    pub fn new(
        joined: Joined,
        credentials: Credentials,
        ek: &KnownEk,
        join_key: &KnownJoinKey,
    ) -> Result<Self, Failure> {
        let Names { cluster, bot, instance, generation } = credentials.names;
        Ok(Self {
            version: VERSION,
            protocol: credentials.protocol,
            authority: joined.authority,
            ca_pins: joined.ca_pins.iter().map(ToString::to_string).collect(),
            first_contact: Some(joined.first_contact),
            token: joined.token,
            cluster,
            bot,
            instance,
            spiffe_id: credentials.spiffe_id,
            joined: rfc3339(joined.at)?,
            not_before: rfc3339(credentials.validity.not_before)?,
            not_after: rfc3339(credentials.validity.not_after)?,
            ttl_seconds: Some(joined.ttl.as_secs()),
            generation,
            tpm: StoredTpm {
                ek: ek.kind.name.to_owned(),
                ek_public_hash: ek.key.public_hash(),
                ek_public_key: Octets(ek.key.spki_der()),
                ek_certificate: ek.certificate.as_ref().map(|ek| Octets(ek.der().to_vec())),
                ek_chain: ek.chain.iter().map(|ca| Octets(ca.der().to_vec())).collect(),
                unique: Octets(join_key.unique.to_vec()),
                join_key: Octets(join_key.public.clone()),
                attestation_key: None,
            },
            certificates: credentials.certificates.into_iter().map(Octets).collect(),
            x509_cas: octets(&credentials.bundle),
            ssh_certificate: credentials.ssh_certificate,
            ssh_cas: credentials.ssh_cas,
            ssh_host_cas: credentials.ssh_host_cas,
            trust_version: credentials.trust_version,
        })
    }

    /// The same identity with new credentials for the same key.
    ///
    /// # Errors
    /// A time that cannot be written.
    pub fn renewed(
        &self,
        authority: String,
        credentials: Credentials,
        ttl: Duration,
    ) -> Result<Self, Failure> {
        Ok(Self {
            authority,
            ttl_seconds: Some(ttl.as_secs()),
            spiffe_id: credentials.spiffe_id,
            not_before: rfc3339(credentials.validity.not_before)?,
            not_after: rfc3339(credentials.validity.not_after)?,
            generation: credentials.names.generation,
            certificates: credentials.certificates.into_iter().map(Octets).collect(),
            x509_cas: octets(&credentials.bundle),
            ssh_certificate: credentials.ssh_certificate,
            ssh_cas: credentials.ssh_cas,
            ssh_host_cas: credentials.ssh_host_cas,
            trust_version: credentials.trust_version,
            ..self.clone()
        })
    }

    /// The same, with the attestation key that the server took.
    #[must_use]
    pub fn attested_by(mut self, algorithm: Option<AkAlgorithm>) -> Self {
        self.tpm.attestation_key = algorithm;
        self
    }

    /// The attestation key to join again with.
    #[must_use]
    pub fn attestation_key(&self) -> AkAlgorithm {
        self.tpm.attestation_key.unwrap_or_default()
    }

    /// Whether a renewal for these names is one of this identity: everything but the generation is the same.
    #[must_use]
    pub fn is_renewed_by(&self, names: &Names) -> bool {
        (&names.cluster, &names.bot, &names.instance) == (&self.cluster, &self.bot, &self.instance)
    }

    /// From when to when the certificates are valid.
    ///
    /// # Errors
    /// The stored times are malformed.
    pub fn validity(&self) -> Result<Validity, String> {
        let seconds = |text: &str| {
            OffsetDateTime::parse(text, &Rfc3339)
                .map(OffsetDateTime::unix_timestamp)
                .map_err(|error| format!("time {text:?}: {error}"))
        };
        Ok(Validity {
            not_before: seconds(&self.not_before)?,
            not_after: seconds(&self.not_after)?,
        })
    }

    /// Why a configuration asks for another identity than this one; `None` if it does not. `token` is the name that it has
    /// now, if that can be read.
    #[must_use]
    pub fn mismatch(
        &self,
        token: Option<&str>,
        pins: &[CaPin],
        choice: EkChoice,
        protocol: Option<Protocol>,
    ) -> Option<String> {
        if let Some(token) = token.filter(|token| *token != self.token) {
            let before = &self.token;
            return Some(format!(
                "the token is now {token:?}, but the identity was issued for {before:?}"
            ));
        }
        if !self.is_of(pins) {
            let cluster = &self.cluster;
            return Some(format!(
                "no CA of the identity's cluster {cluster} is configured any more"
            ));
        }
        if let Some(protocol) = protocol.filter(|protocol| *protocol != self.protocol) {
            let before = self.protocol;
            return Some(format!(
                "the protocol is now {protocol}, but the identity was issued by {before}"
            ));
        }
        let before = &self.tpm.ek;
        let other = !choice.allows(before);
        other.then(|| format!("the EK is now {choice}, but the identity was issued for {before}"))
    }

    /// Whether these pins are of the cluster of this identity: one of its CAs is pinned, or no pin was taken away since the
    /// join. The latter holds for a cluster that has replaced the CA that is pinned. Without pins, any cluster is accepted.
    pub(crate) fn is_of(&self, pins: &[CaPin]) -> bool {
        let is_any = |all: &[CaPin]| all.iter().any(|pin| pins.contains(pin));
        let is_kept =
            |before: &[CaPin]| !before.is_empty() && before.iter().all(|pin| pins.contains(pin));
        pins.is_empty()
            || self.bundle().is_ok_and(|bundle| is_any(bundle.pins()))
            || self.pins().is_ok_and(|before| is_kept(&before))
    }

    /// The CAs that authenticate the authority for this identity: those of its bundle, and those that the operator has
    /// pinned since the join.
    ///
    /// # Errors
    /// What is stored cannot be read.
    pub fn trusted(&self, pins: &[CaPin]) -> Result<Vec<CaPin>, String> {
        let (bundle, before) = (self.bundle()?, self.pins()?);
        let added = pins.iter().filter(|pin| !before.contains(pin));
        Ok(bundle.pins().iter().chain(added).copied().collect())
    }

    /// Reads the file's text, and checks that its parts belong together.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let identity: Self = serde_json::from_str(text).map_err(|error| printable(&error))?;
        identity.check()
    }

    fn check(self) -> Result<Self, String> {
        if self.version != VERSION {
            return Err(format!("version {} is not supported by this agent", self.version));
        }
        self.known_ek()?;
        verifier::JoinKey::appraise(&self.join_key()?.public)
            .map_err(|error| format!("join key: {error}"))?;
        self.pins()?;
        self.bundle()?;
        self.validity()?;
        Ok(self)
    }

    /// The endorsement key that this identity rests on.
    ///
    /// # Errors
    /// What is stored is no endorsement key.
    pub fn known_ek(&self) -> Result<KnownEk, String> {
        let kind = EkKind::by_name(&self.tpm.ek)
            .ok_or_else(|| format!("unknown endorsement key {:?}", self.tpm.ek))?;
        let key = EkPublicKey::from_spki(&self.tpm.ek_public_key.0)
            .map_err(|error| format!("endorsement key: {error}"))?;
        let certificate = self.tpm.ek_certificate.as_ref();
        let certificate = certificate
            .map(|bytes| EkCertificate::parse(&bytes.0))
            .transpose()
            .map_err(|error| format!("EK certificate: {error}"))?;
        if certificate.as_ref().is_some_and(|certificate| *certificate.public_key() != key) {
            return Err("the EK certificate is not for the endorsement key".into());
        }
        if self.tpm.ek_chain.len() > MAX_CHAIN {
            return Err(format!(
                "more than {MAX_CHAIN} certificates in addition to the EK certificate"
            ));
        }
        let chain = self.tpm.ek_chain.iter().map(|bytes| CaCertificate::parse(&bytes.0));
        let chain = chain
            .collect::<Result<_, _>>()
            .map_err(|error| format!("intermediate certificate: {error}"))?;
        Ok(KnownEk { kind, key, certificate, chain })
    }

    /// The join key, as the TPM creates it again.
    ///
    /// # Errors
    /// Its unique field is not 32 bytes long.
    pub fn join_key(&self) -> Result<KnownJoinKey, String> {
        let unique = self.tpm.unique.0.as_slice().try_into();
        let unique = unique.map_err(|_| "the join key's unique field is not 32 bytes")?;
        Ok(KnownJoinKey { unique, public: self.tpm.join_key.0.clone() })
    }

    /// The CA pins of the configuration that the host joined with.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn pins(&self) -> Result<Vec<CaPin>, String> {
        self.ca_pins.iter().map(|pin| pin.parse().map_err(|error| format!("{error}"))).collect()
    }

    /// X.509 certificates, leaf first, DER.
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.certificates.iter().map(|bytes| bytes.0.as_slice())
    }

    /// What peers, and the authority itself, are verified with.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn bundle(&self) -> Result<TrustBundle, String> {
        TrustBundle::new(self.x509_cas())
    }

    /// The trust bundle, DER.
    pub fn x509_cas(&self) -> impl Iterator<Item = &[u8]> {
        self.x509_cas.iter().map(|bytes| bytes.0.as_slice())
    }
}

/// The protocol of an identity that an older agent stored.
const fn endorse() -> Protocol {
    Protocol::Endorse
}

/// An error may repeat text of the file, so control characters are escaped.
fn printable(error: &serde_json::Error) -> String {
    host::terminal::escape(&error.to_string())
}

/// Whole seconds, in UTC.
pub(crate) fn rfc3339(seconds: i64) -> Result<String, Failure> {
    let time = OffsetDateTime::from_unix_timestamp(seconds).map_err(Failure::bug)?;
    Ok(clock::rfc3339(time))
}

fn octets(bundle: &TrustBundle) -> Vec<Octets> {
    bundle.certificates().iter().cloned().map(Octets).collect()
}

/// Bytes that are base64 in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Octets(Vec<u8>);

impl Serialize for Octets {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Base64::encode_string(&self.0))
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Base64::decode_vec(&text).map(Octets).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
impl Identity {
    /// An identity of the host `c`, `b`, `i`, whose join key's template has this unique field.
    pub(crate) fn with_unique(unique: &[u8]) -> Self {
        let text = ["authority", "token", "joined", "not_before", "not_after"];
        let mut json = serde_json::json!({
            "version": VERSION, "cluster": "c", "bot": "b", "instance": "i", "generation": 1,
            "ca_pins": [], "ssh_certificate": "", "ssh_authorities": [], "certificates": [],
            "x509_authorities": [], "tpm": {"ek": "", "ek_public_hash": "", "ek_public_key": "",
            "ek_certificate": null, "unique": "", "join_key": ""},
        });
        text.iter().for_each(|name| json[name] = "".into());
        json["tpm"]["unique"] = Base64::encode_string(unique).into();
        serde_json::from_value(json).expect("it has all fields")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_for_the_same_cluster_bot_and_instance() {
        let identity = Identity::with_unique(&[]);
        let is_renewed_by = |[cluster, bot, instance]: [&str; 3]| {
            let [cluster, bot, instance] = [cluster, bot, instance].map(ToOwned::to_owned);
            identity.is_renewed_by(&Names { cluster, bot, instance, generation: 2 })
        };
        assert!(is_renewed_by(["c", "b", "i"]));
        for other in [["x", "b", "i"], ["c", "x", "i"], ["c", "b", "x"]] {
            assert!(!is_renewed_by(other));
        }
        assert_eq!(identity.protocol, Protocol::Endorse, "an older agent's file");
        assert!(identity.ssh_host_cas.is_empty(), "an older agent's file");
    }
}
