//! Keys and certificates as text, in which form the older services have them: PEM, and lines of authorized_keys.

use proto::teleport::legacy::Certs;

use crate::issue::SubjectKey;
use crate::service::grant::Grant;
use crate::service::refusal::{Code, Refusal};
use crate::service::request::Parsed;

/// The key to certify: a SubjectPublicKeyInfo, and the same key for SSH.
pub(super) fn key(tls: &[u8], ssh: &[u8]) -> Parsed<SubjectKey> {
    SubjectKey::from_text(tls, ssh).map_err(Refusal::because(Code::KeyMalformed))
}

/// The certificates that were granted, and the CAs.
pub(super) fn certs(grant: &Grant) -> Result<Certs, Refusal> {
    let line = |text: &str| format!("{}\n", text.trim_end()).into_bytes();
    let cas = grant.cas.x509.trusted().map(|ca| pem(ca.certificate()));
    Ok(Certs {
        ssh: line(&grant.issued.ssh),
        tls: pem(&grant.issued.x509)?,
        tls_ca_certs: cas.collect::<Result<_, _>>()?,
        ssh_ca_certs: grant.cas.ssh_trusted().map(|ca| line(ca.public_key())).collect(),
    })
}

/// A certificate.
pub(super) fn pem(der: &[u8]) -> Result<Vec<u8>, Refusal> {
    labelled("CERTIFICATE", der)
}

/// A SubjectPublicKeyInfo.
pub(super) fn public_key(der: &[u8]) -> Result<Vec<u8>, Refusal> {
    labelled("PUBLIC KEY", der)
}

fn labelled(label: &'static str, der: &[u8]) -> Result<Vec<u8>, Refusal> {
    let pem = der::pem::encode_string(label, der::pem::LineEnding::LF, der);
    pem.map(String::into_bytes).map_err(Refusal::because(Code::Internal))
}
