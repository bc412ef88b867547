//! What both services issue, in one form. Nothing is verified here.

use host::exit::Failure;
use proto::teleport::join_v1::Certificates;
use proto::teleport::legacy::Certs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::disorder;
use crate::config::Protocol;
use crate::credential::{Unverified, subject};
use crate::ssh;

/// `teleport.join.v1` has DER, and SSH's wire format.
impl TryFrom<Certificates> for Unverified {
    type Error = Failure;

    fn try_from(issued: Certificates) -> Result<Self, Failure> {
        let Certificates { tls_cert, tls_ca_certs, ssh_cert, ssh_ca_keys } = issued;
        let line = |blob: &Vec<u8>, what| ssh::key::line(blob).ok_or_else(|| disorder(what));
        let ssh_cert = line(&ssh_cert, "a malformed SSH certificate")?;
        let ssh_cas = ssh_ca_keys.iter().map(|blob| line(blob, "a malformed SSH key"));
        unverified(tls_cert, tls_ca_certs, ssh_cert, ssh_cas.collect::<Result<_, _>>()?)
    }
}

/// The older service has PEM, and lines of `authorized_keys`.
impl TryFrom<Certs> for Unverified {
    type Error = Failure;

    fn try_from(issued: Certs) -> Result<Self, Failure> {
        let der = |pem: &Vec<u8>| match CertificateDer::from_pem_slice(pem) {
            Ok(der) => Ok(der.to_vec()),
            Err(_) => Err(disorder("a malformed certificate")),
        };
        let line = |line: &Vec<u8>| match std::str::from_utf8(line) {
            Ok(line) => Ok(line.trim_ascii().to_owned()),
            Err(_) => Err(disorder("a malformed SSH key")),
        };
        let x509_cas = issued.tls_ca_certs.iter().map(der).collect::<Result<_, _>>()?;
        let ssh_cas = issued.ssh_ca_certs.iter().map(line).collect::<Result<_, _>>()?;
        unverified(der(&issued.tls)?, x509_cas, line(&issued.ssh)?, ssh_cas)
    }
}

fn unverified(
    certificate: Vec<u8>,
    x509_cas: Vec<Vec<u8>>,
    ssh_certificate: String,
    ssh_cas: Vec<String>,
) -> Result<Unverified, Failure> {
    Ok(Unverified {
        protocol: Protocol::Teleport,
        names: subject::names(&certificate).map_err(disorder)?,
        certificates: vec![certificate],
        x509_cas,
        ssh_certificate,
        ssh_cas,
        ssh_host_cas: Vec::new(),
        trust_version: 0,
    })
}
