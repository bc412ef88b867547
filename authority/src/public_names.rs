//! The certificates of public names and of the bundle endpoint, which an ACME client or an operator writes into files, and which are read again
//! while the authority runs.
//!
//! A pair of files is not replaced as one, so the authority may find a new certificate beside an old key. It serves a
//! pair only if it belongs together, and until then the one that it has.

mod rsa;

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use const_oid::db::rfc5912::RSA_ENCRYPTION;
use der::Decode;
use host::bounded;
use host::exit::{Exit, Failure};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use time::OffsetDateTime;
use tracing::{info, warn};
use x509_cert::Certificate;
use zeroize::{Zeroize, Zeroizing};

use crate::config::{BundleProfile, KeypairFiles, Public, PublicAddr, Settings};
use crate::resource::Timestamp;
use crate::rsa_key;

/// Bytes of a file with a certificate chain.
const MAX_CHAIN: u64 = 64 * 1024;

/// Bytes of a file with a key.
const MAX_KEY: u64 = 16 * 1024;

/// Certificates of a chain. Those of public CAs have three or four.
const MAX_CERTIFICATES: usize = 8;

/// What the bundle endpoint is called among the names: clients may reach it by any name. A public name has no underscore.
const ENDPOINT: &str = "bundle_endpoint";

/// Permissions that the file of a key must not have: a group may read it, as that of web servers does.
const FORBIDDEN_MODE: u32 = 0o026;

/// The public names of an authority, with their certificates.
#[derive(Default)]
pub struct PublicNames {
    addrs: Vec<PublicAddr>,
    pairs: Vec<Pair>,
    /// That of the bundle endpoint, for any name.
    endpoint: Option<Pair>,
}

/// A certificate with its key, and the files that they come from.
struct Pair {
    files: KeypairFiles,
    /// The names that it is served for.
    names: Vec<String>,
    state: Mutex<State>,
}

struct State {
    served: Loaded,
    /// Why the files have nothing better.
    fault: Option<String>,
}

/// A certificate with its key.
struct Loaded {
    key: Arc<CertifiedKey>,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
}

/// Why a pair of files cannot be used.
#[derive(Debug)]
struct Unusable {
    file: String,
    cause: String,
    advice: &'static str,
    exit: Exit,
}

impl PublicNames {
    /// Reads the certificates of all public names.
    ///
    /// # Errors
    /// A file cannot be used, or a name is in no certificate. That a certificate has expired is only a warning: hosts
    /// that have joined do not need it.
    pub fn load(public: Public) -> Result<Self, Failure> {
        let Public { addrs, keypairs } = public;
        let mut pairs = keypairs.into_iter().map(Pair::load).collect::<Result<Vec<_>, _>>()?;
        for addr in &addrs {
            let host = addr.host();
            let covering = pairs.iter_mut().find(|pair| pair.state().served.is_for(host));
            match covering {
                Some(pair) => pair.names.push(host.to_owned()),
                None => {
                    return Err(Failure::new(
                        Exit::Config,
                        format!("no certificate of `https_keypairs` has the name {host}"),
                        "add the certificate for it, or correct `public_addr`",
                    ));
                }
            }
        }
        if let Some(unused) = pairs.iter().find(|pair| pair.names.is_empty()) {
            return Err(Failure::new(
                Exit::Config,
                format!("{} is for none of `public_addr`", unused.files.cert_file.display()),
                "add a name of the certificate to `public_addr`, or remove the pair",
            ));
        }
        Ok(Self { addrs, pairs, endpoint: None })
    }

