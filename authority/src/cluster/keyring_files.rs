//! The private keys of the CAs in files, as older versions store them. A start moves them into the store.
//!
//! ```text
//! x509-ca.key, ssh-ca.key    PKCS #8 PEM
//! ssh-host-ca.key            likewise, since layout 2
//! keyring.json               the sequence number; each key for JWTs, with its state and public part; since layout 2
//! jwt-KEY_ID.key             the private part of a key that signs or will
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::exit::{Exit, Failure};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use time::OffsetDateTime;
use tracing::{info, warn};

use super::{issue_failure, unsupported};
use crate::data_directory::read_private;
use crate::issue::{
    CaKey, CaState, ClusterName, Dated, JwtAlgorithm, JwtKey, JwtPublicKey, Keys, Ring, SshCa,
    Tainted, TrustChain, X509Ca,
};
use crate::resource::Timestamp;

const X509_CERTIFICATE: &str = "x509-ca.pem";
const X509_KEY: &str = "x509-ca.key";
const SSH_KEY: &str = "ssh-ca.key";
const SSH_HOST_KEY: &str = "ssh-host-ca.key";
const RECORD: &str = "keyring.json";

/// The label of a SubjectPublicKeyInfo in PEM, RFC 7468 section 13.
const PUBLIC_KEY: &str = "PUBLIC KEY";

/// Unknown fields are those of a later version.
#[derive(Deserialize)]
struct Record {
    sequence: u64,
    /// [`Keys::fingerprint`], hexadecimal: what the number stands for.
    fingerprint: String,
    jwt: Vec<KeyRecord>,
    #[serde(default)]
    chain: TrustChain,
}

#[derive(Deserialize)]
struct KeyRecord {
    key_id: String,
    state: CaState,
    since: Timestamp,
    algorithm: JwtAlgorithm,
    /// PEM.
    public_key: String,
}

/// The files.
pub(super) struct KeyringFiles {
    directory: PathBuf,
}

impl KeyringFiles {
    pub(super) fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// The CAs. A directory of version 0.1.0 gets new ones for SSH certificates of hosts and for JWTs.
    pub(super) fn keys(
        &self,
        name: &ClusterName,
        algorithm: JwtAlgorithm,
        now: OffsetDateTime,
    ) -> Result<Keys, Failure> {
        let x509 = X509Ca::load(&self.certificate()?, self.ca_key(X509_KEY)?)
            .map_err(|cause| damaged(&self.directory.join(X509_CERTIFICATE), cause))?;
        let ssh = SshCa::new(name, &self.ca_key(SSH_KEY)?).map_err(issue_failure)?;
        let ssh_host_key = match self.is_there(SSH_HOST_KEY) {
            true => self.ca_key(SSH_HOST_KEY)?,
            false => CaKey::generate().map_err(issue_failure)?,
        };
        let ssh_host = SshCa::of_hosts(name, &ssh_host_key).map_err(issue_failure)?;
        let since = x509.not_before();
        let (jwt, sequence, known, chain) = match self.record()? {
            Some(Record { sequence, fingerprint, jwt, chain }) => {
                (self.ring(jwt, algorithm)?, sequence, fingerprint, chain)
            }
            None => {
                let key = JwtKey::generate(algorithm).map_err(issue_failure)?;
                info!(%algorithm, key_id = key.public().key_id(), "created a key for JWTs");
                (Ring::new(key, now), 0, String::new(), TrustChain::default())
            }
        };
        let (x509, ssh) = (Ring::new(x509, since), Ring::new(ssh, since));
        let ssh_host = Ring::new(ssh_host, since);
        let tainted = Tainted::default();
        let mut keys = Keys { x509, ssh, ssh_host, jwt, sequence, chain, tainted };
        // No CA of the past vouches for one that was put in its place in the directory.
        let is_continued = keys.chain.ends_with(&keys);
        if !is_continued {
            keys.chain = TrustChain::begin(&keys).map_err(issue_failure)?;
        }
        let fingerprint = keys.fingerprint().map_err(issue_failure)?;
        if !is_continued || base16ct::lower::encode_string(&fingerprint) != known {
            keys.sequence = keys.sequence.saturating_add(1);
        }
        Ok(keys)
    }

    /// Refuses private keys that are not those of the store: the directory is of another cluster.
    pub(super) fn check_known(&self, is_known: impl Fn(&str) -> bool) -> Result<(), Failure> {
        for file in [X509_KEY, SSH_KEY] {
            let key = self.ca_key(file)?;
            if !is_known(key.key_id().map_err(issue_failure)?.as_str()) {
                return Err(Failure::new(
                    Exit::Config,
                    format!(
                        "{} is not of the cluster in the store",
                        self.directory.join(file).display()
                    ),
                    "give another --data-dir, or configure another store",
                ));
            }
        }
        Ok(())
    }

