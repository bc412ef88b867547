//! Files that a configuration refers to.

use std::io;
use std::path::{Path, PathBuf};

use host::bounded;
use host::config::finding::{Finding, Location, Severity, Source};
use host::config::tree::{Node, Value};
use host::exit::{Exit, Failure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tls::{CaPin, ServerTrust};

use super::settings::{Settings, Token, Trust};
use crate::file_access;
use crate::tpm::passwords;
use crate::trusted;

/// No name of a token is longer.
const MAX_TOKEN_FILE: u64 = 4096;

/// Bytes of a file of CA certificates.
const MAX_CA_FILE: u64 = 1024 * 1024;

/// A file that a configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// Where it is.
    pub path: PathBuf,
    content: Content,
    /// Where it is named, if that is in the configuration's file.
    location: Option<Location>,
}

/// What is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    CaCertificates,
    Token,
    Password,
}

/// The files that these settings name.
pub(super) fn named(root: &Node, settings: &Settings, source: &Source<'_>) -> Vec<NamedFile> {
    let file = |section: &str, key: &str, path: &Path, content: Content| {
        // A value of the command line has no range in the file.
        let node = entry(root, section).and_then(|section| entry(section, key));
        let node = node.filter(|node| match &node.value {
            Value::Scalar { text, .. } => Path::new(text) == path,
            _ => false,
        });
        let location = node.map(|node| source.location(&node.range));
        NamedFile { path: path.to_owned(), content, location }
    };
    let mut files = Vec::new();
    if let Token::File(path) = &settings.token {
        files.push(file("onboarding", "token", path, Content::Token));
    }
    if let Trust::CaPath(path) = &settings.trust {
        files.push(file("onboarding", "ca_path", path, Content::CaCertificates));
    }
    for (key, path) in [
        ("owner_password_file", &settings.tpm.passwords.owner),
        ("endorsement_password_file", &settings.tpm.passwords.endorsement),
    ] {
        files.extend(path.as_ref().map(|path| file("tpm", key, path, Content::Password)));
    }
    files
}

pub(super) fn entry<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Value::Mapping(entries) = &node.value else { return None };
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
}

impl NamedFile {
    /// Checks that the file exists, can be read and has the right content; returns the fault, if any.
    #[must_use]
    pub fn look(&self) -> Option<Finding> {
        let (content, path) = (self.content, self.path.clone());
        let look = move || match content {
            Content::CaCertificates => Trust::CaPath(path).read().map(drop),
            Content::Token => Token::File(path).read().map(drop),
            Content::Password => passwords::password(&path).map(drop),
        };
        let failure = file_access::limited(self.path.display().to_string(), look).err()?;
        Some(Finding {
            severity: Severity::Error,
            location: self.location.clone(),
            message: failure.message,
            advice: Some(failure.advice).filter(|advice| !advice.is_empty()),
        })
    }
}

/// How a server is authenticated by a host that has not joined.
#[derive(Clone, Debug)]
pub(crate) enum FirstContact {
    /// By the CAs of its cluster.
    ClusterCas {
        /// What it is verified with.
        trust: ServerTrust,
        /// The pins of these CAs.
        pins: Vec<CaPin>,
    },
    /// By the name in its address, with the CAs that the system trusts then.
    PublicName,
}

impl FirstContact {
    /// The pins of the cluster's CAs, if they are configured.
    pub(crate) fn pins(&self) -> &[CaPin] {
        match self {
            Self::ClusterCas { pins, .. } => pins,
            Self::PublicName => &[],
        }
    }
}

impl Trust {
    /// Reads the CAs that authenticate the authority.
    ///
    /// # Errors
    /// The file of CA certificates cannot be read, others may write it, or it has no certificate.
    pub(crate) fn read(&self) -> Result<FirstContact, Failure> {
        match self {
            Self::Pins(pins) => Ok(FirstContact::ClusterCas {
                trust: ServerTrust::Pins(pins.clone()),
                pins: pins.clone(),
            }),
            Self::CaPath(path) => {
                let certificates = ca_certificates(path)?;
                let pins = certificates.iter().map(CaPin::of_certificate).collect::<Result<_, _>>();
                let pins = pins.map_err(|error| unreadable(path, &error))?;
                let trust = ServerTrust::Certificates(certificates);
                Ok(FirstContact::ClusterCas { trust, pins })
            }
            Self::SystemRoots => Ok(FirstContact::PublicName),
        }
    }
}

fn ca_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let file = bounded::open_regular(path).map_err(|error| unreadable(path, &error))?;
    trusted::check(path)?;
    let pem = bounded::read(file, MAX_CA_FILE).map_err(|error| unreadable(path, &error))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| unreadable(path, &error))?;
    if certificates.is_empty() {
        return Err(unreadable(path, &"it contains no certificate"));
    }
    Ok(certificates)
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        Exit::Config,
        format!("the CA certificates in {}: {error}", path.display()),
        "give a PEM file with the authority's CA certificates, or a CA pin",
    )
}

impl Token {
    /// Its name; if it is in a file, read each time.
    ///
    /// # Errors
    /// The file cannot be read, or has no name in it.
    pub fn read(&self) -> Result<String, Failure> {
        let path = match self {
            Self::Value(name) => return Ok(name.clone()),
            Self::File(path) => path,
        };
        let failed =
            |cause: io::Error| Failure::io(&cause, format!("the token in {}", path.display()));
        let file = bounded::open_regular(path).map_err(failed)?;
        trusted::check(path)?;
        let text = bounded::read_text(file, MAX_TOKEN_FILE).map_err(failed)?;
        let name = text.strip_prefix('\u{feff}').unwrap_or(&text).trim().to_owned();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Failure::new(
                Exit::Config,
                format!("the token in {} is not a single name", path.display()),
                "write only the name of the token into the file",
            ));
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn byte_order_mark_is_not_part_of_the_token() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "\u{feff}tok\r\n").unwrap();
        assert_eq!(Token::File(path).read().unwrap(), "tok");
    }

    /// Each of these would hold up the reader, or never end.
    #[test]
    fn pipes_and_devices_in_the_place_of_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for path in ["/dev/zero".into(), pipe] {
            let contents = [Content::Token, Content::CaCertificates, Content::Password];
            for content in contents {
                let file = NamedFile { path: path.clone(), content, location: None };
                let found = file.look().unwrap().message;
                assert!(found.contains("not a regular file"), "{found}");
            }
        }
    }

    #[test]
    fn ca_certificates_that_are_too_long_or_of_another_user_are_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        std::fs::write(&path, "\n".repeat(1024 * 1024 + 1)).unwrap();
        let file =
            NamedFile { path: path.clone(), content: Content::CaCertificates, location: None };
        let found = file.look().unwrap().message;
        assert!(found.contains("longer than 1048576 bytes"), "{found}");
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let found = file.look().unwrap().message;
        assert!(found.contains("other users can write to"), "{found}");
    }

    #[test]
    fn token_in_a_file_that_is_too_long_is_refused_and_never_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, format!("t{}ail", " ".repeat(MAX_TOKEN_FILE as usize))).unwrap();
        let failure = Token::File(path.clone()).read().unwrap_err();
        assert!(failure.message.contains("longer than 4096 bytes"), "{failure}");
        std::fs::write(&path, "tok\n").unwrap();
        assert_eq!(Token::File(path).read().unwrap(), "tok");
    }
}
