//! The record of the keyring: all CAs of a cluster without their private keys.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use super::KeyringError;
use crate::issue::{CaState, CaType, Dated, JwtAlgorithm, Keys, Ring, Tainted, TrustChain};
use crate::resource::Timestamp;

/// The record of the keyring. Each change of it, and of the authorities that can use it, replaces it: compare-and-set on it decides
/// between authorities. Unknown fields are those of a later version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) cluster: String,
    /// Grows with each write of the record.
    pub(super) revision: u64,
    /// [`Keys::sequence`].
    pub(super) sequence: u64,
    pub(super) cas: Vec<CaRecord>,
    /// [`Keys::chain`].
    #[serde(default)]
    pub(super) chain: TrustChain,
    /// [`Keys::tainted`].
    #[serde(default)]
    pub(super) tainted: Tainted,
    /// The revision in which the CAs changed last.
    #[serde(default)]
    pub(super) changed: u64,
    /// The types of CAs that are being replaced, without an operator for each step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) rotating: Vec<CaType>,
    /// The IDs of keys that were CAs of this cluster once.
    #[serde(default)]
    pub(super) former: Vec<String>,
    /// The recovery key, to which the private keys are wrapped as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) recovery: Option<RecoveryRecord>,
}

/// A CA.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct CaRecord {
    #[serde(rename = "type")]
    pub(super) ca_type: CaType,
    /// SHA-256 of the SubjectPublicKeyInfo, in hexadecimal; of a key for JWTs its `kid`.
    pub(super) key_id: String,
    pub(super) state: CaState,
    pub(super) since: Timestamp,
    /// The certificate, the SubjectPublicKeyInfo of a key for JWTs, each DER in base64; or the line of authorized_keys.
    pub(super) public: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) algorithm: Option<JwtAlgorithm>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RecoveryRecord {
    /// SubjectPublicKeyInfo, DER in base64.
    pub(super) public_key: String,
    pub(super) since: Timestamp,
}

impl Record {
    /// That of a new cluster.
    pub(super) fn first(cluster: &str, keys: &Keys) -> Result<Self, KeyringError> {
        Ok(Self {
            cluster: cluster.to_owned(),
            revision: 1,
            sequence: keys.sequence,
            changed: 1,
            rotating: Vec::new(),
            cas: cas(keys)?,
            chain: keys.chain.clone(),
            tainted: keys.tainted.clone(),
            former: Vec::new(),
            recovery: None,
        })
    }

    /// What follows with these keys.
    pub(super) fn next(&self, keys: &Keys) -> Result<Self, KeyringError> {
        let cas = cas(keys)?;
        let is_known = |key_id: &str| cas.iter().any(|ca| ca.key_id == key_id);
        let gone = self.cas.iter().map(|ca| &ca.key_id).filter(|key_id| !is_known(key_id));
        let former = self.former.iter().chain(gone).cloned().collect();
        let touched = self.touched();
        Ok(Self {
            sequence: keys.sequence,
            changed: touched.revision,
            cas,
            chain: keys.chain.clone(),
            tainted: keys.tainted.clone(),
            former,
            ..touched
        })
    }

    /// The same once more.
    pub(super) fn touched(&self) -> Self {
        Self { revision: self.revision.saturating_add(1), ..self.clone() }
    }

    /// The IDs of the private keys that are in the store.
    pub(super) fn stored_keys(&self) -> impl Iterator<Item = &str> {
        self.cas.iter().filter(|ca| ca.has_private()).map(|ca| ca.key_id.as_str())
    }
}

impl CaRecord {
    /// Whether its private key is stored: until it has signed its last certificate.
    pub(super) fn has_private(&self) -> bool {
        self.state != CaState::Retired
    }
}

/// The CAs as they are recorded.
fn cas(keys: &Keys) -> Result<Vec<CaRecord>, KeyringError> {
    let mut cas = Vec::new();
    let x509 = all(CaType::X509, &keys.x509, |ca| {
        Ok((ca.key_id().to_owned(), Base64::encode_string(ca.certificate()), None))
    });
    let ssh =
        |ca: &crate::issue::SshCa| Ok((ca.key_id().to_owned(), ca.public_key().to_owned(), None));
    let jwt = all(CaType::Jwt, &keys.jwt, |key| {
        let public = key.public();
        let spki = Base64::encode_string(&public.to_spki()?);
        Ok((public.key_id().to_owned(), spki, Some(public.algorithm())))
    });
    for ring in
        [x509, all(CaType::Ssh, &keys.ssh, ssh), all(CaType::SshHost, &keys.ssh_host, ssh), jwt]
    {
        cas.extend(ring?);
    }
    Ok(cas)
}

/// The ID of a key, its public part and its algorithm.
type Public = (String, String, Option<JwtAlgorithm>);

fn all<A>(
    ca_type: CaType,
    ring: &Ring<A>,
    public: impl Fn(&A) -> Result<Public, KeyringError>,
) -> Result<Vec<CaRecord>, KeyringError> {
    let record = |(state, Dated { ca, since }): (CaState, &Dated<A>)| {
        let (key_id, public, algorithm) = public(ca)?;
        Ok(CaRecord { ca_type, key_id, state, since: Timestamp(*since), public, algorithm })
    };
    ring.all().map(record).collect()
}
