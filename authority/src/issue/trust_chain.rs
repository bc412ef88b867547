//! The trust bundle over time: documents, each of which the X.509 CA of the one before vouches for. A host that trusts any CA of
//! the past can verify the present ones, over a connection that it need not trust. docs/protocol.md has the format.

use std::sync::Arc;

use base64ct::{Base64, Encoding};
use p256::ecdsa::DerSignature;
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use signature::Signer;
use tls::{CaPin, trust_document_message};

use super::{CaType, IssueError, Keys, X509Ca};

/// All links, from the first on. A chain without links begins with the next change of the CAs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Stored>", into = "Vec<Stored>")]
pub struct TrustChain(Vec<Arc<Link>>);

/// A document, and who vouches for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Link {
    /// JSON.
    pub document: String,
    /// By the CA that is active in it: Ecdsa-Sig-Value, DER.
    pub signature: Vec<u8>,
    /// By the CA that was active in the document before, if that is another one.
    pub former_signature: Option<Vec<u8>>,
    version: u64,
    active: CaPin,
}

/// What hosts are to trust.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    /// 1 for the first; each change adds 1.
    version: u64,
    /// SHA-256 of the document before, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<String>,
    #[serde(flatten)]
    trusted: Trusted,
}

/// The CAs that hosts are to trust.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trusted {
    /// DER in base64, the active CA first.
    x509_authorities: Vec<String>,
    /// Lines of authorized_keys.
    ssh_authorities: Vec<String>,
    ssh_host_authorities: Vec<String>,
}

/// A link as it is stored.
#[derive(Serialize, Deserialize)]
struct Stored {
    document: String,
    /// Base64.
    signature: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    former_signature: Option<String>,
}

impl TrustChain {
    /// A chain that begins with these CAs.
    ///
    /// # Errors
    /// The document cannot be written or signed.
    pub fn begin(keys: &Keys) -> Result<Self, IssueError> {
        Ok(Self(vec![Arc::new(Link::sign(1, Trusted::of(keys), keys.x509.active(), None)?)]))
    }

    /// The chain after a change of the CAs. The keys for JWTs are not in it: they change more often, by a schedule of their own.
    /// With a CA that is `tainted` there is a document in any case.
    pub(super) fn extended(
        &self,
        before: &Keys,
        after: &Keys,
        is_tainted: bool,
    ) -> Result<Self, IssueError> {
        let mut chain = if self.0.is_empty() { Self::begin(before)? } else { self.clone() };
        let trusted = Trusted::of(after);
        if let Some(last) = chain.0.last()
            && (is_tainted || trusted != Trusted::of(before))
        {
            let version = last.version.saturating_add(1);
            let previous = Some((&**last, &**before.x509.active()));
            let link = Link::sign(version, trusted, after.x509.active(), previous)?;
            chain.0.push(Arc::new(link));
        }
        Ok(chain)
    }

    /// A chain that begins with these CAs and goes on counting: no CA of the past leads to them.
    pub(super) fn begun_again(&self, keys: &Keys) -> Result<Self, IssueError> {
        let version = self.version().saturating_add(1);
        let link = Link::sign(version, Trusted::of(keys), keys.x509.active(), None)?;
        Ok(Self(vec![Arc::new(link)]))
    }

    /// Whether the newest document has what hosts are to trust now.
    pub fn ends_with(&self, keys: &Keys) -> bool {
        let newest = self.0.last().map(|link| serde_json::from_str(&link.document));
        matches!(newest, Some(Ok(Document { trusted, .. })) if trusted == Trusted::of(keys))
    }

    /// The number of the newest document; 0 without any.
    pub fn version(&self) -> u64 {
        self.0.last().map_or(0, |link| link.version)
    }

    /// The first document from which on hosts trust this CA, by its certificate in base64 or its line of authorized_keys; 0 if the
    /// newest one does not have it.
    pub fn first_with(&self, ca_type: CaType, public: &str) -> u64 {
        let lists = |link: &&Arc<Link>| match serde_json::from_str(&link.document) {
            Ok(Document { trusted, .. }) => trusted.lists(ca_type, public),
            Err(_) => false,
        };
        self.0.iter().rev().take_while(lists).last().map_or(0, |link| link.version)
    }

