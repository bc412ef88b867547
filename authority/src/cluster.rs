//! The cluster, which the first start creates.

mod keyring_files;

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use host::bounded;
use host::exit::{Exit, Failure};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tracing::{info, warn};

use self::keyring_files::{KeyringFiles, unsupported};
use crate::config::StoreSettings;
use crate::data_directory::{
    DataDirectory, Lock, Nascent, check_own, check_owner, open_own, read_private, replace_private,
};
use crate::issue::{
    CaKey, ClusterName, IssueError, Issuer, JwtKeyChange, JwtSettings, SshCa, X509Ca,
};
use crate::store::{RedbStore, StoreError, has_records};

const RECORD: &str = "cluster.json";
const X509_CERTIFICATE: &str = "x509-ca.pem";
const X509_KEY: &str = "x509-ca.key";
const SSH_KEY: &str = "ssh-ca.key";
const SSH_PUBLIC: &str = "ssh-ca.pub";
const SSH_HOST_KEY: &str = "ssh-host-ca.key";
const SSH_HOST_PUBLIC: &str = "ssh-host-ca.pub";
const DATABASE: &str = "store.redb";

/// Bytes of the file with the public key of an SSH CA.
const MAX_PUBLIC_KEY: u64 = 64 * 1024;

/// A cluster, open.
pub struct Cluster {
    /// Its CAs.
    pub issuer: Issuer,
    /// Whether this start created it.
    pub origin: Origin,
    database: PathBuf,
}

/// Where a cluster comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This start made it.
    Created,
    /// An earlier one did.
    Found,
}

/// The record that marks a directory as a cluster's, and its layout.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    layout: u32,
    name: String,
}

/// The layout that this program creates. Programs with another layout refuse the directory by this number, so the record must
/// not change otherwise.
const LAYOUT: u32 = 2;

/// That of version 0.1.0, which cannot read what this program stores.
const OLD_LAYOUT: u32 = 1;

impl Cluster {
    /// Opens the directory's cluster; creates one with this name if it has none, with a database if the records are to be in it.
    pub fn open(
        directory: &DataDirectory,
        _lock: &Lock,
        name: Option<ClusterName>,
        store: &StoreSettings,
        jwt: JwtSettings,
        now: OffsetDateTime,
    ) -> Result<Self, Failure> {
        jwt.algorithm.check_supported().map_err(unsupported)?;
        let path = directory.cluster();
        let origin = if path.is_dir() { Origin::Found } else { Origin::Created };
        if origin == Origin::Created {
            let name = name.clone().map_or_else(host_name, Ok)?;
            create(&path, &name, store, now)?;
        }
        check_owner(&path)?;
        let found = load(&path, jwt, now)?;
        match name {
            Some(name) if name != *found.cluster() => Err(Failure::new(
                Exit::Config,
                format!(
                    "{} holds the cluster {}, not {name}",
                    directory.path().display(),
                    found.cluster()
                ),
                "omit --cluster-name, or give another --data-dir for another cluster",
            )),
            _ => {
                let database = database(directory);
                check_own(&database)?;
                // Before anything is stored that an older program cannot read.
                set_layout(directory)?;
                let changes = found.maintain_jwt_keys(now).map_err(|cause| {
                    Failure::io(&cause, format!("cannot change the keys in {}", path.display()))
                })?;
                log_changes(&changes);
                Ok(Self { issuer: found, origin, database })
            }
        }
    }

    /// Opens the database in the cluster's directory.
    pub fn store(&self) -> Result<RedbStore, Failure> {
        let path = &self.database;
        RedbStore::open(path).map_err(|cause| unusable(path, &cause))
    }
}

/// The database of the embedded store.
pub fn database(directory: &DataDirectory) -> PathBuf {
    directory.cluster().join(DATABASE)
}

