//! The sink that delivers a service's credentials as files in its destination.

use std::sync::Arc;

use host::exit::Failure;

use crate::config::{
    self, KeyStorage, Selector, Service, ServiceKind, SshConfig, WorkloadIdentity, X509Files,
};
use crate::credential::cache::{Certificates, Issued, Watch};
use crate::credential::validity::Validity;
use crate::credential::{jwt, ssh_host, validity_of_pem};
use crate::deliver::artifact;
use crate::deliver::destination::{Change, Destination, FileSet, Manifest, Notices};
use crate::file_access::{self, FileAccess};
use crate::keys::SoftwareKey;

/// The files of one service.
#[derive(Debug)]
pub struct FileSink {
    service: Service,
    /// The authority's host name or address, which some files name.
    authority_host: String,
    destination: Arc<Destination>,
    access: FileAccess,
    issued: Watch,
}

impl FileSink {
    /// The files of a service as it is configured now. Its destination is that of a sink from `before` where nothing has
    /// changed, so that it stays locked.
    #[must_use]
    pub fn new(
        service: &Service,
        authority_host: &str,
        issued: Watch,
        before: &[Arc<Self>],
    ) -> Self {
        let settings = &service.destination;
        let same = |before: &&Arc<Self>| before.service.destination == *settings;
        let kept = match settings {
            config::Destination::Directory { .. } => before.iter().find(same),
            config::Destination::Memory => None,
        };
        let (destination, access) = match kept {
            Some(before) => (Arc::clone(&before.destination), before.access.clone()),
            None => (Arc::new(Destination::new(settings)), access(service)),
        };
        let (service, authority_host) = (service.clone(), authority_host.to_owned());
        Self { service, authority_host, destination, access, issued }
    }

    /// How the destination is accessed where it may hang.
    #[must_use]
    pub const fn access(&self) -> &FileAccess {
        &self.access
    }

    /// The destination.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// What a service is issued, and how it is delivered: if any of it changes, it is issued again.
    #[must_use]
    pub fn asked(&self) -> String {
        // Records of earlier versions have the old names of the formats.
        let kind = match &self.service.kind {
            ServiceKind::X509 { files: X509Files::Tbot, identity, .. } => {
                asked(identity, "x509 svid")
            }
            ServiceKind::X509 { files: X509Files::Kubernetes, identity, .. } => {
                asked(identity, "x509 tls")
            }
            ServiceKind::X509 { files, identity, .. } => {
                asked(identity, &format!("x509 {}", files.name()))
            }
            ServiceKind::Jwt { audiences, identity } => {
                asked(identity, &format!("jwt {audiences:?}"))
            }
            ServiceKind::Identity { ssh_config: SshConfig::On } => "identity ssh_config".to_owned(),
            ServiceKind::Identity { ssh_config: SshConfig::Off } => "identity".to_owned(),
            ServiceKind::SshAgent(_) => "ssh-agent".to_owned(),
            ServiceKind::SshHost(host) => {
                format!("ssh_host {} by {:?}", host.principals.join(","), host.selector)
            }
        };
        let (host, ttl) = (&self.authority_host, self.service.lifetime.ttl.as_secs());
        let place = match &self.service.destination {
            config::Destination::Directory { directory, readers } => {
                format!("{:?} acls={:?} readers={readers:?}", directory.path, directory.acls)
            }
            config::Destination::Memory => "memory".to_owned(),
        };
        let key = match self.service.key_storage {
            KeyStorage::Software => "",
            KeyStorage::Tpm => " key=tpm",
        };
        format!("{kind}{key} ttl={ttl}s authority={host:?} in {place}")
    }

