//! The keys for JWTs in the cluster's directory, and how often the trust bundle has changed.
//!
//! ```text
//! keyring.json       the sequence number; each key for JWTs, with its state and public part
//! jwt-KEY_ID.key     the private part of a key that signs or will
//! ```

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use der::pem::LineEnding;
use host::exit::{Exit, Failure};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tracing::{info, warn};

use super::issue_failure;
use crate::data_directory::{read_private, replace_private};
use crate::issue::{
    CaState, Dated, IssueError, JwtAlgorithm, JwtKey, JwtPublicKey, Keyring, KeyringStore, Keys,
    Ring, SshCa, TrustChain, X509Ca,
};
use crate::resource::Timestamp;

const RECORD: &str = "keyring.json";

/// The label of a SubjectPublicKeyInfo in PEM, RFC 7468 section 13.
const PUBLIC_KEY: &str = "PUBLIC KEY";

/// Unknown fields are those of a later version.
#[derive(Serialize, Deserialize)]
struct Record {
    sequence: u64,
    /// [`Keys::fingerprint`], hexadecimal: what the number stands for.
    fingerprint: String,
    jwt: Vec<KeyRecord>,
    #[serde(default)]
    chain: TrustChain,
}

#[derive(Serialize, Deserialize)]
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

    /// Opens the keyring. A directory of an earlier version gets a key for JWTs, of this algorithm.
    pub(super) fn open(
        self,
        x509: X509Ca,
        ssh: SshCa,
        ssh_host: SshCa,
        algorithm: JwtAlgorithm,
        now: OffsetDateTime,
    ) -> Result<Keyring, Failure> {
        let record = self.record()?;
        let (jwt, sequence, known, chain) = match record {
            Some(Record { sequence, fingerprint, jwt, chain }) => {
                (self.ring(jwt, algorithm)?, sequence, fingerprint, chain)
            }
            None => {
                let key = JwtKey::generate(algorithm).map_err(issue_failure)?;
                info!(%algorithm, key_id = key.public().key_id(), "created a key for JWTs");
                (Ring::new(key, now), 0, String::new(), TrustChain::default())
            }
        };
        let since = x509.not_before();
        let (ssh, ssh_host) = (Ring::new(ssh, since), Ring::new(ssh_host, since));
        let mut keys = Keys { x509: Ring::new(x509, since), ssh, ssh_host, jwt, sequence, chain };
        // No CA of the past vouches for one that was put in its place in the directory.
        let is_continued = keys.chain.ends_with(&keys);
        if !is_continued {
            keys.chain = TrustChain::begin(&keys).map_err(issue_failure)?;
        }
        if !is_continued || fingerprint(&keys).map_err(issue_failure)? != known {
            keys.sequence = keys.sequence.saturating_add(1);
            let path = self.directory.join(RECORD);
            self.store(&keys)
                .map_err(|cause| Failure::io(&cause, format!("cannot write {}", path.display())))?;
        }
        Ok(Keyring::stored(keys, Box::new(self)))
    }

    fn record(&self) -> Result<Option<Record>, Failure> {
        let path = self.directory.join(RECORD);
        if !path.try_exists().is_ok_and(|exists| !exists) {
            let record = serde_json::from_str(&read_private(&path)?);
            return record.map(Some).map_err(|cause| damaged(&path, cause));
        }
        Ok(None)
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
        let path = self.private(&record.key_id);
        let key = JwtKey::from_pem(record.algorithm, &read_private(&path)?);
        let key = key.map_err(|cause| damaged(&path, cause))?;
        if *key.public() != public {
            return Err(damaged(&path, "it is another key"));
        }
        Ok(key)
    }

    fn private(&self, key_id: &str) -> PathBuf {
        self.directory.join(private_name(key_id))
    }

    /// Removes the private parts of keys that sign nothing any more.
    fn remove_unused(&self, used: &BTreeSet<String>) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str().filter(|name| is_private_name(name)) else { continue };
            if !used.contains(name) {
                std::fs::remove_file(self.directory.join(name))?;
            }
        }
        Ok(())
    }
}