    /// Removes all private keys.
    pub(super) fn remove(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let is_ours = |name: &&str| {
                [X509_KEY, SSH_KEY, SSH_HOST_KEY, RECORD].contains(name) || is_private_name(name)
            };
            if name.to_str().filter(is_ours).is_some() {
                std::fs::remove_file(self.directory.join(name))?;
            }
        }
        Ok(())
    }

    /// Whether a file is there; `true` if that cannot be determined.
    fn is_there(&self, file: &str) -> bool {
        !self.directory.join(file).try_exists().is_ok_and(|exists| !exists)
    }

    fn ca_key(&self, file: &str) -> Result<CaKey, Failure> {
        let path = self.directory.join(file);
        CaKey::from_pem(&read_private(&path)?).map_err(|cause| damaged(&path, cause))
    }

    fn certificate(&self) -> Result<CertificateDer<'static>, Failure> {
        let path = self.directory.join(X509_CERTIFICATE);
        let pem = read_private(&path)?;
        let (label, der) =
            der::pem::decode_vec(pem.as_bytes()).map_err(|cause| damaged(&path, cause))?;
        if label != "CERTIFICATE" {
            return Err(damaged(&path, format_args!("it contains a {label}")));
        }
        Ok(CertificateDer::from(der))
    }

    fn record(&self) -> Result<Option<Record>, Failure> {
        if !self.is_there(RECORD) {
            return Ok(None);
        }
        let path = self.directory.join(RECORD);
        let record = serde_json::from_str(&read_private(&path)?);
        record.map(Some).map_err(|cause| damaged(&path, cause))
    }

    fn ring(
        &self,
        records: Vec<KeyRecord>,
        algorithm: JwtAlgorithm,
    ) -> Result<Ring<JwtKey>, Failure> {
        let path = self.directory.join(RECORD);
        let keys = records.into_iter().map(|record| {
            let key = Arc::new(self.key(&record, algorithm)?);
            Ok((record.state, Dated { ca: key, since: record.since.0 }))
        });
        let keys = keys.collect::<Result<Vec<_>, Failure>>()?;
        Ring::stored(keys).ok_or_else(|| damaged(&path, "not exactly one key for JWTs is active"))
    }

    /// A key that this processor cannot use is replaced later, if JWTs are to be signed by another algorithm.
    fn key(&self, record: &KeyRecord, algorithm: JwtAlgorithm) -> Result<JwtKey, Failure> {
        let path = self.directory.join(RECORD);
        let (label, der) = der::pem::decode_vec(record.public_key.as_bytes())
            .map_err(|cause| damaged(&path, cause))?;
        let public = JwtPublicKey::from_spki(&der).map_err(|cause| damaged(&path, cause))?;
        if label != PUBLIC_KEY
            || public.key_id() != record.key_id
            || public.algorithm() != record.algorithm
        {
            return Err(damaged(&path, format_args!("{} is another key", record.key_id)));
        }
        if record.state == CaState::Retired {
            return Ok(JwtKey::without_private(public));
        }
        match record.algorithm.check_supported() {
            Err(cause) if record.algorithm != algorithm => {
                warn!(key_id = record.key_id, %cause, "a key for JWTs cannot be used");
                return Ok(JwtKey::without_private(public));
            }
            Err(cause) => return Err(unsupported(cause)),
            Ok(()) => {}
        }
        let path = self.directory.join(private_name(&record.key_id));
        let key = JwtKey::from_pem(record.algorithm, &read_private(&path)?);
        let key = key.map_err(|cause| damaged(&path, cause))?;
        if *key.public() != public {
            return Err(damaged(&path, "it is another key"));
        }
        Ok(key)
    }
}

fn private_name(key_id: &str) -> String {
    format!("jwt-{key_id}.key")
}

fn is_private_name(name: &str) -> bool {
    name.strip_prefix("jwt-").is_some_and(|rest| rest.ends_with(".key"))
}