    /// What a host that trusts these CAs can verify: the links from the newest one on whose active CA is one of them.
    pub fn since(&self, trusted: &[CaPin]) -> &[Arc<Link>] {
        let start = self.0.iter().rposition(|link| trusted.contains(&link.active));
        start.and_then(|start| self.0.get(start..)).unwrap_or_default()
    }

    /// The links after the document of this version.
    pub fn after(&self, version: u64) -> &[Arc<Link>] {
        let start = self.0.partition_point(|link| link.version <= version);
        self.0.get(start..).unwrap_or_default()
    }
}

impl Link {
    fn sign(
        version: u64,
        trusted: Trusted,
        active: &X509Ca,
        previous: Option<(&Self, &X509Ca)>,
    ) -> Result<Self, IssueError> {
        let hash = |(link, _): (&Self, _)| hex(&Sha256::digest(&link.document));
        let document = Document { version, previous: previous.map(hash), trusted };
        let document =
            serde_json::to_string(&document).map_err(|cause| IssueError(cause.to_string()))?;
        let message = trust_document_message(document.as_bytes());
        let sign = |ca: &X509Ca| {
            let signature: DerSignature =
                ca.signer()?.try_sign(&message).map_err(|cause| IssueError(cause.to_string()))?;
            Ok::<_, IssueError>(signature.as_bytes().to_vec())
        };
        let former = previous.map(|(_, ca)| ca).filter(|ca| ca.public_key() != active.public_key());
        Ok(Self {
            signature: sign(active)?,
            former_signature: former.map(sign).transpose()?,
            version,
            active: pin(active.certificate())?,
            document,
        })
    }
}

impl Trusted {
    fn of(keys: &Keys) -> Self {
        let x509 = keys.x509.trusted().map(|ca| Base64::encode_string(ca.certificate()));
        Self {
            x509_authorities: x509.collect(),
            ssh_authorities: keys.ssh.public_keys(),
            ssh_host_authorities: keys.ssh_host.public_keys(),
        }
    }
}

impl Trusted {
    fn lists(&self, ca_type: CaType, public: &str) -> bool {
        let listed = match ca_type {
            CaType::X509 => &self.x509_authorities,
            CaType::Ssh => &self.ssh_authorities,
            CaType::SshHost => &self.ssh_host_authorities,
            CaType::Jwt => return false,
        };
        listed.iter().any(|one| one == public)
    }
}

impl From<TrustChain> for Vec<Stored> {
    fn from(TrustChain(links): TrustChain) -> Self {
        let stored = |link: Arc<Link>| Stored {
            document: link.document.clone(),
            signature: Base64::encode_string(&link.signature),
            former_signature: link.former_signature.as_deref().map(Base64::encode_string),
        };
        links.into_iter().map(stored).collect()
    }
}

impl TryFrom<Vec<Stored>> for TrustChain {
    type Error = IssueError;