/// A warning if the embedded store has records, while another store is configured.
pub async fn records_left_behind(directory: &DataDirectory) -> Option<String> {
    let path = database(directory);
    if !path.try_exists().is_ok_and(|exists| exists) {
        return None;
    }
    let shown = path.display();
    let found = match RedbStore::open(&path) {
        Ok(store) => has_records(&store).await,
        Err(cause) => Err(cause),
    };
    match found {
        Ok(false) => None,
        Ok(true) => Some(format!(
            "the records in {shown} are not used, since `store` is a database: copy them to it with `authority store copy`, or move the \
             file away"
        )),
        Err(cause) => Some(format!(
            "`store` is a database, and whether records are left in {shown} is not known: {cause}"
        )),
    }
}

/// What the authority did to the keys for JWTs.
fn log_changes(changes: &[JwtKeyChange]) {
    for JwtKeyChange { what, key_id, .. } in changes {
        info!(key_id, "{what}");
    }
}

fn create(
    path: &Path,
    name: &ClusterName,
    store: &StoreSettings,
    now: OffsetDateTime,
) -> Result<(), Failure> {
    let failed =
        |cause: io::Error| Failure::io(&cause, format!("cannot create {}", path.display()));
    let nascent = Nascent::begin(path.to_owned()).map_err(failed)?;
    let (x509_key, ssh_key, ssh_host_key) = (key()?, key()?, key()?);
    let x509_pem = x509_key.to_pem().map_err(issue_failure)?;
    nascent.write(X509_KEY, x509_pem.as_bytes()).map_err(failed)?;
    let ssh_pem = ssh_key.to_pem().map_err(issue_failure)?;
    nascent.write(SSH_KEY, ssh_pem.as_bytes()).map_err(failed)?;
    let ssh = SshCa::new(name, &ssh_key).map_err(issue_failure)?;
    nascent.write(SSH_PUBLIC, format!("{}\n", ssh.public_key()).as_bytes()).map_err(failed)?;
    let ssh_host_pem = ssh_host_key.to_pem().map_err(issue_failure)?;
    nascent.write(SSH_HOST_KEY, ssh_host_pem.as_bytes()).map_err(failed)?;
    let ssh_host = SshCa::of_hosts(name, &ssh_host_key).map_err(issue_failure)?;
    let line = format!("{}\n", ssh_host.public_key());
    nascent.write(SSH_HOST_PUBLIC, line.as_bytes()).map_err(failed)?;
    let x509 = X509Ca::create(name, x509_key, now).map_err(issue_failure)?;
    nascent.write(X509_CERTIFICATE, pem(x509.certificate())?.as_bytes()).map_err(failed)?;
    if *store == StoreSettings::Embedded {
        RedbStore::create(&nascent.path.join(DATABASE)).map_err(store_failure)?;
    }
    let record = Record { layout: LAYOUT, name: name.to_string() };
    let record = serde_json::to_vec(&record).map_err(|cause| bug(cause.to_string()))?;
    nascent.write(RECORD, &record).map_err(failed)?;
    nascent.finish().map_err(failed)
}

fn load(path: &Path, jwt: JwtSettings, now: OffsetDateTime) -> Result<Issuer, Failure> {
    let bad = |file: &str, cause: String| {
        let message = format!("{}: {cause}", path.join(file).display());
        Failure::new(Exit::Data, message, "restore the directory from a backup")
    };
    let record = read_record(&path.join(RECORD))?;
    if ![LAYOUT, OLD_LAYOUT].contains(&record.layout) {
        let message = format!(
            "{} has layout {}, but this version needs {LAYOUT}",
            path.display(),
            record.layout
        );
        return Err(Failure::new(
            Exit::Config,
            message,
            "use the version of authority that created it",
        ));
    }
    let name: ClusterName = record.name.parse().map_err(|cause| bad(RECORD, format!("{cause}")))?;
    let key = |file: &str| {
        let pem = read_private(&path.join(file))?;
        CaKey::from_pem(&pem).map_err(|cause| bad(file, cause.to_string()))
    };
    let certificate = read_private(&path.join(X509_CERTIFICATE))?;
    let (label, der) = der::pem::decode_vec(certificate.as_bytes())
        .map_err(|cause| bad(X509_CERTIFICATE, cause.to_string()))?;
    if label != "CERTIFICATE" {
        return Err(bad(X509_CERTIFICATE, format!("it contains a {label}")));
    }
    let x509 = X509Ca::load(&CertificateDer::from(der), key(X509_KEY)?)
        .map_err(|cause| bad(X509_CERTIFICATE, cause.to_string()))?;
    let ssh = SshCa::new(&name, &key(SSH_KEY)?).map_err(|cause| bad(SSH_KEY, cause.to_string()))?;
    check_public_key(&path.join(SSH_PUBLIC), SSH_KEY, &ssh)?;
    add_ssh_host_key(&path.join(SSH_HOST_KEY))?;
    let ssh_host = SshCa::of_hosts(&name, &key(SSH_HOST_KEY)?);
    let ssh_host = ssh_host.map_err(|cause| bad(SSH_HOST_KEY, cause.to_string()))?;
    check_public_key(&path.join(SSH_HOST_PUBLIC), SSH_HOST_KEY, &ssh_host)?;
    let keyring = KeyringFiles::of(path).open(x509, ssh, ssh_host, jwt.algorithm, now)?;
    Ok(Issuer::with(name, keyring, jwt))
}

