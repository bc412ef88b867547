//! What a service's files contain, under tbot's names: from credentials to a set of files, and nothing else.

mod openssh;

use std::path::Path;

use host::exit::{Exit, Failure};
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;
use zeroize::Zeroizing;

use crate::config::X509Files;
use crate::credential::ssh_host::HostCredentials;
use crate::deliver::destination::FileSet;
use crate::keys::{Key, spki_der};
use crate::ssh;
use crate::ssh::certificate::SshCertificate;
use crate::tpm::inventory::pem;

/// An X.509 certificate and what it is verified with.
#[derive(Clone, Copy, Debug)]
pub struct X509<'a> {
    /// Certificates, leaf first, DER.
    pub certificates: &'a [Vec<u8>],
    /// The cluster's CAs, DER.
    pub cas: &'a [Vec<u8>],
}

/// An SSH certificate, and what the hosts that it is for are verified with.
#[derive(Clone, Copy, Debug)]
pub struct Ssh<'a> {
    /// The certificate, a line.
    pub certificate: &'a str,
    /// The keys of the cluster's SSH CAs of hosts, one line each.
    pub host_cas: &'a [String],
}

/// What a bot's clients need.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// For TLS.
    pub x509: X509<'a>,
    /// For SSH.
    pub ssh: Ssh<'a>,
    /// The cluster's name.
    pub cluster: &'a str,
    /// The authority's host name or address.
    pub authority_host: &'a str,
}

/// The files of an `x509` service.
///
/// # Errors
/// The certificate is for another key, or malformed.
pub fn x509(key: &dyn Key, x509: X509<'_>, files: X509Files) -> Result<FileSet, Failure> {
    check_x509(key, x509)?;
    let [certificate, secret, cas] = names(files);
    Ok(FileSet::new()
        .with(certificate, pems(x509.certificates)?)
        .with_secret(secret, key.to_pem()?)
        .with(cas, pems(x509.cas)?))
}

/// The names of certificate, key and CAs.
const fn names(files: X509Files) -> [&'static str; 3] {
    match files {
        X509Files::Tbot => ["svid.pem", "svid.key", "bundle.pem"],
        X509Files::SpiffeHelper => ["svid.pem", "svid_key.pem", "svid_bundle.pem"],
        X509Files::Kubernetes => ["tls.crt", "tls.key", "ca.crt"],
        X509Files::Nginx => ["fullchain.pem", "privkey.pem", "ca.pem"],
    }
}

/// The file with the certificate of an `x509` service.
#[must_use]
pub const fn certificate_name(files: X509Files) -> &'static str {
    let [certificate, ..] = names(files);
    certificate
}

/// The file with the key of an `x509` service.
#[must_use]
pub const fn key_name(files: X509Files) -> &'static str {
    let [_, key, _] = names(files);
    key
}

/// The file of a `workload-identity-jwt` service, in which nothing but the token is.
pub const JWT: &str = "jwt_svid";

/// The files of a `workload-identity-jwt` service.
#[must_use]
pub fn jwt(token: &str) -> FileSet {
    FileSet::new().with_secret(JWT, Zeroizing::new(token.as_bytes().to_vec()))
}

/// The files of an `identity` service. `ssh_directory`, where OpenSSH's client is to find them, asks for its configuration.
///
/// # Errors
/// A certificate is for another key, or malformed; something cannot be written in OpenSSH's files.
pub fn identity(
    key: &dyn Key,
    identity: &Identity<'_>,
    ssh_directory: Option<&Path>,
) -> Result<FileSet, Failure> {
    let Identity { x509, ssh, .. } = *identity;
    check_x509(key, x509)?;
    check_ssh(key, ssh)?;
    let known_hosts = openssh::known_hosts(identity)?;
    let cas = pems(x509.cas)?;
    let set = FileSet::new()
        .with_secret("identity", bundle(key, identity, &known_hosts)?)
        .with("tlscert", pems(x509.certificates)?)
        .with_secret("key", key.to_pem()?)
        .with("key.pub", openssh::public_key(&key.public()))
        .with("key-cert.pub", format!("{}\n", ssh.certificate))
        .with("teleport-host-ca.crt", cas.clone())
        .with("teleport-user-ca.crt", cas.clone())
        .with("teleport-database-ca.crt", cas);
    Ok(match ssh_directory {
        Some(directory) => {
            let config = openssh::config(directory)?;
            set.with("known_hosts", known_hosts).with("ssh_config", config)
        }
        None => set,
    })
}

