//! Makes the CAs of their record and of the private keys that are wrapped for this authority.

use std::sync::Arc;

use base64ct::{Base64, Encoding};
use rustls_pki_types::CertificateDer;
use tracing::warn;

use super::record::{CaRecord, Record};
use super::{KeyringError, MemberRecord, Own, Pem, damaged, encode_key, slot_key};
use crate::issue::{
    CaKey, CaState, CaType, ClusterName, Dated, IssueError, JwtAlgorithm, JwtKey, JwtPublicKey,
    Keys, Ring, SshCa, X509Ca,
};
use crate::store::{Store, Table, decode};

/// The CAs.
pub(super) async fn load(
    store: &dyn Store,
    own: &Own,
    record: &Record,
    algorithm: JwtAlgorithm,
) -> Result<Keys, KeyringError> {
    check_admitted(store, own).await?;
    let cluster: ClusterName =
        record.cluster.parse().map_err(|cause: crate::resource::Invalid| damaged(cause))?;
    let mut private = Vec::new();
    for key_id in record.stored_keys() {
        let wrapped = store.read(Table::KeySlots, &slot_key(key_id, &own.id)).await?;
        let wrapped = wrapped.ok_or(KeyringError::NotAdmitted)?;
        private.push((key_id, own.open(key_id, &wrapped)?));
    }
    let pem = |ca: &CaRecord| {
        let found = private.iter().find(|(key_id, _)| *key_id == ca.key_id);
        found.map(|(_, pem)| pem).ok_or_else(|| wrong(ca, "it has no private key"))
    };
    let ssh = |ca: &CaRecord, make: fn(&ClusterName, &CaKey) -> Result<SshCa, IssueError>| {
        let made = match ca.has_private() {
            true => make(&cluster, &key(ca, pem(ca)?)?),
            false => SshCa::without_private(&ca.public),
        };
        let made = made.map_err(|cause| wrong(ca, cause))?;
        let is_same = made.public_key() == ca.public && made.key_id() == ca.key_id;
        if is_same { Ok(made) } else { Err(wrong(ca, "it is another key")) }
    };
    Ok(Keys {
        x509: ring(record, CaType::X509, |ca| x509(ca, || pem(ca)))?,
        ssh: ring(record, CaType::Ssh, |ca| ssh(ca, SshCa::new))?,
        ssh_host: ring(record, CaType::SshHost, |ca| ssh(ca, SshCa::of_hosts))?,
        jwt: ring(record, CaType::Jwt, |ca| jwt(ca, algorithm, || pem(ca)))?,
        sequence: record.sequence,
        chain: record.chain.clone(),
        tainted: record.tainted.clone(),
    })
}

/// An authority that another one has removed must not go on with keys that it still has.
async fn check_admitted(store: &dyn Store, own: &Own) -> Result<(), KeyringError> {
    let row = store.read(Table::Authorities, &own.id).await?.ok_or(KeyringError::NotAdmitted)?;
    let member: MemberRecord = decode(Table::Authorities, &own.id, &row)?;
    if member.removed.is_some() {
        return Err(KeyringError::Removed);
    }
    if member.wrapping_key != encode_key(&own.key.recipient()).map_err(damaged)? {
        return Err(KeyringError::NotAdmitted);
    }
    Ok(())
}

fn ring<A>(
    record: &Record,
    ca_type: CaType,
    make: impl Fn(&CaRecord) -> Result<A, KeyringError>,
) -> Result<Ring<A>, KeyringError> {
    let cas = record.cas.iter().filter(|ca| ca.ca_type == ca_type);
    let dated = |ca: &CaRecord| {
        let dated = Dated { ca: Arc::new(make(ca)?), since: ca.since.0 };
        Ok::<_, KeyringError>((ca.state, dated))
    };
    let cas = cas.map(dated).collect::<Result<Vec<_>, _>>()?;
    let what = || format!("not exactly one CA for {} is active", ca_type.as_str());
    Ring::stored(cas).ok_or_else(|| KeyringError::Damaged(what()))
}

fn x509<'p>(
    ca: &CaRecord,
    pem: impl FnOnce() -> Result<&'p Pem, KeyringError>,
) -> Result<X509Ca, KeyringError> {
    let certificate = CertificateDer::from(der(ca)?);
    let loaded = match ca.has_private() {
        true => X509Ca::load(&certificate, key(ca, pem()?)?),
        false => X509Ca::without_private(&certificate),
    };
    let loaded = loaded.map_err(|cause| wrong(ca, cause))?;
    if loaded.key_id() == ca.key_id {
        Ok(loaded)
    } else {
        Err(wrong(ca, "its certificate is of another key"))
    }
}

fn key(ca: &CaRecord, pem: &Pem) -> Result<CaKey, KeyringError> {
    CaKey::from_pem(pem).map_err(|cause| wrong(ca, cause))
}

/// A key that this processor cannot use is replaced later, if JWTs are to be signed by another algorithm.
fn jwt<'p>(
    ca: &CaRecord,
    wanted: JwtAlgorithm,
    pem: impl FnOnce() -> Result<&'p Pem, KeyringError>,
) -> Result<JwtKey, KeyringError> {
    let public = JwtPublicKey::from_spki(&der(ca)?).map_err(|cause| wrong(ca, cause))?;
    let algorithm = public.algorithm();
    if public.key_id() != ca.key_id || ca.algorithm != Some(algorithm) {
        return Err(wrong(ca, "its public key is another one"));
    }
    if ca.state == CaState::Retired {
        return Ok(JwtKey::without_private(public));
    }
    match algorithm.check_supported() {
        Err(cause) if algorithm != wanted => {
            warn!(key_id = ca.key_id, %cause, "a key for JWTs cannot be used");
            return Ok(JwtKey::without_private(public));
        }
        Err(cause) => return Err(KeyringError::Unsupported(cause.to_string())),
        Ok(()) => {}
    }
    let key = JwtKey::from_pem(algorithm, pem()?).map_err(|cause| wrong(ca, cause))?;
    if *key.public() == public { Ok(key) } else { Err(wrong(ca, "its private key is another one")) }
}

fn der(ca: &CaRecord) -> Result<Vec<u8>, KeyringError> {
    Base64::decode_vec(&ca.public).map_err(|cause| wrong(ca, cause))
}

fn wrong(ca: &CaRecord, cause: impl std::fmt::Display) -> KeyringError {
    KeyringError::Damaged(format!("{} {}: {cause}", ca.ca_type.as_str(), ca.key_id))
}