fn damaged(path: &Path, cause: impl std::fmt::Display) -> Failure {
    let message = format!("{}: {cause}", path.display());
    Failure::new(Exit::Data, message, "restore the directory from a backup")
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use der::pem::LineEnding;
    use serde_json::json;
    use time::macros::datetime;

    use super::*;
    use crate::data_directory::replace_private;

    const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

    /// Writes the files of layout 2.
    pub(in crate::cluster) fn write(directory: &Path, keys: &Keys) {
        let file = |name: &str, text: &str| {
            replace_private(&directory.join(name), text.as_bytes()).unwrap();
        };
        let (x509, ssh, ssh_host) = (keys.x509.active(), keys.ssh.active(), keys.ssh_host.active());
        let pem = der::pem::encode_string("CERTIFICATE", LineEnding::LF, x509.certificate());
        file(X509_CERTIFICATE, &pem.unwrap());
        file("ssh-ca.pub", &format!("{}\n", ssh.public_key()));
        file("ssh-host-ca.pub", &format!("{}\n", ssh_host.public_key()));
        file(X509_KEY, &x509.private_pem().unwrap());
        file(SSH_KEY, &ssh.private_pem().unwrap());
        file(SSH_HOST_KEY, &ssh_host.private_pem().unwrap());
        let mut jwt = Vec::new();
        for (state, Dated { ca: key, since }) in keys.jwt.all() {
            let (public, key_id) = (key.public(), key.public().key_id());
            if let Some(pem) = key.to_pem().unwrap().filter(|_| state != CaState::Retired) {
                file(&private_name(key_id), &pem);
            }
            let spki = public.to_spki().unwrap();
            let public_key = der::pem::encode_string(PUBLIC_KEY, LineEnding::LF, &spki).unwrap();
            jwt.push(json!({
                "key_id": key_id, "state": state, "since": Timestamp(*since),
                "algorithm": public.algorithm(), "public_key": public_key,
            }));
        }
        let fingerprint = base16ct::lower::encode_string(&keys.fingerprint().unwrap());
        let record = json!({
            "sequence": keys.sequence, "fingerprint": fingerprint, "jwt": jwt, "chain": keys.chain,
        });
        file(RECORD, &serde_json::to_string_pretty(&record).unwrap());
    }

    fn name() -> ClusterName {
        "a".parse().unwrap()
    }

    /// A directory of layout 2, and its CAs.
    fn directory() -> (tempfile::TempDir, Keys) {
        let directory = tempfile::tempdir().unwrap();
        let keys = super::super::new_keys(&name(), JwtAlgorithm::Es256, NOW).unwrap();
        write(directory.path(), &keys);
        (directory, keys)
    }

    fn read(directory: &Path) -> Result<Keys, Failure> {
        KeyringFiles::of(directory).keys(&name(), JwtAlgorithm::Es256, NOW)
    }

    #[test]
    fn keys_are_read_with_their_states_and_their_sequence_number() {
        let (directory, keys) = directory();
        let old = Arc::clone(keys.jwt.active());
        let jwt = keys.jwt.clone().with_next(JwtKey::generate(JwtAlgorithm::Es256).unwrap(), NOW);
        let keys = Keys { jwt: jwt.activated(NOW), sequence: 7, ..keys };
        write(directory.path(), &keys);
        let found = read(directory.path()).unwrap();
        assert_eq!(found.fingerprint().unwrap(), keys.fingerprint().unwrap());
        assert_eq!(found.sequence, 7);
        assert_eq!(found.jwt.active().public(), keys.jwt.active().public());
        let [retired] = found.jwt.retired() else { panic!("none is retired") };
        assert_eq!((retired.ca.public(), retired.since), (old.public(), NOW));
        assert!(!retired.ca.can_sign() && found.jwt.active().can_sign());
    }

    #[test]
    fn sequence_grows_if_another_ca_is_found() {
        let (directory, _) = directory();
        let other = CaKey::generate().unwrap().to_pem().unwrap();
        replace_private(&directory.path().join(SSH_KEY), other.as_bytes()).unwrap();
        assert_eq!(read(directory.path()).unwrap().sequence, 2);
    }

    #[test]
    fn damaged_files_are_refused() {
        let refused = |damage: &dyn Fn(&Path, &str)| {
            let (directory, keys) = directory();
            damage(directory.path(), keys.jwt.active().public().key_id());
            read(directory.path()).map(drop).unwrap_err().exit
        };
        let edit = |from: &'static str, to: &'static str| {
            move |path: &Path, _: &str| {
                let text = fs::read_to_string(path.join(RECORD)).unwrap();
                assert!(text.contains(from));
                fs::write(path.join(RECORD), text.replace(from, to)).unwrap();
            }
        };
        assert_eq!(refused(&edit("active", "retired")), Exit::Data);
        assert_eq!(refused(&edit("active", "signing")), Exit::Data);
        assert_eq!(refused(&edit("PUBLIC", "PRIVATE")), Exit::Data);
        assert_eq!(refused(&edit("ES256", "RS256")), Exit::Data);
        assert_eq!(refused(&edit("\"key_id\": \"", "\"key_id\": \"x")), Exit::Data);
        let other = CaKey::generate().unwrap().to_pem().unwrap();
        let replace =
            |path: &Path, key: &str| fs::write(path.join(private_name(key)), &*other).unwrap();
        assert_eq!(refused(&replace), Exit::Data);
        let another_ca = |path: &Path, _: &str| fs::write(path.join(X509_KEY), &*other).unwrap();
        assert_eq!(refused(&another_ca), Exit::Data);
        let remove =
            |path: &Path, key: &str| fs::remove_file(path.join(private_name(key))).unwrap();
        assert_eq!(refused(&remove), Exit::Io);
    }
}