    fn try_from(stored: Vec<Stored>) -> Result<Self, IssueError> {
        stored
            .into_iter()
            .map(|link| Link::try_from(link).map(Arc::new))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl TryFrom<Stored> for Link {
    type Error = IssueError;

    fn try_from(stored: Stored) -> Result<Self, IssueError> {
        let damaged = |cause: &dyn std::fmt::Display| {
            IssueError(format!("a document of the trust chain is damaged: {cause}"))
        };
        let base64 = |text: &String| Base64::decode_vec(text).map_err(|cause| damaged(&cause));
        let Document { version, trusted, .. } =
            serde_json::from_str(&stored.document).map_err(|cause| damaged(&cause))?;
        let active =
            trusted.x509_authorities.first().ok_or_else(|| damaged(&"it has no X.509 CA"))?;
        Ok(Self {
            signature: base64(&stored.signature)?,
            former_signature: stored.former_signature.as_ref().map(base64).transpose()?,
            version,
            active: pin(&base64(active)?.into())?,
            document: stored.document,
        })
    }
}

fn pin(certificate: &CertificateDer<'_>) -> Result<CaPin, IssueError> {
    CaPin::of_certificate(certificate).map_err(|cause| IssueError(cause.to_string()))
}

fn hex(bytes: &[u8]) -> String {
    base16ct::lower::encode_string(bytes)
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use time::macros::datetime;

    use super::*;
    use crate::issue::{CaKey, JwtAlgorithm, JwtKey, Keyring, Ring, SshCa, Tainted};

    const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

    fn ca() -> X509Ca {
        X509Ca::create(&"a".parse().unwrap(), CaKey::generate().unwrap(), NOW).unwrap()
    }

    fn keys() -> Keys {
        let ssh = || SshCa::new(&"a".parse().unwrap(), &CaKey::generate().unwrap()).unwrap();
        Keys {
            x509: Ring::new(ca(), NOW),
            ssh: Ring::new(ssh(), NOW),
            ssh_host: Ring::new(ssh(), NOW),
            jwt: Ring::new(JwtKey::generate(JwtAlgorithm::Es256).unwrap(), NOW),
            sequence: 1,
            chain: TrustChain::default(),
            tainted: Tainted::default(),
        }
    }

    fn active(keys: &Keys) -> CaPin {
        pin(keys.x509.active().certificate()).unwrap()
    }

    fn versions(links: &[Arc<Link>]) -> Vec<u64> {
        links.iter().map(|link| link.version).collect()
    }

    #[test]
    fn each_change_of_what_hosts_trust_is_one_document() {
        let keyring = Keyring::new(keys());
        let change = |change: &dyn Fn(Keys) -> Keys| {
            keyring.replace(change(Keys::clone(&keyring.keys()))).unwrap();
            keyring.keys()
        };
        // A change of the keys for JWTs makes no document.
        let key = || JwtKey::generate(JwtAlgorithm::Es256).unwrap();
        let first = change(&|keys| Keys { jwt: keys.jwt.with_next(key(), NOW), ..keys });
        assert_eq!(first.chain.version(), 1);
        let prepared = change(&|keys| Keys { x509: keys.x509.with_next(ca(), NOW), ..keys });
        let activated = change(&|keys| Keys { x509: keys.x509.activated(NOW), ..keys });
        let ssh = SshCa::new(&"a".parse().unwrap(), &CaKey::generate().unwrap()).unwrap();
        let ssh = Ring::new(ssh, NOW);
        let last = change(&|keys| Keys { ssh: ssh.clone(), ..keys });
        assert_eq!([&prepared, &activated, &last].map(|keys| keys.chain.version()), [2, 3, 4]);
        assert_ne!(active(&first), active(&last));
        // The newest document that a host with the old pin can verify is that of the preparation.
        assert_eq!(versions(last.chain.since(&[active(&first)])), [2, 3, 4]);
        assert_eq!(versions(last.chain.since(&[active(&first), active(&last)])), [4]);
        assert_eq!(versions(last.chain.since(&[pin(ca().certificate()).unwrap()])), [0; 0]);
        assert_eq!(versions(last.chain.after(2)), [3, 4]);
        assert_eq!(versions(last.chain.after(4)), [0; 0]);
        assert!(last.chain.ends_with(&last) && !last.chain.ends_with(&first));
    }

    #[test]
    fn chain_is_stored_whole_and_a_damaged_one_is_refused() {
        let keyring = Keyring::new(keys());
        keyring
            .replace(Keys { x509: Ring::new(ca(), NOW), ..Keys::clone(&keyring.keys()) })
            .unwrap();
        let chain = &keyring.keys().chain;
        let stored = serde_json::to_string(chain).unwrap();
        assert_eq!(serde_json::from_str::<TrustChain>(&stored).unwrap(), *chain);
        assert!(chain.0.iter().map(|link| link.former_signature.is_some()).eq([false, true]));
        for damaged in [
            stored.replace("x509_authorities", "x"),
            stored.replacen("\"signature\":\"", "\"signature\":\"*", 1),
        ] {
            serde_json::from_str::<TrustChain>(&damaged).unwrap_err();
        }
    }
}