    /// All certificates that settings name.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn of(settings: &Settings) -> Result<Self, Failure> {
        let all = Self::load(settings.public.clone())?;
        let endpoint = settings.bundle_endpoint.as_ref();
        let Some(BundleProfile::HttpsWeb(files)) = endpoint.map(|one| &one.profile) else {
            return Ok(all);
        };
        let mut pair = Pair::load(files.clone())?;
        pair.names.push(ENDPOINT.to_owned());
        Ok(Self { endpoint: Some(pair), ..all })
    }

    /// The certificate of the bundle endpoint.
    pub(crate) fn endpoint_certificate(&self) -> Option<Arc<CertifiedKey>> {
        self.endpoint.as_ref().map(|pair| Arc::clone(&pair.state().served.key))
    }

    fn all(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().chain(&self.endpoint)
    }

    /// The address that clients receive.
    pub fn address(&self) -> Option<&PublicAddr> {
        self.addrs.first()
    }

    /// The certificate for a server name in lowercase; `None` if the name is not a public one.
    pub(crate) fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let pair = self.pairs.iter().find(|pair| pair.names.iter().any(|own| own == name))?;
        Some(Arc::clone(&pair.state().served.key))
    }

    /// Reads all files again, and serves what is new and usable.
    pub fn reload(&self, now: OffsetDateTime) {
        for pair in self.all() {
            pair.reload(now);
        }
    }

    /// The names, and when their certificates expire.
    pub fn expiries(&self) -> Vec<(String, OffsetDateTime)> {
        let of_pair = |pair: &Pair| {
            let not_after = pair.state().served.not_after;
            pair.names.iter().map(|name| (name.clone(), not_after)).collect::<Vec<_>>()
        };
        self.all().flat_map(of_pair).collect()
    }

    /// What an operator should do something about.
    pub fn warnings(&self, now: OffsetDateTime) -> Vec<String> {
        let of_pair = |pair: &Pair| {
            let state = pair.state();
            let dates = state.served.warning(now);
            let dates =
                dates.map(|why| format!("the certificate of {} {why}", pair.names.join(", ")));
            dates.into_iter().chain(state.fault.clone()).collect::<Vec<_>>()
        };
        self.all().flat_map(of_pair).collect()
    }
}