impl KeyringStore for KeyringFiles {
    /// The private parts are in place before the record that needs them.
    fn store(&self, keys: &Keys) -> io::Result<()> {
        let (mut used, mut jwt) = (BTreeSet::new(), Vec::new());
        for (state, Dated { ca: key, since }) in keys.jwt.all() {
            let (public, key_id) = (key.public(), key.public().key_id().to_owned());
            let private = key.to_pem().map_err(io::Error::other)?;
            if let Some(pem) = private.filter(|_| state != CaState::Retired) {
                let path = self.private(&key_id);
                if !path.try_exists()? {
                    replace_private(&path, pem.as_bytes())?;
                }
                used.insert(private_name(&key_id));
            }
            let spki = public.to_spki().map_err(io::Error::other)?;
            let public_key = der::pem::encode_string(PUBLIC_KEY, LineEnding::LF, &spki);
            let public_key = public_key.map_err(io::Error::other)?;
            let (algorithm, since) = (public.algorithm(), Timestamp(*since));
            jwt.push(KeyRecord { key_id, state, since, algorithm, public_key });
        }
        let fingerprint = fingerprint(keys).map_err(io::Error::other)?;
        let record =
            Record { sequence: keys.sequence, fingerprint, jwt, chain: keys.chain.clone() };
        let record = serde_json::to_vec_pretty(&record).map_err(io::Error::other)?;
        replace_private(&self.directory.join(RECORD), &record)?;
        if let Err(cause) = self.remove_unused(&used) {
            warn!(%cause, "cannot remove the private part of a retired key for JWTs");
        }
        Ok(())
    }
}

/// Why RSA keys cannot be used here, and what to do.
pub(super) fn unsupported(cause: impl std::fmt::Display) -> Failure {
    let advice = "set `jwt.algorithm: ES256`, or move the authority to a machine that has them";
    Failure::new(Exit::Config, format!("`jwt.algorithm: RS256`: {cause}"), advice)
}

fn private_name(key_id: &str) -> String {
    format!("jwt-{key_id}.key")
}

fn is_private_name(name: &str) -> bool {
    name.strip_prefix("jwt-").is_some_and(|rest| rest.ends_with(".key"))
}

fn fingerprint(keys: &Keys) -> Result<String, IssueError> {
    keys.fingerprint().map(|digest| base16ct::lower::encode_string(&digest))
}

