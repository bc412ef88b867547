//! The sink that delivers a service's credentials as files in its destination.

use std::sync::Arc;

use host::exit::Failure;

use crate::config::{self, KeyStorage, Service, ServiceKind, SshConfig, X509Files};
use crate::credential;
use crate::credential::cache::Watch;
use crate::credential::validity::Validity;
use crate::deliver::artifact;
use crate::deliver::destination::{Change, Destination, FileSet, Manifest, Notices};
use crate::file_access::{self, FileAccess};

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
        let kind = match self.service.kind {
            ServiceKind::X509 { files: X509Files::Svid } => "x509 svid",
            ServiceKind::X509 { files: X509Files::Tls } => "x509 tls",
            ServiceKind::Identity { ssh_config: SshConfig::On } => "identity ssh_config",
            ServiceKind::Identity { ssh_config: SshConfig::Off } => "identity",
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
        let (key, credentials) = (issued.key.as_ref(), &issued.credentials);
        let x509 = artifact::X509 {
            certificates: &credentials.certificates,
            cas: credentials.bundle.certificates(),
        };
        match self.service.kind {
            ServiceKind::X509 { files } => artifact::x509(key, x509, files),
            ServiceKind::Identity { ssh_config } => {
                let ssh = artifact::Ssh {
                    certificate: &credentials.ssh_certificate,
                    cas: &credentials.ssh_cas,
                };
                let (cluster, authority_host) = (&issued.cluster, &self.authority_host);
                let identity = artifact::Identity { x509, ssh, cluster, authority_host };
                let directory = match (&self.service.destination, ssh_config) {
                    (config::Destination::Directory { directory, .. }, SshConfig::On) => {
                        Some(directory.path.as_path())
                    }
                    _ => None,
                };
                artifact::identity(key, &identity, directory)
            }
        }
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

    /// From when to when the certificate in the files is valid, if the files are as they were written.
    ///
    /// # Errors
    /// How they differ.
    pub fn validity(&self) -> Result<Option<Validity>, Change> {
        self.destination.check()?;
        let set = self.destination.read().ok().flatten();
        let certificate = set.as_ref().and_then(|set| set.content(self.certificate_name()));
        Ok(certificate.and_then(credential::validity_of_pem))
    }

    /// The file whose dates are the service's.
    const fn certificate_name(&self) -> &'static str {
        match self.service.kind {
            ServiceKind::X509 { files: X509Files::Svid } => "svid.pem",
            ServiceKind::X509 { files: X509Files::Tls } => "tls.crt",
            ServiceKind::Identity { .. } => "tlscert",
        }
    }
}

fn access(service: &Service) -> FileAccess {
    let name = match &service.destination {
        config::Destination::Directory { directory, .. } => directory.path.display().to_string(),
        config::Destination::Memory => format!("the memory of {}", service.name),
    };
    FileAccess::new(name, file_access::TIMEOUT)
}