/// A directory of an earlier version has no key for SSH certificates of hosts.
fn add_ssh_host_key(path: &Path) -> Result<(), Failure> {
    let failed = |cause: io::Error| Failure::io(&cause, format!("cannot use {}", path.display()));
    if path.try_exists().map_err(failed)? {
        return Ok(());
    }
    let pem = key()?.to_pem().map_err(issue_failure)?;
    replace_private(path, pem.as_bytes()).map_err(failed)?;
    info!(file = %path.display(), "created a key for SSH certificates of hosts");
    Ok(())
}

/// Operators give this file to their SSH servers or clients, which trust the key in it. One that is missing is written again.
fn check_public_key(path: &Path, key_file: &str, ssh: &SshCa) -> Result<(), Failure> {
    let failed = |cause: io::Error| Failure::io(&cause, format!("cannot use {}", path.display()));
    let public = ssh.public_key();
    let file = match open_own(path, OpenOptions::new().read(true)) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            replace_private(path, format!("{public}\n").as_bytes()).map_err(failed)?;
            warn!(file = %path.display(), "the file with the public key was missing: written again");
            return Ok(());
        }
        file => file.map_err(failed)?,
    };
    let found = bounded::read(file, MAX_PUBLIC_KEY).map_err(failed)?;
    // A comment may follow the key. A second key in the file would be trusted as well, so it is refused.
    let key = |line: &str| line.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    let found = str::from_utf8(&found).unwrap_or_default();
    let found: Vec<_> = found.lines().map(key).filter(|key| !key.is_empty()).collect();
    if !found.is_empty() && found.iter().all(|found| *found == key(public)) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Data,
        format!("{} does not hold the public key of {key_file}", path.display()),
        "remove it, start the authority, which writes it again, and check that your SSH servers have the same key",
    ))
}

/// Gives the directory the layout of this program, if it has an older one.
fn set_layout(directory: &DataDirectory) -> Result<(), Failure> {
    let path = directory.cluster().join(RECORD);
    let found = read_record(&path)?;
    if found.layout == LAYOUT {
        return Ok(());
    }
    let record = serde_json::to_vec(&Record { layout: LAYOUT, ..found });
    let record = record.map_err(|cause| bug(cause.to_string()))?;
    replace_private(&path, &record)
        .map_err(|cause| Failure::io(&cause, format!("cannot write {}", path.display())))?;
    info!(data_dir = %directory.path().display(), layout = LAYOUT, "data directory of an older version: upgraded");
    Ok(())
}

fn read_record(path: &Path) -> Result<Record, Failure> {
    serde_json::from_str(&read_private(path)?).map_err(|cause| {
        let message = format!("{}: {cause}", path.display());
        Failure::new(Exit::Data, message, "restore the directory from a backup")
    })
}