impl Pair {
    fn load(files: KeypairFiles) -> Result<Self, Failure> {
        let served = Loaded::read(&files)?;
        Ok(Self { files, names: Vec::new(), state: Mutex::new(State { served, fault: None }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reload(&self, now: OffsetDateTime) {
        let found = Loaded::read(&self.files).map_err(|cause| cause.to_string());
        let found = found.and_then(|found| self.check_replacement(found, now));
        let mut state = self.state();
        match found {
            Ok(found) if found.key.cert == state.served.key.cert => state.fault = None,
            Ok(found) => {
                let expires = Timestamp(found.not_after);
                info!(names = self.names.join(", "), %expires, "serving a new certificate");
                *state = State { served: found, fault: None };
            }
            Err(fault) => {
                let fault = format!("{fault}; the previous certificate stays in use");
                if state.fault.as_ref() != Some(&fault) {
                    warn!(names = self.names.join(", "), fault, "cannot use the new certificate");
                    state.fault = Some(fault);
                }
            }
        }
    }

    /// Refuses what serves clients worse than what is served now.
    fn check_replacement(&self, found: Loaded, now: OffsetDateTime) -> Result<Loaded, String> {
        let file = self.files.cert_file.display();
        if let Some(name) = self.names.iter().find(|name| *name != ENDPOINT && !found.is_for(name))
        {
            return Err(format!("{file} no longer has the name {name}"));
        }
        if now < found.not_before {
            let begin = Timestamp(found.not_before);
            return Err(format!("{file} is not valid before {begin}"));
        }
        if now >= found.not_after && found.key.cert != self.state().served.key.cert {
            return Err(format!("{file} expired at {}", Timestamp(found.not_after)));
        }
        Ok(found)
    }
}

impl Loaded {
    fn read(files: &KeypairFiles) -> Result<Self, Unusable> {
        let (chain, leaf) = chain(&files.cert_file)?;
        let key = key(&files.key_file)?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|_| {
            let cause = format!("it is not the key of {}", files.cert_file.display());
            Unusable::new(
                &files.key_file,
                cause,
                "give the key that the certificate was issued for",
            )
        })?;
        let validity = leaf.tbs_certificate().validity();
        Ok(Self {
            key: Arc::new(key),
            not_before: validity.not_before.to_system_time().into(),
            not_after: validity.not_after.to_system_time().into(),
        })
    }

    fn is_for(&self, name: &str) -> bool {
        let leaf = self.key.cert.first().map(webpki::EndEntityCert::try_from);
        match (leaf, ServerName::try_from(name)) {
            (Some(Ok(leaf)), Ok(name)) => leaf.verify_is_valid_for_subject_name(&name).is_ok(),
            _ => false,
        }
    }

    /// What is wrong with its dates, or will soon be. ACME clients renew after two thirds of the lifetime.
    fn warning(&self, now: OffsetDateTime) -> Option<String> {
        let (begin, end) = (Timestamp(self.not_before), Timestamp(self.not_after));
        let late = self.not_after - (self.not_after - self.not_before) / 6;
        if now < self.not_before {
            Some(format!("is not valid before {begin}"))
        } else if now >= self.not_after {
            Some(format!("expired at {end}"))
        } else if now >= late {
            Some(format!("expires at {end} and has not been renewed"))
        } else {
            None
        }
    }
}

/// The chain in a file, and its leaf.
fn chain(path: &Path) -> Result<(Vec<CertificateDer<'static>>, Certificate), Unusable> {
    const ADVICE: &str = "give the certificate and those above it but the root, PEM, leaf first";
    let file = bounded::open_regular(path).map_err(|cause| Unusable::io(path, &cause))?;
    let pem = bounded::read(file, MAX_CHAIN).map_err(|cause| Unusable::io(path, &cause))?;
    let unusable = |cause: &dyn fmt::Display| Unusable::new(path, cause, ADVICE);
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .take(MAX_CERTIFICATES + 1)
        .collect::<Result<_, _>>()
        .map_err(|cause| unusable(&cause))?;
    if chain.len() > MAX_CERTIFICATES {
        return Err(unusable(&format!("it has more than {MAX_CERTIFICATES} certificates")));
    }
    let mut parsed = chain.iter().map(|der| Certificate::from_der(der));
    let leaf = parsed.next().ok_or_else(|| unusable(&"it has no certificate"))?;
    let leaf = leaf.map_err(|cause| unusable(&cause))?;
    for above in parsed {
        above.map_err(|cause| unusable(&cause))?;
    }
    let algorithm = leaf.tbs_certificate().subject_public_key_info().algorithm.oid;
    if let Some(cause) = rsa_key::check_processor().err().filter(|_| algorithm == RSA_ENCRYPTION) {
        return Err(Unusable::new(
            path,
            format_args!("it is for an RSA key: {cause}"),
            "request a certificate for an ECDSA key; for certbot: --key-type ecdsa",
        ));
    }
    Ok((chain, leaf))
}

fn key(path: &Path) -> Result<Arc<dyn rustls::sign::SigningKey>, Unusable> {
    const ADVICE: &str = "give an ECDSA key on P-256 or P-384, an Ed25519 key, or an RSA key of 2048 to 4096 bits, PEM without a password";
    let file = bounded::open_regular(path).map_err(|cause| Unusable::io(path, &cause))?;
    let mode = file.metadata().map_err(|cause| Unusable::io(path, &cause))?.mode();
    if mode & FORBIDDEN_MODE != 0 {
        return Err(Unusable {
            exit: Exit::Permission,
            ..Unusable::new(
                path,
                format!("other users may read or change it (mode {:o})", mode & 0o7777),
                "chmod it to 0600, or to 0640 with a group of its own",
            )
        });
    }
    let pem = bounded::read(file, MAX_KEY).map_err(|cause| Unusable::io(path, &cause))?;
    let pem = Zeroizing::new(pem);
    let unusable = |cause: &dyn fmt::Display| Unusable::new(path, cause, ADVICE);
    let mut der = PrivateKeyDer::from_pem_slice(&pem).map_err(|cause| unusable(&cause))?;
    match rsa::rsa_key(&der) {
        Some(key) => {
            der.zeroize();
            key.map_err(|cause| unusable(&cause))
        }
        None => tls::software_key(der).map_err(|cause| unusable(&cause)),
    }
}

impl Unusable {
    fn new(path: &Path, cause: impl fmt::Display, advice: &'static str) -> Self {
        let (file, cause) = (path.display().to_string(), cause.to_string());
        Self { file, cause, advice, exit: Exit::Config }
    }

    fn io(path: &Path, cause: &std::io::Error) -> Self {
        let advice = "check the path, and that the authority's user may read the file";
        Self { exit: Failure::io(cause, "").exit, ..Self::new(path, cause, advice) }
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot use {}: {}", self.file, self.cause)
    }
}

impl From<Unusable> for Failure {
    fn from(unusable: Unusable) -> Self {
        Self::new(unusable.exit, unusable.to_string(), unusable.advice)
    }
}

#[cfg(test)]
mod tests;