fn damaged(path: &Path, cause: impl std::fmt::Display) -> Failure {
    let message = format!("{}: {cause}", path.display());
    Failure::new(Exit::Data, message, "restore the directory from a backup")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use time::macros::datetime;

    use super::*;
    use crate::issue::{CaKey, PUBLISHED_BEFORE_USE};

    const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);

    /// The CAs of a cluster, and the keyring in a directory.
    struct Directory {
        path: tempfile::TempDir,
        x509: (Vec<u8>, CaKey),
        ssh: CaKey,
    }

    impl Directory {
        fn new() -> Self {
            let path = tempfile::tempdir().unwrap();
            let (key, ssh) = (CaKey::generate().unwrap(), CaKey::generate().unwrap());
            let copy = CaKey::from_pem(&key.to_pem().unwrap()).unwrap();
            let x509 = X509Ca::create(&"a".parse().unwrap(), copy, NOW).unwrap();
            Self { path, x509: (x509.certificate().to_vec(), key), ssh }
        }

        fn open(&self, algorithm: JwtAlgorithm, at: OffsetDateTime) -> Result<Keyring, Failure> {
            let key = CaKey::from_pem(&self.x509.1.to_pem().unwrap()).unwrap();
            let x509 = X509Ca::load(&self.x509.0.as_slice().into(), key).unwrap();
            let ssh = SshCa::new(&"a".parse().unwrap(), &self.ssh).unwrap();
            let ssh_host = SshCa::of_hosts(&"a".parse().unwrap(), &self.ssh).unwrap();
            KeyringFiles::of(self.path.path()).open(x509, ssh, ssh_host, algorithm, at)
        }

        fn private(&self) -> Vec<String> {
            let names = fs::read_dir(self.path.path()).unwrap();
            let names = names.map(|one| one.unwrap().file_name().into_string().unwrap());
            let mut names: Vec<_> = names.filter(|name| is_private_name(name)).collect();
            names.sort();
            names
        }
    }

    fn change(keyring: &Keyring, algorithm: JwtAlgorithm, at: OffsetDateTime) -> &'static str {
        let mut what = "";
        let changed = keyring.change(|keys| {
            let change = keys.jwt.due(algorithm, at).unwrap().unwrap();
            what = change.what;
            Ok(Some(Keys { jwt: change.ring, ..keys.clone() }))
        });
        changed.unwrap();
        what
    }

    #[test]
    fn keys_are_stored_with_their_states_and_retired_ones_without_private_part() {
        use JwtAlgorithm::{Es256, Rs256};
        let directory = Directory::new();
        let keyring = directory.open(Es256, NOW).unwrap();
        assert_eq!(keyring.keys().sequence, 1);
        let first = keyring.keys().jwt.active().public().key_id().to_owned();
        assert_eq!(directory.private(), [private_name(&first)]);
        // The same at each start, and nothing is written.
        let again = directory.open(Es256, NOW).unwrap().keys();
        assert_eq!((again.jwt.active().public().key_id(), again.sequence), (&first[..], 1));

        let keyring = directory.open(Rs256, NOW).unwrap();
        change(&keyring, Rs256, NOW);
        assert_eq!((keyring.keys().sequence, directory.private().len()), (2, 2));
        let later = NOW + PUBLISHED_BEFORE_USE;
        let keyring = directory.open(Rs256, later).unwrap();
        assert_eq!(keyring.keys().jwt.next().unwrap().since, NOW);
        change(&keyring, Rs256, later);
        let keys = directory.open(Rs256, later).unwrap().keys();
        assert_eq!(keys.sequence, 3);
        let [retired] = keys.jwt.retired() else { panic!("none is retired") };
        assert_eq!((retired.ca.public().key_id(), retired.since), (&first[..], later));
        assert!(!retired.ca.can_sign() && keys.jwt.active().can_sign());
        assert_eq!(directory.private(), [private_name(keys.jwt.active().public().key_id())]);
    }

    #[test]
    fn sequence_grows_if_another_ca_is_found_at_a_start() {
        let mut directory = Directory::new();
        directory.open(JwtAlgorithm::Es256, NOW).unwrap();
        directory.ssh = CaKey::generate().unwrap();
        for _ in 0..2 {
            let keyring = directory.open(JwtAlgorithm::Es256, NOW).unwrap();
            assert_eq!(keyring.keys().sequence, 2);
        }
    }

    #[test]
    fn keys_that_cannot_be_stored_are_not_used() {
        let directory = Directory::new();
        let keyring = directory.open(JwtAlgorithm::Es256, NOW).unwrap();
        let before = keyring.keys();
        let record = directory.path.path().join(RECORD);
        fs::remove_file(&record).unwrap();
        fs::create_dir(&record).unwrap();
        keyring.replace(Keys::clone(&before)).unwrap_err();
        assert!(Arc::ptr_eq(&before, &keyring.keys()));
    }

    #[test]
    fn damaged_keyring_is_refused() {
        let refused = |damage: &dyn Fn(&Path, &str)| {
            let directory = Directory::new();
            let keyring = directory.open(JwtAlgorithm::Es256, NOW).unwrap();
            damage(directory.path.path(), keyring.keys().jwt.active().public().key_id());
            directory.open(JwtAlgorithm::Es256, NOW).map(drop).unwrap_err().exit
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
        let remove =
            |path: &Path, key: &str| fs::remove_file(path.join(private_name(key))).unwrap();
        assert_eq!(refused(&remove), Exit::Io);
    }
}