/// The default name of a cluster: the host's, from the kernel, since a systemd unit may hide the files that have it.
fn host_name() -> Result<ClusterName, Failure> {
    let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    host.parse().map_err(|cause| {
        Failure::new(
            Exit::Usage,
            format!("the host name is not usable as the cluster name: {cause}"),
            "give the cluster's name with --cluster-name",
        )
    })
}

fn pem(der: &[u8]) -> Result<String, Failure> {
    der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, der)
        .map_err(|cause| bug(cause.to_string()))
}

fn key() -> Result<CaKey, Failure> {
    CaKey::generate().map_err(issue_failure)
}

fn issue_failure(cause: IssueError) -> Failure {
    bug(cause.to_string())
}

fn store_failure(cause: StoreError) -> Failure {
    Failure::new(Exit::Io, cause.to_string(), "check that the disk has space and works")
}

/// Why the database of a cluster cannot be used.
fn unusable(path: &Path, cause: &StoreError) -> Failure {
    let message = format!("{}: {cause}", path.display());
    match cause {
        StoreError::Failed(_) => {
            Failure::new(Exit::Io, message, "check that the disk has space and works")
        }
        _ => {
            let advice = "restore the data directory from a backup, or, if the records are in a database, copy them with `authority store \
                          copy`: see docs/authority.md";
            Failure::new(Exit::Data, message, advice)
        }
    }
}

fn bug(cause: String) -> Failure {
    Failure::new(Exit::Bug, cause, "report it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::clock::Clock;

    #[test]
    fn public_key_for_ssh_servers_is_written_again_if_missing_and_refused_if_it_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let directory = DataDirectory::new(dir.path().join("data"));
        let lock = directory.lock().unwrap();
        let now = Clock::system().now();
        drop(
            Cluster::open(
                &directory,
                &lock,
                Some("a".parse().unwrap()),
                &StoreSettings::Embedded,
                JwtSettings::default(),
                now,
            )
            .unwrap(),
        );
        let open = || load(&directory.cluster(), JwtSettings::default(), now);
        let path = directory.cluster().join(SSH_PUBLIC);
        let written = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        open().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
        std::fs::write(&path, format!("{} for servers\n", written.trim_end())).unwrap();
        open().unwrap();
        let mut other = written.clone();
        other.insert(written.find("AAAA").unwrap(), 'A');
        for junk in
            ["", "junk", &other, &format!("{written}{other}"), &format!("\n{other}{written}")]
        {
            std::fs::write(&path, junk).unwrap();
            let Err(refused) = open() else { panic!("{junk:?} is taken") };
            assert_eq!(refused.exit, Exit::Data);
            assert!(refused.message.ends_with("does not hold the public key of ssh-ca.key"));
        }
    }

    #[test]
    fn older_layout_is_raised_by_its_number_alone_and_a_newer_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let directory = DataDirectory::new(dir.path().join("data"));
        let lock = directory.lock().unwrap();
        let now = Clock::system().now();
        let open = || {
            Cluster::open(
                &directory,
                &lock,
                Some("a".parse().unwrap()),
                &StoreSettings::Embedded,
                JwtSettings::default(),
                now,
            )
        };
        // Not by opening it: the writer of a dropped store may hold the file a moment longer.
        create(&directory.cluster(), &"a".parse().unwrap(), &StoreSettings::Embedded, now).unwrap();
        let path = directory.cluster().join(RECORD);
        let written = std::fs::read_to_string(&path).unwrap();
        // What version 0.1.0 reads: with another field it would say that, not that it is too old.
        assert_eq!(written, r#"{"layout":2,"name":"a"}"#);
        std::fs::write(&path, written.replace('2', "1")).unwrap();
        assert_eq!(open().unwrap().origin, Origin::Found);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
        std::fs::write(&path, written.replace('2', "3")).unwrap();
        let Err(refused) = open() else { panic!("a newer layout is opened") };
        assert!(
            refused.message.ends_with("has layout 3, but this version needs 2"),
            "{}",
            refused.message
        );
        assert_eq!(
            (refused.exit, refused.advice),
            (Exit::Config, "use the version of authority that created it".into())
        );
    }
}