    /// The files of the credentials that the service has now.
    ///
    /// # Errors
    /// The certificates do not fit the files, or nothing has been issued.
    pub fn files(&self) -> Result<FileSet, Failure> {
        let issued = self.issued.borrow().clone();
        let issued = issued.ok_or_else(|| Failure::bug("nothing has been issued"))?;
        let (key, certificates, cluster) = match &*issued {
            Issued::Certificates { key, certificates, cluster } => {
                (key.as_ref(), certificates, cluster)
            }
            Issued::Jwt(svid) => return Ok(artifact::jwt(&svid.token)),
        };
        let x509 =
            artifact::X509 { certificates: certificates.x509(), cas: certificates.x509_cas() };
        match (&self.service.kind, certificates) {
            (ServiceKind::X509 { files, .. }, _) => artifact::x509(key, x509, *files),
            (ServiceKind::Identity { ssh_config }, Certificates::Bot(credentials)) => {
                let ssh = artifact::Ssh {
                    certificate: &credentials.ssh_certificate,
                    host_cas: credentials.ssh_host_cas(),
                };
                let authority_host = &self.authority_host;
                let identity = artifact::Identity { x509, ssh, cluster, authority_host };
                let directory = match (&self.service.destination, ssh_config) {
                    (config::Destination::Directory { directory, .. }, SshConfig::On) => {
                        Some(directory.path.as_path())
                    }
                    _ => None,
                };
                artifact::identity(key, &identity, directory)
            }
            // It is kept in memory, to know until when it is valid.
            (ServiceKind::SshAgent(_), Certificates::Bot(credentials)) => {
                Ok(artifact::ssh_agent(&credentials.ssh_certificate))
            }
            (ServiceKind::SshHost(_), Certificates::SshHost(host)) => artifact::ssh_host(key, host),
            _ => Err(Failure::bug("a service of another kind was issued")),
        }
    }

    /// The key in the files, if they are as they were written. `None` if there is none, or if it is not in software.
    #[must_use]
    pub fn software_key(&self) -> Option<SoftwareKey> {
        let ServiceKind::X509 { files, .. } = &self.service.kind else { return None };
        self.destination.check().ok()?;
        let set = self.destination.read().ok().flatten()?;
        SoftwareKey::from_pem(set.content(artifact::key_name(*files))?)
    }

    /// Writes the files. Calls `announce` with what is about to become current, and what is.
    ///
    /// # Errors
    /// As [`Destination::write`].
    pub fn write(
        &self,
        files: &FileSet,
        announce: &mut dyn FnMut(&Manifest, Option<&Manifest>),
    ) -> Result<Notices, Failure> {
        let before = self.destination.manifest();
        self.destination.write(files, &mut |now| announce(now, before.as_ref()))
    }

    /// From when to when the credential in the files is valid, if the files are as they were written.
    ///
    /// # Errors
    /// How they differ.
    pub fn validity(&self) -> Result<Option<Validity>, Change> {
        self.destination.check()?;
        let set = self.destination.read().ok().flatten();
        let of = |name: &str, validity: fn(&[u8]) -> Option<Validity>| {
            set.as_ref().and_then(|set| set.content(name)).and_then(validity)
        };
        Ok(match &self.service.kind {
            ServiceKind::X509 { files, .. } => {
                of(artifact::certificate_name(*files), validity_of_pem)
            }
            ServiceKind::Jwt { .. } => of(artifact::JWT, jwt::stated_validity),
            ServiceKind::Identity { .. } => of("tlscert", validity_of_pem),
            ServiceKind::SshAgent(_) => of(artifact::SSH_AGENT, ssh_validity),
            ServiceKind::SshHost(_) => of(artifact::SSH_HOST, ssh_validity),
        })
    }

    /// The host certificate that is in the files, one line.
    #[must_use]
    pub fn host_certificate(&self) -> Option<String> {
        let set = self.destination.read().ok().flatten()?;
        let line = std::str::from_utf8(set.content(artifact::SSH_HOST)?).ok()?;
        Some(line.trim_end().to_owned())
    }
}

fn ssh_validity(certificate: &[u8]) -> Option<Validity> {
    ssh_host::validity_of_line(std::str::from_utf8(certificate).ok()?)
}

/// What a service of a workload identity is issued.
fn asked(identity: &WorkloadIdentity, what: &str) -> String {
    let WorkloadIdentity { selector, hint } = identity;
    match (selector, hint) {
        (Selector::Own, None) => what.to_owned(),
        (selector, None) => format!("{what} of {selector:?}"),
        (selector, Some(hint)) => format!("{what} of {selector:?} hint={hint:?}"),
    }
}

fn access(service: &Service) -> FileAccess {
    let name = match &service.destination {
        config::Destination::Directory { directory, .. } => directory.path.display().to_string(),
        config::Destination::Memory => format!("the memory of {}", service.name),
    };
    FileAccess::new(name, file_access::TIMEOUT)
}