/// The file with the certificate of an `ssh_host` service.
pub const SSH_HOST: &str = "ssh_host-cert.pub";

/// The same of an `ssh-agent` service.
pub const SSH_AGENT: &str = "key-cert.pub";

/// The files of an `ssh_host` service: without the private key, if that is in the TPM.
///
/// # Errors
/// The operating system has no randomness.
pub fn ssh_host(key: &dyn Key, host: &HostCredentials) -> Result<FileSet, Failure> {
    let lines = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let set = FileSet::new()
        .with("ssh_host.pub", openssh::public_key(&key.public()))
        .with(SSH_HOST, format!("{}\n", host.certificate))
        .with("ssh_host-user-ca.pub", lines(&host.user_cas));
    let Some(scalar) = key.scalar() else { return Ok(set) };
    let mut check = [0; 4];
    getrandom::fill(&mut check).map_err(Failure::bug)?;
    Ok(set.with_secret("ssh_host", ssh::key::private(&key.public(), &scalar, check)))
}

/// What is kept of an `ssh-agent` service.
#[must_use]
pub fn ssh_agent(certificate: &str) -> FileSet {
    FileSet::new().with(SSH_AGENT, format!("{certificate}\n"))
}

/// Everything in one file, as `tsh -i` and Teleport's libraries read it: key, SSH certificate, TLS certificate,
/// then the CAs of both.
fn bundle(
    key: &dyn Key,
    identity: &Identity<'_>,
    known_hosts: &str,
) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let key = key.to_pem()?;
    let leaf = identity.x509.certificates.get(..1).unwrap_or_default();
    let rest = [
        format!("{}\n", identity.ssh.certificate),
        pems(leaf)?,
        known_hosts.to_owned(),
        pems(identity.x509.cas)?,
    ];
    // As large as it gets from the start: growing would leave a copy of the key behind.
    let length = key.len() + rest.iter().map(String::len).sum::<usize>();
    let mut bundle = Zeroizing::new(Vec::with_capacity(length));
    bundle.extend_from_slice(&key);
    rest.iter().for_each(|text| bundle.extend_from_slice(text.as_bytes()));
    Ok(bundle)
}

fn check_x509(key: &dyn Key, x509: X509<'_>) -> Result<(), Failure> {
    let leaf = x509.certificates.first().ok_or_else(|| unusable("no certificate"))?;
    if x509.cas.is_empty() {
        return Err(unusable("no X.509 CA"));
    }
    let leaf = CertificateDer::from(leaf.as_slice());
    let leaf = EndEntityCert::try_from(&leaf).map_err(|error| unusable(&error.to_string()))?;
    if leaf.subject_public_key_info().as_ref() != spki_der(&key.public())? {
        return Err(unusable("a certificate for another key"));
    }
    Ok(())
}

fn check_ssh(key: &dyn Key, ssh: Ssh<'_>) -> Result<(), Failure> {
    let is_line = |line: &str| line.chars().all(host::terminal::is_printable);
    if !is_line(ssh.certificate) || !ssh.host_cas.iter().all(|line| is_line(line)) {
        return Err(unusable("an SSH key with a line break"));
    }
    let point = SshCertificate::read(ssh.certificate).map(|certificate| certificate.point);
    if point.as_deref() != Some(key.public().to_sec1_point(false).as_bytes()) {
        return Err(unusable("an SSH certificate for another key"));
    }
    Ok(())
}

fn unusable(what: &str) -> Failure {
    Failure::new(
        Exit::Data,
        format!("the authority issued an unusable credential: {what}"),
        "check the authority's log; nothing was written",
    )
}

fn pems(certificates: &[Vec<u8>]) -> Result<String, Failure> {
    certificates.iter().map(|der| pem("CERTIFICATE", der)).collect()
}

#[cfg(test)]
mod tests;
